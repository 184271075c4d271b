//! A session goes to another node while a service is being asked.

use serde_json::json;

use crate::backend::Backend;
use crate::it::{Client, It, Transport, USERS};
use crate::nodes::{HELD, Nodes, connect, data};

const CALL: &str = r#"{"channel":"/service/echo","clientId":"$id","id":"7","data":1}"#;
const LOST: &str = "halley_service_answers_lost_total";

async fn nodes(backend: &Backend) -> Nodes {
    Nodes::with_services(&[backend.answers("/service/**")]).await
}

async fn client(it: &It) -> Client {
    Client::open(it, Transport::LongPolling, Some(USERS[0])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_to_where_the_session_is_by_then() {
    let mut backend = Backend::start().await;
    let nodes = nodes(&backend).await;
    let mut client = client(&nodes.a).await;
    client.say(CALL).await;
    let question = backend.question().await;
    client.moved_to(&nodes.b);
    connect(&mut client, 0).await;
    let (heard, ()) = tokio::join!(client.data_until("answered"), async {
        nodes.b.wait_for(HELD, 1.0).await;
        question.answer("\"answered\"");
    });
    assert_eq!(heard, ["answered"]);
    // Not alone in its body, so it is not held; and no recovery, so what came before has arrived.
    let next = json!([
        { "channel": "/meta/connect", "clientId": "$id", "connectionType": "long-polling" },
        { "channel": "/b", "clientId": "$id", "data": 1 },
    ]);
    let answer = client.say(&next.to_string()).await;
    assert_eq!(data(&answer), Vec::<&str>::new(), "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_waits_goes_with_the_session() {
    let mut backend = Backend::start().await;
    let nodes = nodes(&backend).await;
    let mut client = client(&nodes.a).await;
    client.say(CALL).await;
    backend.question().await.answer("\"answered\"");
    nodes
        .a
        .wait_for("halley_service_calls_total{result=\"ok\"}", 1.0)
        .await;
    client.moved_to(&nodes.b);
    assert_eq!(client.data_until("answered").await, ["answered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_finds_a_session_that_has_gone_on_or_come_back() {
    let mut backend = Backend::start().await;
    let nodes = nodes(&backend).await;
    let mut client = client(&nodes.a).await;
    client.say(CALL).await;
    let question = backend.question().await;
    for place in [&nodes.b, &nodes.a] {
        client.moved_to(place);
        connect(&mut client, 0).await;
    }
    question.answer("\"answered\"");
    assert_eq!(client.data_until("answered").await, ["answered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_for_a_node_that_does_not_speak_is_lost_and_counted() {
    let mut backend = Backend::start().await;
    let nodes = nodes(&backend).await;
    let mut client = client(&nodes.a).await;
    client.say(CALL).await;
    let question = backend.question().await;
    nodes.take(&client).await;
    question.answer("1");
    nodes.a.wait_for(LOST, 1.0).await;
    client.moved_to(&nodes.b);
    assert_eq!(data(&connect(&mut client, 0).await), Vec::<&str>::new());
}
