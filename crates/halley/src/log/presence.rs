//! Which users are present, as all who share a log know it: the seam, and what kinds share that no other process writes.
//!
//! A user has an entry for as long as somebody has one of his sessions in memory, or it has yet to be told that nobody has. Every
//! write is compared with the revision that the writer has read, so of two nodes that change the same entry one is second, and
//! looks again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::LogError;
use crate::event::{Whose, wall_clock};

/// Names one write of an entry. A later write of the same entry has a higher one, even if the entry was removed in between.
pub type Revision = u64;

/// The revision of an entry that is not there.
pub const NOBODY: Revision = 0;

/// The entry of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attendance {
    /// The sessions of the user that are in memory, by the names that operators see, with the node that each is on; it has no name
    /// where nobody shares the log.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sessions: BTreeMap<Box<str>, Arc<str>>,
    /// What was told last: the user is present.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// The write that brought this about has yet to be published. Whoever comes upon it does, under the same id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owed: bool,
}

impl Attendance {
    /// Whether the user is present.
    pub fn is_present(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Whether there is nothing to remember.
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }
}

/// A user, the revision of his entry, and the entry.
pub type Present = (Whose, Revision, Attendance);

/// The entries. What was written is durable when the future resolves.
pub trait PresenceStore: Send + Sync {
    /// Reads an entry with its revision. Sees every write that was answered, whoever called it.
    fn look(&self, whose: &Whose) -> BoxFuture<'static, Result<Option<(Revision, Attendance)>, LogError>>;

    /// Writes an entry if its revision is still `over` ([`NOBODY`]: if there is none), and says which one it has then. `None` if
    /// it is another.
    fn write(
        &self,
        whose: &Whose,
        attendance: &Attendance,
        over: Revision,
    ) -> BoxFuture<'static, Result<Option<Revision>, LogError>>;

    /// Removes an entry if its revision is still `over`. `false` if it is another.
    fn remove(&self, whose: &Whose, over: Revision) -> BoxFuture<'static, Result<bool, LogError>>;

    /// Every entry, in no order. One that changes meanwhile is there as it was or as it is.
    fn all(&self) -> BoxFuture<'static, Result<Vec<Present>, LogError>>;
}

/// The entries of a log of one process. Where they are to outlive it, every change is kept.
#[derive(Default)]
pub(super) struct Register {
    entries: Mutex<Entries>,
    keep: Option<Keep>,
}

/// Makes an entry durable as it is now, or that there is none. Called in the order of the changes.
pub(super) type Keep = Box<
    dyn Fn(&Whose, Option<(Revision, &Attendance)>) -> BoxFuture<'static, Result<(), LogError>> + Send + Sync,
>;

#[derive(Default)]
struct Entries {
    by_user: HashMap<Whose, (Revision, Attendance)>,
    last: Revision,
}

impl Register {
    /// Goes on with what was kept.
    pub(super) fn new(kept: Vec<Present>, keep: Keep) -> Self {
        let by_user: HashMap<_, _> = kept
            .into_iter()
            .map(|(whose, revision, attendance)| (whose, (revision, attendance)))
            .collect();
        let last = by_user.values().map(|(revision, _)| *revision).max();
        Self {
            entries: Mutex::new(Entries {
                by_user,
                last: last.unwrap_or(NOBODY),
            }),
            keep: Some(keep),
        }
    }

    fn kept(
        &self,
        whose: &Whose,
        entry: Option<(Revision, &Attendance)>,
    ) -> BoxFuture<'static, Result<(), LogError>> {
        match &self.keep {
            Some(keep) => keep(whose, entry),
            None => future::ready(Ok(())).boxed(),
        }
    }
}

impl Entries {
    fn revision(&self, whose: &Whose) -> Revision {
        self.by_user.get(whose).map_or(NOBODY, |(revision, _)| *revision)
    }

    /// By the clock, so that it goes on after a restart that has forgotten what was removed before.
    fn next(&mut self) -> Revision {
        self.last = wall_clock().max(self.last + 1);
        self.last
    }
}

impl PresenceStore for Register {
    fn look(&self, whose: &Whose) -> BoxFuture<'static, Result<Option<(Revision, Attendance)>, LogError>> {
        future::ready(Ok(self.entries.lock().by_user.get(whose).cloned())).boxed()
    }

    fn write(
        &self,
        whose: &Whose,
        attendance: &Attendance,
        over: Revision,
    ) -> BoxFuture<'static, Result<Option<Revision>, LogError>> {
        let mut entries = self.entries.lock();
        if entries.revision(whose) != over {
            return future::ready(Ok(None)).boxed();
        }
        let revision = entries.next();
        entries
            .by_user
            .insert(whose.clone(), (revision, attendance.clone()));
        // Still locked: what is kept has the same order.
        let kept = self.kept(whose, Some((revision, attendance)));
        async move { kept.await.map(|()| Some(revision)) }.boxed()
    }

    fn remove(&self, whose: &Whose, over: Revision) -> BoxFuture<'static, Result<bool, LogError>> {
        let mut entries = self.entries.lock();
        if over == NOBODY || entries.revision(whose) != over {
            return future::ready(Ok(false)).boxed();
        }
        entries.by_user.remove(whose);
        let kept = self.kept(whose, None);
        async move { kept.await.map(|()| true) }.boxed()
    }

    fn all(&self) -> BoxFuture<'static, Result<Vec<Present>, LogError>> {
        let entries = self.entries.lock();
        let all = entries
            .by_user
            .iter()
            .map(|(whose, (revision, attendance))| (whose.clone(), *revision, attendance.clone()));
        future::ready(Ok(all.collect())).boxed()
    }
}
