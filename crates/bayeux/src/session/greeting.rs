//! After the handshake: what the server subscribes a session to, and the events that leave with the handshake's reply.
//!
//! A handshake may say from where in the log it wants those events, as a subscribe does (`ext.replay`). If the configuration
//! allows it, those that wait leave at once: the reply says how many follow it (`x-messages`), and a client that knows the
//! field connects when it has them. Otherwise they leave with the first connect.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::{Answer, Output, Session};
use crate::{Carrier, Delivery, Message, Reply, Routes, Target};

/// The reply to a handshake, on its way.
#[derive(Debug)]
pub(super) struct Greeting {
    carrier: Carrier,
    /// `None` once it has left.
    reply: Option<Reply>,
    /// Events that follow it.
    events: VecDeque<Arc<Delivery>>,
}

impl Greeting {
    pub(super) fn is_for(&self, carrier: Carrier) -> bool {
        self.carrier == carrier
    }

    /// The reply, if it has not left.
    pub(super) fn into_reply(self) -> Option<Reply> {
        self.reply
    }
}

impl Session {
    /// Completes a handshake, whose session is in the registry now.
    pub fn greet(
        &mut self,
        now: Instant,
        carrier: Carrier,
        message: &Message<'_>,
        mut reply: Reply,
        routes: &mut dyn Routes,
    ) -> Answer {
        if let Err(failure) = self.subscribe_from_the_server(message, &mut reply, routes) {
            self.life.end();
            return Answer::Reply(Box::new(Reply::failure(message, failure)));
        }
        reply.received = Some(self.agreed.receiving(now, message));
        if self.settings.messages_during_handshake {
            self.attach(carrier, message);
            self.greeting = Some(Box::new(Greeting {
                carrier,
                reply: Some(reply),
                events: VecDeque::new(),
            }));
            return Answer::Held;
        }
        self.agreed
            .clone()
            .outgoing(self, now, &Target::Handshake, &mut reply);
        Answer::Reply(Box::new(reply))
    }

    pub(super) fn poll_greeting(&mut self, now: Instant, carrier: Carrier) -> Option<Output> {
        let greeting = self
            .greeting
            .as_ref()
            .filter(|greeting| greeting.is_for(carrier))?;
        if greeting.reply.is_some()
            && let Some(after) = self.window.wants_read()
        {
            return self.read_for(carrier, after);
        }
        let mut greeting = self.greeting.take()?;
        let Some(mut reply) = greeting.reply.take() else {
            let event = greeting.events.pop_front()?;
            self.greeting = Some(greeting).filter(|greeting| !greeting.events.is_empty());
            return Some(Output::Event(event));
        };
        let mut room = self.settings.limits.answer_bytes;
        while let Some(event) = self.window.take(room) {
            room = room.saturating_sub(event.size());
            greeting.events.push_back(event);
        }
        if !greeting.events.is_empty() {
            reply.announce(greeting.events.len());
            self.brought_by = Some(carrier);
            self.greeting = Some(greeting);
        }
        self.agreed
            .clone()
            .outgoing(self, now, &Target::Handshake, &mut reply);
        Some(Output::Reply(Box::new(reply)))
    }

    /// Events have to follow the reply that announced them.
    pub(super) fn is_greeting(&self) -> bool {
        self.greeting
            .as_ref()
            .is_some_and(|greeting| greeting.reply.is_none())
    }
}
