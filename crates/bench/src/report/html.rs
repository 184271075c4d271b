//! The report as one page: nothing is loaded, nothing runs, and it can be read in the dark.
//!
//! Every figure comes from the JSON by its pointer, which the page repeats (`data-json`) with the value as it is there
//! (`data-value`) and its unit, so that the two can be compared.

use std::fmt::Write as _;

use serde_json::Value;

use super::chart::{Axis, Chart, Line, escape};
use super::words::{Unit, say};

const STYLE: &str = include_str!("style.css");

/// The page of a report.
pub(super) fn page(report: &Value) -> String {
    let page = Page { report };
    let scenario = escape(report["scenario"].as_str().unwrap_or_default());
    let mut html = format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n\
         <title>Load test: {scenario}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    for part in [
        page.head(),
        page.tiles(),
        page.latency(),
        page.timeline(),
        page.recovery(),
        page.accounting(),
        page.costs(),
        page.repeat(),
    ] {
        html.push_str(&part);
        html.push('\n');
    }
    // As data, for whoever wants to read the figures from the page.
    let json = report.to_string().replace('<', "\\u003c");
    let _ = writeln!(
        html,
        "<script type=\"application/json\" id=report>{json}</script>\n</body>\n</html>"
    );
    html
}

struct Page<'a> {
    report: &'a Value,
}

impl Page<'_> {
    fn at(&self, pointer: &str) -> &Value {
        self.report.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn text(&self, pointer: &str) -> String {
        escape(&say(self.at(pointer), Unit::Text))
    }

    /// A figure, as an element of this name.
    fn figure(&self, element: &str, pointer: &str, unit: Unit) -> String {
        let value = self.at(pointer);
        format!(
            "<{element} data-json=\"{pointer}\" data-unit={} data-value=\"{}\">{}</{element}>",
            unit.name(),
            escape(&value.to_string()),
            escape(&say(value, unit))
        )
    }

    /// A row of a name and a figure.
    fn row(&self, name: &str, pointer: &str, unit: Unit) -> String {
        format!(
            "<tr><th scope=row>{name}</th>{}</tr>",
            self.figure("td", pointer, unit)
        )
    }

    /// A table of names and figures; what is not known is left out.
    fn rows(&self, rows: &[(&str, &str, Unit)]) -> String {
        let known = rows.iter().filter(|(_, pointer, _)| !self.at(pointer).is_null());
        let rows: String = known
            .map(|(name, pointer, unit)| self.row(name, pointer, *unit))
            .collect();
        format!("<table class=pairs>{rows}</table>")
    }

    fn head(&self) -> String {
        let reasons: String = (self.at("/verdict/reasons").as_array().into_iter().flatten())
            .map(|reason| format!("<li>{}</li>", escape(reason.as_str().unwrap_or_default())))
            .collect();
        let verdict = if self.at("/verdict/ok") == true {
            "<p class=\"verdict ok\">ok: every event is accounted for</p>".to_owned()
        } else {
            format!("<div class=\"verdict failed\">failed<ul>{reasons}</ul></div>")
        };
        let notes: String = (self.at("/notes").as_array().into_iter().flatten())
            .map(|note| format!("<p class=note>{}</p>", escape(note.as_str().unwrap_or_default())))
            .collect();
        format!(
            "<header><h1>{}</h1><p>{}</p><p class=when>{}, Halley {}</p>{verdict}{notes}</header>",
            self.text("/scenario"),
            self.text("/about"),
            self.text("/repeat/started"),
            self.text("/repeat/version"),
        )
    }

    fn tiles(&self) -> String {
        let tiles = [
            ("p50", "/latency/all/p50", Unit::Time),
            ("p99", "/latency/all/p99", Unit::Time),
            ("p99.9", "/latency/all/p999", Unit::Time),
            ("deliveries", "/load/deliveries_per_second", Unit::Rate),
            ("sessions", "/setup/sessions", Unit::Count),
            (
                "server CPU s per million deliveries",
                "/server/cpu_seconds_per_million",
                Unit::Number,
            ),
            ("server memory per session", "/server/kib_per_session", Unit::Kib),
            ("server memory, highest", "/server/rss_peak_kib", Unit::Kib),
            (
                "everyone has everything after",
                "/recovery/complete/max",
                Unit::Time,
            ),
        ];
        let publishes = self.at("/load/rate").as_f64() > Some(0.0);
        let tiles: String = tiles
            .iter()
            .filter(|(_, pointer, _)| !self.at(pointer).is_null())
            .filter(|(_, pointer, _)| {
                publishes || !pointer.starts_with("/latency") && !pointer.starts_with("/load")
            })
            .map(|(name, pointer, unit)| {
                format!(
                    "<div>{}<span>{name}</span></div>",
                    self.figure("b", pointer, *unit)
                )
            })
            .collect();
        format!("<section class=tiles>{tiles}</section>")
    }

    fn latency(&self) -> String {
        let groups = self.at("/latency/groups").as_array().map_or(0, Vec::len);
        if groups == 0 {
            return String::new();
        }
        let mut pointers = vec!["/latency/all".to_owned()];
        if groups > 1 {
            pointers.extend((0..groups).map(|number| format!("/latency/groups/{number}")));
        }
        let mut html = "<section><h2>Latency</h2><p>From the moment at which an event was due to be published to its arrival \
                        at a client.</p><table><thead><tr><th></th><th>deliveries</th><th>p50</th><th>p90</th><th>p99</th>\
                        <th>p99.9</th><th>longest</th></tr></thead><tbody>"
            .to_owned();
        for pointer in &pointers {
            let _ = write!(
                html,
                "<tr><th scope=row>{}</th>",
                self.text(&format!("{pointer}/name"))
            );
            html.push_str(&self.figure("td", &format!("{pointer}/count"), Unit::Count));
            for quantile in ["p50", "p90", "p99", "p999", "max"] {
                html.push_str(&self.figure("td", &format!("{pointer}/{quantile}"), Unit::Time));
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody></table><div class=chart>");
        let lines = pointers.iter().map(|pointer| Line {
            name: say(self.at(&format!("{pointer}/name")), Unit::Text),
            points: self.percentiles(pointer),
        });
        let chart = Chart {
            title: "Latency by percentile",
            x: Axis::Nines,
            y: Axis::Latency,
            lines: lines.collect(),
            shaded: Vec::new(),
        };
        html.push_str(&chart.html());
        html.push_str("</div></section>");
        html
    }

    /// The curve of a group. The longest of a thousand stands where 99.95 % would be, not at an end that is never reached.
    fn percentiles(&self, pointer: &str) -> Vec<(f64, f64)> {
        let count = self.at(&format!("{pointer}/count")).as_f64().unwrap_or(1.0);
        let last = 1.0 - 0.5 / count.max(1.0);
        let points = points(self.at(&format!("{pointer}/curve")));
        points
            .into_iter()
            .map(|(quantile, micros)| (quantile.min(last), micros))
            .collect()
    }

    fn timeline(&self) -> String {
        let charts = [
            (
                "Events published, per second",
                Axis::Count,
                &[("published", "published_per_second")][..],
            ),
            (
                "Deliveries, per second",
                Axis::Count,
                &[("delivered", "deliveries_per_second")],
            ),
            (
                "Latency",
                Axis::Latency,
                &[("p50", "p50"), ("p99", "p99"), ("longest", "max")],
            ),
            ("Sessions connected", Axis::Count, &[("connected", "live")]),
            (
                "Cores that the server uses",
                Axis::Count,
                &[("cores", "server_cores")],
            ),
            (
                "Memory of the server",
                Axis::Memory,
                &[("resident", "server_rss_kib")],
            ),
        ];
        let charts: String = charts
            .iter()
            .map(|(title, axis, lines)| self.over_time(title, *axis, lines))
            .collect();
        if charts.is_empty() {
            return String::new();
        }
        format!(
            "<section><h2>Over time</h2><p>What is shaded is not measured: warming up, and waiting for what was still due.</p>\
             <div class=charts>{charts}</div></section>"
        )
    }

    fn over_time(&self, title: &'static str, y: Axis, lines: &[(&str, &str)]) -> String {
        let moments = self.at("/timeline").as_array().map_or(&[][..], Vec::as_slice);
        let second = |moment: &Value| moment["second"].as_f64().unwrap_or_default();
        let lines = lines.iter().map(|(name, field)| Line {
            name: (*name).to_owned(),
            points: moments
                .iter()
                .filter_map(|moment| Some((second(moment), moment[*field].as_f64()?)))
                .collect(),
        });
        let end_of = |phase: &str| {
            moments
                .iter()
                .rfind(|moment| moment["phase"] == phase)
                .map(second)
        };
        let mut shaded: Vec<(f64, f64)> = end_of("warm-up").into_iter().map(|end| (0.0, end)).collect();
        if let (Some(from), Some(to)) = (end_of("measured"), end_of("drain")) {
            shaded.push((from, to));
        }
        let lines: Vec<Line> = lines.collect();
        // Nothing but zeros is no news.
        if y == Axis::Count
            && lines
                .iter()
                .flat_map(|line| &line.points)
                .all(|(_, value)| *value == 0.0)
        {
            return String::new();
        }
        Chart {
            title,
            x: Axis::Seconds,
            y,
            lines,
            shaded,
        }
        .html()
    }

    fn recovery(&self) -> String {
        if self.at("/recovery").is_null() {
            return String::new();
        }
        let rows = self.rows(&[
            ("sessions that came back", "/recovery/sessions", Unit::Count),
            (
                "half of them are connected after",
                "/recovery/back/p50",
                Unit::Time,
            ),
            ("99 % are connected after", "/recovery/back/p99", Unit::Time),
            ("all are connected after", "/recovery/back/max", Unit::Time),
            (
                "half of them have everything after",
                "/recovery/complete/p50",
                Unit::Time,
            ),
            ("99 % have everything after", "/recovery/complete/p99", Unit::Time),
            ("all have everything after", "/recovery/complete/max", Unit::Time),
        ]);
        let chart = Chart {
            title: "Sessions that have everything, by the time since they lost it",
            x: Axis::Seconds,
            y: Axis::Share,
            lines: vec![Line {
                name: "complete".to_owned(),
                points: points(self.at("/recovery/curve")),
            }],
            shaded: Vec::new(),
        };
        format!(
            "<section><h2>Coming back</h2>{rows}<div class=chart>{}</div></section>",
            chart.html()
        )
    }

    fn accounting(&self) -> String {
        let rows = self.rows(&[
            ("events published", "/load/published", Unit::Count),
            ("accepted by the server", "/load/accepted", Unit::Count),
            ("refused", "/load/refused", Unit::Count),
            (
                "neither, since the connection broke",
                "/load/uncertain",
                Unit::Count,
            ),
            (
                "published again with the same id",
                "/load/published_again",
                Unit::Count,
            ),
            ("deliveries due", "/accounting/expected", Unit::Count),
            ("delivered", "/accounting/delivered", Unit::Count),
            ("lost", "/accounting/lost", Unit::Count),
            ("duplicated", "/accounting/duplicated", Unit::Count),
            ("out of order", "/accounting/out_of_order", Unit::Count),
            (
                "foreign: another user's, or never published",
                "/accounting/foreign",
                Unit::Count,
            ),
            ("corrupt", "/accounting/corrupt", Unit::Count),
            ("delivered although refused", "/accounting/refused", Unit::Count),
            (
                "repeated after a break, to clients without ack",
                "/accounting/repeated",
                Unit::Count,
            ),
            (
                "compared byte by byte of their meaning",
                "/accounting/compared",
                Unit::Count,
            ),
            ("connections broken", "/connections/broken", Unit::Count),
            ("connections cut by the test", "/connections/cut", Unit::Count),
            (
                "sessions that the server forgot",
                "/connections/forgotten",
                Unit::Count,
            ),
            (
                "sessions not back at the end",
                "/connections/never_back",
                Unit::Count,
            ),
        ]);
        format!(
            "<section><h2>Every event accounted for</h2>{rows}{}{}</section>",
            self.findings(),
            self.failures()
        )
    }

    fn findings(&self) -> String {
        let findings = self.at("/findings").as_array().map_or(&[][..], Vec::as_slice);
        if findings.is_empty() {
            return String::new();
        }
        let rows: String = findings
            .iter()
            .map(|finding| {
                let cells = ["wrong", "event", "user", "session", "transport"];
                let cells = cells
                    .map(|name| format!("<td>{}</td>", escape(finding[name].as_str().unwrap_or_default())));
                format!("<tr>{}</tr>", cells.concat())
            })
            .collect();
        format!(
            "<h3>What is wrong</h3><table class=texts><thead><tr><th>what</th><th>event</th><th>user</th><th>session</th>\
             <th>transport</th></tr></thead><tbody>{rows}</tbody></table>"
        )
    }

    fn failures(&self) -> String {
        let failures = self.at("/failures").as_array().map_or(0, Vec::len);
        if failures == 0 {
            return String::new();
        }
        let rows: String = (0..failures)
            .map(|number| {
                let count = self.figure("td", &format!("/failures/{number}/count"), Unit::Count);
                let reason = self.text(&format!("/failures/{number}/reason"));
                format!("<tr>{count}<td class=text>{reason}</td></tr>")
            })
            .collect();
        format!("<h3>What failed on the way</h3><table><tbody>{rows}</tbody></table>")
    }

    fn costs(&self) -> String {
        let setup = self.rows(&[
            ("sessions", "/setup/sessions", Unit::Count),
            ("seconds until all were there", "/setup/seconds", Unit::Seconds),
            ("sessions a second", "/setup/per_second", Unit::Rate),
            ("half of them took", "/setup/time/p50", Unit::Time),
            ("99 % took", "/setup/time/p99", Unit::Time),
            ("the slowest took", "/setup/time/max", Unit::Time),
            (
                "server CPU for each",
                "/setup/server_cpu_ms_per_session",
                Unit::Milliseconds,
            ),
        ]);
        let server = self.rows(&[
            ("process", "/server/name", Unit::Text),
            ("CPU", "/server/cpu_seconds", Unit::Seconds),
            (
                "CPU seconds per million deliveries",
                "/server/cpu_seconds_per_million",
                Unit::Number,
            ),
            ("cores in use", "/server/cores", Unit::Number),
            ("of it in the kernel", "/server/system_share", Unit::Share),
            (
                "CPU of what it works with",
                "/server/beside_cpu_seconds",
                Unit::Seconds,
            ),
            (
                "memory before the first session",
                "/server/rss_before_kib",
                Unit::Kib,
            ),
            ("memory with all sessions", "/server/rss_sessions_kib", Unit::Kib),
            ("memory at the end", "/server/rss_end_kib", Unit::Kib),
            ("memory, highest", "/server/rss_peak_kib", Unit::Kib),
            ("memory for each session", "/server/kib_per_session", Unit::Kib),
        ]);
        let generator = self.rows(&[
            ("threads", "/generator/threads", Unit::Count),
            ("CPU", "/generator/cpu_seconds", Unit::Seconds),
            (
                "CPU seconds per million deliveries",
                "/generator/cpu_seconds_per_million",
                Unit::Number,
            ),
            ("cores in use", "/generator/cores", Unit::Number),
            (
                "99 % of events noticed late by, at most",
                "/generator/late/p99",
                Unit::Time,
            ),
            ("the latest by", "/generator/late/max", Unit::Time),
            (
                "99 % sent late by, at most",
                "/generator/sent_late/p99",
                Unit::Time,
            ),
            ("the latest by", "/generator/sent_late/max", Unit::Time),
        ]);
        let load = self.rows(&[
            ("loop", "/load/kind", Unit::Text),
            ("events asked for", "/load/rate", Unit::Rate),
            ("events published", "/load/published_per_second", Unit::Rate),
            ("deliveries", "/load/deliveries_per_second", Unit::Rate),
            (
                "data of them, MB a second",
                "/load/megabytes_per_second",
                Unit::Number,
            ),
            ("time measured", "/load/seconds", Unit::Seconds),
        ]);
        let server = if self.at("/server").is_null() {
            "<p>Not known: --pid says which process it is.</p>".to_owned()
        } else {
            server
        };
        format!(
            "<section class=columns><div><h2>Setting up</h2>{setup}</div><div><h2>Load</h2>{load}</div>\
             <div><h2>Server</h2>{server}</div><div><h2>Generator</h2>{generator}</div></section>"
        )
    }

    fn repeat(&self) -> String {
        let settings = serde_json::to_string_pretty(self.at("/repeat/settings")).unwrap_or_default();
        let machine = self.rows(&[
            ("processor", "/repeat/machine/processor", Unit::Text),
            ("processors", "/repeat/machine/processors", Unit::Count),
            ("memory, MiB", "/repeat/machine/memory_mib", Unit::Count),
            ("kernel", "/repeat/machine/kernel", Unit::Text),
        ]);
        format!(
            "<section><h2>To do it again</h2><pre>{}</pre>{machine}<details><summary>Every setting</summary><pre>{}</pre>\
             </details></section>",
            self.text("/repeat/command"),
            escape(&settings)
        )
    }
}

/// Points of a curve.
fn points(curve: &Value) -> Vec<(f64, f64)> {
    let pairs = curve.as_array().into_iter().flatten();
    pairs
        .filter_map(|pair| Some((pair[0].as_f64()?, pair[1].as_f64()?)))
        .collect()
}
