//! An event as a message of NATS, and back: its data is the payload, what rules do not tell goes into headers.
//!
//! Others publish into the stream as well, so a message is not trusted to be an event.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use bayeux::{ChannelKind, ClientId, Draft, Offset, ReplayId, Traits, codec};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::super::{Appended, LogError};
use super::subjects::{self, Names};
use crate::event::{Audience, Event};

/// The header that JetStream knows repeated messages by.
pub(super) const ID: &str = "Nats-Msg-Id";
/// How long an event may wait for company, in milliseconds; empty is as long as the rules say.
const LAZY: &str = "Halley-Lazy";
/// The session that does not get it.
const NOT_TO: &str = "Halley-Not-To";
/// Its data is binary, as CometD's extension encodes it.
const BINARY: &str = "Halley-Binary";
/// Where it carries its offset.
const REPLAY_ID: &str = "Halley-Replay-Id";
/// It says when it was stored.
const TIMESTAMP: &str = "Halley-Timestamp";
/// A wildcard at the end of its channel is meant as it stands.
const LITERAL: &str = "Halley-Literal";

/// The line above the headers, and the one below.
const HEADERS_BEGIN: usize = "NATS/1.0\r\n\r\n".len();

/// What servers accept in a line that names a subject, less what else is in it.
const SUBJECT_BYTES: usize = 3072;

/// How events are written and read.
#[derive(Clone)]
pub(super) struct Form {
    pub(super) names: Names,
    pub(super) protocol: Arc<bayeux::Settings>,
}

/// A message that is to be published.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) message: PublishMessage,
}

/// A message of the stream, however it was read.
pub(super) struct Incoming<'a> {
    pub(super) subject: &'a str,
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) payload: &'a Bytes,
    /// When it was stored, in nanoseconds since 1970.
    pub(super) stored: i128,
    pub(super) offset: Offset,
}

/// Why a message is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoEvent {
    Subject,
    Channel,
    Json,
    Depth,
    Size,
}

impl Form {
    /// `place` is its place among those that are written together; the servers take messages of `largest` bytes.
    pub(super) fn write(&self, place: usize, event: Event, largest: usize) -> Result<Outgoing, LogError> {
        let too_large = |why: String| LogError::TooLarge {
            place,
            why: why.into(),
        };
        let subject = self.names.event(&event.tenant, &event.audience, &event.channel);
        if subject.len() > SUBJECT_BYTES {
            let size = subject.len();
            return Err(too_large(format!(
                "the names of an event take {size} bytes in NATS, more than {SUBJECT_BYTES}"
            )));
        }
        let mut headers = HeaderMap::new();
        if let Some(id) = &event.id {
            headers.insert(ID, message_id(id));
        }
        let by_rules = self
            .protocol
            .traits(&event.channel, event.audience == Audience::Everyone, false);
        write_traits(&event.traits, &by_rules, &mut headers);
        if event.channel.is_wild() {
            headers.insert(LITERAL, "true");
        }
        let data: Box<str> = event.data.into();
        let size = data.len() + header_bytes(&headers);
        if size > largest {
            return Err(too_large(format!(
                "an event takes {size} bytes, more than the {largest} that the NATS servers take (their max_payload)"
            )));
        }
        let mut message = PublishMessage::build().payload(String::from(data).into());
        if !headers.is_empty() {
            message = message.headers(headers);
        }
        Ok(Outgoing { subject, message })
    }

    pub(super) fn read(&self, incoming: &Incoming<'_>) -> Result<Appended, NoEvent> {
        let parsed = self.names.parse_event(incoming.subject).ok_or(NoEvent::Subject)?;
        let (tenant, audience, channel) = parsed;
        let limits = &self.protocol.limits;
        let header = |name: &str| incoming.headers.and_then(|headers| headers.get(name));
        let is_too_long =
            channel.as_str().len() > limits.channel_bytes || channel.segments() > limits.channel_segments;
        let is_wild = channel.is_wild() && header(LITERAL).is_none();
        if channel.kind() != ChannelKind::Broadcast || is_too_long || is_wild {
            return Err(NoEvent::Channel);
        }
        if codec::is_deeper(incoming.payload, limits.depth) {
            return Err(NoEvent::Depth);
        }
        let largest = self.protocol.rules.largest_message(&channel);
        if largest.is_some_and(|largest| incoming.payload.len() > largest) {
            return Err(NoEvent::Size);
        }
        let data: &RawValue = serde_json::from_slice(incoming.payload).map_err(|_| NoEvent::Json)?;
        let for_everyone = audience == Audience::Everyone;
        let mut traits = self
            .protocol
            .traits(&channel, for_everyone, header(LAZY).is_some());
        read_traits(incoming.headers, &mut traits);
        let stored = u64::try_from(incoming.stored / 1_000_000).unwrap_or_default();
        let draft = Draft::new(channel, data, &traits, stored);
        Ok(Appended {
            tenant,
            audience,
            delivery: Arc::new(draft.at(incoming.offset)),
        })
    }
}

/// What headers take beside the payload: the servers count both.
fn header_bytes(headers: &HeaderMap) -> usize {
    if headers.is_empty() {
        return 0;
    }
    let line = |name: usize, value: usize| name + ": ".len() + value + "\r\n".len();
    let of_each = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values
            .iter()
            .map(move |value| line(name.len(), value.as_str().len()))
    });
    HEADERS_BEGIN + of_each.sum::<usize>()
}

fn write_traits(traits: &Traits, by_rules: &Traits, headers: &mut HeaderMap) {
    if let Some(lazy) = traits.lazy.filter(|_| traits.lazy != by_rules.lazy) {
        headers.insert(LAZY, lazy.as_millis().to_string());
    }
    if let Some(client_id) = &traits.not_to {
        headers.insert(NOT_TO, subjects::token(client_id.as_str()));
    }
    if traits.binary {
        headers.insert(BINARY, "true");
    }
    if let Some(place) = traits
        .replay_id
        .filter(|_| traits.replay_id != by_rules.replay_id)
    {
        headers.insert(REPLAY_ID, replay_id_name(place));
    }
    if traits.timestamp && !by_rules.timestamp {
        headers.insert(TIMESTAMP, "true");
    }
}

/// What headers say counts beside what rules say.
fn read_traits(headers: Option<&HeaderMap>, traits: &mut Traits) {
    let Some(headers) = headers else { return };
    let header = |name: &str| headers.get(name).map(|value| value.as_str().trim());
    if let Some(milliseconds) = header(LAZY).and_then(|text| text.parse().ok()) {
        traits.lazy = Some(Duration::from_millis(milliseconds)).filter(|lazy| !lazy.is_zero());
    }
    if let Some(client_id) = header(NOT_TO).and_then(subjects::decode) {
        traits.not_to = Some(ClientId::new(&client_id));
    }
    traits.binary |= header(BINARY) == Some("true");
    traits.timestamp |= header(TIMESTAMP) == Some("true");
    for place in [ReplayId::Data, ReplayId::Ext] {
        if header(REPLAY_ID) == Some(replay_id_name(place)) {
            traits.replay_id = Some(place);
        }
    }
}

fn replay_id_name(place: ReplayId) -> &'static str {
    match place {
        ReplayId::Data => "data.event.replayId",
        ReplayId::Ext => "ext.replayId",
    }
}

/// An event id as a header: a visible character but `=` stands for itself, every other byte is `=XX`. So an id that others give
/// to the same event is the same, and no two are.
fn message_id(id: &str) -> String {
    let mut text = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_graphic() && byte != b'=' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("={byte:02X}"));
        }
    }
    if text.is_empty() {
        text.push('=');
    }
    text
}

impl fmt::Display for NoEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Subject => "its subject is none of an event",
            Self::Channel => "nobody may publish to its channel",
            Self::Json => "its payload is no JSON",
            Self::Depth => "its payload is nested too deep",
            Self::Size => "its payload is larger than a rule of the channel allows",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_of_visible_characters_is_what_others_would_send() {
        assert_eq!(message_id("call-42/answered:1"), "call-42/answered:1");
    }

    #[test]
    fn an_id_cannot_begin_another_header() {
        assert_eq!(message_id("a\r\nb = c"), "a=0D=0Ab=20=3D=20c");
    }

    proptest! {
        #[test]
        fn no_two_ids_are_the_same_header(one in "[ -~\n=]{0,4}", other in "[ -~\n=]{0,4}") {
            prop_assert_eq!(message_id(&one) == message_id(&other), one == other);
        }
    }
}
