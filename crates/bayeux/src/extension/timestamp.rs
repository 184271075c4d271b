//! CometD's timestamp extension: every message says when it was sent; an event, when it was stored.
//!
//! The configuration switches it on, for all sessions. Events get theirs where they are encoded, once for all receivers.

use std::time::Instant;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Agreement, Extension};
use crate::{Reply, Session, Settings, Target, wall};

pub(super) struct Timestamp;

impl Extension for Timestamp {
    fn name(&self) -> &'static str {
        "timestamp"
    }

    fn negotiate(&self, settings: &Settings, _: Option<&RawValue>) -> Agreement {
        if settings.timestamps {
            Agreement::Silent
        } else {
            Agreement::No
        }
    }

    fn outgoing(&self, _: &mut Session, now: Instant, _: &Target, reply: &mut Reply) -> Option<Value> {
        let received = reply.received.as_ref()?;
        reply.timestamp = Some(wall::timestamp(received.wall_at(now)));
        None
    }
}
