//! How long a session is kept.
//!
//! The clock of CometD: after a connect is answered, `interval + maxInterval`; while one is held, no end; any other
//! message buys at least `maxInterval`. What follows is ours: a session that was connected goes dormant, and only one that
//! never was is forgotten. So a socket that shakes hands and closes leaves nothing behind.

use std::time::Instant;

use super::Session;
use crate::Settings;

#[derive(Debug)]
pub(super) struct Life {
    expires: Option<Instant>,
    connected: bool,
    silent: bool,
    over: bool,
    ending: Option<Ending>,
}

/// The server has had enough of it.
#[derive(Debug)]
struct Ending {
    /// From then on what still waits is not waited for.
    patience: Instant,
    overdue: bool,
}

impl Life {
    pub(super) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            expires: Some(now + settings.max_interval),
            connected: false,
            silent: false,
            over: false,
            ending: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Notes a connect, and says whether there was one before.
    pub(super) fn connected(&mut self) -> bool {
        std::mem::replace(&mut self.connected, true)
    }

    pub(super) fn held(&mut self) {
        self.expires = None;
    }

    pub(super) fn heard(&mut self, now: Instant, settings: &Settings) {
        self.silent = false;
        if let Some(expires) = &mut self.expires {
            *expires = (*expires).max(now + settings.max_interval);
        }
    }

    /// The connect was answered, and the next one may come from `next` on.
    pub(super) fn answered(&mut self, next: Instant, settings: &Settings) {
        self.expires = Some(next + settings.max_interval);
    }

    /// The carrier that kept it alive is gone. An interval that the client was given still counts.
    pub(super) fn left(&mut self, now: Instant, settings: &Settings) {
        let soonest = now + settings.max_interval;
        self.expires = Some(self.expires.map_or(soonest, |expires| expires.max(soonest)));
    }

    pub(super) fn end(&mut self) {
        self.over = true;
    }

    /// The session is to end once it has delivered what it has, and at `patience` whatever it has.
    pub(super) fn end_soon(&mut self, patience: Instant) {
        self.ending.get_or_insert(Ending {
            patience,
            overdue: false,
        });
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.overdue)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.over {
            return None;
        }
        let patience = self.ending.as_ref().filter(|ending| !ending.overdue);
        let ends = [
            self.expires.filter(|_| !self.silent),
            patience.map(|ending| ending.patience),
        ];
        ends.into_iter().flatten().min()
    }

    /// Returns whether the patience of an end is exhausted now.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.expires.is_some_and(|at| at <= now) {
            self.silent = true;
        }
        match &mut self.ending {
            Some(ending) if ending.patience <= now => !std::mem::replace(&mut ending.overdue, true),
            Some(_) | None => false,
        }
    }
}

impl Session {
    /// The client has been silent for `maxInterval`: the session leaves memory.
    pub fn is_silent(&self) -> bool {
        self.life.silent
    }

    /// When it will have been silent for too long, unless it is heard before; nothing while a connect is held.
    pub fn expires(&self) -> Option<Instant> {
        self.life.expires
    }

    /// The client has connected at least once: a record of the session is worth keeping.
    pub fn was_connected(&self) -> bool {
        self.life.connected
    }
}
