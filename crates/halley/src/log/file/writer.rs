//! The one writer: a thread that turns what waits into commits.
//!
//! Whatever arrived while the last commit was synced goes into the next one, so a commit grows with the load and no
//! timer is needed. Each commit is one batch in the journal and one `fdatasync`. Only when that has returned, the
//! events are visible, everyone is answered, and the follower gets them.
//!
//! An error of a commit is final. What it wrote may or may not be there, and only reading it all again can tell: so
//! nothing more is accepted, and the process has to be started again (a failed sync is never repeated: the kernel may
//! have thrown the pages away).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use bayeux::{ClientId, Offset};
use fjall::Keyspace;

use super::catalogue::{Catalogue, Kind};
use super::commit::{AnswerTo, Commit, Prepared};
use super::ids::Ids;
use super::keys;
use super::sessions::{Encoded, Mark, Sessions};
use super::shared::Shared;
use super::space::Space;
use super::witness::Witness;
use crate::log::retention::{Bucket, Buckets};
use crate::log::{LogError, Position};

pub(super) enum Command {
    Append(Vec<Prepared>, AnswerTo<Vec<Position>>),
    Session(Change, AnswerTo<()>),
    /// Removes those of the sessions that are still unseen since.
    Sweep(Vec<ClientId>, u64, AnswerTo<usize>),
    Retain(SystemTime, AnswerTo<()>),
    /// Is answered when everything before it can be read.
    Settle(AnswerTo<()>),
    End,
}

/// A write of a session.
pub(super) enum Change {
    Put(Encoded),
    Checkpoint(ClientId, Mark),
    Remove(ClientId),
    /// A key and its value.
    Keep(Vec<u8>, Vec<u8>),
    Drop(Vec<u8>),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) catalogue: Catalogue,
    pub(super) buckets: Buckets<Keyspace>,
    pub(super) ids: Ids,
    pub(super) sessions: Sessions,
    pub(super) space: Space,
    pub(super) witness: Witness,
    pub(super) next: Offset,
}

impl Writer {
    /// Works until it is told to end.
    pub(super) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        let _alarm = Alarm(self.shared.clone());
        let mut ended = false;
        while !ended && let Ok(first) = commands.recv() {
            let mut commit = Commit::new(&self.shared.db);
            let mut next = Some(first);
            while let Some(command) = next {
                ended = matches!(command, Command::End);
                self.take(command, &mut commit);
                next = if commit.has_room() && !ended {
                    commands.try_recv().ok()
                } else {
                    None
                };
            }
            self.finish(commit);
        }
    }

    /// Adds what a command asks for to the commit, or refuses it at once.
    fn take(&mut self, command: Command, commit: &mut Commit) {
        match command {
            Command::Append(events, answer) => match self.append(events, commit) {
                Ok(positions) => commit.answer_positions(answer, positions),
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::Session(change, answer) => match self.change(change, commit) {
                Ok(()) => commit.answer_done(answer),
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::Sweep(candidates, seen, answer) => {
                let removed = self.sessions.sweep(&mut commit.batch, candidates, seen);
                match removed.map_err(|error| self.stop(&error)) {
                    Ok(removed) => commit.answer_number(answer, removed),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Command::Retain(now, answer) => {
                self.expire(now, commit);
                commit.answer_done(answer);
            }
            Command::Settle(answer) => commit.answer_done(answer),
            Command::End => {}
        }
    }

    fn append(&mut self, events: Vec<Prepared>, commit: &mut Commit) -> Result<Vec<Position>, LogError> {
        if let Some(error) = self.shared.why_stopped() {
            return Err(error);
        }
        self.space
            .take(events.iter().map(Prepared::bytes).sum(), Instant::now())?;
        let positions: fjall::Result<_> = events
            .into_iter()
            .map(|event| self.place(event, commit))
            .collect();
        positions.map_err(|error| self.stop(&error))
    }

    fn place(&mut self, mut event: Prepared, commit: &mut Commit) -> fjall::Result<Position> {
        let offset = self.next;
        if let Some(id) = event.take_id() {
            if let Some(first) = self.ids.first(&id)? {
                return Ok(Position {
                    offset: first,
                    duplicate: true,
                });
            }
            self.ids
                .remember(&self.shared.db, &self.catalogue, commit, id, offset)?;
        }
        // One commit goes into one bucket.
        if commit.added.is_empty() && self.buckets.wants_new() {
            self.begin_bucket(commit)?;
        }
        let bucket = self.buckets.newest().expect("one was begun if there was none");
        bucket.bytes += event.bytes();
        event.write(commit, &bucket.events, offset);
        self.next = offset.next();
        Ok(Position {
            offset,
            duplicate: false,
        })
    }

    fn begin_bucket(&mut self, commit: &mut Commit) -> fjall::Result<()> {
        let (first, created) = (self.next, SystemTime::now());
        let Self {
            shared,
            catalogue,
            buckets,
            ..
        } = self;
        let events = catalogue.begin(&shared.db, &mut commit.batch, Kind::Events, first.0, created)?;
        let closed = buckets.begin(Bucket {
            first,
            created,
            bytes: 0,
            events,
        });
        commit.closed.extend(closed.map(|bucket| bucket.events.clone()));
        Ok(())
    }

    fn change(&mut self, change: Change, commit: &mut Commit) -> Result<(), LogError> {
        commit.session_writes += 1;
        let batch = &mut commit.batch;
        let done = match change {
            Change::Put(record) => self.sessions.put(batch, record),
            Change::Checkpoint(client_id, mark) => self.sessions.checkpoint(batch, client_id, mark),
            Change::Remove(client_id) => self.sessions.remove(batch, client_id).map(|_| ()),
            Change::Keep(key, value) => {
                self.sessions.keep(batch, key, value);
                Ok(())
            }
            Change::Drop(key) => {
                self.sessions.drop(batch, key);
                Ok(())
            }
        };
        done.map_err(|error| self.stop(&error))
    }

    fn expire(&mut self, now: SystemTime, commit: &mut Commit) {
        for bucket in self.buckets.expire(now, Instant::now()) {
            self.catalogue
                .strike(&mut commit.batch, Kind::Events, bucket.first.0);
            commit.gone.push(bucket.events);
        }
        while let Some((number, ids)) = self.ids.expire() {
            self.catalogue.strike(&mut commit.batch, Kind::Ids, number);
            commit.gone.push(ids);
        }
    }

    /// Commits, then lets everyone know.
    fn finish(&mut self, mut commit: Commit) {
        let answers = commit.take_answers();
        let session_writes = commit.session_writes;
        match self.commit(commit) {
            Ok(after) => {
                self.shared
                    .session_count
                    .store(self.sessions.count(), Ordering::Release);
                self.shared.done.fetch_add(session_writes, Ordering::Release);
                let follower = after.last.and_then(|last| self.shared.tail.advance(last));
                answers.send(&Ok(()));
                if let Some(follower) = follower {
                    follower.hand_over(after.added);
                }
                self.tidy(after.closed, after.gone);
            }
            Err(error) => answers.send(&Err(error)),
        }
    }

    fn commit(&mut self, mut commit: Commit) -> Result<Committed, LogError> {
        let last = commit.added.last().map(|event| event.delivery.offset());
        if let (Some(last), Some(bucket)) = (last, self.buckets.newest()) {
            commit
                .batch
                .insert(&bucket.events, keys::HEAD, keys::pair(last.0, bucket.bytes));
        }
        if let Some(error) = self.shared.why_stopped() {
            return Err(error);
        }
        let Commit {
            batch,
            added,
            closed,
            gone,
            ..
        } = commit;
        batch.commit().map_err(|error| self.stop(&error))?;
        if let Some(last) = last {
            self.witness
                .record(last)
                .map_err(|error| self.stop(&error.into()))?;
        }
        self.ids.committed();
        self.sessions.committed();
        self.shared
            .size_bytes
            .store(self.buckets.bytes(), Ordering::Release);
        // Before `last` moves on: a reader that sees it must find the bucket.
        self.shared.set_buckets(self.buckets.iter());
        Ok(Committed {
            last,
            added,
            closed,
            gone,
        })
    }

    /// Housekeeping that nobody waits for. If it fails, fjall takes no more commits, and the next one says so.
    fn tidy(&self, closed: Vec<Keyspace>, gone: Vec<Keyspace>) {
        for bucket in closed {
            // What is in memory of it would stay there, and pin its journal, until the bucket is dropped.
            if let Err(error) = bucket.rotate_memtable() {
                tracing::warn!(%error, bucket = &**bucket.name(), "cannot flush a closed bucket");
            }
        }
        for bucket in gone {
            if let Err(error) = self.shared.db.delete_keyspace(bucket) {
                tracing::warn!(%error, "cannot delete a dropped bucket: the next start does");
            }
        }
    }

    fn stop(&self, error: &fjall::Error) -> LogError {
        let error = LogError::Stopped(error.to_string().into());
        self.shared.stop(error.clone());
        error
    }
}

/// What is left to do after a commit.
struct Committed {
    last: Option<Offset>,
    added: Vec<crate::log::Appended>,
    closed: Vec<Keyspace>,
    gone: Vec<Keyspace>,
}

/// Tells everyone if the writer's thread is ended by a bug.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(LogError::Stopped("its writer has panicked".into()));
        }
    }
}
