//! CloudEvents 1.0 at the publish API: what they are made into, and what is refused, with the attribute and the place.

use halley::config::Config;
use serde_json::{Value, json};

use crate::it::{Answer, Client, It, Transport, exchange, request};
use crate::publishing::{expect_problem, positions};

const STRUCTURED: &str = "Content-Type: application/cloudevents+json; charset=utf-8";
const BATCHED: &str = "Content-Type: application/cloudevents-batch+json";
const CHANNEL: &str = "/v2/me/calls";

/// The headers of an event with its attributes in them.
const BINARY: [&str; 7] = [
    "Content-Type: application/json",
    "ce-specversion: 1.0",
    "ce-id: 7",
    "ce-source: /voice/15000",
    "ce-type: com.example.call.ringing",
    "ce-user: 15000",
    "ce-channel: /v2/me/calls",
];

fn event() -> Value {
    json!({
        "specversion": "1.0",
        "id": "7",
        "source": "/voice/15000",
        "type": "com.example.call.ringing",
        "user": "15000",
        "channel": CHANNEL,
        "data": { "state": "Ringing" },
    })
}

/// The event with one attribute changed, or taken away by `null`.
fn with(name: &str, value: Value) -> Value {
    let mut event = event();
    event[name] = value;
    event
}

impl It {
    async fn send(&self, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
        exchange(
            self.internal,
            &request("POST", "/api/v1/events", headers, body.as_ref()),
        )
        .await
    }

    async fn structured(&self, event: &Value) -> Answer {
        self.send(&[STRUCTURED], event.to_string()).await
    }

    async fn expect_taken(&self, event: &Value) {
        let answer = self.structured(event).await;
        assert_eq!(answer.status, 201, "{event}: {}", answer.text());
    }
}

async fn subscriber(it: &It) -> Client {
    let mut client = Client::open(it, Transport::WebSocket, Some("15000")).await;
    client.subscribe(json!("/**")).await;
    client
}

/// What a subscriber gets of an event that has just been taken.
async fn got(client: &mut Client) -> Value {
    let mut messages: Vec<Value> = serde_json::from_str(&client.events().await).expect("JSON");
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[tokio::test]
async fn an_event_as_the_body_reaches_its_user_on_its_channel_with_its_data_alone() {
    let it = It::new().await;
    let mut client = subscriber(&it).await;
    let answer = it.structured(&event()).await;
    assert_eq!(positions(&answer), [(1, false)]);
    assert!(answer.json().is_object(), "{}", answer.text());
    assert_eq!(
        got(&mut client).await,
        json!({ "channel": CHANNEL, "data": { "state": "Ringing" } })
    );
}

#[tokio::test]
async fn an_event_in_headers_has_the_body_as_its_data_byte_for_byte() {
    let it = It::new().await;
    let mut client = subscriber(&it).await;
    let answer = it.send(&BINARY, r#" {"n": 1e400,"n":0.10} "#).await;
    assert_eq!(positions(&answer), [(1, false)]);
    assert!(client.events().await.contains(r#"{"n": 1e400,"n":0.10}"#));
}

#[tokio::test]
async fn a_batch_is_stored_in_its_order_and_answered_by_an_array() {
    let it = It::new().await;
    let batch = json!([event(), with("id", json!("8")), with("source", json!("/other"))]);
    let answer = it.send(&[BATCHED], batch.to_string()).await;
    assert_eq!(positions(&answer), [(1, false), (2, false), (3, false)]);
    assert!(answer.json().is_array());
    let empty = it.send(&[BATCHED], "[]").await;
    assert_eq!((empty.status, empty.json()), (201, json!([])));
}

#[tokio::test]
async fn the_same_source_and_id_is_stored_once_in_whatever_mode_it_comes() {
    let it = It::new().await;
    it.expect_taken(&event()).await;
    assert_eq!(positions(&it.structured(&event()).await), [(1, true)]);
    assert_eq!(positions(&it.send(&BINARY, "1").await), [(1, true)]);
    let batch = json!([event(), with("id", json!("8"))]).to_string();
    assert_eq!(
        positions(&it.send(&[BATCHED], batch).await),
        [(1, true), (2, false)]
    );
}

#[tokio::test]
async fn an_id_of_another_source_or_of_our_own_form_is_another_id() {
    let it = It::new().await;
    it.expect_taken(&event()).await;
    let other = with("source", json!("/voice/1500"));
    assert_eq!(positions(&it.structured(&other).await), [(2, false)]);
    // Side by side they read the same as before.
    let mut moved = with("source", json!("/voice/1500"));
    moved["id"] = json!("07");
    assert_eq!(positions(&it.structured(&moved).await), [(3, false)]);
    let own = it.publish(r#"{"channel":"/a","data":1,"id":"7"}"#).await;
    assert_eq!(positions(&own), [(4, false)]);
}

#[tokio::test]
async fn sources_and_ids_of_any_length_are_told_apart() {
    let it = It::new().await;
    let long = |end: &str| with("id", json!(format!("{}{end}", "x".repeat(10_000))));
    it.expect_taken(&long("a")).await;
    it.expect_taken(&long("b")).await;
    assert_eq!(positions(&it.structured(&long("a")).await), [(1, true)]);
    assert_eq!(positions(&it.structured(&long("b")).await), [(2, true)]);
}

#[tokio::test]
async fn values_of_headers_are_decoded_once_and_without_their_quotation_marks() {
    let it = It::with(|config| {
        config.cloudevents.user = "subject".to_owned();
        config.cloudevents.tenant = String::new();
    })
    .await;
    let mut client = subscriber(&it).await;
    for (number, subject) in [
        "ce-subject: 15000",
        "ce-subject: 1%35000",
        "CE-Subject: \"15000\"",
        "ce-subject: \"1500\\0\"",
        "ce-subject: %31%35%30%30%30",
        // Another round would make it the same user.
        "ce-subject: 1%2535000",
        "ce-subject: 15000",
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("ce-id: {number}");
        let mut headers = BINARY.to_vec();
        headers.retain(|header| !header.starts_with("ce-user") && !header.starts_with("ce-id"));
        headers.extend([subject, &id]);
        let answer = it.send(&headers, number.to_string()).await;
        assert_eq!(answer.status, 201, "{subject}: {}", answer.text());
        if !subject.contains("%25") {
            assert_eq!(got(&mut client).await["data"], number, "{subject}");
        }
    }
}

#[tokio::test]
async fn the_type_says_the_channel_where_the_event_does_not() {
    let it = It::with(|config| {
        let channels = &mut config.cloudevents.channels;
        channels.insert("com.example.call.ringing".to_owned(), "/v2/me/ringing".to_owned());
    })
    .await;
    let mut client = subscriber(&it).await;
    it.expect_taken(&with("channel", Value::Null)).await;
    assert_eq!(got(&mut client).await["channel"], "/v2/me/ringing");
    it.expect_taken(&with("id", json!("8"))).await;
    assert_eq!(got(&mut client).await["channel"], CHANNEL);
    let mut other = with("channel", Value::Null);
    other["type"] = json!("com.example.call");
    let problem = expect_problem(&it.structured(&other).await, 400, "invalid-event");
    assert_eq!(problem["pointer"], "/channel");
}

#[tokio::test]
async fn user_channel_and_tenant_come_from_where_the_configuration_says() {
    let it = It::with(|config| {
        config.cloudevents.user = "agent".to_owned();
        config.cloudevents.channel = "subject".to_owned();
        config.cloudevents.tenant = "org".to_owned();
    })
    .await;
    let mut client = subscriber(&it).await;
    let mut elsewhere = with("channel", json!("/no/channel"));
    elsewhere["user"] = json!("15001");
    // An extension may be an integer.
    elsewhere["agent"] = json!(15000);
    elsewhere["subject"] = json!("/v2/me/devices");
    it.expect_taken(&elsewhere).await;
    assert_eq!(got(&mut client).await["channel"], "/v2/me/devices");
    elsewhere["org"] = json!("no tenant");
    let problem = expect_problem(&it.structured(&elsewhere).await, 400, "invalid-event");
    assert_eq!(problem["pointer"], "/org");
    elsewhere["org"] = json!("acme");
    elsewhere["subject"] = json!("no channel");
    let problem = expect_problem(&it.structured(&elsewhere).await, 400, "invalid-event");
    assert_eq!(problem["pointer"], "/subject");
}

#[tokio::test]
async fn an_event_without_a_user_goes_to_everyone_only_where_that_may_be() {
    let nobody = with("user", Value::Null);
    let it = It::new().await;
    let problem = expect_problem(&it.structured(&nobody).await, 400, "invalid-event");
    assert_eq!(problem["pointer"], "/user");
    let it = It::with(|config| config.cloudevents.require_user = false).await;
    let mut client = Client::open(&it, Transport::WebSocket, Some("15001")).await;
    client.subscribe(json!(CHANNEL)).await;
    it.expect_taken(&nobody).await;
    assert_eq!(got(&mut client).await["channel"], CHANNEL);
}

#[tokio::test]
async fn extensions_that_nobody_knows_and_attributes_that_are_null_are_ignored() {
    let it = It::new().await;
    let mut event = event();
    event["traceparent"] = json!({ "any": ["thing"] });
    event["partitionkey"] = json!(7);
    event["subject"] = Value::Null;
    event["time"] = json!("2026-01-31T12:00:00.5+01:00");
    event["dataschema"] = json!("https://example.com/call");
    event["datacontenttype"] = json!("application/vnd.example.call+json; charset=UTF-8");
    event["data_base64"] = Value::Null;
    it.expect_taken(&event).await;
}

#[tokio::test]
async fn an_event_without_data_has_null() {
    let it = It::new().await;
    let mut client = subscriber(&it).await;
    let mut without = event();
    without.as_object_mut().expect("an object").remove("data");
    it.expect_taken(&without).await;
    assert_eq!(got(&mut client).await["data"], Value::Null);
}

/// Events that are refused, the attribute that is named, and what is said of it.
fn wrong_events() -> Vec<(Value, &'static str, &'static str)> {
    let mut both = event();
    both["data_base64"] = json!("MQ==");
    let mut base64 = both.clone();
    base64.as_object_mut().expect("an object").remove("data");
    vec![
        (with("specversion", Value::Null), "/specversion", "missing"),
        (with("id", Value::Null), "/id", "missing"),
        (with("source", Value::Null), "/source", "missing"),
        (with("type", Value::Null), "/type", "missing"),
        (with("specversion", json!("0.3")), "/specversion", "1.0"),
        (with("specversion", json!(1.0)), "/specversion", "is a text"),
        (with("id", json!(7)), "/id", "is a text"),
        (with("id", json!("")), "/id", "is empty"),
        (with("source", json!(["/voice"])), "/source", "is a text"),
        (
            with("source", json!("/voice\u{1e}15000")),
            "/source",
            "control characters",
        ),
        (with("type", json!({})), "/type", "is a text"),
        (with("subject", json!(15000)), "/subject", "is a text"),
        (with("time", json!("yesterday")), "/time", "RFC 3339"),
        (with("dataschema", json!("")), "/dataschema", "is empty"),
        (with("user", json!(1.5)), "/user", "is a text"),
        (with("user", json!(true)), "/user", "is a text"),
        (with("user", json!("x".repeat(129))), "/user", "1 to 128 bytes"),
        (with("channel", json!("/v2/*")), "/channel", "wildcard"),
        (
            with("channel", json!("/meta/connect")),
            "/channel",
            "belong to the protocol",
        ),
        (with("tenant", json!("a b")), "/tenant", "a tenant has"),
        (
            with("datacontenttype", json!("text/plain")),
            "/datacontenttype",
            "JSON",
        ),
        (
            with("datacontenttype", json!("application/json; charset=latin1")),
            "/datacontenttype",
            "UTF-8",
        ),
        (both, "/data_base64", "both"),
        (base64, "/data_base64", "comes as data"),
        (json!(1), "", "is an object"),
    ]
}

#[tokio::test]
async fn a_wrong_event_is_refused_with_its_attribute_and_none_of_its_batch_is_stored() {
    let it = It::new().await;
    for (event, pointer, reason) in wrong_events() {
        for (headers, body, place) in [
            (STRUCTURED, event.clone(), pointer.to_owned()),
            (BATCHED, json!([self::event(), event]), format!("/1{pointer}")),
        ] {
            let answer = it.send(&[headers], body.to_string()).await;
            let problem = expect_problem(&answer, 400, "invalid-event");
            assert_eq!(problem["pointer"], place, "{body}");
            let detail = problem["detail"].as_str().expect("a text");
            assert!(detail.contains(reason), "{body}: {detail}");
        }
    }
    assert_eq!(it.metric("halley_log_last_offset").await, 0.0);
    let answer = it.structured(&event()).await;
    assert_eq!(positions(&answer), [(1, false)], "nor was its id remembered");
}

#[tokio::test]
async fn an_attribute_that_is_there_twice_is_refused() {
    let it = It::new().await;
    for name in ["user", "id", "data", "type"] {
        let event = event().to_string();
        let twice = format!("{},\"{name}\":\"x\"}}", &event[..event.len() - 1]);
        let problem = expect_problem(&it.send(&[STRUCTURED], &twice).await, 400, "invalid-event");
        assert_eq!(problem["pointer"], format!("/{name}"), "{twice}");
    }
    let mut headers = BINARY.to_vec();
    headers.push("ce-user: 15001");
    let problem = expect_problem(&it.send(&headers, "1").await, 400, "invalid-event");
    assert_eq!(problem["header"], "ce-user");
}

#[tokio::test]
async fn what_is_wrong_in_headers_is_named_by_its_header() {
    let it = It::new().await;
    for (without, more, header, reason) in [
        ("ce-source", "X-None: 1", "ce-source", "missing"),
        ("ce-specversion", "X-None: 1", "ce-specversion", "missing"),
        ("ce-user", "ce-user: %ff", "ce-user", "UTF-8"),
        ("ce-id", "ce-id: %0a", "ce-id", "control characters"),
        ("ce-channel", "ce-channel: /v2/*", "ce-channel", "wildcard"),
        (
            "Content-Type",
            "Content-Type: application/octet-stream",
            "content-type",
            "JSON",
        ),
    ] {
        let mut headers = BINARY.to_vec();
        headers.retain(|header| !header.starts_with(without));
        headers.push(more);
        let problem = expect_problem(&it.send(&headers, "1").await, 400, "invalid-event");
        assert_eq!(problem["header"], header, "{problem}");
        assert!(problem["detail"].to_string().contains(reason), "{problem}");
    }
    expect_problem(&it.send(&BINARY, "{").await, 400, "not-json");
    let deep = "[".repeat(33) + &"]".repeat(33);
    let problem = expect_problem(&it.send(&BINARY, deep).await, 400, "too-deep");
    assert_eq!(problem["pointer"], "", "the body is the data");
    assert_eq!(it.metric("halley_log_last_offset").await, 0.0);
}

#[tokio::test]
async fn data_without_a_type_is_json() {
    let it = It::new().await;
    let answer = it.send(&BINARY[1..], "1").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[tokio::test]
async fn another_format_than_json_is_refused_before_the_body_is_looked_at() {
    let it = It::new().await;
    for content_type in [
        "application/cloudevents+avro",
        "application/cloudevents",
        "application/cloudevents-batch+xml",
    ] {
        let header = format!("Content-Type: {content_type}");
        expect_problem(&it.send(&[&header], "x").await, 415, "event-format");
    }
}

#[tokio::test]
async fn a_batch_that_is_no_array_and_an_event_that_is_one_are_refused() {
    let it = It::new().await;
    let answer = it.send(&[BATCHED], event().to_string()).await;
    let problem = expect_problem(&answer, 400, "invalid-event");
    assert!(problem["detail"].to_string().contains("array"), "{problem}");
    expect_problem(&it.send(&[BATCHED], "{").await, 400, "not-json");
    let answer = it.send(&[STRUCTURED], json!([event()]).to_string()).await;
    expect_problem(&answer, 400, "invalid-event");
}

#[tokio::test]
async fn events_have_the_limits_of_our_own_form() {
    let it = It::new().await;
    let levels = |levels: usize| {
        let data = "[".repeat(levels) + &"]".repeat(levels);
        event().to_string().replace(r#"{"state":"Ringing"}"#, &data)
    };
    assert_eq!(it.send(&[STRUCTURED], levels(32)).await.status, 201);
    let problem = expect_problem(&it.send(&[STRUCTURED], levels(33)).await, 400, "too-deep");
    assert_eq!(problem["pointer"], "/data");
    let many = Value::from(vec![event(); 513]).to_string();
    expect_problem(&it.send(&[BATCHED], many).await, 400, "too-many-events");
    let large = with("data", json!("x".repeat(256 << 10)));
    expect_problem(&it.structured(&large).await, 413, "body-refused");
}

#[tokio::test]
async fn a_publisher_has_its_rate_in_every_form() {
    let it = It::with(|config: &mut Config| {
        config.limits.publishes_per_publisher = 1;
        config.limits.publish_events = 2;
        config.limits.publish_burst = 2;
    })
    .await;
    let batch = json!([event(), with("id", json!("8"))]).to_string();
    assert_eq!(it.send(&[BATCHED], &batch).await.status, 201);
    let answer = it.send(&[BATCHED], &batch).await;
    expect_problem(&answer, 429, "too-many");
    assert!(answer.header("retry-after").is_some());
}
