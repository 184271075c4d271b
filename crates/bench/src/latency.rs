//! Latencies of events: from the moment at which each was due, not from when it was sent, so that a server that makes its
//! publishers wait has that wait in its figures.

use hdrhistogram::Histogram;

/// What is recorded: microseconds up to an hour, to three digits.
pub(crate) type Latencies = Histogram<u64>;

const LONGEST: u64 = 3_600_000_000;

/// Nothing yet.
pub(crate) fn none() -> Latencies {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("these bounds can be")
}

/// Records one. What arrives before it was due, by two clocks, took no time.
pub(crate) fn record(latencies: &mut Latencies, due: u64, arrived: u64) {
    latencies.saturating_record(arrived.saturating_sub(due).max(1));
}

/// Adds what another has recorded.
pub(crate) fn add(sum: &mut Latencies, other: &Latencies) {
    sum.add(other).expect("all have the same bounds");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_the_server_is_in_the_latency_of_all_that_was_due_meanwhile() {
        // Due every 10 ms; a server that answers in 1 ms, but for a pause of one second.
        let mut latencies = none();
        let due = (0..1_000_u64).map(|number| number * 10_000);
        for due in due {
            let sent = if (2_000_000..3_000_000).contains(&due) {
                3_000_000
            } else {
                due
            };
            record(&mut latencies, due, sent + 1_000);
        }
        // A generator that waits for the server would see one late event in a thousand: p99.9 would be 1 ms.
        assert_eq!(latencies.value_at_quantile(0.5), 1_000);
        assert!(latencies.value_at_quantile(0.99) > 880_000);
        assert!(latencies.value_at_quantile(0.95) > 480_000);
    }

    #[test]
    fn what_arrives_early_took_no_time_and_what_never_ends_is_an_hour() {
        let mut latencies = none();
        record(&mut latencies, 5, 3);
        record(&mut latencies, 0, u64::MAX);
        assert_eq!((latencies.min(), latencies.len()), (1, 2));
    }
}
