//! The two listeners.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The listener for clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Public {
    /// Address and port.
    pub listen: SocketAddr,
    /// Bayeux is spoken at these paths and everywhere below them.
    pub paths: Vec<String>,
    /// The transports that are spoken, in the order in which handshake replies name them.
    pub transports: Vec<String>,
}

/// The listener for the voice backend and for operators. Never expose it to clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Internal {
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Public {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], 8080).into(),
            paths: vec!["/cometd".to_owned(), "/api/v2/notifications".to_owned()],
            transports: vec!["websocket".to_owned(), "long-polling".to_owned()],
        }
    }
}

impl Default for Internal {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 9090).into(),
        }
    }
}
