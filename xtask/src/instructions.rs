//! `cargo xtask instructions`: what the hot ways cost, in instructions under valgrind, beside what they cost when that was last
//! written down. Instructions do not care how busy a machine is; the compiler and the processor's vector units they do care for, so
//! counts of another one are not compared.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::run::Outcome;
use crate::say;
use crate::steps::{install, is_there, output, root, succeed};

/// benches/Cargo.toml has the same.
const RUNNER: &str = "0.20.0";

/// In percent, either way: a change of inlining is not news, and what got cheaper by more is to be written down.
const TOLERANCE: f64 = 3.0;

const BASELINE: &str = "benches/instructions.json";

/// What was counted, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts {
    compiler: String,
    /// The widest vectors that the processor has, as far as libraries ask for them.
    vectors: String,
    of: BTreeMap<String, u64>,
}

/// Counts, and compares with what is written down, or writes it down.
pub(crate) fn count(keep: bool) -> Outcome {
    match try_count(keep) {
        Ok(outcome) => outcome,
        Err(reason) => Outcome::Failed(reason),
    }
}

fn try_count(keep: bool) -> Result<Outcome, String> {
    if !is_there("valgrind")
        && let Err(reason) = install(&["valgrind"], "valgrind is missing; install it")
    {
        return Ok(Outcome::Skipped(reason));
    }
    let found = run(&runner()?)?;
    if keep {
        let text = format!("{}\n", pretty(&found.to_json()));
        fs::write(root().join(BASELINE), text).map_err(|error| format!("{BASELINE}: {error}"))?;
        say::line(format_args!("written down in {BASELINE}"));
        return Ok(Outcome::Passed);
    }
    let text = fs::read_to_string(root().join(BASELINE)).map_err(|error| format!("{BASELINE}: {error}"))?;
    let written = Counts::from_json(&text).ok_or_else(|| format!("{BASELINE} is not what --keep writes"))?;
    if let Some(reason) = found.cannot_be_compared_with(&written) {
        return Ok(Outcome::Skipped(reason));
    }
    let changes = found.changes_from(&written);
    for change in &changes {
        say::line(change);
    }
    let far: Vec<_> = changes
        .iter()
        .filter(|change| change.is_far())
        .map(|change| change.name.as_str())
        .collect();
    if far.is_empty() {
        return Ok(Outcome::Passed);
    }
    Ok(Outcome::Failed(format!(
        "more than {TOLERANCE} % from {BASELINE}: {}; if that is meant, `cargo xtask instructions --keep` writes it down",
        far.join(", ")
    )))
}

fn runner() -> Result<PathBuf, String> {
    let tools = root().join("target/tools");
    let program = tools.join("bin/gungraun-runner");
    let version = output(Command::new(&program).arg("--version"));
    if version.is_ok_and(|version| version.contains(RUNNER)) {
        return Ok(program);
    }
    say::line("gungraun-runner is missing: it is built from source, into target/tools");
    let mut command = Command::new("cargo");
    command
        // It starts valgrind and reads what that wrote: there is nothing in it to optimize.
        .args(["install", "--debug", "--locked", "--force", "--version", RUNNER])
        .args(["gungraun-runner", "--root"])
        .arg(&tools);
    succeed(&mut command).required()?;
    Ok(program)
}

fn run(runner: &Path) -> Result<Counts, String> {
    let home = root().join("target/instructions");
    if home.exists() {
        // A bench that was renamed would be found again.
        fs::remove_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    }
    let mut bench = Command::new("cargo");
    bench
        .args(["bench", "-p", "halley-benches", "--bench", "instructions"])
        .env("GUNGRAUN_RUNNER", runner)
        .env("GUNGRAUN_HOME", &home)
        .env("GUNGRAUN_SAVE_SUMMARY", "json")
        .current_dir(root());
    succeed(&mut bench).required()?;
    let mut of = BTreeMap::new();
    collect(&home, &mut of)?;
    if of.is_empty() {
        return Err(format!("there is no summary.json below {}", home.display()));
    }
    Ok(Counts {
        compiler: compiler()?,
        vectors: vectors().to_owned(),
        of,
    })
}

fn collect(folder: &Path, of: &mut BTreeMap<String, u64>) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(said)? {
        let path = entry.map_err(said)?.path();
        if path.is_dir() {
            collect(&path, of)?;
        } else if path.file_name().is_some_and(|name| name == "summary.json") {
            let text = fs::read_to_string(&path).map_err(said)?;
            let (name, count) = read(&text).ok_or_else(|| format!("{} has no count", path.display()))?;
            of.insert(name, count);
        }
    }
    Ok(())
}

/// The name and the instructions of one summary.
fn read(summary: &str) -> Option<(String, u64)> {
    let summary: Value = serde_json::from_str(summary).ok()?;
    let name = format!(
        "{} {}",
        summary["function_name"].as_str()?,
        summary["id"].as_str()?
    );
    let total = &summary["profiles"][0]["data"]["total"]["metrics"];
    Some((name, total["Ir"]["values"]["new"].as_u64()?))
}

fn compiler() -> Result<String, String> {
    let said = output(Command::new("rustc").arg("-vV"))?;
    let release = said.lines().find_map(|line| line.strip_prefix("release: "));
    release
        .map(ToOwned::to_owned)
        .ok_or_else(|| "rustc does not say its release".to_owned())
}

fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    let vectors = if is_x86_feature_detected!("avx2") {
        "x86_64 with avx2"
    } else {
        "x86_64"
    };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = std::env::consts::ARCH;
    vectors
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

impl Counts {
    fn to_json(&self) -> Value {
        json!({ "compiler": self.compiler, "processor": self.vectors, "instructions": self.of })
    }

    fn from_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let of = value["instructions"].as_object()?.iter();
        Some(Self {
            compiler: value["compiler"].as_str()?.to_owned(),
            vectors: value["processor"].as_str()?.to_owned(),
            of: of
                .map(|(name, count)| Some((name.clone(), count.as_u64()?)))
                .collect::<Option<_>>()?,
        })
    }

    fn cannot_be_compared_with(&self, written: &Self) -> Option<String> {
        let differs = |what: &str, here: &str, there: &str| {
            (here != there).then(|| format!("{BASELINE} was counted with {what} {there}, this is {here}"))
        };
        differs("rustc", &self.compiler, &written.compiler)
            .or_else(|| differs("a processor", &self.vectors, &written.vectors))
    }

    /// Everything that is in one of both.
    fn changes_from(&self, written: &Self) -> Vec<Change> {
        let mut names: Vec<_> = self.of.keys().chain(written.of.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|name| Change {
                name: name.clone(),
                before: written.of.get(name).copied(),
                now: self.of.get(name).copied(),
            })
            .collect()
    }
}

struct Change {
    name: String,
    before: Option<u64>,
    now: Option<u64>,
}

impl Change {
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    fn percent(&self) -> Option<f64> {
        let (before, now) = (self.before? as f64, self.now? as f64);
        Some((now - before) / before * 100.0)
    }

    /// What is new, or is gone, is to be written down too.
    fn is_far(&self) -> bool {
        self.percent().is_none_or(|percent| percent.abs() > TOLERANCE)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (self.now, self.percent()) {
            (Some(now), Some(percent)) => write!(formatter, "{name:<40} {now:>10}  {percent:+.1} %"),
            (Some(now), None) => write!(formatter, "{name:<40} {now:>10}  new"),
            (None, _) => write!(formatter, "{name:<40} {:>10}  not counted any more", "-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Counts {
        Counts {
            compiler: "1.95.0".to_owned(),
            vectors: "x86_64".to_owned(),
            of: of.iter().map(|&(name, count)| (name.to_owned(), count)).collect(),
        }
    }

    fn far(before: &[(&str, u64)], now: &[(&str, u64)]) -> Vec<String> {
        let changes = counts(now).changes_from(&counts(before));
        let far = changes.into_iter().filter(Change::is_far);
        far.map(|change| change.name).collect()
    }

    #[test]
    fn what_got_much_dearer_or_cheaper_is_named() {
        let before = [("a", 1000), ("b", 1000), ("c", 1000)];
        let now = [("a", 1031), ("b", 969), ("c", 1029)];
        assert_eq!(far(&before, &now), ["a", "b"]);
    }

    #[test]
    fn what_is_new_or_gone_is_named() {
        assert_eq!(far(&[("a", 1), ("b", 1)], &[("b", 1), ("c", 1)]), ["a", "c"]);
    }

    #[test]
    fn counts_of_another_compiler_are_not_compared() {
        let (here, mut there) = (counts(&[]), counts(&[]));
        there.compiler = "1.80.0".to_owned();
        let reason = here.cannot_be_compared_with(&there).expect("a reason");
        assert!(reason.contains("1.80.0"), "{reason}");
    }

    #[test]
    fn what_is_written_down_is_what_was_counted() {
        let counts = counts(&[("push to_a_socket", 7)]);
        assert_eq!(Counts::from_json(&pretty(&counts.to_json())), Some(counts));
    }

    #[test]
    fn a_summary_has_a_name_and_a_count() {
        let summary = r#"{"function_name":"parse","id":"batch","profiles":[{"data":{"total":{"metrics":{"Ir":{"values":{"new":42}}}}}}]}"#;
        assert_eq!(read(summary), Some(("parse batch".to_owned(), 42)));
    }
}
