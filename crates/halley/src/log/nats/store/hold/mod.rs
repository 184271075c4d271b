//! What this node holds of one session's record, and what has to be done next: no I/O.
//!
//! Every write compares: it counts only over the revision that this node knows. So a node that another has taken the session
//! from cannot write it, however late it notices. Each adoption raises the record's fence, and is one of a holder: who was asked to
//! let go, and has adopted the session again before that was of use, is asked again. One thing is done at a time; what is called
//! meanwhile waits in its order, and writes that wait beside each other are written as one.
//!
//! | comes in | |
//! |---|---|
//! | [`put`](Hold::put), [`checkpoint`](Hold::checkpoint), [`remove`](Hold::remove), [`get`](Hold::get), [`adopt`](Hold::adopt), [`settle`](Hold::settle), [`release`](Hold::release) | what is called, each with who waits for it |
//! | [`handle_outcome`](Hold::handle_outcome) | what became of the step that was done |
//! | [`handle_swept`](Hold::handle_swept) | this node's sweep has deleted a revision |
//!
//! | goes out | |
//! |---|---|
//! | [`poll_step`](Hold::poll_step) | what to do now; to be asked after everything that came in |
//! | [`poll_answer`](Hold::poll_answer) | whom to answer what |
//! | [`poll_lost`](Hold::poll_lost) | whether another node is found to have the session |
//!
//! A write that was not answered leaves *doubt*: it may be there, or come to be there, so the next write reads first. What is
//! found with this node's name is this node's. Servers take writes of one connection in their order, but reads and deletions
//! may pass them: a deletion in doubt therefore writes first, so that nothing sent before can come after it.

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use bayeux::Offset;

use crate::log::{Holder, LogError, NodeId, SessionRecord};

/// Which message of the bucket a record is. Revisions rise.
pub(super) type Revision = u64;

/// The revision of no record.
pub(super) const NOTHING: Revision = super::super::bucket::NOTHING;

/// What is to be done on the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the record, where every write is seen that was answered; or soon is, where servers have just chosen another to lead.
    Read,
    /// The same a little later.
    ReadLater,
    /// Write it, if the revision is still this one.
    Write(Arc<SessionRecord>, Revision),
    /// Delete this revision, if it is still there.
    Delete(Revision),
}

/// What became of a step.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// This is there.
    Read(Option<(Revision, Arc<SessionRecord>)>),
    /// It is written, as this revision.
    Written(Revision),
    /// It is deleted.
    Deleted,
    /// Another revision is there: nothing was changed.
    Refused,
    /// It did not work. After [`LogError::Unanswered`] what was to be changed may be so or come to be so, else nothing was.
    Failed(LogError),
}

/// What a call is answered: the record, for those that ask for it.
pub(super) type Answer = Result<Option<SessionRecord>, LogError>;

/// One session's record. `T` is who waits for an answer.
#[derive(Debug)]
pub(super) struct Hold<T> {
    me: NodeId,
    /// This node's record, as it was written or read last.
    known: Option<Known>,
    doubt: Doubt,
    /// Another node has it. Nothing is written until it is adopted back or given up.
    taken: bool,
    queue: VecDeque<Entry<T>>,
    /// What is being done for the first in the queue.
    doing: Option<Step>,
    /// What it needs next.
    next: Option<Step>,
    /// How often that began again.
    tries: u8,
    answers: VecDeque<(T, Answer)>,
    lost: bool,
}

#[derive(Debug)]
struct Known {
    revision: Revision,
    record: Arc<SessionRecord>,
}

/// What may have happened, or may still, without an answer.
#[derive(Debug, Default)]
struct Doubt {
    /// This was written.
    written: Option<Arc<SessionRecord>>,
    /// A record was written where there was none.
    created: bool,
    /// The known revision was deleted.
    removed: bool,
}

#[derive(Debug)]
enum Entry<T> {
    Write(Wish, Vec<T>),
    Get(T),
    Adopt(Holder, T),
    Settle(T),
    Release,
}

#[derive(Debug)]
enum Wish {
    Put(Arc<SessionRecord>),
    Mark(Offset, SystemTime),
    Remove,
}

/// How often a write begins again before it is given up: only a writer with this node's name can make it, or servers that do not
/// show what they have answered.
const TRIES: u8 = 8;

impl<T> Hold<T> {
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            known: None,
            doubt: Doubt::default(),
            taken: false,
            queue: VecDeque::new(),
            doing: None,
            next: None,
            tries: 0,
            answers: VecDeque::new(),
            lost: false,
        }
    }

    pub(super) fn put(&mut self, mut record: SessionRecord, waiting: T) {
        record.node = Some(self.me.clone());
        let record = Arc::new(record);
        match self.last_write() {
            Some((wish, all)) => {
                *wish = Wish::Put(record);
                all.push(waiting);
            }
            None => self
                .queue
                .push_back(Entry::Write(Wish::Put(record), vec![waiting])),
        }
    }

    pub(super) fn checkpoint(&mut self, cursor: Offset, seen: SystemTime, waiting: T) {
        match self.last_write() {
            Some((wish, all)) => {
                match wish {
                    Wish::Put(record) => *record = marked(record, cursor, seen),
                    Wish::Mark(known, last) => (*known, *last) = ((*known).max(cursor), seen),
                    // There is nothing to mark when it comes to this.
                    Wish::Remove => {}
                }
                all.push(waiting);
            }
            None => self
                .queue
                .push_back(Entry::Write(Wish::Mark(cursor, seen), vec![waiting])),
        }
    }

    pub(super) fn remove(&mut self, waiting: T) {
        match self.last_write() {
            Some((wish, all)) => {
                *wish = Wish::Remove;
                all.push(waiting);
            }
            None => self.queue.push_back(Entry::Write(Wish::Remove, vec![waiting])),
        }
    }

    /// Sees what was called before, and nothing that is called later.
    pub(super) fn get(&mut self, waiting: T) {
        self.queue.push_back(Entry::Get(waiting));
    }

    pub(super) fn adopt(&mut self, from: Holder, waiting: T) {
        self.queue.push_back(Entry::Adopt(from, waiting));
    }

    /// Is answered when everything is that was called before.
    pub(super) fn settle(&mut self, waiting: T) {
        self.queue.push_back(Entry::Settle(waiting));
    }

    /// This node gives it up; the record stays.
    pub(super) fn release(&mut self) {
        self.queue.push_back(Entry::Release);
    }

    pub(super) fn handle_outcome(&mut self, outcome: Outcome) {
        let step = self.doing.take().expect("an outcome is that of a step");
        match outcome {
            Outcome::Read(read) => self.handle_read(read),
            Outcome::Written(revision) => self.handle_written(&step, revision),
            Outcome::Deleted => {
                self.forget();
                self.finish(Ok(None));
            }
            Outcome::Refused => self.handle_refused(),
            Outcome::Failed(error) => self.handle_failed(step, error),
        }
    }

    pub(super) fn handle_swept(&mut self, revision: Revision) {
        if self
            .known
            .as_ref()
            .is_some_and(|known| known.revision == revision)
        {
            if self.queue.is_empty() {
                self.forget();
            } else {
                self.doubt.removed = true;
            }
        }
    }

    pub(super) fn poll_step(&mut self) -> Option<Step> {
        if self.doing.is_some() {
            return None;
        }
        while self.next.is_none() {
            match self.queue.front()? {
                Entry::Write(..) if self.taken => self.finish(Err(LogError::Taken)),
                Entry::Write(wish, _) => self.next = Some(self.first_step(wish)),
                Entry::Get(_) | Entry::Adopt(..) => self.next = Some(Step::Read),
                Entry::Settle(_) => self.finish(Ok(None)),
                Entry::Release => {
                    self.forget();
                    self.taken = false;
                    self.finish(Ok(None));
                }
            }
        }
        self.doing = self.next.take();
        self.doing.clone()
    }

    pub(super) fn poll_answer(&mut self) -> Option<(T, Answer)> {
        self.answers.pop_front()
    }

    /// Whether another node was found to have the session since this was asked last.
    pub(super) fn poll_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// There is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.is_held() && !self.taken
    }

    /// Something waits to be done.
    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The write that waits last, if nothing has begun on it: what is called now becomes part of it.
    fn last_write(&mut self) -> Option<(&mut Wish, &mut Vec<T>)> {
        let begun = usize::from(self.doing.is_some());
        if self.queue.len() <= begun {
            return None;
        }
        match self.queue.back_mut() {
            Some(Entry::Write(wish, all)) => Some((wish, all)),
            Some(Entry::Get(_) | Entry::Adopt(..) | Entry::Settle(_) | Entry::Release) | None => None,
        }
    }

    fn first_step(&self, wish: &Wish) -> Step {
        if self.doubt.any() {
            return Step::Read;
        }
        match (wish, &self.known) {
            (Wish::Put(record), None) => Step::Write(record.clone(), NOTHING),
            (Wish::Mark(..) | Wish::Remove, None) => Step::Read,
            (_, Some(known)) => over(wish, known),
        }
    }

    fn handle_read(&mut self, read: Option<(Revision, Arc<SessionRecord>)>) {
        match self.queue.front() {
            Some(Entry::Get(_)) => {
                if let Some((revision, record)) = &read {
                    self.notice(*revision, record);
                }
                self.finish(Ok(read.map(|(_, record)| SessionRecord::clone(&record))));
            }
            Some(Entry::Adopt(from, _)) => match read {
                Some((revision, record)) if record.node.is_none() || record.holder() == *from => {
                    let mut record = SessionRecord::clone(&record);
                    record.node = Some(self.me.clone());
                    record.fence += 1;
                    self.next = Some(Step::Write(Arc::new(record), revision));
                }
                Some(_) | None => self.finish(Ok(None)),
            },
            Some(Entry::Write(..)) => match read {
                Some((revision, record)) => self.handle_found(revision, record),
                None => self.handle_nothing(),
            },
            Some(Entry::Settle(_) | Entry::Release) | None => unreachable!("these read nothing"),
        }
    }

    /// What a get has read shows whose the session is.
    fn notice(&mut self, revision: Revision, record: &SessionRecord) {
        let newer = match &self.known {
            Some(known) => known.revision < revision,
            None => self.doubt.any(),
        };
        if newer && !self.is_mine(record) {
            self.lose();
        }
    }

    fn handle_found(&mut self, revision: Revision, record: Arc<SessionRecord>) {
        if self.known.as_ref().is_some_and(|known| known.revision > revision) {
            // Whoever answered has not heard of everything yet.
            self.handle_refused();
            return;
        }
        if !self.is_mine(&record) {
            self.lose();
            self.finish(Err(LogError::Taken));
            return;
        }
        let mut known = Known { revision, record };
        if known.record.node.is_none() {
            Arc::make_mut(&mut known.record).node = Some(self.me.clone());
        }
        let Some(Entry::Write(wish, _)) = self.queue.front() else {
            unreachable!("a write reads");
        };
        self.next = Some(match wish {
            Wish::Remove if self.doubt.written.is_some() => Step::Write(known.record.clone(), revision),
            Wish::Put(_) | Wish::Mark(..) | Wish::Remove => over(wish, &known),
        });
        self.known = Some(known);
    }

    fn handle_nothing(&mut self) {
        let Some(Entry::Write(wish, _)) = self.queue.front() else {
            unreachable!("a write reads");
        };
        let by_others = self.known.is_some() && !self.doubt.removed;
        let late = self.doubt.written.as_ref().filter(|_| self.doubt.created);
        let next = match (wish, late) {
            (Wish::Remove, late) => late.cloned(),
            (Wish::Put(_) | Wish::Mark(..), _) if by_others => {
                self.lose();
                self.finish(Err(LogError::Taken));
                return;
            }
            (Wish::Put(record), _) => Some(record.clone()),
            (Wish::Mark(cursor, seen), late) => late.map(|record| marked(record, *cursor, *seen)),
        };
        self.known = None;
        self.doubt.removed = false;
        match next {
            Some(record) => self.next = Some(Step::Write(record, NOTHING)),
            None => {
                self.doubt = Doubt::default();
                self.finish(Ok(None));
            }
        }
    }

    fn handle_written(&mut self, step: &Step, revision: Revision) {
        let Step::Write(record, _) = step else {
            unreachable!("only what is written is written");
        };
        let record = record.clone();
        self.doubt = Doubt::default();
        let answer = match self.queue.front() {
            // Now nothing can come after the deletion.
            Some(Entry::Write(Wish::Remove, _)) => {
                self.next = Some(Step::Delete(revision));
                None
            }
            Some(Entry::Adopt(..)) => {
                self.taken = false;
                Some(Some(SessionRecord::clone(&record)))
            }
            Some(Entry::Write(..) | Entry::Get(_) | Entry::Settle(_) | Entry::Release) | None => Some(None),
        };
        self.known = Some(Known { revision, record });
        if let Some(answer) = answer {
            self.finish(Ok(answer));
        }
    }

    fn handle_refused(&mut self) {
        if matches!(self.queue.front(), Some(Entry::Adopt(..))) {
            self.finish(Ok(None));
            return;
        }
        self.tries += 1;
        self.next = match self.tries {
            1 => Some(Step::Read),
            2..=TRIES => Some(Step::ReadLater),
            _ => {
                self.finish(Err(LogError::Away("a session's record does not settle".into())));
                None
            }
        };
    }

    fn handle_failed(&mut self, step: Step, error: LogError) {
        if matches!(error, LogError::Unanswered(_)) {
            match step {
                Step::Read | Step::ReadLater => {}
                Step::Write(record, revision) => {
                    self.doubt.written = Some(record);
                    self.doubt.created |= revision == NOTHING;
                }
                Step::Delete(_) => self.doubt.removed = true,
            }
        }
        self.finish(Err(error));
    }

    fn is_mine(&self, record: &SessionRecord) -> bool {
        record.node.as_ref().is_none_or(|node| *node == self.me)
    }

    fn is_held(&self) -> bool {
        self.known.is_some() || self.doubt.any()
    }

    /// Another node has the session, or had it last.
    fn lose(&mut self) {
        if self.is_held() {
            self.taken = true;
            self.lost = true;
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.known = None;
        self.doubt = Doubt::default();
    }

    /// Answers everyone who waits for the first in the queue.
    fn finish(&mut self, answer: Answer) {
        self.tries = 0;
        match self.queue.pop_front() {
            Some(Entry::Write(_, all)) => {
                let answers = all.into_iter().map(|waiting| (waiting, answer.clone()));
                self.answers.extend(answers);
            }
            Some(Entry::Get(waiting) | Entry::Adopt(_, waiting) | Entry::Settle(waiting)) => {
                self.answers.push_back((waiting, answer));
            }
            Some(Entry::Release) | None => {}
        }
    }
}

impl Doubt {
    fn any(&self) -> bool {
        self.written.is_some() || self.removed
    }
}

/// The step that a wish needs where this is known to be there.
fn over(wish: &Wish, known: &Known) -> Step {
    match wish {
        Wish::Put(record) => Step::Write(fenced(record, known.record.fence), known.revision),
        Wish::Mark(cursor, seen) => Step::Write(marked(&known.record, *cursor, *seen), known.revision),
        Wish::Remove => Step::Delete(known.revision),
    }
}

/// The record of a session that was adopted so often.
fn fenced(record: &Arc<SessionRecord>, fence: u64) -> Arc<SessionRecord> {
    let mut record = record.clone();
    if record.fence != fence {
        Arc::make_mut(&mut record).fence = fence;
    }
    record
}

fn marked(record: &SessionRecord, cursor: Offset, seen: SystemTime) -> Arc<SessionRecord> {
    let mut record = record.clone();
    record.state.cursor = record.state.cursor.max(cursor);
    record.seen = seen;
    Arc::new(record)
}
