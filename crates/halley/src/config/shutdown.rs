//! How the broker ends.

use serde::{Deserialize, Serialize};

use super::values::{Span, seconds};

/// How the broker ends.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long it takes to let all clients go.
    pub drain: Span,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain: seconds(10) }
    }
}
