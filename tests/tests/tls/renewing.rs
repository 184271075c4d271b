//! Certificates that change while clients are there.

use std::time::Duration;

use halley::app::App;
use halley::config::{Config, Span};
use tokio::time::{Instant, sleep};

use crate::certificates::{Authority, Files};
use crate::it::{It, request};
use crate::peer::{PATIENCE, Peer, exchange_on, shown};

const RELOADS: &str = "halley_tls_reloads_total{listener=\"public\",result=\"ok\"}";
const FAILED: &str = "halley_tls_reloads_total{listener=\"public\",result=\"failed\"}";
const EXPIRY: &str = "halley_tls_certificate_expiry_seconds{listener=\"public\"}";

fn looking_often(files: &Files) -> impl FnOnce(&mut Config) {
    let mut tls = files.settings();
    tls.reload_interval = Span(Duration::from_millis(50));
    |config| config.public.tls = tls
}

impl It {
    /// What is written in two steps may be read in between, and counted twice.
    async fn wait_for_at_least(&self, name: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(name).await < value {
            assert!(Instant::now() < deadline, "{name} never became {value}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_whoever_comes_next_and_old_connections_stay() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let it = It::with(looking_often(&files)).await;
    let peer = Peer::trusting(&authority);
    let mut old = peer.connect(it.public).await.expect("a connection");
    let ping = request("OPTIONS", "/cometd", &[], b"");
    assert_eq!(exchange_on(&mut old, &ping).await.status, 200);

    let next = authority.issue(&["127.0.0.1"]);
    files.put(&next);
    it.wait_for_at_least(RELOADS, 1.0).await;

    let new = peer.connect(it.public).await.expect("a connection");
    assert_eq!(shown(&new), *next.certificate.der());
    assert_ne!(shown(&old), *next.certificate.der());
    assert_eq!(exchange_on(&mut old, &ping).await.status, 200, "it is still open");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_changes_nothing_and_is_counted() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let it = It::with(looking_often(&files)).await;
    let peer = Peer::trusting(&authority);
    let before = shown(&peer.connect(it.public).await.expect("a connection"));
    let expiry = it.metric(EXPIRY).await;
    // Half of a file, as a slow copy leaves it.
    files.write("tls.crt", "-----BEGIN CERTIFICATE-----\nMIIB");
    it.wait_for(FAILED, 1.0).await;
    assert_eq!(
        shown(&peer.connect(it.public).await.expect("a connection")),
        before
    );
    let ended = authority.issue_with(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    files.put(&ended);
    it.wait_for_at_least(FAILED, 2.0).await;
    assert_eq!(
        shown(&peer.connect(it.public).await.expect("a connection")),
        before
    );
    assert_eq!(it.metric(EXPIRY).await, expiry);
    // And back.
    files.put(&authority.issue(&["127.0.0.1"]));
    it.wait_for_at_least(RELOADS, 1.0).await;
    assert_ne!(
        shown(&peer.connect(it.public).await.expect("a connection")),
        before
    );
}

#[tokio::test]
async fn operators_see_when_the_certificate_ends() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    files.put(&authority.issue_with(&["127.0.0.1"], |params| {
        params.not_after = rcgen::date_time_ymd(2033, 5, 18);
    }));
    let it = It::with(files.public()).await;
    // `date -u -d 2033-05-18 +%s`
    assert_eq!(it.metric(EXPIRY).await, 1_999_987_200.0);
}

#[tokio::test]
async fn the_files_are_read_again_when_somebody_asks_for_it() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let mut tls = files.settings();
    tls.reload_interval = Span(Duration::from_secs(3600));
    let mut config = Config::default();
    config.public.listen = ([127, 0, 0, 1], 0).into();
    config.internal.listen = ([127, 0, 0, 1], 0).into();
    config.log.url = "memory:".to_owned();
    config.public.tls = tls;
    let app = App::start(config).await.expect("the broker starts");
    let next = authority.issue(&["127.0.0.1"]);
    files.put(&next);
    app.certificates().reload();
    let peer = Peer::trusting(&authority);
    let deadline = Instant::now() + PATIENCE;
    while shown(&peer.connect(app.public_addr()).await.expect("a connection")) != *next.certificate.der() {
        assert!(Instant::now() < deadline, "the old one is still shown");
    }
}
