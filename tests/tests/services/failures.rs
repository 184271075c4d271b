//! What a client hears of a service that fails.

use std::time::{Duration, Instant};

use halley::config::Service;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::backend::{Backend, Question, milliseconds, service};
use crate::it::{Client, It, TRANSPORTS, Transport, USERS};

const CALL: &str = r#"{"channel":"/service/echo","clientId":"$id","id":"7","data":{"text":"hi"}}"#;

/// What the one call of a client comes to.
async fn outcome(service: Service, answer: impl AsyncFnOnce()) -> Value {
    let it = It::with(|config| config.services = vec![service]).await;
    let mut client = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
    let reply = client.say(CALL).await;
    assert_eq!(reply[0]["successful"], true, "the message was taken");
    answer().await;
    let heard: Value = serde_json::from_str(&client.events().await).expect("JSON");
    assert_eq!(
        (&heard[0]["channel"], &heard[0]["id"]),
        (&json!("/service/echo"), &json!("7"))
    );
    heard[0].clone()
}

async fn outcome_of_answer(answer: impl FnOnce(Question)) -> Value {
    let mut backend = Backend::start().await;
    let service = backend.answers("/service/**");
    outcome(service, async || answer(backend.question().await)).await
}

#[track_caller]
fn expect_failure(outcome: &Value, class: &str, message: &str) {
    assert_eq!(outcome["successful"], false, "{outcome}");
    let class = format!("urn:halley:service:{class}");
    assert_eq!(outcome["data"]["class"], class, "{outcome}");
    let said = outcome["data"]["message"].as_str().expect("a message");
    assert!(said.contains(message), "{said}");
}

#[tokio::test]
async fn a_refusal_says_status_title_and_detail_of_the_problem() {
    let problem = r#"{"type":"about:blank","title":"Taken","detail":"by somebody else","secret":1}"#;
    let outcome = outcome_of_answer(|question| {
        question.answer_with(409, "application/problem+json; charset=utf-8", problem);
    })
    .await;
    assert_eq!(
        outcome["data"],
        json!({
            "class": "urn:halley:service:refused",
            "message": "the service answered 409: Taken: by somebody else",
            "status": 409,
            "title": "Taken",
            "detail": "by somebody else",
        })
    );
    assert_eq!(outcome["successful"], false);
}

#[tokio::test]
async fn a_body_that_is_no_problem_stays_with_the_broker() {
    for (status, class) in [(404, "refused"), (500, "failed"), (302, "failed")] {
        let page = r#"{"title":"stack trace","detail":"line 7"}"#;
        let outcome =
            outcome_of_answer(|question| question.answer_with(status, "application/json", page)).await;
        expect_failure(&outcome, class, &format!("the service answered {status}"));
        assert!(!outcome.to_string().contains("stack"), "{outcome}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_json_says_where() {
    let outcome = outcome_of_answer(|question| question.answer("{\"a\" 1}")).await;
    expect_failure(&outcome, "not-json", "line 1 column 6");
}

#[tokio::test]
async fn an_answer_that_is_too_long_names_the_limit() {
    let long = format!("\"{}\"", "x".repeat(60 << 10));
    let outcome = outcome_of_answer(|question| question.answer(&long)).await;
    expect_failure(&outcome, "too-long", "limits.service_answer");
    let longest = format!("\"{}\"", "x".repeat((60 << 10) - 2));
    let outcome = outcome_of_answer(|question| question.answer(&longest)).await;
    assert_eq!(outcome["successful"], true);
}

#[tokio::test]
async fn an_answer_that_is_nested_too_deep_names_the_limit() {
    let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let outcome = outcome_of_answer(|question| question.answer(&deep(33))).await;
    expect_failure(&outcome, "too-deep", "limits.json_depth");
    let outcome = outcome_of_answer(|question| question.answer(&deep(32))).await;
    assert_eq!(outcome["successful"], true);
}

#[tokio::test]
async fn a_service_that_does_not_answer_in_time_says_so() {
    let mut backend = Backend::start().await;
    let mut service = backend.answers("/service/**");
    service.timeout = milliseconds(100);
    let outcome = outcome(service, async || drop(backend.question().await)).await;
    expect_failure(&outcome, "timeout", "within 100ms");
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_says_so_and_not_where_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let outcome = outcome(service("/service/**", address), async || {}).await;
    expect_failure(&outcome, "unreachable", "cannot be reached");
    assert!(
        !outcome.to_string().contains(&address.port().to_string()),
        "{outcome}"
    );
}

#[tokio::test]
async fn a_service_that_breaks_off_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let outcome = outcome(service("/service/**", address), async || {
        let asked = timeout(Duration::from_secs(10), listener.accept()).await;
        drop(asked.expect("a question in time").expect("a connection"));
    })
    .await;
    expect_failure(&outcome, "broke-off", "ended the connection");
}

#[tokio::test]
async fn more_calls_than_may_wait_fail_at_once_and_the_others_take_their_turns() {
    let mut backend = Backend::start().await;
    let mut service = backend.answers("/service/**");
    (service.concurrency, service.queue) = (1, 1);
    let it = It::with(|config| config.services = vec![service]).await;
    let mut client = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
    let numbered = |number: usize| CALL.replace("\"7\"", &number.to_string());
    client.say(&numbered(1)).await;
    let first = backend.question().await;
    client.say(&numbered(2)).await;
    client.say(&numbered(3)).await;
    let heard: Value = serde_json::from_str(&client.events().await).expect("JSON");
    assert_eq!(heard[0]["id"], 3);
    expect_failure(&heard[0], "busy", "too many calls");
    assert!(backend.is_idle(), "the second waits for the first");

    first.answer("1");
    assert!(client.events().await.contains(r#""id":1"#));
    backend.question().await.answer("2");
    assert!(client.events().await.contains(r#""id":2"#));
    assert_eq!(
        it.metric("halley_service_calls_total{result=\"busy\"}").await,
        1.0
    );
}

#[tokio::test]
async fn the_wait_for_a_turn_counts_as_waiting_for_the_answer() {
    let mut backend = Backend::start().await;
    let mut service = backend.answers("/service/**");
    (service.concurrency, service.timeout) = (1, milliseconds(200));
    let it = It::with(|config| config.services = vec![service]).await;
    let mut client = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
    let began = Instant::now();
    for _ in 0..2 {
        client.say(CALL).await;
    }
    let _held = backend.question().await;
    for _ in 0..2 {
        let heard: Value = serde_json::from_str(&client.events().await).expect("JSON");
        expect_failure(&heard[0], "timeout", "within 200ms");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_session_cannot_take_every_place_of_a_service() {
    let mut backend = Backend::start().await;
    let it = It::with(|config| {
        config.limits.direct_messages = 2;
        config.services = vec![backend.answers("/service/**")];
    })
    .await;
    for transport in TRANSPORTS {
        let mut client = Client::open(&it, transport, Some(USERS[0])).await;
        let body = format!("[{CALL},{CALL},{CALL}]");
        let replies = client.say(&body).await;
        let successful: Vec<_> = replies.iter().map(|reply| &reply["successful"]).collect();
        assert_eq!(successful, [true, true, false], "{replies:?}");
        assert_eq!(replies[2]["error"], "403:direct_messages:publish_denied");
        for _ in 0..2 {
            backend.question().await.answer("1");
        }
        assert!(backend.is_idle());
    }
}
