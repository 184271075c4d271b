//! What clients were not allowed to do: counted by reason, and said in the log, but no more of one reason in a second than
//! somebody can read. Never with what was shown or sent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::info;

/// Keeps the log readable while somebody tries a thousand times a second.
#[derive(Default)]
pub struct Denials {
    said_by_reason: Mutex<HashMap<&'static str, Said>>,
}

struct Said {
    since: Instant,
    lines: u32,
    silent: u64,
}

/// Lines of one reason in one second.
const LINES: u32 = 5;

impl Denials {
    /// Says that something was denied. `session` is a name that gives nothing away, `channel` has passed the grammar.
    pub fn say(&self, reason: &'static str, session: Option<&str>, channel: Option<&str>) {
        let Some(silent) = self.may_say(reason, Instant::now()) else {
            return;
        };
        info!(reason, session, channel, silent, "denied");
    }

    /// How many were not said since the last line, if this one is said.
    pub fn may_say(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut said = self.said_by_reason.lock();
        let said = said.entry(reason).or_insert(Said {
            since: now,
            lines: 0,
            silent: 0,
        });
        if now.duration_since(said.since) >= Duration::from_secs(1) {
            said.since = now;
            said.lines = 0;
        }
        if said.lines >= LINES {
            said.silent += 1;
            return None;
        }
        said.lines += 1;
        Some(std::mem::take(&mut said.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t34_a_thousand_denials_of_one_reason_are_a_few_lines_and_a_number() {
        let denials = Denials::default();
        let now = Instant::now();
        let said = (0..1000).filter_map(|_| denials.may_say("denied", now)).count();
        assert_eq!(said, 5);
        assert_eq!(
            denials.may_say("other", now),
            Some(0),
            "another reason has lines of its own"
        );
        let later = now + Duration::from_secs(1);
        assert_eq!(denials.may_say("denied", later), Some(995));
    }
}
