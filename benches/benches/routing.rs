//! How long does it take to find who wants an event: one user's session, or the subscribers of a channel?

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use bayeux::{ChannelName, ChannelPattern};
use criterion::{Criterion, criterion_group, criterion_main};
use routing::Routing;

fn finding_receivers(criterion: &mut Criterion) {
    let routing = Routing::default();
    let calls = ChannelPattern::parse("/v2/me/calls").expect("a channel");
    for session in 0..100_000_u32 {
        routing.join(&session.to_string().into(), session);
        routing.subscribe(&calls, session);
    }
    let mut found = Vec::new();
    criterion.bench_function("one user among 100,000", |bencher| {
        bencher.iter(|| {
            found.clear();
            routing.of_user(black_box("54321"), &mut found);
            assert_eq!(found.len(), 1);
        });
    });
    let rare = ChannelPattern::parse("/notifications/*").expect("a pattern");
    routing.subscribe(&rare, 1);
    let channel = ChannelName::parse("/notifications/services").expect("a channel");
    criterion.bench_function("a channel of two segments, expanded and looked up", |bencher| {
        bencher.iter(|| {
            found.clear();
            routing.of_channel(black_box(&channel), &mut found);
            assert_eq!(found.len(), 1);
        });
    });
    let everyone = ChannelName::parse("/v2/me/calls").expect("a channel");
    criterion.bench_function("100,000 subscribers of one channel", |bencher| {
        bencher.iter(|| {
            found.clear();
            routing.of_channel(black_box(&everyone), &mut found);
        });
    });
}

criterion_group!(benches, finding_receivers);
criterion_main!(benches);
