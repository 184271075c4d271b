//! Bounds on what a client or publisher can cost.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::Network;
use super::values::{Span, seconds};

/// Bounds on what a client or publisher can cost.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A client's request body, and a WebSocket message unless `websocket.max_message` says otherwise.
    pub request_body: ByteSize,
    /// A publisher's request body.
    pub publish_body: ByteSize,
    /// Events in one publish.
    pub publish_events: usize,
    /// Time to send a request body.
    pub body_timeout: Span,
    /// Time to send a request's headers; also how long a kept-alive connection may idle.
    pub header_timeout: Span,
    /// Headers of a request.
    pub headers: usize,
    /// Length of a request's headers, with the request line.
    pub header_bytes: ByteSize,
    /// Messages in one request.
    pub messages: usize,
    /// Nesting of a message's data.
    pub json_depth: usize,
    /// Length of a channel.
    pub channel_bytes: usize,
    /// Segments of a channel.
    pub channel_segments: usize,
    /// Length of a message id or event id.
    pub id_bytes: usize,
    /// Subscriptions of one session.
    pub subscriptions: usize,
    /// Events of one session in memory.
    pub queue_events: usize,
    /// Bytes of events of one session in memory.
    pub queue_bytes: ByteSize,
    /// Bytes of events in one answer.
    pub answer_bytes: ByteSize,
    /// Calls of one session that are under way, or whose answers wait for it.
    pub direct_messages: usize,
    /// Bytes of answers that wait for one session.
    pub direct_bytes: ByteSize,
    /// Length of a service's answer.
    pub service_answer: ByteSize,
    /// Connections of both listeners.
    pub connections: usize,
    /// Sessions of one user in memory; 0 is any number.
    pub sessions_per_user: usize,
    /// Sessions in memory that were opened from one address; 0 is any number.
    pub sessions_per_address: usize,
    /// Handshakes a second from one address; 0 is any number.
    pub handshakes_per_address: u32,
    /// Handshakes at once from one address.
    pub handshake_burst: u32,
    /// Events a second of one publisher; 0 is any number.
    pub publishes_per_publisher: u32,
    /// Events at once of one publisher.
    pub publish_burst: u32,
    /// Networks whose addresses are not counted.
    pub exempt_networks: Vec<Network>,
    /// Proxies that are believed about whom they speak for (`X-Forwarded-For`).
    pub trusted_proxies: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_body: ByteSize::kib(64),
            publish_body: ByteSize::kib(256),
            publish_events: 512,
            body_timeout: seconds(15),
            header_timeout: seconds(75),
            headers: 100,
            header_bytes: ByteSize::kib(16),
            messages: 64,
            json_depth: 32,
            channel_bytes: 256,
            channel_segments: 16,
            id_bytes: 128,
            subscriptions: 64,
            queue_events: 1000,
            queue_bytes: ByteSize::mib(1),
            answer_bytes: ByteSize::kib(512),
            direct_messages: 32,
            direct_bytes: ByteSize::kib(256),
            service_answer: ByteSize::kib(60),
            connections: 1_000_000,
            sessions_per_user: 20,
            sessions_per_address: 200,
            handshakes_per_address: 10,
            handshake_burst: 100,
            publishes_per_publisher: 0,
            publish_burst: 1000,
            exempt_networks: vec![Network::LOOPBACK_V4, Network::LOOPBACK_V6],
            trusted_proxies: Vec::new(),
        }
    }
}

impl Limits {
    pub(super) fn check_rates(&self) -> Result<(), (&'static str, &'static str)> {
        if self.handshakes_per_address > 0 && self.handshake_burst == 0 {
            return Err((
                "handshake_burst",
                "at least 1, or nobody could come; handshakes_per_address = 0 is any number",
            ));
        }
        if self.publishes_per_publisher > 0 && (self.publish_burst as usize) < self.publish_events {
            return Err((
                "publish_burst",
                "at least limits.publish_events, or a whole publish could never be taken",
            ));
        }
        Ok(())
    }
}
