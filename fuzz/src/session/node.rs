//! A server with one session, as thin as it can be: the only file here that knows how a session is called.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::codec::{self, Body};
use bayeux::{
    Answer, Call, CallResult, Carrier, ChannelName, ChannelPattern, ClientId, Delivery, Failure, Limits,
    LogEnds, Message, Offset, Output, PageRead, Reply, Rights, Routes, Session, Settings, Snapshot, Traits,
};
use serde_json::Value;
use serde_json::value::RawValue;

/// The clientId of the session.
pub(super) const CLIENT: &str = "s";

pub(super) struct Node {
    pub(super) settings: Arc<Settings>,
    /// Clients are asked to wait for so long.
    pub(super) busy: Duration,
    session: Option<Session>,
    /// What was last written down, and of which log.
    record: Option<(Snapshot, u32)>,
    /// The log of the record that the session was taken up from, while its client may not know what it lost.
    taken_from: Option<u32>,
    routes: BTreeSet<ChannelPattern>,
}

/// What a message led to.
#[derive(Debug)]
pub(super) enum Answered {
    Reply(Value),
    /// The reply to a connect comes when it is polled for.
    Held,
    /// For a service, and the reply.
    Service(Box<Call>, Value),
    /// To be published, and the reply if that succeeds.
    Publish(Box<Published>, Value),
}

/// What a client publishes.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) channel: ChannelName,
    pub(super) data: Box<RawValue>,
    pub(super) traits: Traits,
}

/// What a carrier is to do.
pub(super) enum Said {
    Event(Arc<Delivery>),
    /// A message outside of the log, and its size.
    Direct(Value, usize),
    Reply(Value),
    Ping(u64),
    Read(Wanted),
    Superseded,
}

/// A read of the log that was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) after: u64,
    pub(super) patterns: Vec<ChannelPattern>,
}

/// Where the log begins and ends, and which one it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) epoch: u32,
}

struct Routing<'a> {
    routes: &'a mut BTreeSet<ChannelPattern>,
    ends: LogEnds,
}

impl Routes for Routing<'_> {
    fn add(&mut self, pattern: &ChannelPattern) -> LogEnds {
        assert!(self.routes.insert(pattern.clone()), "{pattern} is routed twice");
        self.ends
    }

    fn remove(&mut self, pattern: &ChannelPattern) {
        assert!(self.routes.remove(pattern), "{pattern} was not routed");
    }

    fn ends(&self) -> LogEnds {
        self.ends
    }
}

impl Node {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            busy: Duration::ZERO,
            session: None,
            record: None,
            taken_from: None,
            routes: BTreeSet::new(),
        }
    }

    /// A handshake. Whatever session there was is left to itself. The reply comes now, or when it is polled for.
    pub(super) fn open(&mut self, now: Instant, carrier: Carrier, ext: &str, ends: Ends) -> Option<Value> {
        self.routes.clear();
        self.record = None;
        self.taken_from = None;
        let text = format!(r#"{{"channel":"/meta/handshake","ext":{{{ext}}}}}"#);
        let message = only(&text, &self.settings.limits);
        let (id, settings) = (ClientId::new(CLIENT), Arc::clone(&self.settings));
        let (mut session, reply) =
            Session::open(id, settings, Rights::default(), ends.of_log(), now, &message);
        let mut routing = Routing {
            routes: &mut self.routes,
            ends: ends.of_log(),
        };
        let answer = session.greet(now, carrier, &message, reply, &mut routing);
        let listens = !session.subscriptions().is_empty();
        self.session = Some(session);
        if listens {
            self.write(ends.epoch);
        }
        match answer {
            Answer::Reply(reply) => Some(json(&reply)),
            Answer::Held => None,
            Answer::Publish(_) | Answer::Service(..) => panic!("a handshake is no publish and no call"),
        }
    }

    /// A body comes in. Messages that are for no session of this server are answered by it.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        carrier: Carrier,
        body: &str,
        ends: Ends,
    ) -> Vec<Answered> {
        let limits = self.settings.limits.clone();
        let messages = codec::decode(body.as_bytes(), &limits).expect("a body of messages");
        let alone = messages.len() == 1;
        let mut answered = Vec::new();
        for message in messages {
            answered.push(match message {
                Err(reply) => Answered::Reply(json(&reply)),
                Ok(message) if message.client_id.as_deref() == Some(CLIENT) => {
                    self.speak(now, carrier, alone, &message, ends)
                }
                Ok(message) => Answered::Reply(json(&Reply::failure(&message, Failure::SessionUnknown))),
            });
        }
        answered
    }

    fn speak(
        &mut self,
        now: Instant,
        carrier: Carrier,
        alone: bool,
        message: &Message<'_>,
        ends: Ends,
    ) -> Answered {
        self.wake(now, ends);
        let session = self.session.as_mut().expect("woken");
        let before = session.subscriptions().to_vec();
        let mut routing = Routing {
            routes: &mut self.routes,
            ends: ends.of_log(),
        };
        let answer = session.handle_message(now, carrier, alone, message, &mut routing);
        let changed = session.take_record_change() || before != session.subscriptions();
        if self.record.is_none() || changed {
            self.write(ends.epoch);
        }
        match answer {
            Answer::Reply(reply) => Answered::Reply(json(&reply)),
            Answer::Held => Answered::Held,
            Answer::Service(call, reply) => Answered::Service(Box::new(call), json(&reply)),
            Answer::Publish(publish) => {
                let published = Published {
                    channel: publish.channel,
                    data: message.data.unwrap_or(RawValue::NULL).to_owned(),
                    traits: publish.traits,
                };
                Answered::Publish(Box::new(published), json(&publish.reply))
            }
        }
    }

    /// Takes the session up again from its record, which is a text.
    fn wake(&mut self, now: Instant, ends: Ends) {
        if self.session.is_some() {
            return;
        }
        let (record, epoch) = self
            .record
            .clone()
            .expect("written down with the first subscription");
        let written = again(&record);
        let read: Snapshot = serde_json::from_str(&written).expect("a record is a text");
        assert_eq!(again(&read), written, "a record is read as it was written");
        self.routes = read
            .subscriptions
            .iter()
            .map(|held| held.pattern.clone())
            .collect();
        let (id, settings) = (ClientId::new(CLIENT), Arc::clone(&self.settings));
        let same_log = epoch == ends.epoch;
        let mut session = Session::resume(
            id,
            settings,
            Rights::default(),
            read,
            ends.of_log(),
            same_log,
            now,
        );
        session.handle_missed(Offset(ends.last));
        self.taken_from = session.has_gap().then_some(epoch);
        self.session = Some(session);
    }

    /// Writes down what there is. An offset is of the old log until the client knows that this is another one.
    fn write(&mut self, epoch: u32) {
        let session = self.session.as_ref().expect("in memory");
        let taken_from = self.taken_from.filter(|_| session.has_gap());
        self.record = Some((session.snapshot(), taken_from.unwrap_or(epoch)));
    }

    /// Writes down how far the client has come, when that is due.
    fn note_cursor(&mut self, epoch: u32) {
        let Some(session) = &mut self.session else {
            return;
        };
        let moved = session.poll_checkpoint();
        if self.taken_from.is_some() && !session.has_gap() {
            self.taken_from = None;
            self.write(epoch);
        }
        if let (Some(cursor), None) = (moved, self.taken_from) {
            let (record, _) = self.record.as_mut().expect("written down before");
            record.cursor = record.cursor.max(cursor);
        }
    }

    /// An event that was dispatched. Whether somebody waits for it.
    pub(super) fn hand_over(&mut self, event: &Arc<Delivery>) -> bool {
        let mut routed = false;
        event
            .channel()
            .expand(|pattern| routed |= self.routes.contains(pattern));
        match self.session.as_mut().filter(|_| routed) {
            Some(session) => session.handle_event(event).wakes(),
            None => false,
        }
    }

    pub(super) fn poll(
        &mut self,
        now: Instant,
        carrier: Carrier,
        dispatched: u64,
        epoch: u32,
    ) -> Option<Said> {
        let session = self.session.as_mut()?;
        session.handle_progress(Offset(dispatched));
        session.handle_busy(self.busy);
        let output = session.poll_output(now, carrier);
        if session.take_record_change() {
            self.write(epoch);
        }
        let session = self.session.as_mut()?;
        Some(match output? {
            Output::Event(event) => Said::Event(event),
            Output::Reply(reply) => Said::Reply(json(&reply)),
            Output::Ping(offset) => Said::Ping(offset.0),
            Output::ReadLog(after) => Said::Read(Wanted {
                after: after.0,
                patterns: session
                    .subscriptions()
                    .iter()
                    .map(|held| held.pattern.clone())
                    .collect(),
            }),
            Output::Superseded => Said::Superseded,
            Output::Refused => unreachable!("nothing is revoked here"),
            Output::Direct(message) => {
                let text = serde_json::from_slice(message.message()).expect("a message is JSON");
                Said::Direct(text, message.size())
            }
        })
    }

    pub(super) fn has_read(&mut self, carrier: Carrier, page: PageRead) {
        if let Some(session) = &mut self.session {
            session.handle_read(carrier, page);
        }
    }

    pub(super) fn pong(&mut self, now: Instant, carrier: Carrier, offset: u64, epoch: u32) {
        if let Some(session) = &mut self.session {
            session.handle_pong(now, carrier, Offset(offset));
            if session.take_record_change() {
                self.write(epoch);
            }
        }
    }

    pub(super) fn close_answered(&mut self, now: Instant, carrier: Carrier) {
        if let Some(session) = &mut self.session {
            session.handle_close_answered(now, carrier);
        }
    }

    /// The peer has closed a socket. Whether another carrier may have something to do.
    pub(super) fn closed(&mut self, now: Instant, carrier: Carrier, epoch: u32) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let wake = session.handle_close(now, carrier);
        if session.take_record_change() {
            self.write(epoch);
        }
        wake
    }

    /// A service has answered, or has nothing to say. Whether somebody waits for it.
    pub(super) fn answer(&mut self, now: Instant, call: &Call, result: Option<CallResult>) -> bool {
        let session = self.session.as_mut();
        session.is_some_and(|session| session.handle_direct(now, call, result).wakes())
    }

    /// The server ends the session. Whether a carrier has something to do.
    pub(super) fn expel(&mut self, now: Instant, end: u64) -> bool {
        let session = self.session.as_mut();
        session.is_some_and(|session| session.handle_server_disconnect(now, Offset(end)))
    }

    /// A carrier is gone. Whether another one may have something to do.
    pub(super) fn lost(&mut self, now: Instant, carrier: Carrier, reply_lost: bool) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let wake = session.handle_carrier_lost(now, carrier);
        if reply_lost {
            session.handle_reply_lost();
        }
        wake
    }

    pub(super) fn release(&mut self) {
        if let Some(session) = &mut self.session {
            session.handle_release();
        }
    }

    pub(super) fn crowd(&mut self, carrier: Carrier, interval: Duration) {
        if let Some(session) = &mut self.session {
            session.handle_crowded(carrier, interval);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.session.as_ref()?.poll_timeout()
    }

    /// Time has passed. Whether somebody has something to do; a session that was silent for too long goes dormant.
    pub(super) fn time_out(&mut self, now: Instant, epoch: u32) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let wake = session.handle_timeout(now);
        self.note_cursor(epoch);
        if self.session.as_ref().is_some_and(Session::is_silent) {
            self.write(epoch);
            self.crash();
        }
        wake
    }

    /// The process ends in good order, up to which event was dispatched.
    pub(super) fn stop(&mut self, dispatched: u64, epoch: u32) {
        if let Some(session) = &mut self.session {
            session.handle_progress(Offset(dispatched));
            self.write(epoch);
        }
        self.crash();
    }

    /// What is in memory is gone.
    pub(super) fn crash(&mut self) {
        self.session = None;
        self.routes.clear();
    }

    pub(super) fn is_awake(&self) -> bool {
        self.session.is_some()
    }

    /// What is written down is of a session whose client has connected.
    pub(super) fn was_connected(&self) -> bool {
        self.record.as_ref().is_none_or(|(record, _)| !record.fresh)
    }

    /// What is written down is of this log.
    pub(super) fn is_of(&self, epoch: u32) -> bool {
        self.record.as_ref().is_none_or(|(_, of)| *of == epoch)
    }

    pub(super) fn is_taken_from_another_log(&self) -> bool {
        self.taken_from.is_some()
    }

    pub(super) fn has_gap(&self) -> bool {
        self.session.as_ref().is_some_and(Session::has_gap)
    }

    /// What the session listens to, in order.
    pub(super) fn subscriptions(&self) -> Option<Vec<&str>> {
        let held = self.session.as_ref()?.subscriptions().iter();
        let mut patterns: Vec<_> = held.map(|held| held.pattern.as_str()).collect();
        patterns.sort_unstable();
        Some(patterns)
    }

    /// Everything that the session keeps, written out.
    pub(super) fn dump(&self) -> String {
        format!("{:?}", self.session)
    }
}

impl Ends {
    fn of_log(self) -> LogEnds {
        LogEnds {
            first: Offset(self.first),
            last: Offset(self.last),
        }
    }
}

fn only<'a>(text: &'a str, limits: &Limits) -> Message<'a> {
    let mut decoded = codec::decode(text.as_bytes(), limits).expect("well formed");
    decoded.remove(0).expect("well formed")
}

fn again(record: &Snapshot) -> String {
    serde_json::to_string(record).expect("a record is JSON")
}

fn json(reply: &Reply) -> Value {
    let mut body = Body::default();
    body.reply(reply);
    let replies: Vec<Value> = serde_json::from_slice(&body.finish()).expect("a reply is JSON");
    replies.into_iter().next().expect("one reply")
}
