//! CometD's acknowledge extension, with the log offset as its number.
//!
//! The client repeats in each connect the number of the last reply that it saw, without ever interpreting it. Our number
//! is the offset up to which that reply brought everything, so a connect says exactly where its client stands, to this
//! process or to another. Everything above the number is sent again; a number that was never sent, or below one that was
//! already acknowledged, is refused and discards nothing. Where several nodes share the log, another one may have sent it: see
//! [`Session::is_ahead`].

use std::cmp::Ordering;
use std::time::Instant;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Agreed, Agreement, Extension};
use crate::{Failure, Message, Offset, Reply, Session, Settings, Target};

pub(super) struct Acknowledge;

const INVALID: Failure = Failure::FieldInvalid("ext.ack");

impl Extension for Acknowledge {
    fn name(&self) -> &'static str {
        "ack"
    }

    fn negotiate(&self, _: &Settings, asked: Option<&RawValue>) -> Agreement {
        if asked.is_some_and(|asked| asked.get() == "true") {
            Agreement::Said(Value::Bool(true))
        } else {
            Agreement::No
        }
    }

    fn delivers_with_connect(&self) -> bool {
        true
    }

    fn acknowledges(&self) -> bool {
        true
    }

    fn incoming(
        &self,
        session: &mut Session,
        _: Instant,
        message: &Message<'_>,
        value: Option<&RawValue>,
    ) -> Result<(), Failure> {
        let Some((replays, offset)) = acknowledged(message, value)? else {
            return Ok(());
        };
        match replays.cmp(&session.agreed.replays) {
            Ordering::Less => {
                acknowledge_earlier(session, replays, offset);
                return Ok(());
            }
            Ordering::Equal => {}
            Ordering::Greater => return Err(INVALID),
        }
        if let Some(ends) = session.agreed.resumed
            && (session.has_gap() || offset > ends.last)
        {
            // A number of another log, or of a part of this one that was lost: it says nothing about what is here.
            session.lost(ends);
            return Ok(());
        }
        match session.told_of_gap_with() {
            // A number that the client had before does not show that it has this reply.
            Some(number) if offset == number && number > session.agreed.acknowledged => {
                session.knows_of_gap()
            }
            // The reply did not arrive. What the client says is as old as it was when the gap was found.
            Some(_) => return Ok(()),
            None => {}
        }
        if offset > session.agreed.promised || offset < session.agreed.acknowledged {
            return Err(INVALID);
        }
        session.agreed.acknowledged = offset;
        session.window.prove(offset);
        Ok(())
    }

    /// A number that is larger than any that was said here: whoever had the session before may still have answered, or another
    /// place has it by now.
    fn is_ahead(&self, session: &Session, message: &Message<'_>, value: Option<&RawValue>) -> bool {
        let Ok(Some((replays, offset))) = acknowledged(message, value) else {
            return false;
        };
        match replays.cmp(&session.agreed.replays) {
            Ordering::Less => false,
            Ordering::Equal => offset > session.agreed.promised,
            Ordering::Greater => true,
        }
    }

    fn outgoing(&self, session: &mut Session, _: Instant, to: &Target, reply: &mut Reply) -> Option<Value> {
        if !reply.is_successful() {
            return None;
        }
        match to {
            Target::Connect => Some(number(session).into()),
            // The events that leave with a handshake's reply belong to a number, too.
            Target::Handshake if reply.announces() => {
                Some(json!({ "enabled": true, "batch": number(session) }))
            }
            Target::Handshake
            | Target::Subscribe
            | Target::Unsubscribe
            | Target::Disconnect
            | Target::Service(_)
            | Target::Publish(_) => None,
        }
    }
}

/// A number from before the last time that they began anew. When the session had gone back to replay, the client has nothing of what
/// came since. When it had subscribed, the number may be of a place that does not know, and counts up to where that began.
fn acknowledge_earlier(session: &mut Session, replays: u8, offset: Offset) {
    let offset = offset.min(session.agreed.carried);
    let is_of_the_time_before = replays + 1 == session.agreed.replays;
    if is_of_the_time_before && offset > session.agreed.acknowledged && !session.has_gap() {
        session.agreed.acknowledged = offset;
        session.window.prove(offset);
    }
}

/// The number of a reply: how far it has brought the client.
fn number(session: &mut Session) -> u64 {
    let sent = session.window.sent();
    let agreed: &mut Agreed = &mut session.agreed;
    agreed.resumed = None;
    agreed.promised = agreed.promised.max(sent);
    (u64::from(agreed.replays) << OFFSET_BITS) | sent.0
}

/// What a connect acknowledges, if it does: how often the session had gone back, and the offset.
fn acknowledged(message: &Message<'_>, value: Option<&RawValue>) -> Result<Option<(u8, Offset)>, Failure> {
    let Some(value) = value.filter(|_| message.target == Target::Connect) else {
        return Ok(None);
    };
    let number: i64 = value.get().parse().map_err(|_| INVALID)?;
    // 0, and -1 of very old clients: nothing was received yet.
    let Ok(number @ 1..) = u64::try_from(number) else {
        return Ok(None);
    };
    take_apart(number).ok_or(INVALID).map(Some)
}

fn take_apart(number: u64) -> Option<(u8, Offset)> {
    let replays = u8::try_from(number >> OFFSET_BITS).ok()?;
    Some((replays, Offset(number & Offset::MAX.0)))
}

/// Below them is the offset, above how often the session has gone back: a number that is at most 2^53 in all.
const OFFSET_BITS: u32 = 45;
