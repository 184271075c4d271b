//! From lines of results to the tables of the documents.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::roster;
use super::scenario::{self, Figure, Scenario, Target};

/// One line of the generator.
pub(crate) struct Record(Value);

impl Record {
    fn peer(&self) -> &str {
        self.0["peer"].as_str().unwrap_or_default()
    }

    fn scenario(&self) -> &str {
        self.0["scenario_name"].as_str().unwrap_or_default()
    }

    /// Everything was delivered, once, in order, to whom it was for.
    pub(crate) fn is_right(&self) -> bool {
        self.0["check"]["ok"].as_bool().unwrap_or(true)
            && self.0["setup"]["failed"].as_u64().unwrap_or(0) == 0
    }

    /// A figure of each measured period.
    fn figures(&self, figure: Figure) -> Vec<f64> {
        let runs = self.0["runs"].as_array().cloned().unwrap_or_default();
        let of_runs = |path: fn(&Value) -> &Value| -> Vec<f64> {
            let delivering = runs.iter().filter(|run| run["deliveries_s"].as_f64() > Some(0.0));
            delivering.filter_map(|run| path(run).as_f64()).collect()
        };
        match figure {
            Figure::Cpu => of_runs(|run| &run["server_cpu_s_per_1m"]),
            Figure::Latency => of_runs(|run| &run["lat_us"]["p99"])
                .into_iter()
                .map(|micros| micros / 1000.0)
                .collect(),
            Figure::Memory => self.0["idle"]["kib_per_connection"]
                .as_f64()
                .into_iter()
                .collect(),
            Figure::Setup => self.0["setup"]["cpu_ms_each"].as_f64().into_iter().collect(),
        }
    }
}

/// The lines of a file; none if there is no file.
pub(crate) fn read(results: &Path) -> Vec<Record> {
    let text = fs::read_to_string(results).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(Record)
        .collect()
}

/// What one peer came to in one scenario.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    Missing,
    /// It lost, repeated, reordered or misrouted something.
    Wrong,
    Measured(f64),
}

impl Cell {
    fn number(self) -> Option<f64> {
        match self {
            Self::Measured(number) => Some(number),
            Self::Missing | Self::Wrong => None,
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => formatter.write_str("–"),
            Self::Wrong => formatter.write_str("wrong"),
            Self::Measured(number) => formatter.write_str(&digits(*number)),
        }
    }
}

/// Three digits that say something.
fn digits(number: f64) -> String {
    match number {
        100.0.. => format!("{number:.0}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

fn median(numbers: &mut [f64]) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len().checked_sub(1)? / 2;
    Some(f64::midpoint(numbers[middle], numbers[numbers.len() / 2]))
}

fn cell(records: &[Record], peer: &str, scenario: &Scenario) -> Cell {
    let mut figures = Vec::new();
    for record in records
        .iter()
        .filter(|record| record.peer() == peer && record.scenario() == scenario.name)
    {
        if !record.is_right() {
            return Cell::Wrong;
        }
        figures.extend(record.figures(scenario.figure));
    }
    median(&mut figures).map_or(Cell::Missing, Cell::Measured)
}

/// Halley beside everybody else.
pub(crate) fn compared(records: &[Record], scenarios: &[&Scenario]) -> String {
    let peers: Vec<&str> = roster::ALL
        .iter()
        .map(|peer| peer.name)
        .filter(|name| records.iter().any(|record| record.peer() == *name))
        .collect();
    let mut text = machine(&peers);
    for (figure, title) in [
        (Figure::Cpu, "CPU seconds of the server for a million deliveries"),
        (
            Figure::Latency,
            "p99 from the intended time of the publish, milliseconds",
        ),
        (Figure::Memory, "resident KiB for each connection"),
        (Figure::Setup, "CPU milliseconds of the server for each session"),
    ] {
        let rows: Vec<&&Scenario> = scenarios
            .iter()
            .filter(|scenario| scenario.figure == figure)
            .collect();
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "| {title} | {} | to the best peer | to the limit | target |",
            peers.join(" | ")
        );
        let _ = writeln!(text, "|---|{}---|---|---|", "---|".repeat(peers.len()));
        for scenario in rows {
            let cells: Vec<String> = peers
                .iter()
                .map(|peer| cell(records, peer, scenario).to_string())
                .collect();
            let (ratio, target) = verdict(records, scenario);
            let best = to_the_best(records, scenario);
            let _ = writeln!(
                text,
                "| `{}` | {} | {best} | {ratio} | {target} |",
                scenario.name,
                cells.join(" | ")
            );
        }
        text.push('\n');
    }
    text
}

/// Halley beside the best of the others, whatever it does and does not do.
fn to_the_best(records: &[Record], scenario: &Scenario) -> String {
    let others = (roster::ALL.iter())
        .filter(|peer| peer.name != "halley" && !peer.name.starts_with("limit-"))
        .filter_map(|peer| cell(records, peer.name, scenario).number());
    let best = others.min_by(f64::total_cmp);
    let ours = cell(records, "halley", scenario).number();
    ours.zip(best)
        .map_or_else(|| "–".to_owned(), |(ours, best)| format!("{:.2} ×", ours / best))
}

/// How far Halley is from the yardstick, and what was promised.
fn verdict(records: &[Record], scenario: &Scenario) -> (String, String) {
    let ours = cell(records, "halley", scenario).number();
    let limit = match scenario.target {
        Target::TimesOwn(_, without) => scenario::ALL
            .iter()
            .find(|other| other.name == without)
            .and_then(|other| cell(records, "halley", other).number()),
        Target::Times(_) | Target::Most(_) | Target::Open => cell(records, scenario.limit, scenario).number(),
    };
    let ratio = ours.zip(limit).map(|(ours, limit)| ours / limit);
    let met = |is_met: Option<bool>| match is_met {
        Some(true) => ", met",
        Some(false) => ", not met",
        None => "",
    };
    let target = match scenario.target {
        Target::Times(times) => format!(
            "≤ {times} × {}{}",
            scenario.limit,
            met(ratio.map(|ratio| ratio <= times))
        ),
        Target::TimesOwn(times, without) => format!(
            "≤ {times} × `{without}`{}",
            met(ratio.map(|ratio| ratio <= times))
        ),
        Target::Most(most) => format!("≤ {most}{}", met(ours.map(|ours| ours <= most))),
        Target::Open => String::new(),
    };
    (
        ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2} ×")),
        target,
    )
}

/// What a session and a delivery cost as there are more of them.
pub(crate) fn growth(records: &[Record]) -> String {
    let mut text = machine(&["halley"]);
    let _ = writeln!(
        text,
        "| scenario | Halley | to the first of its kind |\n|---|---|---|"
    );
    let mut first: BTreeMap<&str, f64> = BTreeMap::new();
    for scenario in scenario::ALL.iter().filter(|scenario| scenario.grows) {
        let cell = cell(records, "halley", scenario);
        let kind = scenario
            .name
            .rsplit_once('-')
            .map_or(scenario.name, |(kind, _)| kind);
        let unit = if scenario.figure == Figure::Memory {
            "KiB a session"
        } else {
            "CPU s a million deliveries"
        };
        let ratio = cell
            .number()
            .map(|number| number / *first.entry(kind).or_insert(number));
        let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2} ×"));
        let _ = writeln!(text, "| {} | {cell} {unit} | {ratio} |", scenario.what);
    }
    text
}

/// Where and when this was measured, and what.
pub(crate) fn machine(peers: &[&str]) -> String {
    let asked = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| {
        line.strip_prefix("model name")?
            .split_once(": ")
            .map(|(_, name)| name.to_owned())
    });
    let count = processor
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let versions: Vec<String> = roster::ALL
        .iter()
        .filter(|peer| peers.contains(&peer.name))
        .filter_map(|peer| (peer.version)().map(|version| format!("{} {version}", peer.name)))
        .collect();
    format!(
        "{}; {count} × {}, Linux {}; {}.\n\n",
        asked("date", &["+%F"]).unwrap_or_default(),
        model.unwrap_or_else(|| "a processor without a name".to_owned()),
        asked("uname", &["-r"]).unwrap_or_default(),
        versions.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(peer: &str, ok: bool, figures: &[f64]) -> Record {
        let runs: Vec<Value> = figures
            .iter()
            .map(|figure| json!({"deliveries_s": 1, "server_cpu_s_per_1m": figure}))
            .collect();
        Record(json!({"peer": peer, "scenario_name": "s1k-w1", "check": {"ok": ok}, "runs": runs}))
    }

    fn scenario() -> &'static Scenario {
        scenario::ALL
            .iter()
            .find(|scenario| scenario.name == "s1k-w1")
            .unwrap()
    }

    #[test]
    fn the_median_of_all_periods_of_all_rounds_counts() {
        let records = [
            record("halley", true, &[9.0, 1.0]),
            record("halley", true, &[3.0]),
        ];
        assert_eq!(cell(&records, "halley", scenario()), Cell::Measured(3.0));
        assert_eq!(median(&mut [4.0, 1.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn a_peer_that_was_wrong_once_has_no_figure() {
        let records = [record("faye", true, &[9.0]), record("faye", false, &[3.0])];
        assert_eq!(cell(&records, "faye", scenario()), Cell::Wrong);
    }

    #[test]
    fn a_period_without_deliveries_says_nothing() {
        let mut silent = record("nats", true, &[5.0, 7.0]);
        silent.0["runs"][0]["deliveries_s"] = json!(0);
        assert_eq!(cell(&[silent], "nats", scenario()), Cell::Measured(7.0));
    }

    #[test]
    fn the_best_of_the_others_is_no_yardstick_and_was_right() {
        let records = [
            record("halley", true, &[12.0]),
            record("nginx-nchan", true, &[24.0]),
            record("nats", false, &[6.0]),
            record("limit-send", true, &[8.0]),
        ];
        assert_eq!(to_the_best(&records, scenario()), "0.50 ×");
    }

    #[test]
    fn what_an_extension_costs_is_a_ratio_to_ourselves_without_it() {
        let of = |name: &str, cpu| {
            let mut record = record("halley", true, &[cpu]);
            record.0["scenario_name"] = name.into();
            record
        };
        let records = [of("lp1k", 20.0), of("lp1k-ack", 25.0)];
        let scenario = scenario::ALL.iter().find(|scenario| scenario.name == "lp1k-ack");
        assert_eq!(
            verdict(&records, scenario.unwrap()),
            ("1.25 ×".to_owned(), "≤ 1.3 × `lp1k`, met".to_owned())
        );
    }

    #[test]
    fn a_target_is_met_by_the_ratio_to_the_yardstick_of_the_same_run() {
        let records = |ours| {
            [
                record("halley", true, &[ours]),
                record("limit-send", true, &[10.0]),
            ]
        };
        let (ratio, target) = verdict(&records(12.0), scenario());
        assert_eq!(
            (ratio.as_str(), target.as_str()),
            ("1.20 ×", "≤ 1.2 × limit-send, met")
        );
        assert_eq!(
            verdict(&records(12.5), scenario()).1,
            "≤ 1.2 × limit-send, not met"
        );
    }
}
