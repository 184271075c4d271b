//! Session records in a bucket that several nodes share.
//!
//! | key | value |
//! |---|---|
//! | SHA-256 of the client id, in hexadecimal | the record as JSON; `Halley-Seen` in its head: when it was seen last, in nanoseconds |
//!
//! A clientId speaks for its session, so keys do not have it. Which node may write is decided by [`Hold`], one for each
//! session that this node has.

mod hold;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use async_nats::jetstream::Message;
use bayeux::{ClientId, Offset};
use bytes::Bytes;
use futures::future::{self, BoxFuture};
use futures::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

use super::bucket::Bucket;
use super::meta::{Meta, hash};
use super::{Core, ended};
use crate::log::{Holder, LogError, Revocation, Revoked, SessionRecord, SessionStore, Wanted};
use hold::{Answer, Hold, NOTHING, Outcome, Revision, Step};

const SEEN: &str = "Halley-Seen";
/// Writes on their way at once. More would wait for the servers, and time that they wait there counts.
const AT_ONCE: usize = 1024;
/// How long a record is let rest that is not as it was answered to be.
const LATER: Duration = Duration::from_millis(100);
/// Deletions of a sweep on their way at once.
const SWEPT_AT_ONCE: usize = 32;
/// How often the servers are asked how many records there are.
const COUNTED_EVERY: Duration = Duration::from_secs(1);
/// How many counts in a row are not taken at most, since records came and went meanwhile.
const INEXACT: u8 = 10;

type Waiting = oneshot::Sender<Answer>;

/// The session records of this log.
pub(super) struct Sessions(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    bucket: Bucket,
    meta: Meta,
    held_by_key: Mutex<HashMap<Arc<str>, Held>>,
    lost: Mutex<Option<mpsc::UnboundedSender<ClientId>>>,
    on_their_way: Semaphore,
    count: Count,
}

struct Held {
    client_id: ClientId,
    hold: Hold<Waiting>,
}

impl Sessions {
    /// Opens the buckets, and makes them if there are none.
    pub(super) async fn open(core: Arc<Core>) -> Result<Arc<dyn SessionStore>, LogError> {
        // A record is refreshed while its session lives, and swept when it is not. This is for what nobody sweeps.
        let max_age = core.settings.records_for * 2 + Duration::from_secs(600);
        let inner = Arc::new(Inner {
            bucket: Bucket::open(core.clone(), &core.names.sessions_bucket(), max_age).await?,
            meta: Meta::open(core.clone()).await?,
            held_by_key: Mutex::default(),
            lost: Mutex::default(),
            on_their_way: Semaphore::new(AT_ONCE),
            count: Count::default(),
            core,
        });
        inner.recount().await?;
        inner.core.runtime.spawn(keep_counting(Arc::downgrade(&inner)));
        Ok(Arc::new(Self(inner)))
    }

    fn done(
        &self,
        client_id: &ClientId,
        call: impl FnOnce(&mut Hold<Waiting>, Waiting),
    ) -> BoxFuture<'static, Result<(), LogError>> {
        self.0
            .call(client_id, call)
            .map(|answer| answer.map(drop))
            .boxed()
    }
}

impl SessionStore for Sessions {
    fn put(&self, record: SessionRecord) -> BoxFuture<'static, Result<(), LogError>> {
        let client_id = record.client_id.clone();
        self.done(&client_id, |hold, waiting| hold.put(record, waiting))
    }

    fn checkpoint(
        &self,
        client_id: &ClientId,
        cursor: Offset,
        seen: SystemTime,
    ) -> BoxFuture<'static, Result<(), LogError>> {
        self.done(client_id, |hold, waiting| hold.checkpoint(cursor, seen, waiting))
    }

    fn get(&self, client_id: &ClientId) -> BoxFuture<'static, Result<Option<SessionRecord>, LogError>> {
        self.0.call(client_id, Hold::get)
    }

    fn adopt(
        &self,
        client_id: &ClientId,
        from: Holder,
    ) -> BoxFuture<'static, Result<Option<SessionRecord>, LogError>> {
        self.0.call(client_id, |hold, waiting| hold.adopt(from, waiting))
    }

    fn lost(&self) -> mpsc::UnboundedReceiver<ClientId> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.lost.lock() = Some(sender);
        receiver
    }

    fn release(&self, client_id: &ClientId) {
        let key: Arc<str> = hash(client_id.as_str().as_bytes()).into();
        // What is not held need not be given up.
        if self.0.held_by_key.lock().contains_key(&key) {
            self.0.enter(client_id, key, Hold::release);
        }
    }

    fn find(&self, wanted: Wanted) -> BoxFuture<'static, Result<Vec<ClientId>, LogError>> {
        let (inner, settled) = (self.0.clone(), self.0.settled());
        self.0.core.ask(async move {
            settled.await;
            inner.find(wanted).await
        })
    }

    fn remove(&self, client_id: &ClientId) -> BoxFuture<'static, Result<(), LogError>> {
        self.done(client_id, Hold::remove)
    }

    fn sweep(&self, seen: SystemTime) -> BoxFuture<'static, Result<usize, LogError>> {
        let (inner, settled) = (self.0.clone(), self.0.settled());
        self.0.core.ask(async move {
            settled.await;
            if !inner.meta.may_sweep().await? {
                debug!("another node sweeps");
                return Ok(0);
            }
            inner.sweep(seen).await
        })
    }

    fn revoke(&self, revocation: Revocation) -> BoxFuture<'static, Result<(), LogError>> {
        self.0.meta.revoke(&revocation)
    }

    fn pardon(&self, what: &Revoked) -> BoxFuture<'static, Result<(), LogError>> {
        self.0.meta.pardon(what)
    }

    fn revocations(&self) -> BoxFuture<'static, Result<Vec<Revocation>, LogError>> {
        self.0.meta.revocations()
    }

    fn count(&self) -> u64 {
        self.0.count.now()
    }

    fn secret(&self) -> Bytes {
        self.0.meta.secret()
    }
}

impl Inner {
    fn call(
        self: &Arc<Self>,
        client_id: &ClientId,
        call: impl FnOnce(&mut Hold<Waiting>, Waiting),
    ) -> BoxFuture<'static, Answer> {
        let (sender, answer) = oneshot::channel();
        let key = hash(client_id.as_str().as_bytes()).into();
        self.enter(client_id, key, |hold| call(hold, sender));
        async { answer.await.unwrap_or_else(|_| Err(ended())) }.boxed()
    }

    /// Has something come in, and begins what is to be done then.
    fn enter(self: &Arc<Self>, client_id: &ClientId, key: Arc<str>, change: impl FnOnce(&mut Hold<Waiting>)) {
        let mut held_by_key = self.held_by_key.lock();
        let held = held_by_key.entry(key.clone()).or_insert_with(|| Held {
            client_id: client_id.clone(),
            hold: Hold::new(self.core.me.clone()),
        });
        change(&mut held.hold);
        let step = self.heed(&mut held_by_key, &key);
        drop(held_by_key);
        if let Some(step) = step {
            let work = Work {
                inner: self.clone(),
                key,
                is_done: false,
            };
            self.core.spawn(work.run(step));
        }
    }

    /// Does what a hold says after something came in, but for the step.
    fn heed(&self, held_by_key: &mut HashMap<Arc<str>, Held>, key: &Arc<str>) -> Option<Step> {
        let held = held_by_key.get_mut(key)?;
        let step = held.hold.poll_step();
        while let Some((waiting, answer)) = held.hold.poll_answer() {
            // Nobody may be waiting any more.
            let _ = waiting.send(answer);
        }
        if held.hold.poll_lost() {
            debug!(client = ?held.client_id, "another node has taken a session");
            if let Some(lost) = &*self.lost.lock() {
                let _ = lost.send(held.client_id.clone());
            }
        }
        if held.hold.is_empty() {
            held_by_key.remove(key);
        }
        step
    }

    async fn perform(&self, key: &str, step: Step) -> Outcome {
        let result = match step {
            Step::Read => self.read(key).await,
            Step::ReadLater => {
                tokio::time::sleep(LATER).await;
                self.read(key).await
            }
            Step::Write(record, over) => self.write(key, &record, over).await,
            Step::Delete(revision) => self.delete(revision).await,
        };
        result.unwrap_or_else(Outcome::Failed)
    }

    async fn read(&self, key: &str) -> Result<Outcome, LogError> {
        let Some(value) = self.bucket.read(key).await? else {
            return Ok(Outcome::Read(None));
        };
        let record = decode(&value.data)?;
        Ok(Outcome::Read(Some((value.revision, Arc::new(record)))))
    }

    async fn write(&self, key: &str, record: &SessionRecord, over: Revision) -> Result<Outcome, LogError> {
        let json = serde_json::to_vec(record).map_err(|error| {
            LogError::Unusable(format!("a session record has no JSON form: {error}").into())
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(SEEN, nanos(record.seen).to_string());
        let _on_its_way = self.on_their_way.acquire().await;
        let written = self.bucket.write(key, headers, json.into(), over).await?;
        if written.is_some() && over == NOTHING {
            self.count.add(1);
        }
        Ok(written.map_or(Outcome::Refused, Outcome::Written))
    }

    async fn delete(&self, revision: Revision) -> Result<Outcome, LogError> {
        let _on_its_way = self.on_their_way.acquire().await;
        let deleted = self.bucket.delete(revision).await?;
        if deleted {
            self.count.add(-1);
        }
        Ok(if deleted {
            Outcome::Deleted
        } else {
            Outcome::Refused
        })
    }

    /// Resolves when everything has been answered that was called before.
    fn settled(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let mut all = Vec::new();
        let mut held_by_key = self.held_by_key.lock();
        for held in held_by_key.values_mut().filter(|held| held.hold.is_busy()) {
            let (sender, answer) = oneshot::channel();
            held.hold.settle(sender);
            all.push(answer);
        }
        drop(held_by_key);
        future::join_all(all).map(drop)
    }

    async fn find(&self, wanted: Wanted) -> Result<Vec<ClientId>, LogError> {
        let mut found: HashMap<String, Option<ClientId>> = HashMap::new();
        let known = &mut found;
        let each = move |message: &Message| match decode(&message.payload) {
            // One that changes meanwhile comes twice: the later counts.
            Ok(record) => {
                let is_wanted = wanted(&record).then_some(record.client_id);
                known.insert(message.subject.to_string(), is_wanted);
            }
            Err(error) => warn!(%error, "a session record cannot be read"),
        };
        self.bucket.scan("*", false, each).await?;
        Ok(found.into_values().flatten().collect())
    }

    async fn sweep(&self, seen: SystemTime) -> Result<usize, LogError> {
        let mut unseen: Vec<(Arc<str>, Revision)> = Vec::new();
        let each = |message: &Message| {
            let head = message.headers.as_ref().and_then(|headers| headers.get(SEEN));
            let last = head.and_then(|value| value.as_str().parse::<u64>().ok());
            let (Some(last), Ok(info), Some(key)) = (last, message.info(), self.bucket.key(message)) else {
                warn!(subject = %message.subject, "a session record does not say when it was seen");
                return;
            };
            if last < nanos(seen) {
                unseen.push((key.into(), info.stream_sequence));
            }
        };
        self.bucket.scan("*", true, each).await?;
        let deletions = unseen.into_iter().map(|(key, revision)| async move {
            // Whoever was seen meanwhile has another revision, and stays.
            let deleted = self.bucket.delete(revision).await?;
            if deleted {
                self.count.add(-1);
                self.forget_swept(&key, revision);
            }
            Ok(usize::from(deleted))
        });
        let swept: Vec<Result<usize, LogError>> = stream::iter(deletions)
            .buffer_unordered(SWEPT_AT_ONCE)
            .collect()
            .await;
        swept.into_iter().sum()
    }

    fn forget_swept(&self, key: &Arc<str>, revision: Revision) {
        let mut held_by_key = self.held_by_key.lock();
        if let Some(held) = held_by_key.get_mut(key) {
            held.hold.handle_swept(revision);
            if held.hold.is_empty() {
                held_by_key.remove(key);
            }
        }
    }

    /// Asks the servers how many records there are.
    async fn recount(&self) -> Result<(), LogError> {
        let before = self.count.changes.load(Ordering::Acquire);
        let there = i64::try_from(self.bucket.count().await?).unwrap_or(i64::MAX);
        self.count.set(there, before);
        Ok(())
    }
}

async fn keep_counting(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(COUNTED_EVERY).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        if let Err(error) = inner.recount().await {
            debug!(%error, "the records are not counted");
        }
    }
}

/// Does the steps of one session, until there is none left.
struct Work {
    inner: Arc<Inner>,
    key: Arc<str>,
    is_done: bool,
}

impl Work {
    async fn run(mut self, first: Step) {
        let mut next = Some(first);
        while let Some(step) = next {
            let outcome = self.inner.perform(&self.key, step).await;
            let mut held_by_key = self.inner.held_by_key.lock();
            let Some(held) = held_by_key.get_mut(&self.key) else {
                break;
            };
            held.hold.handle_outcome(outcome);
            next = self.inner.heed(&mut held_by_key, &self.key);
        }
        self.is_done = true;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // The thread has ended in the middle: whoever waits hears it.
        if !self.is_done {
            self.inner.held_by_key.lock().remove(&self.key);
        }
    }
}

/// How many records there are: as the servers said last, and what this node did since.
#[derive(Default)]
struct Count {
    records: AtomicI64,
    /// What this node has ever added and removed.
    changes: AtomicI64,
    /// How many counts in a row were not taken.
    inexact: AtomicU8,
}

impl Count {
    fn now(&self) -> u64 {
        let changes = self.changes.load(Ordering::Acquire);
        u64::try_from(self.records.load(Ordering::Acquire) + changes).unwrap_or_default()
    }

    fn add(&self, change: i64) {
        self.changes.fetch_add(change, Ordering::AcqRel);
    }

    /// `there` records were there some time since `before`. When something changed in between, it may be counted or not: then
    /// the next time tells, unless it is so every time.
    fn set(&self, there: i64, before: i64) {
        let is_exact = self.changes.load(Ordering::Acquire) == before;
        if is_exact || self.inexact.fetch_add(1, Ordering::AcqRel) >= INEXACT {
            self.records.store(there - before, Ordering::Release);
            self.inexact.store(0, Ordering::Release);
        }
    }
}

fn decode(json: &[u8]) -> Result<SessionRecord, LogError> {
    serde_json::from_slice(json)
        .map_err(|error| LogError::Unusable(format!("a session record is none: {error}").into()))
}

fn nanos(time: SystemTime) -> u64 {
    let nanos = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}
