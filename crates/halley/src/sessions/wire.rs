//! Ways out of a session that need no task: a socket is written to by whoever has something for it, dispatch above all.
//!
//! A wake-up costs as much as the rest of a delivery. So an event goes from the log to the socket in one go: it is put into the
//! session's window and what may leave is written, under the session's lock, which also keeps the order of what different
//! threads write. Only what a socket does not take at once, and what needs waiting for, is left to the socket's task.

use std::sync::Arc;

use bayeux::{Carrier, Output};

/// A socket that can be written to from any thread, without waiting.
pub trait Wire: Send + Sync {
    /// What was sent before has left, nothing else has to leave first, and the socket is open: it takes more.
    fn is_free(&self) -> bool;

    /// Sends everything, in this order, and leaves `outputs` empty. What does not leave at once waits in the wire, and what is
    /// more than sending is left to its task. `as_a_whole` says that events belong to the reply that follows them.
    fn send(&self, outputs: &mut Vec<Output>, as_a_whole: bool);
}

/// The wires of one session: one, but for moments of take-over.
#[derive(Default)]
pub(super) struct Wires(Vec<(Carrier, Arc<dyn Wire>)>);

impl Wires {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, carrier: Carrier, wire: Arc<dyn Wire>) {
        self.remove(carrier);
        // Exactly one: most sockets are alone for as long as they live.
        self.0.reserve_exact(1);
        self.0.push((carrier, wire));
    }

    pub(super) fn remove(&mut self, carrier: Carrier) {
        self.0.retain(|(known, _)| *known != carrier);
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (Carrier, &dyn Wire)> {
        self.0.iter().map(|(carrier, wire)| (*carrier, &**wire))
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
