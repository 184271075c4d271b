//! One kept-alive HTTP connection with at most one request in flight.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Endpoint;
use super::cookies::Cookies;
use crate::request::MessageId;

/// A connection and the posts that wait for it, one after the other.
pub(crate) struct Line {
    endpoint: Endpoint,
    max_body_size: usize,
    waiting: VecDeque<Post>,
    idle: Option<Connection>,
    exchange: Option<Exchange>,
}

/// One HTTP request to be.
pub(crate) struct Post {
    pub(crate) ids: Vec<MessageId>,
    pub(crate) body: Bytes,
}

/// How a post ended.
pub(crate) struct Outcome {
    pub(crate) ids: Vec<MessageId>,
    pub(crate) result: Result<Bytes, String>,
}

struct Exchange {
    ids: Vec<MessageId>,
    work: BoxFuture<'static, (Option<Connection>, Result<Answer, String>)>,
}

struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Hyper's own work on the connection; none once it has ended.
    driver: Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

impl Line {
    pub(crate) fn new(endpoint: Endpoint, max_body_size: usize) -> Line {
        Line {
            endpoint,
            max_body_size,
            waiting: VecDeque::new(),
            idle: None,
            exchange: None,
        }
    }

    pub(crate) fn send(&mut self, post: Post) {
        self.waiting.push_back(post);
    }

    /// Forgets the post that carries this request. If it is on its way, its connection ends with it.
    pub(crate) fn abandon(&mut self, id: MessageId) {
        self.waiting.retain(|post| !post.ids.contains(&id));
        self.exchange.take_if(|exchange| exchange.ids.contains(&id));
    }

    pub(crate) fn poll(&mut self, cookies: &mut Cookies, context: &mut Context<'_>) -> Poll<Outcome> {
        if self.exchange.is_none() {
            let Some(post) = self.waiting.pop_front() else {
                return Poll::Pending;
            };
            self.exchange = Some(self.begin(post, cookies));
        }
        let Some(exchange) = &mut self.exchange else {
            return Poll::Pending;
        };
        let (idle, answer) = ready!(exchange.work.as_mut().poll(context));
        let ids = std::mem::take(&mut exchange.ids);
        self.exchange = None;
        self.idle = idle;
        let result = answer.map(|answer| {
            cookies.take(&answer.headers);
            answer.body
        });
        Poll::Ready(Outcome { ids, result })
    }

    fn begin(&mut self, post: Post, cookies: &Cookies) -> Exchange {
        let mut request = Request::new(Full::new(post.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.post_uri();
        *request.headers_mut() = self.endpoint.headers(cookies);
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        request.headers_mut().insert(ACCEPT, JSON);
        let (endpoint, idle, limit) = (self.endpoint.clone(), self.idle.take(), self.max_body_size);
        Exchange {
            ids: post.ids,
            work: Box::pin(exchange(endpoint, idle, request, limit)),
        }
    }
}

/// Posts on the idle connection or on a new one, and gives back a connection that can be used again.
async fn exchange(
    endpoint: Endpoint,
    idle: Option<Connection>,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> (Option<Connection>, Result<Answer, String>) {
    let mut connection = match usable(idle, &endpoint).await {
        Ok(connection) => connection,
        Err(reason) => return (None, Err(reason)),
    };
    match connection.post(request, limit).await {
        Ok(answer) => (Some(connection), Ok(answer)),
        Err(reason) => (None, Err(reason)),
    }
}

/// The idle connection if the server has not closed it meanwhile, else a new one.
async fn usable(idle: Option<Connection>, endpoint: &Endpoint) -> Result<Connection, String> {
    if let Some(mut connection) = idle
        && connection.is_ready().await
    {
        return Ok(connection);
    }
    let stream = endpoint.connect().await.map_err(|error| error.to_string())?;
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (sender, driver) = opened.map_err(|error| error.to_string())?;
    Ok(Connection {
        sender,
        driver: Some(driver),
    })
}

impl Connection {
    async fn is_ready(&mut self) -> bool {
        let Connection { sender, driver } = self;
        drive(driver, sender.ready()).await.is_ok() && driver.is_some()
    }

    async fn post(&mut self, request: Request<Full<Bytes>>, limit: usize) -> Result<Answer, String> {
        let Connection { sender, driver } = self;
        let response = drive(driver, sender.send_request(request)).await;
        let (head, body) = response.map_err(|error| error.to_string())?.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("the server answered {}", head.status));
        }
        let body = drive(driver, Limited::new(body, limit).collect()).await;
        let body = body
            .map_err(|error| format!("the answer broke off: {error}"))?
            .to_bytes();
        Ok(Answer {
            headers: head.headers,
            body,
        })
    }
}

/// Works on the connection until `work` is done. A connection may end before: the last answer is
/// then still to be read.
async fn drive<T>(
    driver: &mut Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        let ended = driver
            .as_mut()
            .is_some_and(|driver| pin!(driver).poll(context).is_ready());
        if ended {
            *driver = None;
        }
        work.as_mut().poll(context)
    })
    .await
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
