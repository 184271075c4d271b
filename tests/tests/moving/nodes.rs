//! Nodes that share a log, and clients that go from one to the other.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bayeux::ClientId;
use halley::config::{Config, Service};
use halley::log::{self, Holder, Opened, Question, SessionRecord, Settings};
use halley_tests::Nats;
use serde_json::{Value, json};

use crate::it::{Client, It, Transport, USERS};

/// Two brokers, and a third node that has no listener.
pub(crate) struct Nodes {
    pub(crate) a: It,
    pub(crate) b: It,
    third: Opened,
}

/// How many connects a node holds.
pub(crate) const HELD: &str = "halley_connections{transport=\"long-polling\"}";

/// One server for all tests of this process; it ends with it.
fn server() -> &'static Nats {
    static SERVER: LazyLock<Nats> = LazyLock::new(Nats::start);
    &SERVER
}

/// What nobody else calls a log on the server.
fn name() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("moving{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Nodes {
    pub(crate) async fn start() -> Self {
        Self::with_services(&[]).await
    }

    pub(crate) async fn with_services(services: &[Service]) -> Self {
        let name = name();
        let change = |node: &str, config: &mut Config| {
            config.log.url = server().url();
            config.nats.name.clone_from(&name);
            config.nats.node = node.to_owned();
            config.nats.replicas = 1;
            config.services = services.to_vec();
        };
        let a = It::with(|config| change("a", config)).await;
        let b = It::with(|config| change("b", config)).await;
        let mut settings = Settings::default();
        settings.shared.name = name.as_str().into();
        settings.shared.node = "third".into();
        settings.shared.replicas = 1;
        let third = log::open(&server().url(), &settings).expect("the third node opens the log");
        Self { a, b, third }
    }

    pub(crate) async fn record(&self, client: &Client) -> Option<SessionRecord> {
        let record = self.third.sessions.get(&ClientId::new(&client.id)).await;
        record.expect("the records can be read")
    }

    async fn holder(&self, client: &Client) -> Holder {
        self.record(client).await.expect("a record").holder()
    }

    /// The third node takes a session. The one that has it hears nothing, as when it does not answer.
    pub(crate) async fn steal(&self, client: &Client) {
        let from = self.holder(client).await;
        let adopted = self.third.sessions.adopt(&ClientId::new(&client.id), from).await;
        assert!(adopted.expect("the records can be written").is_some());
    }

    /// The third node takes a session, in the way that is usual.
    pub(crate) async fn take(&self, client: &Client) {
        let question = Question::LetGo(ClientId::new(&client.id));
        let from = self.holder(client).await.node.expect("it names a node");
        assert!(self.third.nodes.ask(&from, question).await.is_some());
        self.steal(client).await;
    }

    /// The third node ends a session.
    pub(crate) async fn end(&self, client: &Client) {
        let removed = self.third.sessions.remove(&ClientId::new(&client.id)).await;
        removed.expect("the records can be written");
    }
}

/// A client of a broker, with the acknowledge extension, that listens to `/a`.
pub(crate) async fn acknowledging(it: &It) -> Client {
    let ack = r#","ext":{"ack":true}"#;
    let mut client = Client::greet_with(it, Transport::LongPolling, Some(USERS[0]), ack).await;
    client.subscribe(json!("/a")).await;
    let first = connect(&mut client, 0).await;
    assert_eq!(successful(&first), [true], "{first:?}");
    client
}

/// A connect that does not wait.
pub(crate) async fn connect(client: &mut Client, ack: u64) -> Vec<Value> {
    let connect = json!({ "channel": "/meta/connect", "clientId": "$id", "connectionType": "long-polling",
        "advice": { "timeout": 0 }, "ext": { "ack": ack } });
    client.say(&json!([connect]).to_string()).await
}

/// What each reply says.
pub(crate) fn successful(messages: &[Value]) -> Vec<bool> {
    let said = messages
        .iter()
        .filter_map(|message| message["successful"].as_bool());
    said.collect()
}

/// The data of the events among them.
pub(crate) fn data(messages: &[Value]) -> Vec<&Value> {
    messages
        .iter()
        .filter_map(|message| message.get("data"))
        .collect()
}
