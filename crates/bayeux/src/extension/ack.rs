//! CometD's acknowledge extension, with the log offset as its number.
//!
//! The client repeats in each connect the number of the last reply that it saw, without ever interpreting it. Our number
//! is the offset up to which that reply brought everything, so a connect says exactly where its client stands, to this
//! process or to another. Everything above the number is sent again; a number that was never sent, or below one that was
//! already acknowledged, is refused and discards nothing.

use serde_json::Value;
use serde_json::value::RawValue;

use super::Extension;
use crate::{Failure, Message, Offset, Session, Target};

pub(super) struct Acknowledge;

const INVALID: Failure = Failure::FieldInvalid("ext.ack");

impl Extension for Acknowledge {
    fn name(&self) -> &'static str {
        "ack"
    }

    fn negotiate(&self, asked: &RawValue) -> Option<Value> {
        (asked.get() == "true").then_some(Value::Bool(true))
    }

    fn delivers_with_connect(&self) -> bool {
        true
    }

    fn incoming(
        &self,
        session: &mut Session,
        message: &Message<'_>,
        value: Option<&RawValue>,
    ) -> Result<(), Failure> {
        if message.target != Target::Connect {
            return Ok(());
        }
        let Some(value) = value else { return Ok(()) };
        let number: i64 = value.get().parse().map_err(|_| INVALID)?;
        // 0, and -1 of very old clients: nothing was received yet.
        let Ok(number @ 1..) = u64::try_from(number) else {
            return Ok(());
        };
        let offset = Offset(number);
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

    fn outgoing(&self, session: &mut Session, _to: &Target) -> Option<Value> {
        session.agreed.resumed = None;
        session.agreed.promised = session.agreed.promised.max(session.window.sent());
        Some(session.window.sent().0.into())
    }
}
