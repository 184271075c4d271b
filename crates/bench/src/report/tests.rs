use serde_json::json;

use super::*;
use crate::account::Wrong;
use crate::latency;

fn percentiles(factor: u64) -> Percentiles {
    Percentiles {
        count: 1_000 * factor,
        min: 100 * factor,
        p50: 500 * factor,
        p90: 900 * factor,
        p99: 9_900 * factor,
        p999: 99_900 * factor,
        max: 123_456 * factor,
    }
}

fn group(name: &str, factor: u64) -> Group {
    Group {
        name: name.to_owned(),
        percentiles: percentiles(factor),
        curve: vec![(0.0, 100 * factor), (0.5, 500 * factor), (0.99, 9_900 * factor)],
    }
}

fn moment(second: f64, phase: &'static str) -> Moment {
    Moment {
        second,
        phase,
        published_per_second: 653.25,
        deliveries_per_second: 849.5,
        p50: Some(400),
        p99: Some(9_000),
        max: Some(20_000),
        live: 14_300,
        server_cores: Some(0.25),
        server_rss_kib: Some(204_800),
    }
}

/// Every part filled in.
fn report() -> Report {
    Report {
        format: FORMAT,
        scenario: "reconnect-storm",
        about: "what <b>happens</b> & why",
        verdict: Verdict {
            ok: false,
            reasons: vec!["2 deliveries lost".to_owned()],
        },
        notes: vec!["the <generator> was late".to_owned()],
        setup: Setup {
            sessions: 14_300,
            seconds: 7.25,
            per_second: 1_972.4,
            time: percentiles(2),
            server_cpu_ms_per_session: Some(0.123),
            cycles: 1,
        },
        load: Load {
            kind: "open",
            rate: 653.3,
            seconds: 60.0,
            published: 45_678,
            accepted: 45_677,
            refused: 1,
            uncertain: 0,
            published_again: 3,
            published_per_second: 652.5,
            deliveries: 51_234,
            deliveries_per_second: 853.9,
            megabytes_per_second: 1.21,
        },
        accounting: Counts {
            expected: 59_999,
            delivered: 59_997,
            lost: 2,
            repeated: 17,
            compared: 120,
            ..Counts::default()
        },
        findings: vec![Finding {
            wrong: Wrong::Lost,
            event: "17#4".to_owned(),
            user: "<agent>".to_owned(),
            session: "abc".to_owned(),
            transport: "websocket",
        }],
        latency: Latency {
            all: group("all", 1),
            groups: vec![group("websocket, spared", 2), group("long-polling, cut", 3)],
        },
        connections: Connections {
            cut: 14_290,
            ..Connections::default()
        },
        recovery: Some(Recovery {
            sessions: 14_290,
            back: percentiles(4),
            complete: percentiles(5),
            curve: vec![(0.0, 0.0), (1.5, 0.6), (3.25, 1.0)],
        }),
        server: Some(Server {
            name: Some("halley".to_owned()),
            cpu_seconds: Some(12.5),
            cpu_seconds_per_million: Some(243.98),
            cores: Some(0.208),
            beside_cpu_seconds: Some(2.5),
            system_share: Some(0.61),
            rss_before_kib: 20_480,
            rss_sessions_kib: 163_840,
            rss_peak_kib: 214_000,
            rss_end_kib: 204_800,
            kib_per_session: Some(10.02),
        }),
        generator: Generator {
            threads: 1,
            cpu_seconds: Some(3.5),
            cpu_seconds_per_million: Some(68.3),
            cores: Some(0.058),
            late: percentiles(1),
            sent_late: percentiles(2),
        },
        timeline: vec![
            moment(1.0, "warm-up"),
            moment(2.0, "measured"),
            moment(3.0, "measured"),
            moment(4.0, "drain"),
        ],
        failures: vec![Failure {
            reason: "closed by the server <early>".to_owned(),
            count: 5,
        }],
        repeat: Repeat {
            command: "halley bench reconnect-storm --agents 10000".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            version: "0.1.0".to_owned(),
            machine: Machine {
                processor: "a processor".to_owned(),
                processors: 2,
                memory_mib: 24_000,
                kernel: "Linux 6".to_owned(),
            },
            settings: json!({ "agents": 10_000 }),
        },
    }
}

/// The value of an attribute of an element, unescaped.
fn attribute(element: &str, name: &str) -> String {
    let (_, rest) = element
        .split_once(&format!("{name}="))
        .unwrap_or_else(|| panic!("no {name} in {element}"));
    let value = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap(),
        None => rest.split([' ', '>']).next().unwrap(),
    };
    value
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&amp;", "&")
}

/// The figures of a page: pointer, value as in the JSON, unit, and the words that are shown.
fn figures(html: &str) -> Vec<(String, Value, String, String)> {
    html.split("data-json=")
        .skip(1)
        .map(|rest| {
            let rest = format!("data-json={rest}");
            let (element, text) = rest.split_once('>').unwrap();
            let text = text.split('<').next().unwrap().replace("&amp;", "&");
            let value = serde_json::from_str(&attribute(element, "data-value")).unwrap();
            (
                attribute(element, "data-json"),
                value,
                attribute(element, "data-unit"),
                text,
            )
        })
        .collect()
}

#[test]
fn every_figure_of_the_page_is_the_one_of_the_json() {
    let json: Value = serde_json::from_str(&report().json()).unwrap();
    let figures = figures(&report().html());
    assert!(figures.len() > 80, "{}", figures.len());
    for (pointer, value, _, _) in &figures {
        let expected = json
            .pointer(pointer)
            .unwrap_or_else(|| panic!("the JSON has no {pointer}"));
        assert_eq!(value, expected, "{pointer}");
    }
}

#[test]
fn what_is_shown_of_a_figure_is_what_its_value_says() {
    let shown = |pointer: &str| {
        let figures = figures(&report().html());
        let found = figures.into_iter().find(|(figure, _, _, _)| figure == pointer);
        found.unwrap_or_else(|| panic!("the page has no {pointer}")).3
    };
    for (pointer, words) in [
        ("/latency/all/p99", "9.90 ms"),
        ("/latency/groups/1/max", "370 ms"),
        ("/accounting/lost", "2"),
        ("/accounting/expected", "59,999"),
        ("/load/deliveries_per_second", "854 /s"),
        ("/server/cpu_seconds_per_million", "244"),
        ("/server/rss_peak_kib", "209.0 MiB"),
        ("/server/system_share", "61.0 %"),
        ("/recovery/complete/max", "617 ms"),
        ("/setup/server_cpu_ms_per_session", "123 µs"),
        ("/repeat/machine/processors", "2"),
    ] {
        assert_eq!(shown(pointer), words, "{pointer}");
    }
}

#[test]
fn every_count_of_the_account_and_every_percentile_is_on_the_page() {
    let json: Value = serde_json::from_str(&report().json()).unwrap();
    let figures = figures(&report().html());
    let is_there = |pointer: &str| figures.iter().any(|(figure, _, _, _)| figure == pointer);
    for (place, without) in [
        ("/accounting", &[][..]),
        ("/server", &[]),
        ("/connections", &[]),
        ("/latency/all", &["name", "curve", "min"]),
        ("/recovery/complete", &["count", "min", "p90", "p999"]),
    ] {
        let fields = json.pointer(place).unwrap().as_object().unwrap().keys();
        for field in fields.filter(|field| !without.contains(&field.as_str())) {
            assert!(is_there(&format!("{place}/{field}")), "{place}/{field}");
        }
    }
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let html = report().html();
    for word in [
        "http://", "https://", "src=", "href=", "url(", "@import", "<link", "<img", "onload",
    ] {
        assert!(!html.contains(word), "{word}");
    }
    // The one script is data, which runs nothing.
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains("<script type=\"application/json\""));
}

#[test]
fn the_page_has_its_charts_and_both_colour_schemes() {
    let html = report().html();
    assert_eq!(html.matches("<svg").count(), 8);
    assert!(html.contains("prefers-color-scheme: dark"));
    for title in [
        "Latency by percentile",
        "Deliveries, per second",
        "Memory of the server",
    ] {
        assert!(html.contains(title), "{title}");
    }
}

#[test]
fn the_data_in_the_page_is_the_json() {
    let html = report().html();
    let (_, rest) = html.split_once("id=report>").unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data, serde_json::from_str::<Value>(&report().json()).unwrap());
}

#[test]
fn what_others_wrote_is_text_and_no_markup() {
    let html = report().html();
    for text in ["<generator>", "<agent>", "<b>happens", "<early>"] {
        assert!(!html.contains(text), "{text}");
    }
    assert!(html.contains("&lt;agent&gt;"));
}

#[test]
fn the_table_says_what_is_wrong_and_with_whom() {
    let table = report().table().to_string();
    for words in [
        "lost 2,",
        "2 deliveries lost",
        "event 17#4 at user <agent>, session abc (websocket)",
        "99 % after 49.5 ms",
        "244 s per million deliveries",
        "beside it 2.50 s",
    ] {
        assert!(table.contains(words), "{words} in\n{table}");
    }
}

#[test]
fn a_report_without_server_or_events_is_still_a_page() {
    let report = Report {
        server: None,
        recovery: None,
        findings: Vec::new(),
        failures: Vec::new(),
        timeline: Vec::new(),
        latency: Latency {
            all: Group::of("all".to_owned(), &latency::none()),
            groups: Vec::new(),
        },
        load: Load {
            rate: 0.0,
            ..report().load
        },
        ..report()
    };
    assert!(!report.html().contains("/latency/all"));
    assert!(!report.table().to_string().contains("delivered "));
}

#[test]
fn a_curve_has_no_points_that_its_samples_cannot_tell() {
    let mut latencies = latency::none();
    (1..=100).for_each(|value| latency::record(&mut latencies, 0, value));
    let group = Group::of("g".to_owned(), &latencies);
    let quantiles: Vec<f64> = group.curve.iter().map(|(quantile, _)| *quantile).collect();
    assert_eq!(&quantiles[quantiles.len() - 2..], [0.99, 1.0]);
    assert_eq!(group.percentiles.p99, 99);
}

#[test]
fn percentiles_are_those_of_the_samples() {
    let mut latencies = latency::none();
    (1..=1_000).for_each(|value| latency::record(&mut latencies, 0, value));
    let expected = Percentiles {
        count: 1_000,
        min: 1,
        p50: 500,
        p90: 900,
        p99: 990,
        p999: 999,
        max: 1_000,
    };
    assert_eq!(Percentiles::of(&latencies), expected);
}
