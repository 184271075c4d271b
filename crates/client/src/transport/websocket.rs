//! One WebSocket, several requests in flight on it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{Sink, Stream};
use hyper::header::HeaderMap;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::cookies::Cookies;
use super::{Endpoint, Report, Transport};
use crate::reply::decode;
use crate::request::{MessageId, Request, encode};

type Socket = WebSocketStream<TcpStream>;

/// The `websocket` connection type. A batch is one text frame.
pub(crate) struct WebSocket {
    endpoint: Endpoint,
    config: WebSocketConfig,
    cookies: Cookies,
    link: Link,
    outbox: VecDeque<Utf8Bytes>,
    /// Set when the socket was given up from our side.
    broken: Option<String>,
}

enum Link {
    Down,
    Opening(BoxFuture<'static, tungstenite::Result<(Socket, HeaderMap)>>),
    Up { socket: Box<Socket>, flushed: bool },
}

impl WebSocket {
    /// Messages above `max_message_size` bytes end the connection.
    pub(crate) fn new(endpoint: Endpoint, max_message_size: usize) -> WebSocket {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(max_message_size))
            .max_frame_size(Some(max_message_size));
        WebSocket {
            endpoint,
            config,
            cookies: Cookies::default(),
            link: Link::Down,
            outbox: VecDeque::new(),
            broken: None,
        }
    }

    fn poll_link(&mut self, context: &mut Context<'_>) -> Poll<Result<Report, String>> {
        loop {
            match &mut self.link {
                Link::Down if self.outbox.is_empty() => return Poll::Pending,
                Link::Down => {
                    let headers = self.endpoint.headers(&self.cookies);
                    self.link = Link::Opening(Box::pin(open(self.endpoint.clone(), headers, self.config)));
                }
                Link::Opening(opening) => {
                    let (socket, headers) =
                        ready!(opening.as_mut().poll(context)).map_err(|error| failure(&error))?;
                    self.cookies.take(&headers);
                    self.link = Link::Up {
                        socket: Box::new(socket),
                        flushed: true,
                    };
                }
                Link::Up { socket, flushed } => {
                    let mut socket = Pin::new(socket.as_mut());
                    // A write that has to wait must not keep us from reading.
                    if let Poll::Ready(Err(error)) =
                        poll_write(socket.as_mut(), &mut self.outbox, flushed, context)
                    {
                        return Poll::Ready(Err(failure(&error)));
                    }
                    return poll_read(socket, context);
                }
            }
        }
    }

    fn drop_link(&mut self) {
        self.link = Link::Down;
        self.outbox.clear();
    }
}

impl Transport for WebSocket {
    const CONNECTION_TYPE: &'static str = "websocket";

    fn send(&mut self, batch: Vec<Request>) {
        self.outbox.push_back(encode(&batch).into());
    }

    /// One socket carries all: what should have come on it is lost together.
    fn abandon(&mut self, _: MessageId) {
        self.drop_link();
        self.broken = Some("the server did not answer in time".to_owned());
    }

    fn poll_report(&mut self, context: &mut Context<'_>) -> Poll<Report> {
        if let Some(reason) = self.broken.take() {
            return Poll::Ready(Report::Broken { reason });
        }
        match ready!(self.poll_link(context)) {
            Ok(report) => Poll::Ready(report),
            Err(reason) => {
                self.drop_link();
                Poll::Ready(Report::Broken { reason })
            }
        }
    }

    async fn close(&mut self) {
        if let Link::Up { socket, .. } = &mut self.link {
            // The session is over either way.
            let _ = socket.close(None).await;
        }
        self.drop_link();
    }
}

async fn open(
    endpoint: Endpoint,
    headers: HeaderMap,
    config: WebSocketConfig,
) -> tungstenite::Result<(Socket, HeaderMap)> {
    let stream = endpoint.connect().await?;
    let mut request = endpoint.upgrade_uri().into_client_request()?;
    request.headers_mut().extend(headers);
    let (socket, response) =
        tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
    Ok((socket, response.into_parts().0.headers))
}

fn poll_write(
    mut socket: Pin<&mut Socket>,
    outbox: &mut VecDeque<Utf8Bytes>,
    flushed: &mut bool,
    context: &mut Context<'_>,
) -> Poll<tungstenite::Result<()>> {
    while !outbox.is_empty() {
        ready!(socket.as_mut().poll_ready(context))?;
        if let Some(text) = outbox.pop_front() {
            *flushed = false;
            socket.as_mut().start_send(Message::Text(text))?;
        }
    }
    if !*flushed {
        ready!(socket.poll_flush(context))?;
        *flushed = true;
    }
    Poll::Ready(Ok(()))
}

fn poll_read(mut socket: Pin<&mut Socket>, context: &mut Context<'_>) -> Poll<Result<Report, String>> {
    loop {
        let message = match ready!(socket.as_mut().poll_next(context)) {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Poll::Ready(Err(failure(&error))),
            None => return Poll::Ready(Err("the server closed the socket".to_owned())),
        };
        match message {
            Message::Text(text) => {
                let received = decode(text.as_bytes()).map(Report::Received);
                return Poll::Ready(received.map_err(|error| format!("not a Bayeux message: {error}")));
            }
            Message::Close(frame) => {
                let reason = frame.map(|frame| format!(": {frame}")).unwrap_or_default();
                return Poll::Ready(Err(format!("the server closed the socket{reason}")));
            }
            // Pings are answered by the library; Bayeux has no use for the rest.
            Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => {}
        }
    }
}

fn failure(error: &tungstenite::Error) -> String {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only a refused upgrade needs other words"
    )]
    match error {
        tungstenite::Error::Http(response) => {
            format!(
                "the server answered {} to the WebSocket upgrade",
                response.status()
            )
        }
        other => other.to_string(),
    }
}

/// The default is 128 KiB for each connection, and a load test has thousands.
const READ_BUFFER: usize = 4096;
