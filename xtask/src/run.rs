//! Runs steps, one after another, and prints what came of each.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use crate::say;

/// One thing to check.
pub(crate) struct Step {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What it does, and why.
    pub(crate) why: &'static str,
    /// Steps that must have passed before.
    pub(crate) needs: &'static [&'static str],
    /// Does it.
    pub(crate) run: fn() -> Outcome,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// Why.
    Failed(String),
    /// Why.
    Skipped(String),
}

impl Outcome {
    /// For what goes on only where this has passed.
    pub(crate) fn required(self) -> Result<(), String> {
        match self {
            Outcome::Passed => Ok(()),
            Outcome::Failed(reason) | Outcome::Skipped(reason) => Err(reason),
        }
    }
}

struct Record {
    name: &'static str,
    outcome: Outcome,
    time: Duration,
}

/// Prints the steps and the reason for each.
pub(crate) fn list(steps: &[Step]) {
    for step in steps {
        say::line(format_args!("{:<14} {}", step.name, step.why));
    }
}

/// Runs the named steps and what they need, in the order of the table. True if nothing failed.
pub(crate) fn all(steps: &[Step], names: &[String]) -> bool {
    let records = execute(steps, names, say::heading);
    say::heading("step            time  result");
    for record in &records {
        say::line(format_args!(
            "{:<14} {:>4.0} s  {}",
            record.name,
            record.time.as_secs_f64(),
            record.outcome
        ));
    }
    passed(&records)
}

/// Runs the steps, telling before and after each.
fn execute(steps: &[Step], names: &[String], tell: impl Fn(String)) -> Vec<Record> {
    let wanted = with_needs(steps, names);
    let mut records = Vec::new();
    for step in steps.iter().filter(|step| wanted.contains(step.name)) {
        tell(format!("== {}: {}", step.name, step.why));
        let started = Instant::now();
        let outcome = match obstacle(step, &records) {
            Some(reason) => Outcome::Skipped(reason),
            None => (step.run)(),
        };
        tell(format!("== {} {outcome}", step.name));
        records.push(Record {
            name: step.name,
            outcome,
            time: started.elapsed(),
        });
    }
    records
}

fn passed(records: &[Record]) -> bool {
    !records
        .iter()
        .any(|record| matches!(record.outcome, Outcome::Failed(_)))
}

/// The names, and everything that the named steps need, however indirectly.
fn with_needs(steps: &[Step], names: &[String]) -> BTreeSet<&'static str> {
    // What a step needs stands above it, so one walk upwards finds everything.
    let mut wanted = BTreeSet::new();
    for step in steps.iter().rev() {
        if names.iter().any(|name| name == step.name) || wanted.contains(step.name) {
            wanted.insert(step.name);
            wanted.extend(step.needs);
        }
    }
    wanted
}

/// Why a step cannot run: something that it needs did not pass.
fn obstacle(step: &Step, records: &[Record]) -> Option<String> {
    step.needs.iter().find_map(|need| {
        let record = records.iter().find(|record| record.name == *need)?;
        match &record.outcome {
            Outcome::Passed => None,
            Outcome::Failed(_) => Some(format!("needs {need}, which failed")),
            Outcome::Skipped(reason) => Some(format!("needs {need}: {reason}")),
        }
    })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => f.write_str("passed"),
            Outcome::Failed(reason) => write!(f, "FAILED: {reason}"),
            Outcome::Skipped(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Step] = &[
        Step {
            name: "npm",
            why: "",
            needs: &[],
            run: || Outcome::Skipped("no npm".to_owned()),
        },
        Step {
            name: "build",
            why: "",
            needs: &[],
            run: || Outcome::Passed,
        },
        Step {
            name: "e2e",
            why: "",
            needs: &["npm", "build"],
            run: || Outcome::Failed("not reached".to_owned()),
        },
        Step {
            name: "lint",
            why: "",
            needs: &[],
            run: || Outcome::Failed("bad".to_owned()),
        },
        Step {
            name: "last",
            why: "",
            needs: &[],
            run: || Outcome::Passed,
        },
    ];

    #[test]
    fn a_step_brings_what_it_needs() {
        assert_eq!(
            with_needs(STEPS, &["e2e".to_owned()]),
            BTreeSet::from(["e2e", "npm", "build"])
        );
    }

    #[track_caller]
    fn check(names: &[&str], expect: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let records = execute(STEPS, &names, |_| {});
        let lines: Vec<String> = records
            .iter()
            .map(|record| format!("{} {}", record.name, record.outcome))
            .collect();
        assert_eq!(lines, expect);
    }

    #[test]
    fn a_step_whose_need_was_skipped_is_skipped() {
        check(
            &["e2e"],
            &[
                "npm skipped: no npm",
                "build passed",
                "e2e skipped: needs npm: no npm",
            ],
        );
    }

    #[test]
    fn a_failure_does_not_stop_what_does_not_need_it() {
        check(&["lint", "last"], &["lint FAILED: bad", "last passed"]);
    }

    #[test]
    fn only_a_failure_fails_the_run() {
        let run = |name: &str| passed(&execute(STEPS, &[name.to_owned()], |_| {}));
        assert_eq!((run("npm"), run("lint")), (true, false));
    }
}
