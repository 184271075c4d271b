//! `docs/security.md` has a row for each threat, and each row names what shows its defence.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    fs::read_to_string(workspace().join("docs/security.md")).expect("the document is there")
}

/// The number of each threat that has a row, with the names in its last cell.
fn rows(text: &str) -> Vec<(u32, Vec<&str>)> {
    let rows = text.lines().filter_map(|line| {
        let cells = line.strip_prefix("| T")?.strip_suffix('|')?;
        let cells: Vec<&str> = cells.split('|').collect();
        let number = cells[0].trim().parse().ok()?;
        assert_eq!(cells.len(), 4, "a row has four cells: {line}");
        Some((number, cells[3].split('`').skip(1).step_by(2).collect()))
    });
    rows.collect()
}

/// The names of all transcripts, and of all tests: functions below `#[test]` and its like.
fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["crates", "fuzz", "tests"] {
        collect(&workspace().join(folder), &mut names);
    }
    names
}

fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if name != "node_modules" && name != "target" {
                collect(&path, names);
            }
        } else if let Some(transcript) = name.strip_suffix(".txt") {
            names.insert(transcript.to_owned());
        } else if name.ends_with(".rs") {
            tests(&fs::read_to_string(&path).expect("a source file"), names);
        }
    }
}

fn tests(text: &str, names: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        is_test |= line.starts_with("#[test") || line.starts_with("#[tokio::test") || line == "proptest! {";
        let Some((_, rest)) = line.split_once("fn ") else {
            continue;
        };
        if is_test && let Some((name, _)) = rest.split_once('(') {
            names.insert(name.to_owned());
        }
        is_test = false;
    }
}

#[test]
fn every_row_of_a_threat_names_a_test_that_is_there() {
    let (text, names) = (document(), names());
    let rows = rows(&text);
    assert!(rows.len() >= 41, "only {} rows were found", rows.len());
    for (number, tests) in rows {
        assert!(!tests.is_empty(), "T{number} names nothing");
        let missing: Vec<_> = tests.iter().filter(|test| !names.contains(**test)).collect();
        assert!(missing.is_empty(), "T{number}: there is no {missing:?}");
    }
}

#[test]
fn the_threats_are_in_their_order_each_once() {
    let text = document();
    let numbers: Vec<u32> = rows(&text).into_iter().map(|(number, _)| number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert!(
        numbers.iter().all(|number| (1..=41).contains(number)),
        "{numbers:?}"
    );
}

#[test]
fn t39_what_a_node_shows_to_the_servers_of_its_log_is_in_no_dump() {
    let secrets = ["nkey_secret", "password", "token"];
    for name in secrets {
        let user = if name == "password" {
            "user = \"halley\"\n"
        } else {
            ""
        };
        let text = format!("[nats]\n{user}{name} = \"not-to-be-seen\"\n");
        let config = halley::config::Config::parse(&text, "a test").expect("a configuration");
        let dump = toml::to_string(&config).expect("it can be written");
        assert!(!dump.contains("not-to-be-seen"), "{name} is shown");
        let storage = format!("{:?}", config.storage());
        assert!(!storage.contains("not-to-be-seen"), "{name} is shown: {storage}");
    }
}
