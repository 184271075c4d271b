//! HTTP/2: many exchanges at once on one connection, each with an end of its own.
//!
//! A client says so at once (prior knowledge, RFC 9113, 3.3), or while TLS is agreed on (ALPN). The kernel bounds what HTTP/1.1 leaves waiting; here a peer that
//! acknowledges every byte may still take nothing, so that is looked after too.
//!
//! What `Connection: close` says of a connection of HTTP/1.1, GOAWAY says here (RFC 9113, 6.8): what is under way is answered, and the
//! client makes a new connection for what comes next. It leaves when the process is about to let its clients go, and with each
//! response that says `close`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::{Bounds, Line, Place, Reply, Service, Shutdown, text};

/// Bounds of one connection.
#[derive(Debug, Clone)]
pub struct Http2 {
    /// Requests at once.
    pub streams: u32,
    /// Headers of a request, decoded, with 32 bytes for each.
    pub header_list: u32,
    /// What is remembered of headers, to compress the next ones.
    pub header_table: u32,
    /// A frame.
    pub frame: u32,
    /// Bytes of one request's body that may be on their way.
    pub stream_window: u32,
    /// Bytes of all bodies together.
    pub connection_window: u32,
    /// Bytes of one response that are taken before the peer has room for them.
    pub send_buffer: usize,
    /// Requests that were taken back before they were looked at.
    pub resets: usize,
    /// Requests that had to be refused: too many at once, or against the protocol.
    pub errors: usize,
    /// Silence after which a ping asks whether the peer is there.
    pub ping_interval: Duration,
    /// How long its answer may take.
    pub ping_timeout: Duration,
    /// How long a response may wait for the peer to take some of it.
    pub write_timeout: Duration,
    /// Given when clients are about to be let go: connections that are there take nothing new.
    pub leaving: Shutdown,
}

/// Goes with a response, and is called when the peer has not been sent all of it.
#[derive(Clone)]
pub struct IfLost(pub Arc<dyn Fn() + Send + Sync>);

/// How a connection of HTTP/2 begins (RFC 9113, 3.4): no request of HTTP/1 does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a peer has to end a connection by itself on which nothing happens.
const LEAVE: Duration = Duration::from_secs(2);

/// Whether the peer speaks HTTP/2. Nothing is taken from the stream.
pub(super) async fn is_spoken(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    let mut pause = Duration::from_millis(1);
    loop {
        let seen = stream.peek(&mut start).await?;
        if seen == 0 || !PREFACE.starts_with(&start[..seen]) {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        // What is there stays there, so the socket is ready and cannot be waited for. A preface comes in one piece but for
        // clients that mean no good.
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve<L: Line, S: Service>(
    stream: L,
    bounds: &Bounds,
    http2: &Http2,
    mut shutdown: Shutdown,
    service: S,
    place: Place,
) {
    let streams = Arc::new(Streams::new());
    let answer = {
        let (service, streams, headers) = (service.clone(), Arc::clone(&streams), bounds.headers);
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(place.clone());
            let (service, stream) = (service.clone(), Stream::open(&streams));
            async move {
                let reply = if request.headers().len() > headers {
                    text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers\n")
                } else {
                    service.answer(request).await
                };
                Ok::<_, Infallible>(Whole::of(reply, stream))
            }
        })
    };
    let connection = builder(http2).serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let mut leaving = http2.leaving.clone();
    // Whoever comes later finds no other node: it is served, and told with its first response.
    let was_leaving = leaving.is_given();
    let idle = bounds.header_timeout;
    let mut look = Instant::now() + idle.min(http2.write_timeout);
    let mut ending = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    debug!(%error, "a connection ended early");
                }
                break;
            }
            () = shutdown.wait(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = leaving.wait(), if !ending && !was_leaving => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = streams.closes.notified(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(look) => match streams.look(Instant::now(), idle, http2.write_timeout) {
                Look::Again(at) => look = at,
                Look::Idle if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                    look = Instant::now() + LEAVE;
                }
                Look::Idle => break,
                Look::Stalled => {
                    debug!("a peer takes nothing of a response");
                    break;
                }
            },
        }
    }
    // That it ended in order does not say that everything was written before, so nothing is taken for certain.
    service.ended(false);
}

fn builder(bounds: &Http2) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(bounds.header_list)
        .header_table_size(bounds.header_table)
        .max_frame_size(bounds.frame)
        .initial_stream_window_size(bounds.stream_window)
        .initial_connection_window_size(bounds.connection_window)
        .max_send_buf_size(bounds.send_buffer)
        .max_pending_accept_reset_streams(bounds.resets)
        .max_local_error_reset_streams(bounds.errors)
        .keep_alive_interval(bounds.ping_interval)
        .keep_alive_timeout(bounds.ping_timeout);
    builder
}

/// What is under way on one connection.
struct Streams {
    open: Mutex<Open>,
    /// A response says that the connection is to be closed.
    closes: Notify,
}

struct Open {
    next: u64,
    /// Since when each waits for the peer to take something; those that are being answered do not.
    waiting_by_number: HashMap<u64, Option<Instant>>,
    /// When the last one ended.
    quiet_since: Instant,
}

/// What to do about a connection.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Look at it again then.
    Again(Instant),
    /// Nothing has happened on it for too long.
    Idle,
    /// A response waits for too long.
    Stalled,
}

impl Streams {
    fn new() -> Self {
        let open = Open {
            next: 0,
            waiting_by_number: HashMap::new(),
            quiet_since: Instant::now(),
        };
        Self {
            open: Mutex::new(open),
            closes: Notify::new(),
        }
    }

    fn look(&self, now: Instant, idle: Duration, stalled: Duration) -> Look {
        let open = self.open.lock();
        if open.waiting_by_number.is_empty() {
            let until = open.quiet_since + idle;
            return if until <= now {
                Look::Idle
            } else {
                Look::Again(until)
            };
        }
        let oldest = open.waiting_by_number.values().flatten().min();
        match oldest.map(|since| *since + stalled) {
            Some(until) if until <= now => Look::Stalled,
            Some(until) => Look::Again(until),
            None => Look::Again(now + idle.min(stalled)),
        }
    }
}

/// One of them, from its headers to the end of its response.
struct Stream {
    streams: Arc<Streams>,
    number: u64,
}

impl Stream {
    fn open(streams: &Arc<Streams>) -> Self {
        let mut open = streams.open.lock();
        let number = open.next;
        open.next += 1;
        open.waiting_by_number.insert(number, None);
        Self {
            streams: Arc::clone(streams),
            number,
        }
    }

    fn waits(&self) {
        let mut open = self.streams.open.lock();
        open.waiting_by_number.insert(self.number, Some(Instant::now()));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        open.waiting_by_number.remove(&self.number);
        open.quiet_since = Instant::now();
    }
}

/// A response's body: one piece, until it is taken.
struct Whole(Option<Piece>);

/// The bytes of a response. Whoever writes advances it, so what is left when it is dropped was never written.
struct Piece {
    bytes: Bytes,
    if_lost: Option<IfLost>,
    stream: Stream,
}

impl Whole {
    fn of(reply: Reply, stream: Stream) -> Response<Self> {
        let (mut parts, body) = reply.into_parts();
        let if_lost = parts.extensions.remove::<IfLost>();
        // No such header is known here.
        if parts.headers.remove(header::CONNECTION).is_some() {
            stream.streams.closes.notify_one();
        }
        let Ok(body) = body.collect().now_or_never().expect("a full body is there");
        stream.waits();
        let piece = Piece {
            bytes: body.to_bytes(),
            if_lost,
            stream,
        };
        Response::from_parts(parts, Self(piece.has_remaining().then_some(piece)))
    }
}

impl Body for Whole {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |piece| piece.remaining() as u64))
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.stream.waits();
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // The library may hold a lock of its own here, which nobody takes who holds one of ours.
        if let Some(IfLost(tell)) = self.if_lost.take().filter(|_| self.has_remaining()) {
            tell();
        }
    }
}
