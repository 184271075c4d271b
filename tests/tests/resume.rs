//! Sessions that were away: what they missed is there when they come back, and what is not there any more is said.
//!
//! In process, over real sockets, with short times.

use std::time::Duration;

use bytes::Bytes;
use halley::app::App;
use halley::config::{Config, Span, User};
use halley_tests::Connection;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker in this process, with agent 15000 as its only user.
struct Broker {
    app: App,
    internal: Connection,
    _folder: tempfile::TempDir,
}

impl Broker {
    async fn start(adjust: impl FnOnce(&mut Config)) -> Broker {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.public.listen = ([127, 0, 0, 1], 0).into();
        config.internal.listen = ([127, 0, 0, 1], 0).into();
        config.log.url = format!("file:{}", folder.path().display());
        config.log.min_free = bytesize::ByteSize::b(0);
        config.session.max_interval = Span(Duration::from_secs(1));
        config.auth.kind = "static".to_owned();
        config.auth.users = vec![User {
            user: "15000".to_owned(),
            token: "secret".to_owned(),
            roles: Vec::new(),
        }];
        adjust(&mut config);
        let app = App::start(config).await.expect("a broker");
        let internal = Connection::new(app.internal_addr(), PATIENCE);
        Broker {
            app,
            internal,
            _folder: folder,
        }
    }

    async fn publish(&mut self, number: u64) -> u64 {
        let event = json!({ "user": "15000", "channel": "/v2/me/calls", "data": number });
        let answer = self
            .internal
            .post("/api/v1/events", Bytes::from(event.to_string()))
            .await
            .expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text());
        serde_json::from_slice::<Value>(&answer.body).expect("JSON")["offset"]
            .as_u64()
            .expect("an offset")
    }

    async fn metric(&mut self, name: &str) -> u64 {
        let text = self.internal.get("/metrics").await.expect("metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .expect("the metric");
        line.parse().expect("a number")
    }

    async fn until(&mut self, name: &str, enough: impl Fn(u64) -> bool) {
        let began = Instant::now();
        while !enough(self.metric(name).await) {
            assert!(began.elapsed() < PATIENCE, "{name} did not get there");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A long-polling client, one message at a time.
struct Client {
    connection: Connection,
    client_id: String,
}

impl Client {
    /// Shakes hands, subscribes to `/v2/me/*`, and connects for the first time.
    async fn open(broker: &Broker, acknowledges: bool) -> Client {
        let connection = Connection::new(broker.app.public_addr(), PATIENCE);
        let mut client = Client {
            connection,
            client_id: String::new(),
        };
        let replies = client
            .send(json!({ "channel": "/meta/handshake", "ext": { "ack": acknowledges } }))
            .await;
        client.client_id = replies[0]["clientId"].as_str().expect("a clientId").to_owned();
        client
            .send(json!({ "channel": "/meta/subscribe", "subscription": "/v2/me/*" }))
            .await;
        client.connect(json!({ "ext": { "ack": 0 } })).await;
        client
    }

    async fn connect(&mut self, more: Value) -> Vec<Value> {
        let mut message = json!({ "channel": "/meta/connect", "connectionType": "long-polling" });
        message
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        self.send(message).await
    }

    async fn send(&mut self, mut message: Value) -> Vec<Value> {
        message["clientId"] = Value::from(self.client_id.as_str());
        let head = hyper::Request::post("/cometd").header("authorization", "Bearer secret");
        let answer = self
            .connection
            .send(head, Bytes::from(json!([message]).to_string()))
            .await
            .expect("an answer");
        serde_json::from_slice(&answer.body).expect("an array of messages")
    }
}

fn data(messages: &[Value]) -> Vec<u64> {
    messages
        .iter()
        .filter_map(|message| message["data"].as_u64())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_slept_past_max_interval_gets_what_it_missed() {
    let mut broker = Broker::start(|_| {}).await;
    let mut client = Client::open(&broker, true).await;
    broker.until("halley_sessions", |sessions| sessions == 0).await;
    for number in 1..=3 {
        broker.publish(number).await;
    }
    assert_eq!(
        data(
            &client
                .connect(json!({ "ext": { "ack": 0 }, "advice": { "timeout": 0 } }))
                .await
        ),
        [1, 2, 3]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_acknowledges_gets_what_it_missed_too() {
    let mut broker = Broker::start(|_| {}).await;
    let mut client = Client::open(&broker, false).await;
    broker.until("halley_sessions", |sessions| sessions == 0).await;
    for number in 1..=3 {
        broker.publish(number).await;
    }
    assert_eq!(
        data(&client.connect(json!({ "advice": { "timeout": 0 } })).await),
        [1, 2, 3]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_while_a_session_slept_is_said_and_counted() {
    let mut broker = Broker::start(|config| config.log.retention = Span(Duration::from_secs(2))).await;
    let mut client = Client::open(&broker, true).await;
    broker.until("halley_sessions", |sessions| sessions == 0).await;
    broker.publish(1).await;
    // Each bucket is a second long, and goes when all of it is older than the retention.
    let began = Instant::now();
    let mut last = 0;
    while broker.metric("halley_log_first_offset").await <= 1 {
        assert!(began.elapsed() < PATIENCE, "retention took nothing");
        last = broker.publish(2).await;
        sleep(Duration::from_millis(200)).await;
    }
    let first = broker.metric("halley_log_first_offset").await;
    let replies = client
        .connect(json!({ "ext": { "ack": 0 }, "advice": { "timeout": 0 } }))
        .await;
    let reply = replies.last().expect("a reply");
    assert_eq!(reply["ext"]["recovered"], json!(false), "{replies:?}");
    let said = reply["ext"]["first"]
        .as_u64()
        .expect("the first offset still there");
    assert!(first <= said && said <= last, "{first} <= {said} <= {last}");
    assert_eq!(broker.metric("halley_gap_total").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_is_told_of_no_gap_when_retention_took_what_was_never_its_own() {
    let mut broker = Broker::start(|config| {
        config.log.retention = Span(Duration::from_secs(2));
        config.session.timeout = Span(Duration::from_millis(500));
    })
    .await;
    let mut client = Client::open(&broker, true).await;
    let mut acknowledged = json!(0);
    let began = Instant::now();
    while broker.metric("halley_log_first_offset").await <= 1 {
        assert!(began.elapsed() < PATIENCE, "retention took nothing");
        let event = json!({ "user": "15001", "channel": "/v2/me/calls", "data": 0 });
        broker
            .internal
            .post("/api/v1/events", Bytes::from(event.to_string()))
            .await
            .expect("an answer");
        let replies = client.connect(json!({ "ext": { "ack": acknowledged } })).await;
        acknowledged = replies.last().expect("a reply")["ext"]["ack"].clone();
    }
    broker.until("halley_sessions", |sessions| sessions == 0).await;
    let replies = client
        .connect(json!({ "ext": { "ack": acknowledged }, "advice": { "timeout": 0 } }))
        .await;
    assert_eq!(
        replies.last().expect("a reply")["ext"].get("recovered"),
        None,
        "{replies:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_stays_away_for_longer_than_the_resume_window_is_unknown() {
    let mut broker =
        Broker::start(|config| config.session.resume_window = Span(Duration::from_secs(2))).await;
    let mut client = Client::open(&broker, true).await;
    broker
        .until("halley_session_records", |records| records == 1)
        .await;
    broker
        .until("halley_session_records", |records| records == 0)
        .await;
    let replies = client.connect(json!({ "ext": { "ack": 0 } })).await;
    assert_eq!(replies[0]["error"], "402::session_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_said_goodbye_leaves_no_record() {
    let mut broker = Broker::start(|_| {}).await;
    let mut client = Client::open(&broker, true).await;
    client.send(json!({ "channel": "/meta/disconnect" })).await;
    broker
        .until("halley_session_records", |records| records == 0)
        .await;
    assert_eq!(broker.metric("halley_sessions").await, 0);
}
