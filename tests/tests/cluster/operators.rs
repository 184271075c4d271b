//! What an operator does at one node holds at all of them.

use std::time::Duration;

use halley_tests::{Broker, Choice, Connection, ENDPOINT, Subscriber};
use serde_json::{Value, json};

use crate::it::{CHANNEL, It};

async fn call(node: &Broker, method: &str, path: &str, body: Option<Value>) -> Value {
    let mut connection = Connection::new(node.internal, Duration::from_secs(5));
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let head = hyper::Request::builder().method(method).uri(path);
    let answer = connection.send(head, body.into()).await.expect("an answer");
    assert!(
        answer.status.is_success(),
        "{method} {path}: {} {}",
        answer.status,
        answer.text()
    );
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_says_where_a_user_is() {
    let it = It::start(Choice::RoundRobin).await;
    let mut subscribers = Vec::new();
    for node in &it.nodes {
        subscribers.push(Subscriber::connect(node.public, "15000").await);
    }
    for node in &it.nodes {
        let found = call(node, "GET", "/api/v1/users/15000", None).await;
        let sessions = found["sessions"].as_array().expect("sessions");
        let mut at: Vec<&str> = sessions
            .iter()
            .filter_map(|session| session["node"].as_str()?.split('-').next())
            .collect();
        at.sort_unstable();
        assert_eq!(at, ["a", "b", "c"]);
    }
    let nodes = call(&it.nodes[0], "GET", "/api/v1/nodes", None).await;
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_at_one_node_is_so_at_all_of_them_when_that_is_answered() {
    let it = It::start(Choice::RoundRobin).await;
    let mut subscriber = Subscriber::connect(it.nodes[2].public, "15001").await;
    subscriber.subscribe(CHANNEL).await;
    let revoked = call(
        &it.nodes[0],
        "POST",
        "/api/v1/revocations",
        Some(json!({ "user": "15001" })),
    )
    .await;
    assert_eq!(revoked["disconnected"], 1);
    // Every node has answered by now.
    let found = call(&it.nodes[1], "GET", "/api/v1/users/15001", None).await;
    assert_eq!(found["sessions"], json!([]));
    let mut again = Connection::new(it.nodes[1].public, Duration::from_secs(5));
    let head = hyper::Request::post(ENDPOINT)
        .header("content-type", "application/json")
        .header("authorization", "Basic MTUwMDE6c2VjcmV0LTE1MDAx");
    let hello =
        r#"[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]"#;
    let answer = again.send(head, hello.into()).await.expect("an answer");
    assert!(answer.text().contains("credentials_revoked"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_ends_the_sessions_of_a_user_on_every_node() {
    let it = It::start(Choice::RoundRobin).await;
    let mut subscribers = Vec::new();
    for node in &it.nodes {
        subscribers.push(Subscriber::connect(node.public, "15002").await);
    }
    let ended = call(&it.nodes[1], "DELETE", "/api/v1/users/15002/sessions", None).await;
    assert_eq!(ended, json!({ "disconnected": 3, "forgotten": 0 }));
}
