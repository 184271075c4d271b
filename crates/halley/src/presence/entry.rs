//! What is done for one user: his entry is made to say what is here, and what that changes is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use bayeux::ClientId;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tracing::debug;

use super::Presence;
use super::agenda::{Outcome, Task};
use crate::event::{Audience, Event, Whose};
use crate::log::{Attendance, LogError, NOBODY, Revision};
use crate::metrics::Outcome as Label;
use crate::sessions::PublicId;

impl Presence {
    /// Has the entry of a user say what is here and tells what there is to tell. Whatever another node writes meanwhile, it looks
    /// again.
    pub(super) async fn settle(&self, whose: &Whose, task: &Task) -> Result<Outcome, LogError> {
        let mut published = None;
        loop {
            let found = self.storage.presence.look(whose).await?;
            let (revision, there) = found.unwrap_or((NOBODY, Attendance::default()));
            if there.owed && published != Some(revision) {
                self.publish(whose, &there, revision).await?;
                published = Some(revision);
            }
            let mut next = Attendance {
                owed: false,
                ..there.clone()
            };
            self.revise(whose, &mut next, task, revision).await?;
            let is_news = next.is_present() != next.told;
            if is_news && (next.is_present() || self.has_waited(task, revision)) {
                next.told = next.is_present();
                next.owed = true;
            }
            let Some(written) = self.write(whose, &there, &next, revision).await? else {
                continue;
            };
            if !next.owed {
                let is_told = next.is_present() == next.told;
                return Ok(if is_told {
                    Outcome::Settled
                } else {
                    Outcome::Empty(written)
                });
            }
            self.publish(whose, &next, written).await?;
            published = Some(written);
        }
    }

    fn has_waited(&self, task: &Task, revision: Revision) -> bool {
        self.settings.delay.is_zero() || task.gone == Some(revision)
    }

    /// Puts in what is here and takes out what has gone.
    async fn revise(
        &self,
        whose: &Whose,
        entry: &mut Attendance,
        task: &Task,
        revision: Revision,
    ) -> Result<(), LogError> {
        // Only after the entry was read: whoever takes a session from here afterwards writes it, and then this is not written.
        let here: BTreeSet<Box<str>> = self.here(whose).collect();
        let me = self.me();
        for client_id in &task.left {
            let name = name(PublicId::of(client_id));
            if !here.contains(&name) && self.has_ended(client_id, entry.sessions.get(&name)).await? {
                entry.sessions.remove(&name);
            }
        }
        if let Some(doubt) = task.doubt.as_ref().filter(|doubt| doubt.revision == revision) {
            entry.sessions.retain(|name, _| !doubt.nobodys.contains(name));
        }
        for name in here {
            entry.sessions.insert(name, Arc::clone(&me));
        }
        Ok(())
    }

    /// Whether a session that has left memory here is nowhere else. It may have come from another node a moment before it left, or
    /// have been woken at another one a moment after.
    async fn has_ended(&self, client_id: &ClientId, node: Option<&Arc<str>>) -> Result<bool, LogError> {
        let me = self.me();
        match node {
            None => Ok(false),
            Some(node) if *node == me => Ok(true),
            Some(_) => {
                let record = self.storage.sessions.get(client_id).await?;
                let node = record.and_then(|record| record.node);
                Ok(node.is_none_or(|node| node.0 == me))
            }
        }
    }

    /// The revision of what is there then, or `None` if somebody else has written.
    async fn write(
        &self,
        whose: &Whose,
        there: &Attendance,
        next: &Attendance,
        over: Revision,
    ) -> Result<Option<Revision>, LogError> {
        if next == there {
            return Ok(Some(over));
        }
        let store = &self.storage.presence;
        if next.is_blank() {
            return Ok(store.remove(whose, over).await?.then_some(NOBODY));
        }
        store.write(whose, next, over).await
    }

    /// Publishes what an entry says that was told with this revision. An id that the log knows already is stored once.
    async fn publish(&self, whose: &Whose, entry: &Attendance, version: Revision) -> Result<(), LogError> {
        let data = data(whose, entry, version);
        let data = RawValue::from_string(data.to_string())
            .map_err(|error| LogError::Unusable(format!("presence has no JSON form: {error}").into()))?;
        let event = Event {
            tenant: whose.tenant.clone(),
            audience: Audience::Everyone,
            channel: self.settings.channel.clone(),
            data,
            id: Some(id(whose, version)),
            traits: self.settings.traits.clone(),
        };
        let positions = self.storage.log.append(vec![event]).await?;
        if positions.iter().any(|position| !position.duplicate) {
            let result = if entry.told { "present" } else { "absent" };
            self.metrics.presence.get_or_create(&Label { result }).inc();
        }
        debug!(present = entry.told, version, "presence is told");
        Ok(())
    }

    pub(super) fn here(&self, whose: &Whose) -> impl Iterator<Item = Box<str>> + use<> {
        self.sessions.present(whose).into_iter().map(name)
    }

    /// This node, as entries name it.
    pub(super) fn me(&self) -> Arc<str> {
        let me = self.storage.nodes.me();
        me.map_or_else(|| "".into(), |me| Arc::clone(&me.0))
    }
}

fn name(id: PublicId) -> Box<str> {
    id.to_string().into()
}

/// What subscribers get.
fn data(whose: &Whose, entry: &Attendance, version: Revision) -> Value {
    let mut data = json!({
        "user": &*whose.user.0,
        "present": entry.told,
        "version": version,
    });
    if !whose.tenant.is_only() {
        data["tenant"] = (*whose.tenant.0).into();
    }
    if let Some(node) = entry.sessions.values().next().filter(|node| !node.is_empty()) {
        data["node"] = (**node).into();
    }
    data
}

/// No publisher can take it: the door for them puts a name between the first two separators that has no slash.
fn id(whose: &Whose, version: Revision) -> Box<str> {
    const SEPARATOR: char = '\u{1f}';
    let Whose { tenant, user } = whose;
    format!("{SEPARATOR}presence/{}/{version}{SEPARATOR}{user}", tenant.0).into()
}
