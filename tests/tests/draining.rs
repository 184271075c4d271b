//! The way out: who is let go when, and what those hear who come too late.

#[expect(
    dead_code,
    reason = "shared with the tests of bad input, which need more of it"
)]
#[path = "bad_input/it.rs"]
mod it;

#[path = "draining/http2.rs"]
mod http2;

use std::time::{Duration, Instant};

use halley::app::AppError;
use halley::config::{ApiKey, Config, Span};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use it::{Answer, Client, It, Socket, TRANSPORTS, Transport, USERS, exchange, request};

const CONNECT: &str = r#"{"channel":"/meta/connect","clientId":"$id","id":"9"}"#;

/// How long draining takes in a test, unless it is ended by a second wish.
const TIME: Duration = Duration::from_secs(1);

/// Longer than any of them.
const LONG: Duration = Duration::from_secs(600);

/// How much later than promised anything may be on a machine under load.
const SLACK: Duration = Duration::from_secs(8);

/// A broker that can be told to end.
struct Ending {
    it: It,
    asked: Option<oneshot::Sender<()>>,
    insisted: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), AppError>>,
}

impl Ending {
    async fn new(drain: Duration) -> Self {
        Self::with(|config| config.shutdown.drain = Span(drain)).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut it = It::with(change).await;
        let app = it.take_app();
        let (asked, ask) = oneshot::channel();
        let (insisted, insist) = oneshot::channel();
        let ended = tokio::spawn(app.run(heard(ask), heard(insist)));
        Self {
            it,
            asked: Some(asked),
            insisted: Some(insisted),
            ended,
        }
    }

    fn ask(&mut self) {
        let asked = self.asked.take().expect("nobody has asked before");
        asked.send(()).expect("it runs");
    }

    fn insist(&mut self) {
        let insisted = self.insisted.take().expect("nobody has insisted before");
        insisted.send(()).expect("it runs");
    }

    /// Asks, and waits until everyone knows.
    async fn begin(&mut self) {
        self.ask();
        self.it.wait_for("halley_draining", 1.0).await;
    }

    async fn expect_end_within(self, time: Duration) {
        let ended = timeout(time, self.ended).await.expect("it ends in time");
        ended.expect("no panic").expect("it ends well");
    }

    async fn internally(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        exchange(self.it.internal, &request(method, path, headers, b"")).await
    }
}

async fn heard(wish: oneshot::Receiver<()>) {
    if wish.await.is_err() {
        std::future::pending().await
    }
}

/// Clients whose connects are held, and sockets.
async fn crowd(it: &It, each: usize) -> Vec<(Transport, Client)> {
    let mut crowd = Vec::new();
    for _ in 0..each {
        for transport in TRANSPORTS {
            crowd.push((transport, Client::open(it, transport, Some(USERS[0])).await));
        }
    }
    crowd
}

/// Until it is let go: the reply to its connect, or the code with which its socket is closed.
async fn let_go(transport: Transport, mut client: Client) -> (Transport, Instant, Value) {
    let heard = match transport {
        Transport::LongPolling => Value::from(client.say(CONNECT).await),
        Transport::WebSocket => json!(client.closed().await),
    };
    (transport, Instant::now(), heard)
}

#[tokio::test]
async fn sockets_and_held_connects_are_let_go_one_after_the_other_over_the_whole_time() {
    const EACH: usize = 10;
    let mut ending = Ending::new(TIME).await;
    let mut leaving = JoinSet::new();
    for (transport, client) in crowd(&ending.it, EACH).await {
        leaving.spawn(let_go(transport, client));
    }
    ending
        .it
        .wait_for(r#"halley_connections{transport="long-polling"}"#, EACH as f64)
        .await;
    let start = Instant::now();
    ending.ask();
    let all = leaving.join_all().await;
    for transport in TRANSPORTS {
        let of_it = all.iter().filter(|(other, ..)| *other == transport);
        let mut moments: Vec<Duration> = of_it.map(|(_, moment, _)| *moment - start).collect();
        moments.sort();
        assert_eq!(moments.len(), EACH);
        for (number, moment) in moments.iter().enumerate() {
            let share = TIME * (number as u32 + 1) / EACH as u32;
            // The clock of timers counts milliseconds.
            assert!(
                *moment + Duration::from_millis(5) >= share,
                "{number}: {moments:?}"
            );
            assert!(*moment <= share + SLACK, "{number}: {moments:?}");
        }
        // Not all of them at the end: a tick and a slow machine are no reason for that.
        assert!(moments[0] < TIME * 3 / 4, "{moments:?}");
    }
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn a_held_connect_is_answered_with_its_advice_to_come_again_at_once() {
    let mut ending = Ending::new(Duration::from_millis(200)).await;
    let client = Client::open(&ending.it, Transport::LongPolling, Some(USERS[0])).await;
    let held = tokio::spawn(let_go(Transport::LongPolling, client));
    ending
        .it
        .wait_for(r#"halley_connections{transport="long-polling"}"#, 1.0)
        .await;
    ending.ask();
    let (_, _, heard) = held.await.expect("no panic");
    assert_eq!(heard[0]["successful"], true, "{heard}");
    assert_eq!(heard[0]["advice"]["reconnect"], "retry");
    assert_eq!(heard[0]["advice"]["interval"], 0);
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn a_socket_is_closed_with_the_code_for_a_restart() {
    let mut ending = Ending::new(Duration::from_millis(200)).await;
    let client = Client::open(&ending.it, Transport::WebSocket, Some(USERS[0])).await;
    ending.ask();
    let (_, _, heard) = let_go(Transport::WebSocket, client).await;
    assert_eq!(heard, "1012 restarting");
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn nobody_new_comes_in_while_it_drains() {
    let mut ending = Ending::new(LONG).await;
    let mut socket = Client::open(&ending.it, Transport::WebSocket, Some(USERS[0])).await;
    ending.begin().await;

    let ready = ending.internally("GET", "/readyz", &[]).await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("draining"), "{}", ready.text());
    assert_eq!(ending.internally("GET", "/livez", &[]).await.status, 200);

    let handshake = r#"[{"channel":"/meta/handshake","version":"1.0"}]"#;
    let answer = ending.it.post("/cometd", &[], handshake).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("connection"), Some("close"));
    let over_the_socket = socket.say(handshake).await;
    for reply in [&answer.json()[0], &over_the_socket[0]] {
        assert_eq!(reply["successful"], false);
        assert_eq!(reply["error"], "503::draining");
        assert_eq!(reply["advice"]["reconnect"], "handshake");
        let interval = reply["advice"]["interval"].as_u64().expect("a number");
        assert!((500..=1500).contains(&interval), "{reply}");
    }

    let upgrade = Socket::try_open(ending.it.public, "/cometd", &[]).await;
    let error = upgrade.err().expect("no socket").to_string();
    assert!(error.contains("503"), "{error}");

    let publish = ending.it.publish(r#"{"channel":"/a","data":1}"#).await;
    assert_eq!(publish.status, 503);
    assert_eq!(publish.json()["type"], "urn:halley:problem:draining");
    assert!(publish.header("retry-after").is_some());
    assert_eq!(ending.it.metric("halley_log_last_offset").await, 0.0);

    ending.insist();
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn sessions_that_are_there_go_on_while_it_drains() {
    let mut ending = Ending::new(LONG).await;
    let mut socket = Client::open(&ending.it, Transport::WebSocket, Some(USERS[0])).await;
    let mut poller = Client::open(&ending.it, Transport::LongPolling, Some(USERS[0])).await;
    ending.begin().await;
    for client in [&mut socket, &mut poller] {
        client.subscribe(json!("/chat")).await;
    }
    let published = poller
        .say(r#"{"channel":"/chat","clientId":"$id","data":"hello"}"#)
        .await;
    assert_eq!(published[0]["successful"], true, "{published:?}");
    for client in [&mut socket, &mut poller] {
        assert_eq!(client.data_until("hello").await, ["hello"]);
    }
    ending.insist();
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn a_connect_that_comes_while_it_drains_is_held_until_the_end() {
    let mut ending = Ending::new(LONG).await;
    let client = Client::open(&ending.it, Transport::LongPolling, Some(USERS[0])).await;
    ending.begin().await;
    let held = tokio::spawn(let_go(Transport::LongPolling, client));
    ending
        .it
        .wait_for(r#"halley_connections{transport="long-polling"}"#, 1.0)
        .await;
    ending.insist();
    let (_, _, heard) = held.await.expect("no panic");
    assert_eq!(heard[0]["advice"]["reconnect"], "retry", "{heard}");
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn a_second_wish_ends_it_at_once() {
    let mut ending = Ending::new(LONG).await;
    let mut leaving = JoinSet::new();
    for (transport, client) in crowd(&ending.it, 2).await {
        leaving.spawn(let_go(transport, client));
    }
    ending.begin().await;
    assert!(!ending.ended.is_finished());
    ending.insist();
    assert_eq!(leaving.join_all().await.len(), 4);
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn without_time_or_without_sessions_it_is_over_at_once() {
    let mut ending = Ending::new(Duration::ZERO).await;
    let _client = Client::open(&ending.it, Transport::LongPolling, Some(USERS[0])).await;
    ending.ask();
    ending.expect_end_within(SLACK).await;
    let mut ending = Ending::new(LONG).await;
    ending.ask();
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn an_operator_may_begin_it_and_see_who_is_left() {
    let mut ending = Ending::new(LONG).await;
    let _clients = crowd(&ending.it, 1).await;
    let state = ending.internally("GET", "/api/v1/drain", &[]).await;
    let expected = json!({ "draining": false, "sockets": 1, "connects": 0 });
    assert_eq!((state.status, state.json()), (200, expected));
    for _ in 0..2 {
        let state = ending.internally("POST", "/api/v1/drain", &[]).await;
        let expected = json!({ "draining": true, "sockets": 1, "connects": 0 });
        assert_eq!((state.status, state.json()), (202, expected));
    }
    assert_eq!(ending.internally("GET", "/readyz", &[]).await.status, 503);
    let wrong = ending.internally("DELETE", "/api/v1/drain", &[]).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, POST")));
    ending.it.wait_for("halley_draining", 1.0).await;
    ending.insist();
    ending.expect_end_within(SLACK).await;
}

#[tokio::test]
async fn beginning_it_is_an_action_of_its_own() {
    let key = |name: &str| -> ApiKey {
        let digest = Sha256::digest(format!("key-of-{name}"));
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        toml::from_str(&format!("name = {name:?}\nhash = {hash:?}\nactions = [{name:?}]")).expect("a key")
    };
    let ending = Ending::with(|config| {
        let actions = ["publish", "sessions", "revoke", "drain"];
        config.internal.keys = actions.map(key).into();
    })
    .await;
    for name in ["publish", "sessions", "revoke"] {
        let header = format!("X-API-Key: key-of-{name}");
        let answer = ending.internally("POST", "/api/v1/drain", &[&header]).await;
        assert_eq!(answer.status, 403, "{name}");
    }
    assert_eq!(ending.internally("POST", "/api/v1/drain", &[]).await.status, 401);
    assert_eq!(ending.internally("GET", "/readyz", &[]).await.status, 200);
    let header = "X-API-Key: key-of-drain";
    let answer = ending.internally("POST", "/api/v1/drain", &[header]).await;
    assert_eq!(answer.status, 202);
    ending.expect_end_within(SLACK).await;
}
