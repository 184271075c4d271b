//! A session is taken while its record is being written.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::it::{Client, It, Transport, USERS};
use crate::nodes::{Nodes, acknowledging, connect, data, successful};

const SUBSCRIBE: &str = r#"{"channel":"/meta/subscribe","clientId":"$id","subscription":"/b"}"#;

async fn over_a_socket(it: &It) -> Client {
    let mut client = Client::open(it, Transport::WebSocket, Some(USERS[0])).await;
    client.subscribe(json!("/a")).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_made_where_the_session_is_then() {
    let nodes = Nodes::start().await;
    let mut client = acknowledging(&nodes.a).await;
    nodes.steal(&client).await;
    let answer = client.say(SUBSCRIBE).await;
    assert_eq!(successful(&answer), [true], "{answer:?}");
    let record = nodes.record(&client).await.expect("a record");
    let mut patterns: Vec<String> = (record.state.subscriptions.iter())
        .map(|subscription| subscription.pattern.to_string())
        .collect();
    patterns.sort();
    assert_eq!(patterns, ["/a", "/b"]);
    assert!(record.node.expect("a node").0.starts_with("a-"));
    nodes.b.publish_to(None, "/b", "1").await;
    assert_eq!(data(&connect(&mut client, 0).await), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_with_it_is_answered_in_its_place_and_published_once() {
    let nodes = Nodes::start().await;
    let mut client = acknowledging(&nodes.a).await;
    nodes.steal(&client).await;
    let body = json!([
        { "channel": "/meta/subscribe", "clientId": "$id", "subscription": "/b", "id": "1" },
        { "channel": "/b", "clientId": "$id", "data": "said", "id": "2" },
        { "channel": "/meta/unsubscribe", "clientId": "$id", "subscription": "/a", "id": "3" },
        { "channel": "/meta/connect", "clientId": "$id", "connectionType": "long-polling", "id": "4" },
    ]);
    let mut answer = client.say(&body.to_string()).await;
    answer.retain(|message| message["successful"].is_boolean());
    let said: Vec<_> = answer
        .iter()
        .map(|reply| (&reply["channel"], &reply["id"], &reply["successful"]))
        .collect();
    let yes = json!(true);
    let expected = json!([
        ["/meta/subscribe", "1"],
        ["/b", "2"],
        ["/meta/unsubscribe", "3"],
        ["/meta/connect", "4"]
    ]);
    let expected: Vec<_> = (expected.as_array().expect("an array").iter())
        .map(|one| (&one[0], &one[1], &yes))
        .collect();
    assert_eq!(said, expected);
    assert_eq!(nodes.a.metric("halley_log_last_offset").await, 1.0);
    let record = nodes.record(&client).await.expect("a record");
    assert_eq!(record.state.subscriptions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_stays_with_its_session() {
    let nodes = Nodes::start().await;
    let mut client = over_a_socket(&nodes.a).await;
    nodes.steal(&client).await;
    let answer = client.say(SUBSCRIBE).await;
    assert_eq!(successful(&answer), [true], "{answer:?}");
    nodes.a.publish_to(None, "/b", "\"one\"").await;
    assert_eq!(client.data_until("one").await, ["one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_ended_meanwhile_is_unknown() {
    let nodes = Nodes::start().await;
    let mut client = acknowledging(&nodes.a).await;
    nodes.steal(&client).await;
    nodes.end(&client).await;
    let answer = client.say(SUBSCRIBE).await;
    assert_eq!(answer[0]["error"], "402::session_unknown", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_behind_it_ends_the_session_where_it_is() {
    let nodes = Nodes::start().await;
    let mut client = acknowledging(&nodes.a).await;
    nodes.steal(&client).await;
    let body = json!([
        { "channel": "/meta/subscribe", "clientId": "$id", "subscription": "/b" },
        { "channel": "/meta/disconnect", "clientId": "$id" },
    ]);
    let answer = client.say(&body.to_string()).await;
    assert_eq!(successful(&answer), [true, true], "{answer:?}");
    // The record goes in its turn, and nobody waits for that.
    let until = Instant::now() + Duration::from_secs(10);
    while nodes.record(&client).await.is_some() {
        assert!(Instant::now() < until, "the session is still there");
        sleep(Duration::from_millis(10)).await;
    }
}
