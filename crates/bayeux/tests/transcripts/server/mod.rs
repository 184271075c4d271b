//! The smallest honest server around the sessions: a log that is a list, and carriers that are bodies under construction.

mod outgoing;
mod outside;
mod rest;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem::take;
use std::sync::Arc;
use std::time::Instant;

use bayeux::codec::{self, Body};
use bayeux::{
    Answer, Call, Carrier, CarrierKind, ChannelPattern, ClientId, Delivery, Direct, Failure, LogEnds,
    Message, Offset, Publish, Reply, Rights, Routes, Rule, Session, Settings, Snapshot, Target,
    deny_handshake,
};
use serde_json::value::RawValue;

pub(crate) use outside::duration;

pub(crate) struct Said {
    pub(crate) line: usize,
    pub(crate) who: String,
    pub(crate) what: String,
}

pub(crate) struct Server {
    /// The line of the transcript that is being played.
    pub(crate) line: usize,
    said: Vec<Said>,
    now: Instant,
    started: Instant,
    settings: Settings,
    rules: Vec<Rule>,
    /// Of the clients that shake hands from here on.
    rights: Rights,
    log: Vec<Arc<Delivery>>,
    /// The first offset that is still in the log.
    first: u64,
    /// Which log it is; offsets of another one mean nothing.
    epoch: u32,
    page: usize,
    sessions: BTreeMap<String, Session>,
    /// What was last written down of each session, and in which epoch.
    records: BTreeMap<String, (Snapshot, u32)>,
    routes: BTreeSet<(String, ChannelPattern)>,
    carriers: BTreeMap<String, Open>,
    opened: u64,
    handshakes: u32,
    /// Reads of the log that wait for `! reads go on`.
    stalled: Option<Vec<(String, String, Offset)>>,
    /// What services were asked.
    calls: Vec<Asked>,
    /// Answers that had not left when their session moved, and go after it.
    forwarded: BTreeMap<String, Vec<Direct>>,
    /// Other nodes share the log.
    is_shared: bool,
    broken: bool,
    denies: bool,
    shows_checkpoints: bool,
}

/// A call, and where its session was then.
struct Asked {
    session: String,
    call: Call,
    is_elsewhere: bool,
}

struct Open {
    carrier: Carrier,
    body: Body,
    pings: VecDeque<Offset>,
    /// A body is being answered: replies go into it. A message alone in its frame needs no body.
    receiving: bool,
    /// A connect is held.
    waits: bool,
}

struct Routing<'a> {
    session: &'a str,
    routes: &'a mut BTreeSet<(String, ChannelPattern)>,
    ends: LogEnds,
}

impl Routes for Routing<'_> {
    fn add(&mut self, pattern: &ChannelPattern) -> LogEnds {
        assert!(
            self.routes.insert((self.session.to_owned(), pattern.clone())),
            "routed twice"
        );
        self.ends
    }

    fn remove(&mut self, pattern: &ChannelPattern) {
        assert!(
            self.routes.remove(&(self.session.to_owned(), pattern.clone())),
            "was routed"
        );
    }

    fn ends(&self) -> LogEnds {
        self.ends
    }
}

impl Default for Server {
    #[expect(
        clippy::disallowed_methods,
        reason = "any moment will do: from here on time is counted"
    )]
    fn default() -> Self {
        let now = Instant::now();
        Self {
            line: 0,
            said: Vec::new(),
            now,
            started: now,
            settings: Settings::default(),
            rules: Vec::new(),
            rights: Rights::default(),
            log: Vec::new(),
            first: 1,
            epoch: 0,
            page: 100,
            sessions: BTreeMap::new(),
            records: BTreeMap::new(),
            routes: BTreeSet::new(),
            carriers: BTreeMap::new(),
            opened: 0,
            handshakes: 0,
            stalled: None,
            calls: Vec::new(),
            forwarded: BTreeMap::new(),
            is_shared: false,
            broken: false,
            denies: false,
            shows_checkpoints: false,
        }
    }
}

impl Server {
    pub(crate) fn take_said(&mut self) -> Vec<Said> {
        take(&mut self.said)
    }

    /// A body came on a carrier.
    pub(crate) fn receive(&mut self, name: &str, text: &str) {
        let carrier = self.open(name);
        let limits = self.settings.limits.clone();
        match codec::decode(text.as_bytes(), &limits) {
            Err(error) => {
                self.say(name, format!("refused: {error}"));
            }
            Ok(messages) => {
                let alone = messages.len() == 1;
                self.carriers.get_mut(name).expect("open").receiving =
                    !alone || carrier.kind == CarrierKind::Exchange;
                for (place, message) in messages.into_iter().enumerate() {
                    let reply = match message {
                        Ok(mut message) => {
                            message.wall = self.wall();
                            self.answer(name, carrier, place, alone, &message)
                        }
                        Err(reply) => Some(reply),
                    };
                    self.sessions
                        .keys()
                        .cloned()
                        .collect::<Vec<_>>()
                        .iter()
                        .for_each(|id| self.drain(id));
                    if let (Some(reply), Some(open)) = (reply, self.carriers.get_mut(name)) {
                        open.body.reply(&reply);
                    }
                }
            }
        }
        if let Some(open) = self.carriers.get_mut(name) {
            open.receiving = false;
        }
        self.flush(name);
        self.write_down();
    }

    fn open(&mut self, name: &str) -> Carrier {
        self.opened += 1;
        let kind = if name.starts_with("ws") {
            CarrierKind::Socket
        } else {
            CarrierKind::Exchange
        };
        let carrier = Carrier {
            id: self.opened,
            kind,
        };
        let new = Open {
            carrier,
            body: Body::default(),
            pings: VecDeque::new(),
            receiving: true,
            waits: false,
        };
        let open = self.carriers.entry(name.to_owned()).or_insert(new);
        assert!(
            kind == CarrierKind::Socket || open.carrier == carrier,
            "the exchange {name} is not over"
        );
        open.receiving = true;
        open.carrier
    }

    fn answer(
        &mut self,
        name: &str,
        carrier: Carrier,
        place: usize,
        alone: bool,
        message: &Message<'_>,
    ) -> Option<Box<Reply>> {
        let handshake = message.target == Target::Handshake;
        if handshake && place == 0 {
            return self.handshake(name, carrier, message);
        }
        let id = message.client_id.as_deref().unwrap_or_default();
        self.wake(id);
        let ends = self.ends();
        let Some(session) = self.sessions.get_mut(id) else {
            let failure = if handshake {
                Failure::HandshakeNotFirst
            } else {
                Failure::SessionUnknown
            };
            return Some(Box::new(Reply::failure(message, failure)));
        };
        if self.is_shared && session.is_ahead(message) {
            session.handle_promised_elsewhere(ends.last);
        }
        let mut routing = Routing {
            session: id,
            routes: &mut self.routes,
            ends,
        };
        match session.handle_message(self.now, carrier, alone, message, &mut routing) {
            Answer::Reply(reply) => Some(reply),
            Answer::Held => {
                self.carriers.get_mut(name).expect("open").waits = true;
                None
            }
            Answer::Publish(publish) => {
                let Publish {
                    channel,
                    traits,
                    mut reply,
                } = *publish;
                if self.broken {
                    reply.fail(Failure::PublishFailed);
                } else {
                    self.publish(
                        channel,
                        message.data.unwrap_or(RawValue::NULL).to_owned(),
                        &traits,
                    );
                }
                Some(Box::new(reply))
            }
            Answer::Service(call, reply) => {
                self.calls.push(Asked {
                    session: id.to_owned(),
                    call,
                    is_elsewhere: false,
                });
                Some(reply)
            }
        }
    }

    fn handshake(&mut self, name: &str, carrier: Carrier, message: &Message<'_>) -> Option<Box<Reply>> {
        if self.denies {
            return Some(Box::new(deny_handshake(message, Failure::HandshakeDenied)));
        }
        self.handshakes += 1;
        let id = format!("s{}", self.handshakes);
        let settings = Arc::new(self.settings.clone());
        let (mut session, reply) = Session::open(
            ClientId::new(&id),
            settings,
            self.rights.clone(),
            self.ends(),
            self.now,
            message,
        );
        let mut routing = Routing {
            session: &id,
            ends: self.ends(),
            routes: &mut self.routes,
        };
        let answer = session.greet(self.now, carrier, message, reply, &mut routing);
        self.sessions.insert(id, session);
        match answer {
            Answer::Reply(reply) => Some(reply),
            Answer::Held => {
                self.carriers.get_mut(name).expect("open").waits = true;
                None
            }
            Answer::Publish(_) | Answer::Service(..) => unreachable!("a handshake publishes nothing"),
        }
    }

    /// What the clock on the wall says: it was started on 23 November 2026.
    pub(super) fn wall(&self) -> u64 {
        1_795_395_989_000 + u64::try_from((self.now - self.started).as_millis()).expect("a short transcript")
    }

    fn say(&mut self, who: &str, what: String) {
        self.said.push(Said {
            line: self.line,
            who: who.to_owned(),
            what,
        });
    }

    fn end(&self) -> Offset {
        Offset(self.log.len() as u64)
    }

    fn ends(&self) -> LogEnds {
        LogEnds {
            first: Offset(self.first),
            last: self.end(),
        }
    }
}
