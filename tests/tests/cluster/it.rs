//! A cluster under test, and the traffic through it.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use halley_tests::{
    AFFINITY, Application, Balancer, Broker, Choice, Client, Connection, Ledger, Nats, NatsCluster, Node,
    Place, Program, Publisher, Seen, Settings, Transport, Version, say,
};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub(crate) const CHANNEL: &str = "/v2/me/calls";

/// Between two events of one user.
const PAUSE: Duration = Duration::from_millis(40);

/// How long clients may take to get the rest after a fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the tests take as long as it needs to believe them, or as long as CI has.
pub(crate) fn is_full() -> bool {
    std::env::var("HALLEY_CLUSTER").is_ok_and(|value| value == "full")
}

/// The stream of the events, as the servers call it.
pub(crate) const STREAM: &str = "halley_EVENTS";

/// Clusters of three servers that there may be at once on two processors.
static ROOM: Semaphore = Semaphore::const_new(2);

/// Three nodes, the servers that hold their log, and a balancer before them.
pub(crate) struct It {
    pub(crate) nodes: Vec<Broker>,
    pub(crate) balancer: Balancer,
    /// One, or three. They end last: nodes write down their sessions when they end.
    pub(crate) nats: NatsCluster,
    /// Held until all of it has ended.
    _place: Option<SemaphorePermit<'static>>,
}

impl It {
    /// On one server, behind HAProxy.
    pub(crate) async fn start(choice: Choice) -> It {
        Self::behind(Program::HaProxy, choice).await
    }

    /// On one server.
    pub(crate) async fn behind(program: Program, choice: Choice) -> It {
        let nats = NatsCluster::alone();
        let urls = [(); 3].map(|()| nats.url());
        Self::start_on(nats, urls, program, choice).await
    }

    /// On three servers, each of which has everything, behind HAProxy, round robin.
    pub(crate) async fn on_three_servers() -> It {
        let place = ROOM.acquire().await.expect("it is never closed");
        let nats = NatsCluster::three();
        for server in &nats.servers {
            server.until_healthy().await;
        }
        let urls = [(); 3].map(|()| nats.url());
        let it = Self::start_on(nats, urls, Program::HaProxy, Choice::RoundRobin).await;
        // What the first node has made.
        for stream in [STREAM, "KV_halley_SESSIONS", "KV_halley_META"] {
            it.nats.leader(stream).await;
        }
        for server in &it.nats.servers {
            server.until_healthy().await;
        }
        It {
            _place: Some(place),
            ..it
        }
    }

    /// Each node finds the servers at a place of its own.
    pub(crate) async fn start_on(
        nats: NatsCluster,
        urls: [String; 3],
        program: Program,
        choice: Choice,
    ) -> It {
        let cookie = if choice == Choice::Affinity { AFFINITY } else { "" };
        let replicas = nats.servers.len();
        let mut nodes = Vec::new();
        let mut places = Vec::new();
        for (url, name) in urls.into_iter().zip(["a", "b", "c"]) {
            let section =
                format!("[nats]\nreplicas = {replicas}\nnode = \"{name}\"\naffinity_cookie = \"{cookie}\"\n");
            let node = Broker::start(settings(url, section)).await;
            places.push(Place {
                name: name.to_owned(),
                public: node.public,
                internal: node.internal,
            });
            nodes.push(node);
        }
        let balancer = Balancer::before(&places, program, choice).await;
        It {
            nodes,
            balancer,
            nats,
            _place: None,
        }
    }

    pub(crate) fn internal(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.internal).collect()
    }

    /// Processor time of the nodes, and of the servers.
    pub(crate) fn cpu_seconds(&self) -> (f64, f64) {
        let nodes = self.nodes.iter().map(Broker::cpu_seconds).sum();
        let servers = self.nats.servers.iter().map(Nats::cpu_seconds).sum();
        (nodes, servers)
    }

    /// The sum of a figure over all nodes that are there.
    pub(crate) async fn sum(&mut self, metric: &str) -> f64 {
        let mut sum = 0.0;
        for node in &mut self.nodes {
            if node.is_running() {
                sum += node.metrics().await.get(metric).copied().unwrap_or(0.0);
            }
        }
        sum
    }
}

pub(crate) fn settings(url: String, extra: String) -> Settings {
    Settings {
        timeout: "5s",
        drain: "2s",
        users: 8,
        log: Some(url),
        extra,
        ..Settings::default()
    }
}

/// Stock clients, each with a user of its own, and a publisher for each that does not stop.
pub(crate) struct Traffic {
    pub(crate) clients: Vec<Node>,
    publishing: Vec<JoinHandle<Publisher>>,
    stop: watch::Sender<bool>,
}

/// What came of it.
pub(crate) struct Account {
    pub(crate) published: usize,
    pub(crate) retries: u64,
    pub(crate) seen: Vec<Seen>,
    pub(crate) ledgers: Vec<Ledger>,
}

impl Traffic {
    /// Two clients over WebSocket and two that poll, all with the acknowledge extension. `None` where there is no Node.
    pub(crate) async fn begin(it: &It) -> Option<Traffic> {
        Self::begin_with(it, true).await
    }

    pub(crate) async fn begin_with(it: &It, acknowledging: bool) -> Option<Traffic> {
        let (stop, stopped) = watch::channel(false);
        let mut clients = Vec::new();
        let mut publishing = Vec::new();
        let ways = [Transport::WebSocket, Transport::LongPolling];
        for (number, transport) in ways.into_iter().cycle().take(4).enumerate() {
            let user = (15000 + number).to_string();
            let client = Client {
                // Longer than a node may take to notice that another is gone.
                network_delay: Duration::from_secs(5),
                ..Client::new(Version::V9, transport, it.balancer.url(), &user)
            };
            let client = if acknowledging { client.with_ack() } else { client };
            let client = client.start()?;
            client.subscribe(CHANNEL).await;
            clients.push(client);
            let publisher = Publisher::to_any(&it.internal(), &format!("cluster-{user}"));
            publishing.push(tokio::spawn(publish(publisher, user, stopped.clone())));
        }
        Some(Traffic {
            clients,
            publishing,
            stop,
        })
    }

    /// Waits until every client has received something that was published after now. Returns how long each took.
    pub(crate) async fn flows(&self) -> Vec<Duration> {
        let started = Instant::now();
        let waits = self.clients.iter().map(|client| async move {
            let received = client.seen().messages.len();
            client
                .until_within(PATIENCE, "an event", |seen| seen.messages.len() > received + 1)
                .await;
            started.elapsed()
        });
        join_all(waits).await
    }

    /// Ends the publishing, and counts when everybody has had time for the rest.
    pub(crate) async fn end(self) -> Account {
        self.stop.send_replace(true);
        let mut account = Account {
            published: 0,
            retries: 0,
            seen: Vec::new(),
            ledgers: Vec::new(),
        };
        for (client, publishing) in self.clients.iter().zip(self.publishing) {
            let publisher = publishing.await.expect("the publisher gives up on nothing");
            let count = publisher.accepted().len();
            let seen = client.until_received(PATIENCE, count).await;
            account.published += count;
            account.retries += publisher.retries();
            let ledger = Ledger::new(publisher.numbers(), seen.numbers());
            let lost = ledger.report().lost;
            if !lost.is_empty() {
                say(format_args!("{}", seen.summary()));
            }
            // Whether the stream has it there tells a publisher's loss from a subscriber's.
            for (number, accepted) in publisher
                .accepted()
                .iter()
                .filter(|(number, _)| lost.contains(number))
            {
                say(format_args!("lost: event {number}, answered with {accepted:?}"));
            }
            account.ledgers.push(ledger);
            account.seen.push(seen);
        }
        account
    }
}

async fn publish(mut publisher: Publisher, user: String, stopped: watch::Receiver<bool>) -> Publisher {
    while !*stopped.borrow() {
        publisher.publish(&user, CHANNEL).await;
        sleep(PAUSE).await;
    }
    publisher
}

impl Account {
    /// Panics unless every event arrived exactly once, in order.
    #[track_caller]
    pub(crate) fn expect_exactly_once(&self) {
        for ledger in &self.ledgers {
            ledger.report().expect_exactly_once();
        }
    }

    /// Panics if a client had to shake hands again, or was refused anything.
    #[track_caller]
    pub(crate) fn expect_one_session_each(&self) {
        for seen in &self.seen {
            let kept = seen.sessions.len() == 1 && seen.refused.is_empty() && seen.errors.is_empty();
            assert!(kept, "expected one session throughout: {}", seen.summary());
        }
    }

    pub(crate) fn say(&self, what: &str) {
        let repeats: usize = self.ledgers.iter().map(|ledger| ledger.report().repeats).sum();
        let interruptions: u64 = self.seen.iter().map(|seen| seen.interruptions).sum();
        say(format_args!(
            "{what}: {} published, {} sent again by publishers; {repeats} arrived twice; {interruptions} interruptions",
            self.published, self.retries
        ));
    }
}

/// What `/readyz` of a node says: 0 if nothing.
pub(crate) async fn readiness(address: SocketAddr) -> u16 {
    let mut connection = Connection::new(address, Duration::from_secs(2));
    let answer = connection.get("/readyz").await;
    answer.map_or(0, |answer| answer.status.as_u16())
}

/// The status of a publish to a node, and how long it took.
pub(crate) async fn publish_once(address: SocketAddr) -> (u16, Duration) {
    let mut connection = Connection::new(address, Duration::from_secs(10));
    let started = Instant::now();
    let body = format!(r#"{{"user":"15007","channel":"{CHANNEL}","data":1}}"#);
    let answer = connection.post("/api/v1/events", body.into()).await;
    (answer.expect("an answer").status.as_u16(), started.elapsed())
}

/// Waits until `holds`, or panics after the patience of the clients.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Application::PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
