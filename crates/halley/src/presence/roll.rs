//! Everybody is looked at now and then: what a node left that ended at once, and what found no room elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::StreamExt;

use super::Presence;
use crate::event::Whose;
use crate::log::{Answer, Attendance, LogError, Question, Revision};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Roll {
    /// Sessions of these users are here, and their entries do not say so.
    pub(super) unknown: Vec<Whose>,
    /// What may be left of a node that is gone. It may also be on its way: then the entry changes soon.
    pub(super) doubts: Vec<(Whose, Doubt)>,
}

/// An entry that should not stay as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    /// As of this revision.
    pub(super) revision: Revision,
    /// Sessions that nobody has in memory.
    pub(super) nobodys: BTreeSet<Box<str>>,
}

/// Users whom all nodes are asked for at once.
const AT_ONCE: usize = 16;

impl Presence {
    /// Compares all entries with what is here, and asks the other nodes for what is nowhere.
    pub(super) async fn call_the_roll(self: Arc<Self>) -> Result<Roll, LogError> {
        let entries = self.storage.presence.all().await?;
        let others = self.storage.nodes.ask_all(Question::Counts).await;
        let nodes: BTreeSet<Arc<str>> = others.into_iter().map(|(node, _)| node.0).collect();
        let mut roll = Roll::default();
        let mut asked = Vec::new();
        let mut known = HashSet::with_capacity(entries.len());
        for (whose, revision, entry) in entries {
            if !self.says_what_is_here(&whose, &entry) {
                roll.unknown.push(whose.clone());
            }
            known.insert(whose.clone());
            let nobodys = self.strangers(&whose, &entry, &nodes);
            let is_unfinished = entry.owed || entry.told != entry.is_present();
            if !nobodys.is_empty() {
                asked.push((whose, Doubt { revision, nobodys }));
            } else if is_unfinished {
                roll.doubts.push((whose, Doubt { revision, nobodys }));
            }
        }
        let here: HashSet<Whose> = self.sessions.whose().into_iter().collect();
        roll.unknown.extend(here.difference(&known).cloned());
        let mut asking = futures::stream::iter(asked)
            .map(|(whose, doubt)| self.ask_for(whose, doubt))
            .buffer_unordered(AT_ONCE);
        while let Some(doubt) = asking.next().await {
            roll.doubts.extend(doubt);
        }
        drop(asking);
        Ok(roll)
    }

    fn says_what_is_here(&self, whose: &Whose, entry: &Attendance) -> bool {
        let me = self.me();
        self.here(whose)
            .all(|name| entry.sessions.get(&name).is_some_and(|node| *node == me))
    }

    /// The sessions of an entry that should be here and are not, and those of nodes that are not there. Of these the first of the
    /// nodes sees to, so that not all do.
    fn strangers(
        &self,
        whose: &Whose,
        entry: &Attendance,
        others: &BTreeSet<Arc<str>>,
    ) -> BTreeSet<Box<str>> {
        let me = self.me();
        let is_first = others.first().is_none_or(|first| me < *first);
        let is_strange = |node: &Arc<str>| *node == me || is_first && !others.contains(node);
        let strange: BTreeMap<_, _> = entry
            .sessions
            .iter()
            .filter(|(_, node)| is_strange(node))
            .collect();
        if strange.is_empty() {
            return BTreeSet::new();
        }
        let here: BTreeSet<Box<str>> = self.here(whose).collect();
        strange
            .into_keys()
            .filter(|name| !here.contains(*name))
            .cloned()
            .collect()
    }

    /// Asks every node for sessions that are not where the entry says. `None` if somebody has them all, or does not say.
    async fn ask_for(&self, whose: Whose, mut doubt: Doubt) -> Option<(Whose, Doubt)> {
        let question = Question::User(whose.tenant.clone(), whose.user.clone());
        for (_, answer) in self.storage.nodes.ask_all(question).await {
            let Some(Answer::Sessions(found)) = answer else {
                return None;
            };
            for (name, ..) in found {
                doubt.nobodys.remove(&name);
            }
        }
        (!doubt.nobodys.is_empty()).then_some((whose, doubt))
    }
}
