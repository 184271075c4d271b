//! A WebSocket subscriber without a client library: it sees every frame, and reads only when it is asked to.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::ENDPOINT;

/// One session on one WebSocket. It answers each connect reply with the next `/meta/connect`, as stock clients do, and
/// has no acknowledge extension.
pub struct Subscriber {
    socket: WebSocketStream<TcpStream>,
    address: SocketAddr,
    user: String,
    client_id: String,
    next_id: u64,
    unread: std::collections::VecDeque<Incoming>,
}

/// A message from the broker.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Incoming {
    channel: String,
    client_id: Option<String>,
    successful: Option<bool>,
    error: Option<String>,
    data: Option<Value>,
}

impl Subscriber {
    /// Opens a socket as `user`, with the token `secret-USER`, handshakes, and connects.
    ///
    /// # Panics
    ///
    /// If any of it is refused.
    pub async fn connect(address: SocketAddr, user: &str) -> Subscriber {
        let socket = open(address, user).await.expect("the broker accepts a WebSocket");
        let mut subscriber = Subscriber {
            socket,
            address,
            user: user.to_owned(),
            client_id: String::new(),
            next_id: 0,
            unread: std::collections::VecDeque::new(),
        };
        let versions = json!({ "version": "1.0", "supportedConnectionTypes": ["websocket"] });
        subscriber
            .send("/meta/handshake", versions)
            .await
            .expect("a fresh socket takes a handshake");
        let reply = subscriber.reply("/meta/handshake").await;
        subscriber.client_id = reply.client_id.expect("a successful handshake names the session");
        subscriber
            .send_connect(true)
            .await
            .expect("an open socket takes a connect");
        subscriber.reply("/meta/connect").await;
        subscriber
            .send_connect(false)
            .await
            .expect("an open socket takes a connect");
        subscriber
    }

    /// Subscribes and waits for the confirmation.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub async fn subscribe(&mut self, channel: &str) {
        self.send("/meta/subscribe", json!({ "subscription": channel }))
            .await
            .expect("an open socket");
        self.reply("/meta/subscribe").await;
    }

    /// The data of the next event. An error means that the socket is gone: [`Subscriber::resume`] opens another.
    ///
    /// # Panics
    ///
    /// If the broker refuses a connect.
    pub async fn next(&mut self) -> Result<Value, Error> {
        loop {
            let message = self.read().await?;
            if message.channel == "/meta/connect" {
                message.expect_success();
                self.send_connect(false).await?;
            } else if let Some(data) = message.data {
                return Ok(data);
            }
        }
    }

    /// Opens another socket for the same session: a connect with the old clientId is its first frame.
    pub async fn resume(&mut self) -> Result<(), Error> {
        self.unread.clear();
        self.socket = open(self.address, &self.user).await?;
        self.send_connect(true).await
    }

    /// The session.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    async fn send_connect(&mut self, at_once: bool) -> Result<(), Error> {
        let mut fields = json!({ "connectionType": "websocket" });
        if at_once {
            fields["advice"] = json!({ "timeout": 0 });
        }
        self.send("/meta/connect", fields).await
    }

    async fn send(&mut self, channel: &str, mut message: Value) -> Result<(), Error> {
        self.next_id += 1;
        message["channel"] = json!(channel);
        message["id"] = json!(self.next_id.to_string());
        if !self.client_id.is_empty() {
            message["clientId"] = json!(self.client_id);
        }
        self.socket
            .send(Message::text(json!([message]).to_string()))
            .await
    }

    /// The next reply on a meta channel; events before it are kept for [`Subscriber::next`].
    async fn reply(&mut self, channel: &str) -> Incoming {
        let mut passed = Vec::new();
        loop {
            let message = timeout(Duration::from_secs(10), self.read()).await;
            let message = message.expect("a reply within 10 s").expect("an open socket");
            if message.channel == channel {
                message.expect_success();
                self.unread.extend(passed);
                return message;
            }
            passed.push(message);
        }
    }

    async fn read(&mut self) -> Result<Incoming, Error> {
        loop {
            if let Some(message) = self.unread.pop_front() {
                return Ok(message);
            }
            let frame = self.socket.next().await.ok_or(Error::ConnectionClosed)??;
            if let Message::Text(text) = frame {
                let messages: Vec<Incoming> = serde_json::from_str(&text)
                    .unwrap_or_else(|error| panic!("{error} in the broker's frame {text}"));
                self.unread.extend(messages);
            }
        }
    }
}

impl Incoming {
    #[track_caller]
    fn expect_success(&self) {
        assert_eq!(
            self.successful,
            Some(true),
            "{} was refused: {:?}",
            self.channel,
            self.error
        );
    }
}

async fn open(address: SocketAddr, user: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{address}{ENDPOINT}").into_client_request()?;
    let credentials = format!("Basic {}", BASE64.encode(format!("{user}:secret-{user}")));
    request.headers_mut().insert(
        "authorization",
        credentials.parse().expect("base64 fits into a header"),
    );
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (socket, _) = client_async(request, stream).await?;
    Ok(socket)
}
