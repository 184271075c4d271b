//! What a thread shows while it runs, for everyone to look at.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Numbers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Sessions that are subscribed and connected.
    pub(crate) live: Number,
    /// Sessions that will not be.
    pub(crate) failed: Number,
    /// Publishers that are ready, until the first event is due.
    pub(crate) publishers: Number,
    pub(crate) published: Number,
    pub(crate) delivered: Number,
    /// Deliveries that are due, once everything is published.
    pub(crate) outstanding: Number,
    /// Nothing more is going to be published.
    pub(crate) has_published: AtomicBool,
    /// The server is so far behind that publishing was stopped.
    pub(crate) is_behind: AtomicBool,
}

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, value: u64) {
        // One thread writes, so nothing can come in between.
        self.set(self.get() + value);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Board {
    pub(crate) fn say(flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
    }

    pub(crate) fn says(flag: &AtomicBool) -> bool {
        flag.load(Ordering::Acquire)
    }
}
