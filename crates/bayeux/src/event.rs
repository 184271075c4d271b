//! An event on its way to its receivers, and its place in the log.
//!
//! [`Draft`] is the only encoder: it writes what a subscriber may see, from a white list of fields. A log gives the draft
//! its offset, and it is a [`Delivery`], encoded once and shared by all of its receivers.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::replay_id::{self, ReplayId};
use crate::{ChannelName, ClientId, wall};

/// The place of an event in the log: one total order, below 2^53 so that every JSON reader keeps it exact.
/// Offset 0 is before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// Before the first event of any log.
    pub const START: Self = Self(0);
    /// The largest offset: 2^45 - 1, eleven years of 100,000 events a second. The acknowledge extension carries it in a
    /// number below 2^53, and the eight bits above say how often the session has gone back to replay.
    pub const MAX: Self = Self((1 << 45) - 1);

    /// The offset that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What an event carries besides its channel and its data, and how it is delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// It may wait this long for company (CometD: a lazy message).
    pub lazy: Option<Duration>,
    /// The session of its publisher, which does not get it back.
    pub not_to: Option<ClientId>,
    /// Where it carries its offset, for clients that replay.
    pub replay_id: Option<ReplayId>,
    /// It carries the time at which it was stored.
    pub timestamp: bool,
    /// Its data is binary, as CometD's binary extension encodes it: `ext.binary` goes with it.
    pub binary: bool,
}

/// An event that has everything but its offset.
#[derive(Debug, Clone)]
pub struct Draft {
    channel: ChannelName,
    frame: Vec<u8>,
    /// Where in the frame the digits of the offset go.
    offset_at: Option<usize>,
    marks: Marks,
}

/// What is known of a stored event beside its frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// When it was stored, in milliseconds since 1970.
    pub stored: u64,
    /// It may wait this long for company.
    pub lazy: Option<Duration>,
    /// The session that does not get it.
    pub not_to: Option<ClientId>,
}

/// An event as its receivers get it: encoded once, shared by all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    offset: Offset,
    channel: ChannelName,
    frame: Bytes,
    marks: Marks,
}

impl Draft {
    /// Encodes an event from the white list of fields that a subscriber may see: `channel` and `data`, no `id` (a client
    /// in the field drops events that carry one), and what its traits add. `data` travels as the validated bytes that came
    /// in. `stored` is the time in milliseconds since 1970.
    pub fn new(channel: ChannelName, data: &RawValue, traits: &Traits, stored: u64) -> Self {
        let mut frame = Vec::with_capacity(channel.as_str().len() + data.get().len() + 96);
        frame.extend_from_slice(b"[{\"channel\":\"");
        // The channel grammar has no character that JSON would escape.
        frame.extend_from_slice(channel.as_str().as_bytes());
        frame.extend_from_slice(b"\",\"data\":");
        let mut offset_at = replay_id::write_data(&mut frame, data, traits.replay_id);
        if traits.binary || traits.replay_id == Some(ReplayId::Ext) {
            frame.extend_from_slice(b",\"ext\":{");
            if traits.binary {
                frame.extend_from_slice(b"\"binary\":{}");
            }
            if traits.replay_id == Some(ReplayId::Ext) {
                offset_at = Some(replay_id::write_ext(&mut frame, traits.binary));
            }
            frame.push(b'}');
        }
        if traits.timestamp {
            frame.extend_from_slice(format!(",\"timestamp\":\"{}\"", wall::timestamp(stored)).as_bytes());
        }
        frame.extend_from_slice(b"}]");
        Self {
            channel,
            frame,
            offset_at,
            marks: Marks {
                stored,
                lazy: traits.lazy,
                not_to: traits.not_to.clone(),
            },
        }
    }

    /// The channel it was published to.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// What is kept beside the frame.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The frame, but for the digits of its offset.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Where in the frame [`Draft::write_offset`] has to write, if the event carries its offset.
    pub fn offset_at(&self) -> Option<usize> {
        self.offset_at
    }

    /// Writes the digits of an offset at the beginning of `room`, which was left for them.
    pub fn write_offset(room: &mut [u8], offset: Offset) {
        replay_id::write_offset(room, offset);
    }

    /// The event at its place in the log.
    pub fn at(mut self, offset: Offset) -> Delivery {
        if let Some(place) = self.offset_at {
            Self::write_offset(&mut self.frame[place..], offset);
        }
        Delivery {
            offset,
            channel: self.channel,
            frame: self.frame.into(),
            marks: self.marks,
        }
    }
}

impl Delivery {
    /// An event without traits, encoded and put in its place.
    pub fn encode(offset: Offset, channel: ChannelName, data: &RawValue) -> Self {
        Draft::new(channel, data, &Traits::default(), 0).at(offset)
    }

    /// Takes up an event again whose frame a [`Draft`] made earlier.
    pub fn from_frame(offset: Offset, channel: ChannelName, frame: Bytes, marks: Marks) -> Self {
        Self {
            offset,
            channel,
            frame,
            marks,
        }
    }

    /// Where the event stands in the log.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// The channel it was published to.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// What is known of it beside its frame.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The event as a JSON array of one message: a whole WebSocket frame.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The event as one JSON message, for a place in a larger array.
    pub fn message(&self) -> &[u8] {
        &self.frame[1..self.frame.len() - 1]
    }

    /// What the event costs a queue, in bytes.
    pub fn size(&self) -> usize {
        self.frame.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_channel_and_data_and_nothing_else() {
        let data: Box<RawValue> = serde_json::from_str(r#"{"n": 1e400, "class":[[1],[2]]}"#).unwrap();
        let delivery = Delivery::encode(Offset(7), ChannelName::parse("/v2/me/calls").unwrap(), &data);
        assert_eq!(
            delivery.message(),
            br#"{"channel":"/v2/me/calls","data":{"n": 1e400, "class":[[1],[2]]}}"#
        );
    }
}
