//! One clock for all sessions: a wheel of buckets, so that an idle session costs no timer of its own.
//!
//! A session is in the wheel at least as early as its next deadline. When its bucket comes up it is asked for its deadline
//! and put back; an entry that is too early costs a look, never a wrong action.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::handle::Handle;

/// How exact deadlines are. Everything that is due in one is done at once, and events wait for it: at 2,000 of them a second, 200
/// cursors that are written down in a tenth of a second kept one processor for two milliseconds.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Enough for the longest usual deadline (a held connect) in one turn; later ones are looked at once a turn.
const BUCKETS: usize = 2560;

pub(super) struct Timers {
    wheel: Mutex<Wheel>,
}

struct Wheel {
    buckets: Vec<Vec<Weak<Handle>>>,
    /// The bucket that comes up next, and when.
    next: usize,
    next_at: Instant,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        let buckets = std::iter::repeat_with(Vec::new).take(BUCKETS).collect();
        Self {
            wheel: Mutex::new(Wheel {
                buckets,
                next: 0,
                next_at: now + TICK,
            }),
        }
    }

    /// Looks at the session at `at` or a little later, or earlier if that is more than a turn away. Returns what that is good for: a
    /// deadline that is not before it needs no further entry.
    pub(super) fn add(&self, handle: &Arc<Handle>, at: Instant) -> Instant {
        let mut wheel = self.wheel.lock();
        let ticks = at
            .saturating_duration_since(wheel.next_at)
            .as_nanos()
            .div_ceil(TICK.as_nanos());
        let ticks = usize::try_from(ticks).unwrap_or(BUCKETS).min(BUCKETS - 1);
        let bucket = (wheel.next + ticks) % BUCKETS;
        wheel.buckets[bucket].push(Arc::downgrade(handle));
        at.min(wheel.next_at + TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.wheel.lock().buckets.iter().map(Vec::len).sum()
    }

    /// The sessions whose bucket has come up.
    pub(super) fn due(&self, now: Instant) -> Vec<Weak<Handle>> {
        let mut wheel = self.wheel.lock();
        let mut due = Vec::new();
        while wheel.next_at <= now {
            let next = wheel.next;
            due.append(&mut wheel.buckets[next]);
            wheel.next = (next + 1) % BUCKETS;
            wheel.next_at += TICK;
        }
        due
    }
}
