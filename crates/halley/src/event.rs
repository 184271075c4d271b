//! An event between the publisher and the log.

use std::sync::Arc;

use bayeux::ChannelName;
use serde_json::value::RawValue;

/// The subject that a session belongs to, such as `15000`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Arc<str>);

/// Whom an event is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// The sessions of one user that subscribed to the channel, and nobody else, whatever patterns others hold.
    User(UserId),
    /// Everyone who subscribed to the channel.
    Everyone,
}

/// What a publisher hands in.
#[derive(Debug, Clone)]
pub struct Event {
    /// Whom it is for.
    pub audience: Audience,
    /// Where it is published.
    pub channel: ChannelName,
    /// The payload, as the validated bytes that came in.
    pub data: Box<RawValue>,
    /// The publisher's idempotency key.
    pub id: Option<Box<str>>,
}

impl std::fmt::Display for UserId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}
