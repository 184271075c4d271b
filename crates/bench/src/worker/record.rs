//! What a thread has seen, interval by interval.

use std::ops::Range;

use crate::latency::{self, Latencies};

/// What a thread saw in one interval.
#[derive(Debug)]
pub(crate) struct Interval {
    /// Its number from the first publish on.
    pub(crate) number: u64,
    /// Latencies of each group that had any.
    pub(crate) latencies: Vec<(usize, Latencies)>,
    pub(crate) delivered: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) published: u64,
    /// Sessions that are connected, at its end.
    pub(crate) live: u64,
}

/// Records.
#[derive(Debug)]
pub(super) struct Recorder {
    /// When what is measured is due.
    pub(super) window: Range<u64>,
    groups: Vec<Latencies>,
    pub(super) delivered: u64,
    delivered_bytes: u64,
    published: u64,
    /// How late events were noticed, which is the generator's own doing, and sent, which may be because no publisher was free.
    pub(super) noticed: Latencies,
    pub(super) sent: Latencies,
}

impl Recorder {
    pub(super) fn new(groups: usize) -> Self {
        Self {
            window: 0..0,
            groups: vec![latency::none(); groups],
            delivered: 0,
            delivered_bytes: 0,
            published: 0,
            noticed: latency::none(),
            sent: latency::none(),
        }
    }

    pub(super) fn deliver(&mut self, group: usize, due: u64, now: u64, bytes: usize) {
        self.delivered += 1;
        self.delivered_bytes += bytes as u64;
        if self.window.contains(&due) {
            latency::record(&mut self.groups[group], due, now);
        }
    }

    pub(super) fn notice(&mut self, due: u64, now: u64) {
        if self.window.contains(&due) {
            latency::record(&mut self.noticed, due, now);
        }
    }

    pub(super) fn publish(&mut self, due: u64, now: u64) {
        self.published += 1;
        if self.window.contains(&due) {
            latency::record(&mut self.sent, due, now);
        }
    }

    /// Ends an interval.
    pub(super) fn take(&mut self, number: u64, live: u64) -> Interval {
        let used = self
            .groups
            .iter_mut()
            .enumerate()
            .filter(|(_, group)| !group.is_empty());
        let latencies = used
            .map(|(number, group)| (number, std::mem::replace(group, latency::none())))
            .collect();
        Interval {
            number,
            latencies,
            delivered: std::mem::take(&mut self.delivered),
            delivered_bytes: std::mem::take(&mut self.delivered_bytes),
            published: std::mem::take(&mut self.published),
            live,
        }
    }
}
