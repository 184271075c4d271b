//! When a bucket of events closes, and when it goes. Pure policy: time and sizes are arguments.
//!
//! Events are kept in buckets, oldest first, so that forgetting is dropping a bucket. Ages come from the wall clock,
//! which may jump; what a jump can do is bounded here:
//!
//! - back: nothing is older than it was, so nothing goes; buckets keep their order, which is that of the offsets;
//! - forward: at most one bucket goes per call, and never more time than has really passed since the last one went
//!   (measured by a clock that does not jump), so a broken clock empties a log no faster than a right one does.
//!
//! The newest bucket is never dropped: it carries the last offset over a restart.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use bayeux::Offset;

use super::Settings;

/// A bucket closes after this share of the retention time …
const BUCKETS_PER_RETENTION: u32 = 24;
/// … or with this share of the retention size.
const BUCKETS_PER_SIZE: u64 = 16;
/// … but not sooner than this.
const SHORTEST_STEP: Duration = Duration::from_secs(1);

/// Some consecutive events.
#[derive(Debug, Clone)]
pub(super) struct Bucket<T> {
    /// The offset of its first event.
    pub(super) first: Offset,
    /// When it was begun, as the wall clock had it.
    pub(super) created: SystemTime,
    /// What its events take.
    pub(super) bytes: u64,
    /// Where they are.
    pub(super) events: T,
}

/// Every bucket of a log, oldest first.
#[derive(Debug)]
pub(super) struct Buckets<T> {
    list: VecDeque<Bucket<T>>,
    closed: bool,
    retention: Duration,
    step: Duration,
    most_bytes: u64,
    bucket_bytes: u64,
    dropped: Option<Instant>,
}

impl<T> Buckets<T> {
    /// Takes over what is there, oldest first. `largest` bounds a bucket whatever the settings say.
    pub(super) fn new(list: VecDeque<Bucket<T>>, settings: &Settings, largest: u64) -> Self {
        Self {
            list,
            closed: false,
            retention: settings.retention,
            step: (settings.retention / BUCKETS_PER_RETENTION).max(SHORTEST_STEP),
            most_bytes: settings.retention_bytes,
            bucket_bytes: (settings.retention_bytes / BUCKETS_PER_SIZE).clamp(1, largest),
            dropped: None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Bucket<T>> {
        self.list.iter()
    }

    /// Whether a bucket must be begun for the next event.
    pub(super) fn wants_new(&self) -> bool {
        self.closed
            || self
                .list
                .back()
                .is_none_or(|newest| newest.bytes >= self.bucket_bytes)
    }

    /// Begins a bucket, and returns the one that is closed by that.
    pub(super) fn begin(&mut self, bucket: Bucket<T>) -> Option<&Bucket<T>> {
        self.closed = false;
        self.list.push_back(bucket);
        self.list.iter().rev().nth(1)
    }

    /// The bucket that events are added to.
    pub(super) fn newest(&mut self) -> Option<&mut Bucket<T>> {
        self.list.back_mut()
    }

    /// The bytes of all events.
    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|bucket| bucket.bytes).sum()
    }

    /// Closes the newest bucket if it is old enough, and takes out what retention no longer keeps.
    pub(super) fn expire(&mut self, now: SystemTime, clock: Instant) -> Vec<Bucket<T>> {
        if let Some(newest) = self.list.back() {
            self.closed |= apart(newest.created, now) >= self.step;
        }
        let mut gone = Vec::new();
        if self.oldest_is_due(now, clock) {
            self.dropped = Some(clock);
            gone.extend(self.list.pop_front());
        }
        let mut bytes = self.bytes();
        while bytes > self.most_bytes && self.list.len() > 1 {
            gone.extend(self.list.pop_front());
            bytes -= gone.last().map_or(0, |bucket| bucket.bytes);
        }
        gone
    }

    fn oldest_is_due(&self, now: SystemTime, clock: Instant) -> bool {
        let (Some(oldest), Some(closed)) = (self.list.front(), self.closed_at()) else {
            return false;
        };
        let age = now.duration_since(closed).unwrap_or_default();
        let span = closed
            .duration_since(oldest.created)
            .unwrap_or_default()
            .min(self.step);
        let paced = self
            .dropped
            .is_none_or(|dropped| clock.duration_since(dropped) >= span);
        age >= self.retention && paced
    }

    /// No event of the oldest bucket is younger. Later buckets begin later, unless the clock was ahead for a while and
    /// was put right: then the right time counts.
    fn closed_at(&self) -> Option<SystemTime> {
        self.list.iter().skip(1).map(|bucket| bucket.created).min()
    }
}

/// How far apart two times are, whichever is first.
fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b)
        .or_else(|_| b.duration_since(a))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    struct It {
        buckets: Buckets<()>,
        start: SystemTime,
        clock: Instant,
    }

    /// A day of retention, 16 buckets of 10 bytes.
    fn it() -> It {
        let settings = Settings {
            retention: 24 * HOUR,
            retention_bytes: 160,
            dedup_window: HOUR,
            min_free_bytes: 0,
            ..Settings::default()
        };
        let buckets = Buckets::new(VecDeque::new(), &settings, u64::MAX);
        It {
            buckets,
            start: SystemTime::now(),
            clock: Instant::now(),
        }
    }

    impl It {
        fn begin(&mut self, first: u64, hour: u32, bytes: u64) {
            let created = self.start + HOUR * hour;
            self.buckets.begin(Bucket {
                first: Offset(first),
                created,
                bytes,
                events: (),
            });
        }

        /// The wall clock shows `wall` hours, and really `real` hours have passed.
        fn expire(&mut self, wall: u32, real: u32) -> Vec<u64> {
            let gone = self
                .buckets
                .expire(self.start + HOUR * wall, self.clock + HOUR * real);
            gone.iter().map(|bucket| bucket.first.0).collect()
        }
    }

    #[test]
    fn a_bucket_goes_when_all_its_events_are_older_than_the_retention() {
        let mut it = it();
        it.begin(1, 0, 1);
        it.begin(2, 1, 1);
        assert!(it.expire(24, 24).is_empty(), "its last event may be 23 hours old");
        assert_eq!(it.expire(25, 25), [1]);
    }

    #[test]
    fn the_newest_bucket_never_goes() {
        let mut it = it();
        it.begin(1, 0, 1000);
        assert!(it.expire(1000, 1000).is_empty());
    }

    #[test]
    fn the_oldest_go_until_the_size_fits() {
        let mut it = it();
        for n in 0..20 {
            it.begin(n, 0, 10);
        }
        assert_eq!(it.expire(0, 0), [0, 1, 2, 3]);
    }

    #[test]
    fn a_bucket_closes_when_it_is_full() {
        let mut it = it();
        it.begin(1, 0, 9);
        assert!(!it.buckets.wants_new());
        it.buckets.newest().unwrap().bytes += 1;
        assert!(it.buckets.wants_new());
    }

    #[test]
    fn a_bucket_closes_when_it_is_old() {
        let mut it = it();
        it.begin(1, 0, 1);
        it.expire(1, 1);
        assert!(it.buckets.wants_new());
    }

    #[test]
    fn a_clock_that_jumps_forward_drops_no_more_time_than_has_passed() {
        let mut it = it();
        for n in 0..10 {
            it.begin(n, u32::try_from(n).unwrap(), 1);
        }
        assert_eq!(it.expire(10_000, 10), [0], "one bucket at once");
        assert!(
            it.expire(10_000, 10).is_empty(),
            "no second one at the same moment"
        );
        assert_eq!(it.expire(10_000, 11), [1], "one more after an hour");
    }

    #[test]
    fn a_clock_that_jumps_back_drops_nothing() {
        let mut it = it();
        it.begin(1, 100, 1);
        it.begin(2, 101, 1);
        assert!(it.expire(0, 1).is_empty());
        it.begin(3, 0, 1);
        assert!(it.expire(1, 2).is_empty());
        assert_eq!(it.expire(25, 25), [1], "a day later the first is a day old");
    }
}
