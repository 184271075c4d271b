//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubling pauses. There is one publisher for one broker, so nothing needs to be spread by chance.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Backoff {
            next: first.min(longest),
            longest,
        }
    }

    /// The pause after a failed attempt: what the server asked for, or else twice the last one.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        asked.unwrap_or(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(count: usize) -> Vec<u128> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        (0..count).map(|_| backoff.pause(None).as_millis()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(pauses(8), [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn a_server_that_names_a_time_gets_it() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        assert_eq!(
            backoff.pause(Some(Duration::from_secs(30))),
            Duration::from_secs(30)
        );
    }
}
