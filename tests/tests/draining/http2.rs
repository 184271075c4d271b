//! The same over HTTP/2, where GOAWAY says what `Connection: close` says over HTTP/1.1. The client is hyper's; what the broker sends
//! it is looked at on the way.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::it::authorization;
use crate::{Ending, LONG, SLACK, USERS};

/// RFC 9113, 6.8.
const GOAWAY: u8 = 7;

const HELD: &str = r#"halley_connections{transport="long-polling"}"#;

/// A connection of HTTP/2, and what has come on it.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    seen: Arc<Mutex<Vec<u8>>>,
    ends: JoinHandle<hyper::Result<()>>,
}

/// Keeps what is read.
struct Watched {
    stream: TcpStream,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Line {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the broker listens");
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let watched = Watched {
            stream,
            seen: Arc::clone(&seen),
        };
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(watched))
            .await
            .expect("a connection");
        Self {
            sender,
            seen,
            ends: tokio::spawn(connection),
        }
    }

    fn say(&self, body: &Value) -> impl Future<Output = Value> + Send + 'static {
        let (name, value) = authorization(USERS[0])
            .split_once(": ")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .expect("a header line");
        let request = Request::post("http://halley.example/cometd")
            .header("content-type", "application/json")
            .header(name, value)
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        let sending = self.sender.clone().send_request(request);
        async move {
            let response = timeout(SLACK, sending).await.expect("an answer in time");
            let response = response.expect("an answer");
            assert_eq!(response.status(), StatusCode::OK);
            assert!(response.headers().get("connection").is_none());
            let body = response.into_body().collect().await.expect("a whole answer");
            serde_json::from_slice(&body.to_bytes()).expect("messages")
        }
    }

    /// A session that listens to `/a` and has connected once.
    async fn join(&self) -> String {
        let hello = self.say(&json!([{ "channel": "/meta/handshake", "version": "1.0" }]));
        let id = hello.await[0]["clientId"].as_str().expect("a session").to_owned();
        let subscribe = json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" });
        let replies = self.say(&json!([subscribe, connect(&id)])).await;
        assert_eq!(replies[1]["successful"], true, "{replies}");
        id
    }

    /// The kinds of the frames that have come.
    fn frames(&self) -> Vec<u8> {
        let seen = self.seen.lock();
        let (mut rest, mut kinds) = (&seen[..], Vec::new());
        while let [a, b, c, kind, ..] = *rest {
            kinds.push(kind);
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            rest = rest.get(9 + length..).unwrap_or_default();
        }
        kinds
    }

    async fn wait_for_goaway(&self) {
        let until = Instant::now() + SLACK;
        while !self.frames().contains(&GOAWAY) {
            assert!(Instant::now() < until, "no GOAWAY: {:?}", self.frames());
            sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn expect_end(self) {
        let ended = timeout(SLACK, self.ends).await.expect("it ends in time");
        ended.expect("no panic").expect("it ends well");
    }
}

fn connect(id: &str) -> Value {
    json!({ "channel": "/meta/connect", "clientId": id, "connectionType": "long-polling" })
}

#[tokio::test]
async fn a_connection_takes_nothing_new_from_the_beginning_and_what_it_holds_is_answered() {
    let mut ending = Ending::new(LONG).await;
    let line = Line::open(ending.it.public).await;
    let id = line.join().await;
    let held = tokio::spawn(line.say(&json!([connect(&id)])));
    ending.it.wait_for(HELD, 1.0).await;
    assert!(!line.frames().contains(&GOAWAY));
    ending.begin().await;
    line.wait_for_goaway().await;
    assert!(!held.is_finished(), "it is let go when it is its turn");

    // For what is new there is a new connection, and its session is where it was.
    let other = Line::open(ending.it.public).await;
    let publish = json!([{ "channel": "/a", "clientId": id, "data": "hello" }]);
    assert_eq!(other.say(&publish).await[0]["successful"], true);
    let replies = held.await.expect("no panic");
    assert_eq!(replies[0]["data"], "hello", "{replies}");
    line.expect_end().await;
    ending.insist();
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn a_connection_that_comes_while_it_drains_ends_with_its_first_answer() {
    let mut ending = Ending::new(LONG).await;
    let before = Line::open(ending.it.public).await;
    let id = before.join().await;
    ending.begin().await;
    let line = Line::open(ending.it.public).await;
    let publish = json!([{ "channel": "/a", "clientId": id, "data": 1 }]);
    assert_eq!(line.say(&publish).await[0]["successful"], true);
    line.wait_for_goaway().await;
    line.expect_end().await;
    ending.insist();
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn a_held_connect_is_let_go_when_it_is_its_turn_and_its_connection_ends_then() {
    let mut ending = Ending::new(std::time::Duration::from_millis(200)).await;
    let line = Line::open(ending.it.public).await;
    let id = line.join().await;
    let held = tokio::spawn(line.say(&json!([connect(&id)])));
    ending.it.wait_for(HELD, 1.0).await;
    ending.ask();
    let replies = held.await.expect("no panic");
    assert_eq!(replies[0]["advice"]["reconnect"], "retry", "{replies}");
    assert_eq!(replies[0]["advice"]["interval"], 0, "{replies}");
    line.wait_for_goaway().await;
    line.expect_end().await;
    ending.expect_end_within(SLACK).await;
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.seen.lock().extend_from_slice(&buffer.filled()[before..]);
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
