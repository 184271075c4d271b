//! TLS of the release binary: what an idle WebSocket takes of its memory, and what a signal does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use halley_tests::{Broker, Connection, ENDPOINT, Settings, say};
use rcgen::CertifiedKey;
use rustix::process::{Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

const SESSIONS: u32 = 1_000;

/// Sockets that read nothing.
const DEAF: u64 = 50;

/// What one of them may take, with what the allocator has yet to give back of the requests. Without the bound of what waits sealed it is
/// more than 5,000.
const EACH_KIB: u64 = 256;

/// What 10 MB of events take in a log in memory.
const LOG_KIB: u64 = 16 << 10;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A certificate for `halley` and its key.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(TempDir::new().expect("a temporary folder"));
        files.renew();
        files
    }

    fn renew(&self) {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["halley".to_owned()]).expect("a certificate");
        std::fs::write(self.path("tls.crt"), cert.pem()).expect("a file");
        std::fs::write(self.path("tls.key"), signing_key.serialize_pem()).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn settings(&self, reload_interval: &str) -> String {
        let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
        format!(
            "[public.tls]\ncertificate = {certificate:?}\nkey = {key:?}\nreload_interval = {reload_interval:?}\n"
        )
    }
}

/// Shakes hands, subscribes, and leaves a connect held.
async fn session<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let mut request = format!("ws://halley{ENDPOINT}")
        .into_client_request()
        .expect("a URL");
    let bearer = "Bearer secret-15000".parse().expect("a header");
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = client_async(request, stream).await.expect("a socket");
    let handshake = json!([{"channel": "/meta/handshake", "version": "1.0"}]);
    let id = ask(&mut socket, handshake).await[0]["clientId"].clone();
    ask(
        &mut socket,
        json!([{"channel": "/meta/subscribe", "clientId": id, "subscription": "/v2/me/calls"}]),
    )
    .await;
    let connect = json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "websocket"}]);
    ask(&mut socket, connect.clone()).await;
    socket
        .send(Message::text(connect.to_string()))
        .await
        .expect("it is open");
    socket
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, body: Value) -> Value {
    socket
        .send(Message::text(body.to_string()))
        .await
        .expect("it is open");
    let text = socket.next().await.expect("it is open").expect("a frame");
    serde_json::from_str(text.to_text().expect("text")).expect("JSON")
}

/// Trusts the certificate.
fn connector(files: &Files) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(files.path("tls.crt"));
    roots.add(certificate.expect("a certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A connection for which the kernel keeps little of what is not read.
async fn small_stream(broker: &Broker) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("an option");
    socket.connect(broker.public).await.expect("a connection")
}

/// Waits until a metric is there and as it should be.
async fn wait_for(broker: &Broker, name: &str, is_right: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = broker.metrics().await.get(name).copied();
        if found.is_some_and(&is_right) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {found:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// KiB that a session takes, made by `open`.
async fn weigh<S>(broker: &Broker, open: impl AsyncFn() -> S) -> f64 {
    // What the first one needs is there for all.
    let mut kept = vec![open().await];
    let before = broker.rss_kib();
    for _ in 0..SESSIONS {
        kept.push(open().await);
    }
    // What was only needed to begin is let go of.
    wait_for(broker, "halley_connections{transport=\"websocket\"}", |open| {
        open > f64::from(SESSIONS)
    })
    .await;
    let more = broker.rss_kib().saturating_sub(before);
    drop(kept);
    more as f64 / f64::from(SESSIONS)
}

#[tokio::test]
async fn an_idle_socket_over_tls_takes_at_most_twelve_kib_more_than_one_without() {
    let settings = Settings {
        in_memory: true,
        ..Settings::default()
    };
    let broker = Broker::start(settings.clone()).await;
    let dial = async |broker: &Broker| TcpStream::connect(broker.public).await.expect("a connection");
    let plain = weigh(&broker, async || session(dial(&broker).await).await).await;

    let files = Files::new();
    let extra = files.settings("30s");
    let broker = Broker::start(Settings { extra, ..settings }).await;
    let connector = connector(&files);
    let tls = weigh(&broker, async || {
        let name = ServerName::try_from("halley").expect("a name");
        session(connector.connect(name, dial(&broker).await).await.expect("TLS")).await
    })
    .await;
    say(format_args!(
        "KiB of an idle session: {plain:.1} by ws, {tls:.1} by wss"
    ));
    assert!(tls < plain + 12.0, "{tls:.1} KiB by wss, {plain:.1} by ws");
}

/// Each takes what waits sealed for it, and what stands behind that.
#[tokio::test]
async fn t25_sockets_over_tls_that_read_nothing_cost_a_bounded_amount_each() {
    let files = Files::new();
    let tls = files.settings("1h");
    let broker = Broker::start(Settings {
        in_memory: true,
        extra: format!("{tls}[limits]\nsessions_per_user = 0\n[websocket]\nwrite_timeout = \"5s\"\n"),
        ..Settings::default()
    })
    .await;
    let connector = connector(&files);
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        let name = ServerName::try_from("halley").expect("a name");
        let stream = connector.connect(name, small_stream(&broker).await).await;
        deaf.push(session(stream.expect("TLS")).await);
    }
    let mut publisher = Connection::new(broker.internal, PATIENCE);
    let mut publish = async |data: &str, times: usize| {
        let event = json!({ "user": "15000", "channel": "/v2/me/calls", "data": data });
        let batch = Bytes::from(json!(vec![event; times]).to_string());
        let answer = publisher.post("/api/v1/events", batch).await;
        assert_eq!(answer.expect("an answer").status, 201);
    };
    publish("warm-up", 1).await;
    let before = broker.rss_kib();
    // 10 MB for each of them: more than the kernel takes.
    for _ in 0..50 {
        publish(&"x".repeat(4_000), 50).await;
    }
    let during = broker.rss_kib();
    let each = during.saturating_sub(before + LOG_KIB) / DEAF;
    say(format_args!(
        "{DEAF} sockets over TLS that read nothing: {before} KiB before, {during} KiB while 10 MB wait for each, {each} KiB each"
    ));
    assert!(each < EACH_KIB, "{each} KiB each");
    let stalled = "halley_socket_ends_total{result=\"stalled\"}";
    wait_for(&broker, stalled, |count| count >= DEAF as f64).await;
    drop(deaf);
}

#[tokio::test]
async fn sighup_has_the_certificate_read_again_and_ends_nothing() {
    let files = Files::new();
    let mut broker = Broker::start(Settings {
        in_memory: true,
        extra: files.settings("1h"),
        ..Settings::default()
    })
    .await;
    files.renew();
    kill_process(broker.pid(), Signal::HUP).expect("our own child can be signalled");
    let reloads = "halley_tls_reloads_total{listener=\"public\",result=\"ok\"}";
    wait_for(&broker, reloads, |count| count >= 1.0).await;
    assert!(broker.terminate().await.success());
}

#[tokio::test]
async fn t34_a_name_with_the_end_of_a_line_does_not_end_the_line_of_the_log() {
    for format in ["text", "json"] {
        let files = Files::new();
        let odd = files.path("odd\n2033-05-18 INFO forged");
        std::fs::copy(files.path("tls.crt"), &odd).expect("a file");
        let tls = files
            .settings("1h")
            .replace(&format!("{:?}", files.path("tls.crt")), &format!("{odd:?}"));
        let mut broker = Broker::start(Settings {
            in_memory: true,
            extra: format!("{tls}[logging]\nformat = {format:?}\n"),
            ..Settings::default()
        })
        .await;
        std::fs::write(&odd, "nothing").expect("a file");
        kill_process(broker.pid(), Signal::HUP).expect("our own child can be signalled");
        let failed = "halley_tls_reloads_total{listener=\"public\",result=\"failed\"}";
        wait_for(&broker, failed, |count| count >= 1.0).await;
        assert!(broker.terminate().await.success());
        let log = broker.log_tail();
        let line = log
            .lines()
            .find(|line| line.contains("forged"))
            .expect("it is said");
        assert!(line.contains("the old one stays"), "{log}");
        if format == "json" {
            let said: Value = serde_json::from_str(line).expect("JSON");
            assert!(
                said["error"].as_str().expect("a text").contains("odd\n2033"),
                "{line}"
            );
        }
    }
}
