//! A backend that a test answers for, question by question.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use halley::config::{Config, Service, Span};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server. Questions wait until the test takes them.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    questions: mpsc::UnboundedReceiver<Question>,
    connections: Arc<AtomicUsize>,
}

/// A request, to be answered by the test.
pub(crate) struct Question {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    answer: oneshot::Sender<Response<Full<Bytes>>>,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, questions) = mpsc::unbounded_channel();
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let sender = sender.clone();
                let serve = service_fn(move |request| pass_on(sender.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
            }
        });
        Self {
            address,
            questions,
            connections,
        }
    }

    /// Makes this backend the service of a pattern.
    pub(crate) fn answers(&self, channel: &str) -> Service {
        service(channel, self.address)
    }

    /// The next question.
    pub(crate) async fn question(&mut self) -> Question {
        let question = timeout(PATIENCE, self.questions.recv()).await;
        question.expect("a question in time").expect("the server runs")
    }

    /// Nobody has asked anything that the test has not seen.
    pub(crate) fn is_idle(&self) -> bool {
        self.questions.is_empty()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Question {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().expect("a text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a question is JSON")
    }

    /// Answers with 200 and this JSON.
    pub(crate) fn answer(self, body: &str) {
        self.answer_with(200, "application/json", body);
    }

    pub(crate) fn answer_with(self, status: u16, content_type: &'static str, body: &str) {
        let mut response = Response::new(Full::from(body.to_owned()));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        let content_type = content_type.parse().expect("a content type");
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        self.answer.send(response).expect("the broker waits for it");
    }
}

async fn pass_on(
    sender: mpsc::UnboundedSender<Question>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a whole question").to_bytes();
    let (answer, answered) = oneshot::channel();
    let question = Question {
        headers: head.headers,
        body,
        answer,
    };
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/ask"));
    let _ = sender.send(question);
    match answered.await {
        Ok(response) => Ok(response),
        // The test has dropped the question: it is never answered.
        Err(_) => std::future::pending().await,
    }
}

/// A service with the defaults of the configuration.
pub(crate) fn service(channel: &str, address: SocketAddr) -> Service {
    let text = format!("[[services]]\nchannel = \"{channel}\"\nurl = \"http://{address}/ask\"\n");
    let config = Config::parse(&text, "the test").expect("a service");
    config.services.into_iter().next().expect("one")
}

/// A length of time in the configuration.
pub(crate) fn milliseconds(count: u64) -> Span {
    Span(Duration::from_millis(count))
}
