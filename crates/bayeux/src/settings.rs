//! What an operator may choose about the protocol. `deploy/halley.toml` documents each with its unit and reason.

use std::sync::Arc;
use std::time::Duration;

use crate::{ChannelName, ChannelPattern, Rules, Traits};

/// Times, rules and limits of every session. The defaults are CometD's where it has one.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a connect is held (CometD: `timeout`).
    pub timeout: Duration,
    /// How long a client waits between two connects (CometD: `interval`). Other than 0 is dangerous: a client in the
    /// field takes it for seconds.
    pub interval: Duration,
    /// How long a client may be silent before its session goes dormant (CometD: `maxInterval`, then it forgets).
    pub max_interval: Duration,
    /// The longest hold or interval that a client may ask for; CometD has no bound.
    pub max_timeout: Duration,
    /// How long a client is told to wait that connects again and again without wanting to wait; zero for never.
    pub impatient_interval: Duration,
    /// The least time between two pings that ask a socket for proof of what arrived.
    pub proof_interval: Duration,
    /// How long a held connect stays after a disconnect, so that the disconnect's reply arrives first.
    pub disconnect_grace: Duration,
    /// The least time between two checkpoints of a cursor.
    pub checkpoint_interval: Duration,
    /// Connection types in the order in which the handshake names them.
    pub connection_types: Vec<&'static str>,
    /// Who may do what on which channels, and how their events are kept and delivered.
    pub rules: Arc<Rules>,
    /// Channels that a service answers.
    pub services: Vec<ChannelPattern>,
    /// How long before its credentials end a client is told so; zero for never.
    pub expiry_warning: Duration,
    /// Replies advise how long a client may be away before it shakes hands by itself (CometD: `handshakeReconnect`).
    pub handshake_reconnect: bool,
    /// A list of subscriptions is taken as a whole or not at all. CometD takes what comes before the first refusal.
    pub atomic_subscriptions: bool,
    /// Events leave with connect replies only, over a socket too (CometD: `metaConnectDeliverOnly`).
    pub meta_connect_deliver_only: bool,
    /// Clients get back what they publish, unless a rule says otherwise (CometD: `broadcastToPublisher`).
    pub broadcast_to_publisher: bool,
    /// How long a lazy event waits where no rule says (CometD: `maxLazyTimeout`).
    pub max_lazy_timeout: Duration,
    /// Messages say when they were sent (CometD: the timestamp extension).
    pub timestamps: bool,
    /// What every session is subscribed to from its handshake on.
    pub subscribed: Vec<ChannelPattern>,
    /// Events that wait already leave with the handshake's reply (CometD: `allowMessageDeliveryDuringHandshake`).
    pub messages_during_handshake: bool,
    /// Whether older events can be asked for.
    pub replay: bool,
    /// What becomes of a replay from an offset that the log does not have.
    pub stale_replay: StaleReplay,
    /// Whose idleness is not suffered for ever (CometD: the activity extension).
    pub activity: Activity,
    /// For how long it is suffered.
    pub max_inactivity: Duration,
    /// What a client can make us keep, and how much it may say at once.
    pub limits: Limits,
}

impl Settings {
    /// How an event of a publisher is encoded and delivered. `is_lazy` is what the publisher wants.
    pub fn traits(&self, channel: &ChannelName, for_everyone: bool, is_lazy: bool) -> Traits {
        let mut traits = self.rules.traits(channel, for_everyone);
        if is_lazy && traits.lazy.is_none() {
            let lazy = self.rules.lazy(channel).filter(|lazy| !lazy.is_zero());
            traits.lazy = Some(lazy.unwrap_or(self.max_lazy_timeout));
        }
        traits.timestamp = self.timestamps;
        traits
    }
}

/// What becomes of a replay from an offset that the log does not have: from before retention, or from another log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleReplay {
    /// From the earliest event that is there; the reply says that there is a gap.
    Earliest,
    /// From now on; the reply says that there is a gap.
    Latest,
    /// The subscribe fails.
    Error,
}

/// What counts as activity of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nobody counts.
    Off,
    /// What its client sends, but for connects.
    Client,
    /// That, and what its client gets, but for replies.
    ClientServer,
}

/// Bounds on what one client can cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Messages in one body.
    pub messages: usize,
    /// Nesting of one body.
    pub depth: usize,
    /// Length of a channel, in bytes.
    pub channel_bytes: usize,
    /// Segments of a channel.
    pub channel_segments: usize,
    /// Length of a message id, in bytes.
    pub id_bytes: usize,
    /// Subscriptions of one session.
    pub subscriptions: usize,
    /// Events that one session keeps in memory; beyond it reads them from the log.
    pub queue_events: usize,
    /// Bytes of events that one session keeps in memory.
    pub queue_bytes: usize,
    /// Bytes of events in one answer to a connect.
    pub answer_bytes: usize,
    /// Remote calls of one session that are under way, or whose answers wait for it.
    pub direct_messages: usize,
    /// Bytes of answers that wait for one session.
    pub direct_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            interval: Duration::ZERO,
            max_interval: Duration::from_secs(10),
            max_timeout: Duration::from_secs(60),
            impatient_interval: Duration::from_millis(500),
            proof_interval: Duration::from_secs(1),
            disconnect_grace: Duration::from_millis(50),
            checkpoint_interval: Duration::from_secs(1),
            connection_types: vec!["websocket", "long-polling"],
            rules: Arc::default(),
            services: Vec::new(),
            expiry_warning: Duration::ZERO,
            handshake_reconnect: false,
            atomic_subscriptions: true,
            meta_connect_deliver_only: false,
            broadcast_to_publisher: true,
            max_lazy_timeout: Duration::from_secs(5),
            timestamps: false,
            subscribed: Vec::new(),
            messages_during_handshake: false,
            replay: true,
            stale_replay: StaleReplay::Earliest,
            activity: Activity::Off,
            max_inactivity: Duration::from_secs(30 * 60),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: 64,
            depth: 32,
            channel_bytes: 256,
            channel_segments: 16,
            id_bytes: 128,
            subscriptions: 64,
            queue_events: 1000,
            queue_bytes: 1 << 20,
            answer_bytes: 512 << 10,
            direct_messages: 32,
            direct_bytes: 256 << 10,
        }
    }
}
