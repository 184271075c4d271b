//! Events that are larger than the servers take.

use halley::log::LogError;
use halley_tests::{Nats, NatsSettings};
use serde_json::json;

use crate::it::{Client, It, Transport, USERS};
use crate::{event, open, with_id};

/// What the servers of these tests take.
const LARGEST: usize = 1000;

fn small_servers() -> Nats {
    Nats::start_with(&NatsSettings {
        extra: format!("max_payload: {LARGEST}"),
        ..NatsSettings::default()
    })
}

async fn broker(nats: &Nats) -> It {
    It::with(|config| {
        config.log.url = nats.url();
        config.nats.replicas = 1;
    })
    .await
}

/// JSON of so many bytes.
fn text(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_servers_take_is_taken_and_not_a_byte_more() {
    let nats = small_servers();
    let opened = open(&nats);
    let without_headers = |bytes| event(None, "/a", &text(bytes));
    let headers = "NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n".len();
    let with_headers = |bytes: usize| halley::event::Event {
        data: without_headers(bytes - headers).data,
        ..with_id("1")
    };
    for (bytes, is_taken) in [(LARGEST, true), (LARGEST + 1, false)] {
        for event in [without_headers(bytes), with_headers(bytes)] {
            let answer = opened.log.append(vec![event]).await;
            assert_eq!(answer.is_ok(), is_taken, "{answer:?}");
            let why = answer.err();
            let is_said = |why: &str| why.contains("max_payload") && why.contains(&bytes.to_string());
            assert!(
                why.as_ref()
                    .is_none_or(|why| matches!(why, LogError::TooLarge { place: 0, why } if is_said(why))),
                "{why:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_call_with_an_event_that_is_too_large_nothing_is_stored() {
    let nats = small_servers();
    let opened = open(&nats);
    let events = vec![event(None, "/a", "1"), event(None, "/a", &text(LARGEST + 1))];
    let answer = opened.log.append(events).await;
    assert!(
        matches!(answer, Err(LogError::TooLarge { place: 1, .. })),
        "{answer:?}"
    );
    assert_eq!(crate::append(&opened.log).await.expect("stored"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_told_which_event_is_too_large_and_not_to_come_again() {
    let nats = small_servers();
    let it = broker(&nats).await;
    let large = json!({ "channel": "/a", "data": "x".repeat(LARGEST) });
    let small = json!({ "channel": "/a", "data": 1 });
    for (body, pointer) in [(large.clone(), ""), (json!([small, large]), "/1")] {
        let answer = it.publish(body.to_string()).await;
        assert_eq!(answer.status, 413, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), None);
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:halley:problem:event-too-large");
        assert_eq!(problem["pointer"], pointer);
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains("max_payload"), "{detail}");
    }
    assert_eq!(it.metric("halley_log_last_offset").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_so_and_what_came_with_it_may_be_sent_again() {
    let nats = small_servers();
    let it = broker(&nats).await;
    let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    let body = json!([
        { "channel": "/a", "clientId": "$id", "data": 1 },
        { "channel": "/a", "clientId": "$id", "data": "x".repeat(LARGEST) },
    ]);
    let replies = client.say(&body.to_string()).await;
    assert_eq!(replies[0]["error"], "503::publish_failed", "{replies:?}");
    assert_eq!(
        replies[1]["error"], "403:max_payload:publish_denied",
        "{replies:?}"
    );
    assert_eq!(it.metric("halley_log_last_offset").await, 0.0);
}
