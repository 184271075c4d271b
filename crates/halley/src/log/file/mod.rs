//! `file:PATH`: an embedded log on one disk, durable and searchable. The default.
//!
//! Underneath is [fjall](https://docs.rs/fjall), an ordered key-value store with a journal. What the files here add:
//!
//! - [`writer`]: one thread, group commit, one `fdatasync` for whatever waits;
//! - [`commit`]: what goes into a commit, and who waits for it;
//! - [`keys`]: a user's events are one range, and those of each channel are;
//! - [`catalogue`]: events and ids are in buckets by time, each a keyspace, so that forgetting is dropping one;
//! - [`ids`]: the publishers' event ids, in the same commits;
//! - [`sessions`]: the session records, in the same commits;
//! - [`reader`], [`merge`], [`scan`]: a page is the merge of the ranges that an interest touches;
//! - [`space`]: publishes are refused before the disk is full;
//! - [`journal`]: cuts off what a crash left unfinished, and finds damage, before fjall reads;
//! - [`witness`]: notices when acknowledged events are missing after a start;
//! - [`tuning`]: how fjall is set up.

mod catalogue;
mod commit;
mod ids;
mod journal;
mod keys;
mod merge;
mod reader;
mod scan;
mod sessions;
mod shared;
mod space;
mod tuning;
mod witness;
mod writer;

use std::collections::VecDeque;
use std::fs::TryLockError;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use bayeux::{ClientId, Offset};
use bytes::Bytes;
use fjall::{Database, Keyspace};
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use tokio::sync::oneshot;

use self::catalogue::{Catalogue, Kind, damaged};
use self::commit::{AnswerTo, Prepared};
use self::ids::Ids;
use self::reader::Reader;
use self::sessions::{Encoded, Mark, Sessions};
use self::shared::Shared;
use self::space::Space;
use self::witness::Witness;
use self::writer::{Change, Command, Writer};
use super::presence::{Keep, Register};
use super::retention::{Bucket, Buckets};
use super::{
    Alone, Bounds, Epoch, EventLog, Followed, Holder, Interest, Limit, LogError, Opened, Page, Position,
    Revocation, Revoked, SessionRecord, SessionStore, Settings, Wanted,
};
use crate::event::Event;

/// Sessions that the writer looks at for one sweep command.
const SWEEP: usize = 256;
const IN_USE: &str = "another process has it open";

/// Opens the log in a folder, or creates both.
pub(super) fn open(place: &str, settings: &Settings) -> Result<Opened, LogError> {
    if place.is_empty() {
        return Err(LogError::Unusable(
            "file: needs a folder, such as file:./halley-data".into(),
        ));
    }
    let path = Path::new(place);
    let db = open_database(path)?;
    let catalogue = Catalogue::open(&db)?;
    let (epoch, secret) = (catalogue.epoch.clone(), catalogue.secret.clone());
    let (buckets, last) = event_buckets(&catalogue, &db)?;
    let witness = Witness::open(path)?;
    witness.check(last)?;
    let ids = Ids::new(settings.dedup_window, catalogue.buckets(&db, Kind::Ids)?);
    let records = db.keyspace(sessions::NAME, tuning::small).map_err(unusable)?;
    let sessions = Sessions::open(records.clone())?;
    let present = sessions::presence(&records)?;
    let buckets = Buckets::new(buckets, settings, tuning::LARGEST_BUCKET);

    let shared = Arc::new(Shared::new(db, records, sessions.count(), last));
    shared.set_buckets(buckets.iter());
    shared.size_bytes.store(buckets.bytes(), Ordering::Release);
    let space = Space::new(path.to_owned(), settings.min_free_bytes);
    let next = last.next();
    let writer = Writer {
        shared: shared.clone(),
        catalogue,
        buckets,
        ids,
        sessions,
        space,
        witness,
        next,
    };
    let (commands, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.run(&receiver))
        .map_err(|error| LogError::Unusable(format!("cannot start the log's thread: {error}").into()))?;

    let presence = Register::new(present, keep_presence(commands.clone(), &shared));
    let reader = Reader::new(shared.clone());
    let file = Arc::new(File {
        epoch,
        secret,
        shared,
        reader,
        commands,
        thread: Some(thread),
    });
    Ok(Opened {
        nodes: Arc::new(Alone),
        presence: Arc::new(presence),
        log: file.clone(),
        sessions: file,
    })
}

/// Does not keep the folder from being free when the log is closed.
fn keep_presence(commands: mpsc::Sender<Command>, shared: &Arc<Shared>) -> Keep {
    let shared = Arc::downgrade(shared);
    Box::new(move |whose, entry| {
        let key = sessions::presence_key(whose);
        let change = match entry {
            None => Ok(Change::Drop(key)),
            Some((revision, attendance)) => {
                sessions::encode_presence(revision, attendance).map(|value| Change::Keep(key, value))
            }
        };
        match (change, shared.upgrade()) {
            (Ok(change), Some(shared)) => change_session(&commands, &shared, change),
            (Ok(_), None) => future::ready(Err(LogError::Stopped("it is closed".into()))).boxed(),
            (Err(error), _) => future::ready(Err(error)).boxed(),
        }
    })
}

fn change_session(
    commands: &mpsc::Sender<Command>,
    shared: &Shared,
    change: Change,
) -> BoxFuture<'static, Result<(), LogError>> {
    shared.called.fetch_add(1, Ordering::AcqRel);
    ask(commands, |answer| Command::Session(change, answer))
}

/// The buckets of events, oldest first, and the last offset.
fn event_buckets(
    catalogue: &Catalogue,
    db: &Database,
) -> Result<(VecDeque<Bucket<Keyspace>>, Offset), LogError> {
    let mut buckets = VecDeque::new();
    let mut last = None;
    for found in catalogue.buckets(db, Kind::Events)? {
        let name = found.keyspace.name().clone();
        if last.is_some_and(|last: u64| found.number != last + 1) {
            return Err(damaged(&format!("events before {} are missing", &*name)));
        }
        let head = found.keyspace.get(keys::HEAD).map_err(unusable)?;
        let Some((end, bytes)) = head.as_deref().and_then(keys::split_pair) else {
            return Err(damaged(&format!("{} has no head", &*name)));
        };
        last = Some(end);
        let first = Offset(found.number);
        buckets.push_back(Bucket {
            first,
            created: found.created,
            bytes,
            events: found.keyspace,
        });
    }
    Ok((buckets, last.map_or(Offset::START, Offset)))
}

struct File {
    epoch: Epoch,
    secret: Bytes,
    shared: Arc<Shared>,
    reader: Reader,
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl EventLog for File {
    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn append(&self, events: Vec<Event>) -> BoxFuture<'static, Result<Vec<Position>, LogError>> {
        match events.into_iter().map(Prepared::new).collect() {
            Ok(events) => ask(&self.commands, |answer| Command::Append(events, answer)),
            Err(error) => future::ready(Err(error)).boxed(),
        }
    }

    fn bounds(&self) -> Bounds {
        let last = self.shared.tail.last();
        let first = self
            .shared
            .buckets()
            .first()
            .map_or(last.next(), |bucket| bucket.first);
        Bounds { first, last }
    }

    fn read(
        &self,
        interest: &Interest,
        after: Offset,
        limit: Limit,
    ) -> BoxFuture<'static, Result<Page, LogError>> {
        self.reader.page(interest.clone(), after, limit)
    }

    fn follow(&self) -> Followed {
        self.shared.tail.follow()
    }

    fn retain(&self, now: SystemTime) -> BoxFuture<'static, Result<(), LogError>> {
        ask(&self.commands, |answer| Command::Retain(now, answer))
    }

    fn stopped(&self) -> BoxFuture<'static, LogError> {
        self.shared.stopped()
    }

    fn size_bytes(&self) -> u64 {
        self.shared.size_bytes.load(Ordering::Acquire)
    }

    fn describe(&self) -> Vec<String> {
        vec!["log: on this machine's disk, synced before every 201; one copy".to_owned()]
    }
}

impl SessionStore for File {
    fn put(&self, record: SessionRecord) -> BoxFuture<'static, Result<(), LogError>> {
        match Encoded::new(&record) {
            Ok(record) => self.change(Change::Put(record)),
            Err(error) => future::ready(Err(error)).boxed(),
        }
    }

    fn checkpoint(
        &self,
        client_id: &ClientId,
        cursor: Offset,
        seen: SystemTime,
    ) -> BoxFuture<'static, Result<(), LogError>> {
        let mark = Mark {
            cursor,
            seen: sessions::nanos(seen),
        };
        self.change(Change::Checkpoint(client_id.clone(), mark))
    }

    fn get(&self, client_id: &ClientId) -> BoxFuture<'static, Result<Option<SessionRecord>, LogError>> {
        let record = self.reader.record(client_id.clone());
        if self.shared.sessions_are_settled() {
            return record;
        }
        let settled = ask(&self.commands, Command::Settle);
        async { settled.await.map(|()| record)?.await }.boxed()
    }

    fn adopt(
        &self,
        client_id: &ClientId,
        _: Holder,
    ) -> BoxFuture<'static, Result<Option<SessionRecord>, LogError>> {
        self.get(client_id)
    }

    fn find(&self, wanted: Wanted) -> BoxFuture<'static, Result<Vec<ClientId>, LogError>> {
        let settled = ask(&self.commands, Command::Settle);
        let reader = self.reader.clone();
        async move {
            settled.await?;
            reader.find(wanted).await
        }
        .boxed()
    }

    fn remove(&self, client_id: &ClientId) -> BoxFuture<'static, Result<(), LogError>> {
        self.change(Change::Remove(client_id.clone()))
    }

    fn sweep(&self, seen: SystemTime) -> BoxFuture<'static, Result<usize, LogError>> {
        let seen = sessions::nanos(seen);
        let settled = ask(&self.commands, Command::Settle);
        let (reader, commands) = (self.reader.clone(), self.commands.clone());
        async move {
            settled.await?;
            let mut removed = 0;
            // The search is a reader's work; the writer only looks again at what was found.
            for found in reader.unseen_since(seen).await?.chunks(SWEEP) {
                let found = found.to_vec();
                removed += ask(&commands, |answer| Command::Sweep(found, seen, answer)).await?;
            }
            Ok(removed)
        }
        .boxed()
    }

    fn revoke(&self, revocation: Revocation) -> BoxFuture<'static, Result<(), LogError>> {
        match sessions::encode_revocation(&revocation) {
            Ok((key, value)) => self.change(Change::Keep(key, value)),
            Err(error) => future::ready(Err(error)).boxed(),
        }
    }

    fn pardon(&self, what: &Revoked) -> BoxFuture<'static, Result<(), LogError>> {
        match sessions::revocation_key(what) {
            Ok(key) => self.change(Change::Drop(key)),
            Err(error) => future::ready(Err(error)).boxed(),
        }
    }

    fn revocations(&self) -> BoxFuture<'static, Result<Vec<Revocation>, LogError>> {
        let settled = ask(&self.commands, Command::Settle);
        let reader = self.reader.clone();
        async move {
            settled.await?;
            reader.revocations().await
        }
        .boxed()
    }

    fn count(&self) -> u64 {
        self.shared.session_count.load(Ordering::Acquire)
    }

    fn secret(&self) -> Bytes {
        self.secret.clone()
    }
}

impl File {
    fn change(&self, change: Change) -> BoxFuture<'static, Result<(), LogError>> {
        change_session(&self.commands, &self.shared, change)
    }
}

impl Drop for File {
    /// Ends the writer when it has done what was called before, so that the folder is free when this returns.
    fn drop(&mut self) {
        self.shared.tail.close();
        let _ = self.commands.send(Command::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a command now, and waits for its answer later.
fn ask<T: Send + 'static>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(AnswerTo<T>) -> Command,
) -> BoxFuture<'static, Result<T, LogError>> {
    let (sender, answer) = oneshot::channel();
    // A writer that is gone drops the sender, and the answer says so.
    let _ = commands.send(command(sender));
    async {
        answer
            .await
            .unwrap_or_else(|_| Err(LogError::Stopped("its writer has ended".into())))
    }
    .boxed()
}

/// Opens the database, when its journals are in order and nobody else has it.
fn open_database(path: &Path) -> Result<Database, LogError> {
    let why = |why: &str| LogError::Unusable(format!("cannot open the log in {path:?}: {why}").into());
    if let Ok(lock) = std::fs::File::open(path.join("lock")) {
        // fjall takes the same lock, but only after the journals were looked through: that must be safe already.
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(why(IN_USE));
        }
        journal::mend(path)?;
    }
    tuning::open(path).map_err(|error| {
        if matches!(error, fjall::Error::Locked) {
            why(IN_USE)
        } else if matches!(error, fjall::Error::InvalidVersion(_)) {
            why("it was written by another version of the storage engine")
        } else {
            why(&error.to_string())
        }
    })
}

fn unusable(error: fjall::Error) -> LogError {
    LogError::Unusable(format!("reading the log failed: {error}").into())
}
