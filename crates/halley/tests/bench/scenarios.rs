//! Every scenario against a broker: nothing is wrong, and the figures are those of what happened.

use std::time::Duration;

use bench::Report;
use bench::settings::{ComeBack, Cut, Publisher, Route};

use crate::broker::{run_with_users, run_without_users};

#[track_caller]
fn expect_all(report: &Report) {
    assert!(report.verdict.ok, "{}", report.table());
    assert_eq!(report.accounting.delivered, report.accounting.expected);
    assert!(report.accounting.delivered > 0, "{}", report.table());
    assert!(report.latency.all.percentiles.count > 0, "{}", report.table());
}

#[test]
fn fan_out_over_both_transports_with_and_without_acknowledging() {
    let report = run_with_users("fan-out", |settings| {
        settings.rate = Some(20.0);
        settings.long_polling = 0.5;
        settings.ack = 0.5;
    });
    expect_all(&report);
    assert_eq!(report.accounting.delivered, report.load.published * 20);
    let names: Vec<_> = report
        .latency
        .groups
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    assert_eq!(names, ["websocket", "long-polling"]);
}

#[test]
fn unicast_reaches_each_user_and_nobody_else() {
    let report = run_with_users("unicast", |settings| {
        settings.rate = Some(200.0);
        settings.long_polling = 0.5;
        settings.publish.ids = true;
    });
    expect_all(&report);
    assert_eq!(report.accounting.delivered, report.load.published);
    assert_eq!(report.load.accepted, report.load.published);
}

#[test]
fn unicast_by_channel_needs_no_users() {
    let report = run_without_users("unicast", |settings| settings.route = Some(Route::Channel));
    expect_all(&report);
}

#[test]
fn two_threads_share_the_work() {
    let report = run_with_users("contact-centre", |settings| {
        settings.threads = 2;
        settings.rate = Some(300.0);
        settings.announce_every = Duration::from_millis(400);
    });
    expect_all(&report);
    assert_eq!(report.setup.sessions, 29, "22 users, 1.3 sessions each");
}

#[test]
fn a_contact_centre_has_calls_and_announcements() {
    let report = run_with_users("contact-centre", |settings| {
        settings.rate = Some(300.0);
        settings.announce_every = Duration::from_millis(400);
        settings.ack = 0.5;
    });
    expect_all(&report);
    let has = |name: &str| report.latency.groups.iter().any(|group| group.name == name);
    assert!(has("websocket") && has("long-polling") && has("websocket, announcements"));
}

#[test]
fn sessions_that_publish_on_channels_do_so_over_both_transports() {
    for scheme in ["ws", "http"] {
        let report = run_without_users("contact-centre", |settings| {
            settings.publish.by = Publisher::Bayeux;
            settings.url = settings.url.to_string().replace("ws", scheme).parse().unwrap();
            settings.rate = Some(100.0);
            settings.announce_every = Duration::from_millis(400);
        });
        expect_all(&report);
        assert_eq!(report.load.accepted, report.load.published, "{scheme}");
    }
}

#[test]
fn idle_sessions_stay() {
    let report = run_with_users("idle", |settings| {
        settings.long_polling = 0.5;
        settings.pids = vec![std::process::id()];
    });
    assert!(report.verdict.ok, "{}", report.table());
    assert_eq!(report.timeline.last().unwrap().live, 20);
    assert!(report.server.unwrap().rss_end_kib > 1_000);
}

#[test]
fn connecting_again_and_again_is_measured_each_time() {
    let report = run_with_users("connect", |settings| settings.long_polling = 0.5);
    assert!(report.verdict.ok, "{}", report.table());
    assert_eq!((report.setup.cycles, report.setup.time.count), (2, 40));
}

#[test]
fn sessions_are_opened_at_a_rate() {
    let report = run_with_users("connect", |settings| {
        settings.opening.rate = Some(50.0);
        settings.opening.cycles = 1;
    });
    // Twenty, the first at once, and then one every 20 ms.
    assert!(report.setup.seconds > 0.37, "{}", report.setup.seconds);
}

#[track_caller]
fn expect_everyone_back(cut: Cut, acknowledging: f64) {
    let report = run_with_users("reconnect-storm", |settings| {
        settings.duration = Duration::from_secs(2);
        settings.storm.cut = cut;
        settings.storm.spared = 3;
        settings.storm.come_back = ComeBack::AtOnce;
        settings.rate = Some(300.0);
        settings.announce_every = Duration::from_millis(300);
        settings.long_polling = 0.5;
        settings.ack = acknowledging;
    });
    expect_all(&report);
    assert_eq!((report.connections.cut, report.connections.forgotten), (26, 0));
    assert_eq!(
        report.recovery.as_ref().map(|recovery| recovery.sessions),
        Some(26)
    );
    let has = |name: &str| report.latency.groups.iter().any(|group| group.name == name);
    assert!(has("websocket, cut, after the cut"), "{}", report.table());
    if acknowledging >= 1.0 {
        assert_eq!(report.accounting.repeated, 0);
    }
}

#[test]
fn after_a_storm_plain_clients_have_everything() {
    expect_everyone_back(Cut::Reset, 0.0);
}

#[test]
fn after_a_storm_acknowledging_clients_have_everything_once() {
    expect_everyone_back(Cut::Close, 1.0);
}

#[test]
fn connections_that_nobody_told_the_broker_about_are_left_behind() {
    expect_everyone_back(Cut::Silent, 0.5);
}

#[test]
fn slow_clients_catch_up_and_others_do_not_notice() {
    let report = run_with_users("slow-clients", |settings| {
        settings.rate = Some(200.0);
        settings.slow.share = 0.2;
        settings.slow.pause = Duration::from_millis(600);
        settings.payload = Some(2_000);
    });
    expect_all(&report);
    let latency = |name: &str| {
        let group = report.latency.groups.iter().find(|group| group.name == name);
        &group
            .unwrap_or_else(|| panic!("no {name}: {}", report.table()))
            .percentiles
    };
    assert_eq!(report.recovery.as_ref().unwrap().sessions, 4);
    let (slow, reading) = (latency("websocket, slow"), latency("websocket, reading"));
    assert!(slow.p90 > 250_000, "{}", report.table());
    assert!(reading.p50 < slow.p90, "{}", report.table());
}

#[test]
fn a_closed_loop_has_no_more_under_way_than_it_may() {
    let report = run_with_users("fan-out", |settings| settings.in_flight = Some(2));
    expect_all(&report);
    assert_eq!(report.load.kind, "closed");
    assert!(report.load.published > 20, "{}", report.table());
}
