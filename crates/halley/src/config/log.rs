//! The event log.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::values::{Span, seconds};

/// The event log.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `file:PATH` or `memory:`.
    pub url: String,
    /// Events are kept for at least this long.
    pub retention: Span,
    /// The oldest events are dropped when all of them take more than this.
    pub retention_bytes: ByteSize,
    /// How long a repeated event id is recognised.
    pub dedup_window: Span,
    /// Publishes are refused with 507 while the disk has less free space than this.
    pub min_free: ByteSize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            url: "file:./halley-data".to_owned(),
            retention: seconds(24 * 3600),
            retention_bytes: ByteSize::gib(8),
            dedup_window: seconds(900),
            min_free: ByteSize::mib(256),
        }
    }
}
