//! The broker as others see it: a release binary, stock clients, a publisher, and a network that can fail.
//!
//! | part | what it is |
//! |---|---|
//! | [`Broker`] | the binary under test, on ports and a data directory that outlive `kill -9` |
//! | [`Publisher`] | the voice backend: publishes, retries with the same id, remembers what was answered `201` |
//! | [`Client`] | which stock npm CometD client, and how it is set up |
//! | [`Node`] | one of them in a Node process |
//! | [`Profile`], [`Page`] | a headless Chromium, and one of them in a page |
//! | [`Front`] | the web server in front of the broker: page and broker under one origin |
//! | [`Subscriber`] | one raw WebSocket subscriber, which can refuse to read |
//! | [`Proxy`] | the network between a client and the broker: it flows, resets, or swallows everything |
//! | [`Balancer`] | HAProxy or nginx in front of several brokers |
//! | [`Fault`] | what goes wrong while events are published |
//! | [`Service`] | what the broker asks when a client calls a service |
//! | [`Nats`], [`NatsCluster`] | a real nats-server, or three, for logs that nodes share |
//! | [`checks`] | what an application must see of batches, bytes, clocks and calls |
//! | [`Ledger`] | what was promised against what arrived: lost, twice, out of order |
//!
//! Nothing in this library shares code with the broker: a mistake in how it reads the protocol must not be made twice.
//!
//! The tests that need the binary are behind the feature `e2e`, which `cargo xtask test` turns on.

mod application;
mod balancer;
mod broker;
mod browser;
pub mod checks;
mod client;
mod fault;
mod front;
mod http;
mod ledger;
mod nats;
mod node;
mod proxy;
mod publisher;
mod seen;
mod service;
mod subscriber;

pub use application::Application;
pub use balancer::{AFFINITY, Balancer, Choice, Place, Program, nginx_configuration, nginx_question};
pub use broker::{Broker, ENDPOINT, LogTo, Settings, binary, free_address};
pub use browser::{Page, Profile, read_page};
pub use client::{Client, Extension, TokenIn, Transport, Version};
pub use fault::{Fault, Outcome};
pub use front::{Front, Upgrades};
pub use http::{Connection, Response};
pub use ledger::{Ledger, Report};
pub use nats::{Nats, NatsCluster, NatsSettings};
pub use node::Node;
pub use proxy::Proxy;
pub use publisher::{Accepted, Event, Publisher};
pub use seen::{Binary, Call, Clock, Message, Seen};
pub use service::Service;
pub use subscriber::Subscriber;

use std::io::Write;

/// Writes one line that a person reads: a figure measured, a reason to skip.
pub fn say(line: impl std::fmt::Display) {
    // Not println!: it panics when nobody reads any more, and a test must not fail of that.
    let _ = writeln!(std::io::stdout(), "{line}");
}
