//! What the writer and everybody else share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bayeux::Offset;
use fjall::{Database, Keyspace};
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::log::LogError;
use crate::log::retention::Bucket;
use crate::log::tail::Tail;

pub(super) struct Shared {
    pub(super) db: Database,
    pub(super) tail: Tail,
    pub(super) sessions: Keyspace,
    pub(super) session_count: AtomicU64,
    pub(super) size_bytes: AtomicU64,
    /// Writes of sessions that were called, and that were done: the same number when a reader sees all of them.
    pub(super) called: AtomicU64,
    pub(super) done: AtomicU64,
    buckets: RwLock<Arc<[Readable]>>,
    stopped: watch::Sender<Option<LogError>>,
}

/// A bucket as a reader needs it.
pub(super) struct Readable {
    pub(super) first: Offset,
    pub(super) events: Keyspace,
}

impl Shared {
    pub(super) fn new(db: Database, sessions: Keyspace, session_count: u64, last: Offset) -> Self {
        Self {
            db,
            tail: Tail::new(last),
            sessions,
            session_count: AtomicU64::new(session_count),
            size_bytes: AtomicU64::new(0),
            called: AtomicU64::new(0),
            done: AtomicU64::new(0),
            buckets: RwLock::new(Arc::new([])),
            stopped: watch::Sender::new(None),
        }
    }

    pub(super) fn buckets(&self) -> Arc<[Readable]> {
        self.buckets.read().clone()
    }

    pub(super) fn set_buckets<'a>(&self, buckets: impl Iterator<Item = &'a Bucket<Keyspace>>) {
        let list = buckets.map(|bucket| Readable {
            first: bucket.first,
            events: bucket.events.clone(),
        });
        *self.buckets.write() = list.collect();
    }

    /// Whether every write of a session that was called before can be read.
    pub(super) fn sessions_are_settled(&self) -> bool {
        let called = self.called.load(Ordering::Acquire);
        self.done.load(Ordering::Acquire) >= called
    }

    /// Nothing more is written. The first reason stays.
    pub(super) fn stop(&self, error: LogError) {
        self.stopped.send_if_modified(|stopped| {
            let is_first = stopped.is_none();
            if is_first {
                tracing::error!(%error, "the log takes no more events");
                *stopped = Some(error);
            }
            is_first
        });
    }

    pub(super) fn why_stopped(&self) -> Option<LogError> {
        self.stopped.borrow().clone()
    }

    /// Waits for the reason. A log that is closed in peace never has one.
    pub(super) fn stopped(&self) -> BoxFuture<'static, LogError> {
        let mut stopped = self.stopped.subscribe();
        async move {
            let reason = stopped
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|error| error.clone());
            match reason {
                Some(error) => error,
                None => future::pending().await,
            }
        }
        .boxed()
    }
}
