//! Backends that are known by their certificates.

use bayeux::ChannelPattern;
use halley::app::App;
use halley::config::{ApiCertificate, ClientCertificates, Config};
use serde_json::{Value, json};

use crate::certificates::{Authority, Files};
use crate::it::{It, request};
use crate::peer::Peer;

fn known(mark: &str) -> ApiCertificate {
    toml::from_str(&format!("name = \"voice\"\n{mark}")).expect("a certificate")
}

async fn it(authority: &Authority, files: &Files, who: ClientCertificates, known: Vec<ApiCertificate>) -> It {
    let tls = files.asking(authority, who);
    It::with(|config| {
        config.internal.tls = tls;
        config.internal.certificates = known;
    })
    .await
}

fn event(user: &str, channel: &str) -> Value {
    json!({"user": user, "channel": channel, "data": 1})
}

#[tokio::test]
async fn a_publisher_is_known_by_the_digest_of_its_certificate_or_a_name_in_it() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let own = authority.issue(&["Voice.internal", "spiffe://acme/voice"]);
    let spaced: Vec<String> = own
        .sha256()
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
        .collect();
    for mark in [
        format!("sha256 = {:?}", own.sha256()),
        format!("sha256 = {:?}", spaced.join(":")),
        "dns = \"voice.Internal\"".to_owned(),
        "uri = \"spiffe://acme/voice\"".to_owned(),
    ] {
        let it = it(
            &authority,
            &files,
            ClientCertificates::Required,
            vec![known(&mark)],
        )
        .await;
        let publish = async |peer: Peer| peer.publish(it.internal, &event("15000", "/v2/me/calls")).await;
        let answer = publish(Peer::showing(&authority, &own)).await.expect("an answer");
        assert_eq!(answer.status, 201, "{mark}: {}", answer.text());
        let other = authority.issue(&["other.internal", "spiffe://acme/voice2"]);
        let answer = publish(Peer::showing(&authority, &other))
            .await
            .expect("an answer");
        assert_eq!(answer.status, 401, "{mark}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_certificate_opens_its_channels_users_and_actions_only() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let own = authority.issue(&["voice.internal"]);
    let mut narrow = known("dns = \"voice.internal\"");
    narrow.channels = vec![ChannelPattern::parse("/v2/me/**").expect("a pattern")];
    narrow.users = vec!["15000".to_owned()];
    let it = it(&authority, &files, ClientCertificates::Required, vec![narrow]).await;
    let peer = Peer::showing(&authority, &own);
    for (event, status) in [
        (event("15000", "/v2/me/calls"), 201),
        (event("15001", "/v2/me/calls"), 403),
        (event("15000", "/v2/users"), 403),
    ] {
        let answer = peer.publish(it.internal, &event).await.expect("an answer");
        assert_eq!(answer.status, status, "{event}: {}", answer.text());
    }
    let answer = peer
        .get(it.internal, "/api/v1/sessions")
        .await
        .expect("an answer");
    assert_eq!(answer.status, 403, "{}", answer.text());
}

#[tokio::test]
async fn a_key_counts_before_a_certificate_and_a_wrong_one_opens_nothing() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let own = authority.issue(&["voice.internal"]);
    let it = it(
        &authority,
        &files,
        ClientCertificates::Optional,
        vec![known("dns = \"voice.internal\"")],
    )
    .await;
    let body = event("15000", "/v2/me/calls").to_string();
    let wrong = request("POST", "/api/v1/events", &["X-API-Key: wrong"], body.as_bytes());
    let answer = Peer::showing(&authority, &own)
        .ask(it.internal, &wrong)
        .await
        .expect("an answer");
    assert_eq!(answer.status, 401, "{}", answer.text());
    // Without either there is an answer, too.
    let nobody = Peer::trusting(&authority);
    let answer = nobody
        .publish(it.internal, &event("15000", "/v2/me/calls"))
        .await
        .expect("an answer");
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(
        nobody
            .get(it.internal, "/readyz")
            .await
            .expect("an answer")
            .status,
        200
    );
}

#[tokio::test]
async fn certificates_that_cannot_be_known_are_refused_at_the_start() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let asking = files.asking(&authority, ClientCertificates::Required);
    for (tls, known, words) in [
        (
            files.settings(),
            vec![known("dns = \"a\"")],
            "set internal.tls.client_certificates",
        ),
        (asking.clone(), vec![known("")], "one of sha256, dns and uri"),
        (
            asking.clone(),
            vec![known("dns = \"a\"\nuri = \"b\"")],
            "one of sha256, dns and uri",
        ),
        (
            asking.clone(),
            vec![known("sha256 = \"abc\"")],
            "64 hexadecimal digits",
        ),
        (
            asking.clone(),
            vec![known("dns = \"a\""), known("dns = \"A\"")],
            "of another name",
        ),
        (
            asking,
            vec![known("dns = \"a\"\nactions = [\"fly\"]")],
            "none of publish",
        ),
    ] {
        let mut config = Config::default();
        config.internal.tls = tls;
        config.internal.certificates = known;
        let error = App::start(config).await.err().expect("a reason").to_string();
        assert!(
            error.contains("internal.certificates: voice") && error.contains(words),
            "{error}"
        );
    }
}
