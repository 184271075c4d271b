//! When which event is due: an open loop does not wait for the server.

mod calls;
mod steady;

pub(crate) use calls::{Calls, PER_CALL, Sizes};
pub(crate) use steady::{Beat, Steady, Target};

/// An event that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    /// When, in microseconds from the first moment at which anything may be.
    pub(crate) at: u64,
    /// Whose it is.
    pub(crate) stream: u32,
    /// Which body it has.
    pub(crate) body: u16,
}

/// Events in the order in which they are due, without end.
pub(crate) trait Arrivals: Send {
    /// When the next one is due.
    fn peek(&mut self) -> u64;

    /// The next one.
    fn next(&mut self) -> Due;
}

/// Several at once.
pub(crate) struct Together(pub(crate) Vec<Box<dyn Arrivals>>);

impl Together {
    fn first(&mut self) -> &mut dyn Arrivals {
        let mut first = 0;
        for place in 1..self.0.len() {
            if self.0[place].peek() < self.0[first].peek() {
                first = place;
            }
        }
        &mut *self.0[first]
    }
}

impl Arrivals for Together {
    fn peek(&mut self) -> u64 {
        self.first().peek()
    }

    fn next(&mut self) -> Due {
        self.first().next()
    }
}

/// The time to the next of events that do not know of each other, `rate` of them a second on average, in microseconds.
fn pause(rng: &mut fastrand::Rng, rate: f64) -> f64 {
    -(1.0 - rng.f64()).ln() / rate * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_merged_by_time() {
        let beat = |rate| {
            let target = Target::Everyone;
            Box::new(Steady::new(
                rate,
                Beat::Even,
                target,
                vec![0],
                fastrand::Rng::with_seed(1),
            )) as Box<dyn Arrivals>
        };
        let mut both = Together(vec![beat(2.0), beat(3.0)]);
        let times: Vec<_> = (0..5).map(|_| both.next().at).collect();
        assert_eq!(times, [333_333, 500_000, 666_666, 1_000_000, 1_000_000]);
    }

    #[test]
    fn pauses_have_their_mean_and_are_not_even() {
        let mut rng = fastrand::Rng::with_seed(7);
        let pauses: Vec<f64> = (0..20_000).map(|_| pause(&mut rng, 100.0)).collect();
        let mean = pauses.iter().sum::<f64>() / 20_000.0;
        assert!((9_700.0..10_300.0).contains(&mean), "{mean}");
        // In a Poisson process 1 - 1/e of the pauses are shorter than the mean.
        let short = pauses.iter().filter(|pause| **pause < 10_000.0).count();
        assert!((12_300..13_000).contains(&short), "{short}");
    }
}
