//! Whether everything was as it must be.

use crate::account::{Counts, Wrong};
use crate::report::{Connections, Load, Verdict};

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
