//! The files with the names of hosts, ports and folders replaced, and what runs on them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use halley_tests::{Broker, Connection, Nats, NatsCluster, Settings};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// A key of NATS' documentation, and its public half.
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
pub(crate) const NKEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

/// How long anything may take to come or to go, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/cluster")
}

pub(crate) fn read(file: &str) -> String {
    let path = folder().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn nats() -> String {
    read("nats.conf")
}

/// What stands below /run/secrets, and the seed of the nodes.
pub(crate) struct Certificates {
    pub(crate) folder: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).expect("a certificate");
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        for (name, text) in [
            ("nats-ca.crt", authority.pem()),
            ("nats.crt", certificate.pem()),
            ("nats.key", key.serialize_pem()),
            ("halley.nk", SEED.to_owned()),
        ] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Self { folder }
    }

    pub(crate) fn put_into(&self, text: &str) -> String {
        let path = format!("{}/", self.folder.path().display());
        replaced(text, "/run/secrets/", &path)
    }
}

/// It must be there: a test that replaces nothing would run something else.
#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "there is no {from:?}");
    text.replace(from, to)
}

/// The file of a server with what compose and the environment bring.
pub(crate) fn nats_set_up(text: &str, number: usize, certificates: &Certificates) -> String {
    let text = replaced(text, "$NATS_NAME", &format!("nats-{}", number + 1));
    certificates.put_into(&replaced(&text, "$HALLEY_NKEY", NKEY))
}

pub(crate) fn nats_server() -> &'static str {
    program(["nats-server", "/usr/sbin/nats-server"])
}

pub(crate) fn haproxy() -> &'static str {
    program(["haproxy", "/usr/sbin/haproxy"])
}

/// Debian installs them where a user's PATH may not look.
fn program(places: [&'static str; 2]) -> &'static str {
    let starts = |place: &&str| {
        let mut command = Command::new(place);
        command.arg("-v").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    let found = places.into_iter().find(starts);
    found.unwrap_or_else(|| panic!("{} is not installed; cargo xtask test installs it", places[0]))
}

pub(crate) fn free_port() -> u16 {
    halley_tests::free_address().port()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Everything that compose starts, on loopback.
pub(crate) struct It {
    /// Where clients come.
    pub(crate) clients: SocketAddr,
    /// Where publishers come.
    pub(crate) events: SocketAddr,
    pub(crate) nodes: Vec<Broker>,
    pub(crate) servers: Vec<Nats>,
    _proxy: Proxy,
    _certificates: Certificates,
}

struct Proxy {
    process: Child,
    _folder: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl It {
    /// Starts it, with everything as it is written.
    pub(crate) async fn start() -> It {
        let certificates = Certificates::new();
        let servers = servers(&certificates);
        for server in &servers {
            server.until_healthy().await;
        }
        let mut nodes = Vec::new();
        for name in ["halley-1", "halley-2", "halley-3"] {
            nodes.push(Broker::start(settings(name, &servers, &certificates)).await);
        }
        let (clients, events) = (loopback(free_port()), loopback(free_port()));
        let proxy = proxy(clients, events, &nodes);
        for place in [clients, events] {
            until_it_answers(place).await;
        }
        It {
            clients,
            events,
            nodes,
            servers,
            _proxy: proxy,
            _certificates: certificates,
        }
    }

    /// The sum of a figure over all nodes.
    pub(crate) async fn sum(&self, metric: &str) -> f64 {
        let mut sum = 0.0;
        for node in &self.nodes {
            let metrics = node.metrics().await;
            sum += metrics.get(metric).expect("a figure of this name");
        }
        sum
    }
}

async fn until_it_answers(place: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    let mut connection = Connection::new(place, Duration::from_secs(2));
    while let Err(error) = connection.get("/").await {
        assert!(Instant::now() < deadline, "{place}: {error}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn servers(certificates: &Certificates) -> Vec<Nats> {
    let routes = [(); 3].map(|()| free_port());
    let servers = (0..3).map(|number| {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, monitor) = (free_port(), free_port());
        let mut text = nats_set_up(&nats(), number, certificates);
        text = replaced(&text, "0.0.0.0:4222", &format!("127.0.0.1:{port}"));
        text = replaced(&text, "127.0.0.1:8222", &format!("127.0.0.1:{monitor}"));
        text = replaced(&text, "0.0.0.0:6222", &format!("127.0.0.1:{}", routes[number]));
        for (other, route) in routes.iter().enumerate() {
            let name = format!("nats-{}:6222", other + 1);
            text = replaced(&text, &name, &format!("127.0.0.1:{route}"));
        }
        let store = folder.path().join("store");
        text = replaced(&text, "\"/data\"", &format!("{store:?}"));
        Nats::set_up(port, monitor, folder, text)
    });
    NatsCluster::of(servers.collect()).servers
}

/// The section `[nats]` as it is written; users, and times of a test, are the test's.
fn settings(name: &str, servers: &[Nats], certificates: &Certificates) -> Settings {
    let text = certificates.put_into(&read("halley.toml"));
    let mut file: toml::Table = text.parse().expect("it is TOML");
    let mut nats = file.remove("nats").expect("a section");
    let section = nats.as_table_mut().expect("a section");
    section.insert("node".to_owned(), name.into());
    let log = file["log"]["url"].as_str().expect("an address").to_owned();
    let log = servers.iter().enumerate().fold(log, |log, (number, server)| {
        replaced(&log, &format!("nats-{}:4222", number + 1), &server.address())
    });
    let extra = toml::Table::from_iter([("nats".to_owned(), nats)]);
    Settings {
        log: Some(log),
        extra: extra.to_string(),
        ..Settings::default()
    }
}

fn proxy(clients: SocketAddr, events: SocketAddr, nodes: &[Broker]) -> Proxy {
    let mut text = read("haproxy.cfg");
    text = replaced(&text, "bind :8080", &format!("bind {clients}"));
    text = replaced(&text, "bind :9090", &format!("bind {events}"));
    // As many as whoever runs the tests may have.
    text = replaced(&text, "maxconn 100000", "maxconn 200");
    for (number, node) in nodes.iter().enumerate() {
        let name = format!("halley-{}", number + 1);
        text = replaced(&text, &format!("{name}:8080"), &node.public.to_string());
        text = replaced(&text, &format!("{name}:9090"), &node.internal.to_string());
        let cookie = format!("cookie {name} port ");
        text = replaced(
            &text,
            &format!("{cookie}9090"),
            &format!("{cookie}{}", node.internal.port()),
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, text).expect("a file");
    let process = Command::new(haproxy())
        .args(["-db", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("haproxy starts");
    Proxy {
        process,
        _folder: folder,
    }
}
