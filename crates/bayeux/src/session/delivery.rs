//! Events on their way through a session, and everything that is polled for a carrier.

use std::sync::Arc;
use std::time::Instant;

use super::window::Pushed;
use super::{Output, Session};
use crate::{Carrier, CarrierKind, Delivery, Offset};

/// What became of an event that dispatch handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// A carrier is waiting for it: wake its task.
    Wake,
    /// It waits for a carrier.
    Queued,
    /// The queue was full and is dropped: this event and what follows will be read from the log. Wake its task, if there is one.
    Overflowed,
    /// The session was behind before: the event will be read from the log.
    Behind,
    /// Not subscribed, or seen before.
    NotWanted,
    /// The session has ended.
    Gone,
}

/// What a read of the log brought.
#[derive(Debug)]
pub struct PageRead {
    /// The offset after which was read.
    pub after: Offset,
    /// The events, in order.
    pub events: Vec<Arc<Delivery>>,
    /// Nothing is missing from `events` up to here.
    pub through: Offset,
    /// Events after `after` may have been dropped: the first offset still there.
    pub gap: Option<Offset>,
}

/// Events wait that are in no hurry, and nothing else does.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    /// They wait until then.
    until: Option<Instant>,
    /// They have waited long enough, whenever somebody comes for them.
    due: bool,
}

impl Lazy {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.filter(|_| !self.due)
    }

    fn handle_timeout(&mut self, now: Instant) -> bool {
        let becomes_due = self.deadline().is_some_and(|until| until <= now);
        self.due |= becomes_due;
        becomes_due
    }
}

impl Handover {
    /// A task may be waiting for this.
    pub fn wakes(self) -> bool {
        matches!(self, Self::Wake | Self::Overflowed)
    }
}

impl Session {
    /// Takes an event that was routed to this session.
    pub fn handle_event(&mut self, event: &Arc<Delivery>) -> Handover {
        if self.life.is_over() || self.life.is_ending() {
            return Handover::Gone;
        }
        if !self.wants(event) {
            return Handover::NotWanted;
        }
        match self.window.push(event, &self.settings.limits) {
            Pushed::Known => Handover::NotWanted,
            Pushed::Overflowed => Handover::Overflowed,
            Pushed::Behind if self.is_waited_for() => Handover::Wake,
            Pushed::Behind => Handover::Behind,
            // The first lazy one wakes the task only for the clock to be set.
            Pushed::Queued if self.is_waited_for() && !self.waits_already(event) => Handover::Wake,
            Pushed::Queued => Handover::Queued,
        }
    }

    /// Every event up to `offset` that concerns this session has been handed to it. Call it before polling, so that replies
    /// and snapshots say how far the log has come even when nothing happens.
    pub fn handle_progress(&mut self, offset: Offset) {
        if self.window.is_live() {
            self.window.pass(offset);
        }
    }

    /// Events up to `offset` may have passed this session by while it was not routed: they will be read from the log.
    pub fn handle_missed(&mut self, offset: Offset) {
        self.window.missed(offset);
    }

    /// The server wants held connects answered now, with the advice to connect again at once: perhaps to another node.
    pub fn handle_release(&mut self) {
        self.connects.send_elsewhere();
    }

    /// Takes what [`Output::ReadLog`] asked for.
    pub fn handle_read(&mut self, carrier: Carrier, page: PageRead) {
        if self.reading_for != Some(carrier) {
            return;
        }
        self.reading_for = None;
        if let Some(first) = page.gap {
            self.read_found_gap(first, page.after);
        }
        let wanted = page
            .events
            .into_iter()
            .filter(|event| self.wants(event))
            .collect();
        self.window
            .fill(page.after, wanted, page.through, &self.settings.limits);
    }

    /// What to do for this carrier now. Drain it after every `handle_*`; write what it says before polling again.
    pub fn poll_output(&mut self, now: Instant, carrier: Carrier) -> Option<Output> {
        if let Some(failure) = self.denial(now) {
            return self
                .poll_superseded(carrier)
                .or_else(|| self.poll_denied(now, carrier, &failure));
        }
        let output = if self.only_pushes(carrier) {
            self.poll_push(now, carrier)
        } else {
            self.poll_superseded(carrier)
                .or_else(|| self.poll_greeting(now, carrier))
                .or_else(|| self.poll_connect(now, carrier))
                .or_else(|| self.poll_direct(carrier))
                .or_else(|| self.poll_push(now, carrier))
        };
        let output = output.or_else(|| self.poll_proof(now, carrier))?;
        if matches!(output, Output::Event(_) | Output::Direct(_)) {
            self.stirred.by_server(now);
        }
        Some(output)
    }

    /// Whether events are all that this carrier may get, as most of the time: then nothing else is asked.
    fn only_pushes(&self, carrier: Carrier) -> bool {
        self.socket == Some(carrier)
            && self.connects.are_quiet()
            && self.direct.is_empty()
            && self.greeting.is_none()
            && !self.has_untold_gap()
            && !self.life.is_over()
            && !self.life.is_ending()
            && !self.brings_events(carrier)
    }

    /// When to call [`Session::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.connects.deadline(),
            self.life.deadline(),
            self.proof.deadline(),
            self.lazy.deadline(),
            self.credentials.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed. Returns whether a carrier has something to do.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        self.life.handle_timeout(now)
            | self.handle_connect_timeout(now)
            | self.proof.handle_timeout(now)
            | self.lazy.handle_timeout(now)
            | self.handle_credentials_timeout(now)
    }

    /// Whether everything that waits is in no hurry yet. Sets the clock for the first of it.
    pub(super) fn may_wait(&mut self, now: Instant) -> bool {
        if self.life.is_ending() {
            return false;
        }
        let Some(lazy) = self.window.lazy() else {
            self.lazy = Lazy::default();
            return false;
        };
        let until = self.lazy.until.map_or(now + lazy, |until| until.min(now + lazy));
        self.lazy.until = Some(until);
        now < until && !self.lazy.due
    }

    /// The clock is set for lazy events, and this one changes nothing about it.
    fn waits_already(&self, event: &Delivery) -> bool {
        event.marks().lazy.is_some() && self.lazy.until.is_some() && self.window.lazy() == event.marks().lazy
    }

    pub(super) fn read_for(&mut self, carrier: Carrier, after: Offset) -> Option<Output> {
        if self.reading_for.is_some() {
            return None;
        }
        self.reading_for = Some(carrier);
        Some(Output::ReadLog(after))
    }

    fn poll_push(&mut self, now: Instant, carrier: Carrier) -> Option<Output> {
        if self.socket != Some(carrier) || self.brings_events(carrier) || self.life.is_over() {
            return None;
        }
        if self.awaits_connect() {
            return None;
        }
        // A client that lost something hears of it before it gets what came later.
        if self.has_untold_gap() && self.connects.is_held() {
            self.connects.release();
            return None;
        }
        if self.may_wait(now) {
            return None;
        }
        if self.window.has_unsent() {
            self.note_push();
        }
        if let Some(event) = self.window.take(usize::MAX) {
            self.brought_by = Some(carrier);
            return Some(Output::Event(event));
        }
        let after = self.window.wants_read()?;
        self.read_for(carrier, after)
    }

    /// An exchange brought events, and only the next connect says whether they arrived: a pong of a socket would prove them
    /// without having seen them.
    pub(super) fn awaits_connect(&self) -> bool {
        self.was_brought_by(CarrierKind::Exchange) && self.window.has_unproven()
    }

    fn wants(&self, event: &Delivery) -> bool {
        let listens = self.subscriptions.iter().any(|subscription| {
            subscription.began < event.offset()
                && subscription.pattern.matches(event.channel())
                && (!subscription.guarded || self.may_have(event))
        });
        listens && event.marks().not_to.as_ref() != Some(&self.id)
    }

    fn may_have(&self, event: &Delivery) -> bool {
        let rules = &self.settings.rules;
        rules.may_subscribe(&self.rights, event.channel()).is_ok()
    }

    /// Events leave only with the replies to connects, on a socket too, and are acknowledged with them: an answer must arrive
    /// as a whole or not at all.
    pub fn delivers_with_connect(&self) -> bool {
        self.agreed.delivers_with_connect()
    }

    /// A connect is held, or a socket is open: somebody is there.
    pub fn is_attended(&self) -> bool {
        self.connects.is_held() || self.socket.is_some()
    }

    /// A connect waits on a carrier of this kind.
    pub fn holds_connect_on(&self, kind: CarrierKind) -> bool {
        self.connects.held_on() == Some(kind)
    }

    /// A task is there that could send something now.
    pub(super) fn is_waited_for(&self) -> bool {
        self.connects.is_held() || (self.socket.is_some() && !self.agreed.delivers_with_connect())
    }
}
