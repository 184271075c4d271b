//! The way out: whoever is here is let go one after the other, so that a load balancer can bring all of them elsewhere without a
//! rush, and nobody new comes in.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Whether the process is on its way out.
#[derive(Debug)]
pub struct Drain {
    /// How long it takes.
    time: Duration,
    stage: watch::Sender<Stage>,
}

/// Who is there now, and on the way out has yet to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attending {
    /// Open sockets.
    pub sockets: usize,
    /// Held connects.
    pub connects: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// An operator wants it.
    Asked,
    Draining,
}

/// How often somebody is let go, at most.
const TICK: Duration = Duration::from_millis(10);

impl Drain {
    /// Everyone is welcome.
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            stage: watch::Sender::new(Stage::Serving),
        }
    }

    /// How long it takes from the first who is let go to the last.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Nobody new is welcome from now on, and whoever waits in [`Drain::asked`] begins to let go.
    pub fn ask(&self) {
        self.advance(Stage::Asked);
    }

    /// Waits until somebody has asked for it.
    pub async fn asked(&self) {
        let mut stage = self.stage.subscribe();
        // The sender is here for as long as this is waited for.
        let _ = stage.wait_for(|stage| *stage != Stage::Serving).await;
    }

    /// It begins. Returns whether it had not begun before.
    pub fn begin(&self) -> bool {
        self.advance(Stage::Draining)
    }

    /// Whether nobody new is welcome.
    pub fn is_on(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    fn advance(&self, to: Stage) -> bool {
        self.stage.send_if_modified(|stage| {
            let advances = match (*stage, to) {
                (Stage::Serving, Stage::Asked | Stage::Draining) | (Stage::Asked, Stage::Draining) => true,
                (_, Stage::Serving | Stage::Asked) | (Stage::Draining, Stage::Draining) => false,
            };
            if advances {
                *stage = to;
            }
            advances
        })
    }
}

/// Lets `count` go, one after the other and the last when `time` is over, all at the same distance.
pub async fn spread(count: usize, time: Duration, mut let_go: impl FnMut(usize)) {
    let start = Instant::now();
    let mut gone = 0;
    while gone < count {
        let elapsed = start.elapsed();
        while gone < count && due(gone, count, time) <= elapsed {
            let_go(gone);
            gone += 1;
        }
        let next = due(gone, count, time).max(elapsed + TICK).min(time);
        if gone < count {
            sleep_until(start + next).await;
        }
    }
}

/// When one of them is let go.
fn due(number: usize, count: usize, time: Duration) -> Duration {
    let share = (number + 1) as f64 / count.max(1) as f64;
    time.mul_f64(share.min(1.0)).min(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of them was let go, in milliseconds.
    async fn moments(count: usize, time: Duration) -> Vec<u128> {
        let start = Instant::now();
        let mut moments = Vec::new();
        spread(count, time, |number| {
            assert_eq!(number, moments.len(), "in their order");
            moments.push(start.elapsed().as_millis());
        })
        .await;
        moments
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_let_go_at_the_same_distance_and_the_last_at_the_end() {
        let moments = moments(5, Duration::from_secs(10)).await;
        for (moment, expected) in moments.iter().zip([2_000, 4_000, 6_000, 8_000, 10_000]) {
            assert!(moment.abs_diff(expected) <= TICK.as_millis(), "{moments:?}");
        }
        assert_eq!(moments.len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_let_go_in_small_groups() {
        let moments = moments(100_000, Duration::from_secs(10)).await;
        for second in 0..10 {
            let within = |moment: &&u128| (second * 1000..(second + 1) * 1000).contains(*moment);
            let gone = moments.iter().filter(within).count();
            assert!((9_800..=10_200).contains(&gone), "{gone} in second {second}");
        }
        assert_eq!(moments.len(), 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn without_time_all_are_let_go_at_once() {
        assert_eq!(moments(3, Duration::ZERO).await, [0, 0, 0]);
        assert!(moments(0, Duration::from_secs(10)).await.is_empty());
    }

    #[tokio::test]
    async fn it_begins_once_and_is_on_from_when_somebody_asks() {
        let drain = Drain::new(Duration::ZERO);
        assert!(!drain.is_on());
        drain.ask();
        drain.asked().await;
        assert!(drain.is_on());
        assert!(drain.begin());
        assert!(!drain.begin());
        drain.ask();
        assert!(!drain.begin());
    }
}
