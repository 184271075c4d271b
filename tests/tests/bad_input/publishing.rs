//! The publish API: every refusal is a problem that says where, and nothing of a refused body is stored.

use serde_json::{Value, json};

use crate::it::{Answer, Client, It, Transport, exchange, request};

#[track_caller]
pub(crate) fn expect_problem(answer: &Answer, status: u16, kind: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["type"], format!("urn:halley:problem:{kind}"), "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    assert!(
        problem["title"].is_string() && problem["detail"].is_string(),
        "{problem}"
    );
    problem
}

/// Events that are refused, the field that is named, and what is said of it.
fn wrong_events() -> Vec<(String, &'static str, &'static str)> {
    let id = "x".repeat(129);
    let user = "x".repeat(129);
    let channel = format!("/{}", "x".repeat(256));
    let segments = "/x".repeat(17);
    let event = |field: &str, value: &str| {
        let mut event = json!({"user": "15000", "channel": "/v2/me/calls", "data": 1, "id": "x"});
        event[field] = serde_json::from_str(value).expect("JSON");
        event.to_string()
    };
    let text = |field: &str, text: &str| event(field, &json!(text).to_string());
    vec![
        (r#"{"data":1}"#.to_owned(), "/channel", "missing"),
        (r#"{"channel":"/a"}"#.to_owned(), "/data", "missing"),
        (text("channel", "/v2/*"), "/channel", "wildcard"),
        (text("channel", "/v2/**"), "/channel", "wildcard"),
        (text("channel", "/v2/*/x"), "/channel", "wildcard"),
        (
            text("channel", "/meta/connect"),
            "/channel",
            "belong to the protocol",
        ),
        (
            text("channel", "/service/x"),
            "/channel",
            "belong to the protocol",
        ),
        (text("channel", "v2"), "/channel", "begins with a slash"),
        (text("channel", "/v2//x"), "/channel", "empty segments"),
        (text("channel", "/v2/\u{200b}"), "/channel", "not allowed"),
        (text("channel", &channel), "/channel", "at most 256 bytes"),
        (text("channel", &segments), "/channel", "at most 16 segments"),
        (event("channel", "7"), "/channel", "is a text"),
        (event("channel", r#"["/a"]"#), "/channel", "is a text"),
        (event("lazy", "1"), "/lazy", "true or false"),
        (text("usr", "15000"), "/usr", "no such field"),
        (text("a/b~c", "15000"), "/a~1b~0c", "no such field"),
        (text("User", "15000"), "/User", "no such field"),
        (text("user", ""), "/user", "1 to 128 bytes"),
        (text("user", &user), "/user", "1 to 128 bytes"),
        (text("user", "15\n000"), "/user", "control characters"),
        (text("user", "15\u{0}000"), "/user", "control characters"),
        (text("user", "15\u{85}000"), "/user", "control characters"),
        (event("user", "15000"), "/user", "is a text"),
        (event("user", "null"), "/user", "leave it out"),
        (event("user", r#"["15000"]"#), "/user", "is a text"),
        (text("id", ""), "/id", "1 to 128 bytes"),
        (text("id", &id), "/id", "1 to 128 bytes"),
        (event("id", "7"), "/id", "is a text"),
        (
            r#"{"channel":"/a","user":"15000","user":"15001","data":1}"#.to_owned(),
            "/user",
            "twice",
        ),
        ("[1]".to_owned(), "", "is an object"),
        (r#""x""#.to_owned(), "", "is an object"),
    ]
}

#[tokio::test]
async fn a_wrong_event_is_refused_with_a_pointer_to_the_field() {
    let it = It::new().await;
    for (event, pointer, reason) in wrong_events() {
        if event.starts_with('[') {
            continue;
        }
        let problem = expect_problem(&it.publish(&event).await, 400, "invalid-event");
        assert_eq!(problem["pointer"], pointer, "{event}");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains(reason), "{event}: {detail}");
    }
}

#[tokio::test]
async fn one_wrong_event_of_an_array_is_pointed_at_and_none_is_stored() {
    let it = It::new().await;
    let good = r#"{"channel":"/v2/me/calls","data":"good","id":"good"}"#;
    for (event, pointer, reason) in wrong_events() {
        let answer = it.publish(format!("[{good},{event},{good}]")).await;
        let problem = expect_problem(&answer, 400, "invalid-event");
        assert_eq!(problem["pointer"], format!("/1{pointer}"), "{event}");
        assert!(
            problem["detail"].to_string().contains(reason),
            "{event}: {problem}"
        );
    }
    assert_eq!(
        it.metric("halley_log_last_offset").await,
        0.0,
        "nothing was stored"
    );
    let answer = it.publish(format!("[{good}]")).await;
    assert_eq!(
        answer.json()[0].get("duplicate"),
        None,
        "nor was its id remembered"
    );
}

#[tokio::test]
async fn an_array_with_a_wrong_event_reaches_nobody() {
    let it = It::new().await;
    let mut client = Client::open(&it, Transport::WebSocket, Some("15000")).await;
    client.subscribe(json!("/v2/me/calls")).await;
    let event = |data: &str| format!(r#"{{"user":"15000","channel":"/v2/me/calls","data":"{data}"}}"#);
    let answer = it
        .publish(format!(r#"[{},{{"channel":"/*","data":1}}]"#, event("refused")))
        .await;
    assert_eq!(answer.status, 400);
    assert_eq!(it.publish(event("taken")).await.status, 201);
    assert_eq!(client.data_until("taken").await, ["taken"]);
}

#[tokio::test]
async fn what_is_not_json_is_refused_with_the_place() {
    let it = It::new().await;
    for (body, place) in [
        ("", "line 1 column 0"),
        (r#"{"channel":"/a","data":}"#, "line 1 column 24"),
        (r#"[{"channel":"/a","data":1}"#, "line 1 column 26"),
        ("channel=/a", "line 1 column 1"),
        ("{}{}", "line 1 column 3"),
    ] {
        let problem = expect_problem(&it.publish(body).await, 400, "not-json");
        assert!(problem["detail"].to_string().contains(place), "{body}: {problem}");
    }
}

#[tokio::test]
async fn what_is_too_deep_too_many_or_too_large_is_refused_with_the_limit() {
    let it = It::new().await;
    let event = |data: &str| format!(r#"{{"channel":"/a","data":{data}}}"#);
    let nested = |levels: usize| event(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    let many = |count: usize| format!("[{}]", vec![event("1"); count].join(","));
    let large = |size: usize| event(&format!("\"{}\"", "x".repeat(size - event("\"\"").len())));

    assert_eq!(it.publish(nested(32)).await.status, 201);
    let problem = expect_problem(&it.publish(format!("[{}]", nested(33))).await, 400, "too-deep");
    assert!(
        problem["detail"].to_string().contains("the 32 levels"),
        "{problem}"
    );

    assert_eq!(it.publish(many(512)).await.status, 201);
    let problem = expect_problem(&it.publish(many(513)).await, 400, "too-many-events");
    assert!(
        problem["detail"]
            .to_string()
            .contains("513 events, more than the 512"),
        "{problem}"
    );

    assert_eq!(it.publish(large(256 << 10)).await.status, 201);
    let problem = expect_problem(&it.publish(large((256 << 10) + 1)).await, 413, "body-refused");
    assert!(
        problem["detail"].to_string().contains("262144 bytes"),
        "{problem}"
    );
}

#[tokio::test]
async fn wrong_methods_and_paths_are_problems_too() {
    let it = It::new().await;
    let answer = exchange(it.internal, &request("GET", "/api/v1/events", &[], b"")).await;
    expect_problem(&answer, 405, "method");
    let answer = exchange(it.internal, &request("POST", "/api/v1/event", &[], b"")).await;
    expect_problem(&answer, 404, "not-found");
}

#[tokio::test]
async fn an_object_is_answered_by_an_object_and_an_array_by_an_array() {
    let it = It::new().await;
    let event = r#"{"channel":"/a","data":1}"#;
    let one = it.publish(event).await;
    assert_eq!(one.status, 201);
    assert_eq!(one.header("content-type"), Some("application/json"));
    assert_eq!(one.json()["offset"], 1, "{}", one.text());
    assert!(one.json()["epoch"].is_string());
    let array = it.publish(format!(" [{event},{event}]")).await.json();
    assert_eq!((&array[0]["offset"], &array[1]["offset"]), (&json!(2), &json!(3)));
    let array_of_one = it.publish(format!("[{event}]")).await.json();
    assert_eq!(array_of_one.as_array().map(Vec::len), Some(1));
}

/// `(offset, duplicate)` of each position.
pub(crate) fn positions(answer: &Answer) -> Vec<(u64, bool)> {
    assert_eq!(answer.status, 201, "{}", answer.text());
    let body = answer.json();
    let one_or_many = body.as_array().map_or(std::slice::from_ref(&body), Vec::as_slice);
    one_or_many
        .iter()
        .map(|position| {
            let offset = position["offset"].as_u64().expect("an offset");
            (
                offset,
                position
                    .get("duplicate")
                    .is_some_and(|duplicate| duplicate == true),
            )
        })
        .collect()
}

fn named(id: &str) -> String {
    format!(r#"{{"channel":"/a","data":"{id}","id":"{id}"}}"#)
}

#[tokio::test]
async fn a_repeated_id_is_answered_with_the_first_offset() {
    let it = It::new().await;
    assert_eq!(positions(&it.publish(named("a")).await), [(1, false)]);
    assert_eq!(positions(&it.publish(named("a")).await), [(1, true)]);
    let other_content = r#"{"channel":"/b","user":"15000","data":2,"id":"a"}"#;
    assert_eq!(positions(&it.publish(other_content).await), [(1, true)]);
    assert_eq!(it.metric("halley_log_last_offset").await, 1.0);
}

#[tokio::test]
async fn an_id_repeated_in_one_array_is_stored_once() {
    let it = It::new().await;
    let array = format!("[{},{},{},{}]", named("a"), named("b"), named("a"), named("c"));
    assert_eq!(
        positions(&it.publish(&array).await),
        [(1, false), (2, false), (1, true), (3, false)]
    );
    assert_eq!(
        positions(&it.publish(&array).await),
        [(1, true), (2, true), (1, true), (3, true)]
    );
}

#[tokio::test]
async fn a_repeated_id_is_recognised_after_a_restart() {
    let mut it = It::durable().await;
    let first = it.publish(named("a")).await;
    assert_eq!(positions(&first), [(1, false)]);
    it.restart().await;
    let again = it.publish(named("a")).await;
    assert_eq!(positions(&again), [(1, true)]);
    assert_eq!(again.json()["epoch"], first.json()["epoch"], "it is the same log");
    assert_eq!(positions(&it.publish(named("b")).await), [(2, false)]);
}
