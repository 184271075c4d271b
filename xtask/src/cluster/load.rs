//! What nodes are given to do.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::place::Place;
use crate::say;
use crate::steps::root;

/// One load.
pub(super) struct Load {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    options: &'static [&'static str],
    /// Events a second at which costs are compared: less than anything is at its limit with.
    pub(super) rate: u32,
    /// Faster and faster.
    rates: &'static [u32],
}

/// Every load.
pub(super) const ALL: &[Load] = &[
    Load {
        name: "unicast",
        what: "1,000 users with a WebSocket each, 500 events a second for one of them each, one event a request",
        options: &["unicast", "--sessions=1000", "--publishers=12", "--batch=1"],
        rate: 500,
        rates: &[1_000, 2_000, 3_000, 4_000, 6_000, 8_000, 12_000],
    },
    Load {
        name: "fan-out",
        what: "300 WebSockets, 20 events a second for all of them",
        options: &["fan-out", "--sessions=300", "--publishers=3"],
        rate: 20,
        rates: &[40, 80, 160, 240, 320, 480],
    },
];

/// How long a rate must hold, and what is no growing delay.
const HOLDS: u32 = 5;
const P99_MS: f64 = 200.0;

/// A report of `halley bench`.
pub(super) struct Report(Value);

impl Load {
    /// Runs it at a rate for so many seconds.
    pub(super) fn run(&self, place: &Place, rate: u32, seconds: u32) -> Result<Report, String> {
        let json = place.folder.join("report.json");
        let _ = fs::remove_file(&json);
        let mut command = Command::new(root().join("target/release/halley"));
        command
            .arg("bench")
            .args(self.options)
            .args([
                "--quiet",
                "--token-template=secret-{number}",
                "--warm-up=2s",
                "--drain=5s",
            ])
            .args([format!("--rate={rate}"), format!("--duration={seconds}s")])
            .arg(format!("--json={}", json.display()));
        for node in &place.nodes {
            command
                .arg(format!("--url=ws://127.0.0.1:{}/cometd", node.port))
                .arg(format!(
                    "--publish-url=http://127.0.0.1:{}/api/v1/events",
                    node.inside
                ))
                .arg(format!("--pid={}", node.pid()));
        }
        for server in &place.servers {
            command.arg(format!("--beside={}", server.pid()));
        }
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|error| error.to_string())?;
        let text = fs::read_to_string(&json)
            .map_err(|error| format!("halley bench ended with {status}: {error}"))?;
        serde_json::from_str(&text)
            .map(Report)
            .map_err(|error| error.to_string())
    }

    /// Whether nothing faster was tried.
    pub(super) fn is_fastest(&self, rate: u64) -> bool {
        self.rates.last().is_some_and(|last| u64::from(*last) == rate)
    }

    /// The highest rate at which nothing is lost and delays do not grow.
    pub(super) fn highest(&self, place: &Place) -> Result<u32, String> {
        let mut highest = self.rate;
        for rate in self.rates {
            let report = self.run(place, *rate, HOLDS)?;
            let holds = report.holds();
            say::line(format_args!(
                "{rate} events a second: p99 {:.1} ms, {}",
                report.p99(),
                if holds { "holds" } else { "does not hold" }
            ));
            if !holds {
                break;
            }
            highest = *rate;
        }
        Ok(highest)
    }
}

impl Report {
    fn number(&self, pointer: &str) -> f64 {
        self.0
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_default()
    }

    fn p99(&self) -> f64 {
        self.number("/latency/all/p99") / 1e3
    }

    fn holds(&self) -> bool {
        self.0["verdict"]["ok"] == true && self.p99() < P99_MS
    }

    /// What is kept of it; an error if an event is not accounted for.
    pub(super) fn figures(&self) -> Result<Value, String> {
        if self.0["verdict"]["ok"] != true {
            return Err(self.0["verdict"]["reasons"].to_string());
        }
        Ok(json!({
            "events": self.number("/load/published_per_second") * self.number("/load/seconds"),
            "deliveries": self.number("/load/deliveries"),
            "halley_cpu": self.number("/server/cpu_seconds"),
            "nats_cpu": self.number("/server/beside_cpu_seconds"),
            "p50_ms": self.number("/latency/all/p50") / 1e3,
            "p99_ms": self.p99(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ok: bool, p99: u32) -> Report {
        Report(json!({
            "verdict": { "ok": ok, "reasons": ["2 deliveries lost"] },
            "latency": { "all": { "p50": 900, "p99": p99 } },
        }))
    }

    #[test]
    fn a_rate_holds_when_every_event_is_accounted_for_and_is_there_soon() {
        assert!(report(true, 199_000).holds());
        assert!(!report(true, 201_000).holds());
        assert!(!report(false, 1_000).holds());
    }

    #[test]
    fn a_run_that_lost_something_has_no_figures() {
        assert!(report(false, 1_000).figures().unwrap_err().contains("lost"));
        assert_eq!(report(true, 1_000).figures().unwrap()["p50_ms"], 0.9);
    }
}
