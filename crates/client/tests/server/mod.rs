//! A Bayeux server that a test plays by hand: it sees each exchange and says what to answer.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::Duration;

use bytes::Bytes;
use client::{Builder, Client, Event, Events, Transport};
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderMap, HeaderValue, SET_COOKIE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server as upgrade;

pub(crate) const BOTH: [Transport; 2] = [Transport::WebSocket, Transport::LongPolling];

/// The cookie that the server sets with every response and with every upgrade.
pub(crate) const COOKIE: &str = "BAYEUX_BROWSER=1a2b";

pub(crate) struct Server {
    pub(crate) url: String,
    transport: Transport,
    exchanges: mpsc::UnboundedReceiver<Exchange>,
    notes: mpsc::UnboundedReceiver<Note>,
    hang_up: watch::Sender<Option<usize>>,
}

/// One frame or one POST from the client.
pub(crate) struct Exchange {
    pub(crate) messages: Vec<Value>,
    /// Of the POST, or of the upgrade.
    pub(crate) headers: HeaderMap,
    /// Counts connections from 0.
    pub(crate) connection: usize,
    way: Way,
}

/// What happens to a connection besides exchanges.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Pong(Bytes),
    Ended(usize),
}

enum Way {
    Socket(mpsc::UnboundedSender<Order>),
    Post(oneshot::Sender<(StatusCode, String)>),
}

enum Order {
    Send(Message),
    Cut,
}

#[derive(Clone)]
struct Teller {
    exchanges: mpsc::UnboundedSender<Exchange>,
    notes: mpsc::UnboundedSender<Note>,
    hang_up: watch::Receiver<Option<usize>>,
}

impl Server {
    pub(crate) async fn start(transport: Transport) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/cometd", listener.local_addr().expect("a bound port"));
        let (exchanges_sender, exchanges) = mpsc::unbounded_channel();
        let (notes_sender, notes) = mpsc::unbounded_channel();
        let (hang_up, hang_up_receiver) = watch::channel(None);
        let teller = Teller {
            exchanges: exchanges_sender,
            notes: notes_sender,
            hang_up: hang_up_receiver,
        };
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let teller = teller.clone();
                tokio::spawn(async move {
                    match transport {
                        Transport::WebSocket => serve_socket(stream, connection, teller.clone()).await,
                        Transport::LongPolling => serve_posts(stream, connection, teller.clone()).await,
                    }
                    let _ = teller.notes.send(Note::Ended(connection));
                });
            }
        });
        Server {
            url,
            transport,
            exchanges,
            notes,
            hang_up,
        }
    }

    /// A builder for this server, with pauses that a test can wait for.
    pub(crate) fn builder(&self) -> Builder {
        let short = Duration::from_millis(1);
        Client::builder(&self.url)
            .transport(self.transport)
            .backoff(short, short)
    }

    /// Ends a connection that is idle.
    pub(crate) fn hang_up(&self, connection: usize) {
        self.hang_up.send_replace(Some(connection));
    }

    pub(crate) async fn next(&mut self) -> Exchange {
        soon(self.exchanges.recv())
            .await
            .expect("the server runs as long as the test")
    }

    /// The next exchange, which has to be about this channel.
    pub(crate) async fn expect(&mut self, channel: &str) -> Exchange {
        let exchange = self.next().await;
        assert_eq!(exchange.message()["channel"], channel);
        exchange
    }

    pub(crate) async fn note(&mut self) -> Note {
        soon(self.notes.recv())
            .await
            .expect("the server runs as long as the test")
    }

    /// Answers the handshake and the first connect of a session `client_id`.
    pub(crate) async fn accept(&mut self, client_id: &str) {
        self.expect("/meta/handshake")
            .await
            .succeed(json!({"clientId": client_id}));
        self.expect("/meta/connect").await.succeed(json!({}));
    }

    /// A client that has just begun its first held connect, and that connect.
    pub(crate) async fn connected(&mut self, builder: Builder) -> (Client, Events, Exchange) {
        let (connected, held) = tokio::join!(builder.connect(), async {
            self.accept("a").await;
            self.expect("/meta/connect").await
        });
        let (client, mut events) = connected.expect("the server accepted it");
        assert!(matches!(
            next(&mut events).await,
            Event::Connected { resumed: false, .. }
        ));
        (client, events, held)
    }
}

impl Exchange {
    pub(crate) fn message(&self) -> &Value {
        &self.messages[0]
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Answers every message of the exchange, with these fields besides `successful`.
    pub(crate) fn succeed(self, fields: Value) {
        self.succeed_after(&[], fields);
    }

    /// The same, with messages before the answers.
    pub(crate) fn succeed_after(self, before: &[Value], fields: Value) {
        let answers = self.messages.iter().map(|message| answer(message, true, &fields));
        let batch = before.iter().cloned().chain(answers).collect();
        self.send(batch);
    }

    pub(crate) fn refuse(self, fields: Value) {
        let batch = vec![answer(self.message(), false, &fields)];
        self.send(batch);
    }

    pub(crate) fn send(self, batch: Vec<Value>) {
        let text = Value::Array(batch).to_string();
        match self.way {
            Way::Socket(orders) => drop(orders.send(Order::Send(Message::text(text)))),
            Way::Post(response) => drop(response.send((StatusCode::OK, text))),
        }
    }

    /// Pushes a frame without answering the exchange.
    pub(crate) fn push(&self, message: Message) {
        match &self.way {
            Way::Socket(orders) => drop(orders.send(Order::Send(message))),
            Way::Post(_) => panic!("HTTP cannot push"),
        }
    }

    pub(crate) fn fail(self, status: StatusCode) {
        match self.way {
            Way::Socket(_) => panic!("a frame has no status"),
            Way::Post(response) => drop(response.send((status, String::new()))),
        }
    }

    /// Ends the connection without an answer.
    pub(crate) fn cut(self) {
        match self.way {
            Way::Socket(orders) => drop(orders.send(Order::Cut)),
            Way::Post(response) => drop(response),
        }
    }
}

/// The next event; a test that waits for one that does not come fails.
pub(crate) async fn next(events: &mut Events) -> Event {
    soon(events.next()).await.expect("the client has not ended")
}

/// No test waits longer than this for anything.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work)
        .await
        .expect("it happens within ten seconds")
}

fn answer(message: &Value, successful: bool, fields: &Value) -> Value {
    let mut answer = json!({"channel": message["channel"], "id": message["id"], "successful": successful});
    for (name, value) in fields.as_object().expect("fields are an object") {
        answer[name] = value.clone();
    }
    answer
}

async fn serve_socket(stream: TcpStream, connection: usize, teller: Teller) {
    let mut headers = HeaderMap::new();
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let note_headers = |request: &upgrade::Request, mut response: upgrade::Response| {
        headers = request.headers().clone();
        response.headers_mut().insert(SET_COOKIE, set_cookie());
        Ok::<_, upgrade::ErrorResponse>(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, note_headers).await else {
        return;
    };
    let (orders_sender, mut orders) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(Order::Send(message)) = order else { return };
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let messages = serde_json::from_str(&text).expect("an array of messages");
                    let way = Way::Socket(orders_sender.clone());
                    let exchange = Exchange { messages, headers: headers.clone(), connection, way };
                    let _ = teller.exchanges.send(exchange);
                }
                Some(Ok(Message::Pong(payload))) => drop(teller.notes.send(Note::Pong(payload))),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

async fn serve_posts(stream: TcpStream, connection: usize, teller: Teller) {
    let mut hang_up = teller.hang_up.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let teller = teller.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("a whole request").to_bytes();
            let messages = serde_json::from_slice(&body).expect("an array of messages");
            let (response, answered) = oneshot::channel();
            let exchange = Exchange {
                messages,
                headers: head.headers,
                connection,
                way: Way::Post(response),
            };
            let _ = teller.exchanges.send(exchange);
            // An error here makes hyper end the connection, which is what a cut is.
            let (status, body) = answered.await.map_err(|_| "cut")?;
            let mut response = Response::new(Full::<Bytes>::from(body));
            *response.status_mut() = status;
            response.headers_mut().insert(SET_COOKIE, set_cookie());
            Ok::<_, &'static str>(response)
        }
    });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = serving => {}
        _ = hang_up.wait_for(|hung_up| *hung_up == Some(connection)) => {}
    }
}

fn set_cookie() -> HeaderValue {
    HeaderValue::from_str(&format!("{COOKIE}; Path=/; HttpOnly")).expect("plain text")
}
