//! What was published, and what became of that.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use crate::body::EVERYONE;

/// The events of one user, or of everyone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    /// How many were published.
    published: u64,
    /// Those that the server refused: nobody must get them.
    pub(crate) refused: Vec<u64>,
    /// Those of which nobody knows whether the server has them: the connection broke before its answer.
    pub(crate) uncertain: Vec<u64>,
}

/// The stream for everyone: one thread publishes it, all look at it.
#[derive(Debug, Default)]
pub(crate) struct Everyone {
    published: AtomicU64,
    /// Its numbers of refused and uncertain ones; `published` in there is not kept.
    rest: Mutex<Stream>,
}

/// The streams that one thread's sessions listen to.
#[derive(Debug)]
pub(crate) struct Streams {
    by_user: Vec<Stream>,
    everyone: Arc<Everyone>,
}

impl Streams {
    pub(crate) fn new(users: u32, everyone: Arc<Everyone>) -> Self {
        Self {
            by_user: vec![Stream::default(); users as usize],
            everyone,
        }
    }

    /// How many events were published to a stream.
    pub(crate) fn published(&self, stream: u32) -> u64 {
        if stream == EVERYONE {
            self.everyone.published.load(Ordering::Acquire)
        } else {
            self.by_user
                .get(stream as usize)
                .map_or(0, |stream| stream.published)
        }
    }

    /// Publishes one more, and says which.
    pub(crate) fn publish(&mut self, stream: u32) -> u64 {
        if stream == EVERYONE {
            return self.everyone.published.fetch_add(1, Ordering::AcqRel);
        }
        let published = &mut self.by_user[stream as usize].published;
        *published += 1;
        *published - 1
    }

    /// Looks at a stream.
    pub(crate) fn with<T>(&self, stream: u32, look: impl FnOnce(&Stream) -> T) -> T {
        if stream == EVERYONE {
            look(&self.everyone.rest.lock().unwrap_or_else(PoisonError::into_inner))
        } else {
            look(&self.by_user[stream as usize])
        }
    }

    /// Says what became of an event.
    pub(crate) fn with_mut(&mut self, stream: u32, change: impl FnOnce(&mut Stream)) {
        if stream == EVERYONE {
            change(&mut self.everyone.rest.lock().unwrap_or_else(PoisonError::into_inner));
        } else {
            change(&mut self.by_user[stream as usize]);
        }
    }
}
