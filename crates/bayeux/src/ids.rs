//! Identities on the wire.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The `clientId` of a session, as the server issued it. Cheap to clone. Its `Debug` form shows the first six characters
/// only: whoever knows the whole can speak for the session.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Wraps a text; nothing is checked, an unknown id simply has no session.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ClientId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}…", self.0.chars().take(6).collect::<String>())
    }
}

/// One HTTP exchange or one WebSocket: what makes every transport look alike to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Carrier {
    /// Unique in the process.
    pub id: u64,
    /// What it can do.
    pub kind: CarrierKind,
}

/// What a carrier can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CarrierKind {
    /// One request, one response: events leave with the reply to a connect.
    Exchange,
    /// A socket: events are pushed at once, and a pong proves what arrived.
    Socket,
}
