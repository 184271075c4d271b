//! Follows the log in order and hands each event to the sessions that want it, and from there to sockets that take it at
//! once. Waits for nothing but the log.

use std::sync::Arc;

use bayeux::{Handover, Output};

use crate::event::Audience;
use crate::log::{Appended, Followed};
use crate::metrics::Metrics;
use crate::sessions::{Sessions, Subscriber};

/// Runs until the log ends its stream.
pub async fn run(mut followed: Followed, sessions: Arc<Sessions>, metrics: Arc<Metrics>) {
    sessions.dispatched(followed.after);
    let mut receivers = Vec::new();
    let mut room = Vec::new();
    while let Some(batch) = followed.batches.recv().await {
        for event in batch {
            hand_out(&event, &sessions, &metrics, &mut receivers, &mut room);
            sessions.dispatched(event.delivery.offset());
        }
    }
}

fn hand_out(
    event: &Appended,
    sessions: &Sessions,
    metrics: &Metrics,
    receivers: &mut Vec<Subscriber>,
    room: &mut Vec<Output>,
) {
    match &event.audience {
        Audience::User(user) => sessions.routing().of_user(&user.0, receivers),
        Audience::Everyone => sessions.routing().of_channel(event.delivery.channel(), receivers),
    }
    metrics.routed.inc_by(receivers.len() as u64);
    for Subscriber(handle) in receivers.drain(..) {
        match sessions.hand_over(&handle, &event.delivery, room) {
            Handover::Overflowed => drop(metrics.fell_behind.inc()),
            Handover::Wake | Handover::Queued | Handover::Behind | Handover::NotWanted | Handover::Gone => {}
        }
    }
}
