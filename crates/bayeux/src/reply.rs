//! What the server answers.

use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::extension::Timesync;
use crate::message::{Echo, Message, Target};
use crate::{ClientId, Failure};

/// The reply to one message. Only what is set is written; CometD sends neither `timestamp` nor, except for the handshake,
/// a `clientId`, and clients count on it.
#[derive(Debug, Clone, Serialize)]
pub struct Reply {
    #[serde(rename = "minimumVersion", skip_serializing_if = "Option::is_none")]
    minimum_version: Option<&'static str>,
    #[serde(rename = "clientId", skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    #[serde(rename = "supportedConnectionTypes", skip_serializing_if = "Option::is_none")]
    connection_types: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<ReplyAdvice>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) ext: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(rename = "x-messages", skip_serializing_if = "Option::is_none")]
    messages: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<String>,
    #[serde(serialize_with = "display", skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    successful: bool,
    /// When what it replies to came, for extensions that measure.
    #[serde(skip)]
    pub(crate) received: Option<Received>,
}

/// What is remembered of a message until its reply leaves.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    pub(crate) at: Instant,
    /// In milliseconds since 1970.
    pub(crate) wall: u64,
    pub(crate) timesync: Option<Timesync>,
}

/// A message whose reply is held: far smaller than the reply.
#[derive(Debug)]
pub(crate) struct Asked {
    channel: Option<Box<RawValue>>,
    subscription: Option<Box<RawValue>>,
    id: Option<Box<RawValue>>,
    pub(crate) received: Received,
}

impl Asked {
    pub(crate) fn of(message: &Message<'_>, received: Received) -> Self {
        let Echo {
            channel,
            subscription,
            id,
        } = message.echo;
        Self {
            channel: channel.map(ToOwned::to_owned),
            subscription: subscription.map(ToOwned::to_owned),
            id: id.map(ToOwned::to_owned),
            received,
        }
    }

    /// The reply, now that it leaves.
    pub(crate) fn reply(self) -> Reply {
        Reply {
            channel: self.channel,
            subscription: self.subscription,
            id: self.id,
            received: Some(self.received),
            ..Reply::echoing(Echo::default())
        }
    }
}

impl Received {
    /// What the clock on the wall says at `now`.
    pub(crate) fn wall_at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.at).as_millis();
        self.wall.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// What a client should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReplyAdvice {
    /// Several clients of one browser are connected.
    #[serde(rename = "multiple-clients", skip_serializing_if = "is_false")]
    multiple_clients: bool,
    /// Milliseconds to wait before the next connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<u64>,
    /// Milliseconds for which the next connect will be held.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    /// Milliseconds without a connection after which a client shakes hands instead of connecting.
    #[serde(rename = "maxInterval", skip_serializing_if = "Option::is_none")]
    max_interval: Option<u64>,
    reconnect: Reconnect,
}

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reconnect {
    /// With another connect.
    Retry,
    /// With a new handshake.
    Handshake,
    /// Not at all.
    None,
}

impl ReplyAdvice {
    /// Connect again after `interval`; the connect is held for `timeout`.
    pub fn retry(interval: Duration, timeout: Duration) -> Self {
        Self {
            multiple_clients: false,
            interval: Some(whole_ms(interval)),
            timeout: Some(whole_ms(timeout)),
            max_interval: None,
            reconnect: Reconnect::Retry,
        }
    }

    /// The same, and after being away for longer than `max_interval` more, shake hands.
    pub(crate) fn until(mut self, max_interval: Option<Duration>) -> Self {
        self.max_interval = max_interval.map(whole_ms);
        self
    }

    /// Shake hands again, now.
    pub fn handshake() -> Self {
        Self {
            multiple_clients: false,
            interval: Some(0),
            timeout: None,
            max_interval: None,
            reconnect: Reconnect::Handshake,
        }
    }

    /// Shake hands again after `interval`.
    pub(crate) fn handshake_after(interval: Duration) -> Self {
        Self {
            interval: Some(whole_ms(interval)),
            ..Self::handshake()
        }
    }

    /// Connect or shake hands again, when the client thinks fit.
    fn again(reconnect: Reconnect) -> Self {
        Self {
            reconnect,
            ..Self::none()
        }
    }

    /// What a client should do after a failure. Only connects and handshakes are told: other replies leave what a client does
    /// as it is.
    pub(crate) fn after(failure: &Failure, target: &Target) -> Option<Self> {
        if !target.is_advised() {
            return None;
        }
        let is_handshake = *target == Target::Handshake;
        match failure {
            Failure::SessionUnknown => Some(Self::handshake()),
            Failure::HandshakeDenied | Failure::CredentialsRevoked => Some(Self::none()),
            // A handshake with what has expired is not tried again and again: the page has to get something new first.
            Failure::CredentialsExpired if is_handshake => Some(Self::none()),
            Failure::CredentialsExpired => Some(Self::handshake()),
            Failure::CredentialsUnavailable if is_handshake => Some(Self::again(Reconnect::Handshake)),
            Failure::CredentialsUnavailable => Some(Self::again(Reconnect::Retry)),
            Failure::ChannelMissing
            | Failure::MessageInvalid
            | Failure::FieldInvalid(_)
            | Failure::Denied(_)
            | Failure::NotGranted(_)
            | Failure::OverLimit(_, _)
            | Failure::ReplayInvalid(_)
            | Failure::SubscriptionMissing
            | Failure::SubscriptionInvalid
            | Failure::UnsubscribeFailed
            | Failure::HandshakeNotFirst
            | Failure::TooMany(_)
            | Failure::Draining
            | Failure::CredentialsWrong
            | Failure::ChannelInvalid
            | Failure::IdInvalid
            | Failure::PublishFailed
            | Failure::StorageFull => None,
        }
    }

    /// Stay away.
    pub fn none() -> Self {
        Self {
            multiple_clients: false,
            interval: None,
            timeout: None,
            max_interval: None,
            reconnect: Reconnect::None,
        }
    }
}

impl Reply {
    /// The reply to a message that succeeded.
    pub(crate) fn success(message: &Message<'_>) -> Self {
        Self::echoing(message.echo)
    }

    /// The reply to a message that was refused.
    pub fn failure(message: &Message<'_>, failure: Failure) -> Self {
        let advice = ReplyAdvice::after(&failure, &message.target);
        Self {
            advice,
            ..Self::refused(message.echo, failure)
        }
    }

    pub(crate) fn refused(echo: Echo<'_>, failure: Failure) -> Self {
        Self {
            successful: false,
            error: Some(failure),
            ..Self::echoing(echo)
        }
    }

    /// Turns a success into a failure, for a publish that the log did not take.
    pub fn fail(&mut self, failure: Failure) {
        self.successful = false;
        self.error = Some(failure);
    }

    pub(crate) fn advise(&mut self, advice: ReplyAdvice) {
        self.advice = Some(advice);
    }

    /// Another client of the same browser is in the way: come back after `interval` or, if that is nothing, not at all. That is a
    /// failure, but not one of CometD's errors.
    pub(crate) fn crowd(&mut self, interval: Duration) {
        let comes_back = !interval.is_zero();
        self.successful = comes_back;
        self.advice = Some(ReplyAdvice {
            multiple_clients: true,
            interval: comes_back.then(|| whole_ms(interval)),
            timeout: None,
            max_interval: None,
            reconnect: if comes_back {
                Reconnect::Retry
            } else {
                Reconnect::None
            },
        });
    }

    pub(crate) fn with_advice(mut self, advice: ReplyAdvice) -> Self {
        self.advice = Some(advice);
        self
    }

    pub(crate) fn announce(&mut self, messages: usize) {
        self.messages = Some(messages);
    }

    /// It is the reply to a handshake that succeeded.
    pub fn opens_session(&self) -> bool {
        self.client_id.is_some()
    }

    /// Messages follow it in the same answer.
    pub fn announces(&self) -> bool {
        self.messages.is_some()
    }

    pub(crate) fn with_session(mut self, client_id: ClientId, connection_types: &[&'static str]) -> Self {
        self.client_id = Some(client_id);
        self.connection_types = Some(connection_types.to_vec());
        self.version = Some("1.0");
        self.minimum_version = Some("1.0");
        self
    }

    /// Whether the message did what it asked for.
    pub fn is_successful(&self) -> bool {
        self.successful
    }

    /// Why not.
    pub fn error(&self) -> Option<&Failure> {
        self.error.as_ref()
    }

    fn echoing(echo: Echo<'_>) -> Self {
        Self {
            minimum_version: None,
            client_id: None,
            connection_types: None,
            advice: None,
            ext: Map::new(),
            channel: echo.channel.map(ToOwned::to_owned),
            subscription: echo.subscription.map(ToOwned::to_owned),
            id: echo.id.map(ToOwned::to_owned),
            version: None,
            messages: None,
            timestamp: None,
            error: None,
            successful: true,
            received: None,
        }
    }
}

fn display<S: Serializer>(failure: &Option<Failure>, serializer: S) -> Result<S::Ok, S::Error> {
    match failure {
        Some(failure) => serializer.collect_str(failure),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
