//! How many sessions there may be.
//!
//! Whoever comes from an address that has too many is turned away. A user is not: the session that an agent opens now is the one
//! that matters, so one that is older gives way and is told, as when an operator ends it. That is the one that has been silent for
//! the longest; only when somebody is there for all of them, the oldest.

use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use super::Sessions;
use super::handle::{Handle, Stage};
use crate::quota::Address;

/// How many sessions there may be in memory; zero is any number.
#[derive(Debug, Clone, Copy, Default)]
pub struct Room {
    /// Of one user.
    pub per_user: usize,
    /// Opened from one address.
    pub per_address: usize,
}

/// The order in which they give way.
type Order = (bool, Option<Instant>, u64);

impl Sessions {
    /// Counts a session that is about to be opened from there, if there may be one more.
    pub fn has_room(&self, address: Option<Address>) -> bool {
        address.is_none_or(|address| self.by_address.enter(address, self.options.room.per_address))
    }

    /// Ends what the user of a new session has too many of.
    pub(super) fn make_room_beside(&self, newest: &Arc<Handle>) {
        let most = self.options.room.per_user;
        let Some(user) = newest.user().filter(|_| most > 0) else {
            return;
        };
        let mut others = self.of_user(newest.tenant(), user);
        others.retain(|handle| !Arc::ptr_eq(handle, newest));
        if others.len() < most {
            return;
        }
        let (mut ending, mut staying): (Vec<_>, Vec<_>) = others
            .into_iter()
            .map(|handle| (handle.order(), handle))
            .partition(|(_, handle)| handle.is_ending());
        staying.sort_by_key(|(order, _)| *order);
        let too_many = (staying.len() + 1).saturating_sub(most);
        for (_, handle) in &staying[..too_many] {
            self.give_way(handle);
        }
        // Those that were told and do not listen are not many, either.
        ending.sort_by_key(|(order, _)| *order);
        let too_many = ending.len().saturating_sub(most);
        for (_, handle) in &ending[..too_many] {
            self.drop_at_once(handle);
        }
    }

    fn give_way(&self, handle: &Arc<Handle>) {
        debug!(session = %handle.public_id, "a session gives way to a newer one of its user");
        self.metrics.sessions_evicted.inc();
        if !handle.state.lock().session.was_connected() {
            // Nobody is there to be told.
            return self.drop_at_once(handle);
        }
        self.end(handle);
    }

    /// Unless somebody is there.
    fn drop_at_once(&self, handle: &Arc<Handle>) {
        let mut state = handle.state.lock();
        if state.stage == Stage::Here && !state.session.is_attended() {
            self.remove(handle, &mut state);
        }
    }
}

impl Handle {
    /// Those that nobody is there for, by how long they have been silent; then the others by how long they have been there.
    fn order(&self) -> Order {
        let session = &self.state.lock().session;
        let is_attended = session.is_attended();
        let expires = session.expires().filter(|_| !is_attended);
        (is_attended, expires, self.number)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.state.lock().session.is_ending()
    }
}
