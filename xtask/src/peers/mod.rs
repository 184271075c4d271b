//! `cargo xtask peers`: Halley beside other servers and beside bare system calls, in one run, in turns.
//!
//! The generator and the yardstick are in `benches/peers`, small programs outside of the workspace: they call the kernel
//! directly, so that one core of generator loads one core of server. The server has the first processor to itself, the
//! generator the second. What holds on a noisy machine is the server's CPU time for each delivery; throughput and latency are
//! context. Every body is checked: a server that loses, repeats, reorders or misroutes has no figure.

pub(crate) mod page;
mod roster;
mod scenario;
mod server;
pub(crate) mod table;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::run::Outcome;
use crate::say;
use crate::steps::{root, succeed};

use roster::Peer;
use scenario::{Asked, Scenario};
use server::Server;
use table::Record;

/// What is compared, and how often.
pub(crate) struct Comparison {
    /// Every peer, if there is none.
    pub(crate) peers: Vec<String>,
    /// Every scenario, if there is none.
    pub(crate) scenarios: Vec<String>,
    /// Turns; each has three measured periods.
    pub(crate) rounds: u32,
    /// Only Halley, at growing numbers of sessions.
    pub(crate) growth: bool,
    /// One short period each, which shows that it runs; no document is written.
    pub(crate) quick: bool,
    /// Shows the results of earlier runs too.
    pub(crate) keep: bool,
}

/// How the generator is told to be short.
const QUICK: &[&str] = &[
    "--warmup=0.5",
    "--duration=1",
    "--repeat=1",
    "--hold=1",
    "--setup-cycles=1",
];

/// The names of all peers.
pub(crate) fn names() -> Vec<&'static str> {
    roster::ALL.iter().map(|peer| peer.name).collect()
}

/// The names of all scenarios.
pub(crate) fn scenarios() -> Vec<&'static str> {
    scenario::ALL.iter().map(|scenario| scenario.name).collect()
}

/// Prints what there is.
pub(crate) fn list() {
    say::heading("peers");
    for peer in roster::ALL {
        say::line(format_args!("{:<16} {}", peer.name, peer.what));
    }
    say::heading("scenarios");
    for scenario in scenario::ALL {
        say::line(format_args!("{:<16} {}", scenario.name, scenario.what));
    }
}

/// Compares, and writes the tables into the documents. True if everything that could run was right.
pub(crate) fn compare(comparison: &Comparison) -> bool {
    let chosen: Vec<&Scenario> = scenario::ALL
        .iter()
        .filter(|scenario| scenario.grows == comparison.growth)
        .filter(|scenario| wants(&comparison.scenarios, scenario.name))
        .collect();
    let folder = root().join("target/peers");
    let results = folder.join(match comparison {
        Comparison { quick: true, .. } => "quick.jsonl",
        Comparison { growth: true, .. } => "growth.jsonl",
        Comparison { .. } => "results.jsonl",
    });
    if let Err(error) = prepare(&folder, &results, comparison.keep) {
        say::line(format_args!("cannot write to {}: {error}", folder.display()));
        return false;
    }
    if !build("loadgen", "the load generator") {
        return false;
    }
    let peers = ready(comparison);
    let mut complete = true;
    let turns = comparison.rounds as usize * chosen.len() * peers.len();
    let mut turn = 0;
    for _ in 0..comparison.rounds {
        for scenario in &chosen {
            for peer in &peers {
                turn += 1;
                say::heading(format_args!(
                    "[{turn}/{turns}] {} against {}",
                    scenario.name, peer.name
                ));
                match measure(peer, scenario, comparison.quick, &folder) {
                    Ok(Some(line)) => append(&results, &line),
                    Ok(None) => say::line("it has nothing of the kind"),
                    Err(why) => {
                        complete = false;
                        say::line(format_args!("no figure: {why}"));
                    }
                }
            }
        }
    }
    let records = table::read(&results);
    let text = if comparison.growth {
        table::growth(&records)
    } else {
        table::compared(&records, &chosen)
    };
    say::heading(&text);
    let (document, mark) = if comparison.growth {
        ("docs/sizing.md", "cargo xtask peers --growth")
    } else {
        ("docs/performance.md", "cargo xtask peers")
    };
    let is_written = comparison.quick || page::write(document, mark, &text);
    is_written && complete && records.iter().all(Record::is_right)
}

fn wants(named: &[String], name: &str) -> bool {
    named.is_empty() || named.iter().any(|one| one == name)
}

fn prepare(folder: &Path, results: &Path, keep: bool) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    if !keep && results.exists() {
        fs::remove_file(results)?;
    }
    Ok(())
}

/// The peers that can be started here. Why the others cannot is said.
fn ready(comparison: &Comparison) -> Vec<&'static Peer> {
    roster::ALL
        .iter()
        .filter(|peer| !comparison.growth || peer.name == "halley")
        .filter(|peer| wants(&comparison.peers, peer.name))
        .filter(|peer| match (peer.install)() {
            Ok(()) => true,
            Err(why) => {
                say::line(format_args!("{} is left out: {why}", peer.name));
                false
            }
        })
        .collect()
}

/// Builds a program of `benches/peers`, in a folder of its own.
fn build(name: &str, what: &str) -> bool {
    say::heading(format_args!("{what}: benches/peers/{name}"));
    let manifest = root().join("benches/peers").join(name).join("Cargo.toml");
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(root().join("target/peers/build"));
    succeed(&mut command) == Outcome::Passed
}

fn built(name: &str) -> PathBuf {
    root().join("target/peers/build/release").join(name)
}

/// One turn: starts the peer, loads it, ends it. The generator's line, with who and what it was.
fn measure(peer: &Peer, scenario: &Scenario, quick: bool, folder: &Path) -> Result<Option<Value>, String> {
    let Some(wires) = (peer.wires)(scenario.transport) else {
        return Ok(None);
    };
    let acknowledges = scenario.asked == Asked::Acknowledgement;
    if acknowledges && !peer.acknowledges {
        return Ok(None);
    }
    let with_users = scenario.asked == Asked::Users && !peer.users.is_empty();
    let server = Server::start(peer, with_users, folder)?;
    let line = folder.join("line.json");
    let _ = fs::remove_file(&line);
    let mut command = server::on_processor(1, built("loadgen"));
    command
        .arg(format!("--name={}", peer.name))
        .arg(format!("--addr=127.0.0.1:{}", server.ports.clients))
        .arg(format!("--server-pid={}", server.pid()))
        .arg(format!("--json={}", line.display()))
        .args(wires.iter().map(|wire| server.ports.fill(wire)))
        .args(scenario.options.split_whitespace());
    if with_users {
        command.arg(format!("--users={}", roster::USER));
    }
    if acknowledges {
        command.arg("--ack=1");
    }
    if let Some(seconds) = peer.warmup.filter(|_| scenario.warms_up()) {
        command.arg(format!("--warmup={seconds}"));
    }
    if quick {
        // What comes last counts.
        command.args(QUICK);
    }
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    let text =
        fs::read_to_string(&line).map_err(|error| format!("the generator ended with {status}: {error}"))?;
    let mut result: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    result["peer"] = peer.name.into();
    result["scenario_name"] = scenario.name.into();
    Ok(Some(result))
}

fn append(results: &Path, line: &Value) {
    let file = OpenOptions::new().create(true).append(true).open(results);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
        say::line(format_args!("a result is lost: {error}"));
    }
}
