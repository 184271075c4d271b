//! How long to wait after a failure.

use std::time::Duration;

/// A delay that grows by the same step with each failure in a row, up to a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    increment: Duration,
    limit: Duration,
}

impl Backoff {
    /// Lifts an increment below a millisecond to one, so that no setting makes a busy loop.
    pub(crate) fn new(increment: Duration, limit: Duration) -> Backoff {
        let increment = increment.clamp(Duration::from_millis(1), LONGEST_WAIT);
        Backoff {
            increment,
            limit: limit.clamp(increment, LONGEST_WAIT),
        }
    }

    /// The delay after so many failures in a row; none after none.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        self.increment.saturating_mul(failures).min(self.limit)
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
    }
}

/// No wait is longer, whatever a server or a setting says.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_by_one_increment_with_each_failure() {
        let backoff = Backoff::default();
        assert_eq!(
            [1, 2, 3].map(|failures| backoff.delay(failures).as_secs()),
            [1, 2, 3]
        );
    }

    #[test]
    fn the_delay_stops_growing_at_the_limit() {
        assert_eq!(Backoff::default().delay(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn an_increment_of_zero_still_waits() {
        assert!(!Backoff::new(Duration::ZERO, Duration::ZERO).delay(1).is_zero());
    }
}
