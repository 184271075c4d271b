//! The HTTP listener that both sides share: accept, limits, deadlines, shutdown.

mod client;
mod http2;
mod tls;

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

pub use client::connector;
pub use http2::{Http2, IfLost};
pub use tls::{Certificate, Secured, Tls, TlsError};

/// A response with its whole body.
pub type Reply = Response<Full<Bytes>>;

/// Bounds of a listener.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Time for the headers of a request; also for how long a kept-alive connection may idle.
    pub header_timeout: Duration,
    /// Headers of a request.
    pub headers: usize,
    /// Their length, with the request line.
    pub header_bytes: usize,
    /// Time for the body of a request.
    pub body_timeout: Duration,
    /// Connections at once; more wait in the accept queue.
    pub connections: usize,
    /// Bounds of a connection that speaks HTTP/2, if that may be.
    pub http2: Option<Http2>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where it comes.
    pub address: SocketAddr,
    /// Nobody on the way reads along.
    pub is_secure: bool,
    /// What it showed, and proved to have, where certificates are asked for.
    pub certificate: Option<Arc<Certificate>>,
}

/// What answers requests: one value for each connection.
pub trait Service: Clone + Send + Sync + 'static {
    /// Answers one request.
    fn answer(self, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;

    /// The connection ended; `clean` is false when reading or writing failed, so that the last response (on HTTP/2: any) may not
    /// have arrived.
    fn ended(&self, clean: bool);
}

/// Says that the process is going to end.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// The switch and the signal.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits for the signal.
    pub async fn wait(&mut self) {
        // An error means that the switch is gone, and with it the app.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }

    /// Whether it was given.
    pub fn is_given(&self) -> bool {
        *self.0.borrow()
    }
}

/// One of the connections that a listener allows. It goes with each request, so that what outlives HTTP keeps it.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "held, never looked at")] Arc<OwnedSemaphorePermit>);

/// A listener that cannot accept says so this often at most.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// A peer that takes nothing of what it was sent for this long is gone.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Accepts connections until shutdown, and returns when the last of them has ended; `service` makes what answers the requests
/// of one.
pub async fn listen<S: Service>(
    listener: TcpListener,
    bounds: Bounds,
    tls: Option<Arc<Tls>>,
    mut shutdown: Shutdown,
    service: impl Fn(Peer) -> S + Send + Sync + 'static,
) {
    let bounds = Arc::new(bounds);
    let service = Arc::new(service);
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut complained: Option<Instant> = None;
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                prepare(&stream);
                let (bounds, shutdown) = (Arc::clone(&bounds), shutdown.clone());
                let place = Place(Arc::new(place));
                let peer = Peer {
                    address,
                    is_secure: false,
                    certificate: None,
                };
                match &tls {
                    None => drop(tokio::spawn(serve(
                        stream,
                        bounds,
                        shutdown,
                        service(peer),
                        place,
                    ))),
                    Some(tls) => {
                        let (tls, service) = (Arc::clone(tls), Arc::clone(&service));
                        tokio::spawn(serve_securely(
                            tls, stream, bounds, shutdown, peer, service, place,
                        ));
                    }
                }
            }
            Err(error) => {
                // Out of file descriptors, mostly: back off, or the loop spins.
                if complained.is_none_or(|at| at.elapsed() >= COMPLAINTS) {
                    complained = Some(Instant::now());
                    warn!(%error, "cannot accept a connection; it waits");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    // Whoever comes now is refused at once rather than left waiting.
    drop(listener);
    let all = u32::try_from(bounds.connections).unwrap_or(u32::MAX);
    drop(places.acquire_many(all).await);
}

async fn serve_securely<S: Service>(
    tls: Arc<Tls>,
    stream: TcpStream,
    bounds: Arc<Bounds>,
    mut shutdown: Shutdown,
    mut peer: Peer,
    service: Arc<impl Fn(Peer) -> S>,
    place: Place,
) {
    // Boxed: what it takes to begin is not to be kept as long as the connection lives.
    let secured = tokio::select! {
        secured = Box::pin(tls.secure(stream, peer.address)) => secured,
        () = shutdown.wait() => None,
    };
    let Some(secured) = secured else {
        return;
    };
    peer.is_secure = true;
    peer.certificate = tls::certificate_of(&secured);
    Box::pin(serve(secured, bounds, shutdown, service(peer), place)).await;
}

/// What HTTP is spoken over.
trait Line: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether the peer speaks HTTP/2, as soon as it has said so.
    fn speaks_http2(&self) -> impl Future<Output = io::Result<bool>> + Send;
}

impl Line for TcpStream {
    fn speaks_http2(&self) -> impl Future<Output = io::Result<bool>> + Send {
        http2::is_spoken(self)
    }
}

impl Line for Secured {
    /// It was agreed on with the rest (ALPN).
    fn speaks_http2(&self) -> impl Future<Output = io::Result<bool>> + Send {
        std::future::ready(Ok(tls::agreed_on_http2(self)))
    }
}

async fn serve<L: Line, S: Service>(
    stream: L,
    bounds: Arc<Bounds>,
    mut shutdown: Shutdown,
    service: S,
    place: Place,
) {
    if let Some(http2) = &bounds.http2 {
        // Boxed, both: a connection of HTTP/1.1 is not to pay for what it does not use.
        match Box::pin(speaks_http2(&stream, bounds.header_timeout, &mut shutdown)).await {
            None => return,
            Some(true) => {
                return Box::pin(http2::serve(stream, &bounds, http2, shutdown, service, place)).await;
            }
            Some(false) => {}
        }
    }
    let answer = {
        let service = service.clone();
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(place.clone());
            let service = service.clone();
            async move { Ok::<_, std::convert::Infallible>(service.answer(request).await) }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .max_headers(bounds.headers)
        .max_header_size(bounds.header_bytes)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = &result {
        debug!(%error, "a connection ended early");
    }
    service.ended(result.is_ok());
}

fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED)) {
        debug!(%error, "cannot set TCP_USER_TIMEOUT");
    }
}

/// Whether the peer speaks HTTP/2, if it says anything in time.
async fn speaks_http2<L: Line>(stream: &L, time: Duration, shutdown: &mut Shutdown) -> Option<bool> {
    tokio::select! {
        spoken = tokio::time::timeout(time, stream.speaks_http2()) => spoken.ok()?.ok(),
        () = shutdown.wait() => None,
    }
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyRefused {
    /// Longer than allowed.
    TooLarge,
    /// Not complete in time.
    TooSlow,
    /// The peer stopped, or broke the framing.
    Broken,
}

impl BodyRefused {
    /// A short constant name, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "body_too_large",
            Self::TooSlow => "body_too_slow",
            Self::Broken => "body_broken",
        }
    }

    /// The HTTP status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a whole body of at most `limit` bytes within `time`.
pub async fn read_body(body: Incoming, limit: usize, time: Duration) -> Result<Bytes, BodyRefused> {
    // What says that it is too long need not be waited for.
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyRefused::TooLarge);
    }
    match tokio::time::timeout(time, side_by_side(Limited::new(body, limit))).await {
        Err(_) => Err(BodyRefused::TooSlow),
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyRefused::TooLarge),
        Ok(Err(_)) => Err(BodyRefused::Broken),
    }
}

/// The pieces of a body. Each of them keeps the whole buffer that it was read into, 8 KiB for a body that comes byte by byte, so
/// only one that is alone stays as it is.
async fn side_by_side(mut body: Limited<Incoming>) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let (mut first, mut copied) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else {
            continue;
        };
        if first.is_empty() && copied.is_empty() {
            first = piece;
        } else {
            copied.extend_from_slice(&std::mem::take(&mut first));
            copied.extend_from_slice(&piece);
        }
    }
    Ok(if copied.is_empty() { first } else { copied.into() })
}

/// A plain text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    with_type(status, "text/plain; charset=utf-8", text.into())
}

/// A JSON document.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    with_type(status, "application/json", body.into())
}

/// A refusal that is for now says when to come again, by itself or by this.
pub fn say_when(mut reply: Reply) -> Reply {
    let status = reply.status();
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
        let headers = reply.headers_mut();
        headers.entry(header::RETRY_AFTER).or_insert_with(|| 1.into());
    }
    reply
}

/// A body of any type.
pub fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Nobody(#[expect(dead_code, reason = "as large as those that are somebody")] [Arc<u8>; 2]);

    impl Service for Nobody {
        async fn answer(self, _: Request<Incoming>) -> Reply {
            text(StatusCode::OK, "")
        }

        fn ended(&self, _: bool) {}
    }

    #[test]
    fn a_refusal_that_is_for_now_says_when_to_come_again() {
        let said = |status: StatusCode| {
            let reply = say_when(text(status, ""));
            reply.headers().get(header::RETRY_AFTER).cloned()
        };
        assert!(said(StatusCode::TOO_MANY_REQUESTS).is_some_and(|seconds| seconds == "1"));
        assert!(said(StatusCode::SERVICE_UNAVAILABLE).is_some_and(|seconds| seconds == "1"));
        assert_eq!(said(StatusCode::BAD_REQUEST), None);
        let mut later = text(StatusCode::SERVICE_UNAVAILABLE, "");
        later.headers_mut().insert(header::RETRY_AFTER, 7.into());
        assert_eq!(say_when(later).headers()[header::RETRY_AFTER], "7");
    }

    #[tokio::test]
    async fn a_connection_of_http1_does_not_pay_for_http2() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(addr).await.expect("a connection");
        let bounds = Bounds {
            header_timeout: Duration::ZERO,
            headers: 0,
            header_bytes: 0,
            body_timeout: Duration::ZERO,
            connections: 1,
            http2: None,
        };
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("one");
        let service = Nobody([Arc::new(0), Arc::new(0)]);
        let (_switch, shutdown) = Shutdown::new();
        let connection = serve(stream, bounds.into(), shutdown, service, Place(Arc::new(permit)));
        // What it was before HTTP/2 was spoken.
        assert!(size_of_val(&connection) <= 1_088, "{}", size_of_val(&connection));
    }
}
