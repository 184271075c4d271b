//! A broker in this process, and short words for talking to it.

use std::net::SocketAddr;
use std::time::Duration;

use halley::app::App;
use halley::config::{Config, User};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

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

    async fn to(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Sends a request; `headers` are whole lines.
    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[&str], body: &str) {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        self.0.write_all(request.as_bytes()).await.expect("written");
    }

    pub(crate) async fn receive(&mut self) -> Answer {
        timeout(PATIENCE, self.read_whole())
            .await
            .expect("an answer in time")
    }

    async fn read_whole(&mut self) -> Answer {
        let mut bytes = Vec::new();
        loop {
            let count = self.0.read_buf(&mut bytes).await.expect("an answer");
            assert_ne!(count, 0, "closed: {}", String::from_utf8_lossy(&bytes));
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            let answer = Answer {
                status: status.expect("a status line"),
                head: head.to_owned(),
                body: body.to_owned(),
            };
            let length = answer.header("content-length").expect("a Content-Length");
            if length.parse() == Ok(body.len()) {
                return answer;
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

/// The voice backend publishes for everyone.
pub(crate) async fn publish(app: &App, channel: &str, data: Value) {
    let mut line = Line::to(app.internal_addr()).await;
    let event = json!({ "channel": channel, "data": data }).to_string();
    line.send("POST", "/api/v1/events", &[], &event).await;
    let answer = line.receive().await;
    assert_eq!(answer.status, 201, "{answer:?}");
}
