//! What is left of clients that come and go.

use std::time::Duration;

use halley::config::{Config, Span};
use serde_json::json;

use crate::it::{Client, It, TRANSPORTS, USERS};

const SESSIONS: &str = "halley_sessions";
const RECORDS: &str = "halley_session_records";

async fn brief(change: impl FnOnce(&mut Config)) -> It {
    It::with(|config| {
        config.session.max_interval = Span(Duration::from_millis(300));
        change(config);
    })
    .await
}

#[tokio::test]
async fn a_handshake_that_no_connect_follows_leaves_nothing() {
    let it = brief(|_| {}).await;
    for transport in TRANSPORTS {
        for _ in 0..5 {
            drop(Client::greet(&it, transport, Some(USERS[0])).await);
        }
        assert!(it.metric(SESSIONS).await > 0.0, "they were there");
        it.wait_for(SESSIONS, 0.0).await;
        assert_eq!(it.metric(RECORDS).await, 0.0, "{transport:?}");
    }
}

#[tokio::test]
async fn a_handshake_and_subscribe_that_no_connect_follows_leave_nothing() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    for url in ["memory:".to_owned(), format!("file:{}", folder.path().display())] {
        let it = brief(|config| config.log.url.clone_from(&url)).await;
        for transport in TRANSPORTS {
            for _ in 0..5 {
                let mut client = Client::greet(&it, transport, Some(USERS[0])).await;
                client.subscribe(json!(["/chat/x", "/v2/**"])).await;
            }
            assert!(it.metric(RECORDS).await > 0.0, "their records were there");
            it.wait_for(SESSIONS, 0.0).await;
            it.wait_for(RECORDS, 0.0).await;
        }
        it.publish_to(Some(USERS[0]), "/v2/me/calls", "1").await;
        it.publish_to(None, "/chat/x", "1").await;
        assert_eq!(
            it.metric("halley_events_routed_total").await,
            0.0,
            "nobody is left in routing"
        );
    }
}

#[tokio::test]
async fn a_session_that_was_connected_leaves_memory_and_keeps_its_record() {
    let it = brief(|_| {}).await;
    for (transport, records) in TRANSPORTS.into_iter().zip([1.0, 2.0]) {
        drop(Client::open(&it, transport, Some(USERS[0])).await);
        it.wait_for(SESSIONS, 0.0).await;
        assert_eq!(it.metric(RECORDS).await, records, "{transport:?}");
    }
}

#[tokio::test]
async fn records_of_sessions_that_do_not_come_back_are_dropped() {
    let it = brief(|config| config.session.resume_window = Span(Duration::from_secs(1))).await;
    drop(Client::open(&it, TRANSPORTS[0], Some(USERS[0])).await);
    it.wait_for(RECORDS, 1.0).await;
    it.wait_for(RECORDS, 0.0).await;
}

#[tokio::test]
async fn a_disconnect_leaves_nothing_at_once() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        let mut client = Client::open(&it, transport, Some(USERS[0])).await;
        client.subscribe(json!("/chat/x")).await;
        let replies = client
            .say(r#"{"channel":"/meta/disconnect","clientId":"$id"}"#)
            .await;
        assert_eq!(replies[0]["successful"], true);
        it.wait_for(SESSIONS, 0.0).await;
        it.wait_for(RECORDS, 0.0).await;
    }
}
