//! The page of a load test, as a reader of it has it: opened from a file in headless Chromium.

use std::path::Path;
use std::process::Command;

use halley_tests::{Broker, Settings, say};
use serde::Deserialize;
use serde_json::Value;

/// What `report.mjs` saw.
#[derive(Deserialize)]
struct Seen {
    others: Vec<String>,
    errors: Vec<String>,
    figures: Vec<Figure>,
    charts: usize,
}

#[derive(Deserialize)]
struct Figure {
    pointer: String,
    unit: String,
    /// The JSON of it, as text: JavaScript has one kind of number only.
    value: String,
    text: String,
    visible: bool,
}

#[tokio::test]
async fn the_page_of_a_load_test_shows_the_figures_of_its_json_and_asks_the_network_for_nothing() {
    let broker = Broker::start(Settings::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (json, html) = (folder.path().join("r.json"), folder.path().join("r.html"));
    load(&broker, &json, &html);
    let report = std::fs::read_to_string(json).expect("the JSON is there");
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    let Some(seen) = halley_tests::read_page(&html) else {
        return;
    };
    let seen: Seen = serde_json::from_slice(&seen).expect("report.mjs writes JSON");
    assert_eq!(seen.others, [""; 0], "requests besides the file");
    assert_eq!(seen.errors, [""; 0], "what the page complains of");
    assert!(seen.charts >= 2, "{} lines in charts", seen.charts);
    assert!(seen.figures.len() >= 20, "{} figures", seen.figures.len());
    for figure in &seen.figures {
        let pointer = &figure.pointer;
        assert_eq!(
            report.pointer(pointer).unwrap_or(&Value::Null),
            &figure.value(),
            "{pointer}"
        );
        assert!(figure.visible, "{pointer} cannot be seen");
        assert!(
            figure.says_its_value(),
            "{pointer}: {} as {:?}",
            figure.value,
            figure.text
        );
    }
    say(format_args!(
        "{} figures, {} lines in charts",
        seen.figures.len(),
        seen.charts
    ));
}

/// A small load, with everything that a report can show.
fn load(broker: &Broker, json: &Path, html: &Path) {
    let output = Command::new(halley_tests::binary())
        .args([
            "bench",
            "fan-out",
            "--sessions",
            "20",
            "--rate",
            "20",
            "--long-polling",
            "0.5",
        ])
        .args([
            "--warm-up",
            "1s",
            "--duration",
            "4s",
            "--token-template",
            "secret-15000",
        ])
        .arg(format!("--url={}", broker.url()))
        .arg(format!("--publish-url=http://{}/api/v1/events", broker.internal))
        .arg(format!("--pid={}", broker.pid().as_raw_nonzero()))
        .arg("--json")
        .arg(json)
        .arg("--html")
        .arg(html)
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Figure {
    fn value(&self) -> Value {
        serde_json::from_str(&self.value).expect("JSON")
    }

    /// What a reader sees means what the JSON says, to the digits that are shown.
    fn says_its_value(&self) -> bool {
        let value = self.value();
        let Some(value) = value.as_f64() else {
            return value.is_null() || value.as_str() == Some(&self.text);
        };
        let text: String = self
            .text
            .chars()
            .filter(|one| !matches!(one, ',' | '\u{202f}' | '\u{a0}'))
            .collect();
        let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
        let Ok(shown) = number.parse::<f64>() else {
            return false;
        };
        // In what the JSON counts.
        let factor = match (self.unit.as_str(), unit) {
            ("us", "ms") | ("ms", "s") => 1e3,
            ("us", "s") => 1e6,
            ("s", "ms") => 1e-3,
            ("s", "µs") => 1e-6,
            ("ms", "µs") => 1e-3,
            ("kib", "MiB") => 1024.0,
            ("kib", "GiB") => 1024.0 * 1024.0,
            ("share", "%") => 0.01,
            _ => 1.0,
        };
        let last_digit = 10_f64
            .powi(-i32::try_from(number.split_once('.').map_or(0, |(_, digits)| digits.len())).unwrap_or(0));
        (shown - value / factor).abs() <= last_digit * 0.51
    }
}
