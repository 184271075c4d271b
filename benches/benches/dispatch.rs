//! What does one event for up to 100,000 sessions cost, in time and in allocations, and what do they keep?

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halley_benches::{Clock, Receivers, Sockets};

/// So many sessions: what a delivery costs must stay what it is.
const COUNTS: [usize; 4] = [1_000, 10_000, 50_000, 100_000];

/// As many as have room for their sockets, both ends, where 1,024 files may be open.
const FEW: usize = 400;

/// Allocations that an event may cost, however many receive it: it was encoded before, and sessions and dispatch keep their room
/// from one event to the next. Not one for each receiver, then, and not one byte.
const ALLOCATIONS: u64 = 8;

fn one_event(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one event of 1 KB");
    group.sample_size(10);
    for count in COUNTS {
        group.throughput(Throughput::Elements(count as u64));
        let mut receivers = Receivers::without_sockets(count, Clock::Ticks);
        group.bench_function(format!("handed to {count} sessions"), |bencher| {
            bencher.iter_custom(|rounds| time(&mut receivers, count, rounds));
        });
    }
    group.finish();
}

fn time(receivers: &mut Receivers, count: usize, rounds: u64) -> Duration {
    let before = receivers.heard();
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        receivers.publish(1);
        let began = Instant::now();
        receivers.dispatch();
        spent += began.elapsed();
        receivers.answer_pings();
    }
    assert_eq!(
        receivers.heard() - before,
        rounds * count as u64,
        "everyone hears everything"
    );
    spent
}

/// An event is encoded once, however many receive it.
fn allocations(_: &mut Criterion) {
    for count in COUNTS {
        let mut receivers = None;
        let opened = allocation_counter::measure(|| {
            receivers = Some(Receivers::without_sockets(count, Clock::StandsStill))
        });
        let mut receivers = receivers.expect("they were made");
        say(&format!(
            "{count} sessions without sockets: {} bytes each",
            opened.bytes_current / count as i64
        ));
        expect_few(&format!("{count} sessions"), count, &mut receivers);
    }
    let sockets = Sockets::open(FEW);
    let mut receivers = Receivers::on_sockets(sockets.wires(), Clock::StandsStill);
    expect_few("400 sessions, up to the sockets", FEW, &mut receivers);
}

#[expect(clippy::print_stderr, reason = "what was counted is part of the answer")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn expect_few(name: &str, count: usize, receivers: &mut Receivers) {
    // Sessions and lists grow to the size that they keep, and everyone is pinged once.
    for _ in 0..6 {
        receivers.publish(1);
        receivers.dispatch();
        receivers.answer_pings();
    }
    receivers.publish(1);
    let counted = allocation_counter::measure(|| receivers.dispatch());
    let (allocations, bytes) = (counted.count_total, counted.bytes_total);
    let text = format!("one event for {name}: {allocations} allocations with {bytes} bytes");
    say(&text);
    assert!(
        allocations <= ALLOCATIONS && bytes < count as u64,
        "{text}, and {ALLOCATIONS} with less than a byte for each are allowed: is it encoded, or copied, for each of them?"
    );
}

criterion_group!(benches, one_event, allocations);
criterion_main!(benches);
