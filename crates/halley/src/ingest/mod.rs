//! The publish API: `POST /api/v1/events` with one event or an array of them, in our own form or as CloudEvents.
//!
//! In our own form an event is `{"channel":"/v2/me/calls","data":{…}}`, with `"user":"15000"` for that user's sessions only, with
//! `"id":"…"` (the idempotency key) stored once however often it is sent, and with `"lazy":true` in no hurry. The answer is `201` with the position of each,
//! and it is given only when all of them are durable; otherwise none was stored.

mod cloudevents;
mod native;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bayeux::{ChannelKind, ChannelName, ChannelPattern, codec};
use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::cloudevents::{Attributes, Form, Mapping};
use self::native::Sent;
use crate::config::{CloudEvents, Limits};
use crate::event::{Audience, Event, Tenant, UserId};
use crate::http::{self, Reply};
use crate::log::{EventLog, LogError, Position};
use crate::metrics::{Metrics, Outcome};
use crate::problem::Problem;
use crate::quota::ComeAgain;

/// The door for publishers.
pub struct Ingest {
    log: Arc<dyn EventLog>,
    protocol: bayeux::Settings,
    limits: Limits,
    cloudevents: Mapping,
    metrics: Arc<Metrics>,
}

/// What a publisher may publish. `None` is whatever it likes.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// The name of its key, or the subject of its token; none where nobody is asked.
    pub publisher: Box<str>,
    /// Channels that one of these covers.
    pub channels: Option<Vec<ChannelPattern>>,
    /// To these users, and not to everyone.
    pub users: Option<Vec<Box<str>>>,
    /// To these tenants.
    pub tenants: Option<Vec<Box<str>>>,
}

/// What an event is to be, whatever form it came in.
struct Asked<'a> {
    tenant: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
    channel: Cow<'a, str>,
    data: &'a RawValue,
    /// Bounded already.
    id: Option<Cow<'a, str>>,
    lazy: bool,
}

/// What is wrong with an event.
struct Wrong {
    class: &'static str,
    /// The field or attribute, unless it is the whole.
    field: Option<Box<str>>,
    detail: String,
    /// It could be, but not from this publisher.
    forbidden: bool,
}

/// Where an event came.
enum Place {
    /// In the body, at this JSON pointer.
    Body(String),
    /// In the headers, with its data as the body.
    Headers,
}

/// What a publisher is told of each event.
#[derive(Serialize)]
struct Stored<'a> {
    epoch: &'a str,
    offset: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl Ingest {
    /// A door to `log`.
    pub fn new(
        log: Arc<dyn EventLog>,
        protocol: bayeux::Settings,
        limits: Limits,
        cloudevents: &CloudEvents,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            log,
            protocol,
            limits,
            cloudevents: Mapping::new(cloudevents),
            metrics,
        }
    }

    /// The largest body, in bytes.
    pub fn body_limit(&self) -> usize {
        crate::config::bytes(self.limits.publish_body)
    }

    /// Takes a body and answers when its events are durable. The headers say what form they have, `quota` whether so many may be
    /// taken now.
    pub async fn publish(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        grant: &Grant,
        quota: impl FnOnce(usize) -> Result<(), ComeAgain>,
    ) -> Reply {
        let began = Instant::now();
        let result = match self.parse(headers, &body, grant) {
            Ok((events, is_array)) => match quota(events.len()) {
                Ok(()) => self
                    .append(events, is_array)
                    .await
                    .map(|positions| self.stored(&positions, is_array)),
                Err(again) => Err(("throttled", too_many(again))),
            },
            Err(problem) if problem.is_forbidden() => Err(("forbidden", problem)),
            Err(problem) => Err(("invalid", problem)),
        };
        self.metrics.append_seconds.observe(began.elapsed().as_secs_f64());
        match result {
            Ok(reply) => reply,
            Err((result, problem)) => {
                self.metrics.ingested.get_or_create(&Outcome { result }).inc();
                problem.response()
            }
        }
    }

    /// The events, and whether they are answered with an array.
    fn parse(&self, headers: &HeaderMap, body: &[u8], grant: &Grant) -> Result<(Vec<Event>, bool), Problem> {
        let form = Form::of(headers)?;
        let own = |sent: &Sent<'_>| self.event(self.own(sent)?, grant);
        match form {
            Form::Own => {
                let is_array = is_array(body);
                let events = self.each::<Sent<'_>>(body, is_array, |sent| own(&sent))?;
                Ok((events, is_array))
            }
            Form::Structured | Form::Batched => {
                let is_array = form == Form::Batched;
                if is_array {
                    require_array(body)?;
                }
                let event = |attributes| self.cloudevent(&attributes, grant);
                Ok((self.each::<Attributes<'_>>(body, is_array, event)?, is_array))
            }
            Form::Binary => {
                let event = self.cloudevent_in_headers(headers, body, grant)?;
                Ok((vec![event], false))
            }
        }
    }

    /// What `event` makes of the object that a body is, or of each of its array.
    fn each<'a, T: Fields<'a>>(
        &self,
        body: &'a [u8],
        is_array: bool,
        event: impl Fn(T) -> Result<Event, Wrong>,
    ) -> Result<Vec<Event>, Problem> {
        let elements: Vec<Element<T>> = if is_array {
            serde_json::from_slice(body).map_err(|error| not_json(&error))?
        } else {
            vec![serde_json::from_slice(body).map_err(|error| not_json(&error))?]
        };
        if elements.len() > self.limits.publish_events {
            let (found, limit) = (elements.len(), self.limits.publish_events);
            return Err(invalid(
                "too-many-events",
                format!("{found} events, more than the {limit} allowed"),
            ));
        }
        let place = |index: usize| {
            Place::Body(if is_array {
                format!("/{index}")
            } else {
                String::new()
            })
        };
        elements
            .into_iter()
            .enumerate()
            .map(|(index, Element(sent))| {
                sent.and_then(&event)
                    .map_err(|wrong| wrong.problem(&place(index)))
            })
            .collect()
    }

    fn event(&self, asked: Asked<'_>, grant: &Grant) -> Result<Event, Wrong> {
        let channel = self
            .channel(&asked.channel)
            .map_err(|detail| wrong("channel", detail))?;
        let audience = match asked.user {
            None => Audience::Everyone,
            Some(user) => Audience::User(UserId::parse(&user).map_err(|detail| wrong("user", detail))?),
        };
        let tenant = match asked.tenant {
            None => grant.only_tenant()?,
            Some(tenant) => Tenant::parse(&tenant).map_err(|detail| wrong("tenant", detail))?,
        };
        grant.allow(&tenant, &channel, &audience)?;
        self.require_shallow(asked.data)?;
        self.require_size(&channel, asked.data)?;
        Ok(Event {
            traits: self
                .protocol
                .traits(&channel, audience == Audience::Everyone, asked.lazy),
            audience,
            channel,
            data: asked.data.to_owned(),
            id: asked.id.map(|id| scoped(&tenant, &id)),
            tenant,
        })
    }

    fn require_shallow(&self, data: &RawValue) -> Result<(), Wrong> {
        let levels = self.limits.json_depth;
        if codec::is_deeper(data.get().as_bytes(), levels) {
            let detail = format!("data is nested deeper than the {levels} levels allowed");
            return Err(wrong("data", detail).of_class("too-deep"));
        }
        Ok(())
    }

    fn require_size(&self, channel: &ChannelName, data: &RawValue) -> Result<(), Wrong> {
        match self.protocol.rules.largest_message(channel) {
            Some(largest) if data.get().len() > largest => {
                let detail = format!(
                    "data has {} bytes, more than the {largest} that a rule of the channel allows",
                    data.get().len()
                );
                Err(wrong("data", detail))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn channel(&self, text: &str) -> Result<ChannelName, String> {
        if text.len() > self.limits.channel_bytes {
            return Err(format!(
                "a channel has at most {} bytes",
                self.limits.channel_bytes
            ));
        }
        let channel = ChannelName::parse(text).map_err(|error| error.to_string())?;
        if channel.segments() > self.limits.channel_segments {
            return Err(format!(
                "a channel has at most {} segments",
                self.limits.channel_segments
            ));
        }
        if channel.is_wild() {
            return Err("events are published to a channel, not to a wildcard".to_owned());
        }
        match channel.kind() {
            ChannelKind::Broadcast => Ok(channel),
            ChannelKind::Meta | ChannelKind::Service => {
                Err("/meta/ and /service/ channels belong to the protocol".to_owned())
            }
        }
    }

    async fn append(
        &self,
        events: Vec<Event>,
        is_array: bool,
    ) -> Result<Vec<Position>, (&'static str, Problem)> {
        self.log.append(events).await.map_err(|error| match error {
            LogError::Full(_) => ("full", storage_full(&error)),
            LogError::TooLarge { place, .. } => {
                let place = if is_array {
                    format!("/{place}")
                } else {
                    String::new()
                };
                ("invalid", too_large(&error).at(place))
            }
            LogError::Unanswered(_) => ("unanswered", unanswered(&error)),
            LogError::Away(_) | LogError::Taken | LogError::Stopped(_) | LogError::Unusable(_) => {
                ("unavailable", unavailable(&error))
            }
        })
    }

    fn stored(&self, positions: &[Position], is_array: bool) -> Reply {
        for position in positions {
            let result = if position.duplicate { "duplicate" } else { "ok" };
            self.metrics.ingested.get_or_create(&Outcome { result }).inc();
        }
        let epoch = &self.log.epoch().0;
        let mut stored = positions.iter().map(|position| Stored {
            epoch,
            offset: position.offset.0,
            duplicate: position.duplicate,
        });
        let body = if is_array {
            serde_json::to_vec(&stored.collect::<Vec<_>>())
        } else {
            serde_json::to_vec(&stored.next())
        };
        http::json(
            StatusCode::CREATED,
            body.expect("positions are numbers and texts"),
        )
    }
}

impl Grant {
    /// Whoever has no name is known by where it comes from.
    #[must_use]
    pub fn of(mut self, peer: IpAddr) -> Self {
        if self.publisher.is_empty() {
            self.publisher = peer.to_string().into();
        }
        self
    }

    /// The tenant of an event that names none: the only one that the publisher may name, if it is so.
    fn only_tenant(&self) -> Result<Tenant, Wrong> {
        match self.tenants.as_deref() {
            Some([tenant]) => Tenant::parse(tenant).map_err(|detail| wrong("tenant", detail)),
            Some(_) | None => Ok(Tenant::default()),
        }
    }

    fn allow(&self, tenant: &Tenant, channel: &ChannelName, audience: &Audience) -> Result<(), Wrong> {
        let forbidden = |name: &str, detail: &str| {
            Err(Wrong {
                forbidden: true,
                ..wrong(name, detail.to_owned())
            })
        };
        if let Some(tenants) = &self.tenants
            && !tenants.iter().any(|known| **known == *tenant.0)
        {
            return forbidden("tenant", "this publisher may not publish to this tenant");
        }
        if let Some(channels) = &self.channels
            && !channels.iter().any(|pattern| pattern.covers(channel))
        {
            return forbidden("channel", "this publisher may not publish to this channel");
        }
        if let Some(users) = &self.users {
            return match audience {
                Audience::User(user) if users.iter().any(|known| **known == *user.0) => Ok(()),
                Audience::User(_) => forbidden("user", "this publisher may not publish to this user"),
                Audience::Everyone => forbidden("user", "this publisher may publish to some users only"),
            };
        }
        Ok(())
    }
}

impl Wrong {
    fn problem(self, place: &Place) -> Problem {
        let problem = if self.forbidden {
            let title = "An event may not be published";
            Problem::new(StatusCode::FORBIDDEN, "not-allowed", title, self.detail)
        } else {
            invalid(self.class, self.detail)
        };
        match (place, self.field.as_deref()) {
            (Place::Body(place), None) => problem.at(place.clone()),
            (Place::Body(place), Some(name)) => {
                // RFC 6901
                let name = name.replace('~', "~0").replace('/', "~1");
                problem.at(format!("{place}/{name}"))
            }
            (Place::Headers, None | Some("data")) => problem.at(String::new()),
            (Place::Headers, Some(name)) => problem.in_header(cloudevents::header_of(name)),
        }
    }

    fn of_class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }
}

/// The fields of an object, as they come.
trait Fields<'a>: Default {
    fn take(&mut self, name: Cow<'a, str>, value: &'a RawValue) -> Result<(), Wrong>;
}

/// One of the values that a body has, if it is an object with the fields of an event. A body is read once: what is no event is
/// told from what is no JSON afterwards.
struct Element<T>(Result<T, Wrong>);

impl<'de, T: Fields<'de>> Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EachField(PhantomData)).map(Self)
    }
}

struct EachField<T>(PhantomData<T>);

impl<'de, T: Fields<'de>> Visitor<'de> for EachField<T> {
    type Value = Result<T, Wrong>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut sent = Ok(T::default());
        while let Some((Name(name), value)) = map.next_entry()? {
            sent = sent.and_then(|mut sent: T| sent.take(name, value).map(|()| sent));
        }
        Ok(sent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(no_object())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(no_object())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(no_object())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(no_object())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(no_object())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(no_object())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(no_object())
    }
}

fn is_array(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// A batch is one, even of one event.
fn require_array(body: &[u8]) -> Result<(), Problem> {
    if is_array(body) {
        return Ok(());
    }
    let _: IgnoredAny = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    let detail = "a batch is an array of events".to_owned();
    Err(invalid("invalid-event", detail).at(String::new()))
}

fn no_object<T>() -> Result<T, Wrong> {
    Err(Wrong {
        class: "invalid-event",
        field: None,
        detail: "an event is an object".to_owned(),
        forbidden: false,
    })
}

/// Borrowed unless it has escapes, which serde does for a `Cow` only when a field asks for it.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The same id of two tenants is two ids. The only tenant's stay as they are, but for those that look like somebody else's.
fn scoped(tenant: &Tenant, id: &str) -> Box<str> {
    const SEPARATOR: char = '\u{1f}';
    if !tenant.is_only() || id.starts_with(SEPARATOR) {
        return format!("{SEPARATOR}{}{SEPARATOR}{id}", tenant.0).into();
    }
    id.into()
}

fn wrong(name: &str, detail: String) -> Wrong {
    Wrong {
        class: "invalid-event",
        field: Some(name.into()),
        detail,
        forbidden: false,
    }
}

fn missing(name: &str) -> Wrong {
    wrong(name, format!("{name} is missing"))
}

fn twice(name: &str) -> Wrong {
    wrong(name, format!("{name} is there twice"))
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "not-json",
        "The body is not JSON",
        error.to_string(),
    )
}

fn invalid(kind: &'static str, detail: String) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        kind,
        "An event cannot be published",
        detail,
    )
}

fn storage_full(error: &LogError) -> Problem {
    let title = "The log has no room";
    Problem::new(
        StatusCode::INSUFFICIENT_STORAGE,
        "storage-full",
        title,
        error.to_string(),
    )
    .retry_after(10)
}

fn too_large(error: &LogError) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "event-too-large",
        "An event is larger than the log takes",
        error.to_string(),
    )
}

fn too_many(again: ComeAgain) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many",
        "This publisher publishes too much",
        "more events a second than limits.publishes_per_publisher allows: none of these was stored",
    )
    .retry_after(again.seconds())
}

fn unanswered(error: &LogError) -> Problem {
    let title = "Nobody knows what became of the events";
    let detail = format!("{error}: each of them may be stored or not, so send them again with the same ids");
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "outcome-unknown", title, detail).retry_after(1)
}

fn unavailable(error: &LogError) -> Problem {
    let title = "The log takes no events";
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "log-unavailable",
        title,
        error.to_string(),
    )
    .retry_after(1)
}
