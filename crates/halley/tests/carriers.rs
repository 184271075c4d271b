//! Carriers as the broker meets them: bodies that are abandoned, sockets that count, answers that are whole.
//!
//! In process, over real sockets, with a log in memory.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use halley::app::App;
use halley::config::{Config, Span};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const PATIENCE: Duration = Duration::from_secs(10);
const A_MOMENT: Duration = Duration::from_millis(300);

async fn broker(adjust: impl FnOnce(&mut Config)) -> App {
    let mut config = Config::default();
    config.public.listen = ([127, 0, 0, 1], 0).into();
    config.internal.listen = ([127, 0, 0, 1], 0).into();
    config.log.url = "memory:".to_owned();
    config.session.trust_client_session = true;
    adjust(&mut config);
    App::start(config).await.expect("a broker")
}

async fn connection(app: &App) -> TcpStream {
    TcpStream::connect(app.public_addr()).await.expect("a connection")
}

async fn send(stream: &mut TcpStream, body: &Value) {
    let body = body.to_string();
    let request = format!(
        "POST /cometd HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("written");
}

/// The JSON of one response, which is shorter than the buffer and comes in one piece.
async fn receive(stream: &mut TcpStream) -> Value {
    let mut text = Vec::new();
    loop {
        let count = timeout(PATIENCE, stream.read_buf(&mut text))
            .await
            .expect("an answer in time")
            .expect("an answer");
        assert_ne!(count, 0, "closed: {}", String::from_utf8_lossy(&text));
        let text = String::from_utf8_lossy(&text);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return body;
        }
    }
}

async fn ask(app: &App, body: Value) -> Value {
    let mut stream = connection(app).await;
    send(&mut stream, &body).await;
    receive(&mut stream).await
}

async fn handshake(app: &App, ext: Value) -> String {
    let answer = ask(app, json!([{ "channel": "/meta/handshake", "ext": ext }])).await;
    answer[0]["clientId"].as_str().expect("a clientId").to_owned()
}

type Socket = WebSocketStream<TcpStream>;

async fn socket(app: &App) -> Socket {
    let stream = connection(app).await;
    let (socket, _) = tokio_tungstenite::client_async("ws://h/cometd", stream)
        .await
        .expect("a socket");
    socket
}

async fn say(socket: &mut Socket, body: Value) {
    socket
        .send(Message::text(body.to_string()))
        .await
        .expect("written");
}

async fn hear(socket: &mut Socket) -> Message {
    timeout(PATIENCE, socket.next())
        .await
        .expect("a frame in time")
        .expect("a frame")
        .expect("a frame")
}

async fn hear_text(socket: &mut Socket) -> Value {
    loop {
        if let Message::Text(text) = hear(socket).await {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}

async fn publish(app: &App, client: &str, data: u64) {
    let answer = ask(app, json!({ "channel": "/a", "clientId": client, "data": data })).await;
    assert_eq!(answer[0]["successful"], true, "{answer}");
}

#[tokio::test]
async fn of_two_connects_in_one_body_the_last_is_answered() {
    let app = broker(|_| {}).await;
    let id = handshake(&app, json!({})).await;
    let connect = |number: u64| json!({ "channel": "/meta/connect", "clientId": id, "id": number });
    let answer = timeout(Duration::from_secs(2), ask(&app, json!([connect(1), connect(2)])))
        .await
        .expect("an answer at once");
    assert_eq!(answer.as_array().expect("an array").len(), 1, "{answer}");
    assert_eq!(answer[0]["id"], 2);
}

#[tokio::test]
async fn t28_a_client_that_spins_is_told_to_wait_over_any_carrier() {
    let app = broker(|config| {
        config.session.impatient_interval = Span(Duration::from_millis(123));
    })
    .await;
    let id = handshake(&app, json!({})).await;
    let mut socket = socket(&app).await;
    let connect =
        json!([{ "channel": "/meta/connect", "clientId": id, "advice": { "timeout": 0, "interval": 0 } }]);
    let deadline = Instant::now() + PATIENCE;
    let (mut over_http, mut over_a_socket) = (Value::Null, Value::Null);
    // Three of them within a second, however slow the machine is.
    while over_http != 123 || over_a_socket != 123 {
        assert!(Instant::now() < deadline, "told {over_http} and {over_a_socket}");
        over_http = ask(&app, connect.clone()).await[0]["advice"]["interval"].take();
        say(&mut socket, connect.clone()).await;
        over_a_socket = hear_text(&mut socket).await[0]["advice"]["interval"].take();
    }
}

#[tokio::test]
async fn t28_a_client_that_takes_no_notice_of_that_is_answered_no_sooner_over_any_carrier() {
    const INTERVAL: Duration = Duration::from_millis(200);
    let app = broker(|config| {
        config.session.impatient_interval = Span(INTERVAL);
    })
    .await;
    let id = handshake(&app, json!({})).await;
    let mut socket = socket(&app).await;
    let connect = json!([{ "channel": "/meta/connect", "clientId": id, "advice": { "timeout": 0 } }]);
    let deadline = Instant::now() + PATIENCE;
    let mut told = Value::Null;
    while told != 200 {
        assert!(Instant::now() < deadline, "told {told}");
        told = ask(&app, connect.clone()).await[0]["advice"]["interval"].take();
    }
    let began = Instant::now();
    for _ in 0..3 {
        ask(&app, connect.clone()).await;
        say(&mut socket, connect.clone()).await;
        hear_text(&mut socket).await;
    }
    // The first of six was told to wait before the clock was looked at.
    let least = INTERVAL * 5;
    assert!(began.elapsed() >= least, "six answers in {:?}", began.elapsed());
}

#[tokio::test]
async fn an_acknowledged_answer_is_one_frame() {
    let app = broker(|_| {}).await;
    let id = handshake(&app, json!({ "ack": true })).await;
    let mut socket = socket(&app).await;
    say(
        &mut socket,
        json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" }),
    )
    .await;
    hear_text(&mut socket).await;
    for data in 1..=3 {
        publish(&app, &id, data).await;
    }
    say(
        &mut socket,
        json!({ "channel": "/meta/connect", "clientId": id, "ext": { "ack": 0 } }),
    )
    .await;
    let answer = hear_text(&mut socket).await;
    assert_eq!(answer.as_array().expect("an array").len(), 4, "{answer}");
    assert_eq!(answer[3]["ext"]["ack"], 3);
}

#[tokio::test]
async fn an_acknowledged_answer_on_a_socket_is_no_larger_than_clients_take() {
    let app = broker(|_| {}).await;
    let id = handshake(&app, json!({ "ack": true })).await;
    let mut socket = socket(&app).await;
    say(
        &mut socket,
        json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" }),
    )
    .await;
    hear_text(&mut socket).await;
    for _ in 0..10 {
        let data = "x".repeat(10_000);
        ask(&app, json!({ "channel": "/a", "clientId": id, "data": data })).await;
    }
    let (mut ack, mut events) = (json!(0), 0);
    while events < 10 {
        say(
            &mut socket,
            json!({ "channel": "/meta/connect", "clientId": id, "ext": { "ack": ack } }),
        )
        .await;
        let answer = hear_text(&mut socket).await;
        assert!(answer.to_string().len() < 64 << 10);
        let messages = answer.as_array().expect("an array");
        events += messages.len() - 1;
        ack = messages[messages.len() - 1]["ext"]["ack"].clone();
    }
}

#[tokio::test]
async fn a_socket_counts_as_a_connection_for_as_long_as_it_is_there() {
    let app = broker(|config| config.limits.connections = 1).await;
    let socket = socket(&app).await;
    let mut second = connection(&app).await;
    send(&mut second, &json!([{ "channel": "/meta/handshake" }])).await;
    let mut byte = [0];
    assert!(
        timeout(A_MOMENT, second.peek(&mut byte)).await.is_err(),
        "it waits"
    );
    drop(socket);
    receive(&mut second).await;
}

#[tokio::test]
async fn a_keep_alive_ping_does_not_stand_in_for_a_proof() {
    let app = broker(|config| {
        config.websocket.ping_interval = Span(Duration::from_millis(200));
        config.websocket.proof_interval = Span(PATIENCE);
    })
    .await;
    let id = handshake(&app, json!({})).await;
    let mut socket = socket(&app).await;
    say(
        &mut socket,
        json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" }),
    )
    .await;
    hear_text(&mut socket).await;
    publish(&app, &id, 1).await;
    let mut proofs = 0;
    while proofs < 3 {
        if let Message::Ping(payload) = hear(&mut socket).await {
            assert!(
                proofs == 0 || payload.len() == 8,
                "a peer may answer only the last ping"
            );
            proofs += usize::from(payload.len() == 8);
        }
    }
}

#[tokio::test]
async fn a_body_that_is_abandoned_while_it_is_written_down_leaves_no_session_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = broker(|config| {
        config.log.url = format!("file:{}", folder.path().display());
        config.log.min_free = bytesize::ByteSize::b(0);
        config.session.max_interval = Span(Duration::from_secs(1));
    })
    .await;
    for round in 0..40 {
        let id = handshake(&app, json!({})).await;
        let mut stream = connection(&app).await;
        let subscribe = json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" });
        let connect = json!({ "channel": "/meta/connect", "clientId": id });
        send(&mut stream, &json!([connect, subscribe])).await;
        tokio::time::sleep(Duration::from_micros(50 * round)).await;
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut internal = TcpStream::connect(app.internal_addr())
            .await
            .expect("a connection");
        let request = "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        internal.write_all(request.as_bytes()).await.expect("written");
        let mut text = String::new();
        internal.read_to_string(&mut text).await.expect("metrics");
        let sessions = text
            .lines()
            .find(|line| line.contains("sessions "))
            .expect("a gauge");
        let in_memory = text
            .lines()
            .find_map(|line| line.strip_prefix("halley_sessions "))
            .unwrap_or_else(|| panic!("no gauge: {sessions}"));
        if in_memory == "0" {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{in_memory} sessions are still there"
        );
        tokio::time::sleep(A_MOMENT).await;
    }
}

#[tokio::test]
async fn a_publish_in_flight_is_answered_before_the_broker_ends() {
    let app = broker(|_| {}).await;
    let mut publisher = TcpStream::connect(app.internal_addr())
        .await
        .expect("a connection");
    let body = json!({ "channel": "/a", "data": 1 }).to_string();
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    publisher.write_all(head.as_bytes()).await.expect("written");
    tokio::time::sleep(A_MOMENT).await;
    let ending = tokio::spawn(app.shut_down());
    tokio::time::sleep(A_MOMENT).await;
    assert!(!ending.is_finished(), "the broker waits for it");
    publisher.write_all(body.as_bytes()).await.expect("written");
    assert_eq!(receive(&mut publisher).await["offset"], 1);
    ending.await.expect("the end");
}
