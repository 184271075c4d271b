//! Sessions: how long clients wait and are waited for, and what they may ask for.

use std::time::Duration;

use bayeux::ChannelPattern;
use serde::{Deserialize, Serialize};

use super::values::{Span, seconds};

/// Sessions.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// How long a connect is held.
    pub timeout: Span,
    /// How long a client waits between connects.
    pub interval: Span,
    /// Silence after which a session goes dormant.
    pub max_interval: Span,
    /// How long a dormant session can come back.
    pub resume_window: Span,
    /// The longest hold or interval that a client may ask for.
    pub max_timeout: Span,
    /// How long a client waits that connects again and again without wanting to be held.
    pub impatient_interval: Span,
    /// A session is found by its clientId alone, without cookie or credentials.
    pub trust_client_session: bool,
    /// The HTTP status of a connect that a newer one of the same session replaced.
    pub duplicate_connect_status: u16,
    /// Replies advise `maxInterval`, so that a client that was away for longer shakes hands by itself.
    pub handshake_reconnect: bool,
    /// A list of subscriptions is taken as a whole or not at all.
    pub atomic_subscriptions: bool,
    /// Events leave with connect replies only, over a WebSocket too.
    pub meta_connect_deliver_only: bool,
    /// Clients get back what they publish.
    pub broadcast_to_publisher: bool,
    /// How long a lazy event waits for company where no rule says.
    pub max_lazy_timeout: Span,
    /// Every message says when it was sent.
    pub timestamps: bool,
    /// What keeps a session from being disconnected as idle.
    pub activity: Activity,
    /// Idleness after which it is.
    pub max_inactivity: Span,
    /// What every session is subscribed to from its handshake on.
    pub subscribed: Vec<ChannelPattern>,
    /// Events that wait already leave with the handshake's reply.
    pub messages_during_handshake: bool,
    /// Sessions of one browser whose connects are held at once over HTTP/1.1; -1 for any number.
    pub max_sessions_per_browser: i32,
    /// The same over HTTP/2.
    pub http2_max_sessions_per_browser: i32,
    /// How long a client waits whose connect was one too many; nothing to send it away.
    pub multi_session_interval: Span,
}

/// Older events for who asks for them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    /// Whether clients may ask for older events.
    pub enabled: bool,
    /// What becomes of a replay from an offset that the log does not have.
    pub stale: Stale,
}

/// What counts as activity of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nobody counts.
    Off,
    /// What its client sends, but for connects.
    Client,
    /// That, and what its client gets, but for replies.
    ClientServer,
}

/// What becomes of a replay from an offset that the log does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stale {
    /// From the earliest event that is there.
    Earliest,
    /// From now on.
    Latest,
    /// The subscribe fails.
    Error,
}

/// What is done about too much at once.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overload {
    /// What connects are answered as their interval meanwhile; nothing is said when it is zero.
    pub interval: Span,
    /// Events that are stored and not yet handed to sessions, from which on it is too much.
    pub lag: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            timeout: seconds(30),
            interval: seconds(0),
            max_interval: seconds(10),
            resume_window: seconds(3600),
            max_timeout: seconds(60),
            impatient_interval: Span(Duration::from_millis(500)),
            trust_client_session: false,
            duplicate_connect_status: 500,
            handshake_reconnect: false,
            atomic_subscriptions: true,
            meta_connect_deliver_only: false,
            broadcast_to_publisher: true,
            max_lazy_timeout: seconds(5),
            timestamps: false,
            activity: Activity::Off,
            max_inactivity: seconds(30 * 60),
            subscribed: Vec::new(),
            messages_during_handshake: false,
            max_sessions_per_browser: 4,
            http2_max_sessions_per_browser: -1,
            multi_session_interval: seconds(2),
        }
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            enabled: true,
            stale: Stale::Earliest,
        }
    }
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            interval: seconds(0),
            lag: 10_000,
        }
    }
}
