//! Who comes in, and who does not.

use std::time::Duration;

use halley::app::App;
use halley::config::{ClientCertificates, Config, Span, TlsVersion};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::certificates::{Authority, Files};
use crate::it::{It, USERS, authorization, exchange, request};
use crate::peer::{PATIENCE, Peer};

const HANDSHAKE: &[u8] = br#"{"channel":"/meta/handshake","version":"1.0"}"#;

fn handshake() -> Vec<u8> {
    request("POST", "/cometd", &[&authorization(USERS[0])], HANDSHAKE)
}

fn metric(result: &str) -> String {
    format!("halley_tls_handshakes_total{{listener=\"public\",result=\"{result}\"}}")
}

async fn complaint(change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    config.public.listen = ([127, 0, 0, 1], 0).into();
    config.internal.listen = ([127, 0, 0, 1], 0).into();
    config.log.url = "memory:".to_owned();
    change(&mut config);
    match App::start(config).await {
        Ok(_) => panic!("the broker has started"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_client_that_knows_the_issuer_is_answered_and_another_turns_away() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let it = It::with(files.public()).await;
    let answer = Peer::trusting(&authority).ask(it.public, &handshake()).await;
    assert_eq!(answer.expect("an answer").json()[0]["successful"], true);
    let stranger = Peer::trusting(&Authority::new()).connect(it.public).await;
    let error = stranger.expect_err("an issuer that nobody knows").to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    it.wait_for(&metric("ok"), 1.0).await;
    it.wait_for(&metric("failed"), 1.0).await;
}

#[tokio::test]
async fn the_oldest_version_is_1_2_unless_it_is_1_3() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    for (min_version, is_welcome) in [(TlsVersion::Tls12, true), (TlsVersion::Tls13, false)] {
        let mut tls = files.settings();
        tls.min_version = min_version;
        let it = It::with(|config| config.public.tls = tls).await;
        let old = Peer::with(&authority, &[&TLS12], None).connect(it.public).await;
        assert_eq!(old.is_ok(), is_welcome, "{min_version:?}");
        let new = Peer::with(&authority, &[&TLS13], None).connect(it.public).await;
        assert!(new.is_ok(), "{min_version:?}");
    }
}

#[tokio::test]
async fn where_certificates_of_clients_are_required_nobody_else_comes_in() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let tls = files.asking(&authority, ClientCertificates::Required);
    let it = It::with(|config| config.public.tls = tls).await;
    let (own, foreign) = (authority.issue(&["client"]), Authority::new().issue(&["client"]));
    let asked = async |peer: Peer| peer.ask(it.public, &handshake()).await;
    assert_eq!(
        asked(Peer::showing(&authority, &own))
            .await
            .expect("it comes in")
            .status,
        200
    );
    assert!(asked(Peer::trusting(&authority)).await.is_err(), "none");
    assert!(
        asked(Peer::showing(&authority, &foreign)).await.is_err(),
        "of somebody else"
    );
}

#[tokio::test]
async fn where_certificates_of_clients_are_optional_only_wrong_ones_are_refused() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let tls = files.asking(&authority, ClientCertificates::Optional);
    let it = It::with(|config| config.public.tls = tls).await;
    let (own, foreign) = (authority.issue(&["client"]), Authority::new().issue(&["client"]));
    let asked = async |peer: Peer| peer.ask(it.public, &handshake()).await;
    assert_eq!(
        asked(Peer::showing(&authority, &own))
            .await
            .expect("it comes in")
            .status,
        200
    );
    assert_eq!(
        asked(Peer::trusting(&authority))
            .await
            .expect("it comes in")
            .status,
        200
    );
    assert!(
        asked(Peer::showing(&authority, &foreign)).await.is_err(),
        "of somebody else"
    );
}

#[tokio::test]
async fn a_certificate_of_a_client_that_has_ended_is_refused() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let tls = files.asking(&authority, ClientCertificates::Required);
    let it = It::with(|config| config.public.tls = tls).await;
    let old = authority.issue_with(&["client"], |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    });
    let asked = Peer::showing(&authority, &old).ask(it.public, &handshake()).await;
    assert!(asked.is_err());
}

#[tokio::test]
async fn whoever_speaks_http_without_tls_is_told_and_counted() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let it = It::with(files.public()).await;
    let answer = exchange(it.public, &handshake()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("https://"), "{}", answer.text());
    it.wait_for(&metric("plain_http"), 1.0).await;
}

#[tokio::test]
async fn whoever_takes_too_long_to_agree_is_cut_off_and_the_next_one_comes_in() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let mut tls = files.settings();
    tls.handshake_timeout = Span(Duration::from_millis(300));
    // One at once, so that the slow one holds up the other.
    tls.handshakes = 1;
    let it = It::with(|config| config.public.tls = tls).await;
    let began = Instant::now();
    let mut slow = TcpStream::connect(it.public).await.expect("a connection");
    // How a handshake begins, and no more of it.
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.expect("some bytes");
    let mut silent = TcpStream::connect(it.public).await.expect("a connection");
    for stream in [&mut slow, &mut silent] {
        let read = timeout(PATIENCE, stream.read(&mut [0; 16]))
            .await
            .expect("an end");
        assert_eq!(read.unwrap_or(0), 0);
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    it.wait_for(&metric("timeout"), 2.0).await;
    let answer = Peer::trusting(&authority).ask(it.public, &handshake()).await;
    assert_eq!(answer.expect("an answer").status, 200);
}

#[tokio::test]
async fn whoever_says_nothing_takes_no_place_from_others() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let mut tls = files.settings();
    tls.handshakes = 1;
    let it = It::with(|config| config.public.tls = tls).await;
    let _silent = [
        TcpStream::connect(it.public).await.expect("a connection"),
        TcpStream::connect(it.public).await.expect("a connection"),
    ];
    let answer = Peer::trusting(&authority).ask(it.public, &handshake()).await;
    assert_eq!(answer.expect("an answer").status, 200);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let other = authority.issue(&["localhost"]);
    files.write("other.key", &other.key.serialize_pem());
    files.write("nothing", "nothing\n");
    let path = |name: &str| files.path(name).display().to_string();
    for (certificate, key, words) in [
        ("absent", "tls.key", ["public.tls.certificate", "No such file"]),
        ("tls.crt", "absent", ["public.tls.key", "No such file"]),
        (
            "nothing",
            "tls.key",
            ["public.tls.certificate", "no certificate in it"],
        ),
        ("tls.crt", "nothing", ["public.tls.key", "no key in it"]),
        (
            "tls.crt",
            "other.key",
            ["public.tls.key", "not the key of the certificate"],
        ),
        (
            "tls.key",
            "tls.key",
            ["public.tls.certificate", "no certificate in it"],
        ),
    ] {
        let mut tls = files.settings();
        (tls.certificate, tls.key) = (path(certificate), path(key));
        let complaint = complaint(|config| config.public.tls = tls).await;
        for word in words {
            assert!(complaint.contains(word), "no {word:?} in {complaint}");
        }
    }
    let mut tls = files.asking(&authority, ClientCertificates::Required);
    tls.client_ca = path("nothing");
    let complaint = complaint(|config| config.internal.tls = tls).await;
    assert!(complaint.contains("internal.tls.client_ca"), "{complaint}");
}
