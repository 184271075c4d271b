//! One node: what counts as coming and going.

use std::time::Duration;

use halley::config::Span;
use serde_json::json;

use crate::it::{Client, It, TRANSPORTS, Transport, USERS, exchange, request};
use crate::watcher::{DELAY, Watcher, changes, connect, goodbye, poller, telling};

const ME: &str = USERS[0];

async fn operate(it: &It, method: &str, path: &str, body: &str) -> serde_json::Value {
    let answer = exchange(it.internal, &request(method, path, &[], body.as_bytes())).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    answer.json()
}

/// Where sessions are soon silent.
async fn hasty() -> It {
    It::with(|config| {
        telling(config);
        config.session.max_interval = Span(Duration::from_millis(600));
    })
    .await
}

#[tokio::test]
async fn the_first_session_comes_the_second_is_no_news_and_the_last_goes() {
    let it = It::with(telling).await;
    let mut watcher = Watcher::at(&it).await;
    let [one, other] = TRANSPORTS;
    let mut one = Client::open(&it, one, Some(ME)).await;
    let mut other = Client::open(&it, other, Some(ME)).await;
    assert_eq!(changes(&watcher.so_far(&it).await), [(ME, true)]);
    goodbye(&mut one).await;
    assert_eq!(changes(&watcher.so_far(&it).await), []);
    goodbye(&mut other).await;
    assert_eq!(changes(&watcher.so_far(&it).await), [(ME, false)]);
}

#[tokio::test]
async fn a_page_that_is_loaded_again_is_no_news() {
    let it = It::with(telling).await;
    let mut watcher = Watcher::at(&it).await;
    let mut page = poller(&it).await;
    watcher.until(ME, true).await;
    for _ in 0..5 {
        goodbye(&mut page).await;
        tokio::time::sleep(DELAY / 4).await;
        page = poller(&it).await;
    }
    assert_eq!(changes(&watcher.so_far(&it).await), []);
}

#[tokio::test]
async fn who_falls_silent_is_absent_and_who_wakes_is_present() {
    let it = hasty().await;
    let mut watcher = Watcher::at(&it).await;
    let mut client = poller(&it).await;
    let told = watcher.until(ME, false).await;
    assert_eq!(changes(&told), [(ME, true), (ME, false)]);
    connect(&mut client).await;
    assert_eq!(changes(&watcher.until(ME, true).await), [(ME, true)]);
}

#[tokio::test]
async fn who_is_revoked_is_absent() {
    let it = It::with(telling).await;
    let mut watcher = Watcher::at(&it).await;
    let _tabs = (
        Client::open(&it, Transport::WebSocket, Some(ME)).await,
        poller(&it).await,
    );
    watcher.until(ME, true).await;
    let revocation = json!({ "user": ME }).to_string();
    operate(&it, "POST", "/api/v1/revocations", &revocation).await;
    assert_eq!(changes(&watcher.so_far(&it).await), [(ME, false)]);
}

#[tokio::test]
async fn operators_see_whether_a_user_is_present() {
    let it = It::new().await;
    let path = format!("/api/v1/users/{ME}");
    assert_eq!(operate(&it, "GET", &path, "").await["present"], false);
    let _client = poller(&it).await;
    let said = operate(&it, "GET", &path, "").await;
    assert_eq!(
        (&said["present"], &said["sessions"][0]["user"]),
        (&json!(true), &json!(ME))
    );
    assert_eq!(it.metric("halley_users").await, 1.0);
}

#[tokio::test]
async fn unless_it_is_wanted_nothing_is_told() {
    let it = It::new().await;
    let mut client = poller(&it).await;
    goodbye(&mut client).await;
    tokio::time::sleep(DELAY).await;
    assert_eq!(it.metric("halley_log_last_offset").await, 0.0);
}

#[tokio::test]
async fn a_broker_that_starts_again_tells_who_does_not_come_back_and_nobody_else() {
    let mut it = It::durable_with(|config| {
        telling(config);
        config.session.max_interval = Span(Duration::from_secs(2));
    })
    .await;
    let mut back = poller(&it).await;
    let _gone = Client::open(&it, Transport::LongPolling, Some(USERS[1])).await;
    let metric = |user| format!("halley_presence_changes_total{{result=\"{user}\"}}");
    it.wait_for(&metric("present"), 2.0).await;
    it.restart().await;
    back.moved_to(&it);
    let mut watcher = Watcher::at(&it).await;
    let mut told = Vec::new();
    while changes(&told).is_empty() {
        connect(&mut back).await;
        told = watcher.within(&it, Duration::from_millis(200)).await;
    }
    assert_eq!(changes(&told), [(USERS[1], false)]);
}
