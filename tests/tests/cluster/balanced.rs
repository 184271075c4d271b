//! A balancer that sends each request to the next node.

use std::time::Duration;

use halley_tests::{Choice, say};
use tokio::time::sleep;

use crate::it::{It, Traffic, is_full};

fn length() -> Duration {
    Duration::from_secs(if is_full() { 600 } else { 15 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_robin_loses_nothing_brings_nothing_twice_and_keeps_every_session() {
    let mut it = It::start(Choice::RoundRobin).await;
    let Some(traffic) = Traffic::begin(&it).await else {
        return;
    };
    sleep(length()).await;
    let account = traffic.end().await;
    account.say("round robin");
    let adopted = it.sum("halley_sessions_adopted_total").await;
    say(format_args!("{adopted} sessions were taken from another node"));
    account.expect_exactly_once();
    account.expect_one_session_each();
    assert!(adopted > 10.0, "clients that poll come to another node each time");
    assert_eq!(
        it.sum("halley_refusals_total{result=\"session_unknown\"}").await,
        0.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_acknowledge_lose_nothing_either() {
    let it = It::start(Choice::RoundRobin).await;
    let Some(traffic) = Traffic::begin_with(&it, false).await else {
        return;
    };
    sleep(length()).await;
    let account = traffic.end().await;
    account.say("round robin without acknowledgements");
    // Nothing breaks, so each connect proves the reply before it, on whatever node.
    account.expect_exactly_once();
    account.expect_one_session_each();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_cookie_of_the_balancer_sessions_stay_where_they_are() {
    let mut it = It::start(Choice::Cookie).await;
    let Some(traffic) = Traffic::begin(&it).await else {
        return;
    };
    sleep(length()).await;
    let account = traffic.end().await;
    account.say("an affinity cookie");
    let adopted = it.sum("halley_sessions_adopted_total").await;
    say(format_args!("{adopted} sessions were taken from another node"));
    account.expect_exactly_once();
    account.expect_one_session_each();
    assert!(adopted < 10.0, "{adopted}");
}
