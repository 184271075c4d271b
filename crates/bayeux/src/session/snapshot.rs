//! What must survive of a session for another process to go on with it.

use serde::{Deserialize, Serialize};

use super::LastReply;
use crate::{ChannelPattern, Offset};

/// A subscription, and where in the log it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// What was asked for.
    pub pattern: ChannelPattern,
    /// Events after this offset are wanted.
    pub began: Offset,
    /// Older ones are wanted too, after this offset, as soon as nothing else is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Offset>,
    /// The pattern is wider than what the client may have: each event is looked at.
    #[serde(skip)]
    pub guarded: bool,
    /// Where it began before the session went back for another one, as long as its client may not have come to what it got.
    #[serde(skip)]
    pub before: Option<Offset>,
}

impl Subscription {
    /// A subscription to what comes after `began`.
    pub fn new(pattern: ChannelPattern, began: Offset) -> Self {
        Self {
            pattern,
            began,
            replay: None,
            guarded: false,
            before: None,
        }
    }
}

/// A session at rest: a cursor over the log, and what it listens to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What it listens to.
    pub subscriptions: Vec<Subscription>,
    /// Everything up to here has arrived at the client, or was never meant for it.
    pub cursor: Offset,
    /// The names of the extensions that were agreed at the handshake.
    pub extensions: Vec<Box<str>>,
    /// How often the numbers of its replies have begun anew: it has gone back in the log to replay, or has subscribed while it was
    /// contested.
    #[serde(default)]
    pub replays: u8,
    /// A number from before the last time counts up to here.
    #[serde(default, skip_serializing_if = "is_start")]
    pub carried: Offset,
    /// Whoever had it before was not heard to let go, and may still answer its client without knowing what happens here.
    #[serde(default, skip_serializing_if = "is_false")]
    pub contested: bool,
    /// Its client has not connected yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fresh: bool,
    /// What the last reply brought after the cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<LastReply>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_start(offset: &Offset) -> bool {
    *offset == Offset::START
}
