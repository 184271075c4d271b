//! `nats://HOST:PORT,HOST:PORT`: a log that several nodes share, on NATS JetStream.
//!
//! A thread of its own with a runtime of its own does everything with the servers, so that futures of this log can be awaited on
//! any other:
//!
//! - [`connect`]: the connection, and whether it is there;
//! - [`setup`]: the stream of the events; [`passing`], whether servers are about to be ready for it;
//! - [`subjects`]: how users and channels are written into subjects;
//! - [`message`]: an event as a message, and back;
//! - [`append`]: publishing, in the order of the calls;
//! - [`follow`]: the one consumer of this node, whatever happens to the servers;
//! - [`recent`], [`read`]: what is in memory, and what is not;
//! - [`shared`]: what all of these share;
//! - [`bucket`]: values that are compared before they are written; [`store`], session records in one; [`meta`], what all nodes
//!   keep once in another, and [`presence`], which users are there;
//! - [`nodes`]: what nodes ask each other.

mod append;
mod bucket;
mod connect;
mod follow;
mod message;
mod meta;
mod nodes;
mod passing;
mod presence;
mod read;
mod recent;
mod setup;
mod shared;
mod store;
mod subjects;

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use async_nats::ServerAddr;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind};
use async_nats::jetstream::{Context, context};
use bayeux::Offset;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, oneshot};

use self::append::Call;
use self::connect::Presence;
use self::follow::Follow;
use self::message::Form;
use self::nodes::Peers;
use self::presence::Entries;
use self::read::Reader;
use self::shared::Shared;
use self::store::Sessions;
use self::subjects::Names;
use super::{
    Bounds, Epoch, EventLog, Followed, Interest, Limit, LogError, NodeId, Nodes, Opened, Page, Position,
    PresenceStore, SessionStore, Settings, fill_random, patiently,
};
use crate::event::Event;

/// What was there when this node came is read into memory for so long at most.
const PREPARED_WITHIN: Duration = Duration::from_secs(30);
/// Events that are read into memory at the start, at most.
const PREPARED: u64 = 100_000;
/// More than are ever at work at once.
const MOST_TASKS: u32 = 1 << 24;

/// Opens the log that the servers have, or creates it there. Blocks until it is ready.
pub(super) fn open(place: &str, settings: &Settings) -> Result<Opened, LogError> {
    let servers = connect::servers(place)?;
    let me = node_id(&settings.shared.node)?;
    let settings = settings.clone();
    let (ready, opened) = mpsc::sync_channel(1);
    let (end, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || run(servers, settings, me, &ready, ended))
        .map_err(|error| LogError::Unusable(format!("cannot start the log's thread: {error}").into()))?;
    let Parts {
        shared,
        calls,
        sessions,
        nodes,
        presence,
    } = opened.recv().unwrap_or_else(|_| Err(self::ended()))?;
    let log = Arc::new(Nats {
        epoch: setup::epoch(&shared.origin),
        description: setup::describe(&shared.core.client, &shared.origin),
        reader: Arc::new(Reader::new(shared.clone())),
        shared,
        calls: Some(calls),
        end: Some(end),
        thread: Some(thread),
    });
    Ok(Opened {
        log,
        sessions,
        nodes,
        presence,
    })
}

struct Nats {
    epoch: Epoch,
    description: Vec<String>,
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    calls: Option<UnboundedSender<Call>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread of the log has made when it is ready.
struct Parts {
    shared: Arc<Shared>,
    calls: UnboundedSender<Call>,
    sessions: Arc<dyn SessionStore>,
    nodes: Arc<dyn Nodes>,
    presence: Arc<dyn PresenceStore>,
}

impl EventLog for Nats {
    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn append(&self, events: Vec<Event>) -> BoxFuture<'static, Result<Vec<Position>, LogError>> {
        let (form, largest) = (&self.shared.form, self.shared.core.client.max_payload());
        let write = |(place, event)| form.write(place, event, largest);
        let events = match events.into_iter().enumerate().map(write).collect() {
            Ok(events) => events,
            Err(error) => return future::ready(Err(error)).boxed(),
        };
        let (sender, answer) = oneshot::channel();
        let deadline = Instant::now() + self.shared.core.settings.shared.answer_within;
        let call = Call {
            events,
            deadline: deadline.into(),
            answer: sender,
        };
        // Without the thread the answer is dropped, and says so.
        let _ = self.calls.as_ref().map(|calls| calls.send(call));
        async { answer.await.unwrap_or_else(|_| Err(ended())) }.boxed()
    }

    fn bounds(&self) -> Bounds {
        self.shared.bounds()
    }

    fn read(
        &self,
        interest: &Interest,
        after: Offset,
        limit: Limit,
    ) -> BoxFuture<'static, Result<Page, LogError>> {
        if let Some(page) = self.reader.recent(interest, after, limit) {
            return future::ready(Ok(page)).boxed();
        }
        let (reader, interest) = (self.reader.clone(), interest.clone());
        let read = async move { reader.older(interest, after, limit).await };
        self.shared.core.ask(read)
    }

    fn follow(&self) -> Followed {
        self.shared.tail.follow()
    }

    /// The servers drop what is too old or too much: here it is only looked at what is left.
    fn retain(&self, _: SystemTime) -> BoxFuture<'static, Result<(), LogError>> {
        let shared = self.shared.clone();
        self.shared
            .core
            .ask(async move { shared.refresh().await.map(drop) })
    }

    fn stopped(&self) -> BoxFuture<'static, LogError> {
        self.shared.stopped()
    }

    fn size_bytes(&self) -> u64 {
        self.shared.size_bytes()
    }

    fn catch_up(&self) -> BoxFuture<'static, Result<(), LogError>> {
        let shared = self.shared.clone();
        self.shared.core.ask(async move { shared.catch_up().await })
    }

    fn away(&self) -> Option<Duration> {
        self.shared.core.presence.away()
    }

    fn describe(&self) -> Vec<String> {
        self.description.clone()
    }
}

impl Drop for Nats {
    /// Ends the thread when it has done what was called before.
    fn drop(&mut self) {
        self.shared.tail.close();
        self.calls = None;
        let _ = self.end.take().map(|end| end.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread of the log.
fn run(
    servers: Vec<ServerAddr>,
    settings: Settings,
    me: NodeId,
    ready: &mpsc::SyncSender<Result<Parts, LogError>>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has room for a runtime");
    runtime.block_on(async {
        match start(servers, settings, me).await {
            Ok((core, farewell, parts)) => {
                let _ = ready.send(Ok(parts));
                // Whoever drops the log says so, or is gone.
                let _ = ended.await;
                farewell.await;
                let within = core.settings.shared.answer_within + Duration::from_secs(1);
                core.finish(within).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

async fn start(
    servers: Vec<ServerAddr>,
    settings: Settings,
    me: NodeId,
) -> Result<(Arc<Core>, impl Future<Output = ()>, Parts), LogError> {
    let presence = Presence::new();
    let client = connect::connect(servers, &settings.shared, &me, presence.clone()).await?;
    let core = Arc::new(Core {
        jetstream: context::ContextBuilder::new()
            .timeout(settings.shared.answer_within)
            .build(client.clone()),
        client,
        runtime: Handle::current(),
        names: Names::new(&settings.shared.name),
        presence,
        me,
        at_work: Arc::new(Semaphore::new(MOST_TASKS as usize)),
        settings,
    });
    setup::compare_sizes(core.client.max_payload(), core.settings.shared.largest_event);
    let find = async || setup::events(&core.jetstream, &core.names, &core.settings).await;
    let origin = patiently(find).await?;
    let shared = prepare(&core, origin).await?;
    let (calls, receiver) = tokio::sync::mpsc::unbounded_channel();
    core.spawn(append::run(shared.clone(), receiver));
    let peers = Peers::open(core.clone()).await?;
    let farewell = peers.farewell();
    let parts = Parts {
        shared,
        calls,
        sessions: patiently(async || Sessions::open(core.clone()).await).await?,
        nodes: peers,
        presence: patiently(async || Entries::open(core.clone()).await).await?,
    };
    Ok((core, farewell, parts))
}

/// Begins to follow a little before the end of the stream, and waits until the end is reached: sessions that come now were here
/// a moment ago.
async fn prepare(core: &Arc<Core>, origin: Info) -> Result<Arc<Shared>, LogError> {
    let stream = core.jetstream.get_stream_no_info(&origin.config.name).await;
    let stream = stream.map_err(|error| LogError::Unusable(error.to_string().into()))?;
    let state = &origin.state;
    let end = Offset(state.last_sequence);
    let size = (state.bytes / state.messages.max(1)).max(1);
    let recent = core.settings.shared.recent_bytes as u64 / size;
    let begin = state.last_sequence.saturating_sub(recent.min(PREPARED));
    let begin = Offset(begin.max(state.first_sequence.saturating_sub(1)));
    // The last events may have been deleted: then there is nothing to wait for beyond those before.
    let events = core.names.all_events();
    let newest = async || match stream.get_last_raw_message_by_subject(&events).await {
        Ok(message) => Ok(Offset(message.sequence)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(begin),
        Err(error) => Err(LogError::Away(error.to_string().into())),
    };
    let until = patiently(newest).await?;
    let form = Form {
        names: core.names.clone(),
        protocol: core.settings.protocol.clone(),
    };
    let begin = if state.messages == 0 { end } else { begin };
    let shared = Arc::new(Shared::new(core.clone(), stream, origin, form, begin));
    let (ready, prepared) = oneshot::channel();
    let follow = Follow::new(shared.clone(), begin, (until, ready));
    core.runtime.spawn(follow.run());
    core.runtime.spawn(follow::keep_fresh(shared.clone()));
    match tokio::time::timeout(PREPARED_WITHIN, prepared).await {
        Ok(Ok(())) => Ok(shared),
        Ok(Err(_)) | Err(_) => Err(LogError::Unusable(
            format!(
                "the stream was not read up to its end within {} s",
                PREPARED_WITHIN.as_secs()
            )
            .into(),
        )),
    }
}

/// Another one for every process, so that nobody takes one for its predecessor at the same place.
fn node_id(node: &str) -> Result<NodeId, LogError> {
    let mut bytes = [0; 4];
    fill_random(&mut bytes)?;
    Ok(NodeId(format!("{node}-{:08x}", u32::from_be_bytes(bytes)).into()))
}

/// What everything here needs that speaks with the servers.
pub(in crate::log) struct Core {
    /// The connection. Its futures belong onto [`Core::runtime`].
    pub(in crate::log) client: async_nats::Client,
    /// JetStream over it.
    pub(in crate::log) jetstream: Context,
    /// Where everything with the servers runs.
    pub(in crate::log) runtime: Handle,
    /// What everything is called there.
    pub(in crate::log) names: Names,
    /// Whether the servers are there.
    pub(in crate::log) presence: Arc<Presence>,
    /// What the operator chose.
    pub(in crate::log) settings: Settings,
    /// This process among those that share the log.
    pub(in crate::log) me: NodeId,
    at_work: Arc<Semaphore>,
}

impl Core {
    /// Runs work on the thread of the log. Before the thread ends, it is waited for.
    pub(in crate::log) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let at_work = self.at_work.clone().try_acquire_owned();
        self.runtime.spawn(async move {
            let _at_work = at_work;
            work.await;
        });
    }

    /// Begins work on the thread of the log now, and answers on any other when it is done.
    pub(in crate::log) fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, LogError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (sender, answer) = oneshot::channel();
        self.spawn(async move {
            // Nobody may be waiting any more.
            let _ = sender.send(work.await);
        });
        async { answer.await.unwrap_or_else(|_| Err(ended())) }.boxed()
    }

    /// Waits until everything has been done that was begun.
    async fn finish(&self, within: Duration) {
        let _ = tokio::time::timeout(within, self.at_work.acquire_many(MOST_TASKS)).await;
        let _ = tokio::time::timeout(within, self.client.flush()).await;
    }
}

/// What whoever waits for an answer is told when the thread has ended.
pub(in crate::log) fn ended() -> LogError {
    LogError::Stopped("its thread has ended".into())
}
