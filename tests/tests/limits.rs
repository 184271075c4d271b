//! `docs/limits.md` has a row for each limit, with its default.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::Value;

/// Sections of which every setting is a limit, or has to do with one.
const WHOLE: [&str; 4] = ["limits", "http2", "unknown_sessions", "overload"];

/// Settings of those and others that bound nothing.
const NO_LIMITS: [&str; 5] = [
    "http2.enabled",
    "session.interval",
    "session.duplicate_connect_status",
    "websocket.messages_per_frame",
    "websocket.protocol",
];

/// Limits elsewhere.
const OTHERS: [&str; 5] = [
    "callback_polling.callback_max_length",
    "jwt.token_bytes",
    "log.min_free",
    "log.retention",
    "log.retention_bytes",
];

/// The setting of each row, with its default as it is written there.
fn rows() -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    let text = fs::read_to_string(page).expect("docs/limits.md is there");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "a row has five cells: {line}");
        let before = rows.insert(cells[0].trim_matches('`').to_owned(), cells[1].to_owned());
        assert!(before.is_none(), "twice: {line}");
        assert!(!cells[2].is_empty(), "it bounds something: {line}");
    }
    rows
}

/// The settings with their defaults, as they are written in `deploy/halley.toml`; a test of the configuration compares that with
/// the code.
fn sections() -> toml::Table {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/halley.toml");
    let text = fs::read_to_string(file).expect("deploy/halley.toml is there");
    text.parse().expect("it is TOML")
}

/// As it is written in the page.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => "none".to_owned(),
        Value::Array(all) => all.iter().map(written).collect::<Vec<_>>().join(", "),
        other @ (Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Table(_)) => other.to_string(),
    }
}

/// Numbers, lengths of time and sizes: what is no number is no bound.
fn is_measure(value: &Value) -> bool {
    match value {
        Value::Integer(_) => true,
        Value::String(text) => text.starts_with(|first: char| first.is_ascii_digit()),
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => false,
    }
}

/// Every limit with its default.
fn limits() -> BTreeMap<String, String> {
    let sections = sections();
    let settings = sections.iter().filter_map(|(section, settings)| {
        let settings = settings.as_table()?;
        Some(settings.iter().map(move |(key, value)| (section, key, value)))
    });
    settings
        .flatten()
        .filter(|(section, key, value)| {
            let name = format!("{section}.{key}");
            let is_whole = WHOLE.contains(&section.as_str());
            let is_measured = matches!(section.as_str(), "websocket" | "session") && is_measure(value);
            (is_whole || is_measured || OTHERS.contains(&name.as_str()))
                && !NO_LIMITS.contains(&name.as_str())
        })
        .map(|(section, key, value)| (format!("{section}.{key}"), written(value)))
        .collect()
}

#[test]
fn every_limit_has_its_row_and_every_row_its_limit() {
    let (limits, rows) = (limits(), rows());
    let without: Vec<_> = limits.keys().filter(|name| !rows.contains_key(*name)).collect();
    assert!(without.is_empty(), "docs/limits.md says nothing of {without:?}");
    let unknown: Vec<_> = rows.keys().filter(|name| !limits.contains_key(*name)).collect();
    assert!(
        unknown.is_empty(),
        "docs/limits.md names what is no limit: {unknown:?}"
    );
}

#[test]
fn every_row_has_the_default_of_its_limit() {
    let limits = limits();
    for (name, default) in rows() {
        assert_eq!(Some(&default), limits.get(&name), "{name}");
    }
}

#[test]
fn every_metric_of_a_row_is_one_that_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/limits.md")).expect("the page");
    let metrics = fs::read_to_string(root.join("crates/halley/src/metrics.rs")).expect("the metrics");
    for name in page.split("`halley_").skip(1) {
        let name = name.split(['`', '{']).next().unwrap_or_default();
        let name = name.trim_end_matches("_total").trim_end_matches("_bytes");
        assert!(metrics.contains(&format!("\"{name}\"")), "there is no {name}");
    }
}
