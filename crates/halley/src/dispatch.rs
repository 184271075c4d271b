//! Follows the log in order and hands each event to the sessions that want it, and from there to sockets that take it at
//! once. Waits for nothing but the log.
//!
//! A write costs about the same whatever it carries. So what has been stored meanwhile is handed over first, to every session
//! that wants some of it, and then each of them sends once. Sessions are sent for a group at a time: what is known of them is
//! still close to the processor then, and their writes follow each other without a pause. After some groups others have their turn: on
//! a single processor nothing would be stored meanwhile, and nobody answered, while an event goes to 100,000 sessions.

use std::sync::Arc;

use bayeux::Handover;
use tokio::sync::mpsc::Receiver;
use tokio::task::yield_now;

use crate::event::Audience;
use crate::log::{Appended, Followed};
use crate::metrics::Metrics;
use crate::sessions::{Sending, Sessions, Subscriber};

/// Events that are handed over before any is sent: the first must not wait for too many others.
const TOGETHER: usize = 64;

/// Sessions whose writes follow each other.
const GROUP: usize = 64;

/// Sessions that are sent for before others have their turn. They have much to do then: whoever was asked how far it has come
/// answers at once, and the sessions behind wait for all of those answers to be read.
const TURN: usize = 256;

/// Sessions that an event is handed to before others have their turn.
const STRETCH: usize = 1024;

/// Runs until the log ends its stream.
pub async fn run(mut followed: Followed, sessions: Arc<Sessions>, metrics: Arc<Metrics>) {
    sessions.dispatched(followed.after);
    let mut dispatch = Dispatch {
        sessions,
        metrics,
        is_alone: false,
        receivers: Vec::new(),
        to_send: Vec::new(),
        sending: Sending::default(),
        sent: 0,
    };
    while let Some(batch) = followed.batches.recv().await {
        let mut events = batch.len();
        dispatch.is_alone = events == 1;
        dispatch.hand_out(batch, &followed.batches).await;
        while events < TOGETHER
            && let Ok(batch) = followed.batches.try_recv()
        {
            events += batch.len();
            dispatch.is_alone = false;
            dispatch.hand_out(batch, &followed.batches).await;
        }
        dispatch.send().await;
    }
}

struct Dispatch {
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    /// No other event waits, so nobody has to wait for a second one.
    is_alone: bool,
    /// Who wants an event.
    receivers: Vec<Subscriber>,
    /// Who has something to send.
    to_send: Vec<Subscriber>,
    sending: Sending,
    /// Sessions that were sent for since others had their turn.
    sent: usize,
}

impl Dispatch {
    async fn hand_out(&mut self, batch: Vec<Appended>, next: &Receiver<Vec<Appended>>) {
        for event in batch {
            self.hand_over(&event, next).await;
            self.sessions.dispatched(event.delivery.offset());
        }
    }

    async fn hand_over(&mut self, event: &Appended, next: &Receiver<Vec<Appended>>) {
        let Some(routing) = self.sessions.routing(&event.tenant) else {
            return;
        };
        match &event.audience {
            Audience::User(user) => routing.of_user(&user.0, &mut self.receivers),
            Audience::Everyone => routing.of_channel(event.delivery.channel(), &mut self.receivers),
        }
        self.metrics.routed.inc_by(self.receivers.len() as u64);
        let mut receivers = std::mem::take(&mut self.receivers);
        for (place, subscriber) in receivers.drain(..).enumerate() {
            let (handover, is_first) = self.sessions.hand_over(&subscriber.0, &event.delivery);
            match handover {
                Handover::Overflowed => drop(self.metrics.fell_behind.inc()),
                Handover::Wake
                | Handover::Queued
                | Handover::Behind
                | Handover::NotWanted
                | Handover::Gone => {}
            }
            if is_first {
                self.to_send.push(subscriber);
            }
            if self.is_alone && self.to_send.len() == GROUP {
                // What has been stored since then leaves with this one.
                self.is_alone = next.is_empty();
                if self.is_alone {
                    self.send().await;
                }
            } else if place % STRETCH == STRETCH - 1 {
                yield_now().await;
            }
        }
        self.receivers = receivers;
    }

    async fn send(&mut self) {
        for group in self.to_send.chunks(GROUP) {
            for Subscriber(handle) in group {
                self.sessions.send_on(handle, &mut self.sending);
            }
            self.sending.flush();
            self.sent += group.len();
            if self.sent >= TURN {
                self.sent = 0;
                yield_now().await;
            }
        }
        self.to_send.clear();
    }
}
