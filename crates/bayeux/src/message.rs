//! A message from a client, parsed once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Action, ChannelKind, ChannelName, Failure, Limits};

/// A message whose channel, id and fields have the right form. It borrows from the body it came in.
#[derive(Debug)]
pub struct Message<'a> {
    /// What it asks for.
    pub target: Target,
    /// What its reply repeats.
    pub(crate) echo: Echo<'a>,
    /// The session that it speaks for.
    pub client_id: Option<Cow<'a, str>>,
    /// Channels to subscribe to or to leave.
    pub(crate) subscription: Option<&'a RawValue>,
    /// The payload of a publish.
    pub data: Option<&'a RawValue>,
    /// Extension fields by name.
    pub ext: HashMap<Cow<'a, str>, &'a RawValue>,
    /// The client's own advice on a connect.
    pub advice: Option<Advice>,
    /// What the clock on the wall said when it came, in milliseconds since 1970. The transport sets it.
    pub wall: u64,
}

/// What a message asks for, by the exact bytes of its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/meta/handshake`
    Handshake,
    /// `/meta/connect`
    Connect,
    /// `/meta/subscribe`
    Subscribe,
    /// `/meta/unsubscribe`
    Unsubscribe,
    /// `/meta/disconnect`
    Disconnect,
    /// `/service/…`
    Service(ChannelName),
    /// A publish.
    Publish(ChannelName),
}

/// What a client may ask for on a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advice {
    /// How long to hold the connect; zero says "answer at once".
    pub timeout: Option<Duration>,
    /// How long it will wait before the next one.
    pub interval: Option<Duration>,
}

/// What a reply repeats of its request, exactly as it came: numbers stay numbers, a missing id stays missing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Echo<'a> {
    pub(crate) channel: Option<&'a RawValue>,
    pub(crate) id: Option<&'a RawValue>,
    pub(crate) subscription: Option<&'a RawValue>,
}

/// The known fields, each at most once; others are ignored.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "clientId")]
    client_id: Option<&'a RawValue>,
    #[serde(borrow)]
    subscription: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    ext: Option<&'a RawValue>,
    #[serde(borrow)]
    advice: Option<&'a RawValue>,
}

/// `"data":null` is data, unlike a missing field.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Message<'a> {
    /// Parses one element of a body. When a field is wrong, what its reply repeats is still known.
    pub(crate) fn parse(raw: &'a RawValue, limits: &Limits) -> Result<Self, (Echo<'a>, Failure)> {
        let fields: Fields<'a> = object(raw).ok_or((Echo::default(), Failure::MessageInvalid))?;
        let mut echo = Echo {
            channel: fields.channel,
            id: fields.id,
            subscription: fields.subscription,
        };
        if fields.id.is_some_and(|id| !is_id(id, limits)) {
            echo.id = None;
            return Err((echo, Failure::IdInvalid));
        }
        let target = match parse_target(fields.channel, limits) {
            Ok(target) => target,
            Err(failure) => {
                echo.channel = echo
                    .channel
                    .filter(|channel| is_text(channel) && channel.get().len() <= 2 * limits.channel_bytes);
                return Err((echo, failure));
            }
        };
        let parsed = (|| {
            Ok(Self {
                client_id: fields.client_id.map(parse_client_id).transpose()?,
                ext: fields.ext.map(parse_ext).transpose()?.unwrap_or_default(),
                advice: fields.advice.map(parse_advice).transpose()?,
                subscription: fields.subscription,
                data: fields.data,
                target,
                echo,
                wall: 0,
            })
        })();
        parsed.map_err(|failure| (echo, failure))
    }

    /// A text field of an extension: `token` in `"ext":{"token":"…"}`.
    pub fn ext_text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.ext.get(name)?.get()).ok()
    }
}

impl Target {
    /// The connect and the handshake are told what to do next when their session is unknown; others are not.
    pub(crate) fn is_advised(&self) -> bool {
        matches!(self, Self::Connect | Self::Handshake)
    }
}

fn parse_target(channel: Option<&RawValue>, limits: &Limits) -> Result<Target, Failure> {
    let channel = channel.ok_or(Failure::ChannelMissing)?;
    let text: Cow<'_, str> = text(channel).ok_or(Failure::ChannelInvalid)?;
    match text.as_ref() {
        "/meta/handshake" => Ok(Target::Handshake),
        "/meta/connect" => Ok(Target::Connect),
        "/meta/subscribe" => Ok(Target::Subscribe),
        "/meta/unsubscribe" => Ok(Target::Unsubscribe),
        "/meta/disconnect" => Ok(Target::Disconnect),
        other => {
            let name = parse_channel(other, limits)?;
            match name.kind() {
                // Look-alikes such as `/meta/subscribe/x` are nobody's channel.
                ChannelKind::Meta => Err(Failure::Denied(Action::ChannelCreate)),
                ChannelKind::Service => Ok(Target::Service(name)),
                ChannelKind::Broadcast => Ok(Target::Publish(name)),
            }
        }
    }
}

pub(crate) fn parse_channel(text: &str, limits: &Limits) -> Result<ChannelName, Failure> {
    if text.len() > limits.channel_bytes {
        return Err(Failure::ChannelInvalid);
    }
    let name = ChannelName::parse(text).map_err(|_| Failure::ChannelInvalid)?;
    if name.segments() > limits.channel_segments {
        return Err(Failure::ChannelInvalid);
    }
    Ok(name)
}

fn parse_client_id(raw: &RawValue) -> Result<Cow<'_, str>, Failure> {
    text(raw).ok_or(Failure::FieldInvalid("clientId"))
}

fn parse_ext(raw: &RawValue) -> Result<HashMap<Cow<'_, str>, &RawValue>, Failure> {
    serde_json::from_str(raw.get()).map_err(|_| Failure::FieldInvalid("ext"))
}

/// A negative number is ignored, as CometD does; what is no number is refused.
fn parse_advice(raw: &RawValue) -> Result<Advice, Failure> {
    #[derive(Deserialize)]
    struct Fields {
        timeout: Option<f64>,
        interval: Option<f64>,
    }
    let fields: Fields = object(raw).ok_or(Failure::FieldInvalid("advice"))?;
    Ok(Advice {
        timeout: fields.timeout.and_then(milliseconds),
        interval: fields.interval.and_then(milliseconds),
    })
}

/// Far more than any limit allows, and far less than a clock can hold.
const LONGEST: f64 = 86_400_000.0;

fn milliseconds(value: f64) -> Option<Duration> {
    (value >= 0.0).then(|| Duration::from_secs_f64(value.min(LONGEST) / 1000.0))
}

fn is_id(raw: &RawValue, limits: &Limits) -> bool {
    raw.get().len() <= limits.id_bytes && !raw.get().starts_with(['{', '[', 't', 'f', 'n'])
}

fn is_text(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}

/// The fields of an object. Serde would take them from an array, too, one after the other.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    let is_object = raw.get().starts_with('{');
    is_object.then(|| serde_json::from_str(raw.get()).ok())?
}

/// The text of a JSON string, borrowed unless it has escapes.
pub(crate) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = raw.get();
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(quoted).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}
