//! What a client hears of a service that works.

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::it::{Client, It, TRANSPORTS, Transport, USERS, exchange, request};

const CALL: &str = r#"{"channel":"/service/echo","clientId":"$id","id":"7","data":{"text":"hi"}}"#;

async fn it(backend: &Backend) -> It {
    It::with(|config| config.services = vec![backend.answers("/service/**")]).await
}

#[tokio::test]
async fn the_reply_comes_at_once_and_the_answer_with_its_very_bytes_when_there_is_one() {
    let mut backend = Backend::start().await;
    let it = it(&backend).await;
    for transport in TRANSPORTS {
        let mut client = Client::open(&it, transport, Some(USERS[0])).await;
        let reply = client.say(CALL).await;
        assert_eq!(
            reply,
            [json!({"channel": "/service/echo", "id": "7", "successful": true})]
        );
        let question = backend.question().await;
        // The service has not answered, and everything else goes on.
        let other = r#"{"channel":"/meta/subscribe","clientId":"$id","subscription":"/a"}"#;
        assert_eq!(client.say(other).await[0]["successful"], true);

        question.answer("{\"n\": 1e400,\n \"s\":\"\\ud83d\"}");
        let heard = client.events().await;
        let answer = "{\"channel\":\"/service/echo\",\"id\":\"7\",\"data\":{\"n\": 1e400,\n \"s\":\"\\ud83d\"},\"successful\":true}";
        assert!(heard.starts_with(&format!("[{answer}")), "{transport:?}: {heard}");
    }
    assert_eq!(it.metric("halley_service_calls_total{result=\"ok\"}").await, 2.0);
    assert_eq!(it.metric("halley_service_call_seconds_count").await, 2.0);
}

#[tokio::test]
async fn an_answer_wakes_a_held_connect() {
    let mut backend = Backend::start().await;
    let it = it(&backend).await;
    let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    client.say(CALL).await;
    let question = backend.question().await;
    let (heard, ()) = tokio::join!(client.events(), async {
        it.wait_for("halley_connections{transport=\"long-polling\"}", 1.0)
            .await;
        question.answer("2");
    });
    let heard: Value = serde_json::from_str(&heard).expect("JSON");
    assert_eq!(heard[0]["data"], 2);
    assert_eq!(heard[1]["channel"], "/meta/connect");
}

#[tokio::test]
async fn where_events_are_acknowledged_an_answer_comes_with_the_connect_in_one_frame() {
    let mut backend = Backend::start().await;
    let it = it(&backend).await;
    let ack = r#","ext":{"ack":true}"#;
    let mut client = Client::greet_with(&it, Transport::WebSocket, Some(USERS[0]), ack).await;
    let connect = r#"{"channel":"/meta/connect","clientId":"$id","id":"8","ext":{"ack":0}}"#;
    client.say(connect).await;
    client.say(CALL).await;
    backend.question().await.answer("2");
    let heard = client.say(connect).await;
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(
        (&heard[0]["data"], &heard[1]["id"], &heard[1]["ext"]["ack"]),
        (&json!(2), &json!("8"), &json!(0))
    );
}

#[tokio::test]
async fn a_service_that_has_nothing_to_say_sends_nothing() {
    let mut backend = Backend::start().await;
    let it = it(&backend).await;
    let mut client = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
    for (status, body) in [(204, ""), (200, ""), (202, " \n")] {
        client.say(CALL).await;
        backend
            .question()
            .await
            .answer_with(status, "application/json", body);
    }
    it.wait_for("halley_service_calls_total{result=\"empty\"}", 3.0)
        .await;
    let last = CALL.replace("echo", "last");
    client.say(&last).await;
    backend.question().await.answer("0");
    assert!(client.events().await.contains("/service/last"));
}

#[tokio::test]
async fn answers_come_in_the_order_in_which_the_service_gives_them_each_to_its_caller() {
    let mut backend = Backend::start().await;
    let it = it(&backend).await;
    let mut clients = Vec::new();
    let mut questions = Vec::new();
    for user in USERS {
        let mut client = Client::open(&it, Transport::WebSocket, Some(user)).await;
        client.say(CALL).await;
        let question = backend.question().await;
        assert_eq!(question.json()["user"], user);
        questions.push((question, user));
        clients.push(client);
    }
    for (question, user) in questions.into_iter().rev() {
        question.answer(&format!("{user:?}"));
    }
    for (client, user) in clients.iter_mut().zip(USERS) {
        let heard: Value = serde_json::from_str(&client.events().await).expect("JSON");
        assert_eq!(heard[0]["data"], user);
    }
}

#[tokio::test]
async fn an_answer_for_a_session_that_is_gone_is_dropped_and_counted() {
    let mut backend = Backend::start().await;
    let it = it(&backend).await;
    let mut client = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
    client.say(CALL).await;
    let question = backend.question().await;
    client
        .say(r#"{"channel":"/meta/disconnect","clientId":"$id"}"#)
        .await;
    question.answer("1");
    it.wait_for("halley_service_answers_lost_total", 1.0).await;
}

#[tokio::test]
async fn a_call_that_is_under_way_is_answered_before_the_broker_ends_and_new_ones_fail() {
    let mut backend = Backend::start().await;
    let mut it = it(&backend).await;
    let mut client = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
    client.say(CALL).await;
    let question = backend.question().await;
    let internal = it.internal;
    let last_words = async {
        while exchange(internal, &request("GET", "/readyz", &[], b""))
            .await
            .status
            == 200
        {
            tokio::task::yield_now().await;
        }
        client.say(&CALL.replace("echo", "late")).await;
        let late = client.events().await;
        assert!(late.contains("urn:halley:service:ending"), "{late}");
        question.answer("\"in time\"");
        client.events().await
    };
    let ((), answer) = tokio::join!(it.restart(), last_words);
    assert!(answer.contains("in time"), "{answer}");
}
