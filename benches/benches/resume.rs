//! How long until 10,000 dormant sessions, each of which has missed five events, have been woken and have them from the log on
//! disk?

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::{CarrierKind, Message, Output, Settings, Traits, codec};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use futures::future;
use halley::auth::Principal;
use halley::event::{Audience, Event, Tenant, UserId};
use halley::log::{self, Opened};
use halley::sessions::{Requester, Sessions};
use halley_benches::{payload, settings};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const SESSIONS: usize = 10_000;
const MISSED: usize = 5;

/// Clients that come back at the same time.
const AT_ONCE: usize = 64;

const HANDSHAKE: &str = r#"{"channel":"/meta/handshake","ext":{"ack":true}}"#;
const SUBSCRIBE: &str = r#"{"channel":"/meta/subscribe","subscription":"/v2/me/*"}"#;
const CONNECT: &str = r#"{"channel":"/meta/connect","connectionType":"long-polling","ext":{"ack":0}}"#;

/// What the process before has left on the disk.
struct Left {
    storage: Opened,
    protocol: Arc<Settings>,
    clients: Vec<String>,
    _folder: TempDir,
}

impl Left {
    async fn behind() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = log::open(&format!("file:{}", folder.path().display()), &settings::log());
        let mut left = Self {
            storage: storage.expect("a log"),
            protocol: Arc::default(),
            clients: Vec::new(),
            _folder: folder,
        };
        let sessions = left.process();
        let (clients, written): (Vec<_>, Vec<_>) = (0..SESSIONS)
            .map(|number| subscribe(&sessions, user(number)))
            .unzip();
        for written in future::join_all(written.into_iter().flatten()).await {
            written.expect("durable");
        }
        left.clients = clients;
        for _ in 0..MISSED {
            let data = payload::data();
            let events = (0..SESSIONS).map(|number| Event {
                tenant: Tenant::default(),
                audience: Audience::User(user(number)),
                channel: payload::channel(),
                data: data.clone(),
                id: None,
                traits: Traits::default(),
            });
            let append = left.storage.log.append(events.collect());
            append.await.expect("durable");
        }
        left
    }

    /// A process with nobody in memory.
    fn process(&self) -> Arc<Sessions> {
        Arc::new(Sessions::new(
            &self.storage,
            settings::revocations(),
            Arc::clone(&self.protocol),
            settings::sessions(),
            Arc::default(),
        ))
    }

    /// Everybody comes back, and says how many events they got together.
    async fn resume(&self, sessions: &Arc<Sessions>) -> usize {
        let tasks = self.clients.chunks(SESSIONS.div_ceil(AT_ONCE)).map(|clients| {
            let (sessions, clients) = (Arc::clone(sessions), clients.to_vec());
            tokio::spawn(async move {
                let mut events = 0;
                for client in &clients {
                    events += come_back(&sessions, client).await;
                }
                events
            })
        });
        let counts = future::join_all(tasks).await;
        counts.into_iter().map(|count| count.expect("no panic")).sum()
    }
}

fn user(number: usize) -> UserId {
    UserId(format!("user-{number}").into())
}

fn message(body: &str) -> Message<'_> {
    let mut messages = codec::decode(body.as_bytes(), &Settings::default().limits).expect("a body");
    messages.remove(0).expect("a good message")
}

/// Opens a session, and returns its clientId and the write of its record.
fn subscribe(
    sessions: &Arc<Sessions>,
    user: UserId,
) -> (String, Option<impl Future<Output = Result<(), log::LogError>>>) {
    let principal = Principal {
        user: Some(user),
        ..Principal::default()
    };
    let carrier = sessions.carrier(CarrierKind::Exchange);
    let (handle, _) = sessions.open(&principal, None, None, carrier, &message(HANDSHAKE));
    let handled = sessions.handle_message(&handle, carrier, true, &message(SUBSCRIBE));
    (
        handle.client_id().as_str().to_owned(),
        handled.expect("it is in memory").written,
    )
}

/// One client, from its first connect to the reply. Returns how many events came with it.
async fn come_back(sessions: &Arc<Sessions>, client: &str) -> usize {
    let handle = sessions.find(client, &Requester::default(), true).await;
    let handle = handle.expect("a log").expect("a record");
    let carrier = sessions.carrier(CarrierKind::Exchange);
    sessions.handle_message(&handle, carrier, true, &message(CONNECT));
    let mut events = 0;
    loop {
        for output in sessions.outputs(&handle, carrier, usize::MAX).await {
            match output {
                Output::Event(_) => events += 1,
                Output::Reply(_) => return events,
                Output::ReadLog(after) => {
                    let read = sessions.read_log(&handle, carrier, after).await;
                    read.expect("a log");
                }
                Output::Direct(_) | Output::Ping(_) | Output::Superseded | Output::Refused => {}
            }
        }
    }
}

fn resuming(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let left = runtime.block_on(Left::behind());
    let mut group = criterion.benchmark_group("dormant sessions");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Elements(SESSIONS as u64));
    group.bench_function("10,000 come back for five events each", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let sessions = left.process();
                let began = Instant::now();
                let events = runtime.block_on(left.resume(&sessions));
                spent += began.elapsed();
                assert_eq!(events, SESSIONS * MISSED, "everyone has what it missed, once");
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, resuming);
criterion_main!(benches);
