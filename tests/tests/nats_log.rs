//! A log on NATS: what is special about it. What every log promises is in `log_conformance`.

#[expect(
    dead_code,
    reason = "shared with the tests of bad input, which need more of it"
)]
#[path = "bad_input/it.rs"]
mod it;
#[path = "nats_log/sizes.rs"]
mod sizes;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bayeux::{ChannelName, ChannelPattern, Offset, Traits};
use halley::event::{Audience, Event, Tenant, UserId};
use halley::log::{self, EventLog, Followed, Interest, Limit, LogError, Opened, Page, Settings};
use halley_tests::{Nats, NatsCluster, NatsSettings};
use serde_json::value::RawValue;

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.shared.replicas = 1;
    settings
}

fn open(nats: &Nats) -> Opened {
    open_with(nats, &settings())
}

fn open_with(nats: &Nats, settings: &Settings) -> Opened {
    log::open(&nats.url(), settings).unwrap_or_else(|error| panic!("{error}\n{}", nats.said()))
}

fn why_not(nats: &Nats, settings: &Settings) -> String {
    match log::open(&nats.url(), settings) {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

fn event(user: Option<&str>, channel: &str, data: &str) -> Event {
    Event {
        tenant: Tenant::default(),
        audience: user.map_or(Audience::Everyone, |user| Audience::User(UserId(user.into()))),
        channel: ChannelName::parse(channel).expect("a channel"),
        data: RawValue::from_string(data.to_owned()).expect("test data is JSON"),
        id: None,
        traits: Traits::default(),
    }
}

fn with_id(id: &str) -> Event {
    Event {
        id: Some(id.into()),
        ..event(None, "/a", "1")
    }
}

async fn append(log: &Arc<dyn EventLog>) -> Result<u64, LogError> {
    let positions = log.append(vec![event(None, "/a", "1")]).await?;
    Ok(positions[0].offset.0)
}

/// Appends until it works, as publishers do.
async fn append_in_the_end(log: &Arc<dyn EventLog>, id: &str) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match log.append(vec![with_id(id)]).await {
            Ok(positions) => return positions[0].offset.0,
            Err(error) => assert!(Instant::now() < deadline, "the log takes nothing: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The messages of the next `count` events of a stream, with their offsets.
async fn next(followed: &mut Followed, count: usize) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let wait = tokio::time::timeout(Duration::from_secs(30), followed.batches.recv());
        let batch = wait
            .await
            .expect("an event within thirty seconds")
            .expect("the stream goes on");
        seen.extend(batch.iter().map(|event| {
            let message = String::from_utf8_lossy(event.delivery.message()).into_owned();
            (event.delivery.offset().0, message)
        }));
    }
    seen
}

async fn next_offsets(followed: &mut Followed, count: usize) -> Vec<u64> {
    next(followed, count)
        .await
        .into_iter()
        .map(|(offset, _)| offset)
        .collect()
}

async fn read(
    log: &Arc<dyn EventLog>,
    user: Option<&str>,
    patterns: &[&str],
    after: u64,
    events: usize,
) -> Page {
    let interest = Interest {
        tenant: Tenant::default(),
        user: user.map(|user| UserId(user.into())),
        patterns: patterns
            .iter()
            .map(|text| ChannelPattern::parse(text).expect("a pattern"))
            .collect(),
    };
    let limit = Limit {
        events,
        bytes: usize::MAX,
    };
    log.read(&interest, Offset(after), limit)
        .await
        .expect("the log can be read")
}

fn offsets(page: &Page) -> Vec<u64> {
    page.events.iter().map(|event| event.offset().0).collect()
}

/// The subject, the headers and the data of a message.
type Straight<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// A backend that publishes past every node.
async fn straight(nats: &Nats, messages: &[Straight<'_>]) {
    let client = async_nats::connect(nats.address())
        .await
        .expect("the server is there");
    let jetstream = async_nats::jetstream::new(client);
    for (subject, pairs, payload) in messages {
        let mut headers = HeaderMap::new();
        for (name, value) in *pairs {
            headers.insert(*name, *value);
        }
        let sent = jetstream
            .publish_with_headers((*subject).to_owned(), headers, (*payload).to_owned().into())
            .await
            .expect("it is sent");
        sent.await.expect("the stream has it");
    }
}

/// Waits until the log has noticed that its servers are away, or are there.
async fn wait_until(log: &Arc<dyn EventLog>, away: bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while log.away().is_some() != away {
        assert!(
            Instant::now() < deadline,
            "away: {:?}, expected {away}",
            log.away()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_started_again_leaves_no_gap_and_repeats_nothing() {
    let mut nats = Nats::start();
    let opened = open(&nats);
    let mut followed = opened.log.follow();
    for round in 0..3 {
        for n in 0..20 {
            append_in_the_end(&opened.log, &format!("{round}-{n}")).await;
        }
        nats.kill();
        wait_until(&opened.log, true).await;
        nats.restart();
    }
    append_in_the_end(&opened.log, "last").await;
    assert_eq!(
        next_offsets(&mut followed, 61).await,
        (1..=61).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_the_same_after_a_server_was_killed() {
    let mut nats = Nats::start();
    let epoch = open(&nats).log.epoch().clone();
    nats.kill();
    nats.restart();
    assert_eq!(open(&nats).log.epoch(), &epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_waited_for_no_longer_than_configured() {
    let nats = Nats::start();
    let opened = open(&nats);
    append(&opened.log).await.expect("stored");
    nats.pause();
    let begun = Instant::now();
    let answer = append(&opened.log).await;
    let took = begun.elapsed();
    nats.go_on();
    assert!(matches!(answer, Err(LogError::Unanswered(_))), "{answer:?}");
    assert!(took < Duration::from_millis(2500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_server_stood_still_the_stream_goes_on_without_a_gap() {
    let nats = Nats::start();
    let opened = open(&nats);
    let mut followed = opened.log.follow();
    append_in_the_end(&opened.log, "before").await;
    nats.pause();
    wait_until(&opened.log, true).await;
    nats.go_on();
    for n in 0..10 {
        append_in_the_end(&opened.log, &n.to_string()).await;
    }
    assert_eq!(
        next_offsets(&mut followed, 11).await,
        (1..=11).collect::<Vec<_>>()
    );
    wait_until(&opened.log, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_told_at_once_that_the_servers_are_away() {
    let mut nats = Nats::start();
    let opened = open(&nats);
    assert_eq!(opened.log.away(), None);
    nats.kill();
    wait_until(&opened.log, true).await;
    let begun = Instant::now();
    let answer = append(&opened.log).await;
    assert!(matches!(answer, Err(LogError::Away(_))), "{answer:?}");
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_while_the_servers_were_away_is_not_stored_later() {
    let mut nats = Nats::start();
    let opened = open(&nats);
    nats.kill();
    wait_until(&opened.log, true).await;
    append(&opened.log).await.expect_err("nobody is there");
    nats.restart();
    assert_eq!(append_in_the_end(&opened.log, "later").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_id_is_known_after_the_server_was_killed() {
    let mut nats = Nats::start();
    let opened = open(&nats);
    assert_eq!(append_in_the_end(&opened.log, "k").await, 1);
    nats.kill();
    nats.restart();
    assert_eq!(append_in_the_end(&opened.log, "k").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_see_each_others_events_in_one_order() {
    let nats = Nats::start();
    let (one, other) = (open(&nats), open(&nats));
    let (mut of_one, mut of_other) = (one.log.follow(), other.log.follow());
    for _ in 0..50 {
        let appends = (append(&one.log), append(&other.log));
        let (a, b) = futures::join!(appends.0, appends.1);
        a.and(b).expect("stored");
    }
    let seen = next_offsets(&mut of_one, 100).await;
    assert_eq!(seen, (1..=100).collect::<Vec<_>>());
    assert_eq!(next_offsets(&mut of_other, 100).await, seen);
}

/// An operator may delete what should never have been published. No server has it then, so nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_from_all_copies_is_not_waited_for() {
    let nats = NatsCluster::three();
    let mut settings = settings();
    settings.shared.replicas = 3;
    let one = log::open(&nats.url(), &settings).expect("the servers are ready");
    for _ in 0..5 {
        append(&one.log).await.expect("stored");
    }
    let client = async_nats::connect(nats.servers[0].address()).await;
    let jetstream = async_nats::jetstream::new(client.expect("the server is there"));
    let stream = jetstream.get_stream("halley_EVENTS").await.expect("it is there");
    for deleted in [2, 3] {
        stream.delete_message(deleted).await.expect("it is deleted");
    }
    let other = log::open(&nats.url(), &settings).expect("it follows from the beginning");
    let page = read(&other.log, None, &["/**"], 0, 10).await;
    assert_eq!((offsets(&page), page.through), (vec![1, 4, 5], Offset(5)));
}

/// One node has nothing in memory and asks the servers, the other one has everything in memory.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_from_the_servers_is_what_was_in_memory() {
    let nats = Nats::start();
    let memory = open(&nats);
    let mut forgetful = settings();
    forgetful.shared.recent_bytes = 0;
    let servers = open_with(&nats, &forgetful);
    for n in 0..40 {
        let events = [
            event(Some("u"), &format!("/a/{}", n % 3), "1"),
            event(None, "/a/b/c", "2"),
            event(None, &format!("/n/{n}"), "3"),
            event(Some("v"), "/a/1", "4"),
        ];
        servers.log.append(events.into()).await.expect("stored");
    }
    memory.log.catch_up().await.expect("the servers are there");
    for patterns in [
        &["/**"][..],
        &["/a/*", "/a/**", "/n/7"],
        &["/a/b/c", "/n/*"],
        &["/no"],
        &[],
    ] {
        for (user, after, limit) in [
            (Some("u"), 0, 1000),
            (Some("u"), 0, 7),
            (None, 33, 1),
            (Some("v"), 120, 13),
            (None, 160, 5),
        ] {
            let expected = read(&memory.log, user, patterns, after, limit).await;
            let page = read(&servers.log, user, patterns, after, limit).await;
            let told = |page: &Page| (offsets(page), page.through, page.gap);
            assert_eq!(
                told(&page),
                told(&expected),
                "{user:?} {patterns:?} after {after}, {limit}"
            );
            assert_eq!(page.events, expected.events);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_straight_into_the_stream_is_delivered() {
    let nats = Nats::start();
    let opened = open(&nats);
    let mut followed = opened.log.follow();
    let headers = [
        ("Nats-Msg-Id", "k"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("ce-type", "call.answered"),
    ];
    straight(
        &nats,
        &[
            ("halley.events.=.u.15000.v2.me.calls", &headers, r#"{"a":1}"#),
            ("halley.events.=.u.15000.v2.me.calls", &headers, r#"{"a":1}"#),
            ("halley.events.=.all.v2.calls", &[], " [2] "),
        ],
    )
    .await;
    let expected = [
        (1, r#"{"channel":"/v2/me/calls","data":{"a":1}}"#.to_owned()),
        (2, r#"{"channel":"/v2/calls","data":[2]}"#.to_owned()),
    ];
    assert_eq!(next(&mut followed, 2).await, expected);
    assert_eq!(
        offsets(&read(&opened.log, Some("15000"), &["/**"], 0, 10).await),
        [1, 2]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_in_the_stream_is_skipped() {
    let nats = Nats::start();
    let opened = open(&nats);
    let mut followed = opened.log.follow();
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let long = format!("halley.events.=.all.{}", "x".repeat(2000));
    straight(
        &nats,
        &[
            ("halley.events.=.all.a", &[], ""),
            ("halley.events.=.all.a", &[], "{"),
            ("halley.events.=.all.a", &[], "1 2"),
            ("halley.events.=.all.a", &[], &deep),
            ("halley.events.=.all", &[], "1"),
            ("halley.events.a", &[], "1"),
            ("halley.events.=.all.=41", &[], "1"),
            ("halley.events.=.all.a=2Fb", &[], "1"),
            ("halley.events.=.all.meta.connect", &[], "1"),
            ("halley.events.=.all.service.x", &[], "1"),
            ("halley.events.=.all.a.=2A", &[], "1"),
            (&long, &[], "1"),
            ("halley.events.=.all.good", &[], "1"),
        ],
    )
    .await;
    let expected = [(13, r#"{"channel":"/good","data":1}"#.to_owned())];
    assert_eq!(next(&mut followed, 1).await, expected);
    assert_eq!(offsets(&read(&opened.log, None, &["/**"], 0, 10).await), [13]);
}

/// The library would take such a message for a word of the protocol.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_looks_like_a_word_of_the_protocol_holds_nothing_up() {
    let nats = Nats::start();
    let opened = open(&nats);
    let mut followed = opened.log.follow();
    let mut stream = TcpStream::connect(nats.address()).expect("the server is there");
    write!(stream, "CONNECT {{\"headers\":true,\"verbose\":false}}\r\n").expect("the server reads");
    for status in ["100", "404", "408", "409 Consumer Deleted", "503"] {
        let headers = format!("NATS/1.0 {status}\r\n\r\n");
        let size = headers.len();
        write!(
            stream,
            "HPUB halley.events.=.all.a {size} {size}\r\n{headers}\r\n"
        )
        .expect("the server reads");
    }
    write!(stream, "PING\r\n").expect("the server reads");
    let mut lines = BufReader::new(stream).lines();
    let pong = lines.find(|line| line.as_ref().is_ok_and(|line| line == "PONG"));
    assert!(pong.is_some(), "the server has taken what was sent");
    assert_eq!(append_in_the_end(&opened.log, "good").await, 6);
    let seen = next(&mut followed, 1).await;
    assert_eq!(seen, [(6, r#"{"channel":"/a","data":1}"#.to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_name_addresses_nobody_else() {
    let nats = Nats::start();
    let opened = open(&nats);
    let names = ["a.b.>", "a", "*", ">", "a.b", "", "all", "a\r\nPUB x 0\r\n"];
    for name in names {
        opened
            .log
            .append(vec![event(Some(name), "/c", "1")])
            .await
            .expect("stored");
    }
    let mut forgetful = settings();
    forgetful.shared.recent_bytes = 0;
    let servers = open_with(&nats, &forgetful);
    for (name, offset) in names.into_iter().zip(1..) {
        for log in [&opened.log, &servers.log] {
            assert_eq!(
                offsets(&read(log, Some(name), &["/**"], 0, 100).await),
                [offset],
                "{name:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_jetstream_are_refused_with_a_reason() {
    let nats = Nats::start_with(&NatsSettings {
        without_jetstream: true,
        ..NatsSettings::default()
    });
    let why = why_not(&nats, &settings());
    assert!(why.contains("JetStream"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_not_there_are_named() {
    let mut nats = Nats::start();
    nats.kill();
    let why = why_not(&nats, &settings());
    assert!(why.contains(&nats.address()), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_other_replicas_is_refused_and_left_as_it_is() {
    let nats = Nats::start();
    drop(open(&nats));
    let mut three = settings();
    three.shared.replicas = 3;
    let why = why_not(&nats, &three);
    assert!(why.contains("it has 1 replicas, and nats.replicas is 3"), "{why}");
    drop(open(&nats));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_is_not_enough_for_replicas() {
    let nats = Nats::start();
    let why = why_not(&nats, &Settings::default());
    assert!(why.contains("nats.replicas = 1"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_forgets_ids_too_early_is_refused() {
    let nats = Nats::start();
    let mut short = settings();
    short.dedup_window = Duration::from_secs(120);
    drop(open_with(&nats, &short));
    let why = why_not(&nats, &settings());
    assert!(why.contains("log.dedup_window is 900 s"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_with_a_reason() {
    let nats = Nats::start_with(&NatsSettings {
        extra: "authorization { user: halley, password: secret }".to_owned(),
        ..NatsSettings::default()
    });
    let mut right = settings();
    right.shared.credentials = log::Credentials::User("halley".to_owned(), "secret".to_owned());
    drop(open_with(&nats, &right));
    let why = why_not(&nats, &settings());
    assert!(why.contains("authorization violation"), "{why}");
}

/// What docs/cluster.md says that a node needs, and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_of_the_documentation_are_enough() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cluster.md"))
        .expect("the page");
    let begin = page.find("    publish: [").expect("the list");
    let end = page[begin..].find("\n\n").expect("an end") + begin;
    // STREAM stands for each of the three.
    let each = |line: &str| match line.contains("STREAM\"") || line.contains("STREAM.*\"") {
        true => ["halley_EVENTS", "KV_halley_SESSIONS", "KV_halley_META"]
            .map(|stream| {
                line.replace(".STREAM\"", &format!(".{stream}\""))
                    .replace(".STREAM.*", &format!(".{stream}.*"))
            })
            .join("\n"),
        false => line.to_owned(),
    };
    let list = page[begin..end].lines().map(each).collect::<Vec<_>>().join("\n");
    let nats = Nats::start_with(&NatsSettings {
        extra: format!(
            "authorization {{ users: [{{ user: halley, password: secret, permissions: {{\n{list}\n}} }}] }}"
        ),
        ..NatsSettings::default()
    });
    let mut allowed = settings();
    allowed.shared.credentials = log::Credentials::User("halley".to_owned(), "secret".to_owned());
    allowed.shared.recent_bytes = 0;
    let opened = open_with(&nats, &allowed);
    let mut followed = opened.log.follow();
    assert_eq!(append(&opened.log).await.expect("stored"), 1);
    assert_eq!(next_offsets(&mut followed, 1).await, [1]);
    assert_eq!(offsets(&read(&opened.log, Some("u"), &["/a"], 0, 10).await), [1]);
}

#[test]
fn an_address_with_a_password_is_refused() {
    for place in [
        "nats:",
        "nats:127.0.0.1",
        "nats://u:p@127.0.0.1:4222",
        "nats://ws://h:1",
    ] {
        assert!(
            matches!(log::open(place, &settings()), Err(LogError::Unusable(_))),
            "{place}"
        );
    }
}
