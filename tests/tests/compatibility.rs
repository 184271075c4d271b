//! `docs/cometd-compatibility.md` says what is the same as with CometD, what is not, and which test shows it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One row of the tables.
struct Row<'a> {
    line: usize,
    feature: &'a str,
    status: &'a str,
    how: &'a str,
    tests: Vec<&'a str>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    fs::read_to_string(workspace().join("docs/cometd-compatibility.md")).expect("the document is there")
}

fn rows(text: &str) -> Vec<Row<'_>> {
    let rows = text.lines().enumerate().filter_map(|(number, line)| {
        let cells = line.strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        let [feature, status, how, tests] = cells[..] else {
            panic!("line {}: a row has four cells: {line}", number + 1);
        };
        let tests = tests.split('`').skip(1).step_by(2).collect();
        Some(Row {
            line: number + 1,
            feature,
            status,
            how,
            tests,
        })
    });
    // Not the heads of the tables and the lines below them.
    rows.filter(|row| row.status != "here" && !row.status.starts_with("---"))
        .collect()
}

/// The names of all transcripts, and of all functions in files that have tests.
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
            let text = fs::read_to_string(&path).expect("a source file");
            let functions = text.split("fn ").skip(1);
            names.extend(functions.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
}

#[test]
fn every_row_names_a_test_that_is_there() {
    let (text, names) = (document(), names());
    let rows = rows(&text);
    assert!(rows.len() > 100, "only {} rows were found", rows.len());
    let wrong: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            let missing = row.tests.iter().filter(|test| !names.contains(**test));
            let none = row.tests.is_empty().then_some(&"no test at all");
            missing
                .chain(none)
                .map(|test| format!("line {}: {}: {test}", row.line, row.feature))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn whatever_is_not_as_with_cometd_has_a_reason() {
    let text = document();
    for row in rows(&text) {
        match row.status {
            "same" | "better" => {}
            "different" | "not" | "not yet" => {
                assert!(row.how.len() > 20, "line {}: {}: why?", row.line, row.feature);
            }
            status => panic!("line {}: no status: {status}", row.line),
        }
    }
}

#[test]
fn every_setting_that_a_row_names_is_there() {
    let settings = fs::read_to_string(workspace().join("deploy/halley.toml")).expect("the settings");
    let settings: toml::Table = settings.parse().expect("it is TOML");
    let text = document();
    for row in rows(&text) {
        for name in row.how.split('`').skip(1).step_by(2) {
            let Some((section, key)) = name
                .split_once('.')
                .filter(|(section, _)| settings.contains_key(*section))
            else {
                continue;
            };
            let key = key.split(' ').next().unwrap_or_default();
            assert!(
                settings[section].get(key).is_some(),
                "line {}: there is no setting {name}",
                row.line
            );
        }
    }
}
