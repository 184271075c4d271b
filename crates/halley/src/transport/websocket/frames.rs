//! Frames of a server (RFC 6455, section 5.2): never masked, one for each message, whose bytes may be shared by all receivers.

use std::sync::Arc;

use bayeux::codec::Body;
use bayeux::{Delivery, Direct};
use bytes::Bytes;

use super::wire::Line;

/// Bytes of events that share a frame: clients that were not told otherwise close a socket that brings a frame of more than
/// 64 KiB. A larger event has a frame of its own.
const FRAME_BYTES: usize = 48 << 10;

/// A frame, ready to be written.
pub(super) struct Frame {
    head: [u8; 10],
    head_length: u8,
    payload: Bytes,
}

/// What leaves in one write.
pub(super) struct Frames<'a> {
    done: &'a mut Line,
    /// Messages that share the next frame.
    group: Vec<Outgoing>,
    group_bytes: usize,
    /// Messages of one frame, and their bytes.
    most: usize,
    most_bytes: usize,
}

/// A message that was asked for by nobody.
pub(super) enum Outgoing {
    Event(Arc<Delivery>),
    Direct(Direct),
}

impl Outgoing {
    /// The message as the payload of a frame of its own.
    fn frame(&self) -> &Bytes {
        match self {
            Self::Event(event) => event.frame(),
            Self::Direct(message) => message.frame(),
        }
    }

    fn add_to(&self, body: &mut Body) {
        match self {
            Self::Event(event) => body.event(event),
            Self::Direct(message) => body.direct(message),
        }
    }
}

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;

impl Frame {
    pub(super) fn text(payload: Bytes) -> Self {
        Self::new(TEXT, payload)
    }

    pub(super) fn ping(payload: Bytes) -> Self {
        Self::new(PING, payload)
    }

    fn new(first: u8, payload: Bytes) -> Self {
        let mut head = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let length = payload.len();
        let head_length = if let Ok(length @ ..=125) = u8::try_from(length) {
            head[1] = length;
            2
        } else if let Ok(length) = u16::try_from(length) {
            head[1] = 126;
            head[2..4].copy_from_slice(&length.to_be_bytes());
            4
        } else {
            head[1] = 127;
            head[2..].copy_from_slice(&(length as u64).to_be_bytes());
            10
        };
        Self {
            head,
            head_length,
            payload,
        }
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_length)]
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn size(&self) -> usize {
        self.head().len() + self.payload.len()
    }

    pub(super) fn add_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.head());
        bytes.extend_from_slice(&self.payload);
    }
}

impl<'a> Frames<'a> {
    /// With up to `messages` of them in a frame; 0 is no limit. Frames are added to `done`.
    pub(super) fn of(messages: usize, done: &'a mut Line) -> Self {
        let most = if messages == 0 { usize::MAX } else { messages };
        Self::up_to(most, FRAME_BYTES, done)
    }

    /// With everything in one frame.
    pub(super) fn whole(done: &'a mut Line) -> Self {
        Self::up_to(usize::MAX, usize::MAX, done)
    }

    fn up_to(most: usize, most_bytes: usize, done: &'a mut Line) -> Self {
        Self {
            done,
            group: Vec::new(),
            group_bytes: 0,
            most,
            most_bytes,
        }
    }

    pub(super) fn message(&mut self, message: Outgoing) {
        if self.most == 1 {
            return self.done.push(Frame::text(message.frame().clone()));
        }
        let size = message.frame().len();
        if self.group.len() == self.most || size > self.most_bytes.saturating_sub(self.group_bytes) {
            self.end_frame();
        }
        self.group_bytes += size;
        self.group.push(message);
    }

    /// With the messages that wait for its frame before it.
    pub(super) fn reply(&mut self, reply: &bayeux::Reply) {
        let mut body = Body::default();
        self.group.iter().for_each(|message| message.add_to(&mut body));
        body.reply(reply);
        self.group.clear();
        self.group_bytes = 0;
        self.done.push(Frame::text(body.finish().into()));
    }

    pub(super) fn ping(&mut self, payload: Bytes) {
        self.end_frame();
        self.done.push(Frame::ping(payload));
    }

    /// What comes next is in another frame. A message that is alone in its frame is not copied.
    pub(super) fn end_frame(&mut self) {
        if let [message] = self.group.as_slice() {
            self.done.push(Frame::text(message.frame().clone()));
        } else if !self.group.is_empty() {
            let mut body = Body::default();
            self.group.iter().for_each(|message| message.add_to(&mut body));
            self.done.push(Frame::text(body.finish().into()));
        }
        self.group.clear();
        self.group_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bayeux::Offset;

    use super::*;

    fn event(offset: u64, length: usize) -> Arc<Delivery> {
        let data = serde_json::value::to_raw_value(&"x".repeat(length)).unwrap();
        let channel = bayeux::ChannelName::parse("/a").unwrap();
        Arc::new(Delivery::encode(Offset(offset), channel, &data))
    }

    /// How many messages each frame has.
    fn sizes(messages_per_frame: usize, events: &[Arc<Delivery>]) -> Vec<usize> {
        let mut done = Line::new();
        let mut frames = Frames::of(messages_per_frame, &mut done);
        events
            .iter()
            .for_each(|event| frames.message(Outgoing::Event(Arc::clone(event))));
        frames.end_frame();
        done.iter()
            .map(|frame| serde_json::from_slice::<Vec<serde_json::Value>>(frame.payload()))
            .map(|messages| messages.unwrap().len())
            .collect()
    }

    #[test]
    fn a_frame_has_as_many_messages_as_is_said_and_all_that_wait_for_0() {
        let events: Vec<_> = (1..=5).map(|offset| event(offset, 1)).collect();
        assert_eq!(sizes(1, &events), [1, 1, 1, 1, 1]);
        assert_eq!(sizes(2, &events), [2, 2, 1]);
        assert_eq!(sizes(0, &events), [5]);
    }

    #[test]
    fn messages_share_no_frame_that_clients_would_close_the_socket_for() {
        let events: Vec<_> = [20, 20, 20, 100, 1, 1].map(|kib| event(1, kib << 10)).into();
        assert_eq!(sizes(0, &events), [2, 1, 1, 2]);
    }

    #[test]
    fn an_event_alone_in_its_frame_is_not_copied() {
        let event = event(1, 1);
        for messages_per_frame in [0, 1, 2] {
            let mut done = Line::new();
            let mut frames = Frames::of(messages_per_frame, &mut done);
            frames.message(Outgoing::Event(Arc::clone(&event)));
            frames.end_frame();
            assert_eq!(done[0].payload().as_ptr(), event.frame().as_ptr());
        }
    }

    #[test]
    fn a_ping_follows_what_it_asks_about() {
        let mut done = Line::new();
        let mut frames = Frames::of(0, &mut done);
        frames.message(Outgoing::Event(event(1, 1)));
        frames.ping(Bytes::new());
        frames.message(Outgoing::Event(event(2, 1)));
        frames.end_frame();
        let kinds: Vec<u8> = done.iter().map(|frame| frame.head()[0]).collect();
        assert_eq!(kinds, [TEXT, PING, TEXT]);
    }

    #[test]
    fn the_length_of_a_payload_takes_one_three_or_nine_bytes() {
        let head = |length| Frame::text(vec![b' '; length].into()).head().to_vec();
        assert_eq!(head(125), [TEXT, 125]);
        assert_eq!(head(126), [TEXT, 126, 0, 126]);
        assert_eq!(head(65_535), [TEXT, 126, 255, 255]);
        assert_eq!(head(65_536), [TEXT, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
