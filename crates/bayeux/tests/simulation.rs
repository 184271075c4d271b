//! A log, a session and a client that meets with every misfortune, in any order: what arrives must be what was promised.
//!
//! The server is modelled as it is: dispatch lags behind the log, a carrier is polled only when something woke it, a read
//! of the log takes its time and covers what is durable when it *ends*, a crash leaves what was written down. The client
//! is a stock one in a browser: it applies a reply as a whole and says `advice.timeout` 0 after a failure; its browser answers
//! pings in order, before or after the page has come to what they prove.
//! A failure prints the steps that lead to it, cut down to what is needed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::codec::{self, Body};
use bayeux::{
    Answer, Carrier, CarrierKind, ChannelName, ChannelPattern, ClientId, Delivery, LogEnds, Offset, Output,
    PageRead, Rights, Routes, Session, Settings, Snapshot,
};
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

const CHANNELS: [&str; 3] = ["/a", "/b", "/c"];
const QUEUE_EVENTS: usize = 5;
const PAGE: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    Publish(usize),
    /// An event for somebody else.
    Other,
    Dispatch(usize),
    /// On what the client has, or on a new exchange or socket.
    Connect {
        socket: bool,
    },
    /// Over the socket if there is one.
    Subscribe(usize),
    /// As the first message of a new socket.
    SubscribeOnNewSocket(usize),
    Unsubscribe(usize),
    /// The network brings the client what the server has sent.
    Arrive(usize),
    /// The client's browser takes what is on its way over a socket, and answers pings; its page will come to it.
    Hear,
    /// The page closes its socket, with what it has not come to.
    Close,
    /// The client loses what it waits on. The server hears of it, if it does, at `Notice`.
    Break,
    Notice {
        write_failed: bool,
    },
    /// A read of the log comes back.
    Read,
    Pass(u64),
    Restart,
    Crash,
    Retain(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize).prop_map(Step::Publish),
        1 => Just(Step::Other),
        7 => (1..6_usize).prop_map(Step::Dispatch),
        8 => any::<bool>().prop_map(|socket| Step::Connect { socket }),
        1 => (0..2_usize).prop_map(Step::Subscribe),
        1 => (0..2_usize).prop_map(Step::SubscribeOnNewSocket),
        1 => (0..2_usize).prop_map(Step::Unsubscribe),
        9 => (1..6_usize).prop_map(Step::Arrive),
        2 => Just(Step::Hear),
        1 => Just(Step::Close),
        2 => Just(Step::Break),
        2 => any::<bool>().prop_map(|write_failed| Step::Notice { write_failed }),
        5 => Just(Step::Read),
        2 => prop_oneof![1..2000_u64, 9_000..32_000_u64].prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => (1..6_u64).prop_map(Step::Retain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_acknowledging_client_gets_everything_once(steps in proptest::collection::vec(step(), 1..150)) {
        World::new(true).run(&steps);
    }

    #[test]
    fn a_plain_client_gets_everything(steps in proptest::collection::vec(step(), 1..150)) {
        World::new(false).run(&steps);
    }
}

struct World {
    now: Instant,
    settings: Arc<Settings>,
    log: Vec<Arc<Delivery>>,
    first: u64,
    dispatched: usize,
    session: Option<Session>,
    record: Option<Snapshot>,
    routes: BTreeSet<String>,
    carriers: u64,
    pipes: Vec<Pipe>,
    client: Client,
}

/// One carrier: the server's task for it, and what is on its way to the client.
struct Pipe {
    carrier: Carrier,
    frames: VecDeque<Frame>,
    /// How many of them the client's browser has.
    heard_frames: usize,
    /// The server's task runs.
    served: bool,
    /// The client listens.
    heard: bool,
    /// The task waits for the log: after which offset, with which patterns.
    read: Option<(Offset, Vec<ChannelPattern>)>,
}

enum Frame {
    Event(u64),
    Reply(Value),
    Ping(Offset),
}

struct Client {
    acknowledges: bool,
    acknowledged: u64,
    /// What it waits on.
    link: Option<Carrier>,
    /// A connect was sent there and not answered.
    connecting: bool,
    recovering: bool,
    /// Events that came before the reply that they belong to.
    unapplied: Vec<u64>,
    seen: BTreeSet<u64>,
    /// The event that came last.
    position: u64,
    /// What it must get: the channel by offset.
    required: BTreeMap<u64, usize>,
    /// What it may get, since it has left the channel.
    optional: BTreeSet<u64>,
    subscribed: [bool; 3],
    /// It was told that something below this is lost.
    excused_below: u64,
}

struct Routing<'a> {
    routes: &'a mut BTreeSet<String>,
    ends: LogEnds,
}

impl Routes for Routing<'_> {
    fn add(&mut self, pattern: &ChannelPattern) -> LogEnds {
        self.routes.insert(pattern.as_str().to_owned());
        self.ends
    }

    fn remove(&mut self, pattern: &ChannelPattern) {
        self.routes.remove(pattern.as_str());
    }

    fn ends(&self) -> LogEnds {
        self.ends
    }
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "any moment will do: from here on time is counted"
    )]
    fn new(acknowledges: bool) -> Self {
        let mut settings = Settings::default();
        settings.limits.queue_events = QUEUE_EVENTS;
        settings.limits.answer_bytes = 100;
        let mut world = Self {
            now: Instant::now(),
            settings: Arc::new(settings),
            log: Vec::new(),
            first: 1,
            dispatched: 0,
            session: None,
            record: None,
            routes: BTreeSet::new(),
            carriers: 0,
            pipes: Vec::new(),
            client: Client::new(acknowledges),
        };
        world.shake_hands();
        world.subscribe(0);
        world.connect(false);
        world.arrive(1);
        world
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(*step);
            self.check_bounds();
        }
        self.heal();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(channel) => self.publish(Some(channel)),
            Step::Other => self.publish(None),
            Step::Dispatch(count) => (0..count).for_each(|_| self.dispatch()),
            Step::Connect { socket } => self.connect(socket),
            Step::Subscribe(channel) => self.subscribe(channel),
            Step::SubscribeOnNewSocket(channel) => {
                self.abandon();
                self.client.link = Some(self.open(CarrierKind::Socket));
                self.subscribe(channel);
            }
            Step::Unsubscribe(channel) => self.unsubscribe(channel),
            Step::Arrive(count) => self.arrive(count),
            Step::Hear => self.hear(),
            Step::Close => self.close(),
            Step::Break => self.abandon(),
            Step::Notice { write_failed } => self.notice(write_failed),
            Step::Read => self.read(),
            Step::Pass(milliseconds) => self.pass(Duration::from_millis(milliseconds)),
            Step::Restart => {
                if let Some(session) = &mut self.session {
                    session.handle_progress(Offset(self.dispatched as u64));
                    self.record = Some(session.snapshot());
                }
                self.die();
            }
            Step::Crash => self.die(),
            Step::Retain(count) => self.first = (self.first + count).min(self.end().0 + 1),
        }
    }

    /// The network is well again: everything must arrive, and no timeout may be needed for it.
    fn heal(&mut self) {
        for round in 0..200 {
            while self.dispatched < self.log.len() {
                self.dispatch();
            }
            while self.pipes.iter().any(|pipe| pipe.read.is_some()) {
                self.read();
            }
            self.arrive(100);
            if self.client.missing().is_none() && round > 3 {
                return;
            }
            if !self.client.connecting {
                self.connect(round % 2 == 0);
            }
        }
        panic!(
            "lost: {:?} of {:?}, told of a gap below {}",
            self.client.missing(),
            self.client.required.keys(),
            self.client.excused_below
        );
    }

    fn shake_hands(&mut self) {
        let ext = if self.client.acknowledges {
            r#","ext":{"ack":true}"#
        } else {
            ""
        };
        let text = format!(r#"{{"channel":"/meta/handshake"{ext}}}"#);
        let limits = self.settings.limits.clone();
        let message = codec::decode(text.as_bytes(), &limits)
            .expect("well formed")
            .remove(0)
            .expect("well formed");
        let (session, _) = Session::open(
            ClientId::new("s"),
            self.settings.clone(),
            Rights::default(),
            self.ends(),
            self.now,
            &message,
        );
        self.session = Some(session);
    }

    fn publish(&mut self, channel: Option<usize>) {
        let offset = self.end().next();
        let name = channel.map_or("/other", |channel| CHANNELS[channel]);
        let data: &RawValue = serde_json::from_str("\"0123456789\"").expect("well formed");
        self.log.push(Arc::new(Delivery::encode(
            offset,
            ChannelName::parse(name).expect("well formed"),
            data,
        )));
        if let Some(channel) = channel.filter(|channel| self.client.subscribed[*channel]) {
            self.client.required.insert(offset.0, channel);
        }
    }

    fn dispatch(&mut self) {
        let Some(event) = self.log.get(self.dispatched).cloned() else {
            return;
        };
        self.dispatched += 1;
        let routed = self.routes.contains(event.channel().as_str());
        if let Some(session) = self.session.as_mut().filter(|_| routed)
            && session.handle_event(&event).wakes()
        {
            self.wake_all();
        }
    }

    fn connect(&mut self, socket: bool) {
        let on_link = self
            .client
            .link
            .filter(|link| link.kind == CarrierKind::Socket && !self.client.connecting);
        let carrier = on_link.unwrap_or_else(|| {
            // A held connect may be overtaken. One whose answer is on its way was given up: a recovery.
            let given_up = self.link_pipe().is_some_and(|pipe| !pipe.frames.is_empty());
            let on_socket = self
                .client
                .link
                .is_some_and(|link| link.kind == CarrierKind::Socket);
            let recovering = self.client.recovering || given_up || on_socket;
            self.abandon();
            self.client.recovering = recovering;
            self.open(if socket {
                CarrierKind::Socket
            } else {
                CarrierKind::Exchange
            })
        });
        self.client.link = Some(carrier);
        self.client.connecting = true;
        let advice = if self.client.recovering {
            r#","advice":{"timeout":0}"#
        } else {
            ""
        };
        let ext = if self.client.acknowledges {
            format!(r#","ext":{{"ack":{}}}"#, self.client.acknowledged)
        } else {
            String::new()
        };
        self.send(
            carrier,
            &format!(r#"{{"channel":"/meta/connect","clientId":"s"{advice}{ext}}}"#),
        );
    }

    fn subscribe(&mut self, channel: usize) {
        let text = format!(
            r#"{{"channel":"/meta/subscribe","clientId":"s","subscription":"{}"}}"#,
            CHANNELS[channel]
        );
        self.say(&text);
        self.client.subscribed[channel] = true;
    }

    fn unsubscribe(&mut self, channel: usize) {
        let text = format!(
            r#"{{"channel":"/meta/unsubscribe","clientId":"s","subscription":"{}"}}"#,
            CHANNELS[channel]
        );
        self.client.leave(channel);
        self.say(&text);
    }

    /// Sends something that is no connect: over the socket, or over an exchange of its own.
    fn say(&mut self, text: &str) {
        let carrier = self.client.link.filter(|link| link.kind == CarrierKind::Socket);
        let own = carrier.is_none();
        let carrier = carrier.unwrap_or_else(|| self.open(CarrierKind::Exchange));
        self.send(carrier, text);
        if own {
            self.pipes.retain(|pipe| pipe.carrier != carrier);
        }
    }

    fn open(&mut self, kind: CarrierKind) -> Carrier {
        self.carriers += 1;
        let carrier = Carrier {
            id: self.carriers,
            kind,
        };
        self.pipes.push(Pipe {
            carrier,
            frames: VecDeque::new(),
            heard_frames: 0,
            served: true,
            heard: true,
            read: None,
        });
        carrier
    }

    /// The server takes a message.
    fn send(&mut self, carrier: Carrier, text: &str) {
        self.wake_session();
        let limits = self.settings.limits.clone();
        let message = codec::decode(text.as_bytes(), &limits)
            .expect("well formed")
            .remove(0)
            .expect("well formed");
        let ends = self.ends();
        if let Some(pipe) = self.pipes.iter_mut().find(|pipe| pipe.carrier == carrier) {
            pipe.served = true;
        }
        let session = self.session.as_mut().expect("woken");
        let before = session.subscriptions().to_vec();
        let mut routing = Routing {
            routes: &mut self.routes,
            ends,
        };
        let answer = session.handle_message(self.now, carrier, true, &message, &mut routing);
        if let Answer::Reply(reply) = answer {
            assert!(reply.is_successful(), "refused: {text}: {:?}", reply.error());
        }
        if self.record.is_none() || before != session.subscriptions() {
            self.record = Some(session.snapshot());
        }
        self.wake_all();
    }

    /// Takes the session up again from its record.
    fn wake_session(&mut self) {
        if self.session.is_some() {
            return;
        }
        let record = self.record.clone().expect("written down at the first subscribe");
        self.routes = record
            .subscriptions
            .iter()
            .map(|held| held.pattern.as_str().to_owned())
            .collect();
        let (id, settings) = (ClientId::new("s"), self.settings.clone());
        let mut session = Session::resume(
            id,
            settings,
            Rights::default(),
            record,
            self.ends(),
            true,
            self.now,
        );
        session.handle_missed(self.end());
        self.session = Some(session);
    }

    fn wake_all(&mut self) {
        (0..self.pipes.len()).for_each(|place| self.poll(place));
    }

    fn poll(&mut self, place: usize) {
        loop {
            let pipe = &mut self.pipes[place];
            let Some(session) = self
                .session
                .as_mut()
                .filter(|_| pipe.served && pipe.read.is_none())
            else {
                return;
            };
            session.handle_progress(Offset(self.dispatched as u64));
            let Some(output) = session.poll_output(self.now, pipe.carrier) else {
                return;
            };
            match output {
                Output::Event(event) => {
                    let held = self.routes.contains(event.channel().as_str());
                    assert!(
                        held || self.client.optional.contains(&event.offset().0),
                        "{} was not asked for",
                        event.offset()
                    );
                    pipe.frames.push_back(Frame::Event(event.offset().0));
                }
                Output::Reply(reply) => {
                    let mut body = Body::default();
                    body.reply(&reply);
                    let reply: Value = serde_json::from_slice(&body.finish()).expect("well formed");
                    pipe.frames.push_back(Frame::Reply(reply[0].clone()));
                    pipe.served = pipe.carrier.kind == CarrierKind::Socket;
                }
                Output::Ping(offset) => pipe.frames.push_back(Frame::Ping(offset)),
                Output::ReadLog(after) => {
                    let patterns = session
                        .subscriptions()
                        .iter()
                        .map(|held| held.pattern.clone())
                        .collect();
                    pipe.read = Some((after, patterns));
                }
                Output::Superseded => pipe.served = false,
            }
        }
    }

    /// The oldest read of the log ends.
    fn read(&mut self) {
        let Some(place) = self.pipes.iter().position(|pipe| pipe.read.is_some()) else {
            return;
        };
        let (after, patterns) = self.pipes[place].read.take().expect("found by it");
        let mut events: Vec<_> = self
            .log
            .iter()
            .filter(|event| event.offset() > after && event.offset().0 >= self.first)
            .filter(|event| patterns.iter().any(|pattern| pattern.matches(event.channel())))
            .cloned()
            .collect();
        let through = match events.get(PAGE) {
            Some(_) => events[PAGE - 1].offset(),
            None => self.end(),
        };
        events.truncate(PAGE);
        let gap = (self.first > after.0 + 1).then_some(Offset(self.first));
        let page = PageRead {
            after,
            events,
            through,
            gap,
        };
        if let Some(session) = &mut self.session {
            session.handle_read(self.pipes[place].carrier, page);
        }
        self.poll(place);
    }

    fn arrive(&mut self, count: usize) {
        for _ in 0..count {
            let Some(pipe) = self.link_pipe() else { return };
            let carrier = pipe.carrier;
            let Some(frame) = pipe.frames.pop_front() else {
                return;
            };
            pipe.heard_frames = pipe.heard_frames.saturating_sub(1);
            match frame {
                Frame::Event(offset) if self.client.acknowledges || carrier.kind == CarrierKind::Exchange => {
                    self.client.unapplied.push(offset);
                }
                Frame::Event(offset) => self.client.apply(offset, self.first),
                Frame::Reply(reply) => self.client.take_reply(&reply, self.first, carrier),
                Frame::Ping(offset) => {
                    if let Some(session) = &mut self.session {
                        session.handle_pong(self.now, carrier, offset);
                        self.wake_all();
                    }
                }
            }
        }
    }

    fn hear(&mut self) {
        let socket = self
            .link_pipe()
            .filter(|pipe| pipe.carrier.kind == CarrierKind::Socket);
        let Some(pipe) = socket else { return };
        let carrier = pipe.carrier;
        let mut asked = Vec::new();
        pipe.frames.retain(|frame| {
            let Frame::Ping(offset) = frame else { return true };
            asked.push(*offset);
            false
        });
        pipe.heard_frames = pipe.frames.len();
        if let Some(session) = &mut self.session {
            asked
                .into_iter()
                .for_each(|offset| session.handle_pong(self.now, carrier, offset));
            self.wake_all();
        }
    }

    fn close(&mut self) {
        let socket = self.client.link.filter(|link| link.kind == CarrierKind::Socket);
        let Some(carrier) = socket else { return };
        if self.session.is_none() {
            // It was silent for so long that it has come to everything.
            return self.abandon();
        }
        self.pipes.retain(|pipe| pipe.carrier != carrier);
        self.abandon();
        if let Some(session) = &mut self.session {
            let wake = session.handle_close(self.now, carrier);
            if session.take_record_change() {
                self.record = Some(session.snapshot());
            }
            if wake {
                self.wake_all();
            }
        }
    }

    /// The client gives up what it waits on. Its page still comes to what its browser has.
    fn abandon(&mut self) {
        let heard = self.link_pipe().map_or(0, |pipe| pipe.heard_frames);
        self.arrive(heard);
        if let Some(pipe) = self.link_pipe() {
            pipe.heard = false;
            pipe.frames.clear();
        }
        if self.client.link.take().is_some() {
            self.client.recovering = true;
        }
        self.client.connecting = false;
        self.client.unapplied.clear();
    }

    /// The server finds that a client has gone.
    fn notice(&mut self, write_failed: bool) {
        let Some(place) = self.pipes.iter().position(|pipe| !pipe.heard) else {
            return;
        };
        let pipe = self.pipes.remove(place);
        if let Some(session) = &mut self.session {
            let wake = session.handle_carrier_lost(self.now, pipe.carrier);
            if write_failed && pipe.carrier.kind == CarrierKind::Exchange && !pipe.served {
                session.handle_reply_lost();
            }
            if wake {
                self.wake_all();
            }
        }
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        for round in 0.. {
            assert!(round < 1000, "a timeout that is handled comes again");
            let Some(session) = &mut self.session else { break };
            let Some(at) = session.poll_timeout().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            let wake = session.handle_timeout(self.now);
            if let Some(cursor) = session.poll_checkpoint() {
                let record = self.record.as_mut().expect("written down before");
                record.cursor = record.cursor.max(cursor);
            }
            if session.is_silent() {
                self.record = Some(session.snapshot());
                self.session = None;
                self.routes.clear();
                // Tasks find their session gone.
                self.pipes.iter_mut().for_each(|pipe| pipe.served = false);
            } else if wake {
                self.wake_all();
            }
        }
        self.now = until;
    }

    /// The process ends, and everybody connects to the next one.
    fn die(&mut self) {
        self.abandon();
        self.session = None;
        self.routes.clear();
        self.pipes.clear();
        self.dispatched = self.log.len();
    }

    /// Whatever the client does, the session keeps only so much. Beside it only the log keeps events here.
    fn check_bounds(&self) {
        let kept: usize = self.log.iter().map(|event| Arc::strong_count(event) - 1).sum();
        assert!(kept <= QUEUE_EVENTS + PAGE, "{kept} events are kept in memory");
    }

    fn link_pipe(&mut self) -> Option<&mut Pipe> {
        let link = self.client.link?;
        self.pipes.iter_mut().find(|pipe| pipe.carrier == link)
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

impl Client {
    fn new(acknowledges: bool) -> Self {
        Self {
            acknowledges,
            acknowledged: 0,
            link: None,
            connecting: false,
            recovering: false,
            unapplied: Vec::new(),
            seen: BTreeSet::new(),
            position: 0,
            required: BTreeMap::new(),
            optional: BTreeSet::new(),
            subscribed: [false; 3],
            excused_below: 0,
        }
    }

    fn take_reply(&mut self, reply: &Value, first: u64, carrier: Carrier) {
        assert_eq!(reply["successful"], true, "{reply}");
        if reply["ext"]["recovered"] == false {
            self.excused_below = self
                .excused_below
                .max(reply["ext"]["first"].as_u64().expect("well formed"));
        }
        for offset in std::mem::take(&mut self.unapplied) {
            self.apply(offset, first);
        }
        if self.acknowledges {
            self.acknowledged = reply["ext"]["ack"].as_u64().expect("well formed");
        }
        self.recovering = false;
        self.connecting = false;
        if carrier.kind == CarrierKind::Exchange {
            self.link = None;
        }
    }

    /// In order; again only what nobody proved, and never with the extension.
    fn apply(&mut self, offset: u64, first: u64) {
        assert!(
            self.required.contains_key(&offset) || self.optional.contains(&offset),
            "{offset} was not asked for"
        );
        if self.acknowledges {
            assert!(!self.seen.contains(&offset), "{offset} came twice");
            assert!(offset > self.position, "{offset} came after {}", self.position);
        }
        let skipped = self.required.range(..offset).find(|(skipped, _)| {
            **skipped > self.position && **skipped >= first && !self.seen.contains(skipped)
        });
        assert!(skipped.is_none(), "{offset} came before {skipped:?}");
        self.seen.insert(offset);
        self.position = offset;
    }

    fn leave(&mut self, channel: usize) {
        self.subscribed[channel] = false;
        self.optional.extend(
            self.required
                .extract_if(.., |_, of| *of == channel)
                .map(|(offset, _)| offset),
        );
    }

    fn missing(&self) -> Option<u64> {
        self.required
            .keys()
            .copied()
            .find(|offset| !self.seen.contains(offset) && *offset >= self.excused_below)
    }
}

#[test]
fn a_number_that_the_client_had_before_does_not_confirm_a_gap() {
    use Step::*;
    let found = [
        vec![Publish(0); 5],
        vec![
            Subscribe(1),
            Publish(0),
            Publish(0),
            Retain(1),
            Publish(0),
            Dispatch(1),
            Publish(1),
            Publish(2),
        ],
        vec![
            Connect { socket: false },
            Publish(0),
            Publish(0),
            Publish(0),
            Unsubscribe(0),
            Arrive(2),
            Retain(4),
        ],
        vec![
            SubscribeOnNewSocket(0),
            Restart,
            Publish(0),
            Connect { socket: false },
            Retain(4),
            Pass(30_000),
        ],
        vec![Read, Connect { socket: false }],
    ];
    World::new(true).run(&found.concat());
}
