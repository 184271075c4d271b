//! The durable log and the session records beside it: the seam, and the kinds behind it.
//!
//! Every published message is an event in one log and gets an offset, one total order. An offset belongs to an
//! *epoch*: a log that was replaced starts another one, and an offset of the old one means nothing in it.
//!
//! Each kind is a file beside this one and a line in [`ALL`]; one conformance suite (`tests/tests/log_conformance/`)
//! runs over every line. What kinds share is here too: `retention` (when events go), `tail` (following) and `patience` (until an
//! engine is ready).

mod file;
mod memory;
mod nats;
mod nodes;
mod patience;
mod presence;
mod retention;
mod tail;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bayeux::{ChannelPattern, ClientId, Delivery, Offset};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::event::{Audience, Event, Tenant, Token, UserId};

use nodes::Alone;
pub use nodes::{Answer, Asked, Counts, Frame, NodeId, Nodes, Question};
pub(crate) use patience::patiently;
pub use presence::{Attendance, NOBODY, PresenceStore, Present, Revision};

/// One kind of log: the scheme of its URL, and how to open it.
pub struct Kind {
    /// `file` in `file:./halley-data`.
    pub scheme: &'static str,
    /// Opens or creates it. `place` is what follows the colon.
    pub open: fn(place: &str, settings: &Settings) -> Result<Opened, LogError>,
}

/// Every kind of log. The order is the order of the help text.
pub const ALL: &[Kind] = &[
    Kind {
        scheme: "file",
        open: file::open,
    },
    Kind {
        scheme: "memory",
        open: memory::open,
    },
    Kind {
        scheme: "nats",
        open: nats::open,
    },
];

/// A log and the session store that lives and dies with it.
#[derive(Clone)]
pub struct Opened {
    /// The events.
    pub log: Arc<dyn EventLog>,
    /// The session records.
    pub sessions: Arc<dyn SessionStore>,
    /// Who shares them.
    pub nodes: Arc<dyn Nodes>,
    /// Which users are present, for all who share them.
    pub presence: Arc<dyn PresenceStore>,
}

/// What an operator may choose, whatever the kind.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Events older than this are dropped, whole buckets at a time.
    pub retention: Duration,
    /// The oldest buckets are dropped while the events take more than this, in bytes.
    pub retention_bytes: u64,
    /// How long a repeated event id is recognised.
    pub dedup_window: Duration,
    /// Publishes are refused while the disk has less free space than this, in bytes.
    pub min_free_bytes: u64,
    /// How long a record is kept that nobody writes.
    pub records_for: Duration,
    /// How events are delivered that come into a shared log past every node.
    pub protocol: Arc<bayeux::Settings>,
    /// What a log needs to know that several nodes share.
    pub shared: Shared,
}

/// How a log is reached and kept that several nodes share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// What its streams, buckets and subjects begin with.
    pub name: Box<str>,
    /// What operators call this node; its process gets a name of its own, which begins with it.
    pub node: Box<str>,
    /// On how many servers each event and record is kept.
    pub replicas: usize,
    /// How long a publisher waits at most to hear what became of an event.
    pub answer_within: Duration,
    /// How large an event may be that a publisher or a client sends, in bytes.
    pub largest_event: usize,
    /// What is kept in memory of the newest events, in bytes, so that sessions that come back need not ask the servers.
    pub recent_bytes: usize,
    /// How this node says who it is.
    pub credentials: Credentials,
    /// TLS is insisted on, even if nothing below is said.
    pub tls: bool,
    /// Who vouches for the servers, instead of those whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What this node shows to servers that ask for it: the certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// How a node says who it is to the servers of a shared log.
#[derive(Clone, Default)]
pub enum Credentials {
    /// It does not.
    #[default]
    None,
    /// A file with a JWT and the seed of its nkey, as `nsc` writes it.
    File(PathBuf),
    /// The seed of an nkey.
    NKey(String),
    /// A user with a password.
    User(String, String),
    /// A token.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::File(_) => "a file",
            Self::NKey(_) => "an nkey",
            Self::User(..) => "a user",
            Self::Token(_) => "a token",
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(24 * 3600),
            retention_bytes: 8 << 30,
            dedup_window: Duration::from_secs(900),
            min_free_bytes: 256 << 20,
            records_for: Duration::from_secs(3600),
            protocol: Arc::default(),
            shared: Shared::default(),
        }
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            name: "halley".into(),
            node: "halley".into(),
            replicas: 3,
            answer_within: Duration::from_secs(2),
            largest_event: 256 << 10,
            recent_bytes: 64 << 20,
            credentials: Credentials::None,
            tls: false,
            ca: None,
            certificate: None,
        }
    }
}

/// Identifies one log for as long as its offsets mean the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub Arc<str>);

/// Where an event came to stand, and whether it stood there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its offset.
    pub offset: Offset,
    /// The publisher's id was seen inside the de-duplication window: this is the first event's offset.
    pub duplicate: bool,
}

/// The part of the log that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that is still there, or would be if events before `last` were not dropped: `last + 1` when empty.
    pub first: Offset,
    /// The last durable offset; [`Offset::START`] before the first event.
    pub last: Offset,
}

/// An event as dispatch gets it: durable, encoded once.
#[derive(Debug, Clone)]
pub struct Appended {
    /// Among whose users and channels.
    pub tenant: Tenant,
    /// Whom it is for.
    pub audience: Audience,
    /// The event, ready to send.
    pub delivery: Arc<Delivery>,
}

/// Whose events to read.
#[derive(Debug, Clone)]
pub struct Interest {
    /// Only events of this tenant.
    pub tenant: Tenant,
    /// This user's own events, besides those for everyone.
    pub user: Option<UserId>,
    /// Only on channels that one of these matches.
    pub patterns: Vec<ChannelPattern>,
}

/// How much to read at once; whichever is reached first. At least one event is read if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Number of events.
    pub events: usize,
    /// Their encoded size in bytes.
    pub bytes: usize,
}

/// Part of the log, as one interest sees it.
#[derive(Debug, Clone)]
pub struct Page {
    /// The events, in the order of their offsets.
    pub events: Vec<Arc<Delivery>>,
    /// Everything of the interest up to and including this offset is in `events`: the last event's offset when the limit
    /// was reached, else the last durable offset when the read began.
    pub through: Offset,
    /// The first offset still in the log, when events after the requested offset may have been dropped.
    pub gap: Option<Offset>,
}

/// Why the log did not do what was asked.
#[derive(Debug, Clone, Error)]
pub enum LogError {
    /// There is no room where the log is kept: nothing was stored, a publisher may try again later.
    #[error("{0}")]
    Full(Arc<str>),
    /// An event is larger than the engine takes: nothing was stored, and it will not be taken later either.
    #[error("{why}")]
    TooLarge {
        /// Which of those that were to be stored.
        place: usize,
        /// What is too large, and what would not be.
        why: Arc<str>,
    },
    /// The engine that holds the log cannot be reached: nothing was stored, a publisher may try again later.
    #[error("the log cannot be reached: {0}")]
    Away(Arc<str>),
    /// The engine that holds the log did not answer in time. What was being written may or may not be there: a publisher may
    /// send it again with the same id.
    #[error("the log did not answer in time: {0}")]
    Unanswered(Arc<str>),
    /// Another node has taken the session: what this one would write of it does not count.
    #[error("the session is on another node")]
    Taken,
    /// Writing or syncing failed. What was being written may or may not be there; nothing more is accepted.
    #[error("the log has stopped: {0}")]
    Stopped(Arc<str>),
    /// The log cannot be opened or read.
    #[error("{0}")]
    Unusable(Arc<str>),
}

/// The event log. One writer; any number of readers.
pub trait EventLog: Send + Sync {
    /// Identifies this log.
    fn epoch(&self) -> &Epoch;

    /// Stores events, all or none, in the given order, and answers with the position of each only when they are durable.
    /// The call, not the first poll of the future, takes the place in the order.
    fn append(&self, events: Vec<Event>) -> BoxFuture<'static, Result<Vec<Position>, LogError>>;

    /// What can be read now. Never waits.
    fn bounds(&self) -> Bounds;

    /// The events after `after` that the interest asks for, in order.
    fn read(
        &self,
        interest: &Interest,
        after: Offset,
        limit: Limit,
    ) -> BoxFuture<'static, Result<Page, LogError>>;

    /// Every event that becomes durable after `bounds().last` of this call, in order, each once. There is one follower:
    /// a second call ends the first stream. When the follower is slow the writer waits, and so do publishers.
    fn follow(&self) -> Followed;

    /// Drops what retention no longer keeps. Called about once a second.
    fn retain(&self, now: SystemTime) -> BoxFuture<'static, Result<(), LogError>>;

    /// Resolves when the log can no longer take events (an fsync failed): the process must end.
    fn stopped(&self) -> BoxFuture<'static, LogError>;

    /// Bytes on disk or in memory, for the metrics.
    fn size_bytes(&self) -> u64;

    /// Resolves when everything that was durable before the call can be seen here: where several nodes share the log, this one
    /// may be a little behind.
    fn catch_up(&self) -> BoxFuture<'static, Result<(), LogError>> {
        future::ready(Ok(())).boxed()
    }

    /// For how long the engine that holds the log has not been reached. Never for a log of this process.
    fn away(&self) -> Option<Duration> {
        None
    }

    /// What an operator should know of how events are kept, a line each.
    fn describe(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The stream of [`EventLog::follow`].
pub struct Followed {
    /// The offset after which the stream begins.
    pub after: Offset,
    /// Batches of events, as they were committed.
    pub batches: mpsc::Receiver<Vec<Appended>>,
}

/// What survives of a session that is not in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session.
    pub client_id: ClientId,
    /// Whose users its subject is among.
    #[serde(default, skip_serializing_if = "Tenant::is_only")]
    pub tenant: Tenant,
    /// Its subject, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// The roles of its subject, by what its client has shown last.
    #[serde(default, skip_serializing_if = "<[Box<str>]>::is_empty")]
    pub roles: Arc<[Box<str>]>,
    /// What is known of the token that it was last known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Arc<Token>>,
    /// The browser cookie that it is bound to, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<Arc<str>>,
    /// The log that its offsets are of.
    pub epoch: Epoch,
    /// What the protocol needs to go on: subscriptions, extensions, cursor.
    pub state: bayeux::Snapshot,
    /// When the session was last known to be alive.
    pub seen: SystemTime,
    /// The node that has it, or had it last, where several share the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// How often it was adopted.
    #[serde(default)]
    pub fence: u64,
}

/// Who has a session, and since when: a node that adopts one again has it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The node, if it is anybody's.
    pub node: Option<NodeId>,
    /// How often it was adopted until then.
    pub fence: u64,
}

impl SessionRecord {
    /// Who has it.
    pub fn holder(&self) -> Holder {
        Holder {
            node: self.node.clone(),
            fence: self.fence,
        }
    }
}

/// Who or what does not count any more, whatever is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// What was issued to a user before the revocation.
    User {
        /// Whose user.
        #[serde(default, skip_serializing_if = "Tenant::is_only")]
        tenant: Tenant,
        /// Which one.
        user: UserId,
    },
    /// One session, by the name that operators see.
    Session(Box<str>),
    /// One token, by its `jti`.
    Token(Box<str>),
}

/// A revocation. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Who or what.
    pub what: Revoked,
    /// Since when.
    pub at: u64,
    /// Until when it is remembered: by then everything that it is about has ended by itself.
    pub until: u64,
}

/// Says which records are looked for.
pub type Wanted = Box<dyn Fn(&SessionRecord) -> bool + Send>;

/// Session records. Writes are durable when their future resolves, and keep the order in which they were *called*.
///
/// Where several nodes share the store, only the node that a record names may write it: the writes of any other fail with
/// [`LogError::Taken`].
pub trait SessionStore: Send + Sync {
    /// Writes a whole record, its cursor included: what was there under this client id is gone.
    fn put(&self, record: SessionRecord) -> BoxFuture<'static, Result<(), LogError>>;

    /// Moves only the cursor of a record that is there, and says that its session was alive at `seen`. A cursor never
    /// moves back. Nothing happens when there is no such record.
    fn checkpoint(
        &self,
        client_id: &ClientId,
        cursor: Offset,
        seen: SystemTime,
    ) -> BoxFuture<'static, Result<(), LogError>>;

    /// Reads a record with its newest cursor. Sees every write that was called before.
    fn get(&self, client_id: &ClientId) -> BoxFuture<'static, Result<Option<SessionRecord>, LogError>>;

    /// Reads a record with its newest cursor and makes it this node's, if `from` still has it (or nobody, as in a store that no
    /// other node shares). `None` when there is none, or it was adopted meanwhile, even by the same node: whoever wants it looks
    /// again.
    fn adopt(
        &self,
        client_id: &ClientId,
        from: Holder,
    ) -> BoxFuture<'static, Result<Option<SessionRecord>, LogError>>;

    /// The sessions that this node is found to have lost to another, from now on. There is one listener.
    fn lost(&self) -> mpsc::UnboundedReceiver<ClientId> {
        mpsc::unbounded_channel().1
    }

    /// This node has no more to do with a session; its record stays.
    fn release(&self, _: &ClientId) {}

    /// The sessions whose records are wanted, in no order. Reads all of them: for operators, never for a client. Sees every
    /// write that was called before, but for cursors and when sessions were last seen.
    fn find(&self, wanted: Wanted) -> BoxFuture<'static, Result<Vec<ClientId>, LogError>>;

    /// Forgets a record.
    fn remove(&self, client_id: &ClientId) -> BoxFuture<'static, Result<(), LogError>>;

    /// Forgets every record that was last seen before `seen` and says how many. Whoever is seen while it runs stays.
    fn sweep(&self, seen: SystemTime) -> BoxFuture<'static, Result<usize, LogError>>;

    /// Keeps a revocation, in the place of one of the same.
    fn revoke(&self, revocation: Revocation) -> BoxFuture<'static, Result<(), LogError>>;

    /// Forgets a revocation, if there is one.
    fn pardon(&self, what: &Revoked) -> BoxFuture<'static, Result<(), LogError>>;

    /// Every revocation, in no order. Sees every write that was called before.
    fn revocations(&self) -> BoxFuture<'static, Result<Vec<Revocation>, LogError>>;

    /// The number of records.
    fn count(&self) -> u64;

    /// A secret that was made together with the store and stays with it, for signing cookies. 32 bytes.
    fn secret(&self) -> Bytes;
}

/// Opens the log that a URL such as `file:./halley-data` or `memory:` names.
pub fn open(url: &str, settings: &Settings) -> Result<Opened, LogError> {
    let (scheme, place) = url.split_once(':').unwrap_or((url, ""));
    let Some(kind) = ALL.iter().find(|kind| kind.scheme == scheme) else {
        let known = ALL.iter().map(|kind| kind.scheme).collect::<Vec<_>>().join(":, ");
        return Err(LogError::Unusable(
            format!("{url:?} is no log: it begins with one of {known}:").into(),
        ));
    };
    (kind.open)(place, settings)
}

fn random_epoch() -> Result<Epoch, LogError> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes)?;
    Ok(Epoch(format!("{:032x}", u128::from_be_bytes(bytes)).into()))
}

fn random_secret() -> Result<Bytes, LogError> {
    let mut bytes = vec![0; 32];
    fill_random(&mut bytes)?;
    Ok(bytes.into())
}

fn fill_random(bytes: &mut [u8]) -> Result<(), LogError> {
    getrandom::fill(bytes)
        .map_err(|error| LogError::Unusable(format!("the system gives no randomness: {error}").into()))
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
