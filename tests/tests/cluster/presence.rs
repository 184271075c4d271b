//! Who is told to be absent when a node is killed.

use std::time::Duration;

use halley_tests::{Broker, Nats, Settings, Subscriber, say};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::it::settings;

const PRESENCE: &str = "/workspace/presence";

async fn node(nats: &Nats, name: &str) -> Broker {
    let section = format!("[nats]\nreplicas = 1\nnode = \"{name}\"\n");
    let settings = settings(nats.url(), section);
    let presence = format!("[presence]\nchannel = \"{PRESENCE}\"\ndelay = \"500ms\"\n");
    Broker::start(Settings {
        max_interval: "2s",
        extra: settings.extra.clone() + &presence,
        ..settings
    })
    .await
}

/// What is told until this is, of everyone but who listens.
async fn until(watcher: &mut Subscriber, user: &str, present: bool) -> Vec<(String, bool)> {
    let mut told: Vec<(String, bool)> = Vec::new();
    while told.last().is_none_or(|last| *last != (user.to_owned(), present)) {
        let data: Value = timeout(Duration::from_secs(40), watcher.next())
            .await
            .unwrap_or_else(|_| panic!("{user}, {present}, is not told; {told:?} was"))
            .expect("the socket stays");
        let user = data["user"].as_str().expect("a user").to_owned();
        if user != "15007" {
            told.push((user, data["present"] == true));
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_client_does_not_come_back_from_a_killed_node_is_absent_and_nobody_else() {
    let nats = Nats::start();
    let (mut victim, other) = (node(&nats, "a").await, node(&nats, "b").await);
    let mut watcher = Subscriber::connect(other.public, "15007").await;
    watcher.subscribe(PRESENCE).await;
    let _elsewhere_too = (
        Subscriber::connect(victim.public, "15001").await,
        Subscriber::connect(other.public, "15001").await,
    );
    until(&mut watcher, "15001", true).await;
    let _gone = Subscriber::connect(victim.public, "15000").await;
    until(&mut watcher, "15000", true).await;
    victim.kill9().await;
    let killed = Instant::now();
    let told = until(&mut watcher, "15000", false).await;
    say(format_args!(
        "absence is told {:?} after the kill",
        killed.elapsed()
    ));
    assert_eq!(told, [("15000".to_owned(), false)]);
}
