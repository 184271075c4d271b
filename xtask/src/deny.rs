//! The step `deny`: what comes in with the dependencies, by deny.toml and by what is known to be wrong with them.
//!
//! Known holes are in `advisories/`, which is there without a network, and in RustSec's database, where that can be fetched.
//! cargo-deny reads git repositories only, so the folder becomes one under target/.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::run::Outcome;
use crate::steps::{output, root, succeed};
use crate::{say, tools};

/// Stands for our folder in cargo-deny's configuration, which takes nothing but addresses of hosts; git is told where it is.
const OURS: &str = "https://advisories.invalid/halley";

/// RustSec's, as cargo-deny knows it by itself.
const RUSTSEC: &str = "https://github.com/RustSec/advisory-db";

/// How long fetching that may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn check() -> Outcome {
    let program = match tools::find(&tools::CARGO_DENY) {
        Ok(program) => program,
        Err(reason) => return Outcome::Skipped(reason),
    };
    match check_with(&program) {
        Ok(()) => Outcome::Passed,
        Err(reason) => Outcome::Failed(reason),
    }
}

fn check_with(program: &Path) -> Result<(), String> {
    let place = root().join("target/advisories");
    let repository = our_repository(&place)?;
    // What was cloned from an earlier repository has another history.
    let _ = fs::remove_dir_all(place.join("ours"));
    let mut ours = deny(program, &configuration(&place, "ours", OURS)?);
    ours.arg("check")
        .env("GIT_CONFIG_COUNT", "1")
        .env(
            "GIT_CONFIG_KEY_0",
            format!("url.{}.insteadOf", address(&repository)),
        )
        .env("GIT_CONFIG_VALUE_0", OURS);
    succeed(&mut ours).required()?;
    let rustsec = configuration(&place, "rustsec", RUSTSEC)?;
    if let Err(reason) = fetch(deny(program, &rustsec)) {
        let day = fs::read_to_string(root().join("advisories/as-of")).map_err(|error| error.to_string())?;
        say::line(format_args!(
            "RustSec's database could not be refreshed ({reason}): what is known here is advisories/, as of {}",
            day.trim()
        ));
        return Ok(());
    }
    succeed(deny(program, &rustsec).args(["check", "advisories"])).required()
}

fn deny(program: &Path, configuration: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).arg("--config").arg(configuration);
    command
}

/// deny.toml with one database, which is kept here.
fn configuration(place: &Path, name: &str, database: &str) -> Result<PathBuf, String> {
    let text = fs::read_to_string(root().join("deny.toml")).map_err(|error| format!("deny.toml: {error}"))?;
    let text = with_database(&text, database, &place.join(name))?;
    let path = place.join(format!("{name}.toml"));
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn with_database(text: &str, database: &str, kept: &Path) -> Result<String, String> {
    let mut table: toml::Table = text.parse().map_err(|error| format!("deny.toml: {error}"))?;
    let advisories = table
        .entry("advisories")
        .or_insert_with(|| toml::Table::new().into());
    let advisories = advisories.as_table_mut().ok_or("deny.toml: advisories")?;
    advisories.insert("db-urls".to_owned(), vec![database].into());
    advisories.insert("db-path".to_owned(), kept.to_string_lossy().into_owned().into());
    Ok(table.to_string())
}

/// A git repository of `advisories/`, made anew.
fn our_repository(place: &Path) -> Result<PathBuf, String> {
    let repository = place.join("repository");
    let _ = fs::remove_dir_all(&repository);
    fs::create_dir_all(&repository).map_err(|error| format!("{}: {error}", repository.display()))?;
    let mut copy = Command::new("cp");
    copy.arg("-R")
        .arg(root().join("advisories/crates"))
        .arg(&repository);
    output(&mut copy)?;
    for words in [
        "init --quiet --initial-branch main",
        "add --all",
        "-c user.name=xtask -c user.email=xtask@localhost -c commit.gpgsign=false commit --quiet --message advisories",
    ] {
        output(
            Command::new("git")
                .arg("-C")
                .arg(&repository)
                .args(words.split(' ')),
        )?;
    }
    Ok(repository)
}

fn address(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Fetches the database of this configuration, or says why not.
fn fetch(mut command: Command) -> Result<(), String> {
    command
        .args(["fetch", "db"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_HTTP_LOW_SPEED_LIMIT", "1000")
        .env("GIT_HTTP_LOW_SPEED_TIME", "20")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err("it could not be fetched".to_owned()),
            None => thread::sleep(Duration::from_millis(50)),
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("it took longer than {} s", PATIENCE.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_keeps_what_deny_toml_says_beside_the_database() {
        let text = "[advisories]\nignore = [\"RUSTSEC-2020-0001\"]\n\n[bans]\nwildcards = \"deny\"\n";
        let text = with_database(text, OURS, Path::new("/kept")).expect("a configuration");
        for line in [
            "ignore = [\"RUSTSEC-2020-0001\"]",
            "wildcards = \"deny\"",
            "db-path = \"/kept\"",
            "db-urls = [\"https://advisories.invalid/halley\"]",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }
}
