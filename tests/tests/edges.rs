//! What many bad clients cost: memory, file descriptors, and the time of somebody else, before, while and after they are there.
//!
//! `HALLEY_EDGES=full` is as large as the file descriptors of most machines allow; without it the same is done in small. Each test prints
//! its figures and asserts bounds that hold on a slow machine; they run one after the other, since each wants the machine.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use halley_tests::{Broker, Connection, Settings, Subscriber, say};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// One at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The 99th percentile of another user's latency is below this, whatever happens.
const LATENCY: Duration = Duration::from_secs(2);

/// How long the allocator may take to give back what is free: it begins a second after that.
const RETURN: Duration = Duration::from_secs(10);

/// So many KiB may stay of a crowd, however large it was.
const STAYS: u64 = 10 << 10;

fn is_full() -> bool {
    std::env::var_os("HALLEY_EDGES").is_some_and(|size| size == "full")
}

fn many(small: usize, full: usize) -> usize {
    if is_full() { full } else { small }
}

/// A broker, and a user who has done nothing wrong.
struct It {
    broker: Broker,
    victim: Subscriber,
    publisher: Connection,
    title: String,
    before: Figures,
}

/// What can be seen.
#[derive(Debug, Clone, Copy)]
struct Figures {
    kib: u64,
    files: usize,
    p99: Duration,
}

impl It {
    async fn start(title: impl Into<String>, extra: &str) -> Self {
        Self::start_with(
            title,
            Settings {
                extra: extra.to_owned(),
                ..Settings::default()
            },
        )
        .await
    }

    async fn start_with(title: impl Into<String>, settings: Settings) -> Self {
        let broker = Broker::start(Settings {
            in_memory: true,
            ..settings
        })
        .await;
        let mut victim = Subscriber::connect(broker.public, "15001").await;
        victim.subscribe("/v2/me/calls").await;
        let publisher = Connection::new(broker.internal, PATIENCE);
        let mut it = Self {
            broker,
            victim,
            publisher,
            title: title.into(),
            before: Figures {
                kib: 0,
                files: 0,
                p99: Duration::ZERO,
            },
        };
        it.look("warm-up").await;
        it.before = it.look("before").await;
        it
    }

    /// Publishes to the victim, one event after the other.
    async fn look(&mut self, when: &str) -> Figures {
        let mut latencies = Vec::new();
        for number in 0..200 {
            let event = json!({ "user": "15001", "channel": "/v2/me/calls", "data": number }).to_string();
            let began = Instant::now();
            let answer = self.publisher.post("/api/v1/events", Bytes::from(event)).await;
            assert_eq!(answer.expect("an answer").status, 201);
            while self.next().await != json!(number) {}
            latencies.push(began.elapsed());
        }
        latencies.sort();
        let figures = Figures {
            kib: self.broker.rss_kib(),
            files: self.broker.descriptors(),
            p99: latencies[latencies.len() * 99 / 100],
        };
        let Figures { kib, files, p99 } = figures;
        if !matches!(when, "warm-up" | "waiting") {
            say(format_args!(
                "{}, {when}: {kib} KiB, {files} files, p99 {p99:?}",
                self.title
            ));
        }
        assert!(p99 < LATENCY, "{when}: {p99:?}");
        figures
    }

    async fn next(&mut self) -> Value {
        timeout(PATIENCE, self.victim.next())
            .await
            .expect("an event in time")
            .expect("a socket")
    }

    /// Looks while all of the others are there, each of whom may take so much.
    async fn expect_crowd(&mut self, count: usize, kib_each: u64) {
        // A connection is there for its client before the broker has taken it.
        let deadline = Instant::now() + PATIENCE;
        while self.broker.descriptors() < count && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        let during = self.look("during").await;
        assert!(during.files >= count, "all of them are there: {}", during.files);
        assert!(
            during.kib < self.before.kib + count as u64 * kib_each + 4096,
            "{} KiB",
            during.kib
        );
    }

    /// Waits until the file descriptors of others are gone, and their memory too: what stays has nothing to do with how many
    /// they were.
    async fn expect_recovery(&mut self) {
        self.wait_for_files(self.before.files + 8).await;
        let most = self.before.kib + STAYS;
        let deadline = Instant::now() + RETURN;
        while self.broker.rss_kib() > most && Instant::now() < deadline {
            sleep(Duration::from_millis(100)).await;
        }
        let after = self.look("after").await;
        assert!(
            after.kib <= most,
            "{} KiB became {} KiB",
            self.before.kib,
            after.kib
        );
    }

    async fn wait_for_files(&self, most: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.broker.descriptors() > most {
            assert!(Instant::now() < deadline, "{} files", self.broker.descriptors());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Connections that have said this much, all at once.
async fn crowd(address: SocketAddr, count: usize, said: &str) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let wanted = (count - streams.len()).min(500);
        let opening = (0..wanted).map(|_| async {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.write_all(said.as_bytes()).await.expect("written");
            stream
        });
        streams.extend(futures::future::join_all(opening).await);
    }
    streams
}

/// Writes a byte to each of them now and then, until all are closed. Returns how many were.
async fn drip(streams: Vec<TcpStream>, byte: &'static [u8]) -> usize {
    let dripping = streams.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            let mut heard = [0; 1024];
            loop {
                tokio::select! {
                    read = stream.read(&mut heard) => match read {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    },
                    () = sleep(Duration::from_millis(300)) => {
                        if stream.write_all(byte).await.is_err() {
                            return;
                        }
                    }
                }
            }
        })
    });
    let dripping: Vec<_> = dripping.collect();
    let count = dripping.len();
    timeout(PATIENCE, futures::future::join_all(dripping))
        .await
        .expect("all are closed in time");
    count
}

const AUTHORIZATION: &str = "Authorization: Bearer secret-15000\r\n";

fn upgrade() -> String {
    format!(
        "GET /cometd HTTP/1.1\r\nHost: h\r\n{AUTHORIZATION}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn post(body: &str, more: &str) -> String {
    let length = body.len();
    format!("POST /cometd HTTP/1.1\r\nHost: h\r\n{more}Content-Length: {length}\r\n\r\n{body}")
}

/// A text frame, masked with zeros, and long enough for a length of two bytes.
fn frame(text: &str) -> Vec<u8> {
    let text = format!("{text:>126}");
    let length = u16::try_from(text.len()).expect("a short text").to_be_bytes();
    [&[0x81, 0x80 | 126][..], &length, &[0; 4], text.as_bytes()].concat()
}

/// Reads until the text that came ends with this.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut said = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&said);
        if text.contains(end) {
            return text.into_owned();
        }
        let read = timeout(PATIENCE, stream.read_buf(&mut said))
            .await
            .expect("an answer in time");
        assert!(
            read.expect("an answer") > 0,
            "closed after {}",
            String::from_utf8_lossy(&said)
        );
    }
}

/// A connection for which the kernel keeps little of what is not read.
async fn small_stream(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("an option");
    socket.connect(address).await.expect("a connection")
}

/// A WebSocket with a session that is subscribed to `/hostile/x`, and then reads nothing any more.
async fn deaf_socket(address: SocketAddr) -> TcpStream {
    let mut stream = small_stream(address).await;
    stream.write_all(upgrade().as_bytes()).await.expect("written");
    read_until(&mut stream, "\r\n\r\n").await;
    stream
        .write_all(&frame(r#"[{"channel":"/meta/handshake"}]"#))
        .await
        .expect("written");
    let greeting = read_until(&mut stream, "\"successful\":true").await;
    let id = greeting
        .split("\"clientId\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let id = id.expect("a clientId");
    let more = format!(
        r#"[{{"channel":"/meta/subscribe","clientId":"{id}","subscription":"/hostile/x"}},{{"channel":"/meta/connect","clientId":"{id}"}}]"#
    );
    stream.write_all(&frame(&more)).await.expect("written");
    read_until(&mut stream, "/meta/connect").await;
    stream
}

/// For sockets of one user, of which there are more than a user has.
const ANY_NUMBER: &str = "[limits]\nsessions_per_user = 0\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t24_headers_that_come_byte_by_byte_end_and_delay_nobody() {
    let _turn = TURN.lock().await;
    let count = many(500, 8_000);
    let mut it = It::start(
        format!("{count} slow headers"),
        "[limits]\nheader_timeout = \"4s\"\n",
    )
    .await;
    let streams = crowd(it.broker.public, count, "POST /cometd HTTP/1.1\r\nHost: h\r\nX: ").await;
    let dripping = tokio::spawn(drip(streams, b"x"));
    it.expect_crowd(count, 24).await;
    assert_eq!(dripping.await.expect("no panic"), count);
    it.expect_recovery().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t24_bodies_that_come_byte_by_byte_end_and_delay_nobody() {
    let _turn = TURN.lock().await;
    let count = many(500, 8_000);
    let mut it = It::start(
        format!("{count} slow bodies"),
        "[limits]\nbody_timeout = \"4s\"\n",
    )
    .await;
    let head = format!(
        "POST /cometd HTTP/1.1\r\nHost: h\r\n{AUTHORIZATION}Content-Length: 60000\r\nConnection: close\r\n\r\n["
    );
    let dripping = tokio::spawn(drip(crowd(it.broker.public, count, &head).await, b" "));
    it.expect_crowd(count, 32).await;
    assert_eq!(dripping.await.expect("no panic"), count);
    // Each byte came alone, and kept no more than itself.
    it.expect_recovery().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t24_connections_that_say_nothing_are_ended() {
    let _turn = TURN.lock().await;
    let count = many(1_000, 15_000);
    let mut it = It::start(
        format!("{count} idle connections"),
        "[limits]\nheader_timeout = \"4s\"\n",
    )
    .await;
    let streams = crowd(it.broker.public, count, "").await;
    let during = it.look("during").await;
    assert!(during.files >= count, "all of them are there: {}", during.files);
    it.expect_recovery().await;
    drop(streams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t26_sockets_whose_peers_are_frozen_are_ended() {
    let _turn = TURN.lock().await;
    let count = many(500, 8_000);
    let settings = format!("[websocket]\nping_interval = \"5s\"\npong_timeout = \"5s\"\n{ANY_NUMBER}");
    let mut it = It::start(format!("{count} frozen peers"), &settings).await;
    let streams = crowd(it.broker.public, count, &upgrade()).await;
    it.expect_crowd(count, 16).await;
    // The victim's own library answers pings only while it reads, which it does in looking.
    it.look("waiting").await;
    let ended = it.broker.metrics().await;
    let deadline = Instant::now() + PATIENCE;
    while it.broker.descriptors() > it.before.files + 8 {
        assert!(Instant::now() < deadline, "{ended:?}");
        // Each look leaves its events in the log, which is in memory here.
        sleep(Duration::from_secs(1)).await;
        it.look("waiting").await;
    }
    it.expect_recovery().await;
    let ended = it.broker.metrics().await["halley_socket_ends_total{result=\"silent\"}"];
    assert!(ended >= count as f64, "{ended} were silent");
    drop(streams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t25_sockets_that_read_nothing_cost_a_bounded_amount_each() {
    let _turn = TURN.lock().await;
    let count = many(50, 200);
    let settings = format!("[websocket]\nwrite_timeout = \"3s\"\n{ANY_NUMBER}");
    let mut it = It::start(format!("{count} sockets that read nothing"), &settings).await;
    let opening = (0..count).map(|_| deaf_socket(it.broker.public));
    let streams = futures::future::join_all(opening).await;
    let event = json!({ "channel": "/hostile/x", "data": "x".repeat(4_000) });
    let batch = Bytes::from(json!(vec![event; 50]).to_string());
    // 10 MB for each of them: more than the kernel takes.
    for _ in 0..50 {
        let answer = it.publisher.post("/api/v1/events", batch.clone()).await;
        assert_eq!(answer.expect("an answer").status, 201);
    }
    let during = it.look("during").await;
    // The log in memory has 10 MB of its own.
    let most = it.before.kib + (32 << 10) + count as u64 * 256;
    assert!(during.kib < most, "{} KiB", during.kib);
    it.wait_for_files(it.before.files + 8).await;
    it.look("after").await;
    let ended = it.broker.metrics().await["halley_socket_ends_total{result=\"stalled\"}"];
    assert!(ended >= count as f64, "{ended} were stalled");
    drop(streams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t30_handshakes_all_at_once_are_answered_and_leave_nothing() {
    let _turn = TURN.lock().await;
    let count = many(1_000, 10_000);
    let settings = Settings {
        max_interval: "3s",
        extra: ANY_NUMBER.to_owned(),
        ..Settings::default()
    };
    let mut it = It::start_with(format!("{count} handshakes at once"), settings).await;
    let request = post(r#"[{"channel":"/meta/handshake"}]"#, AUTHORIZATION);
    let address = it.broker.public;
    let began = Instant::now();
    let storm = tokio::spawn(async move {
        let mut streams = crowd(address, count, &request).await;
        for stream in &mut streams {
            read_until(stream, "\"successful\":true").await;
        }
        streams
    });
    let during = it.look("during").await;
    let streams = storm.await.expect("no panic");
    say(format_args!(
        "{}: {:?}, {} KiB meanwhile",
        it.title,
        began.elapsed(),
        during.kib
    ));
    assert!(it.broker.metrics().await["halley_handshakes_total{result=\"ok\"}"] >= count as f64);
    drop(streams);
    let deadline = Instant::now() + PATIENCE;
    while it.broker.metrics().await["halley_sessions"] > 1.0 {
        assert!(Instant::now() < deadline, "sessions stay");
        sleep(Duration::from_millis(100)).await;
    }
    it.expect_recovery().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t29_sessions_of_one_address_are_as_many_as_it_may_have() {
    let _turn = TURN.lock().await;
    let count = many(1_000, 5_000);
    let settings = "[limits]\nsessions_per_user = 0\nhandshakes_per_address = 0\nexempt_networks = []\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let settings = Settings {
        max_interval: "60s",
        extra: settings.to_owned(),
        ..Settings::default()
    };
    let mut it = It::start_with(format!("{count} sessions from one address"), settings).await;
    let body = r#"[{"channel":"/meta/handshake"}]"#;
    let request = post(body, &format!("{AUTHORIZATION}X-Forwarded-For: 203.0.113.7\r\n"));
    let mut streams = crowd(it.broker.public, count, &request).await;
    let mut refused = 0;
    for stream in &mut streams {
        let answer = read_until(stream, "\"successful\":").await;
        refused += usize::from(answer.starts_with("HTTP/1.1 429"));
    }
    assert_eq!(refused, count - 200);
    it.look("during").await;
    assert!(it.broker.metrics().await["halley_sessions"] <= 201.0);
    drop(streams);
    it.expect_recovery().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_file_descriptors_new_connections_wait_and_sessions_are_served() {
    let _turn = TURN.lock().await;
    let mut it = It::start("no file descriptors", "").await;
    let limit = it.broker.descriptors() + 20;
    let pid = Some(it.broker.pid());
    let own = getrlimit(Resource::Nofile);
    let lowered = Rlimit {
        current: Some(limit as u64),
        ..own
    };
    prlimit(pid, Resource::Nofile, lowered).expect("our own child");
    let streams = crowd(it.broker.public, 100, "").await;
    let during = it.look("during").await;
    // Some have numbers above the limit, from before.
    assert!(during.files <= limit + 8, "{}", during.files);
    let (cpu, began) = (it.broker.cpu_seconds(), Instant::now());
    sleep(Duration::from_secs(2)).await;
    let busy = (it.broker.cpu_seconds() - cpu) / began.elapsed().as_secs_f64();
    say(format_args!(
        "no file descriptors: {:.0} % of a processor",
        busy * 100.0
    ));
    assert!(busy < 0.5, "it spins: {busy}");
    let lines = it.broker.log().matches("cannot accept").count();
    assert!((1..=4).contains(&lines), "{lines} lines");
    drop(streams);
    // It heals by itself, and without more of them.
    let mut another = Subscriber::connect(it.broker.public, "15000").await;
    another.subscribe("/x").await;
    prlimit(pid, Resource::Nofile, own).expect("our own child");
    it.expect_recovery().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_leave_file_descriptors_for_the_log() {
    let _turn = TURN.lock().await;
    let settings = Settings {
        files: Some(256),
        ..Settings::default()
    };
    let mut it = It::start_with("256 file descriptors", settings).await;
    let streams = crowd(it.broker.public, 400, "").await;
    let during = it.look("during").await;
    assert!(during.files <= 256 - 32, "{} are open", during.files);
    assert!(!it.broker.log().contains("cannot accept"), "there were enough");
    drop(streams);
    it.expect_recovery().await;
}

/// Nothing but the kernel sees that nobody takes an answer over HTTP/1.1: it waits for half a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t25_answers_that_nobody_takes_end_their_connections() {
    let _turn = TURN.lock().await;
    let count = many(20, 200);
    let mut it = It::start(format!("{count} answers that nobody takes"), ANY_NUMBER).await;
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(deaf_poller(it.broker.public).await);
    }
    let event = json!({ "channel": "/hostile/x", "data": "x".repeat(50_000) });
    for _ in 0..40 {
        let event = Bytes::from(event.to_string());
        let answer = it.publisher.post("/api/v1/events", event).await;
        assert_eq!(answer.expect("an answer").status, 201);
    }
    let during = it.look("during").await;
    assert!(during.kib < it.before.kib + (50 << 10) + count as u64 * (2 << 10));
    it.wait_for_files(it.before.files + 8).await;
    it.look("after").await;
    drop(streams);
}

/// A session by long-polling with a connect that is held, and nobody who reads its answer.
async fn deaf_poller(address: SocketAddr) -> TcpStream {
    let mut stream = small_stream(address).await;
    let handshake = post(r#"[{"channel":"/meta/handshake"}]"#, AUTHORIZATION);
    stream.write_all(handshake.as_bytes()).await.expect("written");
    let greeting = read_until(&mut stream, "\"successful\":true").await;
    let id = greeting
        .split("\"clientId\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let id = id.expect("a clientId");
    let first = format!(
        r#"[{{"channel":"/meta/subscribe","clientId":"{id}","subscription":"/hostile/x"}},{{"channel":"/meta/connect","clientId":"{id}"}}]"#
    );
    stream
        .write_all(post(&first, AUTHORIZATION).as_bytes())
        .await
        .expect("written");
    read_until(&mut stream, "\"channel\":\"/meta/connect\"").await;
    let held = format!(r#"[{{"channel":"/meta/connect","clientId":"{id}"}}]"#);
    stream
        .write_all(post(&held, AUTHORIZATION).as_bytes())
        .await
        .expect("written");
    stream
}
