//! Ways out of a session that need no task: a socket is written to by whoever has something for it, dispatch above all.
//!
//! A wake-up costs as much as the rest of a delivery. So an event goes from the log to the socket in one go: it is put into the
//! session's window, and what may leave is put in line, under the session's lock, which also keeps the order of what different
//! threads write. Only what a socket does not take at once, and what needs waiting for, is left to the socket's task.
//!
//! Putting in line and writing are two steps, so that many sockets can be written to one right after the other: who reads them
//! is then still at work when the next has something, and need not be woken for each.

use std::sync::Arc;

use bayeux::{Carrier, Output};
use smallvec::SmallVec;

/// A socket that can be written to from any thread, without waiting.
pub trait Wire: Send + Sync {
    /// What was sent before has left, nothing else has to leave first, and the socket is open: it takes more.
    fn is_free(&self) -> bool;

    /// Puts everything in line, in this order, and leaves `outputs` empty. It leaves with [`Wire::flush`], or in front of
    /// whatever else is written before that. `as_a_whole` says that events belong to the reply that follows them.
    fn stage(&self, outputs: &mut Vec<Output>, as_a_whole: bool);

    /// Writes what is in line. What does not leave at once waits in the wire, and what is more than writing is left to its
    /// task.
    fn flush(&self);
}

/// The wires of one session: one, but for moments of take-over. That one is kept here rather than behind a pointer: each
/// delivery looks at it.
#[derive(Default)]
pub(super) struct Wires(SmallVec<[(Carrier, Arc<dyn Wire>); 1]>);

impl Wires {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, carrier: Carrier, wire: Arc<dyn Wire>) {
        self.remove(carrier);
        self.0.push((carrier, wire));
    }

    pub(super) fn remove(&mut self, carrier: Carrier) {
        self.0.retain(|(known, _)| *known != carrier);
        self.0.shrink_to_fit();
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (Carrier, &Arc<dyn Wire>)> {
        self.0.iter().map(|(carrier, wire)| (*carrier, wire))
    }
}

impl std::fmt::Debug for Wires {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_list()
            .entries(self.0.iter().map(|(carrier, _)| carrier))
            .finish()
    }
}
