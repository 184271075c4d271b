//! From results to the tables of docs/cluster.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::load::{self, Load};
use super::{ALL, Setup};
use crate::peers::table::machine;

/// The lines of a file; none if there is no file.
pub(super) fn read(results: &Path) -> Vec<Value> {
    let text = fs::read_to_string(results).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// A table for each load, and where and when it was measured.
pub(super) fn of(results: &[Value]) -> String {
    let mut text = machine(&["halley", "nats"]);
    for load in load::ALL {
        let _ = writeln!(
            text,
            "| {} | CPU s of the nodes, a million deliveries | of the nats-servers | µs of the nodes, an event | of the \
             nats-servers | p50 | p99 | highest rate |\n|---|---|---|---|---|---|---|---|",
            load.what
        );
        for setup in ALL {
            if let Some(row) = row(results, setup, load) {
                let _ = writeln!(text, "{row}");
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The last result counts.
fn row(results: &[Value], setup: &Setup, load: &Load) -> Option<String> {
    let line = (results.iter()).rfind(|line| line["setup"] == setup.name && line["load"] == load.name)?;
    let number = |name: &str| line[name].as_f64().unwrap_or_default();
    let each = |cpu: &str, count: &str| {
        if setup.servers == 0 && cpu == "nats_cpu" {
            return "–".to_owned();
        }
        digits(number(cpu) / number(count) * 1e6)
    };
    let highest = line["highest"].as_u64().map_or_else(
        || "–".to_owned(),
        |rate| format!("{}{rate} /s", if load.is_fastest(rate) { "≥ " } else { "" }),
    );
    Some(format!(
        "| {} | {} | {} | {} | {} | {} ms | {} ms | {highest} |",
        setup.what,
        each("halley_cpu", "deliveries"),
        each("nats_cpu", "deliveries"),
        each("halley_cpu", "events"),
        each("nats_cpu", "events"),
        digits(number("p50_ms")),
        digits(number("p99_ms")),
    ))
}

/// Three digits that say something.
fn digits(number: f64) -> String {
    match number {
        100.0.. => format!("{number:.0}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(setup: &str, cpu: f64) -> Value {
        json!({ "setup": setup, "load": "fan-out", "events": 200.0, "deliveries": 60_000.0, "halley_cpu": cpu,
            "nats_cpu": 0.3, "p50_ms": 1.234, "p99_ms": 12.34, "highest": 160 })
    }

    fn fan_out() -> &'static Load {
        load::ALL.iter().find(|load| load.name == "fan-out").unwrap()
    }

    #[test]
    fn a_rate_that_is_the_fastest_of_the_series_may_not_be_the_highest() {
        let mut fastest = line("file", 0.6);
        fastest["highest"] = 480.into();
        let row = row(&[fastest], &ALL[0], fan_out()).unwrap();
        assert!(row.ends_with("| ≥ 480 /s |"), "{row}");
    }

    #[test]
    fn costs_are_told_by_delivery_and_by_event_and_apart() {
        let row = row(&[line("nats-3", 0.6)], &ALL[3], fan_out()).unwrap();
        assert_eq!(
            row,
            "| three nodes, one nats-server | 10.0 | 5.00 | 3000 | 1500 | 1.23 ms | 12.3 ms | 160 /s |"
        );
    }

    #[test]
    fn a_log_in_a_folder_has_no_servers() {
        let row = row(&[line("file", 0.6)], &ALL[0], fan_out()).unwrap();
        assert!(row.contains("| 10.0 | – | 3000 | – |"), "{row}");
    }

    #[test]
    fn the_last_result_counts_and_what_was_not_measured_has_no_row() {
        let results = [line("file", 0.6), line("file", 1.2)];
        assert!(row(&results, &ALL[0], fan_out()).unwrap().contains("| 20.0 |"));
        assert_eq!(row(&results, &ALL[1], fan_out()), None);
        assert_eq!(row(&results, &ALL[0], &load::ALL[0]), None);
    }
}
