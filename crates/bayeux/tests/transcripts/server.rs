//! The smallest honest server around the sessions: a log that is a list, and carriers that are bodies under construction.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::codec::{self, Body};
use bayeux::{
    Answer, Carrier, CarrierKind, ChannelName, ChannelPattern, ClientId, Delivery, Failure, Handover,
    LogEnds, Message, Offset, Output, PageRead, Reply, Routes, Session, Settings, Snapshot, Target,
    deny_handshake,
};
use serde_json::value::RawValue;

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
    settings: Settings,
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
    broken: bool,
    denies: bool,
    shows_checkpoints: bool,
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
    end: Offset,
}

impl Routes for Routing<'_> {
    fn add(&mut self, pattern: &ChannelPattern) -> Offset {
        assert!(
            self.routes.insert((self.session.to_owned(), pattern.clone())),
            "routed twice"
        );
        self.end
    }

    fn remove(&mut self, pattern: &ChannelPattern) {
        assert!(
            self.routes.remove(&(self.session.to_owned(), pattern.clone())),
            "was routed"
        );
    }
}

impl Default for Server {
    #[expect(
        clippy::disallowed_methods,
        reason = "any moment will do: from here on time is counted"
    )]
    fn default() -> Self {
        Self {
            line: 0,
            said: Vec::new(),
            now: Instant::now(),
            settings: Settings::default(),
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

    /// What a line that begins with `!` says.
    pub(crate) fn happen(&mut self, event: &str) -> Result<(), String> {
        let words: Vec<&str> = event.split_whitespace().collect();
        match words[..] {
            // Events from the backend.
            ["publish", channel, ..] => self.publish(channel_name(channel)?, json_after(event, channel)?),
            // An event that is handed over again, or that the router did not hand over.
            ["again", offset] => {
                let place = number::<usize>(offset)? - 1;
                let event = self.log.get(place).cloned().ok_or("no such event")?;
                self.dispatch(&event);
            }
            ["missed", id, channel, ..] => {
                let data = json_after(event, channel)?;
                let end = self.end().next();
                self.log
                    .push(Arc::new(Delivery::encode(end, channel_name(channel)?, &data)));
                self.sessions
                    .get_mut(id)
                    .ok_or("no such session")?
                    .handle_missed(end);
                self.drain(id);
            }
            ["release", id] => {
                self.sessions
                    .get_mut(id)
                    .ok_or("no such session")?
                    .handle_release();
                self.drain(id);
            }
            // A client that has shaken hands, subscribed and connected: `! client s1 [ack] [ws1] /foo …`
            ["client", id, ref rest @ ..] => return self.greet(id, rest),
            // A carrier is gone; a response did not reach its client; a socket answers its oldest ping.
            ["lost", name] => self.lose(name).ok_or("no such carrier")?,
            ["reply-lost", id] => self
                .sessions
                .get_mut(id)
                .ok_or("no such session")?
                .handle_reply_lost(),
            ["pong", name] => self.pong(name, None).ok_or("no ping to answer")?,
            ["pong", name, offset] => self
                .pong(name, Some(Offset(number(offset)?)))
                .ok_or("no such carrier")?,
            // The broker ends and starts again: in peace, or with what was last written down.
            ["restart"] => {
                self.sessions
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
                    .iter()
                    .for_each(|id| self.put_to_rest(id));
                self.carriers.clear();
            }
            ["crash"] => {
                self.sessions.clear();
                self.routes.clear();
                self.carriers.clear();
            }
            // The log: retention, a lost tail, another log in its place, a disk that fails, reads that take their time.
            ["retain", first] => self.first = number(first)?,
            ["truncate", last] => self.log.truncate(number(last)?),
            ["other-log"] => {
                self.epoch += 1;
                self.log.clear();
            }
            ["log", "fails"] => self.broken = true,
            ["reads", "wait"] => self.stalled = Some(Vec::new()),
            ["reads", "go", "on"] => {
                for (id, name, after) in self.stalled.take().unwrap_or_default() {
                    self.read(&id, &name, after);
                    self.drain(&id);
                }
            }
            // What is told, and the configuration of the sessions to come.
            ["deny", "handshakes"] => self.denies = true,
            ["show", "checkpoints"] => self.shows_checkpoints = true,
            ["set", key, value] => self.set(key, value)?,
            _ => return Err(format!("nothing that happens: {event}")),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let settings = &mut self.settings;
        let limits = &mut settings.limits;
        match key {
            "timeout" => settings.timeout = duration(value)?,
            "interval" => settings.interval = duration(value)?,
            "server_owned" => settings
                .server_owned
                .push(ChannelPattern::parse(value).map_err(|e| e.to_string())?),
            "messages" => limits.messages = number(value)?,
            "subscriptions" => limits.subscriptions = number(value)?,
            "queue_events" => limits.queue_events = number(value)?,
            "queue_bytes" => limits.queue_bytes = number(value)?,
            "answer_bytes" => limits.answer_bytes = number(value)?,
            "page" => self.page = number(value)?,
            _ => return Err(format!("no setting: {key}")),
        }
        Ok(())
    }

    fn greet(&mut self, id: &str, options: &[&str]) -> Result<(), String> {
        let ack = options.contains(&"ack");
        let socket = options
            .iter()
            .find(|option| option.starts_with("ws"))
            .unwrap_or(&"");
        let (asked, ack) = if ack {
            (r#","ext":{"ack":true}"#, r#","ext":{"ack":0}"#)
        } else {
            ("", "")
        };
        self.receive(socket, &format!(r#"{{"channel":"/meta/handshake"{asked}}}"#));
        for channel in options.iter().filter(|option| option.starts_with('/')) {
            self.receive(
                socket,
                &format!(r#"{{"channel":"/meta/subscribe","clientId":"{id}","subscription":"{channel}"}}"#),
            );
        }
        self.receive(
            socket,
            &format!(r#"{{"channel":"/meta/connect","clientId":"{id}"{ack}}}"#),
        );
        let refused = self
            .take_said()
            .into_iter()
            .find(|said| !said.what.contains(r#""successful":true"#));
        refused.map_or(Ok(()), |said| Err(said.what))
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
                        Ok(message) => self.answer(name, carrier, place, alone, &message),
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
            return Some(Box::new(self.handshake(message)));
        }
        let id = message.client_id.as_deref().unwrap_or_default();
        self.wake(id);
        let end = self.end();
        let Some(session) = self.sessions.get_mut(id) else {
            let failure = if handshake {
                Failure::HandshakeNotFirst
            } else {
                Failure::SessionUnknown
            };
            return Some(Box::new(Reply::failure(message, failure)));
        };
        let mut routing = Routing {
            session: id,
            routes: &mut self.routes,
            end,
        };
        match session.handle_message(self.now, carrier, alone, message, &mut routing) {
            Answer::Reply(reply) => Some(reply),
            Answer::Held => {
                self.carriers.get_mut(name).expect("open").waits = true;
                None
            }
            Answer::Publish(_, mut reply) if self.broken => {
                reply.fail(Failure::PublishFailed);
                Some(reply)
            }
            Answer::Publish(channel, reply) => {
                self.publish(channel, message.data.unwrap_or(RawValue::NULL).to_owned());
                Some(reply)
            }
        }
    }

    fn handshake(&mut self, message: &Message<'_>) -> Reply {
        if self.denies {
            return deny_handshake(message);
        }
        self.handshakes += 1;
        let id = format!("s{}", self.handshakes);
        let settings = Arc::new(self.settings.clone());
        let (session, reply) = Session::open(ClientId::new(&id), settings, self.ends(), self.now, message);
        self.sessions.insert(id, session);
        reply
    }

    /// Takes up a session that is at rest.
    fn wake(&mut self, id: &str) {
        if let (None, Some((record, epoch))) = (self.sessions.get(id), self.records.get(id).cloned()) {
            let routes = record
                .subscriptions
                .iter()
                .map(|held| (id.to_owned(), held.pattern.clone()));
            self.routes.extend(routes);
            let settings = Arc::new(self.settings.clone());
            let same_log = epoch == self.epoch;
            let session = Session::resume(
                ClientId::new(id),
                settings,
                record,
                self.ends(),
                same_log,
                self.now,
            );
            self.sessions.insert(id.to_owned(), session);
        }
    }

    /// Its record stays, unless the client said goodbye or never connected.
    fn put_to_rest(&mut self, id: &str) {
        let session = self.sessions.remove(id).expect("a session in memory");
        self.routes.retain(|(owner, _)| owner != id);
        self.records.remove(id);
        if session.was_connected() && !session.is_over() {
            self.records
                .insert(id.to_owned(), (session.snapshot(), self.epoch));
        }
    }

    /// Keeps the records that a crash leaves.
    fn write_down(&mut self) {
        for (id, session) in &mut self.sessions {
            let mine: Vec<_> = self
                .routes
                .iter()
                .filter(|(owner, _)| owner == id)
                .map(|(_, pattern)| pattern)
                .collect();
            let mut held: Vec<_> = session.subscriptions().iter().map(|held| &held.pattern).collect();
            held.sort();
            assert_eq!(mine, held, "what is routed to {id} is what it listens to");
            let checkpoint = session.poll_checkpoint();
            let old = self.records.get(id);
            if session.is_over() {
                self.records.remove(id);
            } else if session.was_connected()
                && (checkpoint.is_some()
                    || old.is_none_or(|(old, _)| old.subscriptions != session.subscriptions()))
            {
                self.records.insert(id.clone(), (session.snapshot(), self.epoch));
            }
            if let Some(offset) = checkpoint.filter(|_| self.shows_checkpoints) {
                self.said.push(Said {
                    line: self.line,
                    who: id.clone(),
                    what: format!("checkpoint {offset}"),
                });
            }
        }
    }

    /// Lets time pass; each timeout is handled at its own moment.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        for round in 0.. {
            assert!(round < 1000, "a timeout that is handled comes again");
            let timeouts = self
                .sessions
                .iter()
                .filter_map(|(id, session)| Some((session.poll_timeout()?, id.clone())));
            let Some((at, id)) = timeouts.min().filter(|(at, _)| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            let session = self.sessions.get_mut(&id).expect("it has a timeout");
            let wake = session.handle_timeout(self.now);
            let (silent, connected) = (session.is_silent(), session.was_connected());
            if wake {
                self.drain(&id);
            }
            self.write_down();
            if silent {
                self.put_to_rest(&id);
                self.say(&id, if connected { "dormant" } else { "gone" }.to_owned());
            }
        }
        self.now = until;
    }

    fn publish(&mut self, channel: ChannelName, data: Box<RawValue>) {
        let event = Arc::new(Delivery::encode(self.end().next(), channel, &data));
        self.log.push(Arc::clone(&event));
        self.dispatch(&event);
    }

    /// Hands an event to whom it is routed, and wakes those who ask for it.
    fn dispatch(&mut self, event: &Arc<Delivery>) {
        let mut receivers = BTreeSet::new();
        event.channel().expand(|pattern| {
            let matching = self.routes.iter().filter(|(_, route)| route.as_str() == pattern);
            receivers.extend(matching.map(|(id, _)| id.clone()));
        });
        let end = self.end();
        let mut awake = Vec::new();
        for (id, session) in &mut self.sessions {
            if receivers.contains(id) && session.handle_event(event) == Handover::Wake {
                awake.push(id.clone());
            }
            session.handle_progress(end);
        }
        awake.iter().for_each(|id| self.drain(id));
    }

    /// Does what a session wants for each of the carriers.
    fn drain(&mut self, id: &str) {
        for name in self.carriers.keys().cloned().collect::<Vec<_>>() {
            while let Some(open) = self.carriers.get(&name)
                && let Some(session) = self.sessions.get_mut(id)
                && let Some(output) = session.poll_output(self.now, open.carrier)
            {
                self.put_out(id, &name, output);
            }
            self.flush(&name);
        }
    }

    fn put_out(&mut self, id: &str, name: &str, output: Output) {
        let open = self.carriers.get_mut(name).expect("polled for it");
        match output {
            Output::Event(event) if open.carrier.kind == CarrierKind::Exchange => open.body.event(&event),
            Output::Event(event) => self.say(name, String::from_utf8_lossy(event.frame()).into_owned()),
            Output::Reply(reply) => {
                open.body.reply(&reply);
                open.waits = false;
                self.flush(name);
            }
            Output::Ping(offset) => {
                open.pings.push_back(offset);
                self.say(name, format!("ping {offset}"));
            }
            Output::ReadLog(after) => match &mut self.stalled {
                Some(stalled) => stalled.push((id.to_owned(), name.to_owned(), after)),
                None => self.read(id, name, after),
            },
            Output::Superseded => {
                open.waits = false;
                self.say(name, "superseded".to_owned());
                self.flush(name);
            }
        }
    }

    fn read(&mut self, id: &str, name: &str, after: Offset) {
        let kept = self
            .log
            .iter()
            .filter(|event| event.offset().0 >= self.first && event.offset() > after);
        let events: Vec<_> = kept.take(self.page).cloned().collect();
        let through = if events.len() < self.page {
            self.end()
        } else {
            events.last().expect("a page").offset()
        };
        let gap = (after.0 + 1 < self.first).then_some(Offset(self.first));
        if let (Some(session), Some(open)) = (self.sessions.get_mut(id), self.carriers.get(name)) {
            session.handle_read(
                open.carrier,
                PageRead {
                    after,
                    events,
                    through,
                    gap,
                },
            );
        }
    }

    fn lose(&mut self, name: &str) -> Option<()> {
        let open = self.carriers.remove(name)?;
        for session in self.sessions.values_mut() {
            session.handle_carrier_lost(self.now, open.carrier);
        }
        Some(())
    }

    /// Answers the oldest ping, or none.
    fn pong(&mut self, name: &str, unasked: Option<Offset>) -> Option<()> {
        let open = self.carriers.get_mut(name)?;
        let offset = unasked.or_else(|| open.pings.pop_front())?;
        let carrier = open.carrier;
        for id in self.sessions.keys().cloned().collect::<Vec<_>>() {
            let session = self.sessions.get_mut(&id).expect("a session in memory");
            session.handle_pong(self.now, carrier, offset);
            self.drain(&id);
        }
        Some(())
    }

    /// Sends what is finished: a frame, or the whole response when nothing is held.
    fn flush(&mut self, name: &str) {
        let Some(open) = self.carriers.get_mut(name) else {
            return;
        };
        let socket = open.carrier.kind == CarrierKind::Socket;
        if open.receiving || (!socket && open.waits) {
            return;
        }
        let body = take(&mut open.body);
        if !socket {
            self.carriers.remove(name);
        }
        if !body.is_empty() {
            self.say(name, String::from_utf8(body.finish()).expect("JSON is UTF-8"));
        }
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

/// `30s` or `50ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(milliseconds), _) => number(milliseconds).map(Duration::from_millis),
        (None, Some(seconds)) => number(seconds).map(Duration::from_secs),
        (None, None) => Err(format!("neither seconds nor milliseconds: {text}")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

fn channel_name(text: &str) -> Result<ChannelName, String> {
    ChannelName::parse(text).map_err(|error| error.to_string())
}

/// What follows a word, as the JSON that it is.
fn json_after(line: &str, word: &str) -> Result<Box<RawValue>, String> {
    let (_, json) = line.split_once(&format!(" {word} ")).ok_or("no data")?;
    serde_json::from_str(json).map_err(|error| error.to_string())
}
