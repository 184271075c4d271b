//! What is known to be wrong with versions of what Halley is made of. `cargo deny check` asks RustSec's database, where there is a
//! network; this asks `advisories/` and the lock file, everywhere.

use std::fs;
use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};
use serde::Deserialize;

/// A file of `advisories/`, up to its text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    advisory: Advisory,
    versions: Versions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advisory {
    id: String,
    package: String,
    date: String,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who look for a CVE")]
    aliases: Vec<String>,
    #[expect(dead_code, reason = "for cargo-deny")]
    informational: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Versions {
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

impl File {
    fn hits(&self, name: &str, version: &Version) -> bool {
        let mut spared = self.versions.patched.iter().chain(&self.versions.unaffected);
        self.advisory.package == name && !spared.any(|range| range.matches(version))
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(text: &str) -> Result<File, String> {
    let block = text
        .split("```")
        .nth(1)
        .and_then(|block| block.strip_prefix("toml"));
    toml::from_str(block.ok_or("no block of toml")?).map_err(|error| error.to_string())
}

/// Every advisory, with where it lies.
fn advisories() -> Vec<(PathBuf, File)> {
    let crates = workspace().join("advisories/crates");
    let folders = fs::read_dir(crates).expect("the folder of advisories");
    let files = folders.flat_map(|folder| fs::read_dir(folder.expect("an entry").path()).expect("a folder"));
    let files = files.map(|file| {
        let path = file.expect("an entry").path();
        let file = parse(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, file)
    });
    files.collect()
}

/// Name and version of every package.
fn locked() -> Vec<(String, Version)> {
    let text = read(&workspace().join("Cargo.lock"));
    let lock: toml::Table = text.parse().expect("a lock file");
    let packages = lock["package"].as_array().expect("packages");
    let of = |package: &toml::Value, key: &str| package[key].as_str().expect("a text").to_owned();
    let packages = packages.iter().map(|package| {
        let version = Version::parse(&of(package, "version")).expect("a version");
        (of(package, "name"), version)
    });
    packages.collect()
}

#[test]
fn t40_no_dependency_is_older_than_a_version_with_a_known_hole() {
    let (advisories, locked) = (advisories(), locked());
    assert!(
        advisories.len() >= 50 && locked.len() >= 100,
        "all of them are read"
    );
    let hit = locked.iter().flat_map(|(name, version)| {
        let holes = advisories.iter().filter(|(_, file)| file.hits(name, version));
        holes.map(move |(path, _)| format!("{name} {version}: {}", path.display()))
    });
    let hit: Vec<String> = hit.collect();
    assert!(hit.is_empty(), "{hit:#?}");
}

#[test]
fn an_advisory_hits_what_is_neither_mended_nor_without_the_hole() {
    let text = "```toml\n[advisory]\nid = \"X\"\npackage = \"x\"\ndate = \"2026-01-01\"\n[versions]\n\
                patched = [\">= 1.2.3, < 1.3.0\", \">= 1.4.0\"]\nunaffected = [\"< 0.5.0\"]\n```\n";
    let file = parse(text).expect("an advisory");
    let hits = |version: &str| file.hits("x", &Version::parse(version).expect("a version"));
    let versions = ["0.4.9", "0.5.0", "1.2.2", "1.2.3", "1.3.0", "1.4.0"];
    assert_eq!(versions.map(hits), [false, true, true, false, true, false]);
    assert!(!file.hits("y", &Version::new(1, 2, 2)));
}

#[test]
fn an_advisory_lies_where_cargo_deny_looks_for_it_and_is_no_younger_than_the_comparison() {
    let as_of = read(&workspace().join("advisories/as-of"));
    for (path, File { advisory, .. }) in advisories() {
        let place = Path::new(&advisory.package).join(format!("{}.md", advisory.id));
        assert!(
            path.ends_with(&place),
            "{} is not {}",
            path.display(),
            place.display()
        );
        assert!(advisory.date.as_str() <= as_of.trim(), "{}", path.display());
    }
}

#[test]
fn every_dependency_comes_from_the_one_registry_or_from_here() {
    let text = read(&workspace().join("Cargo.lock"));
    let sources: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("source = "))
        .collect();
    assert!(sources.len() > 100, "the lock file is read");
    let others: Vec<_> = sources
        .iter()
        .filter(|line| **line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"")
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
