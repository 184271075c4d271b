//! The figures that matter, for a terminal.

use std::fmt;

use serde_json::Value;

use super::words::{Unit, say};

/// Rows of a name and what is said of it, under headings.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
enum Row {
    Heading(String),
    Figure(String, String),
    Line(String),
}

impl Table {
    pub(super) fn new(report: &Value) -> Self {
        let mut table = Self::default();
        let of = |pointer: &str, unit| say(report.pointer(pointer).unwrap_or(&Value::Null), unit);
        table.heading(format!(
            "{}: {}",
            of("/scenario", Unit::Text),
            of("/about", Unit::Text)
        ));
        table.setup(report, &of);
        let publishes = report["load"]["rate"].as_f64() > Some(0.0);
        if publishes {
            table.load(report, &of);
            table.latency(report);
        }
        table.recovery(report, &of);
        table.server(report, &of);
        table.generator(report, &of);
        table.accounting(report, publishes, &of);
        table
    }

    fn setup(&mut self, report: &Value, of: &impl Fn(&str, Unit) -> String) {
        let mut text = format!(
            "{} sessions in {}, {}; p50 {}, p99 {}",
            of("/setup/sessions", Unit::Count),
            of("/setup/seconds", Unit::Seconds),
            of("/setup/per_second", Unit::Rate),
            of("/setup/time/p50", Unit::Time),
            of("/setup/time/p99", Unit::Time)
        );
        if !report["setup"]["server_cpu_ms_per_session"].is_null() {
            text.push_str("; server CPU ");
            text.push_str(&of("/setup/server_cpu_ms_per_session", Unit::Milliseconds));
            text.push_str(" a session");
        }
        self.figure("setup", text);
    }

    fn load(&mut self, report: &Value, of: &impl Fn(&str, Unit) -> String) {
        let kind = if report["load"]["kind"] == "closed" {
            "closed loop"
        } else {
            "open loop"
        };
        self.figure(
            "published",
            format!(
                "{} events, {} ({kind})",
                of("/load/published", Unit::Count),
                of("/load/published_per_second", Unit::Rate)
            ),
        );
        self.figure(
            "delivered",
            format!(
                "{} deliveries measured, {}, {} MB/s",
                of("/load/deliveries", Unit::Count),
                of("/load/deliveries_per_second", Unit::Rate),
                of("/load/megabytes_per_second", Unit::Number)
            ),
        );
    }

    fn latency(&mut self, report: &Value) {
        let all = &report["latency"]["all"];
        let groups = report["latency"]["groups"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let more = if groups.len() > 1 { groups } else { &[] };
        let names = std::iter::once(all)
            .chain(more)
            .map(|group| say(&group["name"], Unit::Text));
        let width = names.map(|name| name.chars().count()).max().unwrap_or_default();
        self.heading(format!(
            "{:<width$} {:>10} {:>9} {:>9} {:>9} {:>9}",
            "latency", "deliveries", "p50", "p99", "p99.9", "max"
        ));
        for group in std::iter::once(all).chain(more) {
            let at = |name: &str, unit| say(&group[name], unit);
            self.line(format!(
                "{:<width$} {:>10} {:>9} {:>9} {:>9} {:>9}",
                at("name", Unit::Text),
                at("count", Unit::Count),
                at("p50", Unit::Time),
                at("p99", Unit::Time),
                at("p999", Unit::Time),
                at("max", Unit::Time)
            ));
        }
        self.heading(String::new());
    }

    fn recovery(&mut self, report: &Value, of: &impl Fn(&str, Unit) -> String) {
        if report["recovery"].is_null() {
            return;
        }
        for (name, pointer) in [("back", "back"), ("has everything", "complete")] {
            let at = |quantile: &str| of(&format!("/recovery/{pointer}/{quantile}"), Unit::Time);
            self.figure(
                name,
                format!(
                    "50 % after {}, 99 % after {}, all {} after {}",
                    at("p50"),
                    at("p99"),
                    of("/recovery/sessions", Unit::Count),
                    at("max")
                ),
            );
        }
    }

    fn server(&mut self, report: &Value, of: &impl Fn(&str, Unit) -> String) {
        if report["server"].is_null() {
            return;
        }
        if !report["server"]["cores"].is_null() {
            let cores = of("/server/cores", Unit::Number);
            let text = if report["server"]["cpu_seconds_per_million"].is_null() {
                format!("{cores} cores")
            } else {
                format!(
                    "{} s per million deliveries, {cores} cores ({} of it in the kernel)",
                    of("/server/cpu_seconds_per_million", Unit::Number),
                    of("/server/system_share", Unit::Share)
                )
            };
            let beside = if report["server"]["beside_cpu_seconds"].is_null() {
                String::new()
            } else {
                format!("; beside it {}", of("/server/beside_cpu_seconds", Unit::Seconds))
            };
            self.figure("server CPU", text + &beside);
        }
        self.figure(
            "server memory",
            format!(
                "{} before, {} with all sessions ({} each), at most {}",
                of("/server/rss_before_kib", Unit::Kib),
                of("/server/rss_sessions_kib", Unit::Kib),
                of("/server/kib_per_session", Unit::Kib),
                of("/server/rss_peak_kib", Unit::Kib)
            ),
        );
    }

    fn generator(&mut self, report: &Value, of: &impl Fn(&str, Unit) -> String) {
        if report["generator"]["cpu_seconds_per_million"].is_null() {
            return;
        }
        self.figure(
            "generator",
            format!(
                "{} CPU s per million deliveries, {} cores; events noticed {} late at p99, sent {} late",
                of("/generator/cpu_seconds_per_million", Unit::Number),
                of("/generator/cores", Unit::Number),
                of("/generator/late/p99", Unit::Time),
                of("/generator/sent_late/p99", Unit::Time)
            ),
        );
    }

    fn accounting(&mut self, report: &Value, publishes: bool, of: &impl Fn(&str, Unit) -> String) {
        let counts = |name: &str| of(&format!("/accounting/{name}"), Unit::Count);
        if publishes {
            self.figure(
                "account",
                format!(
                    "{} of {} due deliveries; lost {}, duplicated {}, out of order {}, foreign {}, corrupt {}",
                    counts("delivered"),
                    counts("expected"),
                    counts("lost"),
                    counts("duplicated"),
                    counts("out_of_order"),
                    counts("foreign"),
                    counts("corrupt")
                ),
            );
        }
        for (name, pointer) in [
            (
                "came twice after a break, as clients without ack must expect",
                "/accounting/repeated",
            ),
            ("connections broke", "/connections/broken"),
            ("connections were cut", "/connections/cut"),
            ("sessions were forgotten by the server", "/connections/forgotten"),
            ("events were published again", "/load/published_again"),
        ] {
            if report.pointer(pointer).and_then(Value::as_u64) > Some(0) {
                self.figure("", format!("{} {name}", of(pointer, Unit::Count)));
            }
        }
        self.failures(report);
        self.findings(report);
        if report["verdict"]["ok"] == true {
            self.figure(
                "verdict",
                if publishes {
                    "ok: every event is accounted for"
                } else {
                    "ok"
                }
                .to_owned(),
            );
        }
        let notes = report["notes"].as_array().into_iter().flatten();
        for note in notes {
            self.figure("note", say(note, Unit::Text));
        }
        let reasons = report["verdict"]["reasons"].as_array().into_iter().flatten();
        for reason in reasons {
            self.figure("FAILED", say(reason, Unit::Text));
        }
    }

    fn failures(&mut self, report: &Value) {
        const SHOWN: usize = 10;
        let failures = report["failures"].as_array().into_iter().flatten();
        for failure in failures.take(SHOWN) {
            let text = format!(
                "{} × {}",
                say(&failure["count"], Unit::Count),
                say(&failure["reason"], Unit::Text)
            );
            self.figure("failure", text);
        }
    }

    fn findings(&mut self, report: &Value) {
        const SHOWN: usize = 10;
        let findings = report["findings"].as_array().map_or(&[][..], Vec::as_slice);
        for finding in findings.iter().take(SHOWN) {
            let of = |name: &str| say(&finding[name], Unit::Text);
            self.figure(
                &of("wrong"),
                format!(
                    "event {} at user {}, session {} ({})",
                    of("event"),
                    of("user"),
                    of("session"),
                    of("transport")
                ),
            );
        }
        if findings.len() > SHOWN {
            let more = findings.len() - SHOWN;
            self.figure("", format!("and {more} more: see the JSON or the page"));
        }
    }

    fn heading(&mut self, text: String) {
        self.rows.push(Row::Heading(text));
    }

    fn figure(&mut self, name: &str, text: String) {
        self.rows.push(Row::Figure(name.to_owned(), text));
    }

    fn line(&mut self, text: String) {
        self.rows.push(Row::Line(text));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            match row {
                Row::Heading(text) if text.is_empty() => writeln!(formatter)?,
                Row::Heading(text) => writeln!(formatter, "\n{text}")?,
                Row::Figure(name, text) => writeln!(formatter, "  {name:<15} {text}")?,
                Row::Line(text) => writeln!(formatter, "{text}")?,
            }
        }
        Ok(())
    }
}
