//! How many come from one address, how many sessions a user has, and how much a publisher publishes.

use std::time::Duration;

use halley::app::App;
use halley::config::{Config, Network, Span};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::it::{Answer, Line, PATIENCE, Socket, UPGRADE, ask, broker, broker_for_users, metrics, post};

fn handshake() -> Value {
    json!([{ "channel": "/meta/handshake" }])
}

/// Where loopback is a trusted proxy and nobody is exempt.
async fn counting(adjust: impl FnOnce(&mut Config)) -> App {
    broker(|config| {
        config.limits.exempt_networks = Vec::new();
        config.limits.trusted_proxies = vec![Network::LOOPBACK_V4];
        adjust(config);
    })
    .await
}

fn two_handshakes_at_once(config: &mut Config) {
    config.limits.handshakes_per_address = 1;
    config.limits.handshake_burst = 2;
}

async fn shake_hands_from(app: &App, address: &str) -> Answer {
    let header = format!("X-Forwarded-For: {address}");
    ask(app, "POST", "/cometd", &[&header], &handshake().to_string()).await
}

#[track_caller]
fn expect_to_come_again(reply: &Value, limit: &str) {
    assert_eq!(reply["error"], format!("429:{limit}:too_many"));
    assert_eq!(reply["successful"], false);
    assert_eq!(reply["advice"]["reconnect"], "handshake");
    let interval = reply["advice"]["interval"].as_u64().expect("an interval");
    assert!((1..=4_000).contains(&interval), "{interval}");
}

#[track_caller]
fn expect_retry_after(answer: &Answer) {
    let seconds = answer.header("retry-after").map(str::parse::<u32>);
    assert!(matches!(seconds, Some(Ok(1..=10))), "{answer:?}");
}

async fn expect_metric(app: &App, line: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = metrics(app).await;
        if page.lines().any(|found| found == line) {
            return;
        }
        assert!(Instant::now() < deadline, "no {line} in {page}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn t30_a_handshake_too_many_of_an_address_is_answered_429_and_when_to_come_again() {
    let app = counting(two_handshakes_at_once).await;
    for _ in 0..2 {
        assert_eq!(shake_hands_from(&app, "203.0.113.1").await.status, 200);
    }
    let refused = shake_hands_from(&app, "203.0.113.1").await;
    assert_eq!(refused.status, 429);
    expect_retry_after(&refused);
    expect_to_come_again(&refused.json()[0], "handshakes_per_address");
    assert_eq!(shake_hands_from(&app, "203.0.113.2").await.status, 200);
    expect_metric(
        &app,
        "halley_handshakes_total{result=\"handshakes_per_address\"} 1",
    )
    .await;
}

#[tokio::test]
async fn over_a_websocket_it_is_a_failure_with_advice_and_the_socket_stays() {
    let app = counting(two_handshakes_at_once).await;
    let mut socket = Socket::open(&app).await;
    let mut replies = Vec::new();
    for _ in 0..3 {
        socket.say(&handshake()).await;
        replies.push(socket.hear().await[0].clone());
    }
    assert_eq!(replies[1]["successful"], true);
    expect_to_come_again(&replies[2], "handshakes_per_address");
    let deadline = Instant::now() + PATIENCE;
    loop {
        socket.say(&handshake()).await;
        if socket.hear().await[0]["successful"] == true {
            break;
        }
        assert!(Instant::now() < deadline, "it is never let in again");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_is_refused_is_refused_before_credentials_are_looked_at() {
    let app = broker_for_users(|config| {
        config.limits.exempt_networks = Vec::new();
        two_handshakes_at_once(config);
    })
    .await;
    let errors: Vec<_> = [
        post(&app, &handshake()).await,
        post(&app, &handshake()).await,
        post(&app, &handshake()).await,
    ]
    .iter()
    .map(|answer| answer.json()[0]["error"].clone())
    .collect();
    let expected = [
        "403::handshake_denied",
        "403::handshake_denied",
        "429:handshakes_per_address:too_many",
    ];
    assert_eq!(errors, expected);
}

#[tokio::test]
async fn an_address_of_an_exempt_network_is_not_counted() {
    let app = counting(|config| {
        two_handshakes_at_once(config);
        config.limits.sessions_per_address = 1;
        config.limits.exempt_networks = vec![Network::parse("203.0.113.0/24").expect("a network")];
    })
    .await;
    for _ in 0..10 {
        assert_eq!(shake_hands_from(&app, "203.0.113.1").await.status, 200);
    }
    assert_eq!(shake_hands_from(&app, "198.51.100.1").await.status, 200);
    assert_eq!(shake_hands_from(&app, "198.51.100.1").await.status, 429);
}

#[tokio::test]
async fn zero_is_any_number() {
    let app = counting(|config| {
        config.limits.handshakes_per_address = 0;
        config.limits.sessions_per_address = 0;
    })
    .await;
    for _ in 0..300 {
        assert_eq!(shake_hands_from(&app, "203.0.113.1").await.status, 200);
    }
}

#[tokio::test]
async fn loopback_is_let_in_without_any_configuration() {
    let app = broker(|_| {}).await;
    for _ in 0..300 {
        assert_eq!(post(&app, &handshake()).await.status, 200);
    }
}

#[tokio::test]
async fn t29_a_session_too_many_of_an_address_is_refused_until_one_is_gone() {
    let app = counting(|config| {
        config.limits.sessions_per_address = 2;
        config.session.max_interval = Span(Duration::from_millis(500));
    })
    .await;
    for _ in 0..2 {
        assert_eq!(shake_hands_from(&app, "203.0.113.1").await.status, 200);
    }
    let refused = shake_hands_from(&app, "203.0.113.1").await;
    assert_eq!(refused.status, 429);
    expect_retry_after(&refused);
    expect_to_come_again(&refused.json()[0], "sessions_per_address");
    assert_eq!(shake_hands_from(&app, "203.0.113.2").await.status, 200);
    // Nobody ever connects with the two, so they are forgotten.
    expect_metric(&app, "halley_sessions 0").await;
    assert_eq!(shake_hands_from(&app, "203.0.113.1").await.status, 200);
}

#[tokio::test]
async fn a_session_that_wakes_is_let_in_however_many_there_are() {
    let app = counting(|config| {
        config.limits.sessions_per_address = 1;
        config.session.max_interval = Span(Duration::from_millis(500));
        config.session.trust_client_session = true;
    })
    .await;
    let id = shake_hands_from(&app, "203.0.113.1").await.json()[0]["clientId"].clone();
    let connect = json!([{ "channel": "/meta/connect", "clientId": id, "advice": { "timeout": 0 } }]);
    assert_eq!(post(&app, &connect).await.json()[0]["successful"], true);
    expect_metric(&app, "halley_sessions 0").await;
    assert_eq!(shake_hands_from(&app, "203.0.113.1").await.status, 200);
    let woken = ask(
        &app,
        "POST",
        "/cometd",
        &["X-Forwarded-For: 203.0.113.1"],
        &connect.to_string(),
    )
    .await;
    assert_eq!(woken.json()[0]["successful"], true, "{woken:?}");
    expect_metric(&app, "halley_sessions 0").await;
    // Each was counted once, and neither is any more.
    assert_eq!(shake_hands_from(&app, "203.0.113.1").await.status, 200);
    assert_eq!(shake_hands_from(&app, "203.0.113.1").await.status, 429);
}

/// Where the users 15000 and 15001 have two sessions each.
async fn two_sessions() -> App {
    broker_for_users(|config| config.limits.sessions_per_user = 2).await
}

/// A client of a user by long-polling, on a connection of its own.
struct Page {
    line: Line,
    id: Value,
}

const USER: &str = "Authorization: Bearer secret-15000";

impl Page {
    async fn open(app: &App) -> Self {
        let mut page = Self {
            line: Line::open(app).await,
            id: Value::Null,
        };
        let reply = page.say(handshake()).await;
        assert_eq!(reply["successful"], true, "{reply}");
        page.id = reply["clientId"].clone();
        page
    }

    async fn say(&mut self, messages: Value) -> Value {
        self.line
            .send("POST", "/cometd", &[USER], &messages.to_string())
            .await;
        let answer = self.line.receive().await.json();
        answer
            .as_array()
            .and_then(|all| all.last())
            .cloned()
            .expect("a reply")
    }

    fn connect(&self, timeout: u64) -> Value {
        json!([{ "channel": "/meta/connect", "clientId": self.id, "advice": { "timeout": timeout } }])
    }

    /// Connects without being held.
    async fn look(&mut self) -> Value {
        let connect = self.connect(0);
        self.say(connect).await
    }
}

#[tokio::test]
async fn t29_a_session_too_many_of_a_user_is_let_in_and_the_one_silent_for_longest_is_told() {
    let app = two_sessions().await;
    let (mut first, mut second) = (Page::open(&app).await, Page::open(&app).await);
    assert_eq!(first.look().await["successful"], true);
    assert_eq!(second.look().await["successful"], true);
    let mut third = Page::open(&app).await;
    assert_eq!(third.look().await["successful"], true);
    assert_eq!(second.look().await["successful"], true);
    let told = first.look().await;
    assert_eq!(told["advice"]["reconnect"], "none", "{told}");
    expect_metric(&app, "halley_sessions_evicted_total 1").await;
}

#[tokio::test]
async fn a_session_that_somebody_is_there_for_stays_when_another_is_idle() {
    let app = two_sessions().await;
    let mut attended = Page::open(&app).await;
    assert_eq!(attended.look().await["successful"], true);
    let connect = attended.connect(30_000);
    attended
        .line
        .send("POST", "/cometd", &[USER], &connect.to_string())
        .await;
    let mut idle = Page::open(&app).await;
    assert_eq!(idle.look().await["successful"], true);
    expect_metric(&app, "halley_connections{transport=\"long-polling\"} 1").await;
    let mut third = Page::open(&app).await;
    assert_eq!(third.look().await["successful"], true);
    let told = idle.look().await;
    assert_eq!(told["advice"]["reconnect"], "none", "{told}");
    expect_metric(&app, "halley_connections{transport=\"long-polling\"} 1").await;
}

#[tokio::test]
async fn when_somebody_is_there_for_all_of_them_the_oldest_gives_way() {
    let app = two_sessions().await;
    let mut pages = [Page::open(&app).await, Page::open(&app).await];
    for page in &mut pages {
        assert_eq!(page.look().await["successful"], true);
        let connect = page.connect(30_000);
        page.line
            .send("POST", "/cometd", &[USER], &connect.to_string())
            .await;
    }
    expect_metric(&app, "halley_connections{transport=\"long-polling\"} 2").await;
    Page::open(&app).await;
    let told = pages[0].line.receive().await.json();
    let told = told.as_array().and_then(|all| all.last()).expect("a reply");
    assert_eq!(told["advice"]["reconnect"], "none", "{told}");
    expect_metric(&app, "halley_connections{transport=\"long-polling\"} 1").await;
}

#[tokio::test]
async fn a_user_that_shakes_hands_again_and_again_keeps_a_bounded_number_of_sessions() {
    let app = two_sessions().await;
    for _ in 0..50 {
        Page::open(&app).await.look().await;
    }
    let page = metrics(&app).await;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("halley_sessions "));
    let count: u32 = line.expect("a gauge").parse().expect("a number");
    assert!(count <= 5, "{count} sessions");
}

#[tokio::test]
async fn the_sessions_of_others_are_not_touched() {
    let app = two_sessions().await;
    let mut first = Page::open(&app).await;
    assert_eq!(first.look().await["successful"], true);
    for _ in 0..5 {
        let other = "Authorization: Bearer secret-15001";
        let answer = ask(&app, "POST", "/cometd", &[other], &handshake().to_string()).await;
        assert_eq!(answer.json()[0]["successful"], true);
    }
    assert_eq!(first.look().await["successful"], true);
}

#[tokio::test]
async fn a_websocket_behind_a_trusted_proxy_counts_for_whom_it_speaks() {
    let app = counting(|config| config.limits.sessions_per_address = 1).await;
    assert_eq!(shake_hands_from(&app, "203.0.113.1").await.status, 200);
    let mut line = Line::open(&app).await;
    let mut headers = UPGRADE.to_vec();
    headers.push("X-Forwarded-For: 203.0.113.1");
    line.send("GET", "/cometd", &headers, "").await;
    assert_eq!(line.receive_head().await.status, 101);
    // A text frame, masked with zeros.
    let text = handshake().to_string();
    let mut frame = vec![
        0x81,
        0x80 | u8::try_from(text.len()).expect("a short text"),
        0,
        0,
        0,
        0,
    ];
    frame.extend_from_slice(text.as_bytes());
    line.write(&frame).await;
    let head = line.read(4).await;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let reply: Value = serde_json::from_slice(&line.read(length).await).expect("JSON");
    expect_to_come_again(&reply[0], "sessions_per_address");
}

async fn publish(app: &App, count: usize) -> Answer {
    let events = vec![json!({ "channel": "/x", "data": 1 }); count];
    let mut line = Line::to(app.internal_addr()).await;
    line.send("POST", "/api/v1/events", &[], &json!(events).to_string())
        .await;
    line.receive().await
}

#[tokio::test]
async fn a_publisher_beyond_its_rate_is_answered_429_and_nothing_is_stored() {
    let app = broker(|config| {
        config.limits.publishes_per_publisher = 1;
        config.limits.publish_burst = 10;
        config.limits.publish_events = 10;
    })
    .await;
    assert_eq!(publish(&app, 8).await.status, 201);
    let refused = publish(&app, 8).await;
    assert_eq!(refused.status, 429);
    expect_retry_after(&refused);
    assert_eq!(refused.json()["type"], "urn:halley:problem:too-many");
    expect_metric(&app, "halley_log_last_offset 8").await;
    expect_metric(&app, "halley_events_ingested_total{result=\"throttled\"} 1").await;
}

#[tokio::test]
async fn a_publisher_has_any_rate_unless_it_is_said_otherwise() {
    let app = broker(|_| {}).await;
    for _ in 0..10 {
        assert_eq!(publish(&app, 512).await.status, 201);
    }
}
