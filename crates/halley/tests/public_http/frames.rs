//! HTTP/2 as no library speaks it: frames written by hand (RFC 9113, 4.1), and what a connection may cost.

use std::time::Duration;

use halley::app::App;
use halley::config::{Config, Span};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::it::{HELD, Line, PATIENCE, broker, connect, handshake, publish, wait_for};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const CANCEL: u32 = 8;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `POST http://h/cometd` (RFC 7541, appendix A): two entries of the static table, then names of it with values.
const POST: &[u8] = b"\x83\x86\x04\x07/cometd\x41\x01h";

async fn trusting(adjust: impl FnOnce(&mut Config)) -> App {
    broker(|config| {
        config.session.trust_client_session = true;
        adjust(config);
    })
    .await
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The code of a reset, or that of the end.
    fn code(&self) -> Option<u32> {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(code.try_into().expect("four bytes")))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

struct Wire(TcpStream);

impl Wire {
    /// A connection with these settings, each an identifier and a value.
    async fn open(app: &App, settings: &[(u16, u32)]) -> Self {
        let mut wire = Self(TcpStream::connect(app.public_addr()).await.expect("a connection"));
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        wire.write(PREFACE).await;
        wire.write(&frame(SETTINGS, 0, 0, &settings)).await;
        wire
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("written");
    }

    async fn post(&mut self, stream: u32, body: &str) {
        self.write(&frame(HEADERS, END_HEADERS, stream, POST)).await;
        self.write(&frame(DATA, END_STREAM, stream, body.as_bytes()))
            .await;
    }

    /// The next frame; `None` at the end. Settings are acknowledged.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = timeout(PATIENCE, self.0.read_exact(&mut head)).await;
        read.expect("a frame in time").ok()?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let mut payload = vec![0; usize::try_from(length).expect("a length")];
        self.0.read_exact(&mut payload).await.ok()?;
        if kind == SETTINGS && flags & ACK == 0 {
            // At its end a connection may not take that any more.
            let _ = self.0.write_all(&frame(SETTINGS, ACK, 0, b"")).await;
        }
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            payload,
        })
    }

    /// Reads on to a frame of this kind.
    #[track_caller]
    fn until(&mut self, kind: u8) -> impl Future<Output = Frame> {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                match self.next().await {
                    Some(frame) if frame.kind == kind => return frame,
                    Some(_) => {}
                    None => panic!("the end instead of a frame, {caller}"),
                }
            }
        }
    }

    /// Reads on to the end; returns the code of the goodbye, if there was one.
    async fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = frame.code();
            }
        }
        code
    }
}

#[tokio::test]
async fn more_requests_at_once_than_allowed_are_refused_and_the_others_served() {
    let app = trusting(|config| config.http2.max_concurrent_streams = 2).await;
    let mut wire = Wire::open(&app, &[]).await;
    for stream in [1, 3, 5] {
        wire.write(&frame(HEADERS, END_HEADERS, stream, POST)).await;
    }
    let refused = wire.until(RST_STREAM).await;
    assert_eq!((refused.stream, refused.code()), (5, Some(REFUSED_STREAM)));
    let body = handshake().to_string();
    wire.write(&frame(DATA, END_STREAM, 3, body.as_bytes())).await;
    assert_eq!(wire.until(HEADERS).await.stream, 3);
}

#[tokio::test]
async fn requests_that_are_taken_back_as_fast_as_they_come_end_the_connection() {
    let app = trusting(|_| {}).await;
    let mut wire = Wire::open(&app, &[]).await;
    wire.until(SETTINGS).await;
    let mut bytes = Vec::new();
    for number in 0..1000 {
        let stream = 2 * number + 1;
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, POST));
        bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    // Part of it may find the connection closed.
    let _ = wire.0.write_all(&bytes).await;
    assert_eq!(wire.end().await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn headers_without_end_end_the_connection() {
    let app = trusting(|_| {}).await;
    let mut wire = Wire::open(&app, &[]).await;
    wire.until(SETTINGS).await;
    wire.write(&frame(HEADERS, 0, 1, POST)).await;
    let header = b"\x00\x01a\x01b";
    let more = frame(CONTINUATION, 0, 1, &header.repeat(1000));
    for _ in 0..100 {
        // Part of it may find the connection closed.
        if wire.0.write_all(&more).await.is_err() {
            break;
        }
    }
    assert_eq!(wire.end().await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_connection_on_which_nothing_happens_is_ended() {
    let app = trusting(|config| config.limits.header_timeout = Span(Duration::from_millis(200))).await;
    let mut wire = Wire::open(&app, &[]).await;
    wire.post(1, &handshake().to_string()).await;
    wire.until(HEADERS).await;
    assert_eq!(wire.end().await, Some(0), "in order");
    // Nor is one that never asked anything, or not even said how it speaks.
    for start in [&b""[..], &PREFACE[..10], PREFACE] {
        let mut stream = TcpStream::connect(app.public_addr()).await.expect("a connection");
        stream.write_all(start).await.expect("written");
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{start:?}");
    }
}

#[tokio::test]
async fn a_connection_on_which_a_connect_is_held_is_not_idle() {
    let app = trusting(|config| config.limits.header_timeout = Span(Duration::from_millis(100))).await;
    let line = Line::open(&app).await;
    let id = line.join("/a").await;
    let held = tokio::spawn(line.post(&[], &json!([connect(&id)])));
    tokio::time::sleep(Duration::from_millis(500)).await;
    publish(&app, "/a", json!(1)).await;
    assert_eq!(held.await.expect("no panic").json()[0]["data"], 1);
}

#[tokio::test]
async fn a_preface_in_pieces_is_a_preface() {
    let app = trusting(|_| {}).await;
    let mut stream = TcpStream::connect(app.public_addr()).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket option");
    for piece in PREFACE.chunks(10) {
        stream.write_all(piece).await.expect("written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut wire = Wire(stream);
    wire.write(&frame(SETTINGS, 0, 0, b"")).await;
    wire.post(1, &handshake().to_string()).await;
    assert_eq!(wire.until(HEADERS).await.stream, 1);
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_gone() {
    let app = trusting(|config| {
        config.http2.ping_interval = Span(Duration::from_millis(100));
        config.http2.ping_timeout = Span(Duration::from_millis(100));
    })
    .await;
    let line = Line::open(&app).await;
    let id = line.join("/a").await;
    let mut wire = Wire::open(&app, &[]).await;
    wire.post(1, &json!([connect(&id)]).to_string()).await;
    wait_for(&app, HELD, 1).await;
    let ping = wire.until(PING).await;
    assert_eq!(ping.flags & ACK, 0);
    wait_for(&app, HELD, 0).await;
    wire.end().await;
}

/// The initial window of a stream, among the settings.
const INITIAL_WINDOW_SIZE: u16 = 4;

#[tokio::test]
async fn a_peer_that_takes_nothing_of_a_response_is_gone_and_gets_it_again() {
    let app = trusting(|config| config.http2.write_timeout = Span(Duration::from_millis(200))).await;
    let line = Line::open(&app).await;
    let id = line.join("/a").await;
    let mut wire = Wire::open(&app, &[(INITIAL_WINDOW_SIZE, 10)]).await;
    wire.post(1, &json!([connect(&id)]).to_string()).await;
    wait_for(&app, HELD, 1).await;
    publish(&app, "/a", json!("x".repeat(1000))).await;
    wire.until(HEADERS).await;
    wire.end().await;
    let replies = line.say(json!([connect(&id)])).await;
    assert_eq!(replies[0]["data"], "x".repeat(1000));
}

#[tokio::test]
async fn a_peer_that_takes_a_response_slowly_gets_all_of_it() {
    let app = trusting(|config| config.http2.write_timeout = Span(Duration::from_millis(400))).await;
    let line = Line::open(&app).await;
    let id = line.join("/a").await;
    let mut wire = Wire::open(&app, &[(INITIAL_WINDOW_SIZE, 100)]).await;
    wire.post(1, &json!([connect(&id)]).to_string()).await;
    wait_for(&app, HELD, 1).await;
    publish(&app, "/a", json!("x".repeat(1000))).await;
    let mut body = Vec::new();
    loop {
        let data = wire.until(DATA).await;
        body.extend(data.payload);
        if data.flags & END_STREAM != 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        wire.write(&frame(WINDOW_UPDATE, 0, 1, &100_u32.to_be_bytes()))
            .await;
    }
    let replies: serde_json::Value = serde_json::from_slice(&body).expect("all of it");
    assert_eq!(replies[0]["data"], "x".repeat(1000));
}

#[tokio::test]
async fn a_response_that_is_taken_back_halfway_comes_again() {
    for window in [0, 10, 500] {
        let app = trusting(|_| {}).await;
        let line = Line::open(&app).await;
        let id = line.join("/a").await;
        let mut wire = Wire::open(&app, &[(INITIAL_WINDOW_SIZE, window)]).await;
        wire.post(1, &json!([connect(&id)]).to_string()).await;
        wait_for(&app, HELD, 1).await;
        publish(&app, "/a", json!("x".repeat(1000))).await;
        wire.until(HEADERS).await;
        wire.write(&frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())).await;
        // The connection lives on, and answers only after it has read that.
        wire.write(&frame(PING, 0, 0, b"12345678")).await;
        while wire.until(PING).await.flags & ACK == 0 {}
        let replies = line.say(json!([connect(&id)])).await;
        assert_eq!(replies[0]["data"], "x".repeat(1000), "a window of {window}");
    }
}
