//! The event ids of the de-duplication window, in buckets of a third of it.
//!
//! An id is in the bucket that was open when its event was stored, and is forgotten with it: after one window at the
//! earliest, after one and a third at the latest. Time is that of the process and does not jump; only from one process
//! to the next it is the wall clock's.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use bayeux::Offset;
use fjall::{Database, Keyspace};

use super::catalogue::{Catalogue, Found, Kind};
use super::commit::Commit;
use super::keys;

const BUCKETS_PER_WINDOW: u32 = 3;
const SHORTEST_STEP: Duration = Duration::from_millis(100);

pub(super) struct Ids {
    window: Duration,
    step: Duration,
    list: VecDeque<Bucket>,
    /// The ids of the commit that is being built.
    pending: HashMap<Box<str>, Offset>,
    clock: Clock,
}

struct Bucket {
    number: u64,
    created: SystemTime,
    keyspace: Keyspace,
}

impl Ids {
    pub(super) fn new(window: Duration, found: Vec<Found>) -> Self {
        let list = found.into_iter().map(|found| {
            let Found {
                number,
                created,
                keyspace,
            } = found;
            Bucket {
                number,
                created,
                keyspace,
            }
        });
        Self {
            window,
            step: (window / BUCKETS_PER_WINDOW).max(SHORTEST_STEP),
            list: list.collect(),
            pending: HashMap::new(),
            clock: Clock::new(),
        }
    }

    /// Where the first event with this id stands.
    pub(super) fn first(&self, id: &str) -> fjall::Result<Option<Offset>> {
        if let Some(offset) = self.pending.get(id) {
            return Ok(Some(*offset));
        }
        let now = self.clock.now();
        for bucket in self.list.iter().rev().filter(|bucket| !self.is_over(bucket, now)) {
            if let Some(value) = bucket.keyspace.get(id)? {
                return Ok(keys::number(&value).map(Offset));
            }
        }
        Ok(None)
    }

    /// Remembers an id, in the same commit as its event.
    pub(super) fn remember(
        &mut self,
        db: &Database,
        catalogue: &Catalogue,
        commit: &mut Commit,
        id: Box<str>,
        offset: Offset,
    ) -> fjall::Result<()> {
        let now = self.clock.now();
        if self
            .list
            .back()
            .is_none_or(|newest| later(now, newest.created) >= self.step)
        {
            let number = self.list.back().map_or(1, |newest| newest.number + 1);
            let keyspace = catalogue.begin(db, &mut commit.batch, Kind::Ids, number, now)?;
            commit
                .closed
                .extend(self.list.back().map(|newest| newest.keyspace.clone()));
            self.list.push_back(Bucket {
                number,
                created: now,
                keyspace,
            });
        }
        if let Some(newest) = self.list.back() {
            commit
                .batch
                .insert(&newest.keyspace, id.as_bytes(), offset.0.to_be_bytes());
        }
        self.pending.insert(id, offset);
        Ok(())
    }

    /// The commit is in the database.
    pub(super) fn committed(&mut self) {
        self.pending.clear();
    }

    /// Takes out a bucket whose ids are all older than the window.
    pub(super) fn expire(&mut self) -> Option<(u64, Keyspace)> {
        let now = self.clock.now();
        let oldest = self.list.front()?;
        // The newest stays: its number must not be used again.
        if self.list.len() == 1 || !self.is_over(oldest, now) {
            return None;
        }
        self.list
            .pop_front()
            .map(|bucket| (bucket.number, bucket.keyspace))
    }

    /// The last id came at most one step after the bucket was begun.
    fn is_over(&self, bucket: &Bucket, now: SystemTime) -> bool {
        later(now, bucket.created) > self.window + self.step
    }
}

fn later(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

/// The wall clock as it was at start, and the time that has passed since.
struct Clock {
    wall: SystemTime,
    start: Instant,
}

impl Clock {
    fn new() -> Self {
        Self {
            wall: SystemTime::now(),
            start: Instant::now(),
        }
    }

    fn now(&self) -> SystemTime {
        self.wall + self.start.elapsed()
    }
}
