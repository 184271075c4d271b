//! CometD's time synchronisation: the client learns how far its clock is off, and how long messages take.
//!
//! A message says the client's time `tc`, and the lag `l` and offset `o` that it knows so far. Its reply says when it was
//! received, `ts`, how long it was processed, `p` (a connect that is held, while it was held), and how far off the client's
//! idea was, `a`; all in milliseconds. Once the idea is good enough the reply says nothing, to save bytes. Old clients send
//! no `l` and are always answered, without `a`.

use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Agreement, Extension};
use crate::reply::Received;
use crate::{Reply, Session, Settings, Target};

pub(super) struct TimeSynchronisation;

/// What the client said.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Timesync {
    tc: i64,
    l: Option<i64>,
    #[serde(default)]
    o: i64,
}

/// A client whose idea is at most this far off is not corrected, in milliseconds (CometD: `accuracyTarget`).
const ACCURACY: i64 = 25;

impl Extension for TimeSynchronisation {
    fn name(&self) -> &'static str {
        "timesync"
    }

    fn negotiate(&self, _: &Settings, _: Option<&RawValue>) -> Agreement {
        Agreement::Silent
    }

    /// What is no measurement is ignored: the message means something without it.
    fn receiving(&self, value: &RawValue, received: &mut Received) {
        received.timesync = serde_json::from_str(value.get()).ok();
    }

    fn outgoing(&self, _: &mut Session, now: Instant, _: &Target, reply: &mut Reply) -> Option<Value> {
        let received = reply.received.as_ref()?;
        let Timesync { tc, l, o } = received.timesync?;
        let ts = i64::try_from(received.wall).unwrap_or(i64::MAX);
        let p = u64::try_from(now.saturating_duration_since(received.at).as_millis()).unwrap_or(u64::MAX);
        let Some(lag) = l else {
            return Some(json!({ "tc": tc, "ts": ts, "p": p }));
        };
        let a = tc.saturating_add(o).saturating_add(lag).saturating_sub(ts);
        (lag == 0 || a.saturating_abs() >= ACCURACY).then(|| json!({ "tc": tc, "ts": ts, "p": p, "a": a }))
    }
}
