//! The CometD clients that people run, unmodified: each release of the client over each transport.

use std::time::Duration;

use halley_tests::{
    Application, Broker, Client, Extension, Ledger, Node, Publisher, Service, Settings, Transport, Version,
    checks,
};
use serde_json::json;

const CALLS: &str = "/v2/me/calls";

/// Makes a module of tests for each client and transport.
macro_rules! with_each_client {
    ($($test:ident: $version:ident, $transport:ident;)*) => {
        $(mod $test {
            use super::*;

            fn client(broker: &Broker, user: &str) -> Client {
                Client::new(Version::$version, Transport::$transport, broker.url(), user)
            }

            #[tokio::test]
            async fn events_arrive_once_in_order_until_unsubscribed() {
                super::events_arrive_once_in_order_until_unsubscribed(client).await;
            }

            #[tokio::test]
            async fn acknowledged_events_arrive_once_in_order_until_unsubscribed() {
                let client = |broker: &Broker, user: &str| client(broker, user).with_ack();
                super::events_arrive_once_in_order_until_unsubscribed(client).await;
            }

            #[tokio::test]
            async fn two_sessions_of_a_user_both_get_everything() {
                super::two_sessions_of_a_user_both_get_everything(client).await;
            }

            #[tokio::test]
            async fn two_users_never_see_each_others_events() {
                super::two_users_never_see_each_others_events(client).await;
            }

            #[tokio::test]
            async fn a_batch_is_answered_and_handled_in_its_order() {
                super::a_batch_is_answered_and_handled_in_its_order(client).await;
            }

            #[tokio::test]
            async fn bytes_from_client_to_client_arrive_as_they_were() {
                super::bytes_from_client_to_client_arrive_as_they_were(client).await;
            }

            #[tokio::test]
            async fn a_service_answers_calls() {
                super::a_service_answers_calls(client).await;
            }

            #[tokio::test]
            async fn a_client_with_a_wrong_clock_learns_the_time() {
                super::a_client_with_a_wrong_clock_learns_the_time(client).await;
            }
        })*
    };
}

with_each_client! {
    cometd_9_over_websocket: V9, WebSocket;
    cometd_9_over_long_polling: V9, LongPolling;
    cometd_8_over_websocket: V8, WebSocket;
    cometd_8_over_long_polling: V8, LongPolling;
    cometd_7_over_websocket: V7, WebSocket;
    cometd_7_over_long_polling: V7, LongPolling;
    cometd_5_over_websocket: V5, WebSocket;
    cometd_5_over_long_polling: V5, LongPolling;
    cometd_4_over_websocket: V4, WebSocket;
    cometd_4_over_long_polling: V4, LongPolling;
    cometd_3_over_websocket: V3, WebSocket;
    cometd_3_over_long_polling: V3, LongPolling;
}

#[tokio::test]
async fn over_tls_events_arrive_at_each_stock_client_by_each_transport() {
    const EVENTS: usize = 100;
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(path("tls.crt"), made.cert.pem()).expect("a file");
    std::fs::write(path("tls.key"), made.signing_key.serialize_pem()).expect("a file");
    let tls = format!(
        "[public.tls]\ncertificate = {:?}\nkey = {:?}\n",
        path("tls.crt"),
        path("tls.key")
    );
    let broker = Broker::start(Settings {
        extra: tls,
        ..Settings::default()
    })
    .await;
    let url = broker.url().replace("http://", "https://");
    for version in [Version::V9, Version::V3] {
        for transport in [Transport::WebSocket, Transport::LongPolling] {
            let client = Client {
                trusts: Some(path("tls.crt")),
                ..Client::new(version, transport, url.clone(), "15000")
            };
            let Some(client) = client.with_ack().start() else {
                return;
            };
            client.subscribe(CALLS).await;
            let mut publisher = Publisher::new(broker.internal, client.name());
            for _ in 0..EVENTS {
                publisher.publish("15000", CALLS).await;
            }
            let seen = client.until_received(Application::PATIENCE, EVENTS).await;
            Ledger::new(publisher.numbers(), seen.numbers())
                .report()
                .expect_exactly_once();
            assert_eq!(seen.errors, Vec::<String>::new());
            client.disconnect().await;
        }
    }
}

/// The client of a module, for one user.
trait Stock: Fn(&Broker, &str) -> Client {}
impl<F: Fn(&Broker, &str) -> Client> Stock for F {}

async fn events_arrive_once_in_order_until_unsubscribed(client: impl Stock) {
    let broker = Broker::start(Settings::default()).await;
    let Some(application) = subscribed(&broker, &client, "15000").await else {
        return;
    };
    // The releases between the oldest and the newest are built like one of these.
    let events = match client(&broker, "15000").version {
        Version::V9 | Version::V3 => 1_000,
        Version::V8 | Version::V7 | Version::V5 | Version::V4 => 300,
    };
    // The wildcard matches the same events: a session gets one copy all the same.
    application.subscribe("/v2/me/*").await;
    let mut publisher = Publisher::new(broker.internal, "stock");
    for _ in 0..events {
        publisher.publish("15000", CALLS).await;
    }

    let seen = application.until_received(Application::PATIENCE, events).await;
    Ledger::new(publisher.numbers(), seen.numbers())
        .report()
        .expect_exactly_once();
    assert!(
        seen.messages.iter().all(|message| message.channel == CALLS),
        "the channel as it was published"
    );

    application.unsubscribe(CALLS).await;
    publisher.publish("15000", CALLS).await;
    application
        .until_received(Application::PATIENCE, events + 1)
        .await;
    application.unsubscribe("/v2/me/*").await;
    publisher.publish("15000", CALLS).await;
    // Its reply comes after anything that was on its way to this session.
    application.subscribe("/v2/me/presence").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = application.seen();
    assert_eq!(
        seen.messages.len(),
        events + 1,
        "nothing after the last unsubscribe"
    );
    application.disconnect().await;
    assert_eq!(
        (seen.sessions.len(), seen.errors),
        (1, vec![]),
        "one session, no errors"
    );
}

async fn two_sessions_of_a_user_both_get_everything(client: impl Stock) {
    const EVENTS: usize = 200;
    let broker = Broker::start(Settings::default()).await;
    let Some(one) = subscribed(&broker, &client, "15000").await else {
        return;
    };
    let Some(other) = subscribed(&broker, &client, "15000").await else {
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
        let seen = client.until_received(Application::PATIENCE, EVENTS).await;
        Ledger::new(publisher.numbers(), seen.numbers())
            .report()
            .expect_exactly_once();
    }
}

async fn two_users_never_see_each_others_events(client: impl Stock) {
    const EVENTS: usize = 200;
    let broker = Broker::start(Settings::default()).await;
    let Some(one) = subscribed(&broker, &client, "15000").await else {
        return;
    };
    let Some(other) = subscribed(&broker, &client, "15001").await else {
        return;
    };
    // Refused or not, what a user publishes on a channel of this name is nobody else's event.
    other.publish("/v2/me/calls", json!({ "seq": 1_000_000 }));
    let mut publisher = Publisher::new(broker.internal, "one");
    let mut publisher_of_other = Publisher::new(broker.internal, "other");
    for _ in 0..EVENTS {
        publisher.publish("15000", CALLS).await;
        publisher_of_other.publish("15001", CALLS).await;
        publisher_of_other.publish("15001", CALLS).await;
    }
    let seen = one.until_received(Application::PATIENCE, EVENTS).await;
    Ledger::new(publisher.numbers(), seen.numbers())
        .report()
        .expect_exactly_once();
    let seen = other.until_received(Application::PATIENCE, 2 * EVENTS).await;
    Ledger::new(publisher_of_other.numbers(), seen.numbers())
        .report()
        .expect_exactly_once();
}

async fn a_batch_is_answered_and_handled_in_its_order(client: impl Stock) {
    let broker = Broker::start(Settings::default()).await;
    let Some(client) = client(&broker, "15000").start() else {
        return;
    };
    checks::a_batch_is_answered_and_handled_in_its_order(&client).await;
}

async fn bytes_from_client_to_client_arrive_as_they_were(client: impl Stock) {
    let broker = Broker::start(Settings::default()).await;
    let client = |user| client(&broker, user).with(&[Extension::Binary]).start();
    let (Some(sender), Some(receiver)) = (client("15000"), client("15001")) else {
        return;
    };
    checks::bytes_arrive_as_they_were(&sender, &receiver).await;
}

async fn a_service_answers_calls(client: impl Stock) {
    let service = Service::start().await;
    let broker = Broker::start(service.settings()).await;
    let Some(client) = client(&broker, "15000").start() else {
        return;
    };
    checks::a_service_answers_calls(&client).await;
}

async fn a_client_with_a_wrong_clock_learns_the_time(client: impl Stock) {
    let broker = Broker::start(checks::short_holds()).await;
    let Some(client) = checks::with_wrong_clock(client(&broker, "15000")).start() else {
        return;
    };
    checks::the_time_is_learnt(&client).await;
}

async fn subscribed(broker: &Broker, client: &impl Stock, user: &str) -> Option<Node> {
    let client = client(broker, user).start()?;
    client.subscribe(CALLS).await;
    Some(client)
}
