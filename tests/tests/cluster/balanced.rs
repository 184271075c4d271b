//! Balancers that send each request to the next node, and some that need not.

use std::time::Duration;

use halley_tests::{Choice, Program, say};
use tokio::time::sleep;

use crate::it::{It, Traffic, is_full};

/// Clients, for as long as it needs: everything arrives once, in the session that was there from the beginning. Returns how many
/// sessions were taken from another node; `None` where there is no Node.
async fn adoptions(it: &mut It, what: &str, acknowledging: bool, short: u64) -> Option<f64> {
    let traffic = Traffic::begin_with(it, acknowledging).await?;
    let before = it.cpu_seconds();
    sleep(Duration::from_secs(if is_full() { 600 } else { short })).await;
    let account = traffic.end().await;
    let after = it.cpu_seconds();
    account.say(what);
    let adopted = it.sum("halley_sessions_adopted_total").await;
    say(format_args!(
        "{what}: {adopted} sessions were taken from another node; {:.2} CPU s of the nodes, {:.2} of the servers",
        after.0 - before.0,
        after.1 - before.1
    ));
    account.expect_exactly_once();
    account.expect_one_session_each();
    assert_eq!(
        it.sum("halley_refusals_total{result=\"session_unknown\"}").await,
        0.0
    );
    Some(adopted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_robin_loses_nothing_brings_nothing_twice_and_keeps_every_session() {
    let mut it = It::start(Choice::RoundRobin).await;
    if let Some(adopted) = adoptions(&mut it, "round robin", true, 15).await {
        assert!(adopted > 10.0, "clients that poll come to another node each time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_acknowledge_lose_nothing_either() {
    let mut it = It::start(Choice::RoundRobin).await;
    // Nothing breaks, so each connect proves the reply before it, on whatever node.
    adoptions(&mut it, "round robin without acknowledgements", false, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_robin_of_nginx_with_its_file_of_deploy_is_no_worse() {
    let mut it = It::behind(Program::Nginx, Choice::RoundRobin).await;
    if let Some(adopted) = adoptions(&mut it, "round robin of nginx", true, 8).await {
        assert!(adopted > 10.0, "clients that poll come to another node each time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_cookie_of_the_balancer_sessions_stay_where_they_are() {
    let mut it = It::start(Choice::Cookie).await;
    if let Some(adopted) = adoptions(&mut it, "a cookie of the balancer", true, 8).await {
        assert!(adopted < 10.0, "{adopted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_haproxy_sessions_stay_where_their_cookie_says() {
    let mut it = It::behind(Program::HaProxy, Choice::Affinity).await;
    if let Some(adopted) = adoptions(&mut it, "the cookie of the nodes behind HAProxy", true, 8).await {
        assert!(adopted < 10.0, "{adopted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_sessions_stay_where_their_cookie_says() {
    let mut it = It::behind(Program::Nginx, Choice::Affinity).await;
    if let Some(adopted) = adoptions(&mut it, "the cookie of the nodes behind nginx", true, 8).await {
        assert!(adopted < 10.0, "{adopted}");
    }
}
