//! WebSockets: what is agreed on when they open, what a frame may be, whose events they bring, and when they are closed.

use std::time::Duration;

use halley::app::App;
use halley::config::{Config, Span};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::it::{Answer, Line, PATIENCE, Socket, UPGRADE, ask, broker, metrics, post, publish};

/// For what must not happen.
const A_MOMENT: Duration = Duration::from_millis(300);

/// Until the page of metrics has this line.
async fn wait_for(app: &App, line: &str) {
    let found = async {
        while !metrics(app).await.lines().any(|found| found == line) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let found = timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("metrics never said {line}"));
}

/// Opens a socket by hand.
async fn upgrade(app: &App, header: &str) -> Answer {
    let mut line = Line::open(app).await;
    let headers: Vec<&str> = UPGRADE.into_iter().chain([header]).collect();
    line.send("GET", "/cometd", &headers, "").await;
    line.receive_head().await
}

fn trusting(config: &mut Config) {
    config.session.trust_client_session = true;
}

fn connect(id: &str) -> Value {
    json!([{ "channel": "/meta/connect", "clientId": id }])
}

fn subscribe(id: &str, channel: &str) -> Value {
    json!([{ "channel": "/meta/subscribe", "clientId": id, "subscription": channel }])
}

/// Shakes hands by POST and subscribes to `/a`.
async fn session(app: &App) -> String {
    let reply = post(app, &json!([{ "channel": "/meta/handshake" }])).await.json();
    let id = reply[0]["clientId"].as_str().expect("a clientId").to_owned();
    assert_eq!(
        post(app, &subscribe(&id, "/a")).await.json()[0]["successful"],
        true
    );
    id
}

async fn shake_hands(socket: &mut Socket) -> String {
    socket.say(&json!([{ "channel": "/meta/handshake" }])).await;
    let reply = socket.hear().await;
    reply[0]["clientId"].as_str().expect("a clientId").to_owned()
}

#[tokio::test]
async fn a_subprotocol_is_agreed_on_when_it_is_offered() {
    let app = broker(|config| config.websocket.protocol = "bayeux.v1".to_owned()).await;
    for offered in [
        "bayeux.v1",
        "a, bayeux.v1,b",
        "a\r\nSec-WebSocket-Protocol: bayeux.v1",
    ] {
        let answer = upgrade(&app, &format!("Sec-WebSocket-Protocol: {offered}")).await;
        let agreed = (answer.status, answer.header("sec-websocket-protocol"));
        assert_eq!(agreed, (101, Some("bayeux.v1")), "{offered}");
    }
}

#[tokio::test]
async fn a_socket_without_the_configured_subprotocol_is_refused() {
    let app = broker(|config| config.websocket.protocol = "bayeux.v1".to_owned()).await;
    for header in [
        "X-None: at all",
        "Sec-WebSocket-Protocol: a, b",
        "Sec-WebSocket-Protocol: Bayeux.V1",
    ] {
        let headers: Vec<&str> = UPGRADE.into_iter().chain([header]).collect();
        let answer = ask(&app, "GET", "/cometd", &headers, "").await;
        assert!(
            answer.status == 400 && answer.body.contains("bayeux.v1"),
            "{header}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn without_a_subprotocol_none_is_agreed_on() {
    let app = broker(|_| {}).await;
    let answer = upgrade(&app, "Sec-WebSocket-Protocol: bayeux.v1").await;
    let agreed = (answer.status, answer.header("sec-websocket-protocol"));
    assert_eq!(agreed, (101, None));
}

#[tokio::test]
async fn an_offer_to_compress_is_taken_without_it() {
    let app = broker(|_| {}).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    let answer = upgrade(&app, offer).await;
    let agreed = (answer.status, answer.header("sec-websocket-extensions"));
    assert_eq!(agreed, (101, None));
}

/// How many events each frame brings of five that waited.
async fn events_by_frame(messages_per_frame: usize) -> Vec<usize> {
    let app = broker(|config| {
        trusting(config);
        config.websocket.messages_per_frame = messages_per_frame;
    })
    .await;
    let id = session(&app).await;
    for data in 1..=5 {
        publish(&app, "/a", json!(data)).await;
    }
    wait_for(&app, "halley_events_routed_total 5").await;
    let mut socket = Socket::open(&app).await;
    socket.say(&connect(&id)).await;
    let (mut seen, mut frames) = (Vec::new(), Vec::new());
    while seen.len() < 5 {
        let messages = socket.hear().await;
        let messages = messages.as_array().expect("an array").iter();
        let data: Vec<Value> = messages
            .filter_map(|message| message.get("data").cloned())
            .collect();
        // The reply to the connect has a frame of its own.
        frames.extend((!data.is_empty()).then_some(data.len()));
        seen.extend(data);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    frames
}

#[tokio::test]
async fn a_frame_has_one_event_or_as_many_as_is_said() {
    assert_eq!(events_by_frame(1).await, [1, 1, 1, 1, 1]);
    assert_eq!(events_by_frame(2).await, [2, 2, 1]);
    assert_eq!(events_by_frame(0).await, [5]);
}

#[tokio::test]
async fn a_message_has_a_limit_of_its_own_or_that_of_requests() {
    for (max_message, allowed) in [(0, 200), (100, 100)] {
        let app = broker(|config| {
            config.limits.request_body = bytesize::ByteSize::b(200);
            config.websocket.max_message = bytesize::ByteSize::b(max_message);
        })
        .await;
        let mut socket = Socket::open(&app).await;
        let message = |length: usize| Message::text(format!("{:length$}", "{}"));
        socket.send(message(allowed)).await;
        assert_eq!(socket.hear().await[0]["error"], "400::channel_missing");
        socket.send(message(allowed + 1)).await;
        assert_eq!(socket.closed().await, "1009 message too large");
    }
}

#[tokio::test]
async fn a_binary_frame_means_nothing() {
    let app = broker(|_| {}).await;
    let mut socket = Socket::open(&app).await;
    socket.send(Message::Binary(Bytes::from_static(b"[{}]"))).await;
    shake_hands(&mut socket).await;
}

#[tokio::test]
async fn where_each_socket_needs_a_handshake_an_old_session_is_unknown() {
    let app = broker(|config| {
        trusting(config);
        config.websocket.require_handshake_per_connection = true;
    })
    .await;
    let old = session(&app).await;
    let mut socket = Socket::open(&app).await;
    socket.say(&connect(&old)).await;
    let reply = socket.hear().await;
    assert_eq!(reply[0]["error"], "402::session_unknown");
    assert_eq!(reply[0]["advice"]["reconnect"], "handshake");
    let new = shake_hands(&mut socket).await;
    socket.say(&connect(&new)).await;
    assert_eq!(socket.hear().await[0]["successful"], true);
    socket.say(&connect(&old)).await;
    assert_eq!(socket.hear().await[0]["error"], "402::session_unknown");
    let by_post = post(&app, &connect(&old)).await.json();
    assert_eq!(by_post[0]["successful"], true, "it is about sockets");
}

#[tokio::test]
async fn the_second_socket_of_a_session_gets_its_events_and_the_first_its_replies() {
    let app = broker(trusting).await;
    let id = session(&app).await;
    let (mut first, mut second) = (Socket::open(&app).await, Socket::open(&app).await);
    first.say(&connect(&id)).await;
    first.hear().await;
    second.say(&connect(&id)).await;
    publish(&app, "/a", json!(1)).await;
    assert_eq!(second.hear().await[0]["data"], 1);
    first.say(&subscribe(&id, "/b")).await;
    assert_eq!(first.hear().await[0]["subscription"], "/b", "no event before it");
    // As in CometD the socket that spoke last is the one that is pushed to. What no pong has proven goes to it again.
    second.say(&subscribe(&id, "/c")).await;
    assert_eq!(second.hear().await[0]["subscription"], "/c");
    publish(&app, "/b", json!(2)).await;
    while second.hear().await[0]["data"] != 2 {}
    while let Ok(messages) = timeout(A_MOMENT, first.hear()).await {
        assert_ne!(messages[0]["data"], 2, "the first is not pushed to");
    }
}

/// The first event that a session gets on its next socket, when 1 came on this one and was proven by a pong, and 2 comes now.
async fn first_event_after(leave: impl AsyncFnOnce(Socket)) -> Value {
    let app = broker(trusting).await;
    let id = session(&app).await;
    let mut socket = Socket::open(&app).await;
    socket.say(&connect(&id)).await;
    socket.hear().await;
    publish(&app, "/a", json!(1)).await;
    assert_eq!(socket.hear().await[0]["data"], 1);
    // The pong is on its way before this is.
    socket.say(&subscribe(&id, "/b")).await;
    assert_eq!(socket.hear().await[0]["subscription"], "/b");
    leave(socket).await;
    let mut next = Socket::open(&app).await;
    next.say(&connect(&id)).await;
    publish(&app, "/a", json!(2)).await;
    loop {
        if let Some(data) = next.hear().await[0].get("data") {
            return data.clone();
        }
    }
}

#[tokio::test]
async fn what_a_pong_has_proven_comes_again_when_the_client_closes_the_socket() {
    let first = first_event_after(async |mut socket| {
        socket.send(Message::Close(None)).await;
        socket.closed().await;
    });
    assert_eq!(first.await, 1);
}

#[tokio::test]
async fn what_a_pong_has_proven_does_not_come_again_when_the_socket_breaks() {
    let first = first_event_after(async |socket| drop(socket));
    assert_eq!(first.await, 2);
}

/// Sessions leave memory after a moment of silence.
async fn forgetful(adjust: impl FnOnce(&mut Config)) -> App {
    broker(|config| {
        config.session.max_interval = Span(Duration::from_millis(200));
        adjust(config);
    })
    .await
}

const NO_SESSION: &str = "halley_sessions 0";

#[tokio::test]
async fn a_socket_whose_session_went_dormant_stays_open_and_wakes_it() {
    for require_handshake in [false, true] {
        let app = forgetful(|config| {
            config.websocket.require_handshake_per_connection = require_handshake;
        })
        .await;
        let mut socket = Socket::open(&app).await;
        let id = shake_hands(&mut socket).await;
        socket.say(&connect(&id)).await;
        assert_eq!(socket.hear().await[0]["successful"], true);
        wait_for(&app, NO_SESSION).await;
        socket.say(&subscribe(&id, "/a")).await;
        assert_eq!(socket.hear().await[0]["successful"], true);
    }
}

#[tokio::test]
async fn a_socket_whose_session_was_forgotten_stays_open_for_another_handshake() {
    let app = forgetful(|_| {}).await;
    let mut socket = Socket::open(&app).await;
    let id = shake_hands(&mut socket).await;
    wait_for(&app, NO_SESSION).await;
    socket.say(&connect(&id)).await;
    assert_eq!(socket.hear().await[0]["error"], "402::session_unknown");
    shake_hands(&mut socket).await;
}

#[tokio::test]
async fn a_socket_stays_open_after_goodbye() {
    let app = broker(|_| {}).await;
    let mut socket = Socket::open(&app).await;
    let id = shake_hands(&mut socket).await;
    socket
        .say(&json!([{ "channel": "/meta/disconnect", "clientId": id }]))
        .await;
    assert_eq!(socket.hear().await[0]["successful"], true);
    shake_hands(&mut socket).await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_so() {
    let app = broker(|_| {}).await;
    let mut line = Line::open(&app).await;
    line.send("GET", "/cometd", &UPGRADE, "").await;
    line.receive_head().await;
    // A text frame of two bytes that is not masked.
    line.write(b"\x81\x02[]").await;
    assert_eq!(line.read(4).await, b"\x88\x10\x03\xea", "a close with 1002");
}
