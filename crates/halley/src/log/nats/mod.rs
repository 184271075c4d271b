//! `nats://HOST:PORT,HOST:PORT`: a log that several nodes share, on NATS JetStream.
//!
//! A thread of its own with a runtime of its own does everything with the servers, so that futures of this log can be awaited on
//! any other:
//!
//! - [`connect`]: the connection, and whether it is there;
//! - [`subjects`]: how users and channels are written into subjects;
//! - [`bucket`]: values that are compared before they are written; [`store`], session records in one; [`meta`], what all nodes
//!   keep once in another;
//! - [`nodes`]: what nodes ask each other.

mod bucket;
mod connect;
mod meta;
mod nodes;
mod store;
mod subjects;

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_nats::ServerAddr;
use async_nats::jetstream::{self, Context};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use self::connect::Presence;
use self::nodes::Peers;
use self::store::Sessions;
use self::subjects::Names;
use super::{LogError, NodeId, Opened, Settings, fill_random};

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
    // For the moment: the thread ends with the process.
    std::mem::forget((end, thread));
    opened.recv().unwrap_or_else(|_| Err(self::ended()))
}

/// The thread of the log.
fn run(
    servers: Vec<ServerAddr>,
    settings: Settings,
    me: NodeId,
    ready: &mpsc::SyncSender<Result<Opened, LogError>>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has room for a runtime");
    runtime.block_on(async {
        match start(servers, settings, me).await {
            Ok((core, farewell, opened)) => {
                let _ = ready.send(Ok(opened));
                // Whoever drops the log says so, or is gone.
                let _ = ended.await;
                farewell.await;
                core.finish(core.settings.shared.answer_within + Duration::from_secs(1))
                    .await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

async fn start(
    servers: Vec<ServerAddr>,
    settings: Settings,
    me: NodeId,
) -> Result<(Arc<Core>, impl Future<Output = ()>, Opened), LogError> {
    let presence = Presence::new();
    let client = connect::connect(servers, &settings.shared, &me, presence.clone()).await?;
    let core = Arc::new(Core {
        jetstream: jetstream::context::ContextBuilder::new()
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
    let peers = Peers::open(core.clone()).await?;
    let opened = Opened {
        // For the moment.
        log: super::memory::open("", &core.settings)?.log,
        sessions: Sessions::open(core.clone()).await?,
        nodes: peers.clone(),
    };
    Ok((core, peers.farewell(), opened))
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
