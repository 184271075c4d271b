//! Clients that loop on 402: later and later, then refused, and nobody else hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use halley::app::App;
use halley::config::{Config, Network, Span};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::it::{Answer, Line, PATIENCE, Socket, ask, broker, metrics, post, publish};

fn connect(id: &str) -> Value {
    json!([{ "channel": "/meta/connect", "clientId": id }])
}

fn milliseconds(milliseconds: u64) -> Span {
    Span(Duration::from_millis(milliseconds))
}

/// Two answers at once, then one that is late, then refusals.
fn impatient(first_delay: u64) -> impl FnOnce(&mut Config) {
    move |config| {
        config.session.trust_client_session = true;
        config.unknown_sessions.free_repeats = 1;
        config.unknown_sessions.first_delay = milliseconds(first_delay);
        config.unknown_sessions.longest_delay = milliseconds(first_delay);
        config.unknown_sessions.refuse_after = 3;
    }
}

/// Longer than a test lasts.
const VERY_LATE: u64 = 20_000;

#[tokio::test]
async fn a_loop_slows_down_to_less_than_one_answer_a_second() {
    let app = broker(|_| {}).await;
    let answers = Arc::new(AtomicU64::new(0));
    let mut line = Line::open(&app).await;
    let counted = Arc::clone(&answers);
    let looping = tokio::spawn(async move {
        loop {
            // What status it has does not matter to this client.
            line.send("POST", "/cometd", &[], &connect("gone").to_string())
                .await;
            line.receive().await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut round_trips = healthy_client(&app, Duration::from_secs(2)).await;
    let soon = answers.load(Ordering::Relaxed);
    round_trips.extend(healthy_client(&app, Duration::from_secs(4)).await);
    let later = answers.load(Ordering::Relaxed) - soon;
    looping.abort();
    assert!((3..=6).contains(&soon), "{soon} answers in two seconds");
    assert!(later <= 3, "{later} answers in the four seconds after that");
    round_trips.sort();
    let (count, median) = (round_trips.len(), round_trips[round_trips.len() / 2]);
    assert!(
        median < Duration::from_millis(50),
        "{count} round trips of another client at the same address: {median:?}, at worst {:?}",
        round_trips.last()
    );
}

/// How long the answers take to a client that shakes hands anew each time that its session is unknown.
async fn healthy_client(app: &App, time: Duration) -> Vec<Duration> {
    let mut line = Line::open(app).await;
    let mut round_trips = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let stale = format!("stale {}", round_trips.len());
        for body in [connect(&stale), json!([{ "channel": "/meta/handshake" }])] {
            let asked = Instant::now();
            line.send("POST", "/cometd", &[], &body.to_string()).await;
            assert_eq!(line.receive().await.status, 200);
            round_trips.push(asked.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    round_trips
}

#[track_caller]
fn expect_a_402(answer: &Value) {
    assert_eq!(answer[0]["error"], "402::session_unknown");
    assert_eq!(answer[0]["advice"]["reconnect"], "handshake");
}

#[tokio::test]
async fn repeats_are_refused_with_a_status_and_the_body_stays_a_402() {
    let app = broker(impatient(1)).await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let answer = post(&app, &connect("gone")).await;
        expect_a_402(&answer.json());
        let retry_after = answer.header("retry-after").map(ToOwned::to_owned);
        statuses.push((answer.status, retry_after));
    }
    let refused = (429, Some("1".to_owned()));
    let first = (200, None);
    assert_eq!(
        statuses,
        [first.clone(), first.clone(), first, refused.clone(), refused]
    );
    let another = post(&app, &connect("another")).await;
    assert_eq!(another.status, 200, "the address is not refused");
    let page = metrics(&app).await;
    for line in [
        "halley_unknown_sessions_total{result=\"delayed\"} 1",
        "halley_unknown_sessions_total{result=\"refused\"} 2",
    ] {
        assert!(page.lines().any(|found| found == line), "no {line}");
    }
}

#[tokio::test]
async fn a_script_is_refused_with_a_status_too() {
    let app = broker(|config| {
        impatient(1)(config);
        config.public.transports.push("callback-polling".to_owned());
    })
    .await;
    let path = "/cometd?jsonp=f&message={%22channel%22:%22/meta/connect%22,%22clientId%22:%22gone%22}";
    let mut last = None;
    for _ in 0..4 {
        last = Some(ask(&app, "GET", path, &[], "").await);
    }
    let Answer { status, body, .. } = last.expect("an answer");
    assert_eq!(status, 429);
    assert!(
        body.starts_with("f([{") && body.contains("402::session_unknown"),
        "{body}"
    );
}

#[tokio::test]
async fn a_socket_is_answered_later_and_closed_after_repeats() {
    let app = broker(impatient(300)).await;
    let mut socket = Socket::open(&app).await;
    let began = Instant::now();
    for _ in 0..4 {
        socket.say(&connect("gone")).await;
    }
    for _ in 0..2 {
        expect_a_402(&socket.hear().await);
    }
    let at_once = began.elapsed();
    for _ in 0..2 {
        expect_a_402(&socket.hear().await);
    }
    assert!(
        at_once < Duration::from_millis(250) && began.elapsed() >= Duration::from_millis(600),
        "two at once, and two later: {at_once:?} {:?}",
        began.elapsed()
    );
    assert!(socket.closed().await.starts_with("1008 "));
    let mut again = Socket::open(&app).await;
    again.say(&connect("gone")).await;
    expect_a_402(&again.hear().await);
    assert!(
        again.closed().await.starts_with("1008 "),
        "another socket is no way out"
    );
}

#[tokio::test]
async fn what_a_socket_sends_before_a_late_answer_is_answered_after_it() {
    let app = broker(|config| {
        impatient(50)(config);
        config.unknown_sessions.refuse_after = 100;
    })
    .await;
    let mut socket = Socket::open(&app).await;
    for id in 1..=7 {
        socket
            .say(&json!([{ "channel": "/meta/connect", "clientId": "gone", "id": id }]))
            .await;
    }
    for id in 1..=7 {
        assert_eq!(socket.hear().await[0]["id"], id);
    }
}

/// Asks so often that the next answer is very late.
async fn exhaust(app: &App, id: &str) {
    for _ in 0..2 {
        post(app, &connect(id)).await;
    }
}

async fn connect_from(app: &App, address: &str) -> Answer {
    let header = format!("X-Forwarded-For: {address}");
    ask(app, "POST", "/cometd", &[&header], &connect("gone").to_string()).await
}

#[tokio::test]
async fn of_two_clients_behind_a_trusted_proxy_only_the_one_that_loops_is_refused() {
    let app = broker(|config| {
        impatient(1)(config);
        config.limits.trusted_proxies = vec![Network::LOOPBACK_V4];
    })
    .await;
    for _ in 0..3 {
        assert_eq!(connect_from(&app, "203.0.113.7").await.status, 200);
    }
    assert_eq!(connect_from(&app, "203.0.113.7").await.status, 429);
    assert_eq!(connect_from(&app, "203.0.113.8").await.status, 200);
    let mut innocent = Socket::open_from(&app, "203.0.113.8").await;
    innocent.say(&connect("gone")).await;
    expect_a_402(&innocent.hear().await);
    let mut looping = Socket::open_from(&app, "203.0.113.7").await;
    looping.say(&connect("gone")).await;
    expect_a_402(&looping.hear().await);
    assert!(looping.closed().await.starts_with("1008 "));
}

#[tokio::test]
async fn a_client_that_makes_up_addresses_is_refused_like_any_other() {
    let app = broker(impatient(1)).await;
    for number in 1..=3 {
        assert_eq!(
            connect_from(&app, &format!("203.0.113.{number}")).await.status,
            200
        );
    }
    assert_eq!(connect_from(&app, "203.0.113.4").await.status, 429);
}

#[tokio::test]
async fn a_body_that_speaks_for_a_session_is_delayed_and_not_refused() {
    let app = broker(impatient(1)).await;
    let known = post(&app, &json!([{ "channel": "/meta/handshake" }]))
        .await
        .json();
    let known = known[0]["clientId"].clone();
    let both = json!([
        { "channel": "/meta/connect", "clientId": "gone" },
        { "channel": "/meta/subscribe", "clientId": known, "subscription": "/a" },
    ]);
    for _ in 0..6 {
        let answer = post(&app, &both).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()[1]["successful"], true);
    }
}

#[tokio::test]
async fn a_socket_that_speaks_for_a_session_still_gets_its_events_and_stays_open() {
    let app = broker(impatient(1000)).await;
    exhaust(&app, "gone").await;
    exhaust(&app, "gone").await;
    let mut socket = Socket::open(&app).await;
    socket.say(&json!([{ "channel": "/meta/handshake" }])).await;
    let id = socket.hear().await[0]["clientId"].clone();
    socket
        .say(&json!([{ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" }]))
        .await;
    socket.hear().await;
    socket.say(&connect("gone")).await;
    publish(&app, "/a", json!(1)).await;
    assert_eq!(socket.hear().await[0]["data"], 1, "before the late answer");
    expect_a_402(&socket.hear().await);
    socket
        .say(&json!([{ "channel": "/meta/subscribe", "clientId": id, "subscription": "/b" }]))
        .await;
    assert_eq!(socket.hear().await[0]["successful"], true);
}

/// An answer is put off, and will be a success or a refusal.
async fn expect_late(app: &App, result: &str) {
    let line = format!("halley_unknown_sessions_total{{result=\"{result}\"}} 1");
    let deadline = Instant::now() + PATIENCE;
    while !metrics(app).await.lines().any(|found| found == line) {
        assert!(Instant::now() < deadline, "no {line}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The one connection that is allowed becomes free.
async fn expect_room(app: &App) {
    let handshake = json!([{ "channel": "/meta/handshake" }]);
    let answer = timeout(Duration::from_secs(5), post(app, &handshake)).await;
    assert_eq!(answer.expect("the wait has ended").status, 200);
}

#[tokio::test]
async fn a_late_answer_ends_when_its_client_goes_away() {
    let app = broker(|config| {
        impatient(VERY_LATE)(config);
        config.limits.connections = 1;
    })
    .await;
    exhaust(&app, "gone").await;
    let mut line = Line::open(&app).await;
    line.send("POST", "/cometd", &[], &connect("gone").to_string())
        .await;
    expect_late(&app, "delayed").await;
    drop(line);
    expect_room(&app).await;
    let mut socket = Socket::open(&app).await;
    socket.say(&connect("gone")).await;
    expect_late(&app, "refused").await;
    drop(socket);
    expect_room(&app).await;
}

#[tokio::test]
async fn a_late_answer_does_not_wait_for_the_end_of_the_broker() {
    let app = broker(impatient(VERY_LATE)).await;
    exhaust(&app, "gone").await;
    let mut line = Line::open(&app).await;
    line.send("POST", "/cometd", &[], &connect("gone").to_string())
        .await;
    expect_late(&app, "delayed").await;
    let ending = tokio::spawn(app.shut_down());
    expect_a_402(&line.receive().await.json());
    let ended = timeout(Duration::from_secs(2), ending).await;
    ended.expect("nothing to wait for").expect("the end");
}
