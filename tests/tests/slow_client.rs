//! A subscriber that stops reading costs bounded memory, delays nobody, and loses nothing.

use std::time::{Duration, Instant};

use halley_tests::{Broker, Event, Ledger, Publisher, Settings, Subscriber, say};
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{interval, sleep, timeout};

const CHANNEL: &str = "/v2/me/calls";
const EVENTS: u64 = 50_000;
const EVENT_BYTES: usize = 1024;
const BATCH: u64 = 100;
/// 4,000 events a second: the load of a large site, not the limit of the machine, which would measure the processor.
const BATCH_EVERY: Duration = Duration::from_millis(25);
/// Far more than one session's share, far less than the 50 MiB that are waiting for it.
const GROWTH_KIB: u64 = 24 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_stops_reading() {
    let broker = Broker::start(Settings::default()).await;
    let mut slow = Subscriber::connect(broker.public, "15000").await;
    slow.subscribe(CHANNEL).await;
    let mut quick = Quick::start(&broker).await;

    let before = quick.latency_for(Duration::from_secs(3)).await;
    let start = broker.rss_kib();
    // The log has buffers of its own, which the same events fill for somebody who is not there.
    let (done, _) = oneshot::channel();
    publish_all(
        Publisher::new(broker.internal, "nobody"),
        "15002",
        Duration::from_millis(1),
        done,
    )
    .await;
    let resident = broker.rss_kib();

    // From here on nobody reads from `slow`.
    let (done, mut is_done) = oneshot::channel();
    let publisher = Publisher::new(broker.internal, "slow");
    let publishing = tokio::spawn(publish_all(publisher, "15000", BATCH_EVERY, done));
    let mut peak = resident;
    let during = quick
        .latency_until(|| {
            peak = peak.max(broker.rss_kib());
            is_done.try_recv() != Err(TryRecvError::Empty)
        })
        .await;
    let grown = peak - resident;
    let publisher = publishing.await.expect("the publisher does not panic");

    let [start, resident, peak] = [start, resident, peak].map(|kib| kib / 1024);
    say(format_args!(
        "resident memory: {start} MiB at first, {resident} with a full log, then at most {peak}"
    ));
    say(format_args!("latency of another subscriber before: {before}"));
    say(format_args!("latency of another subscriber during: {during}"));
    assert!(grown <= GROWTH_KIB, "resident memory grew by {grown} KiB");
    let limit = 3 * before.p99 + Duration::from_millis(20);
    assert!(
        during.p99 <= limit,
        "p99 {:?} while a client was not reading, {:?} before",
        during.p99,
        before.p99
    );

    let session = slow.client_id().to_owned();
    let (received, reconnects) = read_all(&mut slow).await;
    let report = Ledger::new(publisher.numbers(), received).report();
    say(format_args!("then it read on: {report}, {reconnects} reconnects"));
    report.expect_at_least_once();
    assert_eq!(slow.client_id(), session, "the session stays");
}

/// Publishes [`EVENTS`] to one user, one batch each `every`.
async fn publish_all(
    mut publisher: Publisher,
    user: &str,
    every: Duration,
    done: oneshot::Sender<()>,
) -> Publisher {
    let mut pace = interval(every);
    for _ in 0..EVENTS / BATCH {
        pace.tick().await;
        publisher.publish_batch(user, CHANNEL, BATCH, EVENT_BYTES).await;
    }
    // The test that waits for it may have failed already.
    let _ = done.send(());
    publisher
}

/// Reads until every event has arrived, reconnecting whenever the broker closed the socket.
async fn read_all(slow: &mut Subscriber) -> (Vec<u64>, u64) {
    let (mut received, mut reconnects) = (Vec::new(), 0);
    while received.last() != Some(&EVENTS) {
        let event = timeout(Duration::from_secs(20), slow.next()).await;
        match event.unwrap_or_else(|_| panic!("silence after event {:?}", received.last())) {
            Ok(data) => received.push(data["seq"].as_u64().expect("events carry their number")),
            Err(_) => {
                reconnects += 1;
                assert!(reconnects < 10, "the broker closed {reconnects} sockets");
                slow.resume().await.expect("the broker takes the session back");
            }
        }
    }
    (received, reconnects)
}

/// A subscriber that reads, and the publisher that measures it: one event at a time, each timed from before its
/// publish to its arrival.
struct Quick {
    subscriber: Subscriber,
    publisher: Publisher,
    next: u64,
}

struct Latency {
    p50: Duration,
    p99: Duration,
    max: Duration,
    samples: u64,
}

impl Quick {
    async fn start(broker: &Broker) -> Quick {
        let mut subscriber = Subscriber::connect(broker.public, "15001").await;
        subscriber.subscribe(CHANNEL).await;
        Quick {
            subscriber,
            publisher: Publisher::new(broker.internal, "quick"),
            next: 0,
        }
    }

    async fn latency_for(&mut self, length: Duration) -> Latency {
        let started = Instant::now();
        self.latency_until(|| started.elapsed() >= length).await
    }

    async fn latency_until(&mut self, mut over: impl FnMut() -> bool) -> Latency {
        let mut micros = Histogram::<u64>::new(3).expect("three digits are allowed");
        while !over() {
            let started = Instant::now();
            self.round().await;
            micros.saturating_record(started.elapsed().as_micros() as u64);
            sleep(Duration::from_millis(5)).await;
        }
        let at = |micros| Duration::from_micros(micros);
        Latency {
            p50: at(micros.value_at_quantile(0.5)),
            p99: at(micros.value_at_quantile(0.99)),
            max: at(micros.max()),
            samples: micros.len(),
        }
    }

    async fn round(&mut self) {
        self.next += 1;
        let event = Event {
            user: Some("15001".to_owned()),
            channel: CHANNEL.to_owned(),
            data: json!({ "seq": self.next }),
            id: format!("quick-{}", self.next),
        };
        let (_, data) = tokio::join!(self.publisher.publish_event(&event), self.subscriber.next());
        let data = data.expect("the socket stays open");
        assert_eq!(data["seq"], self.next, "the event that was just published");
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p50 {:?}, p99 {:?}, max {:?} of {}",
            self.p50, self.p99, self.max, self.samples
        )
    }
}
