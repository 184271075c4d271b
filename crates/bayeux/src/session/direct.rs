//! What reaches one session outside the log: the answers of remote calls, and the server's goodbye.
//!
//! Such a message has no offset and is not written down: when the session rests it is lost, and the client's own
//! timeout covers that. When the session moves, what has not been sent goes after it ([`Session::take_directs`]). As long as the session is there, a message stays until it is known to have arrived, and goes again
//! when it may not have; clients know an answer by the id of its call and ignore a second one.
//!
//! The queue never has to turn anything away: each answer has a place from the moment at which its service is asked, and a
//! call for which there is none is refused. An answer that is too long for what the session may hold is replaced by a
//! failure, which is short. What was sent and is only not proven makes room for what waits.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::service::{Call, CallResult};
use super::{Handover, Output, Session};
use crate::extension::Received;
use crate::{Carrier, CarrierKind, Limits, wall};

/// A message for one session, ready to send. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    frame: Bytes,
}

/// The messages of one session that are expected, wait, or may not have arrived.
#[derive(Debug, Default)]
pub(super) struct Directs {
    entries: VecDeque<Entry>,
    /// The size of all entries.
    bytes: usize,
    /// Places that are kept for answers to come.
    expected: usize,
}

#[derive(Debug)]
struct Entry {
    message: Direct,
    sent: Option<Sent>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    by: Carrier,
    /// A ping has followed it.
    asked: bool,
}

impl Session {
    /// The service has answered, or has nothing to say. Its call was handed out with [`super::Answer::Service`].
    pub fn handle_direct(&mut self, now: Instant, call: &Call, result: Option<CallResult>) -> Handover {
        self.direct.expected = self.direct.expected.saturating_sub(1);
        if self.life.is_over() {
            return Handover::Gone;
        }
        let Some(result) = result else {
            return Handover::NotWanted;
        };
        let answer = self.direct_of(now, call, &result);
        if !self.direct.push(answer, &self.settings.limits) {
            let failure = CallResult::failed(
                "urn:halley:service:session-full",
                "the answer is too long for what this session may hold (limits.direct_bytes)",
            );
            let failure = self.direct_of(now, call, &failure);
            self.direct.append(failure);
        }
        self.direct_waits()
    }

    /// What a client is told of the result of its call. The session may be elsewhere by now, where
    /// [`Session::handle_forwarded`] takes it.
    pub fn direct_of(&self, now: Instant, call: &Call, result: &CallResult) -> Direct {
        let timestamp = self.timestamp(&call.received, now);
        Direct::answer(call, result, timestamp.as_deref())
    }

    /// An answer to a call that was made where the session was before. No place was kept for it here: when there is none it is
    /// [`Handover::NotWanted`].
    pub fn handle_forwarded(&mut self, message: Direct) -> Handover {
        if self.life.is_over() {
            return Handover::Gone;
        }
        if !self.direct.push_unexpected(message, &self.settings.limits) {
            return Handover::NotWanted;
        }
        self.direct_waits()
    }

    fn direct_waits(&self) -> Handover {
        if self.is_waited_for() {
            Handover::Wake
        } else {
            Handover::Queued
        }
    }

    /// What a message says of the time, where messages do.
    pub(super) fn timestamp(&self, received: &Received, now: Instant) -> Option<String> {
        self.settings
            .timestamps
            .then(|| wall::timestamp(received.wall_at(now)))
    }

    /// What is pushed over a socket; elsewhere these leave with the reply to a connect.
    pub(super) fn poll_direct(&mut self, carrier: Carrier) -> Option<Output> {
        if self.socket != Some(carrier) || self.brings_events(carrier) || self.life.is_over() {
            return None;
        }
        self.direct.take(usize::MAX, carrier).map(Output::Direct)
    }

    /// A connect came: either it shows that what the reply before it brought has arrived, or that goes again.
    pub(super) fn account_directs(&mut self, carrier: Carrier, lost: bool) {
        let with_connect = self.agreed.delivers_with_connect();
        // Events that were sent and are not acknowledged: their reply did not arrive.
        let lost = lost || (self.agreed.acknowledges() && self.window.has_unproven());
        self.direct.settle(|sent| match sent.by.kind {
            CarrierKind::Exchange => Some(!lost),
            CarrierKind::Socket if with_connect => Some(!lost && sent.by == carrier),
            // A pong will say.
            CarrierKind::Socket => None,
        });
    }
}

impl Directs {
    /// Keeps a place for an answer, if there is one.
    pub(super) fn expect(&mut self, limits: &Limits) -> bool {
        while self.expected + self.entries.len() >= limits.direct_messages {
            if !self.forget_sent() {
                return false;
            }
        }
        self.expected += 1;
        true
    }

    /// Keeps a message for which no place was kept, if there is one.
    pub(super) fn push_unexpected(&mut self, message: Direct, limits: &Limits) -> bool {
        if message.size() > limits.direct_bytes || !self.expect(limits) {
            return false;
        }
        self.expected -= 1;
        self.push(message, limits)
    }

    /// Takes what has not been sent.
    pub(super) fn take_unsent(&mut self) -> Vec<Direct> {
        let mut unsent = Vec::new();
        let bytes = &mut self.bytes;
        self.entries.retain(|entry| {
            if entry.sent.is_none() {
                *bytes -= entry.message.size();
                unsent.push(entry.message.clone());
            }
            entry.sent.is_some()
        });
        unsent
    }

    /// The next message to send, if it is no larger than `room`.
    pub(super) fn take(&mut self, room: usize, carrier: Carrier) -> Option<Direct> {
        let entry = self.entries.iter_mut().find(|entry| entry.sent.is_none())?;
        if entry.message.size() > room {
            return None;
        }
        entry.sent = Some(Sent {
            by: carrier,
            asked: false,
        });
        Some(entry.message.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.entries.iter().any(|entry| entry.sent.is_none())
    }

    /// Something that this socket brought is not proven, nor asked for.
    pub(super) fn has_unasked(&self, carrier: Carrier) -> bool {
        self.sent()
            .any(|sent| sent.by == carrier && sent.by.kind == CarrierKind::Socket && !sent.asked)
    }

    /// A ping goes out on this socket.
    pub(super) fn ask(&mut self, carrier: Carrier) {
        let sent = self.entries.iter_mut().filter_map(|entry| entry.sent.as_mut());
        sent.filter(|sent| sent.by == carrier)
            .for_each(|sent| sent.asked = true);
    }

    /// The pong of that ping came back.
    pub(super) fn prove_asked(&mut self, carrier: Carrier) {
        self.settle(|sent| (sent.by == carrier && sent.asked).then_some(true));
    }

    /// Everything that this socket brought has arrived.
    pub(super) fn prove_all(&mut self, carrier: Carrier) {
        self.settle(|sent| (sent.by == carrier).then_some(true));
    }

    /// What a socket brought and nobody proved goes again.
    pub(super) fn rewind_socket(&mut self) {
        self.settle(|sent| (sent.by.kind == CarrierKind::Socket).then_some(false));
    }

    /// `arrived` says of each message that was sent whether it did, if that is known now.
    fn settle(&mut self, arrived: impl Fn(&Sent) -> Option<bool>) {
        let bytes = &mut self.bytes;
        self.entries
            .retain_mut(|entry| match entry.sent.as_ref().and_then(&arrived) {
                Some(true) => {
                    *bytes -= entry.message.size();
                    false
                }
                Some(false) => {
                    entry.sent = None;
                    true
                }
                None => true,
            });
    }

    fn sent(&self) -> impl Iterator<Item = &Sent> {
        self.entries.iter().filter_map(|entry| entry.sent.as_ref())
    }

    pub(super) fn push(&mut self, message: Direct, limits: &Limits) -> bool {
        while self.bytes + message.size() > limits.direct_bytes {
            if !self.forget_sent() {
                return false;
            }
        }
        self.append(message);
        true
    }

    fn append(&mut self, message: Direct) {
        self.bytes += message.size();
        self.entries.push_back(Entry { message, sent: None });
    }

    /// Gives up the oldest message that was sent and is not proven.
    fn forget_sent(&mut self) -> bool {
        let oldest = self.entries.iter().position(|entry| entry.sent.is_some());
        let forgotten = oldest.and_then(|place| self.entries.remove(place));
        self.bytes -= forgotten.as_ref().map_or(0, |entry| entry.message.size());
        forgotten.is_some()
    }
}

#[derive(Serialize)]
struct Fields<'a> {
    channel: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<&'a str>,
    successful: bool,
}

impl Direct {
    fn answer(call: &Call, result: &CallResult, timestamp: Option<&str>) -> Self {
        Self::encode(&Fields {
            channel: &call.echo,
            id: call.id.as_deref(),
            data: Some(&result.data),
            timestamp,
            successful: result.successful,
        })
    }

    /// A message that nobody asked for.
    pub(super) fn unasked(channel: &str, data: Option<&RawValue>, timestamp: Option<&str>) -> Self {
        let channel =
            RawValue::from_string(format!("\"{channel}\"")).expect("no sign that JSON would escape");
        Self::encode(&Fields {
            channel: &channel,
            id: None,
            data,
            timestamp,
            successful: true,
        })
    }

    fn encode(fields: &Fields<'_>) -> Self {
        let frame = serde_json::to_vec(&[fields]).expect("texts and what was JSON before");
        Self { frame: frame.into() }
    }

    /// One that was encoded elsewhere, from its [`Direct::frame`].
    pub fn parse(frame: &str) -> Option<Self> {
        let inner = frame.strip_prefix('[')?.strip_suffix(']')?;
        let message: &RawValue = serde_json::from_str(inner).ok()?;
        let is_whole = message.get().len() == inner.len() && inner.starts_with('{');
        is_whole.then(|| Self {
            frame: Bytes::copy_from_slice(frame.as_bytes()),
        })
    }

    /// The message as a JSON array of one: a whole WebSocket frame.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The message itself, for a place in a larger array.
    pub fn message(&self) -> &[u8] {
        &self.frame[1..self.frame.len() - 1]
    }

    /// What it costs a queue, in bytes.
    pub fn size(&self) -> usize {
        self.frame.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_the_same_message_elsewhere() {
        let data = RawValue::from_string(r#"{"n": 1e400, "s":"\ud83d"}"#.to_owned()).unwrap();
        let message = Direct::unasked("/service/echo", Some(&data), None);
        let frame = std::str::from_utf8(message.frame()).unwrap();
        assert_eq!(Direct::parse(frame), Some(message));
    }

    #[test]
    fn what_is_no_frame_of_one_message_is_none() {
        for text in [
            "", "[", "{}", "[]", "[1]", "[{},{}]", "[ {}]", "[{}]]", "[{}] ", "[{]",
        ] {
            assert_eq!(Direct::parse(text), None, "{text}");
        }
        assert!(Direct::parse("[{}]").is_some());
    }
}
