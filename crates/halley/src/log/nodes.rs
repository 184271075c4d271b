//! The other nodes that share a log, as far as one asks another.
//!
//! A session is in the memory of one node at a time. Whoever is asked for a session that another node has takes it: the other
//! is asked to let go first, and if it does not answer in time it has lost it all the same, since its writes fail from then on
//! ([`SessionStore::adopt`](super::SessionStore::adopt)).

use std::fmt;
use std::sync::Arc;

use bayeux::ClientId;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{Revocation, Revoked};
use crate::event::{Tenant, UserId};

/// Names one process among those that share a log. Another process at the same place has another name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Arc<str>);

/// What one node asks another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// To let go of a session, which is taken up elsewhere.
    LetGo(ClientId),
    /// To hand over an answer of a service, as a frame, to a session that was elsewhere when it was asked for.
    Direct(ClientId, Frame),
    /// To heed a revocation, which is in the store.
    Revoke(Revocation),
    /// To forget one.
    Pardon(Revoked),
    /// To end the sessions in its memory that have this name.
    EndSession(Box<str>),
    /// To end the sessions in its memory of this user.
    EndUser(Tenant, UserId),
    /// What it has in memory of this user.
    User(Tenant, UserId),
    /// How much it has in memory.
    Counts,
}

/// A message to a client, as it is sent. What is in it is nobody's business on the way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frame(pub Box<str>);

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done, or there was nothing to do.
    Done,
    /// Whether the session is here: then it is done.
    Here(bool),
    /// So many sessions are ended.
    Ended(usize),
    /// The sessions of a user: the name of each, its subscriptions, and whether its client is there now.
    Sessions(Vec<(Box<str>, usize, bool)>),
    /// How much there is.
    Counts(Counts),
}

/// How much a node has in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Sessions.
    pub sessions: usize,
    /// Open WebSockets.
    pub sockets: usize,
    /// Connects that are held.
    pub connects: usize,
    /// It is about to end.
    pub draining: bool,
}

/// A question that another node has asked.
#[derive(Debug)]
pub struct Asked {
    /// Which one.
    pub from: NodeId,
    /// What.
    pub question: Question,
    /// Where its answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// The other nodes.
pub trait Nodes: Send + Sync {
    /// This one. `None` where nobody can share the log.
    fn me(&self) -> Option<&NodeId>;

    /// Asks one node. `None` when it is not there, or does not answer within half a second.
    fn ask(&self, node: &NodeId, question: Question) -> BoxFuture<'static, Option<Answer>>;

    /// Asks every other node that is there, all at once; each has half a second. Those that do not answer are `None`.
    fn ask_all(&self, question: Question) -> BoxFuture<'static, Vec<(NodeId, Option<Answer>)>>;

    /// What others ask from now on. There is one listener: a second call ends the first.
    fn listen(&self) -> mpsc::Receiver<Asked>;
}

/// Nobody: the log is of one process.
pub(super) struct Alone;

impl Nodes for Alone {
    fn me(&self) -> Option<&NodeId> {
        None
    }

    fn ask(&self, _: &NodeId, _: Question) -> BoxFuture<'static, Option<Answer>> {
        future::ready(None).boxed()
    }

    fn ask_all(&self, _: Question) -> BoxFuture<'static, Vec<(NodeId, Option<Answer>)>> {
        future::ready(Vec::new()).boxed()
    }

    fn listen(&self) -> mpsc::Receiver<Asked> {
        mpsc::channel(1).1
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}
