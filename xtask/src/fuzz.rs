//! `cargo xtask fuzz`: looks for inputs that break a promise, for as long as one likes.
//!
//! The targets are in `fuzz/`; libFuzzer runs them, built by cargo-fuzz without a sanitizer, which a stable compiler can do:
//! there is no unsafe code of ours that one would watch. Besides, the property tests are run with seeds that nobody chose.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::say;
use crate::steps::{install, is_there, output, root, succeed};

/// What is looked for, and for how long.
pub(crate) struct Hunt {
    /// Every target and the property tests, if there is none.
    pub(crate) targets: Vec<String>,
    /// For each.
    pub(crate) minutes: u64,
    /// What was found worth keeping replaces the committed corpus.
    pub(crate) keep: bool,
}

/// The word for the property tests, which have no target.
const PROPERTIES: &str = "properties";

/// Where property tests are.
const PROPERTY_TESTS: [&[&str]; 3] = [
    &["--lib", "-p", "bayeux", "-p", "voice", "-p", "halley"],
    &["-p", "fuzz", "--test", "simulation"],
    &["-p", "halley-tests", "--test", "log_conformance"],
];

/// The version whose flags are known to work.
const CARGO_FUZZ: &str = "0.13.2";

/// How an input may fail besides by a panic: seconds for one, and megabytes for all.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

/// The longest input, in bytes: longer ones take longer and find nothing else.
const LONGEST: [(&str, u32); 4] = [
    ("batch", 8192),
    ("channel", 256),
    ("ingest", 8192),
    ("session", 512),
];

/// A target that there is, or the property tests.
pub(crate) fn parse(name: &str) -> Result<String, String> {
    let known = all();
    if known.iter().any(|known| known == name) {
        return Ok(name.to_owned());
    }
    Err(format!("there are {}", known.join(", ")))
}

/// Looks, and says what came of it. True if nothing was found.
pub(crate) fn hunt(hunt: &Hunt) -> bool {
    let chosen = if hunt.targets.is_empty() {
        all()
    } else {
        hunt.targets.clone()
    };
    let mut results = Vec::new();
    let mut engine = None;
    for target in chosen {
        say::heading(format_args!("== {target}, for {} minutes", hunt.minutes));
        let result = if target == PROPERTIES {
            draw(hunt.minutes)
        } else {
            engine
                .get_or_insert_with(build)
                .clone()
                .and_then(|engine| Folders::of(&target).and_then(|folders| folders.search(&engine, hunt)))
        };
        results.push((target, result));
    }
    say::heading("what came of it");
    for (target, result) in &results {
        let (Ok(text) | Err(text)) = result;
        say::line(format_args!("{target:<12} {text}"));
    }
    results.iter().all(|(_, result)| result.is_ok())
}

/// The targets, by their folders of seeds, which a test of theirs compares with the code; then the property tests.
fn all() -> Vec<String> {
    let folders = files(&root().join("fuzz/seeds"));
    let names = folders.iter().filter_map(|folder| folder.file_name()?.to_str());
    names.chain([PROPERTIES]).map(ToOwned::to_owned).collect()
}

/// Builds the engine, and installs what that needs. Returns the program.
fn build() -> Result<PathBuf, String> {
    if !is_there("c++") {
        install(&["g++"], "libFuzzer is C++: install a C++ compiler")?;
    }
    let triple = host()?;
    let mut build = Command::new(cargo_fuzz()?);
    build
        .args(["build", "--sanitizer", "none", "--fuzz-dir", "fuzz"])
        .args(["--target", &triple, "--target-dir", "target/fuzz", "fuzz"])
        // It would take most of the time of a build, and gives the engine nothing.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .current_dir(root());
    succeed(&mut build).required()?;
    Ok(root().join("target/fuzz").join(triple).join("release/fuzz"))
}

fn cargo_fuzz() -> Result<PathBuf, String> {
    if is_there("cargo-fuzz") {
        return Ok("cargo-fuzz".into());
    }
    let tools = root().join("target/tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.exists() {
        say::line("cargo-fuzz is missing: it is built from source, into target/tools");
        let mut install = Command::new("cargo");
        install
            .args([
                "install",
                "--locked",
                "--version",
                CARGO_FUZZ,
                "cargo-fuzz",
                "--root",
            ])
            .arg(&tools);
        succeed(&mut install).required()?;
    }
    Ok(program)
}

fn host() -> Result<String, String> {
    let said = output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(ToOwned::to_owned)
        .ok_or_else(|| "rustc does not say what it runs on".to_owned())
}

/// Where the inputs of a target are.
struct Folders {
    target: String,
    /// What people wrote, and what was once a finding.
    seeds: PathBuf,
    /// What an engine found worth keeping, cut down to that.
    corpus: PathBuf,
    /// What it finds now.
    work: PathBuf,
    /// What breaks a promise.
    artifacts: PathBuf,
    log: PathBuf,
}

impl Folders {
    fn of(target: &str) -> Result<Self, String> {
        let (root, built) = (root(), root().join("target/fuzz"));
        let folders = Self {
            target: target.to_owned(),
            seeds: root.join("fuzz/seeds").join(target),
            corpus: root.join("fuzz/corpus").join(target),
            work: built.join("work").join(target),
            artifacts: root.join("fuzz/artifacts").join(target),
            log: built.join(format!("{target}.log")),
        };
        for folder in [&folders.corpus, &folders.work, &folders.artifacts] {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        Ok(folders)
    }

    /// Runs the engine until the time is over or something is found.
    fn search(&self, engine: &Path, hunt: &Hunt) -> Result<String, String> {
        let before = files(&self.artifacts);
        let mut command = self.command(engine);
        command
            .args([&self.work, &self.corpus, &self.seeds])
            .arg(format!("-max_total_time={}", hunt.minutes * 60))
            .stderr(Stdio::piped());
        say::line(format_args!("everything it says is in {}", self.log.display()));
        let child = command
            .spawn()
            .map_err(|error| format!("the engine does not start: {error}"))?;
        let (status, seen) = watch(child, &self.log)?;
        let found: Vec<_> = files(&self.artifacts).difference(&before).cloned().collect();
        if status && found.is_empty() {
            if hunt.keep {
                self.keep(engine)?;
            }
            return Ok(format!("{seen}; nothing found"));
        }
        Err(self.describe(&found))
    }

    fn command(&self, engine: &Path) -> Command {
        let longest = LONGEST.iter().find(|(target, _)| *target == self.target);
        let longest = longest.map_or(4096, |(_, bytes)| *bytes);
        let mut command = Command::new(engine);
        command
            .arg(format!("--target={}", self.target))
            .arg(format!("-artifact_prefix={}/", self.artifacts.display()))
            .arg(format!("-max_len={longest}"))
            .args(LIMITS)
            .stdin(Stdio::null())
            .current_dir(root());
        command
    }

    /// The smallest set of inputs that reaches what all of them reach becomes the committed corpus.
    fn keep(&self, engine: &Path) -> Result<(), String> {
        let fail = |error: std::io::Error| format!("the corpus was not replaced: {error}");
        let kept = self.work.with_file_name(format!("{}-kept", self.target));
        // What an interrupted run has left.
        let _ = fs::remove_dir_all(&kept);
        fs::create_dir_all(&kept).map_err(fail)?;
        let mut command = self.command(engine);
        command
            .args(["-merge=1", "-set_cover_merge=1", "-use_counters=0"])
            .args([&kept, &self.work, &self.corpus, &self.seeds])
            .stderr(Stdio::null());
        succeed(&mut command).required()?;
        fs::remove_dir_all(&self.corpus).map_err(fail)?;
        fs::create_dir_all(&self.corpus).map_err(fail)?;
        for file in files(&kept) {
            let name = file.file_name().unwrap_or_default();
            fs::copy(&file, self.corpus.join(name)).map_err(fail)?;
        }
        let count = files(&self.corpus).len();
        say::line(format_args!("{}: {count} inputs are kept", self.corpus.display()));
        Ok(())
    }

    fn describe(&self, found: &[PathBuf]) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let mut panic = log
            .lines()
            .skip_while(|line| !line.contains("panicked at"))
            .skip(1);
        let reason = panic
            .next()
            .or_else(|| log.lines().find(|line| line.contains("ERROR")));
        let target = &self.target;
        let files: Vec<_> = found
            .iter()
            .map(|file| format!("\n    cargo run -p fuzz -- {target} {}", file.display()))
            .collect();
        format!(
            "FOUND: {}\n  to see it and run it again:{}\n  when it is mended, move the file to fuzz/seeds/{target}/ under a name that says what it was",
            reason.unwrap_or("the engine ended"),
            files.concat(),
        )
    }
}

/// Writes down what the engine says and shows some of it. Returns whether it ended well, and how far it came.
fn watch(mut child: Child, log: &Path) -> Result<(bool, String), String> {
    let fail = |error: std::io::Error| format!("the engine cannot be watched: {error}");
    let mut log = File::create(log).map_err(fail)?;
    let began = Instant::now();
    let mut shown = began;
    let mut seen = String::new();
    for line in child
        .stderr
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(|said| said.split(b'\n'))
    {
        let line = String::from_utf8_lossy(&line.map_err(fail)?).into_owned();
        writeln!(log, "{line}").map_err(fail)?;
        if let Some(progress) = progress(&line) {
            seen = progress;
        }
        if shown.elapsed() > Duration::from_secs(10) {
            shown = Instant::now();
            let seconds = began.elapsed().as_secs();
            say::line(format_args!("{:>4}:{:02}  {seen}", seconds / 60, seconds % 60));
        }
    }
    let status = child.wait().map_err(fail)?;
    Ok((status.success(), seen))
}

/// What a line of libFuzzer tells: `#4096  pulse  cov: 7 ft: 9 corp: 3/12b exec/s: 2048 rss: 33Mb`.
fn progress(line: &str) -> Option<String> {
    let inputs = line.strip_prefix('#')?.split_whitespace().next()?;
    let after = |name: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1)
    };
    Some(format!(
        "{inputs} inputs, {} a second; {} edges, {} features, {} kept",
        after("exec/s:")?,
        after("cov:")?,
        after("ft:")?,
        after("corp:")?,
    ))
}

/// Runs the property tests with one seed after another.
fn draw(minutes: u64) -> Result<String, String> {
    let until = Instant::now() + Duration::from_secs(minutes * 60);
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < until {
        // The standard library's own way to random numbers.
        let seed = RandomState::new().hash_one(rounds);
        say::line(format_args!("PROPTEST_RNG_SEED={seed}"));
        for tests in PROPERTY_TESTS {
            let mut command = Command::new("cargo");
            command
                .args(["test", "--quiet"])
                .args(tests)
                .env("PROPTEST_RNG_SEED", seed.to_string())
                .current_dir(root());
            succeed(&mut command)
                .required()
                .map_err(|reason| format!("FOUND: PROPTEST_RNG_SEED={seed}: {reason}"))?;
        }
        rounds += 1;
    }
    Ok(format!("{rounds} seeds; nothing found"))
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says_is_understood() {
        let line = "#34805\tREDUCE cov: 3218 ft: 18750 corp: 1504/571Kb lim: 602 exec/s: 791 rss: 39Mb L: 296/602 MS: 4";
        assert_eq!(
            progress(line).as_deref(),
            Some("34805 inputs, 791 a second; 3218 edges, 18750 features, 1504/571Kb kept")
        );
        assert_eq!(progress("INFO: Seed: 2809750859"), None);
    }

    /// Every Rust file below a folder.
    fn sources(folder: &Path) -> Vec<PathBuf> {
        files(folder)
            .into_iter()
            .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect()
    }

    #[test]
    fn every_property_test_is_drawn_from() {
        let places = ["crates", "tests/tests", "fuzz"].map(|folder| root().join(folder));
        for source in places.iter().flat_map(|folder| sources(folder)) {
            let text = fs::read_to_string(&source).expect("a source");
            if !text.contains("\n    proptest! {") && !text.contains("\nproptest! {") {
                continue;
            }
            let path = source
                .strip_prefix(root())
                .expect("of this folder")
                .to_string_lossy()
                .into_owned();
            let is_drawn_from = PROPERTY_TESTS.concat().iter().any(|word| {
                path.starts_with(&format!("crates/{word}/src/"))
                    || path == format!("fuzz/tests/{word}.rs")
                    || path.starts_with(&format!("tests/tests/{word}/"))
            });
            assert!(is_drawn_from, "{path}");
        }
    }
}
