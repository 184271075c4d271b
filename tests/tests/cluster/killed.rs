//! Nodes that die, and nodes that are replaced.

use std::time::Duration;

use halley_tests::{Choice, say};
use tokio::time::{Instant, sleep};

use crate::it::{It, Traffic, is_full};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_killed_one_after_the_other_take_nothing_with_them() {
    let mut it = It::start(Choice::RoundRobin).await;
    let Some(traffic) = Traffic::begin(&it).await else {
        return;
    };
    let (kills, pause) = if is_full() { (30, 20) } else { (3, 2) };
    let mut times = Vec::new();
    for kill in 0..kills {
        sleep(Duration::from_secs(pause)).await;
        let victim = kill % it.nodes.len();
        it.nodes[victim].kill9().await;
        times.extend(traffic.flows().await);
        it.nodes[victim].restart().await;
        it.balancer.until_it_knows(victim).await;
    }
    let account = traffic.end().await;
    account.say(&format!("{kills} nodes killed"));
    times.sort();
    say(format_args!(
        "from the kill to the next events of each client: median {:?}, worst {:?}",
        times[times.len() / 2],
        times[times.len() - 1]
    ));
    account.expect_exactly_once();
    account.expect_one_session_each();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_are_replaced_under_load_and_no_client_notices() {
    let mut it = It::start(Choice::RoundRobin).await;
    let Some(traffic) = Traffic::begin(&it).await else {
        return;
    };
    for number in 0..it.nodes.len() {
        traffic.flows().await;
        let node = &mut it.nodes[number];
        let started = Instant::now();
        let status = node.terminate().await;
        assert_eq!(status.code(), Some(0));
        say(format_args!("a node left in {:?}", started.elapsed()));
        node.restart().await;
        it.balancer.until_it_knows(number).await;
    }
    traffic.flows().await;
    let account = traffic.end().await;
    account.say("all nodes replaced");
    account.expect_exactly_once();
    account.expect_one_session_each();
}
