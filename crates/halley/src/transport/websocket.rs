//! `websocket`: frames with arrays of messages, both ways. Events are pushed, each in a frame of its own that all receivers
//! share; everything that waits for a socket leaves in one write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::codec::Body;
use bayeux::{Carrier, CarrierKind, Offset, Output};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tracing::debug;

use super::exchange::{Exchanged, Place, exchange};
use super::{Attached, Public, Transport};
use crate::auth::BROWSER_COOKIE;
use crate::http::{self, Reply};
use crate::metrics;
use crate::sessions::Requester;

pub(super) const TRANSPORT: Transport = Transport {
    connection_type: "websocket",
    accepts: is_upgrade,
    answer: |public, _, request| -> BoxFuture<'static, Reply> { Box::pin(answer(public, request)) },
};

const LABEL: metrics::Transport = metrics::Transport {
    transport: "websocket",
};

/// Bytes of events in one write; more waits for the next one, so that a slow socket holds no more than this.
const WRITE_BYTES: usize = 256 << 10;

/// How long the peer may take to answer a close.
const GOODBYE: Duration = Duration::from_secs(2);

/// A control frame holds 125 bytes, two of which are the close code.
const REASON_BYTES: usize = 123;

fn is_upgrade(request: &Request<Incoming>) -> bool {
    let upgrade = request
        .headers()
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    request.method() == Method::GET && upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

async fn answer(public: Arc<Public>, mut request: Request<Incoming>) -> Reply {
    let headers = request.headers();
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let mut response = http::text(
            StatusCode::UPGRADE_REQUIRED,
            "WebSocket version 13 is spoken here\n",
        );
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return http::text(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing\n");
    };
    let accept = derive_accept_key(key.as_bytes());
    let mut who = public.requester(&request).await;
    let cookie = who.browser.is_none().then(|| public.browsers.issue());
    who.browser = who.browser.or_else(|| cookie.clone());
    let place = request.extensions_mut().remove::<http::Place>();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        run(public, who, upgrade).await;
        drop(place);
    });
    switch_protocols(&accept, cookie.as_deref())
}

fn switch_protocols(accept: &str, browser: Option<&str>) -> Reply {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(cookie) = browser.and_then(|browser| {
        format!("{BROWSER_COOKIE}={browser}; Path=/; HttpOnly")
            .parse()
            .ok()
    }) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

async fn run(public: Arc<Public>, who: Requester, upgrade: OnUpgrade) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return debug!(%error, "an upgrade failed"),
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return debug!("an upgrade of something that is no TCP connection");
    };
    let config = configure(public.body_limit());
    let stream = parts.io.into_inner();
    let read_ahead = parts.read_buf.to_vec();
    let stream = WebSocketStream::from_partially_read(stream, read_ahead, Role::Server, Some(config)).await;
    let carrier = public.sessions.carrier(CarrierKind::Socket);
    public.metrics.connections.get_or_create(&LABEL).inc();
    let mut socket = Socket {
        public: Arc::clone(&public),
        who,
        stream,
        carrier,
        bound: None,
        heard: Instant::now(),
        asked: Bytes::new(),
    };
    let reason = socket.run().await;
    debug!(?reason, "a socket ended");
    drop(socket);
    public.metrics.connections.get_or_create(&LABEL).dec();
}

/// tungstenite's defaults cost 135 KiB a socket and bound nothing.
fn configure(message_limit: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(64 << 10)
        .max_write_buffer_size(2 << 20)
        .max_message_size(Some(message_limit))
        .max_frame_size(Some(message_limit))
}

/// Why a socket ends.
#[derive(Debug)]
enum End {
    /// The peer closed it, or the network did.
    Closed,
    /// The peer does not answer pings.
    Silent,
    /// The peer does not read.
    Stalled,
    /// The peer broke the protocol; it was told.
    Violation,
    /// The process is ending; the peer was told to come back.
    Shutdown,
    /// The log cannot be read or written.
    LogFailed,
}

struct Socket {
    public: Arc<Public>,
    who: Requester,
    stream: WebSocketStream<TcpStream>,
    carrier: Carrier,
    /// The session that this socket speaks for.
    bound: Option<Attached>,
    /// When the peer was last heard.
    heard: Instant,
    /// What the last ping carried: the eight bytes of an offset, or nothing. A keep-alive ping carries it again, since a peer
    /// may answer only the newest of several pings.
    asked: Bytes,
}

/// What a socket waits for.
enum Step {
    Frame(Option<Result<Message, Error>>),
    Outputs(Vec<Output>),
    KeepAlive,
    Shutdown,
}

impl Socket {
    async fn run(&mut self) -> End {
        let ping_interval = self.public.config.websocket.ping_interval.0;
        let mut keep_alive =
            tokio::time::interval_at(tokio::time::Instant::now() + ping_interval, ping_interval);
        let mut shutdown = self.public.shutdown.clone();
        loop {
            let step = tokio::select! {
                frame = self.stream.next() => Step::Frame(frame),
                outputs = outputs(&self.public, self.bound.as_ref()) => Step::Outputs(outputs),
                _ = keep_alive.tick() => Step::KeepAlive,
                () = shutdown.wait() => Step::Shutdown,
            };
            let done = match step {
                // Boxed: a socket waits far longer than it works, and what it needs only for work need not wait with it.
                Step::Frame(frame) => Box::pin(self.handle_frame(frame)).await,
                Step::Outputs(outputs) => Box::pin(self.handle_outputs(outputs)).await,
                Step::KeepAlive => Box::pin(self.handle_keep_alive()).await,
                Step::Shutdown => {
                    Box::pin(self.say_goodbye()).await;
                    Err(End::Shutdown)
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn handle_frame(&mut self, frame: Option<Result<Message, Error>>) -> Result<(), End> {
        self.heard = Instant::now();
        match frame {
            None | Some(Err(Error::ConnectionClosed | Error::Io(_))) => Err(End::Closed),
            Some(Err(Error::Capacity(_))) => {
                self.close(CloseCode::Size, "message too large").await;
                Err(End::Violation)
            }
            Some(Err(_)) => {
                self.close(CloseCode::Protocol, "protocol error").await;
                Err(End::Violation)
            }
            Some(Ok(Message::Text(text))) => self.handle_text(&text).await,
            Some(Ok(Message::Pong(payload))) => {
                self.handle_pong(&payload);
                Ok(())
            }
            // Pings are answered by the library, a close is acknowledged by it, and binary frames mean nothing here.
            Some(Ok(Message::Ping(_) | Message::Binary(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => {
                let _ = self.stream.flush().await;
                Err(End::Closed)
            }
        }
    }

    async fn handle_text(&mut self, text: &str) -> Result<(), End> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let bound = self.bound.as_ref().map(|attached| &attached.handle);
        let mut exchanged =
            match exchange(&self.public, &mut self.who, self.carrier, bound, text.as_bytes()).await {
                Ok(Ok(exchanged)) => exchanged,
                Ok(Err(_)) => {
                    self.close(CloseCode::Again, "the log is unavailable").await;
                    return Err(End::LogFailed);
                }
                Err(error) => {
                    // What cannot be parsed has no id to answer, and a client that sends it cannot be helped by a reply.
                    self.close(CloseCode::Invalid, &error.to_string()).await;
                    return Err(End::Violation);
                }
            };
        if let Some(attached) = exchanged.attached.take() {
            self.bound = Some(attached);
        }
        self.send_replies(exchanged).await
    }

    /// One frame with the replies that are there; those to connects come when the session has them.
    async fn send_replies(&mut self, exchanged: Exchanged) -> Result<(), End> {
        let mut body = Body::default();
        for place in &exchanged.replies {
            match place {
                Place::Reply(reply) => body.reply(reply),
                Place::Connect(_) => {}
            }
        }
        if body.is_empty() {
            Ok(())
        } else {
            self.write(vec![text(body.finish())]).await
        }
    }

    async fn handle_outputs(&mut self, outputs: Vec<Output>) -> Result<(), End> {
        let mut frames = Vec::with_capacity(outputs.len());
        let mut events = 0;
        // In one frame, or a socket that breaks between frames leaves its client with events that it cannot acknowledge.
        let in_one_frame = outputs.iter().any(|output| matches!(output, Output::Reply(_)))
            && (self.bound.as_ref()).is_some_and(|attached| attached.handle.answers_as_a_whole());
        let mut answer = Body::default();
        let mut read_after = None;
        for output in outputs {
            match output {
                Output::Event(event) => {
                    events += 1;
                    if in_one_frame {
                        answer.event(&event);
                    } else {
                        frames.push(shared_text(event.frame().clone()));
                    }
                }
                Output::Direct(message) if in_one_frame => answer.direct(&message),
                Output::Direct(message) => frames.push(shared_text(message.frame().clone())),
                Output::Reply(reply) => {
                    answer.reply(&reply);
                    frames.push(text(std::mem::take(&mut answer).finish()));
                }
                Output::Ping(offset) => {
                    self.asked = Bytes::copy_from_slice(&offset.0.to_be_bytes());
                    frames.push(Message::Ping(self.asked.clone()));
                }
                Output::ReadLog(after) => read_after = Some(after),
                Output::Superseded => self.bound = None,
            }
        }
        if !frames.is_empty() {
            self.write(frames).await?;
            self.public
                .metrics
                .deliveries
                .get_or_create(&LABEL)
                .inc_by(events);
        }
        match read_after {
            Some(after) => self.read_log(after).await,
            None => Ok(()),
        }
    }

    async fn read_log(&mut self, after: Offset) -> Result<(), End> {
        let Some(attached) = &self.bound else {
            return Ok(());
        };
        if let Err(error) = self
            .public
            .sessions
            .read_log(&attached.handle, self.carrier, after)
            .await
        {
            debug!(%error, "a session cannot read the log");
            self.close(CloseCode::Again, "the log is unavailable").await;
            return Err(End::LogFailed);
        }
        Ok(())
    }

    fn handle_pong(&self, payload: &[u8]) {
        if let (Some(attached), Ok(offset)) = (&self.bound, <[u8; 8]>::try_from(payload)) {
            let offset = Offset(u64::from_be_bytes(offset));
            self.public
                .sessions
                .handle_pong(&attached.handle, self.carrier, offset);
        }
    }

    async fn handle_keep_alive(&mut self) -> Result<(), End> {
        let settings = &self.public.config.websocket;
        let silence = self.heard.elapsed();
        if silence > settings.ping_interval.0 + settings.pong_timeout.0 {
            return Err(End::Silent);
        }
        self.write(vec![Message::Ping(self.asked.clone())]).await
    }

    /// Everything in one write where it fits. A write that stalls closes the socket; the session stays.
    async fn write(&mut self, frames: Vec<Message>) -> Result<(), End> {
        let write = async {
            for frame in frames {
                self.stream.feed(frame).await?;
            }
            self.stream.flush().await
        };
        match tokio::time::timeout(self.public.config.websocket.write_timeout.0, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Closed),
            Err(_) => Err(End::Stalled),
        }
    }

    /// Closes with 1012, come back. When the peer answers with our code, it has read everything before: it need not get that
    /// again from the next process. Any other close is its own idea and proves nothing.
    async fn say_goodbye(&mut self) {
        self.close(CloseCode::Restart, "restarting").await;
        let answered = async {
            while let Some(Ok(message)) = self.stream.next().await {
                if let Message::Close(frame) = message {
                    return frame.is_some_and(|frame| frame.code == CloseCode::Restart);
                }
            }
            false
        };
        if let (Ok(true), Some(attached)) = (tokio::time::timeout(GOODBYE, answered).await, &self.bound) {
            self.public
                .sessions
                .handle_close_answered(&attached.handle, self.carrier);
        }
    }

    async fn close(&mut self, code: CloseCode, reason: &str) {
        let close = Message::Close(Some(CloseFrame {
            code,
            reason: reason[..reason.floor_char_boundary(REASON_BYTES)].into(),
        }));
        if let Err(end) = self.write(vec![close]).await {
            debug!(?end, "a close frame was not sent");
        }
    }
}

async fn outputs(public: &Public, bound: Option<&Attached>) -> Vec<Output> {
    match bound {
        Some(attached) => {
            public
                .sessions
                .outputs(&attached.handle, attached.carrier, WRITE_BYTES)
                .await
        }
        None => std::future::pending().await,
    }
}

fn text(json: Vec<u8>) -> Message {
    shared_text(json.into())
}

fn shared_text(json: Bytes) -> Message {
    Message::Text(Utf8Bytes::try_from(json).expect("JSON of our own or of the log is UTF-8"))
}
