//! What became of the events, for the embedding program to count and to print.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Something that the publisher did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The broker has the events.
    Published {
        /// How many.
        events: u64,
        /// How many of them it had already, from an attempt whose answer was lost.
        duplicates: u64,
    },
    /// An attempt failed and there will be another one.
    Retried {
        /// How many events wait for it.
        events: u64,
        /// What went wrong.
        cause: String,
        /// When the next attempt begins.
        after: Duration,
    },
    /// The broker refused events for good; they are lost.
    Refused {
        /// How many.
        events: u64,
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer.
        reason: String,
    },
    /// The time for an event ran out; it is lost.
    Expired {
        /// How many.
        events: u64,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Published {
                events,
                duplicates: 0,
            } => write!(f, "{events} published"),
            Report::Published { events, duplicates } => {
                write!(f, "{events} published, {duplicates} of them known already")
            }
            Report::Retried { events, cause, after } => {
                write!(
                    f,
                    "{events} not published yet ({cause}), next attempt in {after:?}"
                )
            }
            Report::Refused {
                events,
                status,
                reason,
            } => {
                write!(f, "{events} refused by the broker with {status}: {reason}")
            }
            Report::Expired { events } => write!(f, "{events} given up"),
        }
    }
}

/// Hears every [`Report`]. It is called from the publisher's task and must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Report) + Send + Sync>);

impl Observer {
    /// Calls `hear` with every report.
    pub fn new(hear: impl Fn(&Report) + Send + Sync + 'static) -> Self {
        Observer(Arc::new(hear))
    }

    pub(super) fn hear(&self, report: &Report) {
        (self.0)(report);
    }
}

impl Default for Observer {
    /// Hears nothing.
    fn default() -> Self {
        Observer::new(|_| {})
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// How many events had which fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// The broker has them.
    pub published: u64,
    /// Of these, it had them already.
    pub duplicates: u64,
    /// Attempts that failed and were repeated.
    pub retried: u64,
    /// Lost: refused for good.
    pub refused: u64,
    /// Lost: out of time.
    pub expired: u64,
    /// Not decided yet.
    pub waiting: usize,
}

/// [`Counts`] in the making.
#[derive(Debug, Default)]
pub(super) struct Counters {
    published: AtomicU64,
    duplicates: AtomicU64,
    retried: AtomicU64,
    refused: AtomicU64,
    expired: AtomicU64,
}

impl Counters {
    pub(super) fn add(&self, report: &Report) {
        let add = |counter: &AtomicU64, more: u64| counter.fetch_add(more, Ordering::Relaxed);
        match report {
            Report::Published { events, duplicates } => {
                add(&self.duplicates, *duplicates);
                add(&self.published, *events)
            }
            Report::Retried { .. } => add(&self.retried, 1),
            Report::Refused { events, .. } => add(&self.refused, *events),
            Report::Expired { events } => add(&self.expired, *events),
        };
    }

    pub(super) fn counts(&self, waiting: usize) -> Counts {
        Counts {
            published: self.published.load(Ordering::Relaxed),
            duplicates: self.duplicates.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
            waiting,
        }
    }
}
