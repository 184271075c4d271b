//! What arrived at a client that does not acknowledge, over a socket: a ping carries the offset, the pong proves it.
//!
//! Browsers and libraries answer a ping by themselves and in order, so the pong says that everything before the ping was
//! received. At most one ping is outstanding, and there is at most one in [`crate::Settings::proof_interval`] unless much is
//! unproven: a client that catches up, and breaks again within that time, must not have to do it all again.
//!
//! Received by the browser, that is. Its page comes to it later, unless the page closes the socket first, as when it is loaded
//! again or gave up waiting: then what the page has not come to is gone. So a close that the client begins takes back what
//! only pongs have proven. A connect that follows a reply on the same socket comes from the page. (A page that hangs for so
//! long that its session is put to rest is believed to have come to what its browser had.)

use std::time::Instant;

use super::{Output, Session};
use crate::{Carrier, CarrierKind, Offset};

/// So many events are worth a ping of their own.
const MUCH: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Proof {
    outstanding: Option<Offset>,
    /// After here come the events that were pushed and that no connect has proven.
    unapplied: Option<Offset>,
    /// After here, those of them that were pushed since a connect was answered.
    since_answer: Option<Offset>,
    /// Where that was.
    answered: Option<Carrier>,
    /// The socket that was left for another one before its peer closed it, and what was unapplied then.
    left: Option<(Carrier, Offset)>,
    /// No ping before this.
    not_before: Option<Instant>,
    /// Waiting for `not_before` to send the next one.
    waiting: bool,
    /// A cursor moved and is to be written down at this time.
    checkpoint: Option<Instant>,
    checkpoint_due: bool,
    /// When that was last done.
    written: Option<Instant>,
}

impl Proof {
    pub(super) fn unapplied(&self) -> Option<Offset> {
        self.unapplied
    }

    /// Events are going to be pushed to another socket. The peer's close of this one may still be on its way.
    pub(super) fn leave(&mut self, socket: Carrier) {
        self.left = self.unapplied.map(|after| (socket, after));
    }

    /// What was asked or said on a socket is of no concern now. What is to be written down stays so.
    pub(super) fn forget_ping(&mut self) {
        self.outstanding = None;
        self.answered = None;
        self.not_before = None;
        self.waiting = false;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let ping = self.not_before.filter(|_| self.waiting);
        [ping, self.checkpoint.filter(|_| !self.checkpoint_due)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns whether a ping is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.checkpoint.is_some_and(|at| at <= now) {
            self.checkpoint_due = true;
            self.written = Some(now);
        }
        if self.waiting && self.not_before.is_some_and(|at| at <= now) {
            self.waiting = false;
            return true;
        }
        false
    }
}

impl Session {
    /// A pong came back on a socket with the offset of its ping.
    pub fn handle_pong(&mut self, now: Instant, carrier: Carrier, offset: Offset) {
        if self.socket == Some(carrier) && self.proof.outstanding == Some(offset) {
            self.proof.outstanding = None;
            self.direct.prove_asked(carrier);
            let before = self.window.proven();
            self.window.prove(offset);
            if self.window.proven() > before {
                self.note_proof(now);
            }
            self.begin_replays();
        }
    }

    /// The peer of a socket has answered our close: like a pong, after everything that we sent before.
    pub fn handle_close_answered(&mut self, now: Instant, carrier: Carrier) {
        if self.socket != Some(carrier) || self.agreed.acknowledges() {
            return;
        }
        self.direct.prove_all(carrier);
        if self.brought_by == Some(carrier) {
            self.prove_sent(now);
        }
    }

    /// The peer has closed a socket, and not to answer our close. The carrier is gone with it: returns whether another one may
    /// have something to do now.
    pub fn handle_close(&mut self, now: Instant, carrier: Carrier) -> bool {
        let was_further = self.take_pongs_back(carrier);
        self.handle_carrier_lost(now, carrier) || was_further
    }

    /// Returns whether there were any.
    pub(super) fn take_pongs_back(&mut self, carrier: Carrier) -> bool {
        let left = self.proof.left.take_if(|(left, _)| *left == carrier);
        let after = match left {
            // A new page may be quicker than the close of the old one.
            Some((_, after)) => Some(after),
            None => self.proof.unapplied.filter(|_| self.socket == Some(carrier)),
        };
        let Some(after) = after.filter(|_| !self.life.is_over()) else {
            return false;
        };
        let proven = self.window.proven();
        if !self.begin_again() && after >= proven {
            return false;
        }
        self.window.go_back(after.min(proven));
        // What was written down of the cursor says more than is true.
        self.record_changed = true;
        if left.is_some() {
            self.note_way_back();
        }
        true
    }

    /// A way back in the log has let subscriptions begin where they were, which is further than their client has come. Returns
    /// whether there was one.
    fn begin_again(&mut self) -> bool {
        let mut was_further = false;
        for subscription in &mut self.subscriptions {
            if let Some(before) = subscription.before.take() {
                subscription.began = before;
                was_further = true;
            }
        }
        was_further
    }

    /// An event is about to be pushed.
    pub(super) fn note_push(&mut self) {
        let after = self.window.sent();
        self.proof.unapplied.get_or_insert(after);
        self.proof.since_answer.get_or_insert(after);
    }

    /// A connect is answered on this carrier.
    pub(super) fn note_answer(&mut self, carrier: Carrier) {
        self.proof.answered = Some(carrier);
        self.proof.since_answer = None;
    }

    /// A connect came: its client has come to the reply to the last one, and to everything before.
    pub(super) fn note_connect(&mut self, carrier: Carrier) {
        let answered = self.proof.answered.take();
        if answered.is_some_and(|answered| answered == carrier || answered.kind == CarrierKind::Exchange) {
            self.proof.unapplied = self.proof.since_answer;
        }
        if self.proof.unapplied.is_none() {
            for subscription in &mut self.subscriptions {
                subscription.before = None;
            }
        }
    }

    /// The window went back, further than its client has come.
    pub(super) fn note_way_back(&mut self) {
        let proven = self.window.proven();
        self.proof.forget_ping();
        self.proof.unapplied = self.proof.unapplied.map(|after| after.min(proven));
        self.proof.since_answer = self.proof.since_answer.map(|after| after.min(proven));
    }

    /// The cursor of a session that does not acknowledge has moved and should be written down.
    pub fn poll_checkpoint(&mut self) -> Option<Offset> {
        if !std::mem::take(&mut self.proof.checkpoint_due) {
            return None;
        }
        self.proof.checkpoint = None;
        Some(self.cursor())
    }

    pub(super) fn prove_sent(&mut self, now: Instant) {
        if self.window.has_unproven() {
            self.window.prove(self.window.sent());
            self.note_proof(now);
        }
    }

    pub(super) fn poll_proof(&mut self, now: Instant, carrier: Carrier) -> Option<Output> {
        let plain = !self.agreed.delivers_with_connect();
        if self.socket != Some(carrier)
            || !plain
            || self.life.is_over()
            || self.awaits_connect()
            || self.proof.outstanding.is_some()
            || !(self.window.has_unproven() || self.direct.has_unasked(carrier))
        {
            return None;
        }
        let is_much = self.window.unproven() >= MUCH;
        if !is_much && self.proof.not_before.is_some_and(|at| now < at) {
            self.proof.waiting = true;
            return None;
        }
        self.proof.not_before = Some(now + self.settings.proof_interval);
        self.proof.outstanding = Some(self.window.sent());
        self.direct.ask(carrier);
        Some(Output::Ping(self.window.sent()))
    }

    fn note_proof(&mut self, now: Instant) {
        if self.proof.checkpoint.is_none() {
            // The first one at once: a session that is taken up again and again would never come to its second.
            let written = self.proof.written;
            let due = written.map_or(now, |written| written + self.settings.checkpoint_interval);
            self.proof.checkpoint = Some(due.max(now));
        }
    }
}
