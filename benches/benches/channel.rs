//! What does a channel cost: to parse, to expand into the patterns that match it, and to be held against one?

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use bayeux::{ChannelName, ChannelPattern};
use criterion::{Criterion, criterion_group, criterion_main};
use halley_benches::payload;

/// As many segments as a channel may have.
const LONGEST: &str = "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p";

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a channel is parsed");
    for (name, text) in [("3 segments", payload::CHANNEL), ("16 segments", LONGEST)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| ChannelName::parse(black_box(text)))
        });
    }
    group.finish();
}

fn expanding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a channel is expanded");
    for (name, text) in [("3 segments", payload::CHANNEL), ("16 segments", LONGEST)] {
        let channel = ChannelName::parse(text).expect("a channel");
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(&channel).expand(|pattern| _ = black_box(pattern.len())));
        });
    }
    group.finish();
}

fn matching(criterion: &mut Criterion) {
    let channel = payload::channel();
    let mut group = criterion.benchmark_group("a channel is held against a pattern");
    for text in ["/v2/me/calls", "/v2/me/*", "/v2/**", "/v2/devices/*"] {
        let pattern = ChannelPattern::parse(text).expect("a pattern");
        group.bench_function(text, |bencher| {
            bencher.iter(|| black_box(&pattern).matches(black_box(&channel)));
        });
    }
    group.finish();
}

criterion_group!(benches, parsing, expanding, matching);
criterion_main!(benches);
