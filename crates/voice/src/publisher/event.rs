//! An event as the broker takes it.

use bytes::Bytes;
use serde::Serialize;

use crate::message::{Message, Notification};

/// One encoded event: `{"user":…,"channel":…,"data":…,"id":…}`.
#[derive(Debug)]
pub(super) struct Event(Bytes);

#[derive(Serialize)]
struct Wire<'a> {
    user: &'a str,
    channel: &'a str,
    data: &'a Message,
    id: String,
}

impl Event {
    /// Encodes a notification once, for every attempt.
    pub(super) fn new(id: String, notification: &Notification) -> Self {
        let Notification {
            user,
            channel,
            message,
        } = notification;
        let wire = Wire {
            user,
            channel,
            data: message,
            id,
        };
        Event(
            serde_json::to_vec(&wire)
                .expect("messages have string keys and no failing serializers")
                .into(),
        )
    }
}

/// The body of one request: a JSON array, even of one event.
pub(super) fn batch(events: &[Event]) -> Bytes {
    let size = events.iter().map(|event| event.0.len() + 1).sum::<usize>() + 1;
    let mut body = Vec::with_capacity(size);
    for event in events {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.extend_from_slice(&event.0);
    }
    body.push(b']');
    body.into()
}

/// Makes event ids: a number that differs with every start, and a counter.
#[derive(Debug)]
pub(super) struct EventIds {
    start: u64,
    made: u64,
}

impl EventIds {
    pub(super) fn new(start: u64) -> Self {
        EventIds { start, made: 0 }
    }

    pub(super) fn next(&mut self) -> String {
        self.made += 1;
        format!("{:016x}-{}", self.start, self.made)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::message::{CALLS, ErrorMessage};

    fn event(id: &str) -> Event {
        let message = Message::Error(Box::<ErrorMessage>::default());
        Event::new(
            id.into(),
            &Notification {
                user: "15000".into(),
                channel: CALLS,
                message,
            },
        )
    }

    #[test]
    fn a_batch_is_an_array_of_events() {
        let body: Value = serde_json::from_slice(&batch(&[event("a"), event("b")])).unwrap();
        let expected = |id| {
            let data = json!({"messageType": "ErrorMessage"});
            json!({"user": "15000", "channel": "/v2/me/calls", "data": data, "id": id})
        };
        assert_eq!(body, json!([expected("a"), expected("b")]));
    }

    #[test]
    fn ids_of_two_starts_differ() {
        assert_ne!(EventIds::new(1).next(), EventIds::new(2).next());
    }

    #[test]
    fn ids_of_one_start_differ() {
        let mut ids = EventIds::new(1);
        assert_ne!(ids.next(), ids.next());
    }
}
