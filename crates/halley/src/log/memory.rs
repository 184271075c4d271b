//! `memory:`: everything in memory, gone with the process. For tests, and to see what a disk costs.
//!
//! It keeps the same promises as the other kinds but that of durability, with the same parts: one writer thread gives
//! the order, [`Tail`] the follower, [`Buckets`] the retention.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bayeux::{ClientId, Draft, Offset};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::presence::Register;
use super::retention::{Bucket, Buckets};
use super::tail::Tail;
use super::{
    Alone, Appended, Bounds, Epoch, EventLog, Followed, Holder, Interest, Limit, LogError, Opened, Page,
    Position, Revocation, Revoked, SessionRecord, SessionStore, Settings, Wanted, random_epoch,
    random_secret,
};
use crate::event::{Audience, Event, wall_clock};

/// Opens an empty log. There is no place to name: `memory:` is all.
pub(super) fn open(place: &str, settings: &Settings) -> Result<Opened, LogError> {
    if !place.is_empty() {
        return Err(LogError::Unusable(
            format!("memory: has no place, but {place:?} was given").into(),
        ));
    }
    let shared = Arc::new(Shared {
        tail: Tail::new(Offset::START),
        kept: RwLock::new(Buckets::new(VecDeque::new(), settings, u64::MAX)),
    });
    let (commands, receiver) = mpsc::channel();
    let writer = Writer {
        shared: shared.clone(),
        next: Offset::START.next(),
        ids: Ids::new(settings.dedup_window),
    };
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.run(&receiver))
        .map_err(|error| LogError::Unusable(format!("cannot start the log's thread: {error}").into()))?;
    let log = Arc::new(Memory {
        epoch: random_epoch()?,
        shared,
        commands,
        thread: Some(thread),
    });
    Ok(Opened {
        log,
        nodes: Arc::new(Alone),
        presence: Arc::new(Register::default()),
        sessions: Arc::new(Sessions {
            records: Mutex::default(),
            revocations: Mutex::default(),
            secret: random_secret()?,
        }),
    })
}

struct Memory {
    epoch: Epoch,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    tail: Tail,
    kept: RwLock<Buckets<Vec<Appended>>>,
}

enum Command {
    Append(Vec<Event>, oneshot::Sender<Vec<Position>>),
    End,
}

impl EventLog for Memory {
    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn append(&self, events: Vec<Event>) -> BoxFuture<'static, Result<Vec<Position>, LogError>> {
        let (sender, answer) = oneshot::channel();
        // A writer that is gone drops the sender, and the answer says so.
        let _ = self.commands.send(Command::Append(events, sender));
        async {
            answer
                .await
                .map_err(|_| LogError::Stopped("its writer has ended".into()))
        }
        .boxed()
    }

    fn bounds(&self) -> Bounds {
        let kept = self.shared.kept.read();
        let last = self.shared.tail.last();
        Bounds {
            first: kept.iter().next().map_or(last.next(), |bucket| bucket.first),
            last,
        }
    }

    fn read(
        &self,
        interest: &Interest,
        after: Offset,
        limit: Limit,
    ) -> BoxFuture<'static, Result<Page, LogError>> {
        let kept = self.shared.kept.read();
        let through = self.shared.tail.last();
        let first = kept.iter().next().map_or(through.next(), |bucket| bucket.first);
        let mut page = Page {
            events: Vec::new(),
            through,
            gap: (first > after.next()).then_some(first),
        };
        let mut bytes = 0;
        for event in kept.iter().flat_map(|bucket| &bucket.events) {
            let offset = event.delivery.offset();
            if offset <= after || offset > through || !wants(interest, event) {
                continue;
            }
            let full = page.events.len() >= limit.events || bytes + event.delivery.size() > limit.bytes;
            if let (true, Some(newest)) = (full, page.events.last()) {
                page.through = newest.offset();
                break;
            }
            bytes += event.delivery.size();
            page.events.push(event.delivery.clone());
        }
        future::ready(Ok(page)).boxed()
    }

    fn follow(&self) -> Followed {
        self.shared.tail.follow()
    }

    fn retain(&self, now: SystemTime) -> BoxFuture<'static, Result<(), LogError>> {
        self.shared.kept.write().expire(now, Instant::now());
        future::ready(Ok(())).boxed()
    }

    fn stopped(&self) -> BoxFuture<'static, LogError> {
        future::pending().boxed()
    }

    fn size_bytes(&self) -> u64 {
        self.shared.kept.read().bytes()
    }

    fn describe(&self) -> Vec<String> {
        vec!["log: in memory, gone with this process".to_owned()]
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.shared.tail.close();
        let _ = self.commands.send(Command::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn wants(interest: &Interest, event: &Appended) -> bool {
    let mine = match &event.audience {
        Audience::Everyone => true,
        Audience::User(user) => interest.user.as_ref() == Some(user),
    };
    mine && interest.tenant == event.tenant
        && interest
            .patterns
            .iter()
            .any(|pattern| pattern.matches(event.delivery.channel()))
}

/// Gives every event its place, and waits for the follower so that nobody else has to.
struct Writer {
    shared: Arc<Shared>,
    next: Offset,
    ids: Ids,
}

impl Writer {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        while let Ok(Command::Append(events, answer)) = commands.recv() {
            let before = self.next;
            let now = Instant::now();
            self.ids.forget(now);
            let mut added = Vec::with_capacity(events.len());
            let positions = events
                .into_iter()
                .map(|event| self.place(event, now, &mut added))
                .collect();
            if self.next > before {
                self.keep(&added);
                if let Some(follower) = self.shared.tail.advance(Offset(self.next.0 - 1)) {
                    follower.hand_over(added);
                }
            }
            // Nobody may be waiting any more: the event is in the log all the same.
            let _ = answer.send(positions);
        }
    }

    fn place(&mut self, event: Event, now: Instant, added: &mut Vec<Appended>) -> Position {
        let offset = self.next;
        if let Some(id) = event.id {
            if let Some(first) = self.ids.first(&id) {
                return Position {
                    offset: first,
                    duplicate: true,
                };
            }
            self.ids.remember(id, offset, now);
        }
        let draft = Draft::new(event.channel, &event.data, &event.traits, wall_clock());
        let delivery = Arc::new(draft.at(offset));
        added.push(Appended {
            tenant: event.tenant,
            audience: event.audience,
            delivery,
        });
        self.next = offset.next();
        Position {
            offset,
            duplicate: false,
        }
    }

    fn keep(&self, added: &[Appended]) {
        let mut kept = self.shared.kept.write();
        let bytes = added
            .iter()
            .map(|event| event.delivery.size() as u64)
            .sum::<u64>();
        if kept.wants_new() {
            let first = Offset(self.next.0 - added.len() as u64);
            kept.begin(Bucket {
                first,
                created: SystemTime::now(),
                bytes: 0,
                events: Vec::new(),
            });
        }
        let bucket = kept.newest().expect("one was begun if there was none");
        bucket.bytes += bytes;
        bucket.events.extend_from_slice(added);
    }
}

/// The event ids of the de-duplication window.
struct Ids {
    window: Duration,
    offset_by_id: HashMap<Arc<str>, Offset>,
    by_age: VecDeque<(Instant, Arc<str>)>,
}

impl Ids {
    fn new(window: Duration) -> Self {
        Self {
            window,
            offset_by_id: HashMap::new(),
            by_age: VecDeque::new(),
        }
    }

    fn first(&self, id: &str) -> Option<Offset> {
        self.offset_by_id.get(id).copied()
    }

    fn remember(&mut self, id: Box<str>, offset: Offset, now: Instant) {
        let id: Arc<str> = id.into();
        self.offset_by_id.insert(id.clone(), offset);
        self.by_age.push_back((now, id));
    }

    fn forget(&mut self, now: Instant) {
        while self
            .by_age
            .front()
            .is_some_and(|(then, _)| now.duration_since(*then) > self.window)
        {
            if let Some((_, id)) = self.by_age.pop_front() {
                self.offset_by_id.remove(&id);
            }
        }
    }
}

struct Sessions {
    records: Mutex<HashMap<ClientId, SessionRecord>>,
    revocations: Mutex<HashMap<Revoked, Revocation>>,
    secret: Bytes,
}

impl SessionStore for Sessions {
    fn put(&self, record: SessionRecord) -> BoxFuture<'static, Result<(), LogError>> {
        self.records.lock().insert(record.client_id.clone(), record);
        future::ready(Ok(())).boxed()
    }

    fn checkpoint(
        &self,
        client_id: &ClientId,
        cursor: Offset,
        seen: SystemTime,
    ) -> BoxFuture<'static, Result<(), LogError>> {
        if let Some(record) = self.records.lock().get_mut(client_id) {
            record.state.cursor = record.state.cursor.max(cursor);
            record.seen = seen;
        }
        future::ready(Ok(())).boxed()
    }

    fn get(&self, client_id: &ClientId) -> BoxFuture<'static, Result<Option<SessionRecord>, LogError>> {
        future::ready(Ok(self.records.lock().get(client_id).cloned())).boxed()
    }

    fn adopt(
        &self,
        client_id: &ClientId,
        _: Holder,
    ) -> BoxFuture<'static, Result<Option<SessionRecord>, LogError>> {
        self.get(client_id)
    }

    fn find(&self, wanted: Wanted) -> BoxFuture<'static, Result<Vec<ClientId>, LogError>> {
        let records = self.records.lock();
        let found = records.values().filter(|record| wanted(record));
        future::ready(Ok(found.map(|record| record.client_id.clone()).collect())).boxed()
    }

    fn remove(&self, client_id: &ClientId) -> BoxFuture<'static, Result<(), LogError>> {
        self.records.lock().remove(client_id);
        future::ready(Ok(())).boxed()
    }

    fn sweep(&self, seen: SystemTime) -> BoxFuture<'static, Result<usize, LogError>> {
        let mut records = self.records.lock();
        let before = records.len();
        records.retain(|_, record| record.seen >= seen);
        future::ready(Ok(before - records.len())).boxed()
    }

    fn revoke(&self, revocation: Revocation) -> BoxFuture<'static, Result<(), LogError>> {
        let what = revocation.what.clone();
        self.revocations.lock().insert(what, revocation);
        future::ready(Ok(())).boxed()
    }

    fn pardon(&self, what: &Revoked) -> BoxFuture<'static, Result<(), LogError>> {
        self.revocations.lock().remove(what);
        future::ready(Ok(())).boxed()
    }

    fn revocations(&self) -> BoxFuture<'static, Result<Vec<Revocation>, LogError>> {
        let all = self.revocations.lock().values().cloned().collect();
        future::ready(Ok(all)).boxed()
    }

    fn count(&self) -> u64 {
        self.records.lock().len() as u64
    }

    fn secret(&self) -> Bytes {
        self.secret.clone()
    }
}
