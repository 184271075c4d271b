//! One keep-alive HTTP connection, opened again when it broke.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection to one address, which is opened when it is first needed and after each failure.
pub struct Connection {
    address: SocketAddr,
    patience: Duration,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// A whole answer.
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// The body, read to its end.
    pub body: Bytes,
}

impl Connection {
    /// A connection that gives each request `patience` to be answered. Opens nothing yet.
    pub fn new(address: SocketAddr, patience: Duration) -> Connection {
        Connection {
            address,
            patience,
            sender: None,
        }
    }

    /// `GET path`.
    pub async fn get(&mut self, path: &str) -> io::Result<Response> {
        self.send(Request::get(path), Bytes::new()).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&mut self, path: &str, json: Bytes) -> io::Result<Response> {
        self.send(
            Request::post(path).header("content-type", "application/json"),
            json,
        )
        .await
    }

    /// Sends one request and reads the answer. Any failure closes the connection: whether the request had an effect is
    /// then unknown.
    pub async fn send(&mut self, head: hyper::http::request::Builder, body: Bytes) -> io::Result<Response> {
        let request = head
            .header("host", self.address.to_string())
            .body(Full::new(body))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let answer = timeout(self.patience, self.exchange(request))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer in {:?}", self.patience),
                ))
            });
        if answer.is_err() {
            self.sender = None;
        }
        answer
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> io::Result<Response> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            Some(_) | None => self.open().await?,
        };
        sender.ready().await.map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(io::Error::other)?
            .to_bytes();
        self.sender = Some(sender);
        Ok(Response { status, body })
    }

    async fn open(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends when the sender is dropped or the peer closes; how it ended, the next request will say.
        tokio::spawn(connection);
        Ok(sender)
    }
}

impl Response {
    /// The body as text, whatever it is, for messages to a person.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
