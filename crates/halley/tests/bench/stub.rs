//! A small Bayeux server for long-polling that does one thing wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::Deserialize;
use serde_json::{Value, json};

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The third event goes nowhere.
    Lose,
    /// The third event comes twice.
    Duplicate,
    /// The fourth event comes before the third.
    Reorder,
    /// The third event comes to everyone, whoever it is for.
    Misroute,
    /// Every event is changed.
    Corrupt,
    /// The publish of the third event is refused.
    Refuse,
    /// It is refused and delivered all the same.
    RefuseAndDeliver,
    /// The connection with the third event breaks before the answer.
    Break,
    /// Nothing is answered for a while after the third event.
    Stall,
    /// Nobody may subscribe.
    Deny,
}

/// How long it stalls.
pub(crate) const STALL: Duration = Duration::from_millis(600);

#[derive(Default)]
struct State {
    sessions: BTreeMap<String, Session>,
    /// Events that came.
    count: usize,
    late: Option<Event>,
}

#[derive(Default)]
struct Session {
    channels: Vec<String>,
    queue: Vec<Value>,
    connected: bool,
}

struct Stub {
    fault: Fault,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Deserialize)]
struct Event {
    channel: String,
    data: Value,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Message {
    channel: String,
    client_id: String,
    subscription: String,
    id: Value,
}

/// Starts one; it ends with the process.
pub(crate) fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    let stub = Arc::new(Stub {
        fault,
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let stub = Arc::clone(&stub);
            thread::spawn(move || stub.serve(stream));
        }
    });
    addr
}

impl Stub {
    /// Until the connection ends.
    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let (line, body) = request(&mut reader)?;
            let (status, answer) = if line.contains("/publish") {
                self.publish(&body)?
            } else {
                let messages: Vec<Message> = serde_json::from_slice(&body).ok()?;
                let replies = messages.iter().map(|message| self.handle(message));
                (200, Value::Array(replies.collect::<Option<Vec<_>>>()?.concat()))
            };
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", answer.len());
            stream.write_all(format!("{head}{answer}").as_bytes()).ok()?;
        }
    }

    /// `None` is a connection that breaks.
    fn publish(&self, body: &[u8]) -> Option<(u16, Value)> {
        let events: Vec<Event> = if body.starts_with(b"[") {
            serde_json::from_slice(body).ok()?
        } else {
            vec![serde_json::from_slice(body).ok()?]
        };
        let mut state = self.state.lock();
        for event in events {
            state.count += 1;
            let fault = if state.count == 3 || self.fault == Fault::Corrupt {
                self.fault
            } else {
                Fault::None
            };
            if let Some(answer) = state.take(event, fault) {
                self.changed.notify_all();
                return answer;
            }
        }
        self.changed.notify_all();
        Some((201, json!({})))
    }

    fn handle(&self, message: &Message) -> Option<Vec<Value>> {
        let mut state = self.state.lock();
        let mut reply = json!({ "channel": message.channel, "successful": true, "id": message.id });
        match &*message.channel {
            "/meta/handshake" => {
                let client_id = format!("session-{}", state.sessions.len());
                reply["clientId"] = client_id.as_str().into();
                state.sessions.insert(client_id, Session::default());
                Some(vec![reply])
            }
            "/meta/subscribe" if self.fault == Fault::Deny => {
                reply["successful"] = false.into();
                reply["error"] = "403::denied".into();
                Some(vec![reply])
            }
            "/meta/subscribe" => {
                let session = state.sessions.get_mut(&message.client_id)?;
                session.channels.push(message.subscription.clone());
                Some(vec![reply])
            }
            "/meta/connect" => {
                reply["advice"] = json!({ "reconnect": "retry", "interval": 0, "timeout": 5_000 });
                let session = state.sessions.get_mut(&message.client_id)?;
                if std::mem::replace(&mut session.connected, true) {
                    let until = Instant::now() + Duration::from_secs(5);
                    let waits = |state: &mut State| {
                        state
                            .queue(&message.client_id)
                            .is_some_and(|queue| queue.is_empty())
                    };
                    self.changed.wait_while_until(&mut state, waits, until);
                }
                let mut messages = std::mem::take(state.queue(&message.client_id)?);
                messages.push(reply);
                Some(messages)
            }
            _ => Some(vec![reply]),
        }
    }
}

impl State {
    fn queue(&mut self, client_id: &str) -> Option<&mut Vec<Value>> {
        Some(&mut self.sessions.get_mut(client_id)?.queue)
    }

    /// Takes an event in the way of the fault, and says what its publisher is told, if that is not what it should be.
    #[expect(clippy::option_option, reason = "no answer at all is one of the answers")]
    fn take(&mut self, event: Event, fault: Fault) -> Option<Option<(u16, Value)>> {
        match fault {
            Fault::Lose => {}
            Fault::Refuse => return Some(Some((400, json!({ "title": "no" })))),
            Fault::RefuseAndDeliver => {
                self.deliver(&event, false);
                return Some(Some((400, json!({ "title": "no" }))));
            }
            Fault::Break => return Some(None),
            Fault::Duplicate => {
                self.deliver(&event, false);
                self.deliver(&event, false);
            }
            Fault::Reorder => self.late = Some(event),
            Fault::Misroute => self.deliver(&event, true),
            Fault::Stall => {
                self.deliver(&event, false);
                // With the lock, so that nobody is answered.
                thread::sleep(STALL);
            }
            Fault::Corrupt => {
                let mut changed = event;
                changed.data["pad"] = "something else".into();
                self.deliver(&changed, false);
            }
            Fault::None | Fault::Deny => {
                self.deliver(&event, false);
                if let Some(late) = self.late.take() {
                    self.deliver(&late, false);
                }
            }
        }
        None
    }

    fn deliver(&mut self, event: &Event, to_everyone: bool) {
        let message = json!({ "channel": event.channel, "data": event.data });
        for session in self.sessions.values_mut() {
            if to_everyone || session.channels.contains(&event.channel) {
                session.queue.push(message.clone());
            }
        }
    }
}

/// The line and the body of a request.
fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first, body))
}
