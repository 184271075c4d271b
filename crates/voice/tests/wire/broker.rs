//! A broker that keeps what it is given, and fails on request.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

/// What to do with one request; without any, events are accepted.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    /// Answer with this status and keep nothing.
    Status(u16),
    /// Answer 503 and ask for a pause of so many seconds.
    RetryAfter(u64),
    /// Close the connection and keep nothing.
    Drop,
    /// Keep the events and close the connection, so that the answer is lost.
    KeepAndDrop,
    /// Wait for [`Broker::release`], then accept.
    Hold,
}

#[derive(Default)]
struct Seen {
    replies: VecDeque<Reply>,
    requests: Vec<Vec<Value>>,
    events: Vec<Value>,
    ids: HashSet<String>,
    connections: usize,
}

#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    released: Arc<watch::Sender<bool>>,
}

impl Broker {
    pub(crate) async fn start(replies: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Broker {
            url: format!("http://{}", listener.local_addr().unwrap()),
            seen: Arc::new(Mutex::new(Seen {
                replies: replies.iter().copied().collect(),
                ..Seen::default()
            })),
            changed: Arc::default(),
            released: Arc::new(watch::channel(false).0),
        };
        let accepting = broker.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                accepting.seen.lock().connections += 1;
                let broker = accepting.clone();
                let service = service_fn(move |request| {
                    let broker = broker.clone();
                    async move { broker.answer(request).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        broker
    }

    /// Lets held requests go on.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Waits until so many different events were accepted, and returns them in order.
    pub(crate) async fn events(&self, count: usize) -> Vec<Value> {
        self.wait(|seen| (seen.events.len() >= count).then(|| seen.events.clone()))
            .await
    }

    /// Waits until so many requests have come, and returns the event ids of each.
    pub(crate) async fn requests(&self, count: usize) -> Vec<Vec<String>> {
        let ids = |request: &Vec<Value>| request.iter().map(|event| id(event).to_owned()).collect();
        self.wait(|seen| (seen.requests.len() >= count).then(|| seen.requests.iter().map(ids).collect()))
            .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().connections
    }

    /// The stream of one user so far, as a subscriber would see it.
    pub(crate) fn stream(&self, user: &str) -> Vec<Value> {
        let seen = self.seen.lock();
        let own = seen.events.iter().filter(|event| event["user"] == user);
        own.map(|event| json!({"data": event["data"], "channel": event["channel"]}))
            .collect()
    }

    async fn wait<T>(&self, ready: impl Fn(&Seen) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if let Some(value) = ready(&self.seen.lock()) {
                    return value;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .expect("what is waited for must happen")
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, &'static str> {
        assert_eq!(request.uri().path(), "/api/v1/events");
        let body = request
            .into_body()
            .collect()
            .await
            .map_err(|_| "no body")?
            .to_bytes();
        let events: Vec<Value> = serde_json::from_slice(&body).expect("events are a JSON array");
        let reply = {
            let mut seen = self.seen.lock();
            seen.requests.push(events.clone());
            seen.replies.pop_front()
        };
        self.changed.notify_waiters();
        match reply {
            Some(Reply::Status(status)) => return Ok(respond(status, "no")),
            Some(Reply::RetryAfter(seconds)) => {
                let mut response = respond(503, "later");
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
                return Ok(response);
            }
            Some(Reply::Drop) => return Err("drop"),
            Some(Reply::KeepAndDrop) => {
                self.keep(events);
                return Err("drop");
            }
            Some(Reply::Hold) => {
                let mut released = self.released.subscribe();
                released
                    .wait_for(|released| *released)
                    .await
                    .map_err(|_| "gone")?;
            }
            None => {}
        }
        Ok(respond(201, &self.keep(events).to_string()))
    }

    /// Keeps what is new, and answers with a position for every event.
    fn keep(&self, events: Vec<Value>) -> Value {
        let mut positions = Vec::new();
        let mut seen = self.seen.lock();
        for event in events {
            if seen.ids.insert(id(&event).to_owned()) {
                positions.push(json!({"epoch": "e", "offset": seen.events.len()}));
                seen.events.push(event);
            } else {
                positions.push(json!({"epoch": "e", "offset": 0, "duplicate": true}));
            }
        }
        drop(seen);
        self.changed.notify_waiters();
        Value::Array(positions)
    }
}

pub(crate) fn id(event: &Value) -> &str {
    event["id"].as_str().expect("an event has an id")
}

fn respond(status: u16, body: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status);
    response.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}
