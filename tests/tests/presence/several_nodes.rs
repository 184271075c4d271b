//! Several nodes that share a log on a real server.

use std::time::Duration;

use futures::future::join_all;
use halley::config::Span;
use halley_tests::Nats;
use serde_json::Value;

use crate::it::{Client, It, Transport, USERS};
use crate::watcher::{DELAY, QUIET, Watcher, changes, connect, goodbye, poller, telling};

const ME: &str = USERS[0];

async fn node(nats: &Nats, name: &str) -> It {
    It::with(|config| {
        telling(config);
        config.log.url = nats.url();
        config.nats.replicas = 1;
        config.nats.node = name.to_owned();
        config.shutdown.drain = Span(Duration::ZERO);
    })
    .await
}

async fn nodes(nats: &Nats) -> [It; 3] {
    [
        node(nats, "a").await,
        node(nats, "b").await,
        node(nats, "c").await,
    ]
}

fn node_of(data: &Value) -> Option<&str> {
    data["node"].as_str()?.split('-').next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_session_on_another_node_is_no_news_and_the_last_one_is() {
    let nats = Nats::start();
    let [a, b, c] = nodes(&nats).await;
    let mut watcher = Watcher::at(&c).await;
    let mut one = poller(&a).await;
    let told = watcher.until(ME, true).await;
    assert_eq!((changes(&told), node_of(&told[0])), (vec![(ME, true)], Some("a")));
    let mut other = poller(&b).await;
    goodbye(&mut one).await;
    assert_eq!(changes(&watcher.so_far(&c).await), []);
    goodbye(&mut other).await;
    assert_eq!(changes(&watcher.so_far(&c).await), [(ME, false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_moves_twenty_times_is_there_all_the_time() {
    let nats = Nats::start();
    let nodes = nodes(&nats).await;
    let mut watcher = Watcher::at(&nodes[2]).await;
    let mut client = poller(&nodes[0]).await;
    watcher.until(ME, true).await;
    for turn in 1..=20 {
        client.moved_to(&nodes[turn % 3]);
        connect(&mut client).await;
    }
    assert_eq!(changes(&watcher.so_far(&nodes[2]).await), []);
    // At a node that had it for no more than this.
    client.moved_to(&nodes[0]);
    goodbye(&mut client).await;
    assert_eq!(changes(&watcher.so_far(&nodes[2]).await), [(ME, false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_sessions_that_end_on_two_nodes_at_once_are_told_once() {
    let nats = Nats::start();
    let [a, b, c] = nodes(&nats).await;
    let mut watcher = Watcher::at(&c).await;
    let names: Vec<String> = (0..20).map(|number| format!("16{number:03}")).collect();
    let mut clients = Vec::new();
    for name in &names {
        for it in [&a, &b] {
            clients.push(Client::open(it, Transport::LongPolling, Some(name)).await);
        }
    }
    let told = watcher.so_far(&c).await;
    let mut came = changes(&told);
    came.sort_unstable();
    let all = |present| -> Vec<(&str, bool)> { names.iter().map(|name| (name.as_str(), present)).collect() };
    assert_eq!(came, all(true));
    join_all(clients.iter_mut().map(goodbye)).await;
    let told = watcher.so_far(&c).await;
    let mut went = changes(&told);
    went.sort_unstable();
    assert_eq!(went, all(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_loaded_again_at_another_node_is_no_news() {
    let nats = Nats::start();
    let nodes = nodes(&nats).await;
    let mut watcher = Watcher::at(&nodes[2]).await;
    let mut page = poller(&nodes[0]).await;
    watcher.until(ME, true).await;
    for turn in 1..=6 {
        goodbye(&mut page).await;
        tokio::time::sleep(DELAY / 4).await;
        page = poller(&nodes[turn % 3]).await;
    }
    assert_eq!(changes(&watcher.so_far(&nodes[2]).await), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_takes_nobody_with_it_who_goes_on_elsewhere() {
    let nats = Nats::start();
    let [mut a, b, c] = nodes(&nats).await;
    let mut watcher = Watcher::at(&c).await;
    let mut client = poller(&a).await;
    watcher.until(ME, true).await;
    a.take_app().shut_down().await;
    client.moved_to(&b);
    connect(&mut client).await;
    assert_eq!(changes(&watcher.within(&c, QUIET * 2).await), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_the_servers_do_not_answer_is_told_when_they_do() {
    let nats = Nats::start();
    let [a, _, c] = nodes(&nats).await;
    let mut watcher = Watcher::at(&c).await;
    let mut client = poller(&a).await;
    watcher.until(ME, true).await;
    nats.pause();
    goodbye(&mut client).await;
    // Longer than a write waits for its answer.
    tokio::time::sleep(Duration::from_secs(4)).await;
    nats.go_on();
    assert_eq!(changes(&watcher.until(ME, false).await), [(ME, false)]);
    assert_eq!(changes(&watcher.so_far(&c).await), []);
}
