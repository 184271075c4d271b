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
//! | 1008 | the peer asks again and again for a session that is unknown, and was told so |
//! | 1009 | a message is larger than `websocket.max_message` |
//! | 1012 | the process ends; the peer's answer proves what it has read |
//! | 1013 | the log cannot be read or written |

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::codec::Body;
use bayeux::{Carrier, CarrierKind, Delivery, Direct, Offset, Output};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
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
use super::unknown::{Lateness, Stray};
use super::{Attached, Connection, Public, Transport};
use crate::http::{self, Reply};
use crate::metrics;
use crate::sessions::Requester;

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

/// Bytes of events in one write; more waits for the next one, so that a slow socket holds no more than this.
const WRITE_BYTES: usize = 256 << 10;

/// Bytes of events that share a frame: clients that were not told otherwise close a socket that brings a frame of more than
/// 64 KiB. A larger event has a frame of its own.
const FRAME_BYTES: usize = 48 << 10;

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
    let protocol = &public.config.websocket.protocol;
    if !protocol.is_empty() && !is_offered(headers, protocol) {
        let text = format!(
            "the subprotocol {protocol} is spoken here, and Sec-WebSocket-Protocol does not offer it\n"
        );
        return http::text(StatusCode::BAD_REQUEST, text);
    }
    let accept = derive_accept_key(key.as_bytes());
    let mut response = switch_protocols(&accept, protocol);
    let mut who = public.requester(&request).await;
    let mut cookie = None;
    if who.browser.is_none() {
        let browser = public.browsers.issue();
        cookie = Some(public.browsers.set_cookie(&browser));
        who.browser = Some(browser);
    }
    let place = request.extensions_mut().remove::<http::Place>();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        run(public, connection.peer, who, upgrade).await;
        drop(place);
    });
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn is_offered(headers: &HeaderMap, protocol: &str) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offered| offered.trim() == protocol)
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

async fn run(public: Arc<Public>, peer: IpAddr, who: Requester, upgrade: OnUpgrade) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return debug!(%error, "an upgrade failed"),
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return debug!("an upgrade of something that is no TCP connection");
    };
    let config = configure(public.message_limit());
    let stream = parts.io.into_inner();
    let read_ahead = parts.read_buf.to_vec();
    let stream = WebSocketStream::from_partially_read(stream, read_ahead, Role::Server, Some(config)).await;
    let carrier = public.sessions.carrier(CarrierKind::Socket);
    public.metrics.connections.get_or_create(&LABEL).inc();
    let mut socket = Socket {
        public: Arc::clone(&public),
        peer,
        who,
        stream,
        carrier,
        bound: None,
        late: None,
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
    peer: IpAddr,
    who: Requester,
    stream: WebSocketStream<TcpStream>,
    carrier: Carrier,
    /// The session that this socket speaks for.
    bound: Option<Attached>,
    /// What waits to be said. Boxed: few sockets have it.
    late: Option<Box<Late>>,
    /// When the peer was last heard.
    heard: Instant,
    /// What the last ping carried: the eight bytes of an offset, or nothing. A keep-alive ping carries it again, since a peer
    /// may answer only the newest of several pings.
    asked: Bytes,
}

/// Replies about a session that is unknown, to a peer that asks for it again and again. Until they have left nothing else of
/// it is heard but one message, so that it is noticed when the peer goes away.
struct Late {
    due: tokio::time::Instant,
    replies: Vec<Message>,
    /// Close the socket behind them.
    refused: bool,
    next: Option<Utf8Bytes>,
}

/// What a socket waits for.
enum Step {
    Frame(Option<Result<Message, Error>>),
    Late,
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
                frame = self.stream.next(), if listens(self.late.as_deref()) => Step::Frame(frame),
                () = due(self.late.as_deref()) => Step::Late,
                outputs = outputs(&self.public, self.bound.as_ref()) => Step::Outputs(outputs),
                _ = keep_alive.tick() => Step::KeepAlive,
                () = shutdown.wait() => Step::Shutdown,
            };
            let done = match step {
                // Boxed: a socket waits far longer than it works, and what it needs only for work need not wait with it.
                Step::Frame(frame) => Box::pin(self.handle_frame(frame)).await,
                Step::Late => Box::pin(self.handle_late()).await,
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
            Some(Ok(Message::Text(text))) => self.handle_text(text).await,
            Some(Ok(Message::Pong(payload))) => {
                self.handle_pong(&payload);
                Ok(())
            }
            // Pings are answered by the library, a close is acknowledged by it, and binary frames mean nothing here.
            Some(Ok(Message::Ping(_) | Message::Binary(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => {
                if let Some(attached) = &self.bound {
                    self.public.sessions.handle_close(&attached.handle, self.carrier);
                }
                let _ = self.stream.flush().await;
                Err(End::Closed)
            }
        }
    }

    async fn handle_text(&mut self, text: Utf8Bytes) -> Result<(), End> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        if let Some(late) = &mut self.late {
            late.next = Some(text);
            return Ok(());
        }
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
                return Err(End::Violation);
            }
        };
        if let Some(attached) = exchanged.attached.take() {
            self.bound = Some(attached);
        }
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
            Some(_) | None => self.write(replies).await,
        }
    }

    fn judge(&self, stray: &Stray) -> Lateness {
        let speaks =
            (self.bound.as_ref()).is_some_and(|attached| self.public.sessions.is_here(&attached.handle));
        self.public.judge(self.peer, stray, speaks)
    }

    async fn handle_late(&mut self) -> Result<(), End> {
        let Some(late) = self.late.take() else {
            return Ok(());
        };
        self.write(late.replies).await?;
        if late.refused {
            self.close(CloseCode::Policy, "the session is unknown, and was so before")
                .await;
            return Err(End::Violation);
        }
        match late.next {
            Some(text) => self.handle_text(text).await,
            None => Ok(()),
        }
    }

    async fn handle_outputs(&mut self, outputs: Vec<Output>) -> Result<(), End> {
        let mut events = 0;
        // In one frame, or a socket that breaks between frames leaves its client with events that it cannot acknowledge.
        // What follows a handshake's reply, which announced it, is no answer to a connect.
        let in_one_frame = outputs
            .iter()
            .any(|output| matches!(output, Output::Reply(reply) if !reply.opens_session()))
            && (self.bound.as_ref()).is_some_and(|attached| attached.handle.answers_as_a_whole());
        let mut frames = if in_one_frame {
            Frames::whole()
        } else {
            Frames::of(self.public.config.websocket.messages_per_frame)
        };
        let mut read_after = None;
        for output in outputs {
            match output {
                Output::Event(event) => {
                    events += 1;
                    frames.event(event);
                }
                Output::Direct(message) => frames.message(Outgoing::Direct(message)),
                Output::Reply(reply) => {
                    if !in_one_frame {
                        frames.end_frame();
                    }
                    frames.reply(&reply);
                }
                Output::Ping(offset) => {
                    self.asked = Bytes::copy_from_slice(&offset.0.to_be_bytes());
                    frames.ping(self.asked.clone());
                }
                Output::ReadLog(after) => read_after = Some(after),
                Output::Superseded => self.bound = None,
            }
        }
        let frames = frames.finish();
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

/// A message that was asked for by nobody.
enum Outgoing {
    Event(Arc<Delivery>),
    Direct(Direct),
}

impl Outgoing {
    /// The message as a frame of its own.
    fn frame(&self) -> &Bytes {
        match self {
            Self::Event(event) => event.frame(),
            Self::Direct(message) => message.frame(),
        }
    }

    fn add_to(&self, body: &mut Body) {
        match self {
            Self::Event(event) => body.event(event),
            Self::Direct(message) => body.direct(message),
        }
    }
}

/// What leaves in one write.
struct Frames {
    done: Vec<Message>,
    /// Messages that share the next frame.
    group: Vec<Outgoing>,
    group_bytes: usize,
    /// Messages of one frame, and their bytes.
    most: usize,
    most_bytes: usize,
}

impl Frames {
    /// With up to `messages` of them in a frame; 0 is no limit.
    fn of(messages: usize) -> Self {
        let most = if messages == 0 { usize::MAX } else { messages };
        Self::up_to(most, FRAME_BYTES)
    }

    /// With everything in one frame.
    fn whole() -> Self {
        Self::up_to(usize::MAX, usize::MAX)
    }

    fn up_to(most: usize, most_bytes: usize) -> Self {
        Self {
            done: Vec::new(),
            group: Vec::new(),
            group_bytes: 0,
            most,
            most_bytes,
        }
    }

    fn event(&mut self, event: Arc<Delivery>) {
        self.message(Outgoing::Event(event));
    }

    fn message(&mut self, message: Outgoing) {
        if self.most == 1 {
            return self.done.push(shared_text(message.frame().clone()));
        }
        let size = message.frame().len();
        if self.group.len() == self.most || size > self.most_bytes.saturating_sub(self.group_bytes) {
            self.end_frame();
        }
        self.group_bytes += size;
        self.group.push(message);
    }

    /// With the messages that wait for its frame before it.
    fn reply(&mut self, reply: &bayeux::Reply) {
        let mut body = Body::default();
        self.group.iter().for_each(|message| message.add_to(&mut body));
        body.reply(reply);
        self.group.clear();
        self.group_bytes = 0;
        self.done.push(text(body.finish()));
    }

    fn ping(&mut self, payload: Bytes) {
        self.end_frame();
        self.done.push(Message::Ping(payload));
    }

    /// What comes next is in another frame. A message that is alone in its frame is not copied.
    fn end_frame(&mut self) {
        if let [message] = self.group.as_slice() {
            self.done.push(shared_text(message.frame().clone()));
        } else if !self.group.is_empty() {
            let mut body = Body::default();
            self.group.iter().for_each(|message| message.add_to(&mut body));
            self.done.push(text(body.finish()));
        }
        self.group.clear();
        self.group_bytes = 0;
    }

    fn finish(mut self) -> Vec<Message> {
        self.end_frame();
        self.done
    }
}

/// One frame with the replies that are there; those to connects come when the session has them.
fn replies(exchanged: &Exchanged) -> Vec<Message> {
    let mut body = Body::default();
    for place in &exchanged.replies {
        match place {
            Place::Reply(reply) => body.reply(reply),
            Place::Greeting(_) | Place::Connect(_) => {}
        }
    }
    if body.is_empty() {
        Vec::new()
    } else {
        vec![text(body.finish())]
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

fn text(json: Vec<u8>) -> Message {
    shared_text(json.into())
}

fn shared_text(json: Bytes) -> Message {
    Message::Text(Utf8Bytes::try_from(json).expect("JSON of our own or of the log is UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(offset: u64, length: usize) -> Arc<Delivery> {
        let data = serde_json::value::to_raw_value(&"x".repeat(length)).unwrap();
        let channel = bayeux::ChannelName::parse("/a").unwrap();
        Arc::new(Delivery::encode(Offset(offset), channel, &data))
    }

    /// How many messages each frame has.
    fn sizes(messages_per_frame: usize, events: &[Arc<Delivery>]) -> Vec<usize> {
        let mut frames = Frames::of(messages_per_frame);
        events.iter().for_each(|event| frames.event(Arc::clone(event)));
        let frames = frames.finish();
        frames
            .iter()
            .map(|frame| serde_json::from_str::<Vec<serde_json::Value>>(frame.to_text().unwrap()))
            .map(|messages| messages.unwrap().len())
            .collect()
    }

    #[test]
    fn a_frame_has_as_many_messages_as_is_said_and_all_that_wait_for_0() {
        let events: Vec<_> = (1..=5).map(|offset| event(offset, 1)).collect();
        assert_eq!(sizes(1, &events), [1, 1, 1, 1, 1]);
        assert_eq!(sizes(2, &events), [2, 2, 1]);
        assert_eq!(sizes(0, &events), [5]);
    }

    #[test]
    fn messages_share_no_frame_that_clients_would_close_the_socket_for() {
        let events: Vec<_> = [20, 20, 20, 100, 1, 1].map(|kib| event(1, kib << 10)).into();
        assert_eq!(sizes(0, &events), [2, 1, 1, 2]);
    }

    #[test]
    fn an_event_alone_in_its_frame_is_not_copied() {
        let event = event(1, 1);
        for messages_per_frame in [0, 1, 2] {
            let mut frames = Frames::of(messages_per_frame);
            frames.event(Arc::clone(&event));
            let frames = frames.finish();
            assert_eq!(frames[0].to_text().unwrap().as_ptr(), event.frame().as_ptr());
        }
    }

    #[test]
    fn a_ping_follows_what_it_asks_about() {
        let mut frames = Frames::of(0);
        frames.event(event(1, 1));
        frames.ping(Bytes::new());
        frames.event(event(2, 1));
        let frames = frames.finish();
        assert!(frames[0].is_text() && frames[1].is_ping() && frames[2].is_text());
    }
}
