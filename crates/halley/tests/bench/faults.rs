//! A server that does one thing wrong is found out, and what is wrong is named.

use std::time::Duration;

use bench::settings::Route;
use bench::{BenchError, Finding, Report, Wrong};

use crate::broker::{run, settings};
use crate::stub::{self, Fault, STALL};

fn run_against(fault: Fault, scenario: &str, sessions: u32) -> Result<Report, BenchError> {
    let addr = stub::start(fault);
    let mut settings = settings(scenario, &format!("http://{addr}/cometd"));
    settings.publish.url = Some(format!("http://{addr}/publish").parse().expect("an address"));
    settings.route = Some(Route::Channel);
    settings.long_polling = 1.0;
    settings.sessions = sessions;
    settings.rate = Some(20.0);
    settings.drain = Duration::from_millis(700);
    run(settings)
}

/// What is found, as `lost everyone#2 at session-0`, each once.
#[track_caller]
fn expect(fault: Fault, scenario: &str, expected: &[&str]) -> Report {
    let report = run_against(fault, scenario, 2).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.verdict.ok, expected.is_empty(), "{}", report.table());
    let name = |finding: &Finding| {
        format!(
            "{} {} at {}",
            finding.wrong.words(),
            finding.event,
            finding.session
        )
    };
    let mut found: Vec<String> = report.findings.iter().map(name).collect();
    found.sort();
    assert_eq!(found, expected, "{}", report.table());
    let counted: u64 = Wrong::ALL.iter().map(|wrong| report.accounting.of(*wrong)).sum();
    assert_eq!(counted, expected.len() as u64);
    report
}

#[test]
fn a_server_that_does_nothing_wrong_is_not_blamed() {
    expect(Fault::None, "fan-out", &[]);
}

#[test]
fn a_lost_event_is_found_at_every_session_that_missed_it() {
    let expected = ["lost everyone#2 at session-0", "lost everyone#2 at session-1"];
    let report = expect(Fault::Lose, "fan-out", &expected);
    assert_eq!(report.verdict.reasons, ["2 deliveries lost"]);
    assert_eq!(report.findings[0].user, "bench-0");
}

#[test]
fn a_duplicated_event_is_found() {
    let expected = [
        "duplicated everyone#2 at session-0",
        "duplicated everyone#2 at session-1",
    ];
    expect(Fault::Duplicate, "fan-out", &expected);
}

#[test]
fn an_event_that_was_overtaken_is_found() {
    let expected = [
        "out of order everyone#2 at session-0",
        "out of order everyone#2 at session-1",
    ];
    let report = expect(Fault::Reorder, "fan-out", &expected);
    assert_eq!(report.accounting.delivered, report.accounting.expected);
}

#[test]
fn an_event_that_somebody_else_gets_is_found() {
    let report = run_against(Fault::Misroute, "unicast", 2).unwrap();
    assert_eq!(
        (report.accounting.foreign, report.findings.len()),
        (1, 1),
        "{}",
        report.table()
    );
    let Finding { event, user, .. } = &report.findings[0];
    let owner = event.split('#').next().unwrap();
    assert_ne!(
        *user,
        format!("bench-{owner}"),
        "it is named with who got it, not with whose it is"
    );
}

#[test]
fn a_changed_event_is_found() {
    let report = run_against(Fault::Corrupt, "fan-out", 1).unwrap();
    // One in 500 is compared, the first among them.
    assert_eq!((report.accounting.corrupt, report.accounting.compared), (1, 1));
    assert!(!report.verdict.ok);
}

#[test]
fn a_refused_event_is_no_lost_one_but_the_run_has_failed() {
    let report = run_against(Fault::Refuse, "fan-out", 2).unwrap();
    assert_eq!(
        (report.load.refused, report.accounting.lost),
        (1, 0),
        "{}",
        report.table()
    );
    assert_eq!(report.verdict.reasons, ["1 event refused by the server"]);
    assert!(
        report.failures[0].reason.contains("HTTP 400"),
        "{}",
        report.table()
    );
}

#[test]
fn an_event_that_was_refused_and_comes_all_the_same_is_found() {
    let report = run_against(Fault::RefuseAndDeliver, "fan-out", 1).unwrap();
    assert_eq!(report.accounting.refused, 1, "{}", report.table());
    assert_eq!(report.findings[0].wrong, Wrong::Refused);
}

#[test]
fn an_event_without_an_answer_is_uncertain() {
    let report = run_against(Fault::Break, "fan-out", 1).unwrap();
    assert_eq!(
        (report.load.uncertain, report.accounting.lost),
        (1, 0),
        "{}",
        report.table()
    );
    assert!(!report.verdict.ok);
}

#[test]
fn with_ids_it_is_published_again() {
    let addr = stub::start(Fault::Break);
    let mut settings = settings("fan-out", &format!("http://{addr}/cometd"));
    settings.publish.url = Some(format!("http://{addr}/publish").parse().unwrap());
    settings.publish.ids = true;
    // What shares a request with it would have been delivered before the connection broke.
    settings.publish.batch = 1;
    settings.long_polling = 1.0;
    let report = run(settings).unwrap();
    assert!(report.verdict.ok, "{}", report.table());
    assert!(report.load.published_again >= 1, "{}", report.table());
    assert_eq!(report.accounting.delivered, report.load.published * 20);
}

#[test]
fn a_stall_is_in_the_latency_of_everything_that_was_due_meanwhile() {
    let report = run_against(Fault::Stall, "fan-out", 1).unwrap();
    assert!(report.verdict.ok, "{}", report.table());
    let latency = &report.latency.all.percentiles;
    // 20 events a second: about eleven of the measured twenty were due in the stall, and waited for what was left of it. A
    // generator that waits with the server would have one late event.
    assert!(
        latency.p50 > 20_000 && latency.p90 > 300_000,
        "{}",
        report.table()
    );
    assert!(
        u128::from(latency.max) > STALL.as_micros() * 8 / 10,
        "{}",
        report.table()
    );
}

#[test]
fn a_server_that_lets_nobody_in_is_said_so() {
    let error = run_against(Fault::Deny, "fan-out", 3).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("3 of 3 sessions") && text.contains("403::denied"),
        "{text}"
    );
}

#[test]
fn a_server_that_is_not_there_is_said_so() {
    let mut settings = settings("fan-out", "ws://127.0.0.1:9/cometd");
    settings.sessions = 2;
    let text = run(settings).unwrap_err().to_string();
    assert!(
        text.contains("2 of 2 sessions") && text.contains("refused"),
        "{text}"
    );
}

#[test]
fn sessions_go_to_each_node_in_turn() {
    let addr = stub::start(Fault::None);
    let mut settings = settings("fan-out", &format!("http://{addr}/cometd"));
    settings.more_urls = vec!["http://127.0.0.1:9/cometd".parse().unwrap()];
    settings.long_polling = 1.0;
    settings.sessions = 9;
    let text = run(settings).unwrap_err().to_string();
    assert!(text.contains("4 of 9 sessions"), "{text}");
}

#[test]
fn publishers_go_to_each_node_in_turn() {
    let addr = stub::start(Fault::None);
    let mut settings = settings("fan-out", &format!("http://{addr}/cometd"));
    settings.publish.url = Some(format!("http://{addr}/publish").parse().unwrap());
    settings.publish.more_urls = vec!["http://127.0.0.1:9/publish".parse().unwrap()];
    settings.long_polling = 1.0;
    settings.opening.patience = Duration::from_millis(600);
    let text = run(settings).unwrap_err().to_string();
    assert!(text.contains("2 of 4 publishers"), "{text}");
}

#[test]
fn a_publisher_that_is_not_there_is_said_so() {
    let addr = stub::start(Fault::None);
    let mut settings = settings("fan-out", &format!("http://{addr}/cometd"));
    settings.publish.url = Some("http://127.0.0.1:9/publish".parse().unwrap());
    settings.long_polling = 1.0;
    settings.opening.patience = Duration::from_millis(600);
    let text = run(settings).unwrap_err().to_string();
    assert!(
        text.contains("0 of 4 publishers") && text.contains("refused"),
        "{text}"
    );
}
