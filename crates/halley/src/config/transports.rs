//! WebSockets, JSONP, and clients that ask again and again.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::values::{Span, seconds};

/// WebSockets.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// Silence after which a ping asks whether the peer is there.
    pub ping_interval: Span,
    /// How long its pong may take.
    pub pong_timeout: Span,
    /// How long a write may stall before the socket is closed.
    pub write_timeout: Span,
    /// The least time between two pings that prove what arrived.
    pub proof_interval: Span,
    /// The subprotocol that is spoken; empty for none.
    pub protocol: String,
    /// Events in one frame; 0 is as many as wait.
    pub messages_per_frame: usize,
    /// A clientId is unknown on a socket that did not bring its handshake.
    pub require_handshake_per_connection: bool,
    /// The largest message; 0 is `limits.request_body`.
    pub max_message: ByteSize,
    /// Frames without messages (pings, pongs, binary and empty ones) in one `ping_interval`.
    pub idle_frames: u32,
}

/// JSONP: how a request says which function is given the replies.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallbackPolling {
    /// The parameter of the query that names the function.
    pub parameter: String,
    /// Length of the function's name.
    pub callback_max_length: usize,
}

/// Clients that ask again and again for a session that is unknown: who is answered how late.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnknownSessions {
    /// Repeats of one clientId from one address that are answered at once, as the first is.
    pub free_repeats: u32,
    /// How late the next one is answered; each after it twice as late.
    pub first_delay: Span,
    /// The latest.
    pub longest_delay: Span,
    /// Repeats after which the answer is no success any more.
    pub refuse_after: u32,
    /// Silence after which a clientId begins anew.
    pub forget_after: Span,
    /// Answers to one address that may leave at once, whatever the clientIds.
    pub address_burst: u32,
    /// Answers a second that one address always has.
    pub address_rate: u32,
    /// ClientIds that are remembered, and as many addresses.
    pub remembered: usize,
}

/// The name of a parameter that is the same in a URL and out of it.
pub(super) fn is_parameter(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(plain) && name != "message"
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            ping_interval: seconds(25),
            pong_timeout: seconds(20),
            write_timeout: seconds(20),
            proof_interval: seconds(1),
            protocol: String::new(),
            messages_per_frame: 1,
            require_handshake_per_connection: false,
            max_message: ByteSize::b(0),
            idle_frames: 1000,
        }
    }
}

impl Default for CallbackPolling {
    fn default() -> Self {
        Self {
            parameter: "jsonp".to_owned(),
            callback_max_length: 64,
        }
    }
}

impl Default for UnknownSessions {
    fn default() -> Self {
        Self {
            free_repeats: 2,
            first_delay: Span(Duration::from_millis(250)),
            longest_delay: seconds(5),
            refuse_after: 6,
            forget_after: seconds(60),
            address_burst: 50_000,
            address_rate: 50,
            remembered: 100_000,
        }
    }
}
