//! What a person or CI types: `cargo xtask test`. CI runs nothing else, so what passes here passes there.
//!
//! A step is a file's worth of one thing ([`steps`]); [`run`] says each step and its reason, runs it, and prints the
//! table at the end.

mod cluster;
mod deny;
mod fuzz;
mod instructions;
mod peers;
mod run;
mod say;
mod steps;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks and tests Halley, the same way on a desk as in CI.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Runs everything: format, lints, unit tests, then the release binary against stock CometD clients.
    ///
    /// Each step says what it does and why before it does it. A step that cannot run here (no npm, no network, a tool
    /// that is not installed) is skipped with the reason, and the rest goes on. The table at the end lists every step
    /// with its result and time. Ends with 1 if any step failed, with 0 if all passed or were skipped.
    ///
    /// On Debian, as root, Node, npm, Chromium, nats-server, haproxy and nginx are installed with apt-get when they are missing. cargo-deny,
    /// typos and a newer nats-server are brought into target/tools. Nothing else is ever installed outside of this folder.
    #[command(after_help = TEST_EXAMPLES)]
    Test {
        /// Runs only this step, and the steps that it needs. May be given more than once.
        #[arg(long, value_name = "STEP", value_parser = steps::names())]
        only: Vec<String>,
        /// Lists the steps in their order, with the reason for each, and runs nothing.
        #[arg(long)]
        list: bool,
    },
    /// Runs what takes seconds and needs no network: format, lints, the purity of the protocol crates.
    Check,
    /// Throws random inputs at the parsers and at the session, guided by what of the code they reach.
    ///
    /// Every input that is committed is replayed by `cargo test`; this looks for new ones. It needs cargo-fuzz, which is built
    /// into target/tools if it is not installed, and a C++ compiler, which is installed with apt-get on Debian and Ubuntu, as
    /// root, when it is missing. What is found lies in fuzz/artifacts, and the end of the output says how to see it.
    #[command(after_help = FUZZ_EXAMPLES)]
    Fuzz {
        /// What to look at; `properties` are the property tests, with fresh seeds. Everything, if nothing is named.
        #[arg(value_name = "TARGET", value_parser = fuzz::parse)]
        targets: Vec<String>,
        /// For how long, each.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// Replaces the committed corpus by the smallest set of inputs that reaches as much as all that were found.
        #[arg(long)]
        keep: bool,
    },
    /// Counts the instructions of the hot ways under valgrind, and compares them with benches/instructions.json.
    ///
    /// Ends with 1 if one of them is more than 3 % away from what is written down. Counts that were made with another compiler or
    /// for another processor are not compared. valgrind is installed with apt-get on Debian, as root, when it is missing;
    /// gungraun-runner is built into target/tools.
    Instructions {
        /// Writes down what is counted now.
        #[arg(long)]
        keep: bool,
    },
    /// Runs the same load against Halley, other servers and bare system calls, in turns, and writes docs/performance.md.
    ///
    /// Installs what the registries offer: nginx with nchan, nats-server and mosquitto with apt-get on Debian, as root; Faye and
    /// cometd-nodejs-server with npm; axum-cometd and the generator with cargo, all in folders of this one. A peer that cannot be
    /// had is left out, and it says why. The server has the first processor and the generator the second, so nothing else
    /// should run: whatever does is in the figures. A turn takes about 20 seconds, everything about 40 minutes. Raw results
    /// lie in target/peers.
    #[command(after_help = PEERS_EXAMPLES)]
    Peers {
        /// Only these.
        #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = clap::builder::PossibleValuesParser::new(peers::names()))]
        peers: Vec<String>,
        /// Only these.
        #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = clap::builder::PossibleValuesParser::new(peers::scenarios()))]
        scenarios: Vec<String>,
        /// How often everything has its turn. Each turn has three measured periods; medians count.
        #[arg(long, default_value_t = 1)]
        rounds: u32,
        /// Only Halley, at 1,000, 10,000 and 50,000 sessions, for docs/sizing.md.
        #[arg(long)]
        growth: bool,
        /// One short period each, to see that it runs: its figures say nothing, and no document is written.
        #[arg(long)]
        quick: bool,
        /// Adds to the results of earlier runs rather than beginning anew.
        #[arg(long)]
        keep: bool,
        /// Lists the peers and the scenarios, and runs nothing.
        #[arg(long)]
        list: bool,
    },
    /// Measures what an event and a delivery cost on one, two and three nodes, with a log in a folder and on NATS, for docs/cluster.md.
    ///
    /// nats-server is installed with apt-get on Debian, as root, when it is missing. Everything shares the processors of this
    /// machine, so nothing else should run. All of it takes about twelve minutes. Raw results lie in target/cluster.
    ClusterFigures {
        /// Only these.
        #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = clap::builder::PossibleValuesParser::new(cluster::names()))]
        setups: Vec<String>,
        /// Adds to the results of earlier runs rather than beginning anew.
        #[arg(long)]
        keep: bool,
        /// One second each, to see that it runs: its figures say nothing, and no document is written.
        #[arg(long)]
        quick: bool,
    },
}

const PEERS_EXAMPLES: &str = "\
Examples:
  cargo xtask peers                                          everything once
  cargo xtask peers --rounds 3                               three times, in turns
  cargo xtask peers --peers halley,limit-send --scenarios lp1k,idle
  cargo xtask peers --quick --peers halley                   whether everything runs
  cargo xtask peers --growth                                 how cost grows with the number of sessions";

const TEST_EXAMPLES: &str = "\
Examples:
  cargo xtask test                        everything, as CI does
  cargo xtask test --list                 which steps there are, and why
  cargo xtask test --only nothing-lost    kill -9 and broken networks against acknowledging clients
  cargo xtask test --only unit --only fmt

One test of a step, with its output (the binary must have been built once):
  cargo build --release -p halley
  cargo test -p halley-tests --features e2e --test nothing_lost -- cometd_9_over_websocket --nocapture";

const FUZZ_EXAMPLES: &str = "\
Examples:
  cargo xtask fuzz                          everything, ten minutes each
  cargo xtask fuzz session --minutes 60     the session for an hour
  cargo xtask fuzz batch --keep             and keep what was found worth keeping in fuzz/corpus/batch

One input, without any of this:
  cargo run -p fuzz -- session fuzz/artifacts/session/crash-…";

fn main() -> ExitCode {
    let passed = match Arguments::parse().word {
        Word::Test { list: true, .. } => {
            run::list(steps::ALL);
            true
        }
        Word::Test { only, list: false } if only.is_empty() => run::all(steps::ALL, &steps::every_name()),
        Word::Test { only, list: false } => run::all(steps::ALL, &only),
        Word::Fuzz {
            targets,
            minutes,
            keep,
        } => fuzz::hunt(&fuzz::Hunt {
            targets,
            minutes,
            keep,
        }),
        Word::Instructions { keep } => match instructions::count(keep) {
            run::Outcome::Passed => true,
            outcome @ (run::Outcome::Failed(_) | run::Outcome::Skipped(_)) => {
                say::line(outcome);
                false
            }
        },
        Word::Peers { list: true, .. } => {
            peers::list();
            true
        }
        Word::Peers {
            peers,
            scenarios,
            rounds,
            growth,
            quick,
            keep,
            list: false,
        } => peers::compare(&peers::Comparison {
            peers,
            scenarios,
            rounds,
            growth,
            quick,
            keep,
        }),
        Word::ClusterFigures { setups, keep, quick } => {
            cluster::measure(&cluster::Figures { setups, keep, quick })
        }
        Word::Check => run::all(steps::ALL, &["fmt", "clippy", "purity"].map(str::to_owned)),
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
