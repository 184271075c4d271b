//! Time, and sessions that come and go with it.

use std::sync::Arc;
use std::time::Duration;

use bayeux::{ClientId, Session};

use super::{Said, Server};

impl Server {
    /// Lets time pass; each timeout is handled at its own moment.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        for round in 0.. {
            assert!(round < 1000, "a timeout that is handled comes again");
            let timeouts = self
                .sessions
                .iter()
                .filter_map(|(id, session)| Some((session.poll_timeout()?, id.clone())));
            let Some((at, id)) = timeouts.min().filter(|(at, _)| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            let session = self.sessions.get_mut(&id).expect("it has a timeout");
            let wake = session.handle_timeout(self.now);
            let silent = session.is_silent();
            let connected = session.was_connected() && !session.is_ending();
            if wake {
                self.drain(&id);
            }
            self.write_down();
            if silent {
                self.put_to_rest(&id);
                self.say(&id, if connected { "dormant" } else { "gone" }.to_owned());
            }
        }
        self.now = until;
    }

    /// Takes up a session that is at rest.
    pub(super) fn wake(&mut self, id: &str) {
        if let (None, Some((record, epoch))) = (self.sessions.get(id), self.records.get(id).cloned()) {
            let routes = record
                .subscriptions
                .iter()
                .map(|held| (id.to_owned(), held.pattern.clone()));
            self.routes.extend(routes);
            let settings = Arc::new(self.settings.clone());
            let same_log = epoch == self.epoch;
            let session = Session::resume(
                ClientId::new(id),
                settings,
                self.rights.clone(),
                record,
                self.ends(),
                same_log,
                self.now,
            );
            let session = self.sessions.entry(id.to_owned()).or_insert(session);
            for message in self.forwarded.remove(id).unwrap_or_default() {
                session.handle_forwarded(message);
            }
        }
    }

    /// Another node takes the session up.
    pub(super) fn move_on(&mut self, id: &str) -> Option<()> {
        let mut session = self.sessions.remove(id)?;
        session.handle_progress(self.end());
        self.routes.retain(|(owner, _)| owner != id);
        let parting = session.part(self.now);
        self.forwarded.insert(id.to_owned(), session.take_directs());
        for asked in self.calls.iter_mut().filter(|asked| asked.session == id) {
            asked.is_elsewhere = true;
        }
        self.records
            .insert(id.to_owned(), (session.snapshot(), self.epoch));
        if let Some((carrier, reply)) = parting {
            let held = self.carriers.iter_mut().find(|(_, open)| open.carrier == carrier);
            let (name, open) = held?;
            open.body.reply(&reply);
            open.waits = false;
            let name = name.clone();
            self.flush(&name);
        }
        Some(())
    }

    /// Its record stays, unless the client said goodbye or never connected.
    pub(super) fn put_to_rest(&mut self, id: &str) {
        let mut session = self.sessions.remove(id).expect("a session in memory");
        session.handle_progress(self.end());
        self.routes.retain(|(owner, _)| owner != id);
        self.records.remove(id);
        if session.was_connected() && !session.is_over() && !session.is_ending() {
            self.records
                .insert(id.to_owned(), (session.snapshot(), self.epoch));
        }
    }

    /// Keeps the records that a crash leaves.
    pub(super) fn write_down(&mut self) {
        for (id, session) in &mut self.sessions {
            let mine: Vec<_> = self
                .routes
                .iter()
                .filter(|(owner, _)| owner == id)
                .map(|(_, pattern)| pattern)
                .collect();
            let mut held: Vec<_> = session.subscriptions().iter().map(|held| &held.pattern).collect();
            held.sort();
            assert_eq!(mine, held, "what is routed to {id} is what it listens to");
            let checkpoint = session.poll_checkpoint();
            let old = self.records.get(id);
            if session.is_over() || session.is_ending() {
                self.records.remove(id);
            } else if session.was_connected()
                && (checkpoint.is_some()
                    || old.is_none_or(|(old, _)| old.subscriptions != session.subscriptions()))
            {
                self.records.insert(id.clone(), (session.snapshot(), self.epoch));
            }
            if let Some(offset) = checkpoint.filter(|_| self.shows_checkpoints) {
                self.said.push(Said {
                    line: self.line,
                    who: id.clone(),
                    what: format!("checkpoint {offset}"),
                });
            }
        }
    }
}
