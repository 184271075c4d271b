//! Events leave only with connect replies, over a WebSocket too: `"ext":{"metaConnectDeliverOnly":true}` in the handshake,
//! or the configuration for all sessions.
//!
//! It makes the order total, and costs a round trip for each delivery. CometD has it as a parameter, and as a property of a
//! session that only code in the server can set. A connect on the same socket proves what the reply before it brought.

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Agreement, Extension};
use crate::Settings;

pub(super) struct MetaConnectDeliverOnly;

impl Extension for MetaConnectDeliverOnly {
    fn name(&self) -> &'static str {
        "metaConnectDeliverOnly"
    }

    fn negotiate(&self, settings: &Settings, asked: Option<&RawValue>) -> Agreement {
        if asked.is_some_and(|asked| asked.get() == "true") {
            Agreement::Said(Value::Bool(true))
        } else if settings.meta_connect_deliver_only {
            Agreement::Silent
        } else {
            Agreement::No
        }
    }

    fn delivers_with_connect(&self) -> bool {
        true
    }
}
