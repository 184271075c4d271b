//! How many instructions do the hot ways take? `cargo xtask instructions` holds them against `instructions.toml`: they are the same
//! on a busy machine and on a quiet one, so what got dearer shows.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "gungraun's macros make undocumented items"
)]

use std::hint::black_box;
use std::sync::Arc;

use bayeux::codec::{self, Body};
use bayeux::{ChannelName, ChannelPattern, Delivery, Draft, Limits, Offset, Settings, Traits};
use gungraun::{library_benchmark, library_benchmark_group, main};
use halley_benches::{Client, Clock, Receivers, payload};
use serde_json::value::RawValue;

/// So that what happens once for each client does not count much.
const EVENTS: u64 = 64;

fn limits(body: &str) -> (String, Limits) {
    (body.to_owned(), Settings::default().limits)
}

fn batch() -> (String, Limits) {
    limits(&payload::batch())
}

#[library_benchmark]
#[bench::connect(args = (payload::CONNECT), setup = limits)]
#[bench::batch(setup = batch)]
fn parse((body, limits): (String, Limits)) -> usize {
    let messages = codec::decode(black_box(body.as_bytes()), &limits).expect("a body");
    messages.iter().filter(|message| message.is_ok()).count()
}

#[library_benchmark]
#[bench::three_segments(args = (payload::CHANNEL), setup = str::to_owned)]
fn parse_channel(text: String) -> ChannelName {
    ChannelName::parse(black_box(&text)).expect("a channel")
}

fn channel_and_pattern(pattern: &str) -> (ChannelName, ChannelPattern) {
    (
        payload::channel(),
        ChannelPattern::parse(pattern).expect("a pattern"),
    )
}

#[library_benchmark]
#[bench::wildcard(args = ("/v2/me/*"), setup = channel_and_pattern)]
fn match_channel((channel, pattern): (ChannelName, ChannelPattern)) -> bool {
    black_box(&pattern).matches(black_box(&channel))
}

fn draft() -> (ChannelName, Box<RawValue>) {
    (payload::channel(), payload::data())
}

#[library_benchmark]
#[bench::of_1_kb(setup = draft)]
fn encode((channel, data): (ChannelName, Box<RawValue>)) -> Arc<Delivery> {
    Arc::new(Draft::new(channel, black_box(&data), &Traits::default(), 0).at(Offset(7)))
}

fn events() -> Vec<Arc<Delivery>> {
    let data = payload::data();
    (1..=EVENTS)
        .map(|offset| payload::event(Offset(offset), &data))
        .collect()
}

#[library_benchmark]
#[bench::of_64_events(setup = events)]
fn answer(events: Vec<Arc<Delivery>>) -> Vec<u8> {
    let mut body = Body::default();
    events.iter().for_each(|event| body.event(event));
    body.finish()
}

fn on_a_socket() -> (Client, Vec<Arc<Delivery>>) {
    (Client::on_a_socket(), events())
}

fn acknowledging() -> (Client, Vec<Arc<Delivery>>) {
    (Client::acknowledging(), events())
}

fn polling() -> (Client, Vec<Arc<Delivery>>) {
    (Client::polling(), events())
}

#[library_benchmark]
#[bench::to_a_socket_64_times(setup = on_a_socket)]
fn push((mut client, events): (Client, Vec<Arc<Delivery>>)) -> usize {
    events.iter().map(|event| client.deliver(event).len()).sum()
}

#[library_benchmark]
#[bench::with_acknowledgements_64_times(setup = acknowledging)]
#[bench::long_poll_64_times(setup = polling)]
fn reply((mut client, events): (Client, Vec<Arc<Delivery>>)) -> usize {
    let replies = events.iter().map(|event| {
        client.connect();
        client.deliver(event).len()
    });
    replies.sum()
}

/// Everyone has heard something before, so that rooms have the size that they keep.
fn thousand_receivers() -> Receivers {
    let mut receivers = Receivers::without_sockets(1000, Clock::StandsStill);
    for _ in 0..3 {
        receivers.publish(1);
        receivers.dispatch();
        receivers.answer_pings();
    }
    receivers.publish(1);
    receivers
}

#[library_benchmark]
#[bench::to_1000_sessions(setup = thousand_receivers)]
fn dispatch(mut receivers: Receivers) -> Receivers {
    receivers.dispatch();
    receivers
}

library_benchmark_group!(
    name = hot;
    benchmarks = parse, parse_channel, match_channel, encode, answer, push, reply, dispatch
);

main!(library_benchmark_groups = hot);
