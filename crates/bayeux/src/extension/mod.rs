//! Extensions: a file beside this one and a line in [`ALL`].
//!
//! A session has an extension because its handshake asked for it, by its name in `ext`, or because the configuration says
//! so. From then on the extension sees each message before its handler, each publish on its way into the log, and each reply
//! before it leaves.

mod ack;
mod activity;
mod binary;
mod broadcast_to_publisher;
mod meta_connect_deliver_only;
mod replay;
mod timestamp;
mod timesync;

use std::fmt;
use std::time::Instant;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Failure, LogEnds, Message, Offset, Reply, Session, Settings, Target, Traits};

pub use crate::reply::Received;
pub(crate) use activity::Stirred;
pub(crate) use replay::Wish;
pub(crate) use timesync::Timesync;

/// Every extension. Incoming messages meet them in this order, replies in the reverse of it: so the time is taken last.
pub const ALL: &[&dyn Extension] = &[
    &timesync::TimeSynchronisation,
    &timestamp::Timestamp,
    &replay::Replay,
    &ack::Acknowledge,
    &meta_connect_deliver_only::MetaConnectDeliverOnly,
    &broadcast_to_publisher::BroadcastToPublisher,
    &binary::Binary,
    &activity::Activity,
];

/// Something beyond the protocol that client and server agree on.
pub trait Extension: Sync {
    /// Its field in `ext`.
    fn name(&self) -> &'static str;

    /// Whether a session has it; `asked` is what its handshake says under this name.
    fn negotiate(&self, settings: &Settings, asked: Option<&RawValue>) -> Agreement;

    /// Events of a session with this extension leave only with connect replies, on a socket too.
    fn delivers_with_connect(&self) -> bool {
        false
    }

    /// The client says what arrived, so nothing else has to prove it.
    fn acknowledges(&self) -> bool {
        false
    }

    /// The session gets back what its client publishes.
    fn echoes(&self) -> bool {
        true
    }

    /// A message came in; `value` is what it says in `ext` under this name. A failure is its reply.
    fn incoming(
        &self,
        _session: &mut Session,
        _now: Instant,
        _message: &Message<'_>,
        _value: Option<&RawValue>,
    ) -> Result<(), Failure> {
        Ok(())
    }

    /// The message says what its client cannot know from here: another place where the session was, or is, has told it.
    fn is_ahead(&self, _session: &Session, _message: &Message<'_>, _value: Option<&RawValue>) -> bool {
        false
    }

    /// What the message says under this name is to be remembered until its reply leaves.
    fn receiving(&self, _value: &RawValue, _received: &mut Received) {}

    /// The message is published with these traits.
    fn publishing(&self, _value: &RawValue, _traits: &mut Traits) {}

    /// A reply goes out; what this returns is said in `ext` under this name.
    fn outgoing(
        &self,
        _session: &mut Session,
        _now: Instant,
        _to: &Target,
        _reply: &mut Reply,
    ) -> Option<Value> {
        None
    }
}

/// Whether a session has an extension.
pub enum Agreement {
    /// No.
    No,
    /// Yes, because the configuration or the protocol says so; the handshake's reply does not mention it.
    Silent,
    /// Yes, because its handshake asked, and this is what the reply says.
    Said(Value),
}

/// The extensions that a session has.
#[derive(Clone, Default)]
pub(crate) struct Agreed {
    /// One bit for each line of [`ALL`]: those that the handshake asked for.
    asked: u16,
    /// Those that the configuration gives.
    given: u16,
    /// How often the numbers have begun anew. One of an earlier time says nothing of what was asked for since.
    pub(crate) replays: u8,
    /// One of the time before counts up to here.
    pub(crate) carried: Offset,
    /// Somebody may go on answering who has lost the session and does not know: see [`Agreed::subscribes`].
    pub(crate) contested: bool,
    /// The highest offset that a client may acknowledge.
    pub(crate) promised: Offset,
    /// The highest offset that the client acknowledged.
    pub(crate) acknowledged: Offset,
    /// The session was taken up from its record, and nothing was promised since: where the log began and ended then.
    pub(crate) resumed: Option<LogEnds>,
}

impl Agreed {
    /// Those that the configuration gives to every session.
    pub(crate) fn given(settings: &Settings) -> Self {
        Self {
            given: bits(|extension| matches!(extension.negotiate(settings, None), Agreement::Silent)),
            ..Self::default()
        }
    }

    /// Takes up those of a record. After a take-over anything up to the end of the log may have been promised.
    pub(crate) fn take_up(&mut self, names: &[Box<str>], replays: u8, ends: LogEnds) {
        self.asked = bits(|extension| names.iter().any(|name| **name == *extension.name()));
        self.replays = replays;
        self.promised = ends.last;
        self.acknowledged = Offset::START;
        self.resumed = Some(ends);
    }

    /// Those that the handshake asked for, which go into the record; the configuration may give others the next time.
    pub(crate) fn names(&self) -> Vec<Box<str>> {
        each(self.asked)
            .map(|extension| extension.name().into())
            .collect()
    }

    pub(crate) fn negotiate(
        &mut self,
        settings: &Settings,
        message: &Message<'_>,
        reply: &mut Reply,
        end: Offset,
    ) {
        self.asked = bits(|extension| {
            let asked = message.ext.get(extension.name()).copied();
            match extension.negotiate(settings, asked) {
                Agreement::Said(answer) => {
                    reply.ext.insert(extension.name().to_owned(), answer);
                    true
                }
                Agreement::No | Agreement::Silent => false,
            }
        });
        self.promised = end;
    }

    pub(crate) fn delivers_with_connect(&self) -> bool {
        self.each().any(Extension::delivers_with_connect)
    }

    pub(crate) fn acknowledges(&self) -> bool {
        self.each().any(Extension::acknowledges)
    }

    pub(crate) fn echoes(&self) -> bool {
        self.each().all(Extension::echoes)
    }

    pub(crate) fn incoming(
        &self,
        session: &mut Session,
        now: Instant,
        message: &Message<'_>,
    ) -> Result<(), Failure> {
        self.each().try_for_each(|extension| {
            extension.incoming(session, now, message, message.ext.get(extension.name()).copied())
        })
    }

    pub(crate) fn is_ahead(&self, session: &Session, message: &Message<'_>) -> bool {
        self.each()
            .any(|extension| extension.is_ahead(session, message, message.ext.get(extension.name()).copied()))
    }

    /// Everything up to `last` may have been promised elsewhere since the session was taken up, or by whoever does not know yet
    /// that it was.
    pub(crate) fn promised_elsewhere(&mut self, last: Offset) {
        self.promised = self.promised.max(last);
        if let Some(ends) = &mut self.resumed {
            ends.last = ends.last.max(last);
        }
    }

    /// The session is going to have a subscription, to what comes after `began`. Whoever else may answer does not know of it, and
    /// would number events away that it has not sent: the numbers from here are told from its from now on.
    pub(crate) fn subscribes(&mut self, began: Offset) {
        if self.contested && self.acknowledges() && self.replays < u8::MAX {
            self.contested = false;
            self.replays += 1;
            self.carried = began;
        }
    }

    pub(crate) fn receiving(&self, now: Instant, message: &Message<'_>) -> Received {
        let mut received = Received {
            at: now,
            wall: message.wall,
            timesync: None,
        };
        if !message.ext.is_empty() {
            for extension in self.each() {
                if let Some(value) = message.ext.get(extension.name()) {
                    extension.receiving(value, &mut received);
                }
            }
        }
        received
    }

    pub(crate) fn publishing(&self, message: &Message<'_>, traits: &mut Traits) {
        for extension in self.each() {
            if let Some(value) = message.ext.get(extension.name()) {
                extension.publishing(value, traits);
            }
        }
    }

    pub(crate) fn outgoing(&self, session: &mut Session, now: Instant, to: &Target, reply: &mut Reply) {
        for extension in self.each().rev() {
            let said = extension.outgoing(session, now, to, reply);
            reply
                .ext
                .extend(said.map(|said| (extension.name().to_owned(), said)));
        }
    }

    fn each(&self) -> impl DoubleEndedIterator<Item = &'static dyn Extension> + use<> {
        each(self.asked | self.given)
    }
}

fn each(bits: u16) -> impl DoubleEndedIterator<Item = &'static dyn Extension> {
    ALL.iter()
        .enumerate()
        .filter(move |(place, _)| bits & (1 << place) != 0)
        .map(|(_, extension)| *extension)
}

fn bits(mut agreed: impl FnMut(&'static dyn Extension) -> bool) -> u16 {
    ALL.iter().enumerate().fold(0, |bits, (place, extension)| {
        bits | (u16::from(agreed(*extension)) << place)
    })
}

impl fmt::Debug for Agreed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.each().map(Extension::name))
            .finish()
    }
}
