//! What a run has shown: one value, which the table, the JSON and the page all show.

mod chart;
mod html;
mod table;
mod words;

use serde::Serialize;
use serde_json::Value;

use crate::account::{Counts, Finding};
use crate::latency::Latencies;
use crate::machine::Machine;

pub use table::Table;

/// Everything that a run has shown. Times are in microseconds unless a name says otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `halley-bench/1`: what these fields mean.
    pub format: &'static str,
    /// The scenario.
    pub scenario: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Whether everything was as it must be.
    pub verdict: Verdict,
    /// What to know when reading the figures.
    pub notes: Vec<String>,
    /// How sessions came to be there.
    pub setup: Setup,
    /// What was published.
    pub load: Load,
    /// Each event accounted for.
    pub accounting: Counts,
    /// What is wrong, with names; not all of it when there is much.
    pub findings: Vec<Finding>,
    /// From the moment at which an event was due to its arrival.
    pub latency: Latency,
    /// Connections that did not stay.
    pub connections: Connections,
    /// Sessions that lost their connection, or stopped reading, and came back.
    pub recovery: Option<Recovery>,
    /// The server's processes.
    pub server: Option<Server>,
    /// The generator.
    pub generator: Generator,
    /// The run, interval by interval.
    pub timeline: Vec<Moment>,
    /// Why things failed, and how often.
    pub failures: Vec<Failure>,
    /// Everything needed to do it again.
    pub repeat: Repeat,
}

/// Whether everything was as it must be.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// It was.
    pub ok: bool,
    /// What was not.
    pub reasons: Vec<String>,
}

/// How sessions came to be there.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    /// How many.
    pub sessions: u64,
    /// Seconds that it took, the median of all cycles.
    pub seconds: f64,
    /// Sessions a second.
    pub per_second: f64,
    /// From the connection (or the moment at which it was due) to the answer to the first connect.
    pub time: Percentiles,
    /// Milliseconds of the server's CPU for each session, the median of all cycles.
    pub server_cpu_ms_per_session: Option<f64>,
    /// How often all of them were opened.
    pub cycles: usize,
}

/// What was published.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// `open`: at a rate, whatever the server does. `closed`: so many events under way at once.
    pub kind: &'static str,
    /// Events a second that were asked for.
    pub rate: f64,
    /// Seconds that were measured.
    pub seconds: f64,
    /// Events, from the first to the last.
    pub published: u64,
    /// Of them, those that the server accepted.
    pub accepted: u64,
    /// Refused.
    pub refused: u64,
    /// Neither: the connection broke before the answer.
    pub uncertain: u64,
    /// Published again, with the same id, since nobody knew.
    pub published_again: u64,
    /// In the measured time.
    pub published_per_second: f64,
    /// In the measured time.
    pub deliveries: u64,
    /// In the measured time.
    pub deliveries_per_second: f64,
    /// Data of those, without what is around it.
    pub megabytes_per_second: f64,
}

/// Some latencies, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many there are.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// Half are no longer.
    pub p50: u64,
    /// Nine of ten are no longer.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// Latencies of one kind of sessions.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// Which.
    pub name: String,
    /// Its percentiles.
    #[serde(flatten)]
    pub percentiles: Percentiles,
    /// Quantile and microseconds, for a curve.
    pub curve: Vec<(f64, u64)>,
}

/// All latencies.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// All but announcements where those are told apart.
    pub all: Group,
    /// Kinds of sessions.
    pub groups: Vec<Group>,
}

/// Connections that did not stay.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Connections {
    /// Broken by the server or the network.
    pub broken: u64,
    /// Cut by the generator.
    pub cut: u64,
    /// Sessions that the server had forgotten when their client came back.
    pub forgotten: u64,
    /// Sessions that were not back, or did not have everything, at the end.
    pub never_back: u64,
}

/// Sessions that came back.
#[derive(Debug, Clone, Serialize)]
pub struct Recovery {
    /// How many.
    pub sessions: u64,
    /// Until a connect was answered.
    pub back: Percentiles,
    /// Until they had everything that was published before that.
    pub complete: Percentiles,
    /// Seconds, and the share that had everything by then.
    pub curve: Vec<(f64, f64)>,
}

/// The server's processes.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    /// What the first is called.
    pub name: Option<String>,
    /// CPU of the measured time, where there was one.
    pub cpu_seconds: Option<f64>,
    /// The same for a million deliveries.
    pub cpu_seconds_per_million: Option<f64>,
    /// Cores in use, on average.
    pub cores: Option<f64>,
    /// CPU in the measured time of what it works with, where that was named.
    pub beside_cpu_seconds: Option<f64>,
    /// The part that the kernel had.
    pub system_share: Option<f64>,
    /// Resident memory before the first session.
    pub rss_before_kib: u64,
    /// With all sessions there.
    pub rss_sessions_kib: u64,
    /// The highest that was seen.
    pub rss_peak_kib: u64,
    /// At the end of the measured time.
    pub rss_end_kib: u64,
    /// What a session added, unless the server has given memory back meanwhile.
    pub kib_per_session: Option<f64>,
}

/// The generator's own cost: where it is at its limit, figures are its own.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// Threads.
    pub threads: usize,
    /// CPU of the measured time, where there was one.
    pub cpu_seconds: Option<f64>,
    /// The same for a million deliveries.
    pub cpu_seconds_per_million: Option<f64>,
    /// Cores in use, on average.
    pub cores: Option<f64>,
    /// How long after it was due an event was noticed: the generator's own share of every latency.
    pub late: Percentiles,
    /// How long after it was due an event was sent: it may have waited for a publisher whose last request was not answered.
    pub sent_late: Percentiles,
}

/// One interval.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    /// Seconds from the first publish to its end.
    pub second: f64,
    /// `warm-up`, `measured` or `drain`.
    pub phase: &'static str,
    /// Events a second.
    pub published_per_second: f64,
    /// Deliveries a second.
    pub deliveries_per_second: f64,
    /// Of what arrived.
    pub p50: Option<u64>,
    /// Of what arrived.
    pub p99: Option<u64>,
    /// Of what arrived.
    pub max: Option<u64>,
    /// Sessions that were connected.
    pub live: u64,
    /// Cores that the server used.
    pub server_cores: Option<f64>,
    /// Its memory.
    pub server_rss_kib: Option<u64>,
}

/// Why something failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Why.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// Everything needed to do it again.
#[derive(Debug, Clone, Serialize)]
pub struct Repeat {
    /// What was typed, without credentials.
    pub command: String,
    /// When.
    pub started: String,
    /// Of Halley, which the generator is part of.
    pub version: String,
    /// The machine of the generator.
    pub machine: Machine,
    /// What was asked for, with defaults.
    pub settings: Value,
}

/// What `format` says.
pub(crate) const FORMAT: &str = "halley-bench/1";

impl Report {
    /// One object, for machines.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a report is numbers and texts");
        text.push('\n');
        text
    }

    /// One page, for people: it needs nothing but itself.
    pub fn html(&self) -> String {
        html::page(&self.value())
    }

    /// The figures that matter, for a terminal.
    pub fn table(&self) -> Table {
        Table::new(&self.value())
    }

    fn value(&self) -> Value {
        serde_json::to_value(self).expect("a report is numbers and texts")
    }
}

impl Percentiles {
    pub(crate) fn of(latencies: &Latencies) -> Self {
        if latencies.is_empty() {
            return Self::default();
        }
        let at = |quantile| latencies.value_at_quantile(quantile);
        Self {
            count: latencies.len(),
            min: latencies.min(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: latencies.max(),
        }
    }
}

/// Where a curve has its points: closer and closer to 1.
const QUANTILES: [f64; 25] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.993,
    0.996, 0.998, 0.999, 0.9995, 0.9999, 0.99999, 1.0,
];

impl Group {
    pub(crate) fn of(name: String, latencies: &Latencies) -> Self {
        // No point beyond what the number of samples can tell, but for the longest.
        let finest = 1.0 - 1.0 / latencies.len().max(1) as f64;
        let points = QUANTILES
            .iter()
            .filter(|quantile| **quantile <= finest || **quantile >= 1.0);
        let curve = if latencies.is_empty() {
            Vec::new()
        } else {
            points
                .map(|quantile| (*quantile, latencies.value_at_quantile(*quantile)))
                .collect()
        };
        Self {
            name,
            percentiles: Percentiles::of(latencies),
            curve,
        }
    }
}

#[cfg(test)]
mod tests;
