//! One client's session: who it is to the protocol, what it listens to, how far it has come.
//!
//! Kinds of methods: `handle_*` take what happened, `poll_*` say what to do about it and are drained after every
//! `handle_*`, the rest are questions. Nothing here waits, reads a clock or does I/O. One file per meta channel.

mod connect;
mod credentials;
mod delivery;
mod direct;
mod disconnect;
mod gap;
mod greeting;
mod handshake;
mod life;
mod parting;
mod proof;
mod publish;
mod replay;
mod service;
mod snapshot;
mod subscribe;
mod window;

use std::sync::Arc;
use std::time::Instant;

use crate::extension::{Agreed, Stirred};
use crate::{
    Carrier, CarrierKind, ChannelName, ClientId, Delivery, Failure, Message, Offset, Reply, Rights, Settings,
    Target, Traits,
};

pub use credentials::AUTH_CHANNEL;
pub use delivery::{Handover, PageRead};
pub use direct::Direct;
pub use handshake::{defer as defer_handshake, deny as deny_handshake};
pub use parting::LastReply;
pub use service::{Call, CallResult};
pub use snapshot::{Snapshot, Subscription};

use connect::Connects;
use credentials::Credentials;
use delivery::Lazy;
use direct::Directs;
use gap::Gap;
use greeting::Greeting;
use life::Life;
use proof::Proof;
use window::Window;

/// A client's session.
#[derive(Debug)]
pub struct Session {
    id: ClientId,
    settings: Arc<Settings>,
    rights: Rights,
    credentials: Credentials,
    subscriptions: Vec<Subscription>,
    pub(crate) window: Window,
    direct: Directs,
    pub(crate) agreed: Agreed,
    pub(crate) stirred: Stirred,
    connects: Connects,
    life: Life,
    proof: Proof,
    /// The socket that events are pushed to.
    socket: Option<Carrier>,
    /// The carrier that brought what is not proven.
    brought_by: Option<Carrier>,
    /// A read of the log is under way for this carrier.
    reading_for: Option<Carrier>,
    /// Part of the log was lost for this session, and its client may not know yet.
    gap: Option<Gap>,
    /// The reply to its handshake, while that waits for the events that leave with it.
    greeting: Option<Box<Greeting>>,
    /// Events wait that are in no hurry.
    lazy: Lazy,
    /// What must survive has changed outside of a subscribe.
    record_changed: bool,
    /// It goes on elsewhere.
    parts: bool,
}

/// What a message led to at once.
#[derive(Debug)]
pub enum Answer {
    /// This reply.
    Reply(Box<Reply>),
    /// The reply to a connect comes from [`Session::poll_output`] of the same carrier: at once, or when there is something
    /// to say.
    Held,
    /// The message's data goes into the log. The reply is true once the log has it.
    Publish(Box<Publish>),
    /// The message is for a service, with this reply; what the service answers is for [`Session::handle_direct`].
    Service(Call, Box<Reply>),
}

/// What a client publishes, as far as the session knows.
#[derive(Debug)]
pub struct Publish {
    /// Where.
    pub channel: ChannelName,
    /// What goes with the data, and how the event is delivered.
    pub traits: Traits,
    /// The reply, once the log has it.
    pub reply: Reply,
}

/// What to do for a carrier.
#[derive(Debug)]
pub enum Output {
    /// Send this event.
    Event(Arc<Delivery>),
    /// Send this message, which is no event of the log.
    Direct(Direct),
    /// Answer the held connect; on an exchange this ends the response.
    Reply(Box<Reply>),
    /// Send a ping that carries this offset, and report its pong with [`Session::handle_pong`].
    Ping(Offset),
    /// Read the log for this session after this offset, and report with [`Session::handle_read`].
    ReadLog(Offset),
    /// A newer carrier has taken over; nothing more will come for this one.
    Superseded,
    /// What the session was known by was revoked: close the socket.
    Refused,
}

impl Answer {
    fn reply(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// Where subscriptions are made known, and where the log ended when they were.
pub trait Routes {
    /// From now on events that match are handed to the session. Returns what can be read of the log *after* that.
    fn add(&mut self, pattern: &crate::ChannelPattern) -> LogEnds;
    /// The pattern is of no interest any more.
    fn remove(&mut self, pattern: &crate::ChannelPattern);
    /// What can be read of the log now.
    fn ends(&self) -> LogEnds;
}

/// What can be read of the log: the first and the last offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnds {
    /// The first offset that is still there.
    pub first: Offset,
    /// The last one.
    pub last: Offset,
}

impl Session {
    fn new(id: ClientId, settings: Arc<Settings>, rights: Rights, window: Window, now: Instant) -> Self {
        Self {
            id,
            life: Life::new(now, &settings),
            agreed: Agreed::given(&settings),
            stirred: Stirred::new(now),
            settings,
            rights,
            credentials: Credentials::default(),
            subscriptions: Vec::new(),
            window,
            direct: Directs::default(),
            connects: Connects::default(),
            proof: Proof::default(),
            socket: None,
            brought_by: None,
            reading_for: None,
            gap: None,
            greeting: None,
            lazy: Lazy::default(),
            record_changed: false,
            parts: false,
        }
    }

    /// Takes up a session again from its record. `ends` was read after its subscriptions were routed again. `same_log` is
    /// false when the record's offsets are of another log: the client is told of the gap.
    pub fn resume(
        id: ClientId,
        settings: Arc<Settings>,
        rights: Rights,
        snapshot: Snapshot,
        ends: LogEnds,
        same_log: bool,
        now: Instant,
    ) -> Self {
        let cursor = if same_log {
            snapshot.cursor
        } else {
            Offset(ends.first.0.saturating_sub(1))
        };
        let is_of_another_log = !same_log || cursor > ends.last;
        let window = Window::new(cursor.min(ends.last), ends.last);
        let mut session = Self::new(id, settings, rights, window, now);
        // A record that is older than its cursor says nothing of what is after it.
        let reply = snapshot.reply.filter(|reply| same_log && reply.through > cursor);
        if let Some(reply) = reply.filter(|reply| reply.through <= ends.last) {
            session.window = Window::half_way(cursor, reply.through, ends.last);
            session.take_up_reply(&reply);
        }
        // The client's numbers are of another log, too, and could be taken for those of replies from this one; or of the next,
        // if the record did not say that they count anew.
        let replays = snapshot.replays.saturating_add(u8::from(is_of_another_log));
        session.record_changed = is_of_another_log;
        session.agreed.take_up(&snapshot.extensions, replays, ends);
        session.agreed.contested = snapshot.contested;
        if !is_of_another_log {
            session.agreed.carried = snapshot.carried;
        }
        session.subscriptions = snapshot.subscriptions;
        for subscription in &mut session.subscriptions {
            subscription.guarded = session
                .settings
                .rules
                .guards(&session.rights, &subscription.pattern);
            if !same_log {
                subscription.began = Offset::START;
                subscription.replay = None;
            }
        }
        if !snapshot.fresh {
            session.life.connected();
        }
        if is_of_another_log {
            session.gap = Some(Gap::of_another_log(ends.first));
        }
        session
    }

    /// What must be kept for [`Session::resume`].
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            subscriptions: self.subscriptions.clone(),
            cursor: self.cursor(),
            extensions: self.agreed.names(),
            replays: self.agreed.replays,
            carried: self.agreed.carried,
            contested: self.agreed.contested,
            fresh: !self.was_connected(),
            reply: self.last_reply(),
        }
    }

    /// What must survive has changed since the last call, and must be durable before the next reply to a connect leaves.
    pub fn take_record_change(&mut self) -> bool {
        std::mem::take(&mut self.record_changed)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its clientId.
    pub fn id(&self) -> &ClientId {
        &self.id
    }

    /// What it listens to.
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// Takes a message that came on a carrier. `alone` says that nothing else came in the same body: only then is a connect
    /// held.
    pub fn handle_message(
        &mut self,
        now: Instant,
        carrier: Carrier,
        alone: bool,
        message: &Message<'_>,
        routes: &mut dyn Routes,
    ) -> Answer {
        let is_heard = match message.target {
            Target::Connect | Target::Disconnect => true,
            Target::Handshake
            | Target::Subscribe
            | Target::Unsubscribe
            | Target::Service(_)
            | Target::Publish(_) => !self.life.is_ending(),
        };
        if let Some(failure) = self.denial(now)
            && message.target != Target::Disconnect
        {
            return Answer::reply(Reply::failure(message, failure));
        }
        if self.life.is_over() || !is_heard {
            return Answer::reply(Reply::failure(message, Failure::SessionUnknown));
        }
        if let Err(failure) = self.agreed.clone().incoming(self, now, message) {
            return self.reply(now, message, Reply::failure(message, failure));
        }
        self.life.heard(now, &self.settings);
        self.attach(carrier, message);
        let reply = match &message.target {
            Target::Handshake => Reply::failure(message, Failure::HandshakeNotFirst),
            Target::Connect => return self.connect(now, carrier, alone, message),
            Target::Subscribe => self.subscribe(message, routes),
            Target::Unsubscribe => self.unsubscribe(message, routes),
            Target::Disconnect => self.disconnect(now, message),
            Target::Service(channel) => match self.call(now, channel, message) {
                Ok(Some(call)) => return self.called(now, call, message),
                Ok(None) => Reply::success(message),
                Err(failure) => Reply::failure(message, failure),
            },
            Target::Publish(channel) => match self.publish(channel, message) {
                Ok(traits) => return self.published(now, channel, traits, message),
                Err(failure) => Reply::failure(message, failure),
            },
        };
        self.reply(now, message, reply)
    }

    /// A reply that leaves at once.
    fn reply(&mut self, now: Instant, message: &Message<'_>, mut reply: Reply) -> Answer {
        self.finish(now, message, &mut reply);
        Answer::Reply(Box::new(reply))
    }

    fn finish(&mut self, now: Instant, message: &Message<'_>, reply: &mut Reply) {
        let agreed = self.agreed.clone();
        reply.received = Some(agreed.receiving(now, message));
        agreed.outgoing(self, now, &message.target, reply);
    }

    fn called(&mut self, now: Instant, call: Call, message: &Message<'_>) -> Answer {
        let mut reply = Reply::success(message);
        self.finish(now, message, &mut reply);
        Answer::Service(call, Box::new(reply))
    }

    fn published(
        &mut self,
        now: Instant,
        channel: &ChannelName,
        traits: Traits,
        message: &Message<'_>,
    ) -> Answer {
        let mut reply = Reply::success(message);
        self.finish(now, message, &mut reply);
        Answer::Publish(Box::new(Publish {
            channel: channel.clone(),
            traits,
            reply,
        }))
    }

    /// A carrier is gone; what it brought and nobody proved will be sent again. Returns whether another one may have something
    /// to do now.
    pub fn handle_carrier_lost(&mut self, now: Instant, carrier: Carrier) -> bool {
        self.greeting.take_if(|greeting| greeting.is_for(carrier));
        let was_reading = self.reading_for == Some(carrier);
        if was_reading {
            self.reading_for = None;
        }
        let was_held = self.connects.drop_held(carrier);
        let was_socket = self.socket == Some(carrier);
        if was_socket {
            self.let_go_of_socket();
            // The one that holds the connect has lived on beside it.
            self.socket = self.connects.holding_socket();
        }
        if (was_held || was_socket) && !self.connects.is_held() {
            self.life.left(now, &self.settings);
        }
        was_reading || was_socket
    }

    /// Writing the reply to a connect failed, or the peer was gone before it was written: the next connect, whatever it says,
    /// gets its events again.
    pub fn handle_reply_lost(&mut self) {
        self.connects.distrust_reply();
    }

    /// Any message on another socket makes that socket the one that events are pushed to.
    fn attach(&mut self, carrier: Carrier, message: &Message<'_>) {
        let moves = match carrier.kind {
            CarrierKind::Socket => self.socket != Some(carrier),
            CarrierKind::Exchange => self.socket.is_some() && message.target == Target::Connect,
        };
        if !moves {
            return;
        }
        if let Some(socket) = self.socket {
            self.proof.leave(socket);
            self.let_go_of_socket();
        }
        if carrier.kind == CarrierKind::Socket {
            self.socket = Some(carrier);
        }
    }

    fn was_brought_by(&self, kind: CarrierKind) -> bool {
        self.brought_by.is_some_and(|carrier| carrier.kind == kind)
    }

    fn let_go_of_socket(&mut self) {
        if self.reading_for.is_some() && self.reading_for == self.socket {
            self.reading_for = None;
        }
        self.socket = None;
        self.proof.forget_ping();
        self.direct.rewind_socket();
        if self.was_brought_by(CarrierKind::Socket) && !self.agreed.acknowledges() {
            self.window.rewind();
        }
    }
}
