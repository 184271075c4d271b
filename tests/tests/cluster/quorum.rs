//! Three servers that keep three copies: what needs two of them, and what any one of them may do.

use std::time::Duration;

use halley_tests::say;
use tokio::time::{Instant, sleep};

use crate::it::{It, STREAM, Traffic, eventually, is_full, publish_once, readiness};

/// Longer than a node takes two servers of three for a passing trouble: the fifth second, one to notice, and a busy machine.
const NOTICED: Duration = Duration::from_secs(12);

fn rounds(full: usize) -> usize {
    if is_full() { full } else { 1 }
}

/// `None` where there is no Node.
async fn begin() -> Option<(It, Traffic)> {
    let it = It::on_three_servers().await;
    let traffic = Traffic::begin(&it).await?;
    Some((it, traffic))
}

async fn end(traffic: Traffic, what: &str) {
    let account = traffic.end().await;
    account.say(what);
    account.expect_exactly_once();
    account.expect_one_session_each();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_robin_on_three_copies_loses_nothing_and_brings_nothing_twice() {
    let Some((_it, traffic)) = begin().await else {
        return;
    };
    sleep(Duration::from_secs(if is_full() { 300 } else { 5 })).await;
    end(traffic, "round robin on three copies").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_that_leads_is_killed_and_comes_back_and_nobody_misses_an_event() {
    let Some((mut it, traffic)) = begin().await else {
        return;
    };
    let (mut taken, mut times) = (Vec::new(), Vec::new());
    for _ in 0..rounds(20) {
        traffic.flows().await;
        let leader = it.nats.leader(STREAM).await;
        it.nats.servers[leader].kill();
        let killed = Instant::now();
        let address = it.nodes[0].internal;
        let accepted = async {
            eventually("a publish that is taken", async || {
                publish_once(address).await.0 == 201
            })
            .await;
            taken.push(killed.elapsed());
        };
        let ((), flows) = tokio::join!(accepted, traffic.flows());
        times.extend(flows);
        assert_ne!(it.nats.leader(STREAM).await, leader);
        it.nats.servers[leader].restart();
        it.nats.servers[leader].until_healthy().await;
    }
    traffic.flows().await;
    taken.sort();
    times.sort();
    say(format_args!(
        "from the kill to the next 201: median {:?}, worst {:?}; to the next events of each client: median {:?}, worst {:?}",
        taken[taken.len() / 2],
        taken[taken.len() - 1],
        times[times.len() / 2],
        times[times.len() - 1]
    ));
    end(traffic, "the server that leads killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_beside_three_copies_takes_nothing_with_it() {
    let Some((mut it, traffic)) = begin().await else {
        return;
    };
    for round in 0..rounds(12) {
        let victim = round % it.nodes.len();
        traffic.flows().await;
        it.nodes[victim].kill9().await;
        traffic.flows().await;
        it.nodes[victim].restart().await;
        it.balancer.until_it_knows(victim).await;
    }
    traffic.flows().await;
    end(traffic, "a node killed beside three copies").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_of_three_acknowledges_nothing_and_clients_go_on_when_there_are_two() {
    let Some((mut it, traffic)) = begin().await else {
        return;
    };
    for _ in 0..rounds(6) {
        traffic.flows().await;
        lose_the_majority(&mut it, &traffic).await;
    }
    end(traffic, "two servers of three killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_before_the_servers_have_a_leader_waits_for_it() {
    let mut it = It::on_three_servers().await;
    it.nodes[0].kill9().await;
    it.nats.servers[1].kill();
    it.nats.servers[2].kill();
    let (nats, nodes) = (&mut it.nats, &mut it.nodes);
    let back = async {
        // Longer than a node waits for one answer.
        sleep(Duration::from_secs(4)).await;
        nats.servers[1].restart();
        nats.servers[2].restart();
    };
    let ((), took) = tokio::join!(back, nodes[0].restart());
    assert!(took > Duration::from_secs(4), "{took:?}");
    let log = it.nodes[0].log_tail();
    assert!(log.contains("waiting for the log"), "{log}");
}

async fn lose_the_majority(it: &mut It, traffic: &Traffic) {
    let leader = it.nats.leader(STREAM).await;
    let other = (leader + 1) % 3;
    it.nats.servers[leader].kill();
    it.nats.servers[other].kill();
    let gone = Instant::now();
    for node in it.internal() {
        let (status, took) = publish_once(node).await;
        assert!([503, 504].contains(&status), "{status}");
        assert!(took < Duration::from_millis(2500), "{status} after {took:?}");
    }
    // What was under way was answered by now.
    let before = accepted(it).await;
    for node in it.internal() {
        eventually("503 from /readyz", async || readiness(node).await == 503).await;
    }
    let noticed = gone.elapsed();
    assert!(noticed < NOTICED, "{noticed:?}");
    for node in it.internal() {
        let (status, took) = publish_once(node).await;
        assert_eq!(status, 503, "after {took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    assert_eq!(accepted(it).await, before, "one of three accepted something");
    it.nats.servers[leader].restart();
    it.nats.servers[other].restart();
    let back = Instant::now();
    traffic.flows().await;
    say(format_args!(
        "/readyz says 503 after {noticed:?}; events flow {:?} after the servers are back",
        back.elapsed()
    ));
    for node in it.internal() {
        eventually("200 from /readyz", async || readiness(node).await == 200).await;
    }
    for server in &it.nats.servers {
        server.until_healthy().await;
    }
}

/// Events that publishers were told are stored.
async fn accepted(it: &mut It) -> f64 {
    it.sum("halley_events_ingested_total{result=\"ok\"}").await
        + it.sum("halley_events_ingested_total{result=\"duplicate\"}").await
}
