//! Everything that clients do, over TLS.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::certificates::{Authority, Files};
use crate::it::{It, USERS, authorization, request};
use crate::peer::{Line, PATIENCE, Peer, exchange_on};

const CHANNEL: &str = "/v2/me/calls";

async fn it() -> (It, Authority, Files) {
    let authority = Authority::new();
    let files = Files::of(&authority);
    (It::with(files.public()).await, authority, files)
}

fn subscribe(id: &str) -> String {
    json!([{"channel": "/meta/subscribe", "clientId": id, "subscription": CHANNEL}]).to_string()
}

fn connect(id: &str) -> String {
    json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "x"}]).to_string()
}

const HANDSHAKE: &str = r#"[{"channel":"/meta/handshake","version":"1.0"}]"#;

fn id(replies: &Value) -> String {
    assert_eq!(replies[0]["successful"], true, "{replies}");
    replies[0]["clientId"].as_str().expect("a clientId").to_owned()
}

#[tokio::test]
async fn an_event_arrives_over_https_by_long_polling() {
    let (it, authority, _files) = it().await;
    let mut line = Peer::trusting(&authority)
        .connect(it.public)
        .await
        .expect("a connection");
    let authorization = authorization(USERS[0]);
    let post = |body: &str| request("POST", "/cometd", &[&authorization], body.as_bytes());
    let id = id(&exchange_on(&mut line, &post(HANDSHAKE)).await.json());
    exchange_on(&mut line, &post(&subscribe(&id))).await;
    exchange_on(&mut line, &post(&connect(&id))).await;
    let connect = post(&connect(&id));
    let (held, ()) = tokio::join!(exchange_on(&mut line, &connect), async {
        it.publish_to(Some(USERS[0]), CHANNEL, "7").await;
    });
    assert_eq!(held.json()[0]["data"], 7);
}

/// A WebSocket over TLS.
struct Socket(WebSocketStream<Line>);

impl Socket {
    async fn open(it: &It, authority: &Authority) -> Self {
        let stream = TcpStream::connect(it.public).await.expect("a connection");
        Self::open_on(stream, it, authority).await
    }

    async fn open_on(stream: TcpStream, it: &It, authority: &Authority) -> Self {
        let mut request = format!("wss://{}/cometd", it.public)
            .into_client_request()
            .expect("a URL");
        let bearer = format!("Bearer secret-{}", USERS[0]).parse().expect("a header");
        request.headers_mut().insert("authorization", bearer);
        let line = Peer::trusting(authority)
            .connect_on(stream, it.public)
            .await
            .expect("a connection");
        Self(client_async(request, line).await.expect("a socket").0)
    }

    async fn subscribed(it: &It, authority: &Authority) -> Self {
        Self::open(it, authority).await.listening().await
    }

    /// Shakes hands, subscribes, and leaves a connect held.
    async fn listening(mut self) -> Self {
        let socket = &mut self;
        let id = id(&socket.say(HANDSHAKE).await);
        socket.say(&subscribe(&id)).await;
        socket.say(&connect(&id)).await;
        socket
            .0
            .send(Message::text(connect(&id)))
            .await
            .expect("it is open");
        self
    }

    async fn say(&mut self, text: &str) -> Value {
        self.0.send(Message::text(text)).await.expect("it is open");
        self.next().await
    }

    async fn next(&mut self) -> Value {
        loop {
            let frame = timeout(PATIENCE, self.0.next()).await.expect("a frame in time");
            match frame.expect("it is open").expect("a frame") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other @ (Message::Binary(_) | Message::Close(_) | Message::Frame(_)) => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_event_arrives_over_wss() {
    let (it, authority, _files) = it().await;
    let mut socket = Socket::subscribed(&it, &authority).await;
    it.publish_to(Some(USERS[0]), CHANNEL, "7").await;
    assert_eq!(socket.next().await[0]["data"], 7);
    it.wait_for("halley_connections{transport=\"websocket\"}", 1.0)
        .await;
    socket.0.close(None).await.expect("a close");
    it.wait_for("halley_connections{transport=\"websocket\"}", 0.0)
        .await;
}

/// As `data`, long enough that frames, records of TLS and what a socket holds all end at other places.
fn long(number: usize) -> String {
    format!("{number}{}", "x".repeat(number * 1009 % 60_000))
}

#[tokio::test]
async fn a_thousand_events_of_every_size_arrive_over_wss_in_their_order_also_when_nobody_reads_for_a_while() {
    let (it, authority, _files) = it().await;
    let mut socket = Socket::subscribed(&it, &authority).await;
    // Some 30 MB: far more than the sockets hold, so that frames wait, and the session falls behind and reads the log.
    for number in 0..1000 {
        let data = json!(long(number)).to_string();
        it.publish_to(Some(USERS[0]), CHANNEL, &data).await;
    }
    let mut seen = 0;
    while seen < 1000 {
        let messages = socket.next().await;
        for message in messages.as_array().expect("an array") {
            if message["channel"] == CHANNEL {
                assert_eq!(message["data"], long(seen), "the event {seen}");
                seen += 1;
            }
        }
    }
    assert!(it.metric("halley_slow_sessions_total").await >= 1.0);
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_closed_after_the_write_timeout_and_its_session_stays() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let tls = files.settings();
    let it = It::with(|config| {
        config.public.tls = tls;
        config.websocket.write_timeout = halley::config::Span(Duration::from_millis(300));
    })
    .await;
    let socket = Socket::subscribed(&it, &authority).await;
    let data = json!("x".repeat(200_000)).to_string();
    for _ in 0..60 {
        it.publish_to(Some(USERS[0]), CHANNEL, &data).await;
    }
    it.wait_for("halley_connections{transport=\"websocket\"}", 0.0)
        .await;
    assert_eq!(it.metric("halley_sessions").await, 1.0);
    drop(socket);
}

/// Bytes between these two that no reader has taken: what the kernel holds at either end.
fn in_the_kernel(client: SocketAddr, server: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let queues = table.lines().skip(1).filter_map(|line| {
        let mut cells = line.split_whitespace().skip(1);
        let port = |cell: &str| u16::from_str_radix(cell.split_once(':')?.1, 16).ok();
        let ends = [port(cells.next()?)?, port(cells.next()?)?];
        let (out, waiting) = cells.nth(1)?.split_once(':')?;
        let of_both = ends == [server.port(), client.port()] || ends == [client.port(), server.port()];
        let bytes = |text: &str| u64::from_str_radix(text, 16).ok();
        of_both.then_some(bytes(out)? + bytes(waiting)?)
    });
    queues.sum()
}

/// Whether the kernel takes this much more of a connection soon.
async fn is_taken(client: SocketAddr, server: SocketAddr, before: u64, bytes: u64) -> bool {
    let taken = async {
        while in_the_kernel(client, server) < before + bytes {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_millis(500), taken).await.is_ok()
}

#[tokio::test]
async fn t25_a_socket_of_which_nothing_but_sealed_bytes_wait_is_closed_after_the_write_timeout() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let tls = files.settings();
    let it = It::with(|config| {
        config.public.tls = tls;
        config.websocket.write_timeout = halley::config::Span(Duration::from_secs(2));
    })
    .await;
    let stream = TcpSocket::new_v4().expect("a socket");
    stream.set_recv_buffer_size(4096).expect("an option");
    let stream = stream.connect(it.public).await.expect("a connection");
    let client = stream.local_addr().expect("an address");
    let socket = Socket::open_on(stream, &it, &authority).await.listening().await;
    let data = json!("x".repeat(10_000)).to_string();
    // One by one: what the kernel does not take of the last one is sealed already, and nothing stands behind it.
    let mut before = in_the_kernel(client, it.public);
    let stalled = "halley_socket_ends_total{result=\"stalled\"}";
    for number in 0.. {
        assert!(number < 2_000, "the kernel takes whatever comes");
        it.publish_to(Some(USERS[0]), CHANNEL, &data).await;
        // The kernel may take the rest after a while, as it finds room for more: then the next one may be what waits.
        let mut is_closed = false;
        for _ in 0..8 {
            if is_closed || is_taken(client, it.public, before, 10_000).await {
                break;
            }
            is_closed = it.metric(stalled).await >= 1.0;
        }
        if is_closed {
            break;
        }
        before = in_the_kernel(client, it.public);
    }
    assert_eq!(it.metric("halley_sessions").await, 1.0);
    drop(socket);
}

#[tokio::test]
async fn http2_is_spoken_where_both_sides_have_it_and_http1_otherwise() {
    let (it, authority, files) = it().await;
    let agreed = async |it: &It, protocols: &[&str]| {
        let peer = Peer::trusting(&authority).offering(protocols);
        let line = peer.connect(it.public).await.expect("a connection");
        line.get_ref()
            .1
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned())
    };
    assert_eq!(agreed(&it, &["http/1.1", "h2"]).await.as_deref(), Some("h2"));
    assert_eq!(agreed(&it, &["http/1.1"]).await.as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&it, &[]).await, None);
    let tls = files.settings();
    let without = It::with(|config| {
        config.public.tls = tls;
        config.http2.enabled = false;
    })
    .await;
    assert_eq!(
        agreed(&without, &["h2", "http/1.1"]).await.as_deref(),
        Some("http/1.1")
    );
}

#[tokio::test]
async fn an_event_arrives_over_http2_that_was_agreed_on() {
    let (it, authority, _files) = it().await;
    let peer = Peer::trusting(&authority).offering(&["h2"]);
    let line = peer.connect(it.public).await.expect("a connection");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(line))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let url = format!("https://{}/cometd", it.public);
    let ask = async |body: String| {
        let request = Request::post(&url)
            .header("authorization", format!("Bearer secret-{}", USERS[0]))
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let answer = sender.clone().send_request(request).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        serde_json::from_slice::<Value>(&body).expect("JSON")
    };
    let id = id(&ask(HANDSHAKE.to_owned()).await);
    ask(subscribe(&id)).await;
    ask(connect(&id)).await;
    let (held, ()) = tokio::join!(ask(connect(&id)), async {
        it.publish_to(Some(USERS[0]), CHANNEL, "7").await;
    });
    assert_eq!(held[0]["data"], 7);
}

#[tokio::test]
async fn the_cookie_of_a_browser_that_comes_by_tls_is_for_tls_only() {
    let (it, authority, _files) = it().await;
    let request = request(
        "POST",
        "/cometd",
        &[&authorization(USERS[0])],
        HANDSHAKE.as_bytes(),
    );
    let answer = Peer::trusting(&authority)
        .ask(it.public, &request)
        .await
        .expect("an answer");
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    assert!(cookie.contains("; Secure"), "{cookie}");
    let plain = It::new().await;
    let answer = crate::it::exchange(plain.public, &request).await;
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    assert!(!cookie.contains("Secure"), "{cookie}");
}

#[tokio::test]
async fn over_tls_a_page_that_came_over_plain_http_is_foreign() {
    let (it, authority, _files) = it().await;
    let peer = Peer::trusting(&authority);
    let authorization = authorization(USERS[0]);
    for (page, status) in [("https://halley", 200), ("http://halley", 403)] {
        let (origin, site) = (format!("Origin: {page}"), "Sec-Fetch-Site: same-site");
        let headers = [&*authorization, &origin, site];
        let request = request("POST", "/cometd", &headers, HANDSHAKE.as_bytes());
        let answer = peer.ask(it.public, &request).await.expect("an answer");
        assert_eq!(answer.status, status, "{page}: {}", answer.text());
    }
}
