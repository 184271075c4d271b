//! What an operator starts, in small: nodes, servers with their permissions, and the proxy.

use std::time::{Duration, Instant};

use halley_tests::{Broker, Connection, Publisher, Subscriber};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::it::It;

const CHANNEL: &str = "/v2/me/calls";
const USER: &str = "15000";

/// What publishers are promised when there is no log to write to: nats.answer_within, and half a second.
const ANSWERED_WITHIN: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_come_and_go_and_what_was_answered_201_arrives() {
    let mut it = It::start().await;
    let mut subscriber = subscriber(&it).await;
    let mut publisher = Publisher::new(it.events, "deploy");
    let mut last = 0;
    // Any one of the servers may be lost.
    for number in 0..3 {
        it.servers[number].kill();
        last = goes_on(&mut publisher, &mut subscriber, last).await;
        it.servers[number].restart();
        it.servers[number].until_healthy().await;
    }

    it.servers[0].kill();
    it.servers[1].kill();
    for _ in 0..3 {
        for node in &it.nodes {
            expect_refused(node).await;
        }
    }
    for node in &it.nodes {
        until_unready(node).await;
    }

    it.servers[0].restart();
    it.servers[1].restart();
    for number in 0..3 {
        it.servers[number].until_healthy().await;
    }
    goes_on(&mut publisher, &mut subscriber, last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_a_node_does_is_permitted() {
    let it = It::start().await;
    let mut subscriber = subscriber(&it).await;
    let mut publisher = Publisher::new(it.events, "deploy");
    publisher.publish(USER, CHANNEL).await;
    expect(&mut subscriber, 1..=1).await;

    // The session goes to another node, which asks the one that has it.
    subscriber.resume().await.expect("a socket");
    publisher.publish(USER, CHANNEL).await;
    expect(&mut subscriber, 2..=2).await;
    assert!(it.sum("halley_sessions_adopted_total").await > 0.0);

    let nodes = call(&it.nodes[0], "GET", "/api/v1/nodes", None).await;
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(3), "{nodes}");
    let revoked = json!({ "user": "15001" });
    call(&it.nodes[0], "POST", "/api/v1/revocations", Some(&revoked)).await;
    call(&it.nodes[0], "GET", "/api/v1/revocations", None).await;
    call(&it.nodes[1], "DELETE", "/api/v1/revocations", Some(&revoked)).await;
    let ended = format!("/api/v1/users/{USER}/sessions");
    let ended = call(&it.nodes[2], "DELETE", &ended, None).await;
    assert_eq!(ended["disconnected"], 1, "{ended}");
    for node in &it.nodes {
        let log = node.log();
        assert!(!log.to_lowercase().contains("permissions violation"), "{log}");
    }
}

async fn subscriber(it: &It) -> Subscriber {
    let mut subscriber = Subscriber::connect(it.clients, USER).await;
    subscriber.subscribe(CHANNEL).await;
    subscriber
}

/// Waits until a balancer is told that nobody new is welcome.
async fn until_unready(node: &Broker) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut connection = Connection::new(node.internal, Duration::from_secs(5));
    while connection.get("/readyz").await.expect("an answer").status != 503 {
        assert!(
            Instant::now() < deadline,
            "it is ready, and nothing can be published"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Publishes two events to each node, which the proxy chooses in turn. Returns the number of the last.
async fn goes_on(publisher: &mut Publisher, subscriber: &mut Subscriber, last: u64) -> u64 {
    for _ in 0..6 {
        publisher.publish(USER, CHANNEL).await;
    }
    expect(subscriber, last + 1..=last + 6).await;
    last + 6
}

/// The numbers that come next. This client does not acknowledge: what it has had may come again. What was refused may have been
/// stored, and has no number.
async fn expect(subscriber: &mut Subscriber, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let next = async {
            loop {
                let data = subscriber.next().await.expect("the socket stays");
                if let Some(came) = data["seq"].as_u64().filter(|came| *came >= number) {
                    return came;
                }
            }
        };
        let came = timeout(Duration::from_secs(30), next).await;
        assert_eq!(came.expect("an event within 30 s"), number);
    }
}

async fn expect_refused(node: &Broker) {
    let mut connection = Connection::new(node.internal, Duration::from_secs(10));
    let event = json!({ "user": USER, "channel": CHANNEL, "data": "refused" });
    let asked = Instant::now();
    let answer = connection.post("/api/v1/events", event.to_string().into()).await;
    let answer = answer.expect("an answer");
    let took = asked.elapsed();
    assert!(
        [503, 504].contains(&answer.status.as_u16()),
        "{} {}",
        answer.status,
        answer.text()
    );
    assert!(took < ANSWERED_WITHIN, "{} after {took:?}", answer.status);
}

async fn call(node: &Broker, method: &str, path: &str, body: Option<&Value>) -> Value {
    let mut connection = Connection::new(node.internal, Duration::from_secs(5));
    let body = body.map(ToString::to_string).unwrap_or_default();
    let head = hyper::Request::builder().method(method).uri(path);
    let answer = connection.send(head, body.into()).await.expect("an answer");
    let said = format!("{method} {path}: {} {}", answer.status, answer.text());
    assert!(answer.status.is_success(), "{said}");
    serde_json::from_slice(&answer.body).unwrap_or_default()
}
