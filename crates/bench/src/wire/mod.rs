//! The client's side of what is spoken: framings and messages, from bytes and to bytes, without a socket.

pub(crate) mod bayeux;
pub(crate) mod http;
pub(crate) mod websocket;

use thiserror::Error;

/// What came cannot be understood.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    /// With the beginning of what could not be understood.
    pub(crate) fn new(what: &str, bytes: &[u8]) -> Self {
        Self(format!("{what}: {}", excerpt(bytes)))
    }
}

/// The beginning of something for an error text.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const LENGTH: usize = 200;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LENGTH)]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if bytes.len() > LENGTH {
        format!("{text}…")
    } else {
        text
    }
}
