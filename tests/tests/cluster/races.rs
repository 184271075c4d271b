//! One session that two nodes are asked for at the same moment.

use std::time::Duration;

use halley_tests::{Choice, Connection, ENDPOINT, Publisher};
use serde_json::{Value, json};

use crate::it::{CHANNEL, It, is_full};

/// `15000:secret-15000`.
const AUTHORIZATION: &str = "Basic MTUwMDA6c2VjcmV0LTE1MDAw";

/// A client that speaks to whatever node it is told, with the acknowledge extension.
struct Speaker {
    connections: Vec<Connection>,
    client_id: String,
    acknowledged: u64,
    next: u64,
}

impl Speaker {
    async fn open(it: &It) -> Speaker {
        let connect = |node: &halley_tests::Broker| Connection::new(node.public, Duration::from_secs(20));
        let mut speaker = Speaker {
            connections: it.nodes.iter().map(connect).collect(),
            client_id: String::new(),
            acknowledged: 0,
            next: 0,
        };
        let hello = json!({ "channel": "/meta/handshake", "version": "1.0", "ext": { "ack": true },
            "supportedConnectionTypes": ["long-polling"] });
        let reply = ask(&mut speaker.connections[0], hello).await.remove(0);
        speaker.client_id = reply["clientId"].as_str().expect("a session").to_owned();
        let subscribe =
            json!({ "channel": "/meta/subscribe", "clientId": speaker.client_id, "subscription": CHANNEL });
        let reply = ask(&mut speaker.connections[1], subscribe).await.remove(0);
        assert_eq!(reply["successful"], true, "{reply}");
        let first = speaker.connect();
        ask(&mut speaker.connections[2], first).await;
        speaker
    }

    fn connect(&mut self) -> Value {
        self.next += 1;
        json!({ "channel": "/meta/connect", "clientId": self.client_id, "connectionType": "long-polling",
            "id": self.next.to_string(), "advice": { "timeout": 0 }, "ext": { "ack": self.acknowledged } })
    }
}

async fn ask(connection: &mut Connection, message: Value) -> Vec<Value> {
    let head = hyper::Request::post(ENDPOINT)
        .header("content-type", "application/json")
        .header("authorization", AUTHORIZATION);
    let answer = connection.send(head, json!([message]).to_string().into()).await;
    let answer = answer.expect("an answer");
    match answer.status.as_u16() {
        200 => serde_json::from_slice(&answer.body).expect("messages"),
        // Another connect took over, and this one is nobody's answer.
        408 | 500 => Vec::new(),
        other => panic!("{other}: {}", answer.text()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_are_asked_at_once_have_one_owner_and_lose_nothing() {
    race(&It::start(Choice::RoundRobin).await, 200).await;
}

/// Here two writes at once are on their way to the same copies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_three_copies_have_one_owner_and_lose_nothing() {
    race(&It::on_three_servers().await, 100).await;
}

async fn race(it: &It, rounds: usize) {
    let mut speaker = Speaker::open(it).await;
    let mut publisher = Publisher::to_any(&it.internal(), "race");
    let rounds = if is_full() { 1000 } else { rounds };
    let mut received = Vec::new();
    for round in 0..rounds {
        let number = publisher.publish("15000", CHANNEL).await;
        // Both ask for it at the same moment, each of another node; then one of the third, which acknowledges what came.
        let (one, other) = (speaker.connect(), speaker.connect());
        let [a, b, c] = &mut speaker.connections[..] else {
            panic!("three nodes")
        };
        let mut nodes = [a, b, c];
        nodes.rotate_left(round % 3);
        let [first, second, third] = nodes;
        let (one, other) = tokio::join!(ask(first, one), ask(second, other));
        let mut answers = vec![one, other];
        speaker.next += 1;
        let settle = json!({ "channel": "/meta/connect", "clientId": speaker.client_id, "connectionType": "long-polling",
            "id": speaker.next.to_string(), "advice": { "timeout": 0 }, "ext": { "ack": speaker.acknowledged } });
        answers.push(ask(third, settle).await);
        for answer in &answers {
            for message in answer {
                assert_ne!(message["successful"], false, "round {round}: {message}");
                if let Some(ack) = message["ext"]["ack"].as_u64() {
                    speaker.acknowledged = speaker.acknowledged.max(ack);
                }
            }
        }
        // What was not acknowledged comes again, as without a race; each answer by itself has each event once, in order.
        let of = |answer: &[Value]| -> Vec<u64> {
            answer
                .iter()
                .filter_map(|message| message["data"]["seq"].as_u64())
                .collect()
        };
        let best = answers
            .iter()
            .map(|answer| of(answer))
            .max_by_key(Vec::len)
            .expect("three");
        assert!(best.is_sorted_by(|a, b| a < b), "round {round}: {best:?}");
        for one in best {
            if received.last().is_none_or(|last| *last < one) {
                received.push(one);
            }
        }
        assert_eq!(received.last(), Some(&number), "round {round}");
    }
    assert_eq!(received, publisher.numbers().collect::<Vec<_>>());
    let owners: Vec<String> = owners(it).await;
    assert_eq!(owners.len(), 1, "one node has it: {owners:?}");
}

/// The nodes that have a session of the user in memory.
async fn owners(it: &It) -> Vec<String> {
    let mut connection = Connection::new(it.nodes[0].internal, Duration::from_secs(5));
    let answer = connection.get("/api/v1/users/15000").await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let sessions = answer["sessions"].as_array().expect("sessions");
    let node = |session: &Value| session["node"].as_str().expect("a node").to_owned();
    sessions.iter().map(node).collect()
}
