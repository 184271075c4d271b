//! Whether everything was as it must be.

use crate::account::{Counts, Wrong};
use crate::report::{Connections, Generator, Latency, Load, Verdict};

/// Judges: whatever is not accounted for is wrong.
pub(super) fn judge(counts: &Counts, load: &Load, connections: &Connections, is_behind: bool) -> Verdict {
    let mut reasons = Vec::new();
    for wrong in Wrong::ALL {
        add(&mut reasons, counts.of(wrong), "deliveries", wrong.words());
    }
    add(&mut reasons, load.refused, "events", "refused by the server");
    add(
        &mut reasons,
        load.uncertain,
        "events",
        "published without an answer, so nobody knows whether they were accepted (--ids makes it safe to publish again)",
    );
    add(
        &mut reasons,
        connections.never_back,
        "sessions",
        "not back, or without everything, at the end",
    );
    if is_behind {
        reasons.push(
            "the server was more than 30 seconds behind the rate, so publishing was stopped".to_owned(),
        );
    }
    Verdict {
        ok: reasons.is_empty(),
        reasons,
    }
}

/// What to know when reading the figures.
pub(super) fn notes(generator: &Generator, latency: &Latency) -> Vec<String> {
    // Where a fifth of what was measured is the generator's own, the server is blamed for it.
    const SHARE: u64 = 5;
    const SMALL: u64 = 2_000;
    let (late, p99) = (generator.late.p99, latency.all.percentiles.p99);
    let mut notes = Vec::new();
    if late > SMALL && late * SHARE > p99 {
        notes.push(format!(
            "the generator was late itself, by {:.1} ms at p99 of the {:.1} ms that were measured: give it a processor of its \
             own, more --threads, or less to do",
            late as f64 / 1e3,
            p99 as f64 / 1e3
        ));
    }
    notes
}

fn add(reasons: &mut Vec<String>, count: u64, what: &str, wrong: &str) {
    if count > 0 {
        let what = if count == 1 {
            what.trim_end_matches('s')
        } else {
            what
        };
        let what = if what == "deliverie" { "delivery" } else { what };
        reasons.push(format!("{count} {what} {wrong}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Group, Percentiles};

    fn load() -> Load {
        Load {
            kind: "open",
            rate: 1.0,
            seconds: 1.0,
            published: 1,
            accepted: 1,
            refused: 0,
            uncertain: 0,
            published_again: 0,
            published_per_second: 1.0,
            deliveries: 1,
            deliveries_per_second: 1.0,
            megabytes_per_second: 1.0,
        }
    }

    #[test]
    fn nothing_wrong_is_ok_even_where_something_was_repeated_after_a_break() {
        let counts = Counts {
            repeated: 5,
            ..Counts::default()
        };
        assert!(judge(&counts, &load(), &Connections::default(), false).ok);
    }

    fn late(late: u64, p99: u64) -> Vec<String> {
        let percentiles = |p99| Percentiles {
            p99,
            ..Percentiles::default()
        };
        let generator = Generator {
            threads: 1,
            cpu_seconds: None,
            cpu_seconds_per_million: None,
            cores: None,
            late: percentiles(late),
            sent_late: Percentiles::default(),
        };
        let all = Group {
            name: "all".to_owned(),
            percentiles: percentiles(p99),
            curve: Vec::new(),
        };
        notes(
            &generator,
            &Latency {
                all,
                groups: Vec::new(),
            },
        )
    }

    #[test]
    fn a_generator_that_is_late_itself_says_so() {
        assert_eq!(late(1_500, 2_000).len(), 0);
        assert_eq!(late(5_000, 100_000).len(), 0);
        assert_eq!(late(5_000, 20_000).len(), 1);
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_a_reason() {
        let counts = Counts {
            lost: 1,
            duplicated: 2,
            out_of_order: 3,
            foreign: 4,
            corrupt: 5,
            refused: 6,
            ..Counts::default()
        };
        let load = Load {
            refused: 7,
            uncertain: 1,
            ..load()
        };
        let connections = Connections {
            never_back: 9,
            ..Connections::default()
        };
        let verdict = judge(&counts, &load, &connections, true);
        assert!(!verdict.ok);
        assert_eq!(verdict.reasons.len(), 10);
        assert_eq!(verdict.reasons[0], "1 delivery lost");
        assert_eq!(verdict.reasons[1], "2 deliveries duplicated");
    }
}
