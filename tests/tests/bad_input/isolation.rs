//! A user's events reach that user's sessions, whatever anybody subscribes to.

use serde_json::{Value, json};

use crate::it::{Client, It, TRANSPORTS, Transport, USERS};

const SECRET: &str = r#""for 15000 only""#;

/// What an intruder may ask for.
fn subscriptions() -> Vec<Value> {
    vec![
        json!("/v2/me/calls"),
        json!("/v2/me/*"),
        json!("/v2/**"),
        json!("/**"),
        json!(["/v2/me/calls"]),
        json!(["/v2/me/calls", "/v2/me/*", "/v2/**", "/**", "/*"]),
    ]
}

/// An intruder sees what is for everyone, which proves that its subscription works, and not what was published before it.
async fn expect_only_public(it: &It, intruder: &mut Client, what: &str) {
    it.publish_to(Some(USERS[0]), "/v2/me/calls", SECRET).await;
    it.publish_to(None, "/v2/me/calls", r#""for everyone""#).await;
    assert_eq!(
        intruder.data_until("for everyone").await,
        ["for everyone"],
        "{what}"
    );
}

#[tokio::test]
async fn the_owner_of_an_event_gets_it_with_each_of_the_subscriptions() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        for subscription in subscriptions() {
            let mut owner = Client::open(&it, transport, Some(USERS[0])).await;
            owner.subscribe(subscription.clone()).await;
            it.publish_to(Some(USERS[0]), "/v2/me/calls", SECRET).await;
            let seen = owner.data_until("for 15000 only").await;
            assert_eq!(seen, ["for 15000 only"], "{transport:?} {subscription}");
        }
    }
}

#[tokio::test]
async fn a_users_event_never_reaches_another_user() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        for subscription in subscriptions() {
            let mut intruder = Client::open(&it, transport, Some(USERS[1])).await;
            intruder.subscribe(subscription.clone()).await;
            expect_only_public(&it, &mut intruder, &format!("{transport:?} {subscription}")).await;
        }
    }
}

#[tokio::test]
async fn a_users_event_never_reaches_anonymous_sessions() {
    let it = It::anonymous().await;
    for transport in TRANSPORTS {
        for subscription in subscriptions() {
            let mut intruder = Client::open(&it, transport, None).await;
            intruder.subscribe(subscription.clone()).await;
            expect_only_public(&it, &mut intruder, &format!("{transport:?} {subscription}")).await;
        }
    }
}

#[tokio::test]
async fn a_users_event_never_reaches_another_user_who_reads_it_from_the_log() {
    // So small that the second event is read from the log.
    let it = It::with(|config| config.limits.queue_events = 1).await;
    for transport in TRANSPORTS {
        let mut intruder = Client::open(&it, transport, Some(USERS[1])).await;
        intruder.subscribe(json!("/**")).await;
        for _ in 0..5 {
            it.publish_to(Some(USERS[0]), "/v2/me/calls", SECRET).await;
            it.publish_to(None, "/v2/me/calls", r#""public""#).await;
        }
        it.publish_to(None, "/v2/me/calls", r#""last""#).await;
        let seen = intruder.data_until("last").await;
        assert!(!seen.contains(&json!("for 15000 only")), "{transport:?} {seen:?}");
        assert_eq!(seen.len(), 6, "{transport:?} {seen:?}");
    }
    assert!(
        it.metric("halley_log_reads_total").await > 0.0,
        "the log was read"
    );
}

#[tokio::test]
async fn a_users_event_never_reaches_another_user_who_comes_back() {
    let mut it = It::durable().await;
    let mut intruder = Client::open(&it, Transport::LongPolling, Some(USERS[1])).await;
    intruder.subscribe(json!(["/**", "/v2/me/calls"])).await;
    it.publish_to(Some(USERS[0]), "/v2/me/calls", SECRET).await;
    it.restart().await;
    intruder.moved_to(&it);
    expect_only_public(&it, &mut intruder, "after a restart").await;
}
