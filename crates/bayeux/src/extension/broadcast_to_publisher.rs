//! A session that does not want back what its client publishes: `"ext":{"broadcastToPublisher":false}` in the handshake.
//!
//! CometD has this as a property of a session that only code in the server can set. A rule of a channel says it for everyone.

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Agreement, Extension};
use crate::Settings;

pub(super) struct BroadcastToPublisher;

impl Extension for BroadcastToPublisher {
    fn name(&self) -> &'static str {
        "broadcastToPublisher"
    }

    fn negotiate(&self, _: &Settings, asked: Option<&RawValue>) -> Agreement {
        if asked.is_some_and(|asked| asked.get() == "false") {
            Agreement::Said(Value::Bool(false))
        } else {
            Agreement::No
        }
    }

    fn echoes(&self) -> bool {
        false
    }
}
