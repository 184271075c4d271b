//! A broker in this process, and short words for talking to it.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use halley::app::App;
use halley::config::{Config, User};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A broker for everyone, with a log in memory.
pub(crate) async fn broker(adjust: impl FnOnce(&mut Config)) -> App {
    App::start(config(adjust)).await.expect("a broker")
}

/// A broker for the users 15000 and 15001; the token of each is `secret-USER`.
pub(crate) async fn broker_for_users(adjust: impl FnOnce(&mut Config)) -> App {
    broker(|config| {
        config.auth.kind = "static".to_owned();
        let user = |user: &str| User {
            user: user.to_owned(),
            token: format!("secret-{user}"),
            roles: Vec::new(),
        };
        config.auth.users = ["15000", "15001"].map(user).to_vec();
        adjust(config);
    })
    .await
}

pub(crate) fn config(adjust: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    config.public.listen = ([127, 0, 0, 1], 0).into();
    config.internal.listen = ([127, 0, 0, 1], 0).into();
    config.log.url = "memory:".to_owned();
    adjust(&mut config);
    config
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// What has come of a response, when its head is there.
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Some(Self {
            status: status.expect("a status line"),
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One connection to the broker, kept alive.
pub(crate) struct Line(TcpStream);

impl Line {
    pub(crate) async fn open(app: &App) -> Self {
        Self::to(app.public_addr()).await
    }

    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Sends a request; `headers` are whole lines.
    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[&str], body: &str) {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        self.write(request.as_bytes()).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("written");
    }

    /// The next `count` bytes.
    pub(crate) async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = timeout(PATIENCE, self.0.read_exact(&mut bytes)).await;
        read.expect("bytes in time").expect("bytes");
        bytes
    }

    pub(crate) async fn receive(&mut self) -> Answer {
        timeout(PATIENCE, self.read_whole())
            .await
            .expect("an answer in time")
    }

    /// The head of a response without a body.
    pub(crate) async fn receive_head(&mut self) -> Answer {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let read = timeout(PATIENCE, self.0.read_buf(&mut bytes)).await;
            let count = read.expect("a head in time").expect("a head");
            assert_ne!(count, 0, "closed: {}", String::from_utf8_lossy(&bytes));
        }
        Answer::parse(&String::from_utf8_lossy(&bytes)).expect("a head")
    }

    async fn read_whole(&mut self) -> Answer {
        let mut bytes = Vec::new();
        loop {
            let count = self.0.read_buf(&mut bytes).await.expect("an answer");
            assert_ne!(count, 0, "closed: {}", String::from_utf8_lossy(&bytes));
            let Some(answer) = Answer::parse(&String::from_utf8_lossy(&bytes)) else {
                continue;
            };
            let length = answer.header("content-length").expect("a Content-Length");
            if length.parse() == Ok(answer.body.len()) {
                return answer;
            }
        }
    }
}

/// A WebSocket of a client.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub(crate) async fn open(app: &App) -> Self {
        let stream = Line::open(app).await.0;
        let (socket, _) = client_async("ws://h/cometd", stream).await.expect("a socket");
        Self(socket)
    }

    /// One of a client for whom a proxy says where it is.
    pub(crate) async fn open_from(app: &App, address: &str) -> Self {
        let mut request = "ws://h/cometd".into_client_request().expect("a request");
        let address = address.parse().expect("a value of a header");
        request.headers_mut().insert("x-forwarded-for", address);
        let stream = Line::open(app).await.0;
        let (socket, _) = client_async(request, stream).await.expect("a socket");
        Self(socket)
    }

    pub(crate) async fn say(&mut self, messages: &Value) {
        self.send(Message::text(messages.to_string())).await;
    }

    pub(crate) async fn send(&mut self, frame: Message) {
        self.0.send(frame).await.expect("written");
    }

    /// The messages of the next frame.
    pub(crate) async fn hear(&mut self) -> Value {
        match self.next().await {
            Ok(text) => serde_json::from_str(&text).expect("JSON"),
            Err(end) => panic!("the socket was closed: {end}"),
        }
    }

    /// The code and the reason with which the broker closes.
    pub(crate) async fn closed(&mut self) -> String {
        match self.next().await {
            Ok(text) => panic!("a frame instead of a close: {text}"),
            Err(end) => end,
        }
    }

    async fn next(&mut self) -> Result<String, String> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a frame in time") {
                Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Message::Close(Some(close)))) => {
                    return Err(format!("{} {}", u16::from(close.code), close.reason));
                }
                Some(Ok(Message::Close(None))) | None => return Err("without a reason".to_owned()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(error.to_string()),
            }
        }
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(app: &App, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut line = Line::open(app).await;
    line.send(method, path, headers, body).await;
    line.receive().await
}

/// A POST of messages.
pub(crate) async fn post(app: &App, messages: &Value) -> Answer {
    ask(app, "POST", "/cometd", &[], &messages.to_string()).await
}

/// The page of `/metrics`.
pub(crate) async fn metrics(app: &App) -> String {
    let mut line = Line::to(app.internal_addr()).await;
    line.send("GET", "/metrics", &[], "").await;
    line.receive().await.body
}

/// The voice backend publishes for everyone.
pub(crate) async fn publish(app: &App, channel: &str, data: Value) {
    let mut line = Line::to(app.internal_addr()).await;
    let event = json!({ "channel": channel, "data": data }).to_string();
    line.send("POST", "/api/v1/events", &[], &event).await;
    let answer = line.receive().await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// The lines of an upgrade to a WebSocket.
pub(crate) const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
