//! Whose sessions come into memory and leave it, for whoever tells of it.
//!
//! A session that another node takes has not left: that node says that it has come there. Nothing waits here, and what is noted is
//! one entry for each user, however often his sessions come and go.

use std::collections::HashMap;

use bayeux::ClientId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Sessions;
use super::handle::{Handle, PublicId};
use crate::event::Whose;

/// The sessions of a user that have left memory here, and not for another node.
pub type Left = Vec<ClientId>;

/// What has changed since somebody asked last.
pub(super) struct Turnout {
    is_wanted: bool,
    changed: Mutex<HashMap<Whose, Left>>,
    /// Something has.
    noted: Notify,
}

/// Users who are noted at once, and sessions of each. Whoever tells of presence compares everything now and then, and finds the rest.
const USERS: usize = 1 << 16;
const SESSIONS: usize = 1 << 10;

impl Turnout {
    pub(super) fn new(is_wanted: bool) -> Self {
        Self {
            is_wanted,
            changed: Mutex::default(),
            noted: Notify::new(),
        }
    }

    pub(super) fn came(&self, handle: &Handle) {
        self.note(handle, |_| {});
    }

    pub(super) fn left(&self, handle: &Handle) {
        self.note(handle, |left| {
            if left.len() < SESSIONS {
                left.push(handle.client_id.clone());
            }
        });
    }

    fn note(&self, handle: &Handle, change: impl FnOnce(&mut Left)) {
        if !self.is_wanted {
            return;
        }
        let Some(whose) = handle.whose() else {
            return;
        };
        let mut changed = self.changed.lock();
        if changed.len() < USERS || changed.contains_key(&whose) {
            change(changed.entry(whose).or_default());
        }
        drop(changed);
        self.noted.notify_one();
    }
}

impl Sessions {
    /// Waits until sessions of users have come or left, and takes all of it.
    pub async fn turnout(&self) -> HashMap<Whose, Left> {
        loop {
            let changed = std::mem::take(&mut *self.turnout.changed.lock());
            if !changed.is_empty() {
                return changed;
            }
            self.turnout.noted.notified().await;
        }
    }

    /// The sessions of a user that are in memory, but for those that are about to end.
    pub fn present(&self, whose: &Whose) -> Vec<PublicId> {
        let mut handles = self.of_user(&whose.tenant, &whose.user);
        handles.retain(|handle| !handle.is_ending());
        handles.iter().map(|handle| handle.public_id).collect()
    }

    /// The users with sessions in memory.
    pub fn users(&self) -> usize {
        let of_tenants = self.routing_by_tenant.iter().map(|routing| routing.users());
        self.routing.users() + of_tenants.sum::<usize>()
    }

    /// The same, one by one, each as often as he has sessions.
    pub fn whose(&self) -> Vec<Whose> {
        let each = self.by_id.iter().filter_map(|entry| entry.value().whose());
        each.collect()
    }
}

impl Handle {
    fn whose(&self) -> Option<Whose> {
        self.owner.user.as_ref().map(|user| Whose {
            tenant: self.owner.tenant.clone(),
            user: user.clone(),
        })
    }
}
