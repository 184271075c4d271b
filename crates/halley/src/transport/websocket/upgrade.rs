//! The upgrade: what it takes to become a socket, and what a socket begins with.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bayeux::{CarrierKind, Failure};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tracing::debug;

use super::road::{Plain, Road, Sealed};
use super::wire::SocketWire;
use super::{LABEL, Socket};
use crate::http::{self, Reply, Secured};
use crate::sessions::Requester;
use crate::transport::{Connection, Public, Served};

pub(super) fn is_upgrade(request: &Request<Incoming>) -> bool {
    let upgrade = request
        .headers()
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok());
    request.method() == Method::GET && upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

pub(super) async fn answer(
    public: Arc<Public>,
    connection: Connection,
    mut request: Request<Incoming>,
) -> Reply {
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
