//! What does a body cost on its way in, and an event on its way out: once, however many receive it?

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use bayeux::codec::{self, Body};
use bayeux::{Draft, Offset, ReplayId, Settings, Traits};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halley_benches::payload;

fn parsing(criterion: &mut Criterion) {
    let limits = Settings::default().limits;
    let batch = payload::batch();
    let mut group = criterion.benchmark_group("a body is parsed");
    for (name, body) in [
        ("a connect with an acknowledgement", payload::CONNECT),
        ("ten messages of a client that starts", &batch),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let messages = codec::decode(black_box(body.as_bytes()), &limits).expect("a body");
                messages.iter().filter(|message| message.is_ok()).count()
            });
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let data = payload::data();
    let channel = payload::channel();
    let mut group = criterion.benchmark_group("an event of 1 KB is encoded");
    group.throughput(Throughput::Elements(1));
    for (name, replay_id) in [
        ("channel and data", None),
        ("with its offset in ext", Some(ReplayId::Ext)),
    ] {
        let traits = Traits {
            replay_id,
            ..Traits::default()
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| Draft::new(channel.clone(), black_box(&data), &traits, 0).at(Offset(7)));
        });
    }
    group.finish();
}

fn answering(criterion: &mut Criterion) {
    let data = payload::data();
    let events: Vec<_> = (1..=10)
        .map(|offset| payload::event(Offset(offset), &data))
        .collect();
    let mut group = criterion.benchmark_group("a body is made of encoded events");
    group.throughput(Throughput::Elements(10));
    group.bench_function("ten of 1 KB", |bencher| {
        bencher.iter(|| {
            let mut body = Body::default();
            events.iter().for_each(|event| body.event(event));
            body.finish()
        });
    });
    group.finish();
}

criterion_group!(benches, parsing, encoding, answering);
criterion_main!(benches);
