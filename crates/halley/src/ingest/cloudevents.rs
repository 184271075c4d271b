//! CloudEvents 1.0 in its HTTP protocol binding: one event as the body (structured), an array of them (batched), or an event whose
//! attributes are headers and whose data is the body (binary).
//!
//! The configuration says which attribute or extension is the user, the channel and the tenant (`[cloudevents]`). `source` and `id`
//! together are the idempotency key. Subscribers get `data`, and nothing else of the event.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use mime::Mime;
use percent_encoding::percent_decode;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Asked, Fields, Ingest, Name, Place, Wrong, missing, not_json, twice, wrong};
use crate::config::CloudEvents;
use crate::event::Event;
use crate::ingest::Grant;
use crate::problem::Problem;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In ours.
    Own,
    /// The body is one `CloudEvent`.
    Structured,
    /// The body is an array of them.
    Batched,
    /// The headers are its attributes, the body its data.
    Binary,
}

/// Where in a `CloudEvent` is what we need to know.
pub(super) struct Mapping(CloudEvents);

/// The attributes of an event and its data, as they came. Which of them mean something, the mapping says.
#[derive(Default)]
pub(super) struct Attributes<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

/// The value of an attribute.
#[derive(Clone, Copy)]
enum Value<'a> {
    Json(&'a RawValue),
    Header(&'a HeaderValue),
}

/// What the headers of attributes begin with.
const PREFIX: &str = "ce-";

/// Who sends one of these means a `CloudEvent`, and is told which of the others is missing.
const REQUIRED: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];

/// What no text of a `CloudEvent` has in it: source and id on its two sides are told apart, and from ids in our own form.
const SEPARATOR: char = '\u{1e}';

impl Form {
    /// What the headers of a request say. A body that says nothing is in our own form.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let essence = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let essence = essence.split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii().to_ascii_lowercase();
        match essence.as_slice() {
            b"application/cloudevents+json" => Ok(Self::Structured),
            b"application/cloudevents-batch+json" => Ok(Self::Batched),
            other if other.starts_with(b"application/cloudevents") => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "event-format",
                "CloudEvents are taken in JSON",
                "Content-Type is application/cloudevents+json, application/cloudevents-batch+json, or that of the data where \
                 attributes are headers",
            )),
            _ if REQUIRED.iter().any(|name| headers.contains_key(*name)) => Ok(Self::Binary),
            _ => Ok(Self::Own),
        }
    }
}

impl Mapping {
    pub(super) fn new(settings: &CloudEvents) -> Self {
        Self(settings.clone())
    }

    /// The channel, which the event names itself or its type does.
    fn channel<'a>(&'a self, attributes: &Attributes<'a>, kind: &str) -> Result<Cow<'a, str>, Wrong> {
        let settings = &self.0;
        if let Some(channel) = attributes.named(&settings.channel)? {
            return Ok(channel);
        }
        match settings.channels.get(kind) {
            Some(channel) => Ok(channel.as_str().into()),
            None if settings.channel.is_empty() => Err(wrong(
                "type",
                "cloudevents.channels has no channel for this type".to_owned(),
            )),
            None => {
                let name = &settings.channel;
                let detail =
                    format!("{name} is missing, and cloudevents.channels has no channel for this type");
                Err(wrong(name, detail))
            }
        }
    }

    fn user<'a>(&self, attributes: &Attributes<'a>) -> Result<Option<Cow<'a, str>>, Wrong> {
        let name = &self.0.user;
        let user = attributes.named(name)?;
        if user.is_none() && self.0.require_user {
            let detail =
                format!("{name} is missing, and cloudevents.require_user says that events are for a user");
            return Err(wrong(name, detail));
        }
        Ok(user)
    }

    /// What is wrong, as the event calls it.
    fn rename(&self, mut wrong: Wrong, attributes: &Attributes<'_>) -> Wrong {
        let settings = &self.0;
        let name = match wrong.field.as_deref() {
            Some("user") => &settings.user,
            Some("channel") if attributes.has(&settings.channel) => &settings.channel,
            Some("channel") => "type",
            Some("tenant") => &settings.tenant,
            Some(_) | None => return wrong,
        };
        wrong.field = (!name.is_empty()).then(|| name.into());
        wrong
    }
}

impl Ingest {
    /// A `CloudEvent` in JSON.
    pub(super) fn cloudevent(&self, attributes: &Attributes<'_>, grant: &Grant) -> Result<Event, Wrong> {
        if attributes.has("data_base64") {
            let detail = if attributes.has("data") {
                "data and data_base64 are both there: an event has one of them, and here it is data"
            } else {
                "data is JSON here, and comes as data"
            };
            return Err(wrong("data_base64", detail.to_owned()));
        }
        if let Some(content_type) = attributes.text("datacontenttype")? {
            require_json(&content_type)?;
        }
        let data = match attributes.one("data")? {
            Some(Value::Json(data)) => data,
            Some(Value::Header(_)) | None => RawValue::NULL,
        };
        self.mapped(attributes, data, grant)
    }

    /// A `CloudEvent` in headers, whose data is the body.
    pub(super) fn cloudevent_in_headers(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        grant: &Grant,
    ) -> Result<Event, Problem> {
        let attributes = Attributes::of(headers);
        let here = |wrong: Wrong| wrong.problem(&Place::Headers);
        if let Some(content_type) = headers.get(CONTENT_TYPE) {
            require_json(&String::from_utf8_lossy(content_type.as_bytes())).map_err(here)?;
        }
        let data = if body.trim_ascii().is_empty() {
            RawValue::NULL
        } else {
            serde_json::from_slice(body).map_err(|error| not_json(&error))?
        };
        self.mapped(&attributes, data, grant).map_err(here)
    }

    fn mapped(&self, attributes: &Attributes<'_>, data: &RawValue, grant: &Grant) -> Result<Event, Wrong> {
        let asked = self.asked(attributes, data)?;
        self.event(asked, grant)
            .map_err(|wrong| self.cloudevents.rename(wrong, attributes))
    }

    /// What the mapping makes of it.
    fn asked<'a>(&'a self, attributes: &Attributes<'a>, data: &'a RawValue) -> Result<Asked<'a>, Wrong> {
        if attributes.required("specversion")? != "1.0" {
            return Err(wrong("specversion", "only version 1.0 is spoken here".to_owned()));
        }
        let id = attributes.required("id")?;
        let source = attributes.required("source")?;
        let kind = attributes.required("type")?;
        attributes.text("subject")?;
        attributes.text("dataschema")?;
        if let Some(time) = attributes.text("time")?
            && time.parse::<jiff::Timestamp>().is_err()
        {
            let detail = "time is a point in time such as 2026-01-31T12:00:00Z (RFC 3339)";
            return Err(wrong("time", detail.to_owned()));
        }
        let mapping = &self.cloudevents;
        Ok(Asked {
            tenant: attributes.named(&mapping.0.tenant)?,
            user: mapping.user(attributes)?,
            channel: mapping.channel(attributes, &kind)?,
            data,
            id: Some(key(&source, &id, self.limits.id_bytes).into()),
            lazy: false,
        })
    }
}

impl<'a> Attributes<'a> {
    /// Those that are headers.
    fn of(headers: &'a HeaderMap) -> Self {
        let attributes = headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(PREFIX)?;
            // In headers this one is Content-Type, and there is no other data than the body.
            let is_other = !matches!(name, "datacontenttype" | "data" | "data_base64");
            is_other.then(|| (name.into(), Value::Header(value)))
        });
        Self(attributes.collect())
    }

    /// Whether it is there, and not `null`, which says that it is not (JSON event format, section 2.2).
    fn has(&self, name: &str) -> bool {
        let is_it = |known: &str, value: Value<'_>| !name.is_empty() && known == name && !value.is_unset();
        self.0.iter().any(|(known, value)| is_it(known, *value))
    }

    fn one(&self, name: &str) -> Result<Option<Value<'a>>, Wrong> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| *value);
        if values.next().is_some() {
            return Err(twice(name));
        }
        Ok(value)
    }

    /// The text of an attribute of the specification.
    fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Wrong> {
        let Some(value) = self.one(name)?.filter(|value| !value.is_unset()) else {
            return Ok(None);
        };
        let text = value
            .text()
            .map_err(|detail| wrong(name, format!("{name} {detail}")))?;
        if text.is_empty() {
            return Err(wrong(
                name,
                format!("{name} is empty; leave it out if there is none"),
            ));
        }
        if text.chars().any(char::is_control) {
            return Err(wrong(name, format!("{name} has control characters")));
        }
        Ok(Some(text))
    }

    fn required(&self, name: &str) -> Result<Cow<'a, str>, Wrong> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// The attribute or extension of a name in the configuration, where "" is none. An extension may be an integer, which is the
    /// same as its digits (section 3.3 of the specification).
    fn named(&self, name: &str) -> Result<Option<Cow<'a, str>>, Wrong> {
        let is_extension = !matches!(name, "" | "id" | "source" | "type" | "subject");
        match self.one(name)? {
            Some(Value::Json(raw)) if is_extension && is_integer(raw.get()) => Ok(Some(raw.get().into())),
            Some(Value::Json(_) | Value::Header(_)) if !name.is_empty() => self.text(name),
            Some(_) | None => Ok(None),
        }
    }
}

impl<'a> Fields<'a> for Attributes<'a> {
    fn take(&mut self, name: Cow<'a, str>, value: &'a RawValue) -> Result<(), Wrong> {
        self.0.push((name, Value::Json(value)));
        Ok(())
    }
}

impl<'a> Value<'a> {
    fn is_unset(self) -> bool {
        matches!(self, Self::Json(raw) if raw.get() == "null")
    }

    /// The text, or what it should be.
    fn text(self) -> Result<Cow<'a, str>, &'static str> {
        match self {
            Self::Json(raw) => {
                let Name(text) = serde_json::from_str(raw.get()).map_err(|_| "is a text")?;
                Ok(text)
            }
            Self::Header(value) => {
                let bytes = unquoted(value.as_bytes());
                let decoded: Cow<'_, [u8]> = percent_decode(&bytes).into();
                let text = String::from_utf8(decoded.into_owned());
                Ok(Cow::Owned(
                    text.map_err(|_| "is no UTF-8 behind its percent signs")?,
                ))
            }
        }
    }
}

/// The header of an attribute.
pub(super) fn header_of(name: &str) -> String {
    match name {
        "datacontenttype" => CONTENT_TYPE.as_str().to_owned(),
        _ => format!("{PREFIX}{name}"),
    }
}

/// What stands between quotation marks, as older versions wrote values (HTTP protocol binding, section 3.1.3.2).
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""))
    else {
        return value.into();
    };
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        let byte = if *byte == b'\\' {
            bytes.next().unwrap_or(byte)
        } else {
            byte
        };
        text.push(*byte);
    }
    text.into()
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Data is JSON if its type says so: `application/json`, or anything that ends in `+json`.
fn require_json(content_type: &str) -> Result<(), Wrong> {
    let is_json = content_type.parse().is_ok_and(|parsed: Mime| {
        let is_utf8 = parsed
            .get_param(mime::CHARSET)
            .is_none_or(|charset| charset == mime::UTF_8);
        let json = mime::JSON;
        is_utf8 && (parsed.subtype() == json || parsed.suffix() == Some(json))
    });
    if is_json {
        return Ok(());
    }
    let detail = "data is JSON here, in UTF-8: application/json, or a type that ends in +json";
    Err(wrong("datacontenttype", detail.to_owned()))
}

/// Source and id as one idempotency key; their hash where they are longer than an id may be.
fn key(source: &str, id: &str, longest: usize) -> String {
    let key = format!("{SEPARATOR}{source}{SEPARATOR}{id}");
    if key.len() <= longest {
        return key;
    }
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(&key));
    format!("{SEPARATOR}{digest}")
}
