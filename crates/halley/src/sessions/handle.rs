//! One session in memory: the protocol's state under a lock, and the task that waits for it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bayeux::{Carrier, ClientId, Reply, Session};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::wire::Wires;
use crate::auth::Browser;
use crate::event::{Tenant, Token, UserId};
use crate::log::Epoch;
use crate::quota::Address;

/// A session that is in memory, and whose it is. The owner never changes.
#[derive(Debug)]
pub struct Handle {
    pub(super) client_id: ClientId,
    pub(super) public_id: PublicId,
    pub(super) owner: Owner,
    /// The later it came into memory, the higher.
    pub(super) number: u64,
    /// Where it was opened from, if that is counted.
    pub(super) address: Option<Address>,
    pub(super) state: Mutex<State>,
}

/// Whose a session is.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) tenant: Tenant,
    pub(super) user: Option<UserId>,
    pub(super) browser: Option<Browser>,
}

/// Names a session to operators and backends without giving it away: whoever knows a clientId can speak for its session. Part of
/// a hash of the clientId, so it stays the same for as long as the session is there, on whatever node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicId(u64);

impl PublicId {
    /// The name of this client's session.
    pub fn of(client_id: &ClientId) -> Self {
        let hash: [u8; 32] = Sha256::digest(client_id.as_str()).into();
        let start = hash.first_chunk().expect("32 bytes begin with 8");
        Self(u64::from_be_bytes(*start))
    }

    /// The name in a text such as `9f86d081884c7d65`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_one = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_one).map(Self)
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Session,
    /// What is known of the token that its client has shown last.
    pub(super) token: Option<Arc<Token>>,
    pub(super) stage: Stage,
    /// Tasks that wait for this session to have something for their carrier; one, but for moments of take-over.
    pub(super) waiting: Vec<(Carrier, Waker)>,
    /// The reply to the connect that is held here, when the session is taken up by another node.
    pub(super) parting: Option<(Carrier, Box<Reply>)>,
    /// Sockets, which are written to without waking their tasks.
    pub(super) wires: Wires,
    /// Events were handed over that dispatch is about to send.
    pub(super) awaits_sending: bool,
    /// The carrier that the last connect was answered on, until the next connect.
    pub(super) answered: Option<Carrier>,
    /// When the timer will look at this session next.
    pub(super) timer: Option<Instant>,
    /// The log of the record that this session was taken up from, when its client has yet to hear that part of it is lost.
    /// Until then the record stays as it is, or another process would not know.
    pub(super) taken_from: Option<Epoch>,
    /// There is a record in the store.
    pub(super) stored: bool,
    /// When that record was last known to say that the session is alive.
    pub(super) refreshed: Instant,
}

/// Whether this is still the place to find the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Yes.
    Here,
    /// No: it went dormant, or ended. Whoever holds the handle looks it up again.
    Gone,
    /// No: it goes on at another node, or came back from there. The same, and what comes for it here goes after it.
    Elsewhere,
}

impl State {
    pub(super) fn wake(&mut self) -> Vec<(Carrier, Waker)> {
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn wait(&mut self, carrier: Carrier, waker: &Waker) {
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == carrier) {
            Some((_, known)) => known.clone_from(waker),
            None => self.waiting.push((carrier, waker.clone())),
        }
    }
}

impl Handle {
    /// The session's clientId.
    pub fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// Its name for those who need not speak for it.
    pub fn public_id(&self) -> PublicId {
        self.public_id
    }

    /// Among whose users.
    pub fn tenant(&self) -> &Tenant {
        &self.owner.tenant
    }

    /// Whose it is.
    pub fn user(&self) -> Option<&UserId> {
        self.owner.user.as_ref()
    }
}

/// A session as routing knows it: equal to itself only.
#[derive(Debug, Clone)]
pub struct Subscriber(pub(crate) Arc<Handle>);

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Subscriber {}

impl Hash for Subscriber {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        Arc::as_ptr(&self.0).hash(hasher);
    }
}
