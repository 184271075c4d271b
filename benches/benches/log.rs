//! How many events a second become durable in the embedded log: one at a time, with many publishers at once (group commit), and
//! many in one append?

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::sync::Arc;
use std::time::Duration;

use bayeux::Traits;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halley::event::{Audience, Event, UserId};
use halley::log::{self, EventLog};
use halley_benches::{payload, settings};
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn event(data: &RawValue) -> Event {
    Event {
        tenant: halley::event::Tenant::default(),
        audience: Audience::User(UserId("15000".into())),
        channel: payload::channel(),
        data: data.to_owned(),
        id: None,
        traits: Traits::default(),
    }
}

/// A log in a folder of its own, which is there for as long as this is.
struct Disk {
    log: Arc<dyn EventLog>,
    _folder: TempDir,
}

impl Disk {
    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = log::open(&format!("file:{}", folder.path().display()), &settings::log());
        Self {
            log: opened.expect("a log").log,
            _folder: folder,
        }
    }
}

fn appending(criterion: &mut Criterion) {
    let data = payload::data();
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("1 KB events made durable");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for publishers in [1_u64, 32, 512] {
        let disk = Disk::open();
        group.throughput(Throughput::Elements(publishers));
        group.bench_function(format!("{publishers} publishers at once"), |bencher| {
            bencher.to_async(&runtime).iter(|| {
                let appends: Vec<_> = (0..publishers)
                    .map(|_| disk.log.append(vec![event(&data)]))
                    .collect();
                async {
                    for append in appends {
                        append.await.expect("durable");
                    }
                }
            });
        });
    }
    let disk = Disk::open();
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 in one append", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let events = (0..64).map(|_| event(&data)).collect();
            let append = disk.log.append(events);
            async { append.await.expect("durable") }
        });
    });
    group.finish();
}

criterion_group!(benches, appending);
criterion_main!(benches);
