//! A broker in this process, and short words for talking to it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use halley::app::App;
use halley::config::{Config, User};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The users of a broker; the token of each is `secret-USER`.
pub(crate) const USERS: [&str; 2] = ["15000", "15001"];

/// A running broker.
pub(crate) struct It {
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    config: Config,
    app: Option<App>,
    _folder: TempDir,
}

impl It {
    /// With [`USERS`], a log in memory and the default limits.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Where everyone is welcome and nobody has a name.
    pub(crate) async fn anonymous() -> Self {
        Self::with(|config| config.auth.kind = "anonymous".to_owned()).await
    }

    /// With a log on disk, which survives [`It::restart`].
    pub(crate) async fn durable() -> Self {
        Self::durable_with(|_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn durable_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let url = format!("file:{}", folder.path().join("data").display());
        let mut it = Self::with(|config| {
            config.log.url = url;
            change(config);
        })
        .await;
        it._folder = folder;
        it
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.public.listen = ([127, 0, 0, 1], 0).into();
        config.internal.listen = ([127, 0, 0, 1], 0).into();
        config.log.url = "memory:".to_owned();
        config.auth.kind = "static".to_owned();
        config.auth.users = USERS
            .map(|user| User {
                user: user.to_owned(),
                token: format!("secret-{user}"),
                roles: Vec::new(),
            })
            .to_vec();
        // The same clientId is tried again and again here: that this slows a thief down has tests of its own.
        config.unknown_sessions.free_repeats = u32::MAX;
        config.unknown_sessions.refuse_after = u32::MAX;
        change(&mut config);
        let app = App::start(config.clone()).await.expect("the broker starts");
        Self {
            public: app.public_addr(),
            internal: app.internal_addr(),
            config,
            app: Some(app),
            _folder: TempDir::new().expect("a temporary folder"),
        }
    }

    /// The broker itself, for a test that ends it.
    #[allow(dead_code, reason = "one of those who share this file needs it")]
    pub(crate) fn take_app(&mut self) -> App {
        self.app.take().expect("it is running")
    }

    /// Ends the broker well and starts it again on the same log, at other addresses.
    pub(crate) async fn restart(&mut self) {
        self.app.take().expect("it is running").shut_down().await;
        let deadline = Instant::now() + PATIENCE;
        // The last task that was told to end may hold the log for a moment.
        let app = loop {
            match App::start(self.config.clone()).await {
                Ok(app) => break app,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        };
        (self.public, self.internal) = (app.public_addr(), app.internal_addr());
        self.app = Some(app);
    }

    /// A POST by a client.
    pub(crate) async fn post(&self, path: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
        exchange(self.public, &request("POST", path, headers, body.as_ref())).await
    }

    /// A POST by the voice backend.
    pub(crate) async fn publish(&self, body: impl AsRef<[u8]>) -> Answer {
        let request = request("POST", "/api/v1/events", &[], body.as_ref());
        exchange(self.internal, &request).await
    }

    /// Publishes `data` to a user, or to everyone, and expects it to be taken.
    pub(crate) async fn publish_to(&self, user: Option<&str>, channel: &str, data: &str) {
        let user = user.map_or_else(String::new, |user| format!("\"user\":\"{user}\","));
        let answer = self
            .publish(format!("{{{user}\"channel\":\"{channel}\",\"data\":{data}}}"))
            .await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    /// A gauge or counter of `/metrics`; 0 if it is not there.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let answer = exchange(self.internal, &request("GET", "/metrics", &[], b"")).await;
        let page = answer.text();
        let samples: BTreeMap<&str, f64> = page
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
            .collect();
        samples.get(name).copied().unwrap_or(0.0)
    }

    /// Waits until a metric is `value`.
    pub(crate) async fn wait_for(&self, name: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.metric(name).await;
            if now == value {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{name} is {now} and never became {value}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An HTTP response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of the browser cookie that the response sets.
    pub(crate) fn browser(&self) -> Option<&str> {
        let cookie = self.header("set-cookie")?.strip_prefix("BAYEUX_BROWSER=")?;
        cookie.split(';').next()
    }
}

/// The bytes of a request. Headers are lines; a `Content-Length` is added unless they say how long the body is.
pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: halley\r\n").into_bytes();
    let has_length = |line: &str| {
        let line = line.to_lowercase();
        line.starts_with("content-length") || line.starts_with("transfer-encoding")
    };
    if !headers.iter().any(|line| has_length(line)) {
        write!(bytes, "Content-Length: {}\r\n", body.len()).expect("a Vec takes everything");
    }
    for line in headers {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// `Authorization` of one of [`USERS`].
pub(crate) fn authorization(user: &str) -> String {
    format!("Authorization: Bearer secret-{user}")
}

/// Writes a request on a connection of its own and reads the response.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("the broker listens");
    // A broker that refuses a body need not read it: what cannot be written any more is not a failure.
    let _ = stream.write_all(request).await;
    read_answer(&mut stream).await
}

/// Reads one response.
pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    timeout(PATIENCE, read_whole(stream))
        .await
        .expect("an answer in time")
}

async fn read_whole(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            break (String::from_utf8(bytes).expect("a head is text"), body);
        }
        let read = stream.read_buf(&mut bytes).await.expect("an answer");
        assert!(
            read > 0,
            "closed after {:?}, without an answer",
            String::from_utf8_lossy(&bytes)
        );
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut answer = Answer {
        status: status.expect("a status line"),
        head,
        body,
    };
    let length = answer.header("content-length").map(|length| length.parse());
    let length: usize = length.expect("a Content-Length").expect("a number");
    while answer.body.len() < length {
        let read = stream.read_buf(&mut answer.body).await.expect("the whole body");
        assert!(read > 0, "closed before the end of the body");
    }
    answer
}

/// A client of either transport, with a session. `$id` in what it says stands for its clientId.
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) cookie: Option<String>,
    line: Line,
}

enum Line {
    LongPolling(SocketAddr, Vec<String>),
    WebSocket(Box<Socket>),
}

/// Both transports.
pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::LongPolling, Transport::WebSocket];

/// How a client comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    LongPolling,
    WebSocket,
}

impl Client {
    /// Shakes hands as a user, or as nobody, and connects for the first time.
    pub(crate) async fn open(it: &It, transport: Transport, user: Option<&str>) -> Self {
        let mut client = Self::greet(it, transport, user).await;
        let first = client
            .say(r#"{"channel":"/meta/connect","clientId":"$id","connectionType":"x"}"#)
            .await;
        assert_eq!(first[0]["successful"], true, "{first:?}");
        client
    }

    /// Shakes hands and does not connect.
    pub(crate) async fn greet(it: &It, transport: Transport, user: Option<&str>) -> Self {
        Self::greet_with(it, transport, user, "").await
    }

    /// The same with more fields in the handshake.
    pub(crate) async fn greet_with(it: &It, transport: Transport, user: Option<&str>, fields: &str) -> Self {
        let headers: Vec<String> = user.map(authorization).into_iter().collect();
        let line = match transport {
            Transport::LongPolling => Line::LongPolling(it.public, headers),
            Transport::WebSocket => {
                let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
                let socket = Socket::open(it.public, "/cometd", &headers).await;
                Line::WebSocket(Box::new(socket))
            }
        };
        let mut client = Self {
            id: String::new(),
            cookie: None,
            line,
        };
        let handshake = format!(r#"{{"channel":"/meta/handshake","version":"1.0"{fields}}}"#);
        let reply = client.say(&handshake).await;
        assert_eq!(reply[0]["successful"], true, "{reply:?}");
        client.id = reply[0]["clientId"].as_str().expect("a clientId").to_owned();
        client
    }

    pub(crate) async fn subscribe(&mut self, subscription: Value) {
        let message = json!({"channel": "/meta/subscribe", "clientId": "$id", "subscription": subscription});
        let replies = self.say(&message.to_string()).await;
        assert_eq!(replies[0]["successful"], true, "{replies:?}");
    }

    /// Sends a body and returns the messages that come back with the next response or frame.
    pub(crate) async fn say(&mut self, body: &str) -> Vec<Value> {
        let text = self.say_text(body).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The same, as the text that came.
    pub(crate) async fn say_text(&mut self, body: &str) -> String {
        let body = body.replace("$id", &self.id);
        match &mut self.line {
            Line::LongPolling(address, headers) => {
                let cookie = self
                    .cookie
                    .as_ref()
                    .map(|cookie| format!("Cookie: BAYEUX_BROWSER={cookie}"));
                let headers: Vec<&str> = headers
                    .iter()
                    .chain(cookie.as_ref())
                    .map(String::as_str)
                    .collect();
                let answer = exchange(*address, &request("POST", "/cometd", &headers, body.as_bytes())).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                self.cookie = answer.browser().map(ToOwned::to_owned).or(self.cookie.take());
                String::from_utf8(answer.body).expect("replies are UTF-8")
            }
            Line::WebSocket(socket) => {
                socket.send(&body).await;
                socket.next().await
            }
        }
    }

    /// Has a connect held, so that a socket that only listens is not taken for silent.
    #[allow(dead_code, reason = "one of those who share this file needs it")]
    pub(crate) async fn hold(&mut self) {
        let connect = json!({"channel": "/meta/connect", "clientId": self.id, "connectionType": "websocket"});
        match &mut self.line {
            Line::LongPolling(..) => panic!("there is no socket"),
            Line::WebSocket(socket) => socket.send(&json!([connect]).to_string()).await,
        }
    }

    /// The next events, as the bytes that came: with a connect by long-polling, by themselves over a WebSocket.
    pub(crate) async fn events(&mut self) -> String {
        match &mut self.line {
            Line::LongPolling(..) => {
                self.say_text(r#"{"channel":"/meta/connect","clientId":"$id"}"#)
                    .await
            }
            Line::WebSocket(socket) => socket.next().await,
        }
    }

    /// The code and reason with which its socket is closed; frames before that do not count.
    #[allow(dead_code, reason = "one of those who share this file needs it")]
    pub(crate) async fn closed(&mut self) -> String {
        match &mut self.line {
            Line::LongPolling(..) => panic!("there is no socket"),
            Line::WebSocket(socket) => socket.closed().await,
        }
    }

    /// Goes on at the addresses that the broker has now.
    pub(crate) fn moved_to(&mut self, it: &It) {
        match &mut self.line {
            Line::LongPolling(address, _) => *address = it.public,
            Line::WebSocket(_) => panic!("a socket does not move"),
        }
    }

    /// The same session, spoken for at another node.
    #[allow(dead_code, reason = "one of those who share this file needs it")]
    pub(crate) fn also_at(&self, it: &It) -> Self {
        let Line::LongPolling(_, headers) = &self.line else {
            panic!("a socket does not move");
        };
        Self {
            id: self.id.clone(),
            cookie: self.cookie.clone(),
            line: Line::LongPolling(it.public, headers.clone()),
        }
    }

    /// The data of every event up to and including the one that is the text `last`.
    pub(crate) async fn data_until(&mut self, last: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        while seen.last() != Some(&json!(last)) {
            let messages: Vec<Value> = serde_json::from_str(&self.events().await).expect("an array");
            seen.extend(
                messages
                    .into_iter()
                    .filter_map(|mut message| message.get_mut("data").map(Value::take)),
            );
        }
        seen
    }
}

/// A WebSocket that nothing is done about by itself.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub(crate) async fn open(address: SocketAddr, path: &str, headers: &[&str]) -> Self {
        Self::try_open(address, path, headers)
            .await
            .expect("the broker takes the socket")
    }

    pub(crate) async fn try_open(address: SocketAddr, path: &str, headers: &[&str]) -> Result<Self, Error> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for line in headers {
            let (name, value) = line.split_once(": ").expect("a header line");
            let name: tokio_tungstenite::tungstenite::http::HeaderName = name.parse().expect("a header name");
            request
                .headers_mut()
                .insert(name, value.parse().expect("a header value"));
        }
        let stream = TcpStream::connect(address).await?;
        Ok(Self(client_async(request, stream).await?.0))
    }

    pub(crate) async fn send(&mut self, text: &str) {
        // A socket that was closed meanwhile says so when it is read.
        let _ = self.0.send(Message::text(text)).await;
    }

    /// The next text frame.
    pub(crate) async fn next(&mut self) -> String {
        match self.step().await {
            Ok(text) => text,
            Err(end) => panic!("the socket was closed: {end}"),
        }
    }

    /// The code and reason with which the broker closes.
    pub(crate) async fn closed(&mut self) -> String {
        match self.step().await {
            Ok(text) => panic!("a frame instead of a close: {text}"),
            Err(end) => end,
        }
    }

    async fn step(&mut self) -> Result<String, String> {
        loop {
            let frame = timeout(PATIENCE, self.0.next()).await.expect("a frame in time");
            match frame {
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
