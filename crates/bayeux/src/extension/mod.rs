//! Extensions: a file beside this one and a line in [`ALL`].
//!
//! An extension is agreed on in the handshake, by its name in `ext`. From then on it sees each message before its handler
//! and each reply to a connect before it leaves.

mod ack;

use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Failure, LogEnds, Message, Offset, Reply, Session, Target};

/// Every extension. Incoming messages meet them in this order, replies in the reverse of it.
pub const ALL: &[&dyn Extension] = &[&ack::Acknowledge];

/// Something beyond the protocol that client and server agree on.
pub trait Extension: Sync {
    /// Its field in `ext`.
    fn name(&self) -> &'static str;

    /// Whether the handshake asks for it, and what the handshake's reply says.
    fn negotiate(&self, asked: &RawValue) -> Option<Value>;

    /// Events of a session with this extension leave only with connect replies, on a socket too.
    fn delivers_with_connect(&self) -> bool {
        false
    }

    /// A message came in; `value` is what it says in `ext` under this name. A failure is its reply.
    fn incoming(
        &self,
        session: &mut Session,
        message: &Message<'_>,
        value: Option<&RawValue>,
    ) -> Result<(), Failure>;

    /// A reply goes out; what this returns is said in `ext` under this name.
    fn outgoing(&self, session: &mut Session, to: &Target) -> Option<Value>;
}

/// The extensions that a session agreed on.
#[derive(Clone, Default)]
pub(crate) struct Agreed {
    /// One bit for each line of [`ALL`].
    bits: u8,
    /// The highest number that a client may acknowledge.
    pub(crate) promised: Offset,
    /// The highest number that the client acknowledged.
    pub(crate) acknowledged: Offset,
    /// The session was taken up from its record, and nothing was promised since: where the log began and ended then.
    pub(crate) resumed: Option<LogEnds>,
}

impl Agreed {
    /// Those of a record. After a take-over anything up to the end of the log may have been promised.
    pub(crate) fn named(names: &[Box<str>], ends: LogEnds) -> Self {
        let bits = bits(|extension| names.iter().any(|name| **name == *extension.name()));
        Self {
            bits,
            promised: ends.last,
            acknowledged: Offset::START,
            resumed: Some(ends),
        }
    }

    pub(crate) fn names(&self) -> Vec<Box<str>> {
        self.each().map(|extension| extension.name().into()).collect()
    }

    pub(crate) fn negotiate(&mut self, message: &Message<'_>, reply: &mut Reply, end: Offset) {
        self.bits = bits(|extension| {
            let answer = message
                .ext
                .get(extension.name())
                .and_then(|asked| extension.negotiate(asked));
            let agreed = answer.is_some();
            reply
                .ext
                .extend(answer.map(|answer| (extension.name().to_owned(), answer)));
            agreed
        });
        self.promised = end;
    }

    pub(crate) fn delivers_with_connect(&self) -> bool {
        self.bits != 0 && self.each().any(Extension::delivers_with_connect)
    }

    pub(crate) fn incoming(&self, session: &mut Session, message: &Message<'_>) -> Result<(), Failure> {
        self.each().try_for_each(|extension| {
            extension.incoming(session, message, message.ext.get(extension.name()).copied())
        })
    }

    pub(crate) fn outgoing(&self, session: &mut Session, to: &Target, reply: &mut Reply) {
        for extension in self.each().rev() {
            let said = extension.outgoing(session, to);
            reply
                .ext
                .extend(said.map(|said| (extension.name().to_owned(), said)));
        }
    }

    fn each(&self) -> impl DoubleEndedIterator<Item = &'static dyn Extension> + use<> {
        let bits = self.bits;
        ALL.iter()
            .enumerate()
            .filter(move |(place, _)| bits & (1 << place) != 0)
            .map(|(_, extension)| *extension)
    }
}

fn bits(mut agreed: impl FnMut(&'static dyn Extension) -> bool) -> u8 {
    ALL.iter().enumerate().fold(0, |bits, (place, extension)| {
        bits | (u8::from(agreed(*extension)) << place)
    })
}

impl fmt::Debug for Agreed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.names()).finish()
    }
}
