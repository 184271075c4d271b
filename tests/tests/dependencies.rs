//! What is known to be wrong with versions of what Halley is made of. `cargo deny check` asks a database, where there is a network; this
//! asks the lock file, everywhere.

use std::fs;
use std::path::Path;

/// The first version of each without a known hole, and what the hole was.
const FLOORS: &[(&str, [u32; 3], &str)] = &[
    ("bytes", [1, 11, 1], "RUSTSEC-2026-0007: a length that overflows"),
    ("crossbeam-channel", [0, 5, 15], "RUSTSEC-2025-0024: freed twice"),
    (
        "h2",
        [0, 4, 16],
        "RUSTSEC-2026-0258: empty frames without an end; and resets, CONTINUATION",
    ),
    (
        "hyper",
        [1, 0, 0],
        "RUSTSEC-2021-0078: requests that mean two things",
    ),
    (
        "jsonwebtoken",
        [10, 3, 0],
        "CVE-2026-25537: claims of a wrong type were skipped",
    ),
    ("ring", [0, 17, 12], "RUSTSEC-2025-0009: a panic"),
    (
        "rustls",
        [0, 23, 18],
        "RUSTSEC-2024-0399: a panic at the start of a connection",
    ),
    (
        "tokio",
        [1, 44, 2],
        "RUSTSEC-2025-0023: a channel that was cloned in parallel",
    ),
    (
        "tracing-subscriber",
        [0, 3, 20],
        "RUSTSEC-2025-0055: escapes of a terminal in logs",
    ),
    (
        "tungstenite",
        [0, 20, 1],
        "RUSTSEC-2023-0065: headers that take long to read",
    ),
];

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn version(text: &str) -> [u32; 3] {
    let text = text.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = text.split('.').map(|number| number.parse().expect("a number"));
    std::array::from_fn(|_| numbers.next().expect("three numbers"))
}

/// Name and version of every package.
fn locked() -> Vec<(String, [u32; 3])> {
    let text = read("Cargo.lock");
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches([' ', '=', '"']).to_owned())
    };
    let packages = text.split("[[package]]").skip(1);
    let parsed =
        packages.filter_map(|package| Some((value(package, "name")?, version(&value(package, "version")?))));
    parsed.collect()
}

#[test]
fn t40_no_dependency_is_older_than_a_version_with_a_known_hole() {
    let locked = locked();
    for (name, floor, hole) in FLOORS {
        let found: Vec<_> = locked.iter().filter(|(known, _)| known == name).collect();
        for (_, version) in found {
            assert!(
                version >= floor,
                "{name} {version:?} is older than {floor:?}: {hole}"
            );
        }
    }
    assert!(
        locked.iter().any(|(name, _)| name == "h2"),
        "the lock file is read"
    );
}

#[test]
fn what_is_too_old_is_banned_as_well() {
    let bans = read("deny.toml");
    for (name, [major, minor, patch], _) in FLOORS {
        let ban = format!("crate = \"{name}:<{major}.{minor}.{patch}\"");
        assert!(bans.contains(&ban), "deny.toml has no {ban}");
    }
}

#[test]
fn every_dependency_comes_from_the_one_registry_or_from_here() {
    let text = read("Cargo.lock");
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
