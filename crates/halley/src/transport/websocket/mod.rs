//! `websocket`: frames with arrays of messages, both ways. Events are pushed, each in a frame of its own that all receivers
//! share unless `websocket.messages_per_frame` says otherwise; everything that waits for a socket leaves in one write.
//!
//! A socket outlives its sessions: it may be opened before there is one, and is not closed when its session says goodbye, goes
//! dormant or is forgotten. What comes next on it wakes the session or is answered 402. It is closed with
//!
//! | code | when |
//! |---|---|
//! | 1002 | the peer broke the WebSocket protocol |
//! | 1007 | a frame is no array of messages; the reason says what is wrong |
//! | 1008 | the peer asks again and again for a session that is unknown, and was told so; what it was known by was revoked; or it sends frame after frame without a message |
//! | 1009 | a message is larger than `websocket.max_message` |
//! | 1012 | the process ends, or is about to; the peer's answer proves what it has read; or the session is taken up by another node |
//! | 1013 | the log cannot be read or written |

mod beat;
mod frames;
mod road;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bayeux::codec::Body;
use bayeux::{Carrier, CarrierKind, Failure, Offset};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tracing::debug;

pub use beat::Beat;
pub use road::Leaving;
use road::{Plain, Road, Sealed};
use wire::{Errand, Io, SocketWire};

use super::exchange::{Exchanged, Place, exchange};
use super::unknown::{Lateness, Stray};
use super::{Attached, Connection, Public, Served, Transport};
use crate::http::{self, Reply, Secured};
use crate::metrics;
use crate::sessions::{Handle, Requester, Wire};

pub(super) const TRANSPORT: Transport = Transport {
    connection_type: "websocket",
    method: None,
    accepts: is_upgrade,
    answer: |public, connection, request| -> BoxFuture<'static, Reply> {
        Box::pin(answer(public, connection, request))
    },
};

const LABEL: metrics::Transport = metrics::Transport {
    transport: "websocket",
};

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

async fn answer(public: Arc<Public>, connection: Connection, mut request: Request<Incoming>) -> Reply {
    if public.drain.is_on() {
        public.count_refusal(Failure::Draining.label());
        return come_again("this node is about to end: come again\n");
    }
    let headers = request.headers();
    if request.version() != Version::HTTP_11 {
        return http::text(
            StatusCode::BAD_REQUEST,
            "HTTP/1.1 is upgraded, and nothing older\n",
        );
    }
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
    if !lists(headers, &header::CONNECTION, |word| {
        word.eq_ignore_ascii_case("upgrade")
    }) {
        return http::text(StatusCode::BAD_REQUEST, "Connection does not say Upgrade\n");
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return http::text(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing\n");
    };
    if !is_key(key.as_bytes()) {
        return http::text(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key is not 16 bytes in base64\n",
        );
    }
    let protocol = &public.config.websocket.protocol;
    if !protocol.is_empty() && !lists(headers, &header::SEC_WEBSOCKET_PROTOCOL, |word| word == protocol) {
        let text = format!(
            "the subprotocol {protocol} is spoken here, and Sec-WebSocket-Protocol does not offer it\n"
        );
        return http::text(StatusCode::BAD_REQUEST, text);
    }
    let accept = derive_accept_key(key.as_bytes());
    let mut response = switch_protocols(&accept, protocol);
    let mut who = public
        .requester(&connection, &request, request.uri().query())
        .await;
    let mut cookie = None;
    if who.browser.is_none() {
        let browser = public.browsers.issue();
        cookie = Some(public.browsers.set_cookie(&browser, connection.is_secure));
        who.browser = Some(browser);
    }
    let opening = Opening {
        public,
        who,
        place: request.extensions_mut().remove::<http::Place>(),
        upgrade: hyper::upgrade::on(&mut request),
    };
    // Boxed, what is only needed to begin: a socket lives on without it.
    let opened = Box::pin(open(opening));
    tokio::spawn(async move {
        if let Some(mut socket) = opened.await {
            socket.run().await;
        }
    });
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    // The session that it will speak for comes here.
    response.extensions_mut().insert(Served);
    response
}

fn come_again(why: &'static str) -> Reply {
    let mut response = http::text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    response
}

/// Whether one of the words of a header is wanted.
fn lists(headers: &HeaderMap, name: &HeaderName, is_wanted: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| is_wanted(word.trim()))
}

/// What RFC 6455 (4.2.1) makes of a key: 16 bytes.
fn is_key(key: &[u8]) -> bool {
    matches!(STANDARD.decode(key), Ok(key) if key.len() == 16)
}

/// Extensions are declined by leaving them out, and so is a subprotocol when none is spoken: a browser that insists on one then
/// closes by itself.
fn switch_protocols(accept: &str, protocol: &str) -> Reply {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if !protocol.is_empty()
        && let Ok(protocol) = HeaderValue::from_str(protocol)
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// What a socket is made of.
struct Opening {
    public: Arc<Public>,
    who: Requester,
    place: Option<http::Place>,
    upgrade: OnUpgrade,
}

/// A socket on TCP. One on TLS begins here a task of its own, or the one that waits would be as large for either.
async fn open(mut opening: Opening) -> Option<Socket<Plain>> {
    let upgraded = (&mut opening.upgrade)
        .await
        .inspect_err(|error| debug!(%error, "an upgrade failed"))
        .ok()?;
    // The buffer that hyper read into is much larger than what it read ahead, and a socket outlives it by hours.
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let read_ahead = parts.read_buf.to_vec();
            drop(parts.read_buf);
            Some(opening.make(Plain::of(parts.io.into_inner()), read_ahead).await)
        }
        Err(upgraded) => {
            let Ok(parts) = upgraded.downcast::<TokioIo<Secured>>() else {
                debug!("an upgrade of something that is neither TCP nor TLS");
                return None;
            };
            let read_ahead = parts.read_buf.to_vec();
            drop(parts.read_buf);
            let road = Sealed::of(parts.io.into_inner());
            let mut socket = opening.make(((), road), read_ahead).await;
            tokio::spawn(async move { socket.run().await });
            None
        }
    }
}

impl Opening {
    async fn make<R: Road>(self, road: (R::Reading, R), read_ahead: Vec<u8>) -> Socket<R> {
        let Self {
            public,
            who,
            place,
            upgrade: _,
        } = self;
        let (io, wire) = SocketWire::new(
            road,
            public.config.websocket.messages_per_frame,
            public.metrics.deliveries.get_or_create(&LABEL).clone(),
        );
        let config = configure(public.message_limit());
        let stream = WebSocketStream::from_partially_read(io, read_ahead, Role::Server, Some(config)).await;
        let carrier = public.sessions.carrier(CarrierKind::Socket);
        public.metrics.connections.get_or_create(&LABEL).inc();
        public.beat.add(&wire);
        Socket {
            public,
            who,
            stream,
            wire,
            carrier,
            bound: None,
            left: None,
            late: None,
            heard: Instant::now(),
            idle_frames: 0,
            _place: place,
        }
    }
}

/// The way out to a socket on which nobody is heard: for benches, which see what an event costs up to the system call.
#[doc(hidden)]
pub fn socket_wire(stream: TcpStream, messages_per_frame: usize) -> Arc<dyn Wire> {
    let (_, wire) = SocketWire::new(Plain::of(stream), messages_per_frame, Counter::default());
    wire
}

/// tungstenite's defaults cost 135 KiB a socket and bound nothing. The buffer for reading is kept by an idle socket; it holds
/// what clients usually say, and grows with a larger message.
fn configure(message_limit: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(512)
        .write_buffer_size(64 << 10)
        .max_write_buffer_size(2 << 20)
        .max_message_size(Some(message_limit))
        .max_frame_size(Some(message_limit))
}

/// So many frames of a socket that cannot be written to any more are looked at.
const REST: usize = 64;

/// Why a socket ends.
#[derive(Debug)]
enum End {
    /// The peer closed it, or the network did.
    Closed,
    /// The peer does not answer pings.
    Silent,
    /// The peer does not read.
    Stalled,
    /// The peer broke the protocol, or a rule of this name; it was told.
    Violation(&'static str),
    /// The process is ending; the peer was told to come back.
    Shutdown,
    /// Its session is on another node.
    Elsewhere,
    /// The log cannot be read or written.
    LogFailed,
}

impl End {
    fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Violation(rule) => rule,
            Self::Shutdown => "shutdown",
            Self::Elsewhere => "elsewhere",
            Self::LogFailed => "log_failed",
        }
    }
}

struct Socket<R: Road> {
    public: Arc<Public>,
    who: Requester,
    stream: WebSocketStream<Io<R>>,
    /// Where everything is written to, from here through `stream`.
    wire: Arc<SocketWire<R>>,
    carrier: Carrier,
    /// The session that this socket speaks for.
    bound: Option<Attached>,
    /// The session that it spoke for before another carrier did: it is to hear how this one ends.
    left: Option<Arc<Handle>>,
    /// What waits to be said. Boxed: few sockets have it.
    late: Option<Box<Late>>,
    /// When the peer was last heard.
    heard: Instant,
    /// Frames without messages since the last reminder.
    idle_frames: u32,
    /// Among the connections that the listener allows.
    _place: Option<http::Place>,
}

impl<R: Road> Drop for Socket<R> {
    fn drop(&mut self) {
        self.public.metrics.connections.get_or_create(&LABEL).dec();
    }
}

/// Replies about a session that is unknown, to a peer that asks for it again and again. Until they have left nothing else of
/// it is heard but one message, so that it is noticed when the peer goes away.
struct Late {
    due: tokio::time::Instant,
    replies: Bytes,
    /// Close the socket behind them.
    refused: bool,
    next: Option<Utf8Bytes>,
}

/// What a socket waits for.
enum Step {
    Frame(Option<Result<Message, Error>>),
    Late,
    Errand(Errand),
}

impl<R: Road> Socket<R> {
    async fn run(&mut self) {
        let reason = self.run_to_its_end().await;
        let result = reason.label();
        let ends = &self.public.metrics.socket_ends;
        ends.get_or_create(&metrics::Outcome { result }).inc();
        debug!(?reason, "a socket ended");
        if let End::Violation(_) = reason {
            Box::pin(self.linger()).await;
        }
    }

    async fn run_to_its_end(&mut self) -> End {
        loop {
            let step = tokio::select! {
                frame = self.stream.next(), if listens(self.late.as_deref()) => Step::Frame(frame),
                () = due(self.late.as_deref()) => Step::Late,
                errand = errand(&self.wire) => Step::Errand(errand),
            };
            let done = match step {
                Step::Frame(Some(Ok(Message::Pong(payload)))) if self.is_patient() => {
                    self.handle_pong(&payload);
                    Ok(())
                }
                // Boxed: a socket waits far longer than it works, and what it needs only for work need not wait with it.
                Step::Frame(frame) => Box::pin(self.handle_frame(frame)).await,
                Step::Late => Box::pin(self.handle_late()).await,
                Step::Errand(errand) => Box::pin(self.handle_errand(errand)).await,
            };
            if let Err(end) = done {
                self.hear_the_rest();
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
                Err(End::Violation("too_large"))
            }
            Some(Err(Error::Utf8(_))) => {
                self.close(CloseCode::Invalid, "a text that is no UTF-8").await;
                Err(End::Violation("invalid"))
            }
            Some(Err(_)) => {
                self.close(CloseCode::Protocol, "protocol error").await;
                Err(End::Violation("protocol"))
            }
            Some(Ok(Message::Text(text))) if !text.trim_ascii().is_empty() => self.handle_text(text).await,
            // Pings are answered by the library, a close is acknowledged by it, and binary frames mean nothing here.
            Some(Ok(
                Message::Text(_)
                | Message::Ping(_)
                | Message::Pong(_)
                | Message::Binary(_)
                | Message::Frame(_),
            )) => self.handle_idle_frame().await,
            Some(Ok(Message::Close(_))) => {
                self.handle_close();
                let _ = self.stream.flush().await;
                Err(End::Closed)
            }
        }
    }

    /// Whether another frame without messages may come before the next reminder.
    fn is_patient(&mut self) -> bool {
        self.idle_frames = self.idle_frames.saturating_add(1);
        self.idle_frames <= self.public.config.websocket.idle_frames
    }

    async fn handle_idle_frame(&mut self) -> Result<(), End> {
        if self.is_patient() {
            return Ok(());
        }
        self.close(CloseCode::Policy, "too many frames without messages")
            .await;
        Err(End::Violation("idle_frames"))
    }

    async fn handle_text(&mut self, text: Utf8Bytes) -> Result<(), End> {
        if let Some(late) = &mut self.late {
            late.next = Some(text);
            return Ok(());
        }
        self.wire.is_handling(true);
        let bound = self.bound.as_ref().map(|attached| &attached.handle);
        let mut exchanged = match exchange(&self.public, &mut self.who, self.carrier, bound, &[text]).await {
            Ok(Ok(exchanged)) => exchanged,
            Ok(Err(_)) => {
                self.close(CloseCode::Again, "the log is unavailable").await;
                return Err(End::LogFailed);
            }
            Err(error) => {
                // What cannot be parsed has no id to answer, and a client that sends it cannot be helped by a reply.
                self.close(CloseCode::Invalid, &error.to_string()).await;
                return Err(End::Violation("invalid"));
            }
        };
        let attached = exchanged.attached.take();
        let replies = replies(&exchanged);
        match exchanged.unknown.map(|stray| self.judge(&stray)) {
            Some(lateness) if lateness.delay > Duration::ZERO || lateness.refused => {
                self.late = Some(Box::new(Late {
                    due: tokio::time::Instant::now() + lateness.delay,
                    replies,
                    refused: lateness.refused,
                    next: None,
                }));
                Ok(())
            }
            Some(_) | None if replies.is_empty() => Ok(()),
            Some(_) | None => self.say(replies).await,
        }?;
        self.attach(attached);
        Ok(())
    }

    /// Speaks for another session from now on, if there is one, and sends what the session has.
    fn attach(&mut self, attached: Option<Attached>) {
        if let Some(attached) = attached {
            let wire: Arc<dyn Wire> = self.wire.clone();
            self.public.sessions.attach(&attached.handle, self.carrier, wire);
            self.bound = Some(attached);
        }
        self.wire.is_handling(false);
        self.pump();
    }

    fn judge(&self, stray: &Stray) -> Lateness {
        let speaks =
            (self.bound.as_ref()).is_some_and(|attached| self.public.sessions.is_here(&attached.handle));
        self.public.judge(self.who.origin.client, stray, speaks)
    }

    async fn handle_late(&mut self) -> Result<(), End> {
        let Some(late) = self.late.take() else {
            return Ok(());
        };
        self.say(late.replies).await?;
        if late.refused {
            self.close(CloseCode::Policy, "the session is unknown, and was so before")
                .await;
            return Err(End::Violation("session_unknown"));
        }
        match late.next {
            Some(text) => self.handle_text(text).await,
            None => Ok(()),
        }
    }

    async fn handle_errand(&mut self, errand: Errand) -> Result<(), End> {
        match errand {
            Errand::Failed => Err(End::Closed),
            Errand::Superseded => {
                let left = self.bound.take().map(|attached| Arc::clone(&attached.handle));
                if left.as_ref().is_some_and(|handle| handle.is_elsewhere()) {
                    self.close(CloseCode::Restart, "the session goes on at another node")
                        .await;
                    return Err(End::Elsewhere);
                }
                self.left = left;
                Ok(())
            }
            Errand::Refused => {
                self.close(CloseCode::Policy, "the credentials were revoked")
                    .await;
                Err(End::Violation("revoked"))
            }
            Errand::ReadLog(after) => self.read_log(after).await,
            Errand::KeepAlive => self.handle_keep_alive().await,
            Errand::Shutdown => {
                self.say_goodbye().await;
                Err(End::Shutdown)
            }
            Errand::Flush => {
                self.flush().await?;
                self.pump();
                Ok(())
            }
        }
    }

    /// Waits until the kernel has taken everything. A write that stalls closes the socket; the session stays.
    async fn flush(&mut self) -> Result<(), End> {
        let limit = self.public.config.websocket.write_timeout.0;
        match tokio::time::timeout(limit, self.wire.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Closed),
            Err(_) => Err(End::Stalled),
        }
    }

    /// Sends what the session has.
    fn pump(&self) {
        if let Some(attached) = &self.bound {
            self.public.sessions.pump(&attached.handle);
        }
    }

    async fn read_log(&mut self, after: Offset) -> Result<(), End> {
        let Some(attached) = &self.bound else {
            return Ok(());
        };
        // What was read is sent by whoever hands it to the session.
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

    fn handle_pong(&mut self, payload: &[u8]) {
        self.heard = Instant::now();
        if let (Some(attached), Ok(offset)) = (&self.bound, <[u8; 8]>::try_from(payload)) {
            let offset = Offset(u64::from_be_bytes(offset));
            self.public
                .sessions
                .handle_pong(&attached.handle, self.carrier, offset);
        }
    }

    fn handle_close(&self) {
        let bound = self.bound.as_ref().map(|attached| &attached.handle);
        for handle in bound.into_iter().chain(&self.left) {
            self.public.sessions.handle_close(handle, self.carrier);
        }
    }

    /// The socket is at its end, perhaps because writing failed. The peer may have closed the socket before that, and said so: what it said is still there to be read.
    fn hear_the_rest(&mut self) {
        for _ in 0..REST {
            let Some(Some(Ok(message))) = self.stream.next().now_or_never() else {
                return;
            };
            match message {
                Message::Pong(payload) => self.handle_pong(&payload),
                Message::Close(_) => self.handle_close(),
                Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Frame(_) => {}
            }
        }
    }

    async fn handle_keep_alive(&mut self) -> Result<(), End> {
        let settings = &self.public.config.websocket;
        let silence = self.heard.elapsed();
        if silence > settings.ping_interval.0 + settings.pong_timeout.0 {
            return Err(End::Silent);
        }
        self.idle_frames = 0;
        self.wire.ask_again();
        self.flush().await
    }

    /// One frame with all of these messages.
    async fn say(&mut self, messages: Bytes) -> Result<(), End> {
        self.wire.say(messages);
        self.flush().await
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

    /// Reads on for a while and heeds nothing: a socket that is dropped with something unread takes back what the peer has not
    /// read yet, which is why it was closed.
    async fn linger(&mut self) {
        self.bound = None;
        self.wire.end();
        let mut unheard = [0; 4096];
        let heard = async { while let Ok(1..) = self.stream.get_mut().read(&mut unheard).await {} };
        let _ = tokio::time::timeout(GOODBYE, heard).await;
    }

    async fn close(&mut self, code: CloseCode, reason: &str) {
        self.wire.close();
        let close = Message::Close(Some(CloseFrame {
            code,
            reason: reason[..reason.floor_char_boundary(REASON_BYTES)].into(),
        }));
        // The library has to know of it, to understand the answer.
        let limit = self.public.config.websocket.write_timeout.0;
        match tokio::time::timeout(limit, self.stream.send(close)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "a close frame was not sent"),
            Err(_) => debug!("a close frame was not sent in time"),
        }
    }
}

/// The next errand of a wire.
async fn errand<R: Road>(wire: &SocketWire<R>) -> Errand {
    std::future::poll_fn(|context| wire.poll_errand(context)).await
}

/// The replies that are there; those to connects come when the session has them.
fn replies(exchanged: &Exchanged) -> Bytes {
    let mut body = Body::default();
    for place in &exchanged.replies {
        match place {
            Place::Reply(reply) => body.reply(reply),
            Place::Greeting(_) | Place::Connect(_) => {}
        }
    }
    if body.is_empty() {
        Bytes::new()
    } else {
        body.finish().into()
    }
}

/// Whether the next frame is read.
fn listens(late: Option<&Late>) -> bool {
    late.is_none_or(|late| late.next.is_none())
}

async fn due(late: Option<&Late>) {
    match late {
        // Boxed, as few sockets need it.
        Some(late) => Box::pin(tokio::time::sleep_until(late.due)).await,
        None => std::future::pending().await,
    }
}
