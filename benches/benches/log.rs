//! How many events a second become durable in the embedded log, one at a time and with many publishers at once?

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::sync::Arc;
use std::time::Duration;

use bayeux::{ChannelName, Traits};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halley::event::{Audience, Event, UserId};
use halley::log::{self, EventLog, Settings};
use serde_json::value::RawValue;

fn settings() -> Settings {
    Settings {
        retention: Duration::from_secs(3600),
        retention_bytes: 1 << 30,
        dedup_window: Duration::from_secs(900),
        min_free_bytes: 0,
    }
}

fn event(data: &RawValue) -> Event {
    Event {
        tenant: halley::event::Tenant::default(),
        audience: Audience::User(UserId("15000".into())),
        channel: ChannelName::parse("/v2/me/calls").expect("a channel"),
        data: data.to_owned(),
        id: None,
        traits: Traits::default(),
    }
}

fn appending(criterion: &mut Criterion) {
    let data = RawValue::from_string(format!("{{\"state\":\"{}\"}}", "x".repeat(970))).expect("JSON");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("1 KB events made durable");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for publishers in [1_u64, 32, 512] {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = log::open(&format!("file:{}", folder.path().display()), &settings()).expect("a log");
        let log: Arc<dyn EventLog> = Arc::clone(&opened.log);
        group.throughput(Throughput::Elements(publishers));
        group.bench_function(format!("{publishers} publishers at once"), |bencher| {
            bencher.to_async(Waiting(&runtime)).iter(|| {
                let appends: Vec<_> = (0..publishers).map(|_| log.append(vec![event(&data)])).collect();
                async {
                    for append in appends {
                        append.await.expect("durable");
                    }
                }
            });
        });
    }
    group.finish();
}

/// Runs criterion's futures on a runtime.
struct Waiting<'a>(&'a tokio::runtime::Runtime);

impl criterion::async_executor::AsyncExecutor for Waiting<'_> {
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }
}

criterion_group!(benches, appending);
criterion_main!(benches);
