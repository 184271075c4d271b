//! An event on its way to its receivers, and its place in the log.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ChannelName;

/// The place of an event in the log: one total order, below 2^53 so that every JSON reader keeps it exact.
/// Offset 0 is before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// Before the first event of any log.
    pub const START: Self = Self(0);
    /// The largest number that the acknowledge extension can carry: 2^53 - 1.
    pub const MAX: Self = Self((1 << 53) - 1);

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

/// An event as its receivers get it: encoded once, shared by all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    offset: Offset,
    channel: ChannelName,
    frame: Bytes,
}

impl Delivery {
    /// Encodes an event from the white list of fields that a subscriber may see: `channel` and `data`, no `id` (a client
    /// in the field drops events that carry one). `data` travels as the validated bytes that came in.
    pub fn encode(offset: Offset, channel: ChannelName, data: &RawValue) -> Self {
        let data = data.get().as_bytes();
        let mut frame = Vec::with_capacity(channel.as_str().len() + data.len() + 26);
        frame.extend_from_slice(b"[{\"channel\":\"");
        // The channel grammar has no character that JSON would escape.
        frame.extend_from_slice(channel.as_str().as_bytes());
        frame.extend_from_slice(b"\",\"data\":");
        frame.extend_from_slice(data);
        frame.extend_from_slice(b"}]");
        Self {
            offset,
            channel,
            frame: frame.into(),
        }
    }

    /// Takes up an event again whose frame [`Delivery::encode`] made earlier.
    pub fn from_frame(offset: Offset, channel: ChannelName, frame: Bytes) -> Self {
        Self {
            offset,
            channel,
            frame,
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
