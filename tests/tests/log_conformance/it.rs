//! A log under test, and short words for what the tests do with it.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bayeux::{ChannelName, ChannelPattern, Delivery, Offset, Traits};
use halley::event::{Audience, Event, Tenant, UserId};
use halley::log::{
    self, EventLog, Followed, Interest, Kind, Limit, LogError, Nodes, Opened, Page, Position, PresenceStore,
    SessionStore, Settings,
};
use halley_tests::{Nats, NatsCluster};
use serde_json::value::RawValue;
use tempfile::TempDir;

/// Where a test finds a log of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is gone with its handle.
    Nowhere,
    /// In a folder of the test's own.
    Folder,
    /// On a server that all tests share; the name is the test's own.
    Server,
}

impl Place {
    fn of(kind: &Kind) -> Self {
        match kind.scheme {
            "memory" => Self::Nowhere,
            "file" => Self::Folder,
            "nats" => Self::Server,
            other => panic!("say here where a test finds a log of the kind {other:?}"),
        }
    }
}

pub(crate) struct It {
    pub(crate) settings: Settings,
    kind: &'static Kind,
    /// Copies that servers keep, where there are any.
    copies: usize,
    folder: TempDir,
    opened: Option<Opened>,
}

/// One empty log of every kind.
pub(crate) fn every_kind() -> impl Iterator<Item = It> {
    log::ALL.iter().map(|kind| It::open(kind, settings()))
}

/// One empty log of every kind, set up in another way.
pub(crate) fn every_kind_with(change: impl Fn(&mut Settings)) -> impl Iterator<Item = It> {
    log::ALL.iter().map(move |kind| {
        let mut settings = settings();
        change(&mut settings);
        It::open(kind, settings)
    })
}

/// One empty log of every kind that drops whole buckets when it is told what time it is, as the settings say. The servers of a
/// shared log drop event by event, by their own clock: of them it is only tested what retention by bytes leaves.
pub(crate) fn every_kind_with_buckets() -> impl Iterator<Item = It> {
    every_kind_with_buckets_and(|_| {})
}

/// The same, set up in another way.
pub(crate) fn every_kind_with_buckets_and(change: impl Fn(&mut Settings)) -> impl Iterator<Item = It> {
    every_kind_with(change).filter(|it| Place::of(it.kind) != Place::Server)
}

/// One empty log of every kind that survives a restart: the others promise nothing about one.
pub(crate) fn every_durable_kind() -> impl Iterator<Item = It> {
    every_kind().filter(|it| Place::of(it.kind) != Place::Nowhere)
}

/// One empty log of every kind that several nodes can share: on one server, and in three copies.
pub(crate) fn every_shared_kind() -> impl Iterator<Item = It> {
    let shared = log::ALL.iter().filter(|kind| Place::of(kind) == Place::Server);
    shared.flat_map(|kind| [1, 3].map(|copies| It::open_in(copies, kind, settings())))
}

/// One empty log of every kind that has buckets and survives a restart.
pub(crate) fn every_durable_kind_with_buckets() -> impl Iterator<Item = It> {
    every_durable_kind().filter(|it| Place::of(it.kind) != Place::Server)
}

/// A `file:` log in a folder.
pub(crate) fn file(settings: Settings) -> It {
    let kind = log::ALL
        .iter()
        .find(|kind| kind.scheme == "file")
        .expect("there is a file: log");
    It::open(kind, settings)
}

pub(crate) fn settings() -> Settings {
    Settings {
        retention: Duration::from_secs(24 * 3600),
        retention_bytes: 1 << 30,
        dedup_window: Duration::from_secs(900),
        min_free_bytes: 0,
        ..Settings::default()
    }
}

/// One server for all logs of this process; it ends with it.
fn server() -> &'static Nats {
    static SERVER: LazyLock<Nats> = LazyLock::new(Nats::start);
    &SERVER
}

/// Three servers for all logs of this process that have copies; they end with it.
fn three_servers() -> &'static NatsCluster {
    static SERVERS: LazyLock<NatsCluster> = LazyLock::new(NatsCluster::three);
    &SERVERS
}

/// What nobody else calls a log on the server.
fn name() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("log{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl It {
    fn open(kind: &'static Kind, settings: Settings) -> Self {
        Self::open_in(1, kind, settings)
    }

    fn open_in(copies: usize, kind: &'static Kind, settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut settings = settings;
        settings.shared.name = name().into();
        settings.shared.replicas = copies;
        let mut it = Self {
            settings,
            kind,
            copies,
            folder,
            opened: None,
        };
        it.opened = Some(it.try_open().expect("an empty log opens"));
        it
    }

    /// Opens the log again, whether it is open or not.
    pub(crate) fn try_open(&self) -> Result<Opened, LogError> {
        let place = match Place::of(self.kind) {
            Place::Nowhere => String::new(),
            Place::Folder => self.path().display().to_string(),
            Place::Server if self.copies == 1 => server().url(),
            Place::Server => three_servers().url(),
        };
        (self.kind.open)(place.trim_start_matches("nats:"), &self.settings)
    }

    pub(crate) fn restart(&mut self) {
        self.opened = None;
        self.opened = Some(self.try_open().expect("the log opens again"));
    }

    pub(crate) fn close(&mut self) {
        self.opened = None;
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn log(&self) -> &Arc<dyn EventLog> {
        &self.opened.as_ref().expect("the log is open").log
    }

    pub(crate) fn sessions(&self) -> &Arc<dyn SessionStore> {
        &self.opened.as_ref().expect("the log is open").sessions
    }

    pub(crate) fn nodes(&self) -> &Arc<dyn Nodes> {
        &self.opened.as_ref().expect("the log is open").nodes
    }

    pub(crate) fn presence(&self) -> &Arc<dyn PresenceStore> {
        &self.opened.as_ref().expect("the log is open").presence
    }

    pub(crate) async fn append(&self, events: impl IntoIterator<Item = Event>) -> Vec<u64> {
        self.positions(events)
            .await
            .into_iter()
            .map(|position| position.offset.0)
            .collect()
    }

    pub(crate) async fn positions(&self, events: impl IntoIterator<Item = Event>) -> Vec<Position> {
        self.log()
            .append(events.into_iter().collect())
            .await
            .expect("the log takes events")
    }

    /// Reads everything after an offset, as the given user.
    pub(crate) async fn read(&self, who: Interest, after: u64) -> Page {
        self.page(who, after, 1_000_000).await
    }

    pub(crate) async fn page(&self, who: Interest, after: u64, events: usize) -> Page {
        let limit = Limit {
            events,
            bytes: usize::MAX,
        };
        self.log()
            .read(&who, Offset(after), limit)
            .await
            .expect("the log can be read")
    }

    pub(crate) fn bounds(&self) -> (u64, u64) {
        let bounds = self.log().bounds();
        (bounds.first.0, bounds.last.0)
    }
}

impl Drop for It {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "with the log {}:", self.kind.scheme);
        }
    }
}

pub(crate) fn everyone(channel: &str, data: &str) -> Event {
    event(Audience::Everyone, channel, data)
}

pub(crate) fn to(user: &str, channel: &str, data: &str) -> Event {
    event(Audience::User(UserId(user.into())), channel, data)
}

pub(crate) fn event(audience: Audience, channel: &str, data: &str) -> Event {
    let data = RawValue::from_string(data.to_owned()).expect("test data is JSON");
    Event {
        tenant: Tenant::default(),
        audience,
        channel: ChannelName::parse(channel).expect("a channel"),
        data,
        id: None,
        traits: Traits::default(),
    }
}

pub(crate) fn with_id(id: &str, mut event: Event) -> Event {
    event.id = Some(id.into());
    event
}

pub(crate) fn anybody(patterns: &[&str]) -> Interest {
    let patterns = patterns
        .iter()
        .map(|text| ChannelPattern::parse(text).expect("a pattern"));
    Interest {
        tenant: Tenant::default(),
        user: None,
        patterns: patterns.collect(),
    }
}

pub(crate) fn user(name: &str, patterns: &[&str]) -> Interest {
    Interest {
        user: Some(UserId(name.into())),
        ..anybody(patterns)
    }
}

pub(crate) fn offsets(events: &[Arc<Delivery>]) -> Vec<u64> {
    events.iter().map(|event| event.offset().0).collect()
}

/// The offsets of the next `count` events of a stream.
pub(crate) async fn next(followed: &mut Followed, count: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let wait = tokio::time::timeout(Duration::from_secs(10), followed.batches.recv());
        let batch = wait
            .await
            .expect("an event within ten seconds")
            .expect("the stream goes on");
        seen.extend(batch.iter().map(|event| event.delivery.offset().0));
    }
    seen
}
