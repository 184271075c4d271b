//! What can go wrong, in the words of the caller.

use std::time::Duration;

/// Why a call did not do what it was asked to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be used.
    #[error("{url}: {reason}")]
    Url {
        /// The URL as it was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The credentials cannot be sent as an HTTP header.
    #[error("the credentials hold characters that an HTTP header cannot carry")]
    Credentials,
    /// The data to publish has no JSON form.
    #[error("the data cannot be encoded: {0}")]
    Data(#[from] serde_json::Error),
    /// The network or the HTTP layer below Bayeux failed.
    #[error("connection failed: {reason}")]
    Connection {
        /// What failed.
        reason: String,
    },
    /// The server said no.
    #[error("{channel} refused: {error}")]
    Refused {
        /// The channel that was to be subscribed, unsubscribed or published to (several are joined
        /// by commas), or the meta channel for a handshake or a connect.
        channel: String,
        /// The server's error, for example `403:denied_by_security_policy:publish_denied`.
        error: String,
    },
    /// The server did not answer in time. Whether it acted is unknown.
    #[error("no answer from {channel} within {patience:?}")]
    Unanswered {
        /// As in [`Error::Refused`].
        channel: String,
        /// How long the client waited.
        patience: Duration,
    },
    /// There is no connection right now; [`Event::Connected`](crate::Event::Connected) tells when
    /// there is one again.
    #[error("not connected")]
    NotConnected,
    /// The client has ended.
    #[error("closed")]
    Closed,
}

impl Error {
    pub(crate) fn connection(reason: impl ToString) -> Error {
        Error::Connection {
            reason: reason.to_string(),
        }
    }
}
