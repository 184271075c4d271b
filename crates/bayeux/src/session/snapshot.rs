//! What must survive of a session for another process to go on with it.

use serde::{Deserialize, Serialize};

use crate::{ChannelPattern, Offset};

/// A subscription, and where in the log it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// What was asked for.
    pub pattern: ChannelPattern,
    /// Events after this offset are wanted.
    pub began: Offset,
}

/// A session at rest: a cursor over the log, and what it listens to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What it listens to.
    pub subscriptions: Vec<Subscription>,
    /// Everything up to here has arrived at the client, or was never meant for it.
    pub cursor: Offset,
    /// The names of the extensions that were agreed at the handshake.
    pub extensions: Vec<Box<str>>,
}
