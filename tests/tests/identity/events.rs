//! A client whose credentials a test chooses for each message, and what reaches it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::it::{Answer, It, Socket, exchange, request};

/// What comes to nobody is waited for this long.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A POST with one message or an array of them, and the replies.
pub(crate) async fn post(address: SocketAddr, headers: &[&str], body: &Value) -> Vec<Value> {
    let answer = post_answer(address, headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().as_array().expect("an array").clone()
}

/// The same, with what is around the replies.
pub(crate) async fn post_answer(address: SocketAddr, headers: &[&str], body: &Value) -> Answer {
    let body = body.to_string();
    timeout(
        PATIENCE,
        exchange(address, &request("POST", "/cometd", headers, body.as_bytes())),
    )
    .await
    .expect("an answer in time")
}

/// Sends over a socket, and the next frame.
pub(crate) async fn ask(socket: &mut Socket, message: &Value) -> Vec<Value> {
    socket.send(&message.to_string()).await;
    next(socket).await
}

/// The next frame.
pub(crate) async fn next(socket: &mut Socket) -> Vec<Value> {
    serde_json::from_str(&socket.next().await).expect("an array")
}

/// Nothing comes by this socket.
pub(crate) async fn expect_silence(socket: &mut Socket) {
    if let Ok(text) = timeout(SILENCE, socket.next()).await {
        panic!("this came: {text}")
    }
}

pub(crate) fn handshake() -> Value {
    json!({ "channel": "/meta/handshake", "version": "1.0" })
}

pub(crate) fn handshake_with(ext: &Value) -> Value {
    json!({ "channel": "/meta/handshake", "version": "1.0", "ext": ext })
}

pub(crate) fn connect(id: &str) -> Value {
    json!({ "channel": "/meta/connect", "clientId": id, "connectionType": "x", "advice": { "timeout": 0 } })
}

/// A connect that is held.
pub(crate) fn wait(id: &str) -> Value {
    json!({ "channel": "/meta/connect", "clientId": id, "connectionType": "x" })
}

pub(crate) fn subscribe(id: &str, channel: &str) -> Value {
    json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": channel })
}

/// The clientId of a handshake's reply.
#[track_caller]
pub(crate) fn client_id(replies: &[Value]) -> String {
    assert_eq!(replies[0]["successful"], true, "{replies:?}");
    replies[0]["clientId"].as_str().expect("a clientId").to_owned()
}

#[track_caller]
pub(crate) fn expect_error(replies: &[Value], error: &str, reconnect: Option<&str>) {
    let reply = replies.last().expect("a reply");
    assert_eq!(reply["error"], error, "{replies:?}");
    assert_eq!(reply["advice"]["reconnect"].as_str(), reconnect, "{replies:?}");
}

#[track_caller]
pub(crate) fn expect_success(replies: &[Value]) {
    let reply = replies.last().expect("a reply");
    assert_eq!(reply["successful"], true, "{replies:?}");
}

/// A session over long-polling that has connected and subscribed, with a header for every request.
pub(crate) async fn session(it: &It, header: &str, channel: &str) -> String {
    let id = client_id(&post(it.public, &[header], &handshake()).await);
    expect_success(&post(it.public, &[header], &connect(&id)).await);
    expect_success(&post(it.public, &[header], &subscribe(&id, channel)).await);
    id
}

/// A socket whose session has connected and subscribed, known by `ext.token`.
pub(crate) async fn socket(it: &It, token: &str, channel: &str) -> (Socket, String) {
    let mut socket = Socket::open(it.public, "/cometd", &[]).await;
    let id = client_id(&ask(&mut socket, &handshake_with(&json!({ "token": token }))).await);
    expect_success(&ask(&mut socket, &connect(&id)).await);
    expect_success(&ask(&mut socket, &subscribe(&id, channel)).await);
    (socket, id)
}

/// The data of the events among messages.
pub(crate) fn data(messages: &[Value]) -> Vec<Value> {
    let events = messages.iter().filter(|message| {
        !message["channel"]
            .as_str()
            .is_some_and(|name| name.starts_with("/meta/"))
    });
    events.map(|event| event["data"].clone()).collect()
}
