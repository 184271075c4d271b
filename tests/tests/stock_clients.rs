//! The CometD clients that people run, unmodified: each release of the client over each transport.

use std::time::Duration;

use halley_tests::{Broker, Client, Ledger, Node, Publisher, Settings, Transport, Version};
use serde_json::json;

const CALLS: &str = "/v2/me/calls";

/// Makes a module of tests for each client and transport.
macro_rules! with_each_client {
    ($($test:ident: $version:ident, $transport:ident;)*) => {
        $(mod $test {
            use super::*;

            const VERSION: Version = Version::$version;
            const TRANSPORT: Transport = Transport::$transport;

            #[tokio::test]
            async fn events_arrive_once_in_order_until_unsubscribed() {
                super::events_arrive_once_in_order_until_unsubscribed(VERSION, TRANSPORT).await;
            }

            #[tokio::test]
            async fn two_sessions_of_a_user_both_get_everything() {
                super::two_sessions_of_a_user_both_get_everything(VERSION, TRANSPORT).await;
            }

            #[tokio::test]
            async fn two_users_never_see_each_others_events() {
                super::two_users_never_see_each_others_events(VERSION, TRANSPORT).await;
            }
        })*
    };
}

with_each_client! {
    cometd_9_over_websocket: V9, WebSocket;
    cometd_9_over_long_polling: V9, LongPolling;
    cometd_3_over_websocket: V3, WebSocket;
    cometd_3_over_long_polling: V3, LongPolling;
}

async fn events_arrive_once_in_order_until_unsubscribed(version: Version, transport: Transport) {
    const EVENTS: usize = 1_000;
    let broker = Broker::start(Settings::default()).await;
    let Some(client) = subscribed(&broker, version, transport, "15000").await else {
        return;
    };
    // The wildcard matches the same events: a session gets one copy all the same.
    client.subscribe("/v2/me/*").await;
    let mut publisher = Publisher::new(broker.internal, "stock");
    for _ in 0..EVENTS {
        publisher.publish("15000", CALLS).await;
    }

    let seen = client.until_received(Node::PATIENCE, EVENTS).await;
    Ledger::new(publisher.numbers(), seen.numbers())
        .report()
        .expect_exactly_once();
    assert!(
        seen.messages.iter().all(|message| message.channel == CALLS),
        "the channel as it was published"
    );

    client.unsubscribe(CALLS).await;
    publisher.publish("15000", CALLS).await;
    client.until_received(Node::PATIENCE, EVENTS + 1).await;
    client.unsubscribe("/v2/me/*").await;
    publisher.publish("15000", CALLS).await;
    // Its reply comes after anything that was on its way to this session.
    client.subscribe("/v2/me/presence").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = client.seen();
    assert_eq!(
        seen.messages.len(),
        EVENTS + 1,
        "nothing after the last unsubscribe"
    );
    client.disconnect().await;
    assert_eq!(
        (seen.sessions.len(), seen.errors),
        (1, vec![]),
        "one session, no errors"
    );
}

async fn two_sessions_of_a_user_both_get_everything(version: Version, transport: Transport) {
    const EVENTS: usize = 200;
    let broker = Broker::start(Settings::default()).await;
    let Some(one) = subscribed(&broker, version, transport, "15000").await else {
        return;
    };
    let Some(other) = subscribed(&broker, version, transport, "15000").await else {
        return;
    };
    assert_ne!(
        one.seen().sessions,
        other.seen().sessions,
        "two handshakes, two sessions"
    );
    let mut publisher = Publisher::new(broker.internal, "both");
    for _ in 0..EVENTS {
        publisher.publish("15000", CALLS).await;
    }
    for client in [one, other] {
        let seen = client.until_received(Node::PATIENCE, EVENTS).await;
        Ledger::new(publisher.numbers(), seen.numbers())
            .report()
            .expect_exactly_once();
    }
}

async fn two_users_never_see_each_others_events(version: Version, transport: Transport) {
    const EVENTS: usize = 200;
    let broker = Broker::start(Settings::default()).await;
    let Some(one) = subscribed(&broker, version, transport, "15000").await else {
        return;
    };
    let Some(other) = subscribed(&broker, version, transport, "15001").await else {
        return;
    };
    // Refused or not, what a user publishes on a channel of this name is nobody else's event.
    other.publish("/v2/me/calls", json!({ "seq": 1_000_000 })).await;
    let mut publisher = Publisher::new(broker.internal, "one");
    let mut publisher_of_other = Publisher::new(broker.internal, "other");
    for _ in 0..EVENTS {
        publisher.publish("15000", CALLS).await;
        publisher_of_other.publish("15001", CALLS).await;
        publisher_of_other.publish("15001", CALLS).await;
    }
    let seen = one.until_received(Node::PATIENCE, EVENTS).await;
    Ledger::new(publisher.numbers(), seen.numbers())
        .report()
        .expect_exactly_once();
    let seen = other.until_received(Node::PATIENCE, 2 * EVENTS).await;
    Ledger::new(publisher_of_other.numbers(), seen.numbers())
        .report()
        .expect_exactly_once();
}

async fn subscribed(broker: &Broker, version: Version, transport: Transport, user: &str) -> Option<Node> {
    let client = Client::new(version, transport, broker.url(), user).start()?;
    client.subscribe(CALLS).await;
    Some(client)
}
