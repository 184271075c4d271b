//! HTTP/2.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::values::{Span, seconds};

/// HTTP/2, for clients, and bounds of one connection.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http2 {
    /// Whether it is spoken.
    pub enabled: bool,
    /// Requests at once, held connects among them.
    pub max_concurrent_streams: u32,
    /// Headers of a request, decoded.
    pub header_list: ByteSize,
    /// What is remembered of headers, to compress the next ones.
    pub header_table: ByteSize,
    /// A frame.
    pub frame: ByteSize,
    /// Bytes of one request's body that may be on their way.
    pub stream_window: ByteSize,
    /// Bytes of all bodies together.
    pub connection_window: ByteSize,
    /// Bytes of a response that are taken before the peer has room for them.
    pub send_buffer: ByteSize,
    /// Requests that a client takes back before they were looked at.
    pub resets: usize,
    /// Requests that break the protocol.
    pub errors: usize,
    /// Silence after which a ping asks whether the peer is there.
    pub ping_interval: Span,
    /// How long its answer may take.
    pub ping_timeout: Span,
    /// How long a response may wait for the peer to take some of it.
    pub write_timeout: Span,
}

impl Http2 {
    /// What RFC 9113 allows, and what leaves room to work.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let within = |size: ByteSize, least: u64, most: u64| (least..=most).contains(&size.as_u64());
        let most = u64::from(u32::MAX >> 1);
        for (key, is_good, reason) in [
            (
                "max_concurrent_streams",
                self.max_concurrent_streams > 0,
                "at least 1",
            ),
            (
                "header_list",
                within(self.header_list, 1 << 10, most),
                "from 1 KiB to 2 GiB",
            ),
            (
                "header_table",
                within(self.header_table, 0, most),
                "at most 2 GiB",
            ),
            (
                "frame",
                within(self.frame, 1 << 14, (1 << 24) - 1),
                "from 16 KiB to less than 16 MiB",
            ),
            (
                "stream_window",
                within(self.stream_window, 1 << 10, most),
                "from 1 KiB to less than 2 GiB",
            ),
            (
                "connection_window",
                within(self.connection_window, 1 << 16, most),
                "from 64 KiB to less than 2 GiB",
            ),
            (
                "send_buffer",
                within(self.send_buffer, 1 << 10, most),
                "from 1 KiB to 2 GiB",
            ),
            (
                "ping_interval",
                !self.ping_interval.0.is_zero(),
                "longer than nothing",
            ),
            (
                "ping_timeout",
                !self.ping_timeout.0.is_zero(),
                "longer than nothing",
            ),
            (
                "write_timeout",
                !self.write_timeout.0.is_zero(),
                "longer than nothing",
            ),
        ] {
            if !is_good {
                return Err((key, reason));
            }
        }
        Ok(())
    }
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            enabled: true,
            max_concurrent_streams: 128,
            header_list: ByteSize::kib(16),
            header_table: ByteSize::kib(4),
            frame: ByteSize::kib(16),
            stream_window: ByteSize::kib(64),
            connection_window: ByteSize::kib(256),
            send_buffer: ByteSize::kib(64),
            resets: 20,
            errors: 1000,
            ping_interval: seconds(25),
            ping_timeout: seconds(20),
            write_timeout: seconds(20),
        }
    }
}
