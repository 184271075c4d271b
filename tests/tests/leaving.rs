//! The binary on its way out: it ends well and in time, and the next one on the same log goes on with the same sessions.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::future::join_all;
use halley_tests::{Broker, Connection, Ledger, Publisher, Settings, Subscriber, binary};
use tokio::process::Command;
use tokio::time::timeout;

const CHANNEL: &str = "/v2/me/calls";
const SUBSCRIBERS: usize = 8;
const EVENTS: u64 = 50;

/// What may pass beyond the time of draining until the process has ended.
const BOUND: Duration = Duration::from_secs(10);

/// Reads to the event with this number, or until its socket is closed.
async fn read(subscriber: &mut Subscriber, last: u64) -> Vec<u64> {
    let mut received = Vec::new();
    while received.last() != Some(&last) {
        let next = timeout(Duration::from_secs(20), subscriber.next()).await;
        match next.expect("an event or the end") {
            Ok(data) => received.push(data["seq"].as_u64().expect("events carry their number")),
            Err(_) => break,
        }
    }
    received
}

async fn subscribers(broker: &Broker) -> Vec<Subscriber> {
    join_all((0..SUBSCRIBERS).map(async |_| {
        let mut subscriber = Subscriber::connect(broker.public, "15000").await;
        subscriber.subscribe(CHANNEL).await;
        subscriber
    }))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_it_lets_clients_go_over_its_time_and_they_lose_nothing() {
    let time = Duration::from_secs(2);
    let mut broker = Broker::start(Settings {
        drain: "2s",
        ..Settings::default()
    })
    .await;
    let mut subscribers = subscribers(&broker).await;
    let ids: Vec<String> = subscribers.iter().map(|one| one.client_id().to_owned()).collect();
    let mut publisher = Publisher::new(broker.internal, "leaving");
    for _ in 0..EVENTS {
        publisher.publish("15000", CHANNEL).await;
    }

    let started = Instant::now();
    broker.signal();
    let leaving = join_all(subscribers.iter_mut().map(async |subscriber| {
        // Beyond the last event there is only the close.
        let received = read(subscriber, u64::MAX).await;
        (received, started.elapsed())
    }));
    let (left, status) = tokio::join!(leaving, broker.ended());
    let took = started.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!((time..time + BOUND).contains(&took), "{took:?}");
    let mut moments: Vec<Duration> = left.iter().map(|(_, moment)| *moment).collect();
    moments.sort();
    for (number, moment) in moments.iter().enumerate() {
        let share = time * (number as u32 + 1) / SUBSCRIBERS as u32;
        assert!(
            *moment + Duration::from_millis(50) >= share,
            "{number}: {moments:?}"
        );
    }
    assert!(moments[0] < time * 3 / 4, "{moments:?}");
    assert!(broker.log().contains("draining"), "it says who is left");

    broker.restart().await;
    for subscriber in &mut subscribers {
        subscriber
            .resume()
            .await
            .expect("the next one takes the session back");
    }
    for _ in 0..EVENTS {
        publisher.publish("15000", CHANNEL).await;
    }
    let rest = join_all(
        subscribers
            .iter_mut()
            .map(|subscriber| read(subscriber, 2 * EVENTS)),
    )
    .await;
    for ((first, _), rest) in left.into_iter().zip(rest) {
        let ledger = Ledger::new(publisher.numbers(), first.into_iter().chain(rest));
        ledger.report().expect_at_least_once();
    }
    let ids_now: Vec<String> = subscribers.iter().map(|one| one.client_id().to_owned()).collect();
    assert_eq!(ids_now, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let mut broker = Broker::start(Settings {
        drain: "10m",
        ..Settings::default()
    })
    .await;
    let _subscribers = subscribers(&broker).await;
    broker.signal();
    let mut connection = Connection::new(broker.internal, Duration::from_secs(5));
    let deadline = Instant::now() + BOUND;
    while connection.get("/readyz").await.expect("an answer").status != 503 {
        assert!(Instant::now() < deadline, "it is ready still");
    }
    assert!(broker.is_running());
    broker.signal();
    let status = timeout(BOUND, broker.ended()).await.expect("it ends at once");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halley_drain_waits_for_its_end() {
    let mut broker = Broker::start(Settings {
        drain: "1s",
        ..Settings::default()
    })
    .await;
    let _subscribers = subscribers(&broker).await;
    let output = Command::new(binary())
        .args(["drain", "--wait", "--internal"])
        .arg(format!("http://{}", broker.internal))
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("8 sockets"), "{said}");
    let status = timeout(BOUND, broker.ended()).await.expect("it has ended");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn halley_drain_says_that_nobody_is_there() {
    let output = Command::new(binary())
        .args(["drain", "--internal", "http://127.0.0.1:1"])
        .output()
        .await
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
