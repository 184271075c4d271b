//! Which users are to be seen to, and when. No I/O and no clock of its own.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::roll::{Doubt, Roll};
use crate::event::Whose;
use crate::log::Revision;
use crate::sessions::Left;

/// What is known of a user when he is seen to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Task {
    /// Sessions that have left memory here.
    pub(super) left: Left,
    /// His entry is without a session since this revision, for as long as it takes.
    pub(super) gone: Option<Revision>,
    /// What nobody has, if the entry is still the same.
    pub(super) doubt: Option<Doubt>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything is told.
    Settled,
    /// Nobody is left as of this revision, and that is told if it stays so.
    Empty(Revision),
}

/// Everything that is to be done.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    by_user: HashMap<Whose, Item>,
    /// Those that wait for their turn.
    due: BTreeSet<(Instant, Whose)>,
    doubts: HashMap<Whose, (Doubt, Instant)>,
}

#[derive(Debug, Default)]
struct Item {
    task: Task,
    /// When it is his turn; `None` while he is seen to and there is nothing more.
    due: Option<Instant>,
    is_at_work: bool,
    /// Nobody is left as of this revision, since then.
    empty: Option<(Revision, Instant)>,
}

/// Users on the agenda at once. Whoever finds no room is found when everybody is looked at.
const USERS: usize = 1 << 17;

/// Sessions of one user that are remembered to have left.
const SESSIONS: usize = 1 << 10;

impl Agenda {
    /// Sessions of a user have come or left.
    pub(super) fn note(&mut self, whose: Whose, left: Left, now: Instant) {
        if let Some(item) = self.item(&whose) {
            let room = SESSIONS.saturating_sub(item.task.left.len());
            item.task.left.extend(left.into_iter().take(room));
            self.schedule(whose, now);
        }
    }

    /// The next user whose turn it is.
    pub(super) fn begin(&mut self, now: Instant) -> Option<(Whose, Task)> {
        let (at, whose) = self.due.first()?.clone();
        if at > now {
            return None;
        }
        self.due.pop_first();
        let item = self.by_user.get_mut(&whose)?;
        item.due = None;
        item.is_at_work = true;
        let mut task = std::mem::take(&mut item.task);
        if let Some((revision, _)) = item.empty.filter(|(_, until)| *until <= now) {
            task.gone = Some(revision);
        }
        Some((whose, task))
    }

    /// When the next turn is.
    pub(super) fn wakes(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A user was seen to.
    pub(super) fn done(&mut self, whose: Whose, outcome: Outcome, now: Instant, delay: Duration) {
        let Some(item) = self.by_user.get_mut(&whose) else {
            return;
        };
        item.is_at_work = false;
        let until = match (outcome, item.empty) {
            (Outcome::Settled, _) => {
                item.empty = None;
                None
            }
            (Outcome::Empty(revision), Some((known, until))) if known == revision => Some(until),
            (Outcome::Empty(revision), _) => {
                item.empty = Some((revision, now + delay));
                Some(now + delay)
            }
        };
        match (item.due, until) {
            // Something has changed meanwhile.
            (Some(at), _) => drop(self.due.insert((at, whose))),
            (None, Some(until)) => self.schedule(whose, until),
            (None, None) => drop(self.by_user.remove(&whose)),
        }
    }

    /// It did not work: once more then, with everything that was known.
    pub(super) fn failed(&mut self, whose: Whose, task: Task, at: Instant) {
        let Some(item) = self.by_user.get_mut(&whose) else {
            return;
        };
        item.is_at_work = false;
        let since = std::mem::replace(&mut item.task, task);
        item.task.left.extend(since.left);
        item.task.left.truncate(SESSIONS);
        item.task.doubt = since.doubt.or(item.task.doubt.take());
        item.due = None;
        self.schedule(whose, at);
    }

    /// Everybody was looked at. What is in doubt for long enough is settled.
    pub(super) fn heed(&mut self, roll: Roll, now: Instant, patience: Duration) {
        for whose in roll.unknown {
            self.note(whose, Left::new(), now);
        }
        let mut before = std::mem::take(&mut self.doubts);
        for (whose, doubt) in roll.doubts {
            let since = match before.remove(&whose) {
                Some((known, since)) if known == doubt => since,
                Some(_) | None => now,
            };
            if now.duration_since(since) < patience {
                self.doubts.insert(whose, (doubt, since));
                continue;
            }
            if let Some(item) = self.item(&whose) {
                item.task.doubt = Some(doubt);
                self.schedule(whose, now);
            }
        }
    }

    /// Nobody could be asked.
    pub(super) fn forget_doubts(&mut self) {
        self.doubts.clear();
    }

    fn item(&mut self, whose: &Whose) -> Option<&mut Item> {
        if self.by_user.len() >= USERS && !self.by_user.contains_key(whose) {
            return None;
        }
        Some(self.by_user.entry(whose.clone()).or_default())
    }

    /// His turn is then, or before if it was to be before.
    fn schedule(&mut self, whose: Whose, at: Instant) {
        let Some(item) = self.by_user.get_mut(&whose) else {
            return;
        };
        if item.due.is_some_and(|due| due <= at) {
            return;
        }
        let before = item.due.replace(at);
        if item.is_at_work {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, whose.clone()));
        }
        self.due.insert((at, whose));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Tenant, UserId};

    const DELAY: Duration = Duration::from_secs(5);
    const PATIENCE: Duration = Duration::from_secs(10);

    fn whose(user: &str) -> Whose {
        Whose {
            tenant: Tenant::default(),
            user: UserId(user.into()),
        }
    }

    fn left(client_id: &str) -> Left {
        vec![bayeux::ClientId::new(client_id)]
    }

    fn doubt(revision: Revision) -> Doubt {
        Doubt {
            revision,
            nobodys: ["one".into()].into(),
        }
    }

    fn roll(revision: Revision) -> Roll {
        Roll {
            unknown: Vec::new(),
            doubts: vec![(whose("a"), doubt(revision))],
        }
    }

    #[test]
    fn a_user_is_seen_to_once_at_a_time_and_again_for_what_came_meanwhile() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.note(whose("a"), left("one"), now);
        agenda.note(whose("a"), left("two"), now);
        let (_, task) = agenda.begin(now).expect("his turn");
        assert_eq!(task.left.len(), 2);
        agenda.note(whose("a"), left("three"), now);
        assert!(agenda.begin(now).is_none(), "he is seen to");
        agenda.done(whose("a"), Outcome::Settled, now, DELAY);
        let (_, task) = agenda.begin(now).expect("his turn");
        assert_eq!(task.left, left("three"));
        agenda.done(whose("a"), Outcome::Settled, now, DELAY);
        assert!(agenda.begin(now).is_none());
        assert!(agenda.by_user.is_empty(), "nothing stays of him");
    }

    #[test]
    fn what_failed_is_done_once_more_with_everything_that_was_known() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.note(whose("a"), left("one"), now);
        let (user, task) = agenda.begin(now).expect("his turn");
        agenda.note(whose("a"), left("two"), now);
        agenda.failed(user, task, now + DELAY);
        assert!(agenda.begin(now).is_none(), "not at once");
        assert_eq!(agenda.wakes(), Some(now + DELAY));
        let (_, task) = agenda.begin(now + DELAY).expect("his turn");
        assert_eq!(task.left, [left("one"), left("two")].concat());
    }

    #[test]
    fn nobody_must_be_left_for_the_whole_delay_in_the_same_revision() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let half = now + DELAY / 2;
        agenda.note(whose("a"), left("one"), now);
        agenda.begin(now).expect("his turn");
        agenda.done(whose("a"), Outcome::Empty(7), now, DELAY);
        agenda.note(whose("a"), Left::new(), half);
        let (_, task) = agenda.begin(half).expect("his turn");
        assert_eq!(task.gone, None);
        agenda.done(whose("a"), Outcome::Empty(9), half, DELAY);
        assert!(agenda.begin(now + DELAY).is_none(), "he was there in between");
        let (_, task) = agenda.begin(half + DELAY).expect("his turn");
        assert_eq!(task.gone, Some(9));
    }

    #[test]
    fn a_look_in_between_does_not_make_the_delay_longer() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.note(whose("a"), left("one"), now);
        agenda.begin(now).expect("his turn");
        agenda.done(whose("a"), Outcome::Empty(7), now, DELAY);
        let half = now + DELAY / 2;
        agenda.note(whose("a"), Left::new(), half);
        agenda.begin(half).expect("his turn");
        agenda.done(whose("a"), Outcome::Empty(7), half, DELAY);
        let (_, task) = agenda.begin(now + DELAY).expect("his turn");
        assert_eq!(task.gone, Some(7));
    }

    #[test]
    fn what_is_in_doubt_is_settled_when_it_has_been_so_for_long_enough() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.heed(roll(7), now, PATIENCE);
        agenda.heed(roll(7), now + PATIENCE / 2, PATIENCE);
        assert!(agenda.begin(now + PATIENCE / 2).is_none());
        agenda.heed(roll(7), now + PATIENCE, PATIENCE);
        let (_, task) = agenda.begin(now + PATIENCE).expect("his turn");
        assert_eq!(task.doubt, Some(doubt(7)));
    }

    #[test]
    fn what_has_changed_meanwhile_is_in_doubt_anew() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.heed(roll(7), now, PATIENCE);
        agenda.heed(roll(8), now + PATIENCE, PATIENCE);
        assert!(agenda.begin(now + PATIENCE).is_none());
    }

    #[test]
    fn time_in_which_nobody_could_be_asked_does_not_count() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.heed(roll(7), now, PATIENCE);
        agenda.forget_doubts();
        agenda.heed(roll(7), now + PATIENCE, PATIENCE);
        assert!(agenda.begin(now + PATIENCE).is_none());
    }
}
