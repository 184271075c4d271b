//! What does one event cost a session, from dispatch's hand-over to the reply that carries it?

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::time::Duration;

use bayeux::Offset;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halley_benches::{Client, payload};

fn one_event(criterion: &mut Criterion) {
    let data = payload::data();
    let mut offset = Offset::START;
    let mut next = move || {
        offset = offset.next();
        payload::event(offset, &data)
    };
    let mut group = criterion.benchmark_group("one event of 1 KB, encoded and");
    group.throughput(Throughput::Elements(1));

    let mut pushed = Client::on_a_socket();
    group.bench_function("pushed to a socket", |bencher| {
        bencher.iter(|| {
            // So that it is pinged a hundred times less often than it gets something.
            pushed.after(Duration::from_millis(10));
            pushed.deliver(&next())
        });
    });

    let mut acknowledging = Client::acknowledging();
    group.bench_function("carried by the reply to a connect that acknowledges", |bencher| {
        bencher.iter(|| {
            acknowledging.connect();
            acknowledging.deliver(&next())
        });
    });

    let mut polling = Client::polling();
    group.bench_function("carried by the reply to a long-poll", |bencher| {
        bencher.iter(|| {
            polling.connect();
            polling.deliver(&next())
        });
    });
    group.finish();
}

criterion_group!(benches, one_event);
criterion_main!(benches);
