//! What all sessions and publishers of a thread share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::Registry;
use mio::net::TcpStream;

use super::board::Board;
use super::closed_loop::ClosedLoop;
use super::record::Recorder;
use crate::account::Account;
use crate::body::Finder;
use crate::latency::{self, Latencies};
use crate::scenario::Plan;
use crate::settings::Settings;
use crate::site::Site;

/// What all sessions and publishers of a thread share.
pub(super) struct Common {
    pub(super) settings: Arc<Settings>,
    pub(super) plan: Arc<Plan>,
    /// A node each; what they have in common is the same in all of them.
    pub(super) sites: Vec<Site>,
    pub(super) registry: Registry,
    pub(super) began: Instant,
    /// The time at which the events of this turn are looked at.
    pub(super) now: u64,
    pub(super) sources: Vec<IpAddr>,
    pub(super) account: Account,
    pub(super) recorder: Recorder,
    pub(super) timers: Timers,
    pub(super) finder: Finder,
    pub(super) rng: fastrand::Rng,
    /// Bytes on their way in, and out.
    pub(super) buffer: Box<[u8]>,
    pub(super) out: Vec<u8>,
    /// Sessions that are on their way to their first connect's answer.
    pub(super) opening: usize,
    /// Deliveries until one is compared as a whole.
    pub(super) until_compared: u32,
    pub(super) board: Arc<Board>,
    /// When sessions were struck.
    pub(super) struck_at: Option<u64>,
    pub(super) tally: Tally,
    /// What is under way in a closed loop.
    pub(super) closed_loop: Option<ClosedLoop>,
    /// Connections that nobody uses, and the server does not know it.
    pub(super) abandoned: Vec<TcpStream>,
}

/// What happened to sessions and publishers.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Times from the first connection, or from when it was due, to the first connect's answer.
    pub(crate) opened: Latencies,
    /// Connections that broke without our doing.
    pub(crate) broken: u64,
    /// Connections that we cut.
    pub(crate) cut: u64,
    /// Sessions that the server had forgotten.
    pub(crate) forgotten: u64,
    /// Ways back.
    pub(crate) recoveries: Vec<Recovered>,
    /// Sessions that were away or behind at the end.
    pub(crate) never_back: u64,
    /// Why things failed, and how often.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Events that the server refused, and those of which nobody knows.
    pub(crate) refused: u64,
    pub(crate) uncertain: u64,
    /// Events that were accepted.
    pub(crate) accepted: u64,
    /// Events that were published again, with the same id.
    pub(crate) published_again: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            opened: latency::none(),
            broken: 0,
            cut: 0,
            forgotten: 0,
            recoveries: Vec::new(),
            never_back: 0,
            failures: BTreeMap::new(),
            refused: 0,
            uncertain: 0,
            accepted: 0,
            published_again: 0,
        }
    }
}

/// Failures that are told apart; more are counted with the first.
const FAILURES: usize = 50;

impl Tally {
    pub(super) fn fail(&mut self, reason: &str) {
        let is_new = !self.failures.contains_key(reason);
        let reason = if is_new && self.failures.len() >= FAILURES {
            "other"
        } else {
            reason
        };
        *self.failures.entry(reason.to_owned()).or_default() += 1;
    }
}

/// A session's way back, in microseconds from when its connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Until a connect was answered.
    pub(crate) back: u64,
    /// Until it had everything that was published before that.
    pub(crate) complete: u64,
}

/// What a thread must not forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Something is due for a session.
    Session(u32),
    /// Something is due for a publisher.
    Lane(u32),
    /// The next session is opened.
    Open,
    /// An interval ends.
    Interval,
    /// Sessions that wait for too long are looked for.
    Watch,
    /// Something happens to sessions.
    Act(u32),
    /// What is outstanding is counted.
    Count,
}

/// Timers, by time.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(u64, Timer)>>);

impl Timers {
    pub(super) fn set(&mut self, at: u64, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// One that is due.
    pub(super) fn due(&mut self, now: u64) -> Option<(u64, Timer)> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse(timer)| timer)
    }
}

impl Common {
    /// Microseconds of the run.
    pub(super) fn clock(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The address that a connection comes from.
    pub(super) fn source(&self, number: usize) -> Option<IpAddr> {
        if self.sources.is_empty() {
            return None;
        }
        Some(self.sources[number % self.sources.len()])
    }
}
