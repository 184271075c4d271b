//! Events and replies on their way out.

use std::collections::BTreeSet;
use std::mem::take;
use std::sync::Arc;
use std::time::Instant;

use bayeux::{Carrier, CarrierKind, ChannelName, Delivery, Draft, Offset, Output, PageRead, Session, Traits};
use serde_json::value::RawValue;

use super::Server;

impl Server {
    pub(super) fn publish(&mut self, channel: ChannelName, data: Box<RawValue>, traits: &Traits) {
        let draft = Draft::new(channel, &data, traits, self.wall());
        let event = Arc::new(draft.at(self.end().next()));
        self.log.push(Arc::clone(&event));
        self.dispatch(&event);
    }

    /// Hands an event to whom it is routed, and wakes those who ask for it.
    pub(super) fn dispatch(&mut self, event: &Arc<Delivery>) {
        let mut receivers = BTreeSet::new();
        event.channel().expand(|pattern| {
            let matching = self.routes.iter().filter(|(_, route)| route.as_str() == pattern);
            receivers.extend(matching.map(|(id, _)| id.clone()));
        });
        let mut awake = Vec::new();
        for (id, session) in &mut self.sessions {
            if receivers.contains(id) && session.handle_event(event).wakes() {
                awake.push(id.clone());
            }
        }
        awake.iter().for_each(|id| self.drain(id));
    }

    /// Does what a session wants for each of the carriers.
    pub(super) fn drain(&mut self, id: &str) {
        let end = self.end();
        for name in self.carriers.keys().cloned().collect::<Vec<_>>() {
            while let Some(open) = self.carriers.get(&name)
                && let Some(session) = self.sessions.get_mut(id)
                && let Some(output) = poll(session, self.now, open.carrier, end)
            {
                self.put_out(id, &name, output);
            }
            self.flush(&name);
        }
    }

    fn put_out(&mut self, id: &str, name: &str, output: Output) {
        let open = self.carriers.get_mut(name).expect("polled for it");
        match output {
            Output::Event(event) if open.carrier.kind == CarrierKind::Exchange => open.body.event(&event),
            Output::Event(event) => self.say(name, String::from_utf8_lossy(event.frame()).into_owned()),
            Output::Direct(message) if open.carrier.kind == CarrierKind::Exchange => {
                open.body.direct(&message);
            }
            Output::Direct(message) => self.say(name, String::from_utf8_lossy(message.frame()).into_owned()),
            // Announced events follow, in the same response or in frames of their own.
            Output::Reply(reply) if reply.announces() => {
                open.body.reply(&reply);
                open.waits = false;
                if open.carrier.kind == CarrierKind::Socket {
                    self.flush_now(name);
                }
            }
            Output::Reply(reply) => {
                open.body.reply(&reply);
                open.waits = false;
                self.flush(name);
            }
            Output::Ping(offset) => {
                open.pings.push_back(offset);
                self.say(name, format!("ping {offset}"));
            }
            Output::ReadLog(after) => match &mut self.stalled {
                Some(stalled) => stalled.push((id.to_owned(), name.to_owned(), after)),
                None => self.read(id, name, after),
            },
            Output::Refused => self.say(name, "refused".to_owned()),
            Output::Superseded => {
                open.waits = false;
                self.say(name, "superseded".to_owned());
                self.flush(name);
            }
        }
    }

    pub(super) fn read(&mut self, id: &str, name: &str, after: Offset) {
        let kept = self
            .log
            .iter()
            .filter(|event| event.offset().0 >= self.first && event.offset() > after);
        let events: Vec<_> = kept.take(self.page).cloned().collect();
        let through = if events.len() < self.page {
            self.end()
        } else {
            events.last().expect("a page").offset()
        };
        let gap = (after.0 + 1 < self.first).then_some(Offset(self.first));
        if let (Some(session), Some(open)) = (self.sessions.get_mut(id), self.carriers.get(name)) {
            session.handle_read(
                open.carrier,
                PageRead {
                    after,
                    events,
                    through,
                    gap,
                },
            );
        }
    }

    fn flush_now(&mut self, name: &str) {
        let open = self.carriers.get_mut(name).expect("polled for it");
        let receiving = std::mem::replace(&mut open.receiving, false);
        self.flush(name);
        if let Some(open) = self.carriers.get_mut(name) {
            open.receiving = receiving;
        }
    }

    /// Sends what is finished: a frame, or the whole response when nothing is held.
    pub(super) fn flush(&mut self, name: &str) {
        let Some(open) = self.carriers.get_mut(name) else {
            return;
        };
        let socket = open.carrier.kind == CarrierKind::Socket;
        if open.receiving || (!socket && open.waits) {
            return;
        }
        let body = take(&mut open.body);
        if !socket {
            self.carriers.remove(name);
        }
        if !body.is_empty() {
            self.say(name, String::from_utf8(body.finish()).expect("JSON is UTF-8"));
        }
    }
}

/// Only now does a session hear how far the log has come.
fn poll(session: &mut Session, now: Instant, carrier: Carrier, end: Offset) -> Option<Output> {
    session.handle_progress(end);
    session.poll_output(now, carrier)
}
