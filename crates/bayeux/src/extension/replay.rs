//! Replay in Salesforce's wire form: a subscribe says from where in the log it wants events.
//!
//! `"ext":{"replay":{"/channel":-1}}`: -1 for new events only (as without it), -2 for all that the log has, or the offset
//! after which to begin; as numbers or as texts. Clients that look for an offer find `"replay":true` in the handshake's
//! reply, when they asked for it or when some channel carries offsets. An offset that the log does not have, from before
//! retention or of another log, is answered as the configuration says, never silently: [`crate::StaleReplay`].

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Agreement, Extension};
use crate::message::text;
use crate::{Failure, Message, Settings};

pub(super) struct Replay;

/// From where a client wants events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Only new ones.
    New,
    /// All that there are.
    All,
    /// Those after this offset.
    After(i64),
}

const INVALID: Failure = Failure::FieldInvalid("ext.replay");

impl Extension for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn negotiate(&self, settings: &Settings, asked: Option<&RawValue>) -> Agreement {
        let asks = asked.is_some_and(|asked| !matches!(asked.get(), "false" | "null"));
        if settings.replay && (asks || settings.rules.offers_replay()) {
            Agreement::Said(Value::Bool(true))
        } else {
            Agreement::No
        }
    }
}

impl Wish {
    /// What a message wishes for one of its channels, named as the message names it.
    pub(crate) fn of(message: &Message<'_>, channel: &str) -> Result<Self, Failure> {
        let Some(replay) = message
            .ext
            .get("replay")
            .filter(|replay| replay.get().starts_with('{'))
        else {
            return Ok(Self::New);
        };
        let wishes: HashMap<Cow<'_, str>, &RawValue> =
            serde_json::from_str(replay.get()).map_err(|_| INVALID)?;
        wishes
            .get(channel)
            .map_or(Ok(Self::New), |wish| Self::parse(wish))
    }

    fn parse(raw: &RawValue) -> Result<Self, Failure> {
        let digits = text(raw).unwrap_or(Cow::Borrowed(raw.get()));
        match digits.trim().parse().map_err(|_| INVALID)? {
            -1 => Ok(Self::New),
            -2 => Ok(Self::All),
            after @ 0.. => Ok(Self::After(after)),
            _ => Err(INVALID),
        }
    }
}
