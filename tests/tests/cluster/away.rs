//! Servers that are gone, hang, or cannot be reached from one node.

use std::time::Duration;

use halley_tests::{Choice, NatsCluster, Program, Proxy, say};
use tokio::time::{Instant, sleep, sleep_until};

use crate::it::{It, Traffic, eventually, publish_once, readiness};

/// How long the servers are away: longer than a node goes on as if they came back at once.
const AWAY: Duration = Duration::from_secs(7);

/// How long they do not answer and are there.
const PAUSED: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_killed_refuse_publishes_and_keep_subscribers() {
    let mut it = It::start(Choice::RoundRobin).await;
    let Some(traffic) = Traffic::begin(&it).await else {
        return;
    };
    traffic.flows().await;
    it.nats.servers[0].kill();
    let address = it.nodes[0].internal;
    let (status, took) = publish_once(address).await;
    assert!([503, 504].contains(&status), "{status}");
    assert!(took < Duration::from_millis(2500), "{took:?}");
    eventually("503 from /readyz", async || readiness(address).await == 503).await;
    let (status, took) = publish_once(address).await;
    assert_eq!(status, 503, "nothing was stored, and that is known");
    assert!(took < Duration::from_secs(1), "{took:?}");
    it.nats.servers[0].restart();
    let back = Instant::now();
    traffic.flows().await;
    say(format_args!(
        "events flow {:?} after the server is back",
        back.elapsed()
    ));
    eventually("200 from /readyz", async || readiness(address).await == 200).await;
    let account = traffic.end().await;
    account.say("the server killed");
    account.expect_exactly_once();
    account.expect_one_session_each();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_hang_leave_publishers_in_no_doubt_for_longer_than_two_seconds() {
    let it = It::start(Choice::RoundRobin).await;
    let Some(traffic) = Traffic::begin(&it).await else {
        return;
    };
    traffic.flows().await;
    it.nats.servers[0].pause();
    let until = Instant::now() + PAUSED;
    let (status, took) = publish_once(it.nodes[0].internal).await;
    assert!([503, 504].contains(&status), "{status}");
    assert!(took < Duration::from_millis(2500), "{took:?}");
    sleep_until(until).await;
    it.nats.servers[0].go_on();
    traffic.flows().await;
    let account = traffic.end().await;
    account.say("the server paused");
    account.expect_exactly_once();
    account.expect_one_session_each();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_accepts_nothing_and_its_clients_get_everything_when_it_is_back() {
    let nats = NatsCluster::alone();
    let address = nats.servers[0].address().parse().expect("an address");
    let proxy = Proxy::start(address).await;
    let urls = [format!("nats://{}", proxy.address), nats.url(), nats.url()];
    let it = It::start_on(nats, urls, Program::HaProxy, Choice::RoundRobin).await;
    let Some(traffic) = Traffic::begin(&it).await else {
        return;
    };
    traffic.flows().await;
    proxy.black_hole();
    let cut_off = it.nodes[0].internal;
    let (status, took) = publish_once(cut_off).await;
    assert!([503, 504].contains(&status), "{status}");
    assert!(took < Duration::from_millis(2500), "{took:?}");
    eventually("503 from /readyz", async || readiness(cut_off).await == 503).await;
    // Clients that poll are at the other nodes by now. Sockets stay: a node cannot know whether it alone is cut off.
    sleep(AWAY).await;
    proxy.reset();
    proxy.heal();
    traffic.flows().await;
    eventually("200 from /readyz", async || readiness(cut_off).await == 200).await;
    let account = traffic.end().await;
    account.say("a node cut off");
    account.expect_exactly_once();
    account.expect_one_session_each();
}
