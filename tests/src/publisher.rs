//! The voice backend: publishes over HTTP until every event is answered `201`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::Connection;

/// How long one event may take to be accepted, kills and restarts of the broker included.
const PATIENCE: Duration = Duration::from_secs(30);

/// One event to publish.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// The one user it is for; without it, everyone subscribed to the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The channel, as clients subscribe to it.
    pub channel: String,
    /// What the client gets.
    pub data: Value,
    /// The publisher's own name for it: repeating it is safe.
    pub id: String,
}

/// What the broker answered: the event is durable, at this position.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Accepted {
    /// Which log the offset belongs to.
    pub epoch: String,
    /// Its place in the log.
    pub offset: u64,
    /// The id had been seen: this is the position that it got then.
    #[serde(default)]
    pub duplicate: bool,
}

/// A publisher on the internal listener. It retries with the same ids whenever it cannot know what became of them, as
/// the README tells publishers to do.
pub struct Publisher {
    /// To each node that takes events.
    connections: Vec<Connection>,
    /// The one that the next request goes to.
    at: usize,
    name: String,
    next: u64,
    accepted: Vec<(u64, Accepted)>,
    retries: u64,
}

impl Publisher {
    /// A publisher whose event ids begin with `name`.
    pub fn new(internal: SocketAddr, name: &str) -> Publisher {
        Self::to_any(&[internal], name)
    }

    /// The same with several nodes: when one does not take an event, the next is asked.
    pub fn to_any(internal: &[SocketAddr], name: &str) -> Publisher {
        let connect = |address: &SocketAddr| Connection::new(*address, Duration::from_secs(5));
        Publisher {
            connections: internal.iter().map(connect).collect(),
            at: 0,
            name: name.to_owned(),
            next: 1,
            accepted: Vec::new(),
            retries: 0,
        }
    }

    /// Publishes the next event to one user: `data` is `{"seq":N}`, N counting from 1. Returns N.
    pub async fn publish(&mut self, user: &str, channel: &str) -> u64 {
        let event = self.event(user, channel, 0);
        let body = serde_json::to_vec(&event).expect("an event is JSON");
        let answer = self.insist(body.into()).await;
        let accepted: Accepted = serde_json::from_slice(&answer).unwrap_or_else(|error| {
            panic!(
                "expected a position, got {}: {error}",
                String::from_utf8_lossy(&answer)
            )
        });
        self.record(accepted);
        self.next - 1
    }

    /// Publishes `count` more events in one request, each padded with `padding` bytes in `data.pad`.
    pub async fn publish_batch(&mut self, user: &str, channel: &str, count: u64, padding: usize) {
        let events: Vec<Event> = (0..count).map(|_| self.event(user, channel, padding)).collect();
        let body = serde_json::to_vec(&events).expect("events are JSON");
        let answer = self.insist(body.into()).await;
        let accepted: Vec<Accepted> = serde_json::from_slice(&answer).unwrap_or_else(|error| {
            panic!(
                "expected positions, got {}: {error}",
                String::from_utf8_lossy(&answer)
            )
        });
        assert_eq!(accepted.len() as u64, count, "one position for each event");
        self.next -= count;
        for position in accepted {
            self.next += 1;
            self.record(position);
        }
    }

    /// Publishes one event as it is, and does not count it among the numbered ones.
    pub async fn publish_event(&mut self, event: &Event) -> Accepted {
        let answer = self
            .insist(serde_json::to_vec(event).expect("an event is JSON").into())
            .await;
        serde_json::from_slice(&answer).unwrap_or_else(|error| {
            panic!(
                "expected a position, got {}: {error}",
                String::from_utf8_lossy(&answer)
            )
        })
    }

    /// The numbers answered `201`, in the order in which they were published.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.accepted.iter().map(|(number, _)| *number)
    }

    /// What was answered for each number.
    pub fn accepted(&self) -> &[(u64, Accepted)] {
        &self.accepted
    }

    /// How many requests had to be sent again.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    fn event(&mut self, user: &str, channel: &str, padding: usize) -> Event {
        let number = self.next;
        self.next += 1;
        let mut data = serde_json::json!({ "seq": number });
        if padding > 0 {
            data["pad"] = Value::String("x".repeat(padding));
        }
        Event {
            user: Some(user.to_owned()),
            channel: channel.to_owned(),
            data,
            id: format!("{}-{number}", self.name),
        }
    }

    fn record(&mut self, position: Accepted) {
        let number = self.next - 1;
        if let Some((_, last)) = self.accepted.last() {
            let same_log = last.epoch == position.epoch;
            assert!(
                !same_log || last.offset < position.offset,
                "{number} got {position:?} after {last:?}"
            );
        }
        self.accepted.push((number, position));
    }

    /// Sends one body until it is accepted. A refusal that retrying cannot mend is a panic.
    async fn insist(&mut self, body: Bytes) -> Bytes {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let connection = &mut self.connections[self.at];
            let trouble = match connection.post("/api/v1/events", body.clone()).await {
                Ok(answer) if answer.status == 201 => return answer.body,
                Ok(answer) if answer.status.is_server_error() || answer.status == 429 => {
                    format!("{} {}", answer.status, answer.text())
                }
                Ok(answer) => panic!("a publish was refused: {} {}", answer.status, answer.text()),
                Err(error) => error.to_string(),
            };
            assert!(
                Instant::now() < deadline,
                "not accepted in {PATIENCE:?}: {trouble}"
            );
            self.retries += 1;
            self.at = (self.at + 1) % self.connections.len();
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;
    use tokio::net::TcpListener;

    use super::*;

    /// A log that forgets to answer: it stores by id, and every third request is stored but answered `503`.
    #[derive(Default)]
    struct Fake {
        ids: Vec<String>,
        requests: u64,
    }

    impl Fake {
        fn store(&mut self, event: &Value) -> Value {
            let id = event["id"].as_str().expect("an id").to_owned();
            let known = self.ids.iter().position(|known| *known == id);
            let offset = known.unwrap_or_else(|| {
                self.ids.push(id);
                self.ids.len() - 1
            });
            serde_json::json!({ "epoch": "e", "offset": offset, "duplicate": known.is_some() })
        }

        fn answer(&mut self, body: &Value) -> (u16, String) {
            self.requests += 1;
            let answer = match body.as_array() {
                Some(events) => events.iter().map(|event| self.store(event)).collect(),
                None => self.store(body),
            };
            if self.requests.is_multiple_of(3) {
                (503, "later".to_owned())
            } else {
                (201, answer.to_string())
            }
        }
    }

    async fn serve(listener: TcpListener, fake: Arc<Mutex<Fake>>) {
        while let Ok((stream, _)) = listener.accept().await {
            let fake = Arc::clone(&fake);
            let service = service_fn(move |request: Request<Incoming>| {
                let fake = Arc::clone(&fake);
                async move {
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    let body: Value = serde_json::from_slice(&body).expect("JSON");
                    let (status, text) = fake.lock().answer(&body);
                    let answer = Response::builder()
                        .status(status)
                        .body(Full::new(Bytes::from(text)));
                    Ok::<_, Infallible>(answer.expect("a status and a body"))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    }

    #[tokio::test]
    async fn what_was_stored_without_an_answer_is_sent_again_under_its_id() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut publisher = Publisher::new(listener.local_addr().expect("bound"), "t");
        let fake = Arc::new(Mutex::new(Fake::default()));
        tokio::spawn(serve(listener, Arc::clone(&fake)));

        for _ in 0..5 {
            publisher.publish("15000", "/v2/me/calls").await;
        }
        publisher.publish_batch("15000", "/v2/me/calls", 4, 10).await;

        assert_eq!(
            publisher.numbers().collect::<Vec<_>>(),
            (1..=9).collect::<Vec<_>>()
        );
        assert_eq!(fake.lock().ids.len(), 9, "each stored once");
        assert!(publisher.retries() > 0, "the fake refused some");
    }
}
