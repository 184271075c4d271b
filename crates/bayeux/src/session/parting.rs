//! A session leaves this place and goes on elsewhere, from its snapshot: another node takes it up.
//!
//! What the last reply to a connect brought goes with it, since the next connect proves it wherever it comes: or each connect
//! of a client that polls, and comes to another node each time, would bring the events of the one before again. A session that
//! only rests, or whose process ends, does not say so: its connections may have broken with that reply on the way.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Direct, Output, Session};
use crate::{Carrier, CarrierKind, Message, Offset, Reply};

/// What left with the last reply to a connect on an exchange, and is not proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReply {
    /// Everything up to here has left.
    pub through: Offset,
    /// The id of its connect, as JSON: a connect with the same one is that request again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<str>>,
}

impl Session {
    /// The session is taken up elsewhere, from the snapshot that is made next. Whoever waits here is to come again: this is the
    /// reply to the connect that is held, with nothing but that. Nothing else is to be asked of it afterwards.
    pub fn part(&mut self, now: Instant) -> Option<(Carrier, Box<Reply>)> {
        self.parts = true;
        if let Some(socket) = self.socket {
            // Nobody here will hear how it ends.
            self.take_pongs_back(socket);
        }
        let held = self.connects.held.as_mut()?;
        let carrier = held.carrier;
        held.advice = super::connect::Advice::Retry;
        held.interval = Duration::ZERO;
        // A gap is told elsewhere, where it is known whether that arrived: the snapshot must still say so.
        let gap = self.gap.take();
        let reply = self.answer(now);
        self.gap = gap;
        match reply? {
            Output::Reply(reply) => Some((carrier, reply)),
            Output::Event(_)
            | Output::Direct(_)
            | Output::Ping(_)
            | Output::ReadLog(_)
            | Output::Superseded
            | Output::Refused => None,
        }
    }

    /// Takes what services have answered and nothing has brought to its client: it goes after the session. What has left and is
    /// not proven stays, since it may have arrived.
    pub fn take_directs(&mut self) -> Vec<Direct> {
        self.direct.take_unsent()
    }

    /// Whether a message says what its client cannot know from here. Then another place has sent it: the one that the session was
    /// taken from, which did not answer and did not know yet, or one that has taken it from here. Whoever asks looks where the
    /// session is before it handles the message, and calls [`Session::handle_promised_elsewhere`] if that is here.
    pub fn is_ahead(&self, message: &Message<'_>) -> bool {
        self.agreed.is_ahead(self, message)
    }

    /// Everything up to `last`, where the log ends, may have been sent to the client from elsewhere: it may say so. What nobody can
    /// have sent is still refused.
    pub fn handle_promised_elsewhere(&mut self, last: Offset) {
        self.agreed.promised_elsewhere(last);
    }

    /// What the next connect proves, if it is no recovery.
    pub(super) fn last_reply(&self) -> Option<LastReply> {
        let is_open = self.parts
            && self.was_brought_by(CarrierKind::Exchange)
            && self.window.has_unproven()
            && !self.agreed.acknowledges()
            && !self.connects.reply_lost;
        is_open.then(|| LastReply {
            through: self.window.sent(),
            id: self.connects.telling_id().map(Into::into),
        })
    }

    pub(super) fn take_up_reply(&mut self, reply: &LastReply) {
        self.brought_by = Some(Carrier {
            // No carrier of this place: they are counted from one.
            id: 0,
            kind: CarrierKind::Exchange,
        });
        if let Some(id) = &reply.id {
            self.connects.take_up(id);
        }
    }
}
