//! Until when sessions may be used: renewed by what their clients show, and ended by revocation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::Rights;
use tracing::info;

use super::handle::{Handle, Stage, State};
use super::{Requester, Sessions};
use crate::auth::{Denial, Principal, unix_time};
use crate::event::{Token, wall_clock};
use crate::log::Revoked;

impl Requester {
    /// Credentials that were good when they were shown may have ended or been revoked since: a socket stays for long.
    pub fn look_again(&mut self, is_revoked: impl Fn(&Principal) -> bool) {
        let Some(principal) = &self.principal else {
            return;
        };
        let denial = if principal.until().is_some_and(|until| until <= unix_time()) {
            Denial::Expired
        } else if is_revoked(principal) {
            Denial::Revoked
        } else {
            return;
        };
        self.refused = Some(denial);
    }
}

impl Sessions {
    /// Whether the requester may speak for a session in memory.
    pub fn may_speak(&self, handle: &Handle, who: &Requester) -> bool {
        self.belongs(&handle.owner, who)
    }

    /// The user of a session has shown credentials, which may be good for longer than those before. They never take anything
    /// away: of two tokens that are good, the one counts that ends later.
    pub fn renew(&self, handle: &Arc<Handle>, principal: &Principal) {
        if principal.user.is_none() || principal.user != handle.owner.user {
            return;
        }
        let mut state = handle.state.lock();
        if !ends_later(principal.token.as_deref(), state.token.as_deref()) || state.stage != Stage::Here {
            return;
        }
        state.token.clone_from(&principal.token);
        let wakes = begin(&mut state, Instant::now(), principal.rights());
        if state.stored {
            // Not waited for: if it is lost, the client has to show its credentials once more.
            drop(self.put(handle, &mut state));
        }
        let waiting = self.rouse_if(wakes, handle, &mut state);
        self.reschedule(handle, &mut state);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Ends every session in memory that a revocation is about, at once: nothing more is delivered. Dormant ones hear of it when
    /// they wake. Returns how many there were.
    pub fn revoke(&self, what: &Revoked) -> usize {
        let handles: Vec<Arc<Handle>> = self.by_id.iter().map(|entry| Arc::clone(entry.value())).collect();
        let mut ended = 0;
        for handle in handles {
            let state = handle.state.lock();
            if state.stage != Stage::Here || !self.is_about(what, &handle, &state) {
                continue;
            }
            ended += 1;
            info!(session = %handle.public_id, "a session is revoked");
            self.end_by_revocation(&handle, state);
        }
        ended
    }

    /// For a session that has just come into memory: whoever revokes has looked at all that were there before.
    pub(super) fn heed_revocations(&self, handle: &Handle, state: &mut State) {
        let user = handle.owner.user.as_ref();
        let revocations = &self.revocations;
        if revocations.holds(&handle.owner.tenant, user, state.token.as_deref())
            || revocations.holds_session(handle.public_id)
        {
            state.session.handle_revocation();
        }
    }

    fn is_about(&self, what: &Revoked, handle: &Handle, state: &State) -> bool {
        match what {
            Revoked::Session(id) => **id == *handle.public_id.to_string(),
            Revoked::Token(id) => state.token.as_ref().and_then(|token| token.id.as_deref()) == Some(id),
            Revoked::User { .. } => {
                let user = handle.owner.user.as_ref();
                self.revocations
                    .holds(&handle.owner.tenant, user, state.token.as_deref())
            }
        }
    }

    fn end_by_revocation(&self, handle: &Arc<Handle>, mut state: parking_lot::MutexGuard<'_, State>) {
        let wakes = state.session.handle_revocation();
        // At once: whatever happens to this process, the session is not coming back.
        self.forget(handle, &mut state);
        let waiting = self.rouse_if(wakes, handle, &mut state);
        if state.stage == Stage::Here {
            self.remove(handle, &mut state);
        }
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// What the session's client has shown counts from now on. Returns whether a carrier has something to do.
pub(super) fn begin(state: &mut State, now: Instant, rights: Rights) -> bool {
    let until = state.token.as_ref().and_then(|token| token.until);
    let left = |until: u64| Duration::from_millis(until.saturating_mul(1000).saturating_sub(wall_clock()));
    let until = until.map(|until| now + left(until));
    state.session.handle_credentials(now, until, rights)
}

fn ends_later(shown: Option<&Token>, known: Option<&Token>) -> bool {
    match (shown, known) {
        (Some(shown), Some(known)) => match (shown.until, known.until) {
            (Some(shown), Some(known)) => shown > known,
            (None, Some(_)) => true,
            (Some(_) | None, None) => false,
        },
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}
