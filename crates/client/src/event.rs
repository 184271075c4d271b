//! What the server and the network do to a client.

use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// Something that happened to the session, in the order in which it happened.
#[derive(Debug)]
pub enum Event {
    /// A message on a channel.
    Message {
        /// The channel it was published to.
        channel: String,
        /// The bytes of `data` as the server sent them; `null` where there was none.
        data: Box<RawValue>,
        /// The bytes of `ext`, if any.
        ext: Option<Box<RawValue>>,
    },
    /// The session is connected. The first event of every client.
    Connected {
        /// The session's id.
        client_id: String,
        /// True when the session is the one from before the interruption, false when it is new (the
        /// subscriptions have then been made again, but what was published in between is lost).
        resumed: bool,
    },
    /// The connection or the session is lost; the client is working to get it back.
    Interrupted {
        /// What happened.
        reason: String,
    },
    /// The server could not resume where this client had stopped: something was missed.
    Gap {
        /// The first offset that the server still has, if it said so.
        first: Option<u64>,
    },
    /// After a new handshake the server refused a subscription that it had granted before.
    SubscriptionLost {
        /// The channel, no longer subscribed.
        channel: String,
        /// The server's error.
        error: String,
    },
    /// The session has ended for good. The last event of every client.
    Closed {
        /// Who ended it.
        reason: CloseReason,
    },
}

/// Who ended a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// [`Client::disconnect`](crate::Client::disconnect) was called.
    ByClient,
    /// The server ended the session, or told the client not to come back.
    ByServer {
        /// The server's error, if it gave one.
        error: Option<String>,
    },
}

/// The events of one client.
///
/// The buffer behind it is bounded. While it is full the client reads nothing from the network, so
/// that a slow consumer is a slow client to the server; calls on the [`Client`](crate::Client) are
/// then not answered either. Dropping it says that events do not matter.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// Waits for the next event; `None` after [`Event::Closed`].
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}
