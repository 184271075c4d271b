//! What was revoked: kept in the store, and in memory for everyone who is judged.
//!
//! A user's revocation is about what was issued before it: a token that says when it was issued, and was issued later, is good.
//! What says nothing of that (static tokens, passwords, proxies) is refused until the revocation ends or is taken back.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tracing::info;

use super::unix_time;
use crate::event::{Tenant, Token, UserId};
use crate::log::{LogError, Revocation, Revoked, SessionStore};
use crate::logging::Shown;

/// Everything that is revoked now.
pub struct Revocations {
    store: Arc<dyn SessionStore>,
    known: RwLock<HashMap<Revoked, Revocation>>,
    /// There is any: mostly there is none, and nobody has to look.
    any: AtomicBool,
}

impl Revocations {
    /// Reads what the store has.
    pub async fn load(store: Arc<dyn SessionStore>) -> Result<Self, LogError> {
        let known: HashMap<_, _> = store
            .revocations()
            .await?
            .into_iter()
            .map(|revocation| (revocation.what.clone(), revocation))
            .collect();
        Ok(Self {
            any: AtomicBool::new(!known.is_empty()),
            known: RwLock::new(known),
            store,
        })
    }

    /// Revokes: for everyone who is judged from now on, and for good when the future resolves.
    pub fn add(&self, revocation: Revocation) -> BoxFuture<'static, Result<(), LogError>> {
        self.learn(revocation.clone());
        self.store.revoke(revocation)
    }

    /// Heeds what was revoked elsewhere, and is in the store.
    pub fn learn(&self, revocation: Revocation) {
        self.known.write().insert(revocation.what.clone(), revocation);
        self.any.store(true, Ordering::Release);
    }

    /// Forgets what was taken back elsewhere.
    pub fn unlearn(&self, what: &Revoked) {
        self.known.write().remove(what);
    }

    /// Reads the store again, where others may have revoked and taken back meanwhile.
    pub async fn reload(&self) -> Result<(), LogError> {
        let all = self.store.revocations().await?;
        let known: HashMap<_, _> = all.into_iter().map(|one| (one.what.clone(), one)).collect();
        self.any.store(!known.is_empty(), Ordering::Release);
        *self.known.write() = known;
        Ok(())
    }

    /// Takes back a revocation, if there is one.
    pub async fn remove(&self, what: &Revoked) -> Result<bool, LogError> {
        let was_there = self.known.write().remove(what).is_some();
        self.store.pardon(what).await?;
        Ok(was_there)
    }

    /// What is revoked now, in no order.
    pub fn list(&self) -> Vec<Revocation> {
        let now = unix_time();
        let known = self.known.read();
        known.values().filter(|one| one.until > now).cloned().collect()
    }

    /// Forgets what has ended.
    pub async fn sweep(&self) -> Result<(), LogError> {
        let now = unix_time();
        let ended: Vec<Revoked> = {
            let known = self.known.read();
            let ended = known.values().filter(|one| one.until <= now);
            ended.map(|one| one.what.clone()).collect()
        };
        for what in ended {
            info!(what = ?Shown(&what), "a revocation has ended");
            self.remove(&what).await?;
        }
        Ok(())
    }

    /// Whether these credentials are revoked.
    pub fn holds(&self, tenant: &Tenant, user: Option<&UserId>, token: Option<&Token>) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let named = token.and_then(|token| token.id.clone());
        if named.is_some_and(|id| self.find(&Revoked::Token(id)).is_some()) {
            return true;
        }
        let Some(user) = user else {
            return false;
        };
        let what = Revoked::User {
            tenant: tenant.clone(),
            user: user.clone(),
        };
        let issued = token.and_then(|token| token.issued);
        self.find(&what)
            .is_some_and(|at| issued.is_none_or(|issued| issued <= at))
    }

    /// Whether a session is revoked by its name.
    pub fn holds_session(&self, public_id: impl Display) -> bool {
        self.any.load(Ordering::Acquire)
            && self
                .find(&Revoked::Session(public_id.to_string().into()))
                .is_some()
    }

    /// When this was revoked, if it is.
    fn find(&self, what: &Revoked) -> Option<u64> {
        let known = self.known.read();
        let revocation = known.get(what)?;
        (revocation.until > unix_time()).then_some(revocation.at)
    }
}
