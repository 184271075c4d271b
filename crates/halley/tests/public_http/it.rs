//! A broker in this process, and short words for talking to it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use halley::app::App;
use halley::config::Config;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running broker. It serves until the test ends.
pub(crate) async fn broker(adjust: impl FnOnce(&mut Config)) -> App {
    let mut config = Config::default();
    config.public.listen = ([127, 0, 0, 1], 0).into();
    config.internal.listen = ([127, 0, 0, 1], 0).into();
    config.log.url = "memory:".to_owned();
    adjust(&mut config);
    App::start(config).await.expect("a broker")
}

/// A response, whole.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The value of a header; nothing if it is not there.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.response.headers().get(name);
        value.map_or("", |value| value.to_str().expect("a text"))
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

pub(crate) fn request(method: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri("/cometd");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "halley.example");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    request.body(body).expect("a request")
}

/// Sends a request of HTTP/1.1 on a connection of its own.
pub(crate) async fn send(app: &App, request: Request<Full<Bytes>>) -> Answer {
    send_to(app.public_addr(), request).await
}

async fn send_to(addr: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(addr).await.expect("the broker listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("a connection");
    tokio::spawn(connection);
    let exchange = async {
        let response = sender.send_request(request).await.expect("an answer");
        whole(response).await
    };
    timeout(PATIENCE, exchange).await.expect("an answer in time")
}

/// A response with its body.
pub(crate) async fn whole(mut response: Response<Incoming>) -> Answer {
    let body = response.body_mut().collect().await.expect("a whole answer");
    Answer {
        body: body.to_bytes(),
        response,
    }
}

pub(crate) async fn post(app: &App, headers: &[(&str, &str)], body: &Value) -> Answer {
    send(app, request("POST", headers, &body.to_string())).await
}

/// The same without the broker at hand.
pub(crate) async fn post_to(addr: SocketAddr, headers: &[(&str, &str)], body: &Value) -> Answer {
    send_to(addr, request("POST", headers, &body.to_string())).await
}

pub(crate) fn handshake() -> Value {
    json!([{ "channel": "/meta/handshake", "version": "1.0" }])
}

/// One connection of HTTP/2.
#[derive(Clone)]
pub(crate) struct Line(http2::SendRequest<Full<Bytes>>);

impl Line {
    pub(crate) async fn open(app: &App) -> Self {
        let stream = TcpStream::connect(app.public_addr())
            .await
            .expect("the broker listens");
        Self::over(stream).await
    }

    /// Over this stream.
    pub(crate) async fn over(stream: TcpStream) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("a connection");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends a request without waiting for what it leads to. Dropping what comes back takes the request back.
    pub(crate) fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Answer> + Send + 'static {
        request.headers_mut().remove("host");
        let uri = format!("http://halley.example{}", request.uri());
        *request.uri_mut() = uri.parse().expect("a URI");
        let sending = self.0.clone().send_request(request);
        async move { whole(sending.await.expect("an answer")).await }
    }

    pub(crate) fn post(
        &self,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> impl Future<Output = Answer> + Send + 'static {
        self.send(request("POST", headers, &body.to_string()))
    }

    /// The replies to a body.
    pub(crate) async fn say(&self, body: Value) -> Value {
        timeout(PATIENCE, self.post(&[], &body))
            .await
            .expect("an answer in time")
            .json()
    }

    /// A session that has connected once and listens to a channel.
    pub(crate) async fn join(&self, channel: &str) -> String {
        let id = self.say(handshake()).await[0]["clientId"]
            .as_str()
            .expect("a clientId")
            .to_owned();
        let subscribe = json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": channel });
        let replies = self.say(json!([subscribe, connect(&id)])).await;
        assert_eq!(replies[1]["successful"], true, "{replies}");
        id
    }
}

pub(crate) fn connect(id: &str) -> Value {
    json!({ "channel": "/meta/connect", "clientId": id, "connectionType": "long-polling" })
}

/// Asks something of the internal listener.
pub(crate) async fn post_to_api(app: &App, path: &str) -> Answer {
    let mut request = request("POST", &[], "");
    *request.uri_mut() = path.parse().expect("a path");
    send_to(app.internal_addr(), request).await
}

pub(crate) async fn publish(app: &App, channel: &str, data: Value) {
    let stream = TcpStream::connect(app.internal_addr())
        .await
        .expect("the broker listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("a connection");
    tokio::spawn(connection);
    let body = json!({ "channel": channel, "data": data }).to_string();
    let mut request = request("POST", &[("content-type", "application/json")], &body);
    *request.uri_mut() = "/api/v1/events".parse().expect("a path");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 201);
}

/// Waits until a gauge or counter of `/metrics` is `value`; one that is not there is 0.
pub(crate) async fn wait_for(app: &App, name: &str, value: u64) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let text = metrics(app).await;
        let now = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or("0");
        if now == value.to_string() {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{name} is {now} and never became {value}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn metrics(app: &App) -> String {
    let mut stream = TcpStream::connect(app.internal_addr())
        .await
        .expect("the broker listens");
    let request = "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("metrics");
    text
}

/// How many connects are held now.
pub(crate) const HELD: &str = r#"halley_connections{transport="long-polling"}"#;
