//! A log, a server and a client that meets with every misfortune, in any order: what arrives must be what was promised.
//!
//! The server is modelled as it is: dispatch lags behind the log, a carrier is polled only when something woke it, a read
//! of the log takes its time and covers what is durable when it *ends*, a crash leaves what was written down.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::{
    Access, Call, CallResult, Carrier, CarrierKind, ChannelName, ChannelPattern, Delivery, Draft, Limits,
    Offset, PageRead, Rule, Rules, Settings, Traits,
};
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::{Client, OFFSET_BITS};
use super::node::{Answered, CLIENT, Ends, Node, Published, Said, Wanted};
use super::step::{Claim, From, Step, Words};
use super::words::{self, ACKS, ADVICE, CHANNELS, Expected, LAZY, PATTERNS, entry};

const PAGE: usize = 3;

/// What is decided before anything happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The client speaks the acknowledge extension.
    pub acknowledges: bool,
    /// The client says of what arrived nothing but the truth. One that lies may lose by it, and nothing worse.
    pub honest: bool,
    /// Events come with replies to connects only, on a socket too, whether or not they are acknowledged.
    pub connect_only: bool,
    /// The client gets back what it publishes.
    pub echoes: bool,
    /// Everybody is subscribed to something from the handshake on, and what there is leaves with its reply.
    pub greets: bool,
    /// Events that the session may keep.
    pub queue_events: usize,
    /// Bytes of events that it may keep.
    pub queue_bytes: usize,
}

impl Plan {
    pub(super) fn delivers_with_connect(self) -> bool {
        self.acknowledges || self.connect_only
    }
}

/// All of it.
pub struct World {
    plan: Plan,
    now: Instant,
    node: Node,
    log: Vec<Arc<Delivery>>,
    /// The offset before the first event that this log ever had.
    base: u64,
    first: u64,
    epoch: u32,
    dispatched: usize,
    carriers: u64,
    pipes: Vec<Pipe>,
    client: Client,
    /// The session has had a connect.
    connected: bool,
    /// It was taken up from its record, and has said nothing since.
    fresh: bool,
    /// The kind of carrier that was last given advice.
    advised: Option<CarrierKind>,
    /// When the last two connects came that did not want to wait, but for the first.
    impatient: [Option<Instant>; 2],
    /// The client was told not to connect before, for that.
    not_before: Option<Instant>,
    /// The client has said goodbye.
    left: bool,
    /// Something was published that is in no hurry.
    has_lazy: bool,
    /// The server is about to say goodbye.
    expels: bool,
    /// Calls that are under way, by their ids, and how many there have been.
    calls: Vec<(u64, Box<Call>)>,
    called: u64,
    /// The client was told that the server is busy.
    told_busy: bool,
    /// Numbers to acknowledge may count anew: they are more than offsets.
    counts_anew: bool,
    /// How many connects there were.
    connects: u64,
    /// The one that the client's browser may send again, with its advice, and whether it is part of a batch.
    repeatable: Option<(String, words::Advised, bool)>,
}

/// One carrier: the server's task for it, and what is on its way to the client.
struct Pipe {
    carrier: Carrier,
    frames: VecDeque<Frame>,
    /// The server's task runs.
    served: bool,
    /// The client listens.
    heard: bool,
    /// The task waits for the log.
    read: Option<Wanted>,
    /// A connect waits for its reply.
    connect: Option<Waiting>,
    /// The ping that was not answered.
    asked: Option<u64>,
}

enum Frame {
    Event(u64),
    Direct(Value),
    Reply {
        reply: Value,
        /// It comes with the events of another log than before, from its start.
        starts_again: bool,
    },
    Ping(u64),
}

struct Waiting {
    /// Whether the session may hold it at all.
    may_wait: bool,
    /// When there is an answer whatever happens.
    answered_by: Instant,
    /// The reply brings advice.
    is_advised: bool,
    /// It was ended because too many are held.
    is_crowded: bool,
    /// It is the third within a second that did not want to wait: the client is told to come later.
    is_impatient: bool,
    /// It came sooner than the client was told to, and is put off until then.
    put_off: Option<Instant>,
    /// What has left with it.
    parts: usize,
    bytes: usize,
}

impl Waiting {
    fn is_put_off(&self, now: Instant) -> bool {
        self.put_off.is_some_and(|until| now < until)
    }
}

impl Pipe {
    fn is_put_off(&self, now: Instant) -> bool {
        self.connect
            .as_ref()
            .is_some_and(|waiting| waiting.is_put_off(now))
    }
}

impl World {
    /// A client that has subscribed and is about to connect.
    pub fn new(plan: Plan) -> Self {
        let mut world = Self {
            plan,
            // Any moment will do: from here on time is counted.
            now: Instant::now(),
            node: Node::new(settings(plan)),
            log: Vec::new(),
            base: 0,
            first: 1,
            epoch: 1,
            dispatched: 0,
            carriers: 0,
            pipes: Vec::new(),
            client: Client::new(plan, 0),
            connected: false,
            fresh: false,
            advised: None,
            impatient: [None; 2],
            not_before: None,
            left: false,
            has_lazy: false,
            expels: false,
            calls: Vec::new(),
            called: 0,
            told_busy: false,
            counts_anew: false,
            connects: 0,
            repeatable: None,
        };
        world.begin();
        world
    }

    /// Lets everything happen, then makes the network well again: everything must arrive, and in the end nothing stays.
    pub fn run(mut self, steps: &[Step]) {
        for step in steps {
            self.step(*step);
            self.check();
        }
        let size = self.node.dump().len();
        assert!(size < DUMP, "the session has grown to {size} characters");
        self.heal();
        self.fall_silent();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish { channel, size, lazy } => self.publish_some(channel, size, lazy),
            Step::Dispatch(count) => (0..count).for_each(|_| self.dispatch()),
            Step::Connect {
                socket,
                claim,
                advice,
                batch,
            } => self.connect(socket, claim, advice, batch),
            Step::Subscribe(pattern) => self.subscribe(pattern),
            Step::Replay { pattern, from } => self.replay(pattern, from),
            Step::SubscribeOnNewSocket(pattern) => {
                self.abandon();
                self.client.link = Some(self.open(CarrierKind::Socket));
                self.subscribe(pattern);
            }
            Step::Unsubscribe(pattern) => self.unsubscribe(pattern),
            Step::Say(words) => self.say_words(words),
            Step::Arrive(count) => self.arrive(count),
            Step::Break => self.abandon(),
            Step::Notice { which, write_failed } => self.notice(which, write_failed),
            Step::Read { which } => self.read(which),
            Step::Pass(milliseconds) => self.pass(Duration::from_millis(milliseconds)),
            Step::Pong(below) => self.pong(below),
            Step::Close => self.close(),
            Step::Release => {
                let waiting = self.pipes.iter_mut().filter_map(|pipe| pipe.connect.as_mut());
                waiting.for_each(|waiting| {
                    waiting.is_advised = true;
                    waiting.is_impatient = false;
                });
                self.node.release();
                self.wake_all();
            }
            Step::Restart => {
                self.node.stop(self.base + self.dispatched as u64, self.epoch);
                self.die();
            }
            Step::Crash => {
                self.node.crash();
                self.die();
            }
            Step::Retain(count) => {
                // What is new enough not to be dispatched is new enough to be kept.
                let dispatched = self.base + self.dispatched as u64;
                self.first = (self.first + count).min(dispatched + 1);
            }
            Step::LoseLog(distance) => self.lose_log(distance),
            Step::Leave => self.leave(),
            Step::Busy(milliseconds) => self.node.busy = Duration::from_millis(milliseconds),
            Step::Crowd => self.crowd(),
            Step::Reload { forgets } => self.reload(forgets),
            Step::Call => self.call(),
            Step::Answer { which, size } => self.answer(which, size),
            Step::Expel => self.expel(),
            Step::Repeat => self.repeat(),
        }
    }

    /// The network is well again: everything must arrive, and no timeout may be needed for it, but for what is in no hurry and
    /// for a way back in the log, which waits for proof.
    fn heal(&mut self) {
        for round in 0..200 {
            while self.dispatched < self.log.len() {
                self.dispatch();
            }
            while self.pipes.iter().any(|pipe| pipe.read.is_some()) {
                self.read(0);
            }
            if self.has_lazy || self.counts_anew {
                self.pass(words::LONGEST_LAZY);
            }
            if self.pipes.iter().any(|pipe| pipe.is_put_off(self.now)) {
                self.pass(self.node.settings.impatient_interval);
            }
            self.arrive(100);
            self.check();
            if self.missing().is_none() && round > 3 {
                return;
            }
            if !self.client.connecting {
                self.connect(round % 2 == 0, Claim::Honest, 0, false);
            }
        }
        panic!("lost: {}", self.missing().unwrap_or_default());
    }

    /// What the client was promised and has not got. An answer may be given up for others, but not for so few.
    fn missing(&self) -> Option<String> {
        let answers = self.plan.honest && self.called <= words::DIRECT_MESSAGES as u64;
        let answer = self.client.awaited.first().filter(|_| answers);
        self.client
            .missing()
            .or_else(|| answer.map(|id| format!("the answer to call {id}")))
    }

    /// The client goes away for good: whatever it asked for before, its session leaves memory in time.
    fn fall_silent(&mut self) {
        self.abandon();
        while !self.pipes.is_empty() {
            self.pipes[0].heard = false;
            self.notice(0, false);
        }
        let settings = &self.node.settings;
        let longest = settings.max_timeout + settings.max_interval;
        self.pass(longest);
        assert!(
            !self.node.is_awake(),
            "the session is there after {longest:?} of silence"
        );
    }

    /// A handshake and a first subscription.
    fn begin(&mut self) {
        let ext: Vec<_> = [
            (self.plan.acknowledges, r#""ack":true"#),
            (self.plan.connect_only, r#""metaConnectDeliverOnly":true"#),
            (!self.plan.echoes, r#""broadcastToPublisher":false"#),
        ]
        .into_iter()
        .filter_map(|(is_wanted, text)| is_wanted.then_some(text))
        .collect();
        self.client = Client::new(self.plan, self.end());
        self.connected = false;
        self.fresh = false;
        self.advised = None;
        self.impatient = [None; 2];
        self.not_before = None;
        self.told_busy = false;
        self.expels = false;
        self.forget_calls();
        self.shake_hands(&ext.join(","));
        self.subscribe(0);
        self.connect(false, Claim::Honest, 0, false);
        self.arrive(1);
    }

    fn shake_hands(&mut self, ext: &str) {
        let carrier = self.open(CarrierKind::Exchange);
        let (reply, events) = if self.plan.greets {
            self.counts_anew = true;
            let ext = [ext, r#""replay":{"/a":-2}"#]
                .into_iter()
                .filter(|ext| !ext.is_empty());
            let ext = ext.collect::<Vec<_>>().join(",");
            let reply = self.node.open(self.now, carrier, &ext, self.ends());
            assert!(reply.is_none(), "it waits for its events: {reply:?}");
            self.client.subscribe(PATTERNS[0]);
            self.client
                .replay(PATTERNS[0], self.first - 1, events(&self.log, self.first));
            self.be_greeted(carrier)
        } else {
            let reply = self.node.open(self.now, carrier, ext, self.ends());
            (reply.expect("it waits for nothing"), Vec::new())
        };
        self.pipes.retain(|pipe| pipe.carrier != carrier);
        assert_eq!(reply["clientId"], CLIENT, "{reply}");
        let agreed = reply["ext"]["ack"] == true || reply["ext"]["ack"]["enabled"] == true;
        assert_eq!(agreed, self.plan.acknowledges, "{reply}");
        self.client.take_greeting(&reply, &events, self.first);
    }

    /// Polls for the reply to a handshake and what follows it.
    fn be_greeted(&mut self, carrier: Carrier) -> (Value, Vec<u64>) {
        let (mut reply, mut events) = (None, Vec::new());
        loop {
            let dispatched = self.base + self.dispatched as u64;
            match self.node.poll(self.now, carrier, dispatched, self.epoch) {
                Some(Said::Read(wanted)) => {
                    let page = self.page(wanted.after, &wanted.patterns);
                    self.node.has_read(carrier, page);
                }
                Some(Said::Reply(said)) => assert!(reply.replace(said).is_none(), "a second reply"),
                Some(Said::Event(event)) if reply.is_some() => events.push(event.offset().0),
                Some(Said::Event(_) | Said::Direct(..) | Said::Ping(_) | Said::Superseded) => {
                    panic!("before the handshake's reply")
                }
                None => return (reply.expect("a handshake is answered at once"), events),
            }
        }
    }

    fn publish_some(&mut self, channel: usize, size: usize, lazy: usize) {
        let data = format!("\"{}\"", "0123456789".repeat([1, 1, 1, 0, 3, 8, 40][size % 7]));
        let traits = Traits {
            lazy: entry(&LAZY, lazy),
            ..Traits::default()
        };
        self.publish(&Published {
            channel: ChannelName::parse(entry(&CHANNELS, channel)).expect("a name"),
            data: RawValue::from_string(data).expect("a text"),
            traits,
        });
    }

    fn publish(&mut self, published: &Published) {
        let Published {
            channel,
            data,
            traits,
        } = published;
        let offset = self.end() + 1;
        if traits.not_to.is_none() {
            self.client.expect(offset, channel.as_str());
        }
        self.has_lazy |= traits.lazy.is_some();
        let draft = Draft::new(channel.clone(), data, traits, 0);
        self.log.push(Arc::new(draft.at(Offset(offset))));
    }

    fn dispatch(&mut self) {
        if let Some(event) = self.log.get(self.dispatched) {
            self.dispatched += 1;
            if self.node.hand_over(event) {
                self.wake_all();
            }
        }
    }

    fn connect(&mut self, socket: bool, claim: Claim, advice: usize, batch: bool) {
        let claim = if self.plan.honest { Claim::Honest } else { claim };
        let carrier = self.link_for_connect(socket);
        let lies = claim != Claim::Honest;
        let must_say_so = self.client.recovering && !lies;
        let advice = entry(&ADVICE, if must_say_so { words::RECOVERY } else { advice });
        let (ext, claimed) = self.acknowledgement(claim);
        self.connects += 1;
        let connect = format!(
            r#"{{"channel":"/meta/connect","clientId":"{CLIENT}","id":"{}"{}{ext}}}"#,
            self.connects, advice.text
        );
        let body = if batch {
            format!(r#"[{connect},{{"channel":"/service/x","clientId":"{CLIENT}"}}]"#)
        } else {
            connect
        };
        let has_gap = self.node.has_gap();
        let is_fresh = self.fresh || !self.node.is_awake();
        let mut answered = self.receive(carrier, &body).into_iter();
        match answered.next().expect("an answer for each message") {
            Answered::Held => {
                assert!(advice.is_legal, "taken: {body}");
                assert!(
                    !matches!(claimed, Claimed::NoNumber),
                    "a number that is none is taken: {body}"
                );
                if let Claimed::Number(number) = claimed {
                    let is_plain_offset = number >> OFFSET_BITS == 0 && !self.counts_anew;
                    assert!(
                        has_gap || is_fresh || !is_plain_offset || number <= self.end(),
                        "acknowledges what is not there: {body}"
                    );
                    self.client.has_claimed(number);
                }
                if lies && !self.plan.acknowledges {
                    self.client.excuse(self.end());
                }
                self.wait_for_reply(carrier, advice, batch);
                let may_repeat = carrier.kind == CarrierKind::Exchange && !lies;
                self.repeatable = may_repeat.then_some((body, advice, batch));
            }
            Answered::Reply(reply) => {
                assert_eq!(reply["successful"], false, "answered beside the session: {reply}");
                let lied = self.plan.acknowledges && !self.plan.honest;
                let may_refuse = lied || !matches!(claimed, Claimed::Truth);
                assert!(!advice.is_legal || may_refuse, "refused: {body}: {reply}");
                if carrier.kind == CarrierKind::Exchange {
                    self.end_exchange(carrier);
                }
                self.client.recovering = true;
                if matches!(claimed, Claimed::Truth) && advice.is_legal {
                    self.client.own_up();
                }
            }
            Answered::Publish(..) | Answered::Service(..) => panic!("a connect is no publish: {body}"),
        }
        if batch {
            assert!(matches!(answered.next(), Some(Answered::Reply(reply)) if reply["successful"] == true));
        }
        self.wake_all();
        self.check_at_once(carrier);
    }

    /// What the client waits on, if it can send more there; otherwise something new.
    fn link_for_connect(&mut self, socket: bool) -> Carrier {
        let on_link = self
            .client
            .link
            .filter(|link| link.kind == CarrierKind::Socket && !self.client.connecting);
        if let Some(link) = on_link {
            return link;
        }
        // A held connect may be overtaken. One whose answer is on its way was given up: a recovery.
        let given_up = self.link_pipe().is_some_and(|pipe| !pipe.frames.is_empty());
        let on_socket = self
            .client
            .link
            .is_some_and(|link| link.kind == CarrierKind::Socket);
        let recovering = self.client.recovering || given_up || on_socket;
        self.abandon();
        self.client.recovering = recovering;
        let carrier = self.open(if socket {
            CarrierKind::Socket
        } else {
            CarrierKind::Exchange
        });
        self.client.link = Some(carrier);
        carrier
    }

    /// The `ext` of a connect, and what it says. A plain client may say anything there.
    fn acknowledgement(&self, claim: Claim) -> (String, Claimed) {
        let truth = self.client.acknowledged;
        let (text, claimed) = match claim {
            Claim::Honest => (truth.to_string(), Claimed::Truth),
            Claim::Off(0) => return (String::new(), Claimed::Number(0)),
            Claim::Off(difference) => {
                let number = truth.saturating_add_signed(difference);
                (number.to_string(), Claimed::Number(number))
            }
            Claim::Odd(place) => match entry(&ACKS, place) {
                (text, true) => (text.to_owned(), Claimed::Number(0)),
                (text, false) => (text.to_owned(), Claimed::NoNumber),
            },
        };
        match (self.plan.acknowledges, claim) {
            (true, _) => (format!(r#","ext":{{"ack":{text}}}"#), claimed),
            (false, Claim::Honest) => (String::new(), Claimed::Truth),
            (false, _) => (format!(r#","ext":{{"ack":{text}}}"#), Claimed::Truth),
        }
    }

    fn wait_for_reply(&mut self, carrier: Carrier, advice: words::Advised, batch: bool) {
        let hurries = advice
            .timeout
            .is_some_and(|timeout| timeout < Duration::from_millis(100));
        let is_impatient = self.connected && hurries && self.is_too_much();
        let too_soon = self.not_before.filter(|not_before| self.now < *not_before);
        let put_off = too_soon.filter(|_| is_impatient);
        let settings = &self.node.settings;
        let timeout = advice
            .timeout
            .unwrap_or(settings.timeout)
            .min(settings.max_timeout);
        let may_wait = self.connected && !batch && !timeout.is_zero();
        let waiting = Waiting {
            may_wait,
            answered_by: match put_off {
                // Then it is one that may have to read the log.
                Some(until) => until + settings.timeout,
                None => self.now + if may_wait { timeout } else { settings.timeout },
            },
            is_advised: advice.is_there || self.advised != Some(carrier.kind),
            is_crowded: false,
            is_impatient,
            put_off,
            parts: 0,
            bytes: 0,
        };
        self.connected = true;
        self.client
            .connects(carrier, advice.timeout == Some(Duration::ZERO));
        if let Some(pipe) = self.pipe(carrier) {
            pipe.connect = Some(waiting);
        }
    }

    /// The third within a second, or sooner than the client was told to.
    fn is_too_much(&mut self) -> bool {
        let [before, last] = self.impatient;
        self.impatient = [last, Some(self.now)];
        let is_third =
            before.is_some_and(|before| self.now.saturating_duration_since(before) < Duration::from_secs(1));
        is_third || self.not_before.is_some_and(|not_before| self.now < not_before)
    }

    /// A connect that is not to be held is answered, unless the log must be read first, or it came too soon.
    fn check_at_once(&mut self, carrier: Carrier) {
        if self.pipes.iter().any(|pipe| pipe.read.is_some()) {
            return;
        }
        let waiting = self.pipes.iter().find(|pipe| pipe.carrier == carrier);
        let waiting = waiting.and_then(|pipe| pipe.connect.as_ref());
        assert!(
            waiting.is_none_or(|waiting| waiting.may_wait || waiting.is_put_off(self.now)),
            "a connect that may not be held is held"
        );
    }

    fn subscribe(&mut self, pattern: usize) {
        let pattern = entry(&PATTERNS, pattern);
        let held = self.client.subscriptions();
        let has_room = held.contains(&pattern) || held.len() < words::SUBSCRIPTIONS;
        let text =
            format!(r#"{{"channel":"/meta/subscribe","clientId":"{CLIENT}","subscription":"{pattern}"}}"#);
        self.say(&text, has_room);
        if has_room {
            self.client.subscribe(pattern);
        }
    }

    /// Subscribes, perhaps again, to what there is already.
    fn replay(&mut self, pattern: usize, from: From) {
        let pattern = entry(&PATTERNS, pattern);
        let held = self.client.subscriptions();
        if !held.contains(&pattern) && held.len() == words::SUBSCRIPTIONS {
            return;
        }
        let (earliest, end) = (self.first - 1, self.end());
        let (wish, after) = match from {
            From::Now => ("-1".to_owned(), end),
            From::Start => ("\"-2\"".to_owned(), earliest),
            From::AfterFirst(distance) => (format!("\"{}\"", earliest + distance), earliest + distance),
            From::BeforeLast(distance) => {
                let after = end.saturating_sub(distance);
                (after.to_string(), after)
            }
            From::BeyondLast(distance) => ((end + distance).to_string(), end + distance),
        };
        let is_there = (earliest..=end).contains(&after);
        let text = format!(
            r#"{{"channel":"/meta/subscribe","clientId":"{CLIENT}","subscription":"{pattern}","ext":{{"replay":{{"{pattern}":{wish}}}}}}}"#
        );
        let (reply, _) = self.say(&text, true);
        assert_eq!(
            reply["ext"]["replay"]["gap"] == true,
            !is_there,
            "{text}: {reply}"
        );
        self.client.subscribe(pattern);
        if from != From::Now {
            self.counts_anew = true;
            let after = if is_there { after } else { earliest };
            self.client.replay(pattern, after, events(&self.log, self.first));
        }
    }

    fn unsubscribe(&mut self, pattern: usize) {
        let pattern = entry(&PATTERNS, pattern);
        let text =
            format!(r#"{{"channel":"/meta/unsubscribe","clientId":"{CLIENT}","subscription":"{pattern}"}}"#);
        self.client.unsubscribe(pattern);
        self.say(&text, true);
    }

    fn say_words(&mut self, words: Words) {
        let expected = words.expected(&self.client.subscriptions());
        if let Expected::Unsubscribed(patterns) = &expected {
            patterns
                .iter()
                .for_each(|pattern| self.client.unsubscribe(pattern));
        }
        let (_, published) = self.say(&words.text(), expected != Expected::Refused);
        match expected {
            Expected::Subscribed(patterns) => {
                patterns.iter().for_each(|pattern| self.client.subscribe(pattern));
                assert!(published.is_none());
            }
            Expected::Published(channel) => {
                let published = published.expect("a publish goes into the log");
                assert_eq!(published.channel.as_str(), channel);
                assert_eq!(published.traits.not_to.is_none(), self.plan.echoes);
                self.publish(&published);
            }
            Expected::Refused | Expected::Nothing | Expected::Unsubscribed(_) => assert!(published.is_none()),
        }
    }

    /// Sends something that is no connect: over the socket, or over an exchange of its own. Returns the reply, and what is
    /// published.
    fn say(&mut self, text: &str, succeeds: bool) -> (Value, Option<Box<Published>>) {
        let carrier = self.client.link.filter(|link| link.kind == CarrierKind::Socket);
        let own = carrier.is_none();
        let carrier = carrier.unwrap_or_else(|| self.open(CarrierKind::Exchange));
        let answered = self.receive_one(carrier, own, text);
        let (reply, published) = match answered {
            Answered::Reply(reply) => (reply, None),
            Answered::Publish(published, reply) => (reply, Some(published)),
            Answered::Held | Answered::Service(..) => panic!("held: {text}"),
        };
        assert_eq!(reply["successful"], succeeds, "{text}: {reply}");
        self.wake_all();
        (reply, published)
    }

    fn receive_one(&mut self, carrier: Carrier, own: bool, text: &str) -> Answered {
        let mut answered = self.receive(carrier, text);
        assert_eq!(answered.len(), 1, "{text}");
        if own {
            self.pipes.retain(|pipe| pipe.carrier != carrier);
        }
        answered.remove(0)
    }

    /// A message to a service, over the socket if there is one.
    fn call(&mut self) {
        self.called += 1;
        let (id, service) = (self.called, words::SERVICE);
        let text = format!(r#"{{"channel":"{service}","clientId":"{CLIENT}","id":{id},"data":{{}}}}"#);
        let socket = self.client.link.filter(|link| link.kind == CarrierKind::Socket);
        let carrier = socket.unwrap_or_else(|| self.open(CarrierKind::Exchange));
        match self.receive_one(carrier, socket.is_none(), &text) {
            Answered::Service(call, reply) => {
                assert_eq!(reply["successful"], true, "{reply}");
                self.calls.push((id, call));
            }
            Answered::Reply(reply) => {
                let is_full = self.called > words::DIRECT_MESSAGES as u64;
                assert!(is_full && reply["successful"] == false, "{reply}");
            }
            Answered::Held | Answered::Publish(..) => panic!("a call is for its service"),
        }
        self.wake_all();
    }

    fn answer(&mut self, which: usize, size: usize) {
        if self.calls.is_empty() {
            return;
        }
        let (id, call) = self.calls.remove(which % self.calls.len());
        let result = [None, Some(1), Some(2), Some(3)][size % 4].map(|size| CallResult {
            successful: true,
            data: RawValue::from_string(format!("{:?}", "0123456789".repeat(size))).expect("a text"),
        });
        if result.is_some() {
            self.client.awaited.insert(id);
        }
        if self.node.answer(self.now, &call, result) {
            self.wake_all();
        }
    }

    /// They are lost when the session leaves memory; the client's own patience covers that.
    fn forget_calls(&mut self) {
        self.calls.clear();
        self.called = 0;
        self.client.awaited.clear();
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
            served: true,
            heard: true,
            read: None,
            connect: None,
            asked: None,
        });
        carrier
    }

    /// The server takes a body.
    fn receive(&mut self, carrier: Carrier, body: &str) -> Vec<Answered> {
        if let Some(pipe) = self.pipe(carrier) {
            pipe.served = true;
        }
        let was_awake = self.node.is_awake();
        let same_log = self.node.is_of(self.epoch);
        // By its record, which may be older than its first connect.
        let was_connected = self.node.was_connected();
        let answered = self.node.receive(self.now, carrier, body, self.ends());
        if !was_awake && self.node.is_awake() {
            self.connected = was_connected;
            self.fresh = true;
            self.advised = None;
            self.impatient = [None; 2];
            self.not_before = None;
            self.told_busy = false;
            if !same_log {
                // Where its subscriptions began meant something in the log that is lost.
                self.client.allow(events(&self.log, self.first));
            }
        }
        answered
    }

    fn end_exchange(&mut self, carrier: Carrier) {
        self.pipes.retain(|pipe| pipe.carrier != carrier);
        self.client.link = None;
        self.client.connecting = false;
    }

    fn wake_all(&mut self) {
        (0..self.pipes.len()).for_each(|place| self.poll(place));
    }

    fn poll(&mut self, place: usize) {
        loop {
            let pipe = &mut self.pipes[place];
            if !pipe.served || pipe.read.is_some() {
                return;
            }
            match self.node.poll(
                self.now,
                pipe.carrier,
                self.base + self.dispatched as u64,
                self.epoch,
            ) {
                None => return,
                Some(Said::Event(event)) => self.send_event(place, &event),
                Some(Said::Direct(message, size)) => self.send_direct(place, message, size),
                Some(Said::Reply(reply)) => self.send_reply(place, reply),
                Some(Said::Ping(offset)) => {
                    let is_plain_socket =
                        pipe.carrier.kind == CarrierKind::Socket && !self.plan.delivers_with_connect();
                    assert!(is_plain_socket, "a ping that nobody needs");
                    pipe.asked = Some(offset);
                    pipe.frames.push_back(Frame::Ping(offset));
                }
                Some(Said::Read(wanted)) => pipe.read = Some(wanted),
                Some(Said::Superseded) => {
                    pipe.served = false;
                    pipe.connect = None;
                }
            }
        }
    }

    fn send_event(&mut self, place: usize, event: &Delivery) {
        let (pipe, offset) = (&mut self.pipes[place], event.offset().0);
        assert!(self.client.may_get(offset), "{offset} was not asked for");
        if self.plan.delivers_with_connect() || pipe.carrier.kind == CarrierKind::Exchange {
            self.add_to_answer(place, event.size());
        }
        self.pipes[place].frames.push_back(Frame::Event(offset));
    }

    fn send_direct(&mut self, place: usize, message: Value, size: usize) {
        let kind = self.pipes[place].carrier.kind;
        let is_farewell = message["channel"] == "/meta/disconnect";
        assert!(!is_farewell || self.expels, "nobody wants to end this");
        if (self.plan.delivers_with_connect() || kind == CarrierKind::Exchange) && !is_farewell {
            self.add_to_answer(place, size);
        }
        self.pipes[place].frames.push_back(Frame::Direct(message));
    }

    /// What leaves with the reply to a connect has a bound, but for the first of it.
    fn add_to_answer(&mut self, place: usize, size: usize) {
        let waiting = self.pipes[place].connect.as_mut();
        let waiting = waiting.expect("this leaves with the reply to a connect");
        waiting.bytes += size;
        let fits = waiting.parts == 0 || waiting.bytes <= self.node.settings.limits.answer_bytes;
        assert!(fits, "{} bytes in one answer", waiting.bytes);
        waiting.parts += 1;
    }

    fn send_reply(&mut self, place: usize, reply: Value) {
        let pipe = &mut self.pipes[place];
        let waiting = pipe.connect.take().expect("there is a connect to reply to");
        if self.expels && reply["advice"]["reconnect"] == "none" {
            self.left = true;
        }
        let is_busy = !self.node.busy.is_zero();
        let is_advised = waiting.is_advised || is_busy || self.told_busy;
        let advice = match (self.left, waiting.is_crowded, is_advised) {
            (true, _, _) => Some("none"),
            (false, true, _) | (false, false, true) => Some("retry"),
            (false, false, false) => None,
        };
        assert_eq!(reply["advice"]["reconnect"].as_str(), advice, "{reply}");
        let interval = reply["advice"]["interval"].as_u64().map(Duration::from_millis);
        let is_long_enough = interval.is_none_or(|interval| interval >= self.node.busy || waiting.is_crowded);
        assert!(is_long_enough, "{reply}");
        let slows_down = waiting.is_impatient && !self.left && !waiting.is_crowded;
        // Who has lost something hears of it before a socket brings more.
        let may_hurry = self.expels || reply["ext"]["recovered"] == false;
        assert!(
            !slows_down || may_hurry || !waiting.is_put_off(self.now),
            "a loop is answered as fast as it asks: {reply}"
        );
        if slows_down {
            self.not_before = Some(self.now + self.node.settings.impatient_interval);
        }
        let least = self.node.settings.impatient_interval;
        assert!(
            !slows_down || interval.is_some_and(|interval| interval >= least),
            "{reply}"
        );
        if waiting.is_crowded {
            self.advised = None;
        } else if is_advised {
            // One that was told to wait is told with the next reply that it need not.
            self.advised = (!waiting.is_impatient).then_some(pipe.carrier.kind);
            self.told_busy = is_busy;
        }
        self.fresh = false;
        let starts_again = self.node.is_taken_from_another_log() && reply["ext"]["recovered"] == false;
        pipe.frames.push_back(Frame::Reply { reply, starts_again });
        pipe.served = pipe.carrier.kind == CarrierKind::Socket;
    }

    /// A read of the log ends.
    fn read(&mut self, which: usize) {
        let reading: Vec<_> = (0..self.pipes.len())
            .filter(|place| self.pipes[*place].read.is_some())
            .collect();
        let Some(place) = reading.get(which % reading.len().max(1)).copied() else {
            return;
        };
        let Wanted { after, patterns } = self.pipes[place].read.take().expect("found by it");
        let page = self.page(after, &patterns);
        let carrier = self.pipes[place].carrier;
        self.node.has_read(carrier, page);
        self.poll(place);
        self.check_at_once(carrier);
        self.check_lateness();
    }

    fn page(&self, after: u64, patterns: &[ChannelPattern]) -> PageRead {
        let mut events: Vec<_> = self
            .log
            .iter()
            .filter(|event| event.offset().0 > after && event.offset().0 >= self.first)
            .filter(|event| patterns.iter().any(|pattern| pattern.matches(event.channel())))
            .cloned()
            .collect();
        let through = match events.get(PAGE) {
            Some(_) => events[PAGE - 1].offset(),
            None => Offset(self.end()),
        };
        events.truncate(PAGE);
        PageRead {
            after: Offset(after),
            events,
            through,
            gap: (self.first > after + 1).then_some(Offset(self.first)),
        }
    }

    fn arrive(&mut self, count: usize) {
        for _ in 0..count {
            let Some(pipe) = self.link_pipe() else { return };
            let carrier = pipe.carrier;
            let Some(frame) = pipe.frames.pop_front() else {
                return;
            };
            match frame {
                Frame::Event(offset) => self.client.take_event(offset, carrier, self.first),
                Frame::Direct(message) => self.client.take_direct(&message, carrier),
                Frame::Reply { reply, starts_again } => {
                    if starts_again {
                        self.client.start_again();
                    }
                    self.client.take_reply(&reply, self.first, carrier);
                }
                Frame::Ping(offset) => {
                    pipe.asked = pipe.asked.filter(|asked| *asked != offset);
                    self.node.pong(self.now, carrier, offset, self.epoch);
                    self.wake_all();
                }
            }
        }
    }

    /// The client gives up what it waits on.
    fn abandon(&mut self) {
        if let Some(pipe) = self.link_pipe() {
            pipe.heard = false;
            pipe.frames.clear();
        }
        if self.client.link.take().is_some() {
            self.client.recovering = true;
        }
        self.client.connecting = false;
        self.client.forget_unapplied();
    }

    /// The server finds that a client has gone.
    fn notice(&mut self, which: usize, write_failed: bool) {
        let gone: Vec<_> = (0..self.pipes.len())
            .filter(|place| !self.pipes[*place].heard)
            .collect();
        let Some(place) = gone.get(which % gone.len().max(1)) else {
            return;
        };
        let pipe = self.pipes.remove(*place);
        let reply_lost = write_failed && pipe.carrier.kind == CarrierKind::Exchange && !pipe.served;
        if self.node.lost(self.now, pipe.carrier, reply_lost) {
            self.wake_all();
        }
    }

    /// The server closes the socket; before the client answers, everything arrives that was sent.
    fn close(&mut self) {
        let Some(link) = self.client.link.filter(|link| link.kind == CarrierKind::Socket) else {
            return;
        };
        if let Some(pipe) = self.pipe(link) {
            pipe.served = false;
        }
        self.arrive(usize::MAX);
        self.node.close_answered(self.now, link);
        self.abandon();
        let place = self.pipes.iter().position(|pipe| pipe.carrier == link);
        let gone = place.map(|place| self.pipes.remove(place));
        if gone.is_some() && self.node.lost(self.now, link, false) {
            self.wake_all();
        }
    }

    /// The page closes its socket.
    fn reload(&mut self, forgets: bool) {
        let Some(link) = self.client.link.filter(|link| link.kind == CarrierKind::Socket) else {
            return;
        };
        if forgets {
            self.client.forget_pushed();
        }
        self.abandon();
        self.pipes.retain(|pipe| pipe.carrier != link);
        if self.node.closed(self.now, link, self.epoch) {
            self.wake_all();
        }
    }

    /// The server ends the session. A client that is there gets everything that was published before, then the goodbye, and
    /// with it the reply to its connect.
    fn expel(&mut self) {
        if !self.node.is_awake() {
            return;
        }
        while self.pipes.iter().any(|pipe| !pipe.heard) {
            self.notice(0, false);
        }
        self.expels = true;
        if self.node.expel(self.now, self.end()) {
            self.wake_all();
        }
        for round in 0..100 {
            while self.dispatched < self.log.len() {
                self.dispatch();
            }
            while self.pipes.iter().any(|pipe| pipe.read.is_some()) {
                self.read(0);
            }
            self.arrive(100);
            if self.left && !self.client.connecting {
                break;
            }
            if !self.client.connecting {
                self.connect(round % 2 == 0, Claim::Honest, 0, false);
            }
        }
        assert!(self.left && self.client.is_expelled, "the goodbye does not come");
        if self.plan.honest && !self.counts_anew {
            assert_eq!(self.missing(), None, "lost before the goodbye");
        }
        self.end_session();
    }

    fn repeat(&mut self) {
        let exchange = self
            .client
            .link
            .filter(|link| self.client.connecting && link.kind == CarrierKind::Exchange);
        // Once: the second time its connection is a new one.
        let (Some(_), Some((body, advice, batch))) = (exchange, self.repeatable.take()) else {
            return;
        };
        let recovering = self.client.recovering;
        self.abandon();
        self.client.recovering = recovering;
        let carrier = self.open(CarrierKind::Exchange);
        self.client.link = Some(carrier);
        let answered = self.receive(carrier, &body);
        assert!(
            matches!(answered.first(), Some(Answered::Held)),
            "{body}: {answered:?}"
        );
        self.wait_for_reply(carrier, advice, batch);
        self.wake_all();
        self.check_at_once(carrier);
    }

    /// The connect that the client waits for is one too many.
    fn crowd(&mut self) {
        let interval = Duration::from_secs(2);
        if self.left {
            return;
        }
        if let Some(pipe) = self.link_pipe()
            && let Some(waiting) = &mut pipe.connect
        {
            waiting.is_crowded = true;
            waiting.may_wait = false;
            let carrier = pipe.carrier;
            self.node.crowd(carrier, interval);
            self.wake_all();
        }
    }

    fn pong(&mut self, below: u64) {
        let offset = self.end().saturating_sub(below);
        let honest = self.plan.honest;
        let Some(pipe) = self.link_pipe() else { return };
        if pipe.asked == Some(offset) {
            if honest {
                return;
            }
            pipe.asked = None;
            let carrier = pipe.carrier;
            self.client.excuse(offset);
            self.node.pong(self.now, carrier, offset, self.epoch);
        } else {
            let carrier = pipe.carrier;
            self.node.pong(self.now, carrier, offset, self.epoch);
        }
        self.wake_all();
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        for round in 0.. {
            assert!(round < 1000, "a timeout that is handled comes again");
            let Some(at) = self.node.next_timeout().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            let wake = self.node.time_out(self.now, self.epoch);
            if !self.node.is_awake() {
                // Tasks find their session gone. A page that hangs for so long is believed to have what its browser had.
                self.forget_calls();
                self.client.keeps_pushed();
                for pipe in &mut self.pipes {
                    pipe.served = false;
                    pipe.connect = None;
                    pipe.asked = None;
                }
            } else if wake {
                self.wake_all();
            }
        }
        self.now = until;
        self.check_lateness();
    }

    /// A task that waits for the log answers when it has it; nothing else makes a connect wait.
    fn check_lateness(&self) {
        for pipe in self.pipes.iter().filter(|pipe| pipe.read.is_none()) {
            let is_late = pipe
                .connect
                .as_ref()
                .is_some_and(|waiting| waiting.answered_by <= self.now);
            assert!(!is_late, "a connect is held for too long");
        }
    }

    /// The process has ended, and everybody connects to the next one.
    fn die(&mut self) {
        self.abandon();
        self.pipes.clear();
        self.forget_calls();
        self.dispatched = self.log.len();
    }

    fn lose_log(&mut self, distance: u64) {
        self.node.crash();
        // Half of the time with the same offsets again, and half of the time beyond them.
        self.base = match distance % 2 {
            0 => distance / 16,
            _ => self.end() + distance,
        };
        self.log.clear();
        self.first = self.base + 1;
        self.epoch += 1;
        self.die();
        self.counts_anew = true;
        self.client.lose_log();
    }

    /// The goodbye is answered first; nothing that follows it is taken.
    fn leave(&mut self) {
        let goodbye = format!(r#"{{"channel":"/meta/disconnect","clientId":"{CLIENT}"}}"#);
        self.left = true;
        self.say(&goodbye, true);
        let grace = self.node.settings.disconnect_grace;
        self.now += grace;
        self.node.time_out(self.now, self.epoch);
        self.wake_all();
        for pipe in &self.pipes {
            assert!(
                pipe.connect.is_none() || pipe.read.is_some(),
                "held after the goodbye"
            );
        }
        self.end_session();
    }

    /// Nothing is taken any more, and there is a new one.
    fn end_session(&mut self) {
        let goodbye = format!(r#"{{"channel":"/meta/disconnect","clientId":"{CLIENT}"}}"#);
        self.say(&goodbye, false);
        self.node.crash();
        self.die();
        self.left = false;
        self.begin();
    }

    fn check(&self) {
        // Beside the session only the log keeps events here.
        let limits = &self.node.settings.limits;
        let kept = |event: &Arc<Delivery>| Arc::strong_count(event) - 1;
        let events: usize = self.log.iter().map(kept).sum();
        assert!(
            events <= limits.queue_events + PAGE,
            "{events} events are kept in memory"
        );
        let bytes: usize = self.log.iter().map(|event| kept(event) * event.size()).sum();
        let page = PAGE * LARGEST;
        assert!(
            bytes <= limits.queue_bytes + page,
            "{bytes} bytes of events are kept in memory"
        );
        if let Some(held) = self.node.subscriptions() {
            assert_eq!(held, self.client.subscriptions(), "what the session listens to");
        }
    }

    fn pipe(&mut self, carrier: Carrier) -> Option<&mut Pipe> {
        self.pipes.iter_mut().find(|pipe| pipe.carrier == carrier)
    }

    fn link_pipe(&mut self) -> Option<&mut Pipe> {
        let link = self.client.link?;
        self.pipe(link)
    }

    fn end(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    fn ends(&self) -> Ends {
        Ends {
            first: self.first,
            last: self.end(),
            epoch: self.epoch,
        }
    }
}

/// What is still in a log, and not from the client to others only.
fn events(log: &[Arc<Delivery>], first: u64) -> impl Iterator<Item = (u64, &str)> {
    log.iter()
        .filter(move |event| event.offset().0 >= first && event.marks().not_to.is_none())
        .map(|event| (event.offset().0, event.channel().as_str()))
}

/// Limits so low that a few steps meet them.
fn settings(plan: Plan) -> Settings {
    let server_owned = Rule {
        publish: Some(Access::Roles(Vec::new())),
        ..Rule::of(ChannelPattern::parse(words::SERVER_OWNED).expect("a pattern"))
    };
    Settings {
        rules: Arc::new(Rules::new(vec![server_owned])),
        services: vec![ChannelPattern::parse(words::SERVICE).expect("a pattern")],
        messages_during_handshake: plan.greets,
        subscribed: plan
            .greets
            .then(|| ChannelPattern::parse(PATTERNS[0]).expect("a pattern"))
            .into_iter()
            .collect(),
        limits: Limits {
            queue_events: plan.queue_events,
            queue_bytes: plan.queue_bytes,
            answer_bytes: 100,
            channel_bytes: words::CHANNEL_BYTES,
            channel_segments: words::CHANNEL_SEGMENTS,
            id_bytes: words::ID_BYTES,
            subscriptions: words::SUBSCRIPTIONS,
            direct_messages: words::DIRECT_MESSAGES,
            direct_bytes: 2000,
            ..Limits::default()
        },
        ..Settings::default()
    }
}

/// What a connect says of what arrived.
enum Claimed {
    Truth,
    Number(u64),
    NoNumber,
}

/// More bytes than any event here has.
const LARGEST: usize = 460;

/// More characters than a session needs to be written out, whatever happened to it.
const DUMP: usize = 20_000;
