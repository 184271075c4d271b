//! What operators do with sessions: look at them, and end them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bayeux::{ClientId, Offset};
use tracing::{info, warn};

use super::Sessions;
use super::handle::{Handle, PublicId, Stage, Subscriber};
use crate::event::{Tenant, UserId};
use crate::log::{Answer, LogError, Question, Wanted};
use crate::logging::Shown;

/// A session in memory, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name; the clientId is nobody's business.
    pub id: PublicId,
    /// Among whose users.
    pub tenant: Tenant,
    /// Whose it is.
    pub user: Option<UserId>,
    /// How many patterns it listens to.
    pub subscriptions: usize,
    /// A connect is held, or a socket is open.
    pub attended: bool,
}

/// What ending sessions came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Sessions in memory: their clients are told with the next reply to a connect.
    pub disconnected: usize,
    /// Dormant sessions: their records are gone.
    pub forgotten: usize,
}

impl Sessions {
    /// The sessions in memory, of one user or of all, in the order of their names and after one of these; and whether there
    /// are more than `limit`.
    pub fn list(
        &self,
        user: Option<(&Tenant, &UserId)>,
        after: Option<PublicId>,
        limit: usize,
    ) -> (Vec<Listed>, bool) {
        let mut first: BTreeMap<PublicId, Arc<Handle>> = BTreeMap::new();
        let mut consider = |handle: &Arc<Handle>| {
            if after.is_none_or(|after| handle.public_id > after) {
                first.insert(handle.public_id, Arc::clone(handle));
            }
            if first.len() > limit + 1 {
                first.pop_last();
            }
        };
        match user {
            Some((tenant, user)) => self.of_user(tenant, user).iter().for_each(&mut consider),
            None => self.by_id.iter().for_each(|entry| consider(entry.value())),
        }
        let has_more = first.len() > limit;
        let listed = first.values().take(limit).map(|handle| handle.listed());
        (listed.collect(), has_more)
    }

    /// Ends one session, in memory or dormant, on whatever node, if there is one of this name.
    pub async fn disconnect_one(&self, id: PublicId) -> Result<Ended, LogError> {
        let mut ended = Ended::default();
        if self.disconnect_here(id) {
            ended.disconnected = 1;
        } else {
            ended.disconnected = self
                .end_elsewhere(Question::EndSession(id.to_string().into()))
                .await;
        }
        if ended.disconnected > 0 {
            return Ok(ended);
        }
        self.forget_dormant(Box::new(move |record| PublicId::of(&record.client_id) == id))
            .await
    }

    /// Ends every session of a user, in memory or dormant, on whatever node.
    pub async fn disconnect_user(&self, tenant: &Tenant, user: &UserId) -> Result<Ended, LogError> {
        let question = Question::EndUser(tenant.clone(), user.clone());
        let disconnected = self.disconnect_user_here(tenant, user) + self.end_elsewhere(question).await;
        let (whose, name) = (tenant.clone(), Arc::clone(&user.0));
        let dormant = self
            .forget_dormant(Box::new(move |record| {
                record.tenant == whose && record.user.as_ref() == Some(&name)
            }))
            .await?;
        let ended = Ended {
            disconnected: disconnected + dormant.disconnected,
            forgotten: dormant.forgotten,
        };
        info!(user = %Shown(user), ?ended, "an operator ended the sessions of a user");
        Ok(ended)
    }

    /// Ends the session in memory that has this name.
    pub fn disconnect_here(&self, id: PublicId) -> bool {
        let handle = self
            .by_id
            .iter()
            .find(|entry| entry.value().public_id == id)
            .map(|entry| Arc::clone(entry.value()));
        handle.is_some_and(|handle| self.disconnect(&handle))
    }

    /// Ends the sessions in memory of a user, and says how many there were.
    pub fn disconnect_user_here(&self, tenant: &Tenant, user: &UserId) -> usize {
        let handles = self.of_user(tenant, user);
        handles.iter().filter(|handle| self.disconnect(handle)).count()
    }

    async fn end_elsewhere(&self, question: Question) -> usize {
        let answers = self.nodes.ask_all(question).await;
        answers
            .into_iter()
            .map(|(node, answer)| match answer {
                Some(Answer::Ended(ended)) => ended,
                Some(Answer::Done | Answer::Here(_) | Answer::Sessions(_) | Answer::Counts(_)) | None => {
                    warn!(%node, "a node did not say whether it has ended sessions; their records are removed");
                    0
                }
            })
            .sum()
    }

    /// Ends a session in memory: it gets what was published before, then it is told. Returns whether it was there.
    pub fn disconnect(&self, handle: &Arc<Handle>) -> bool {
        let was_here = self.end(handle);
        if was_here {
            info!(session = %handle.public_id, "a session is ended by the server");
        }
        was_here
    }

    /// The same without a word in the log.
    pub(super) fn end(&self, handle: &Arc<Handle>) -> bool {
        let waiting = {
            let mut state = handle.state.lock();
            if state.stage != Stage::Here {
                return false;
            }
            state
                .session
                .handle_progress(Offset(self.dispatched.load(Ordering::Acquire)));
            let end = self.log.bounds().last;
            let wakes = state.session.handle_server_disconnect(Instant::now(), end);
            // At once: whatever happens to this process, the session is not coming back.
            self.forget(handle, &mut state);
            self.turnout.left(handle);
            self.reschedule(handle, &mut state);
            self.rouse_if(wakes, handle, &mut state)
        };
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
        true
    }

    /// Removes the records that are wanted, but for those of sessions in memory. A client may be waking one of them.
    async fn forget_dormant(&self, wanted: Wanted) -> Result<Ended, LogError> {
        let mut ended = Ended::default();
        for client_id in self.store.find(wanted).await? {
            if self.disconnect_by_id(&client_id) {
                ended.disconnected += 1;
                continue;
            }
            if self.nodes.me().is_some() && !self.take_for_removal(&client_id).await? {
                continue;
            }
            self.store.remove(&client_id).await?;
            // Whoever read the record before has to look again, and finds none.
            self.departures_of(&client_id).fetch_add(1, Ordering::AcqRel);
            if self.disconnect_by_id(&client_id) {
                ended.disconnected += 1;
            } else {
                ended.forgotten += 1;
            }
        }
        Ok(ended)
    }

    /// Only the node that a record names may remove it. Returns whether there is still one.
    async fn take_for_removal(&self, client_id: &ClientId) -> Result<bool, LogError> {
        while let Some(record) = self.store.get(client_id).await? {
            if self.adopt(record).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn disconnect_by_id(&self, client_id: &ClientId) -> bool {
        self.in_memory(client_id.as_str())
            .is_some_and(|handle| self.disconnect(&handle))
    }

    pub(super) fn of_user(&self, tenant: &Tenant, user: &UserId) -> Vec<Arc<Handle>> {
        let mut found = Vec::new();
        if let Some(routing) = self.routing(tenant) {
            routing.of_user(&user.0, &mut found);
        }
        found.into_iter().map(|Subscriber(handle)| handle).collect()
    }
}

impl Handle {
    fn listed(&self) -> Listed {
        let state = self.state.lock();
        Listed {
            id: self.public_id,
            tenant: self.owner.tenant.clone(),
            user: self.owner.user.clone(),
            subscriptions: state.session.subscriptions().len(),
            attended: state.session.is_attended(),
        }
    }
}
