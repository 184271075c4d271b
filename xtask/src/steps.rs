//! The steps of `cargo xtask test`, in their order: what fails most often and soonest comes first. To add one: a
//! function and an entry here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{Outcome, Step};
use crate::{say, tools};

/// Every step. What a step needs stands above it.
pub(crate) const ALL: &[Step] = &[
    Step {
        name: "fmt",
        why: "cargo fmt --check: a diff shows what changed, not how somebody indents",
        needs: &[],
        run: || cargo(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "clippy",
        why: "lints of all crates and tests, warnings refused: Cargo.toml gives the reason for each",
        needs: &[],
        run: || {
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
            ])
        },
    },
    Step {
        name: "purity",
        why: "the protocol crates depend on nothing that does I/O: time and the network are arguments there",
        needs: &[],
        run: purity,
    },
    Step {
        name: "deny",
        why: "cargo deny: licences, sources, known holes of every dependency (deny.toml, advisories/ and RustSec's database)",
        needs: &[],
        run: crate::deny::check,
    },
    Step {
        name: "typos",
        why: "spelling, in code and in prose (typos.toml)",
        needs: &[],
        run: typos,
    },
    Step {
        name: "nats",
        why: "a nats-server for the tests of logs that nodes share: Debian's",
        needs: &[],
        run: nats,
    },
    Step {
        name: "haproxy",
        why: "a load balancer for the tests of clusters and of deploy/: Debian's haproxy",
        needs: &[],
        run: haproxy,
    },
    Step {
        name: "nginx",
        why: "another one: Debian's nginx",
        needs: &[],
        run: nginx,
    },
    Step {
        name: "unit",
        why: "unit and in-process tests of every crate, with a clock that is an argument: seconds, no network",
        needs: &["nats"],
        run: || {
            cargo(&[
                "test",
                "--workspace",
                "--no-fail-fast",
                "--",
                "--test-threads",
                "4",
            ])
        },
    },
    Step {
        name: "loadgen",
        why: "the generator of cargo xtask peers, which is no member of the workspace: its options, what it says, what it counts",
        needs: &[],
        run: || {
            cargo(&[
                "test",
                "--locked",
                "--manifest-path",
                "benches/peers/loadgen/Cargo.toml",
                "--target-dir",
                "target/peers/build",
            ])
        },
    },
    Step {
        name: "npm",
        why: "npm ci in tests/js: CometD clients of every major, 3 to 9, as they are published, at locked versions",
        needs: &[],
        run: npm,
    },
    Step {
        name: "chromium",
        why: "a browser for the tests with pages: Debian's, at /usr/bin/chromium",
        needs: &[],
        run: chromium,
    },
    Step {
        name: "release",
        why: "cargo build --release -p halley: from here on the tests run what would be shipped",
        needs: &[],
        run: || cargo(&["build", "--release", "-p", "halley"]),
    },
    Step {
        name: "benches",
        why: "every bench once, unoptimized: they compile, run, and allocate what they may; no time is judged",
        needs: &[],
        run: || cargo(&["test", "-p", "halley-benches", "--benches"]),
    },
    Step {
        name: "instructions",
        why: "instructions of the hot ways, under valgrind, within 3 % of benches/instructions.json: what got dearer shows",
        needs: &["release"],
        run: || crate::instructions::count(false),
    },
    Step {
        name: "demo",
        why: "the command of the README: broker, voice API and three agents; every stream must be what the scenario says",
        needs: &["release"],
        run: || cargo(&["run", "--release", "--", "demo", "--once"]),
    },
    Step {
        name: "e2e-build",
        why: "the tests of the release binary, all at once: two processors have something to do while one links",
        needs: &[],
        run: e2e_build,
    },
    Step {
        name: "stock-clients",
        why: "unmodified CometD clients over WebSocket and long-polling: each event once, in order, to its user only",
        needs: &["npm", "release"],
        run: || e2e("stock_clients"),
    },
    Step {
        name: "browser",
        why: "the newest CometD client in headless Chromium: origins, cookies, reloads, tabs, WebSockets refused and cut",
        needs: &["npm", "chromium", "release"],
        run: || e2e("browser"),
    },
    Step {
        name: "bench-report",
        why: "the page of a load test in headless Chromium: its figures are those of the JSON, and nothing else is loaded",
        needs: &["npm", "chromium", "release"],
        run: || e2e("bench_report"),
    },
    Step {
        name: "nothing-lost",
        why: "kill -9, cut networks, sleeping clients, with the acknowledge extension: exactly once, same session",
        needs: &["npm", "release"],
        run: || e2e("nothing_lost"),
    },
    Step {
        name: "plain-clients",
        why: "the same without the extension: at least once, in order, same session; prints what came twice",
        needs: &["npm", "release"],
        run: || e2e("plain_clients"),
    },
    Step {
        name: "slow-client",
        why: "a subscriber that stops reading: bounded memory, nobody else delayed, nothing lost",
        needs: &["release"],
        run: || e2e("slow_client"),
    },
    Step {
        name: "leaving",
        why: "SIGTERM and halley drain: clients are let go one after the other, and go on with their sessions afterwards",
        needs: &["release"],
        run: || e2e("leaving"),
    },
    Step {
        name: "cluster",
        why: "three nodes on one log behind a balancer without stickiness: killed, replaced, cut off; exactly once, same session",
        needs: &["npm", "nats", "haproxy", "nginx", "release"],
        run: || e2e("cluster"),
    },
    Step {
        name: "newest-nats",
        why: "what nodes share, moving sessions and three copies again, with the newest nats-server that is known to do",
        needs: &["npm", "haproxy", "release"],
        run: newest_nats,
    },
    Step {
        name: "hostile",
        why: "more than 800 things that nobody should send: each gets what it deserves, and the broker stays as it was",
        needs: &["release"],
        run: || e2e("hostile"),
    },
    Step {
        name: "edges",
        why: "many bad clients at once: what they cost, and what another user notices (HALLEY_EDGES=full for thousands)",
        needs: &["release"],
        run: || e2e("edges"),
    },
    Step {
        name: "log-sinks",
        why: "stdout and stderr closed, full, or not read: the broker goes on and ends well",
        needs: &["release"],
        run: || e2e("log_sinks"),
    },
    Step {
        name: "deploy",
        why: "deploy/cluster as it is written: three nodes, three nats-servers with its permissions, its proxy, servers killed",
        needs: &["nats", "haproxy", "nginx", "release"],
        run: || e2e("deploy"),
    },
    Step {
        name: "tls-binary",
        why: "TLS of the binary: what an idle WebSocket takes, SIGHUP",
        needs: &["release"],
        run: || e2e("tls_binary"),
    },
];

/// What `--only` accepts.
pub(crate) fn names() -> impl Into<clap::builder::ValueParser> {
    clap::builder::PossibleValuesParser::new(ALL.iter().map(|step| step.name))
}

/// All of them, in their order.
pub(crate) fn every_name() -> Vec<String> {
    ALL.iter().map(|step| step.name.to_owned()).collect()
}

/// The crates that may not do I/O, and what would give them away.
fn purity() -> Outcome {
    const PURE: [&str; 2] = ["bayeux", "routing"];
    const IMPURE: [&str; 4] = ["tokio", "hyper", "mio", "socket2"];
    for name in PURE {
        let arguments = ["tree", "--package", name, "--edges", "normal", "--prefix", "none"];
        let tree = match output(Command::new("cargo").args(arguments)) {
            Ok(tree) => tree,
            Err(reason) => return Outcome::Failed(reason),
        };
        let crates = tree.lines().filter_map(|line| line.split(' ').next());
        if let Some(found) = crates.into_iter().find(|found| IMPURE.contains(found)) {
            return Outcome::Failed(format!("{name} depends on {found}"));
        }
        say::line(format_args!("{name}: none of {}", IMPURE.join(", ")));
    }
    Outcome::Passed
}

fn typos() -> Outcome {
    match tools::find(&tools::TYPOS) {
        Ok(program) => succeed(Command::new(program).current_dir(root())),
        Err(reason) => Outcome::Skipped(reason),
    }
}

/// Installs Node where that is allowed, then the locked packages.
fn npm() -> Outcome {
    let is_installed = is_there("node") && is_there("npm");
    const BY_HAND: &str = "node and npm are missing; install Node 18 or newer";
    if !is_installed && let Err(reason) = install(&["nodejs", "npm"], BY_HAND) {
        return Outcome::Skipped(reason);
    }
    let folder = root().join("tests/js");
    if is_up_to_date(&folder) {
        say::line("node_modules is what package-lock.json asks for");
        return Outcome::Passed;
    }
    let npm = Command::new("npm")
        .arg("ci")
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    let npm = match npm {
        Ok(npm) => npm,
        Err(error) => return Outcome::Failed(format!("npm does not start: {error}")),
    };
    let said = String::from_utf8_lossy(&npm.stderr);
    say::line(said.trim_end());
    if npm.status.success() {
        Outcome::Passed
    } else if is_network_trouble(&said) {
        Outcome::Skipped("npm cannot reach its registry".to_owned())
    } else {
        Outcome::Failed(format!("npm ci: {}", npm.status))
    }
}

/// npm keeps a copy of the lock file in what it installed.
fn is_up_to_date(folder: &Path) -> bool {
    let modified = |file: &str| {
        folder
            .join(file)
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    match (
        modified("node_modules/.package-lock.json"),
        modified("package-lock.json"),
    ) {
        (Some(installed), Some(locked)) => installed >= locked,
        (None, _) | (_, None) => false,
    }
}

fn is_network_trouble(npm_said: &str) -> bool {
    [
        "ENOTFOUND",
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ECONNRESET",
        "ETIMEDOUT",
        "ENETUNREACH",
        "EHOSTUNREACH",
    ]
    .iter()
    .any(|code| npm_said.contains(code))
}

/// Installs Chromium where that is allowed.
fn chromium() -> Outcome {
    const CHROMIUM: &str = "/usr/bin/chromium";
    if is_there(CHROMIUM) {
        return Outcome::Passed;
    }
    match install(
        &["chromium"],
        "there is no /usr/bin/chromium; install Debian's package chromium",
    ) {
        Ok(()) if is_there(CHROMIUM) => Outcome::Passed,
        Ok(()) => Outcome::Skipped(format!("the package chromium brought no {CHROMIUM}")),
        Err(reason) => Outcome::Skipped(reason),
    }
}

/// Installs nats-server where that is allowed.
fn nats() -> Outcome {
    daemon("nats-server", "of version 2.9 or newer")
}

/// Debian keeps some of these where only root looks for programs.
fn daemon(name: &str, version: &str) -> Outcome {
    let programs = [name.to_owned(), format!("/usr/sbin/{name}")];
    let is_installed = || programs.iter().any(|program| is_there(program));
    if is_installed() {
        return Outcome::Passed;
    }
    match install(&[name], &format!("there is no {name}; install it, {version}")) {
        Ok(()) if is_installed() => Outcome::Passed,
        Ok(()) => Outcome::Failed(format!("the package {name} brought no {name}")),
        Err(reason) => Outcome::Failed(reason),
    }
}

/// Installs HAProxy where that is allowed.
fn haproxy() -> Outcome {
    balancer("haproxy", "2.6")
}

/// Installs nginx where that is allowed.
fn nginx() -> Outcome {
    let was_there = Path::new(NGINX_RUNS).exists();
    let outcome = balancer("nginx", "1.22");
    // The package may have started one.
    if !was_there && Path::new(NGINX_RUNS).exists() {
        let _ = succeed(Command::new("service").args(["nginx", "stop"]));
    }
    outcome
}

/// Where nginx of Debian says its process.
const NGINX_RUNS: &str = "/run/nginx.pid";

/// They know no --version.
fn balancer(name: &str, version: &str) -> Outcome {
    let programs = [name.to_owned(), format!("/usr/sbin/{name}")];
    let is_installed = || {
        programs
            .iter()
            .any(|program| output(Command::new(program).arg("-v")).is_ok())
    };
    if is_installed() {
        return Outcome::Passed;
    }
    let by_hand = format!("there is no {name}; install it, of version {version} or newer");
    match install(&[name], &by_hand) {
        Ok(()) if is_installed() => Outcome::Passed,
        Ok(()) => Outcome::Failed(format!("the package {name} brought no {name}")),
        Err(reason) => Outcome::Failed(reason),
    }
}

/// Installs packages on Debian when root asks; an error says why not.
pub(crate) fn install(packages: &[&str], by_hand: &str) -> Result<(), String> {
    let user = output(Command::new("id").arg("-u")).unwrap_or_default();
    if user.trim() != "0" || !is_there("apt-get") {
        return Err(by_hand.to_owned());
    }
    say::line(format_args!(
        "missing here, so: apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    ));
    let mut command = Command::new("apt-get");
    command
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages);
    match succeed(command.env("DEBIAN_FRONTEND", "noninteractive")) {
        Outcome::Passed => Ok(()),
        Outcome::Failed(_) | Outcome::Skipped(_) => Err(format!("{by_hand} (apt-get could not)")),
    }
}

/// One file of end-to-end tests against the release binary. They mostly wait, so four at a time.
/// The tests of the release binary, each a step of its own.
const E2E: [&str; 13] = [
    "stock_clients",
    "browser",
    "bench_report",
    "nothing_lost",
    "plain_clients",
    "slow_client",
    "leaving",
    "cluster",
    "hostile",
    "edges",
    "log_sinks",
    "deploy",
    "tls_binary",
];

/// What runs with the newest nats-server besides the cluster.
const ALSO_NEWEST_NATS: [&str; 2] = ["log_conformance", "moving"];

fn e2e_build() -> Outcome {
    let mut arguments = vec!["test", "-p", "halley-tests", "--features", "e2e", "--no-run"];
    let tests = E2E.iter().chain(&ALSO_NEWEST_NATS);
    arguments.extend(tests.flat_map(|test| ["--test", test]));
    cargo(&arguments)
}

fn e2e(test: &str) -> Outcome {
    assert!(E2E.contains(&test), "{test} is to be built with the others");
    let arguments = ["test", "-p", "halley-tests", "--features", "e2e", "--test", test];
    cargo(&[&arguments[..], &["--", "--show-output", "--test-threads", "4"]].concat())
}

fn newest_nats() -> Outcome {
    let program = match tools::newest_nats() {
        Ok(program) => program,
        Err(reason) => return Outcome::Skipped(reason),
    };
    let mut command = Command::new("cargo");
    command
        .args([
            "test",
            "-p",
            "halley-tests",
            "--features",
            "e2e",
            "--test",
            "cluster",
        ])
        .args(ALSO_NEWEST_NATS.iter().flat_map(|test| ["--test", test]))
        .args(["--", "--show-output", "--test-threads", "4"])
        // Of the cluster only what needs three servers, of logs only what nodes share.
        .args([
            "sharing",
            "acknowledging",
            "answering",
            "writing",
            "quorum",
            "three_copies",
        ])
        .env("NATS_SERVER", program)
        .current_dir(root());
    succeed(&mut command)
}

fn cargo(arguments: &[&str]) -> Outcome {
    succeed(Command::new("cargo").args(arguments).current_dir(root()))
}

/// Says the command, runs it, and lets it write to the terminal.
pub(crate) fn succeed(command: &mut Command) -> Outcome {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let words = format!("{} {}", command.get_program().to_string_lossy(), words.join(" "));
    say::line(format_args!("$ {words}"));
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("`{words}`: {status}")),
        Err(error) => Outcome::Failed(format!("`{words}` does not start: {error}")),
    }
}

/// What a command writes, or why there is nothing.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!(
            "{}: {}",
            command.get_program().to_string_lossy(),
            output.status
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program can be started at all.
pub(crate) fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The workspace, wherever this was called from.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_needs_stands_above_it() {
        for (place, step) in ALL.iter().enumerate() {
            for need in step.needs {
                assert!(
                    ALL[..place].iter().any(|above| above.name == *need),
                    "{} needs {need}",
                    step.name
                );
            }
        }
    }

    #[test]
    fn a_broken_lock_file_is_not_taken_for_a_missing_network() {
        assert!(is_network_trouble("npm error code EAI_AGAIN"));
        assert!(!is_network_trouble(
            "npm error code EUSAGE: package.json and package-lock.json are not in sync"
        ));
    }
}
