//! Pages of this origin, of listed ones, and of all others.

use std::time::Duration;

use bytesize::ByteSize;
use halley::app::App;
use halley::config::{Config, Span};
use halley::origin::Origin;
use serde_json::json;

use crate::it::{Answer, broker, handshake, post, request, send};

const LISTED: &str = "https://app.example";

const UPGRADE: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The pages that are told apart from the broker, which is `halley.example`.
const FOREIGN: &[&str] = &[
    "null",
    "https://evil.example",
    "https://app.example.evil.example",
    "https://app.example:8443",
    "http://app.example",
    "https://app.example/",
    "http://halley.example:8080",
    "https://halley.example.evil.example",
    "nonsense",
    "",
];

async fn listing(adjust: impl FnOnce(&mut Config)) -> App {
    broker(|config| {
        config.cors.allowed_origins = vec![Origin::parse(LISTED).expect("an origin")];
        adjust(config);
    })
    .await
}

async fn preflight(app: &App, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = request("OPTIONS", headers, "");
    *request.uri_mut() = path.parse().expect("a path");
    send(app, request).await
}

async fn upgrade(app: &App, origin: &str) -> Answer {
    let headers: Vec<_> = UPGRADE.iter().copied().chain([("origin", origin)]).collect();
    send(app, request("GET", &headers, "")).await
}

#[track_caller]
fn expect_shared(answer: &Answer) {
    assert_eq!(answer.header("access-control-allow-origin"), LISTED);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("vary"), "Origin");
}

#[tokio::test]
async fn a_preflight_of_a_listed_origin_is_answered_at_every_sub_path() {
    let app = listing(|_| {}).await;
    for path in ["/cometd", "/cometd/", "/cometd/handshake", "/cometd/45.0/?x=1"] {
        let asked = "content-type,x-api-key";
        let answer = preflight(
            &app,
            path,
            &[
                ("origin", LISTED),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", asked),
            ],
        )
        .await;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b""[..]), "{path}");
        expect_shared(&answer);
        assert!(answer.header("access-control-allow-methods").contains("POST"));
        assert_eq!(answer.header("access-control-allow-headers"), asked);
        assert_eq!(answer.header("access-control-max-age"), "1800");
    }
}

#[tokio::test]
async fn a_list_of_headers_is_all_that_is_allowed() {
    let app = listing(|config| {
        config.cors.allowed_headers = vec!["content-type".to_owned(), "x-api-key".to_owned()];
        config.cors.max_age = Span(Duration::from_secs(60));
    })
    .await;
    let headers = [
        ("origin", LISTED),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-other"),
    ];
    let answer = preflight(&app, "/cometd", &headers).await;
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "content-type, x-api-key"
    );
    assert_eq!(answer.header("access-control-max-age"), "60");
}

#[tokio::test]
async fn credentials_and_exposed_headers_are_as_configured() {
    let app = listing(|config| {
        config.cors.allow_credentials = false;
        config.cors.exposed_headers = vec!["retry-after".to_owned(), "x-a".to_owned()];
    })
    .await;
    let answer = post(&app, &[("origin", LISTED)], &handshake()).await;
    assert_eq!(answer.header("access-control-allow-origin"), LISTED);
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    assert_eq!(answer.header("access-control-expose-headers"), "retry-after, x-a");
}

#[tokio::test]
async fn every_reply_to_a_listed_origin_can_be_read_by_its_pages() {
    let app = listing(|config| {
        config.limits.request_body = ByteSize::b(500);
        config.limits.body_timeout = Span(Duration::from_millis(200));
    })
    .await;
    let page = [("origin", LISTED)];
    let shaken = post(&app, &page, &handshake()).await;
    assert_eq!(shaken.status(), 200);
    expect_shared(&shaken);
    let unknown = post(
        &app,
        &page,
        &json!([{ "channel": "/meta/connect", "clientId": "x" }]),
    )
    .await;
    assert_eq!(unknown.json()[0]["error"], "402::session_unknown");
    expect_shared(&unknown);
    for (method, path, body, status) in [
        ("POST", "/cometd", "[{", 400),
        ("POST", "/cometd", &*"x".repeat(501), 413),
        ("POST", "/elsewhere", "[]", 404),
        ("PUT", "/cometd", "", 405),
        ("OPTIONS", "/elsewhere", "", 404),
    ] {
        let mut request = request(method, &page, body);
        *request.uri_mut() = path.parse().expect("a path");
        let answer = send(&app, request).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        expect_shared(&answer);
    }
}

#[tokio::test]
async fn a_connect_that_was_overtaken_can_be_told_from_a_broken_connection() {
    let app = listing(|_| {}).await;
    let shaken = post(&app, &[("origin", LISTED)], &handshake()).await;
    let cookie = shaken.header("set-cookie").split(';').next().expect("a cookie");
    let headers = [("origin", LISTED), ("cookie", cookie)];
    let connect = json!([{ "channel": "/meta/connect", "clientId": shaken.json()[0]["clientId"] }]);
    post(&app, &headers, &connect).await;
    let first = post(&app, &headers, &connect);
    let second = async {
        // Whichever of the two comes later ends the other.
        tokio::time::timeout(Duration::from_secs(2), post(&app, &headers, &connect)).await
    };
    let overtaken = tokio::select! {
        overtaken = first => overtaken,
        Ok(overtaken) = second => overtaken,
    };
    assert_eq!(overtaken.status(), 500);
    expect_shared(&overtaken);
}

#[tokio::test]
async fn a_foreign_page_can_neither_post_nor_open_a_socket_nor_ask_to() {
    let app = listing(|_| {}).await;
    for origin in FOREIGN {
        let posted = post(&app, &[("origin", origin)], &handshake()).await;
        let upgraded = upgrade(&app, origin).await;
        let asked = preflight(
            &app,
            "/cometd",
            &[("origin", origin), ("access-control-request-method", "POST")],
        )
        .await;
        for answer in [posted, upgraded, asked] {
            assert_eq!(answer.status(), 403, "{origin}");
            assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
            assert_eq!(answer.header("set-cookie"), "", "{origin}");
            assert_eq!(answer.header("content-type"), "application/json");
        }
    }
}

#[tokio::test]
async fn a_refused_page_is_told_what_its_origin_was_compared_with() {
    let app = listing(|_| {}).await;
    let answer = post(&app, &[("origin", "https://evil.example")], &handshake()).await;
    let error = answer.json()[0]["error"].clone();
    let error = error.as_str().expect("a text");
    for word in [
        "403::",
        "https://evil.example",
        "(halley.example)",
        "cors.allowed_origins",
    ] {
        assert!(error.contains(word), "no {word} in {error}");
    }
    let long = format!("https://{}.example", "evil".repeat(1000));
    let answer = post(&app, &[("origin", &long), ("host", &long[8..])], &handshake()).await;
    assert_eq!(answer.status(), 200);
    let answer = post(&app, &[("origin", &long), ("host", &long[9..])], &handshake()).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.body.len() < 600, "a bounded answer");
}

#[tokio::test]
async fn two_origins_are_none() {
    let app = listing(|_| {}).await;
    let answer = post(&app, &[("origin", LISTED), ("origin", LISTED)], &handshake()).await;
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn pages_of_the_own_origin_and_clients_that_are_no_browsers_are_welcome() {
    let app = broker(|_| {}).await;
    for headers in [
        &[][..],
        &[("origin", "https://halley.example")],
        &[("origin", "http://halley.example")],
        &[("origin", "http://halley.example:80")],
        &[("origin", "https://x.example:8443"), ("host", "x.example:8443")],
        // A proxy has changed the host, and the browser has seen the one before.
        &[("origin", "https://x.example"), ("sec-fetch-site", "same-origin")],
    ] {
        let answer = post(&app, headers, &handshake()).await;
        assert_eq!(answer.status(), 200, "{headers:?}");
        assert_eq!(answer.json()[0]["successful"], true);
        assert_eq!(answer.header("access-control-allow-origin"), "");
        assert_eq!(answer.header("vary"), "");
    }
    assert_eq!(upgrade(&app, "https://halley.example").await.status(), 101);
    assert_eq!(send(&app, request("GET", UPGRADE, "")).await.status(), 101);
}

#[tokio::test]
async fn a_page_cannot_pass_for_one_of_this_host() {
    let app = broker(|_| {}).await;
    for (name, value) in [
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example"),
        ("x-forwarded-proto", "https"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "none"),
    ] {
        let headers = [("origin", "https://evil.example"), (name, value)];
        let answer = post(&app, &headers, &handshake()).await;
        assert_eq!(answer.status(), 403, "{name}: {value}");
    }
    let opaque = [("origin", "null"), ("sec-fetch-site", "same-origin")];
    assert_eq!(post(&app, &opaque, &handshake()).await.status(), 403);
}

#[tokio::test]
async fn a_listed_page_can_open_a_socket() {
    let app = listing(|_| {}).await;
    let answer = upgrade(&app, LISTED).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn options_without_a_page_says_what_can_be_done() {
    let app = broker(|_| {}).await;
    let answer = preflight(&app, "/cometd", &[]).await;
    assert_eq!((answer.status(), &answer.body[..]), (200, &b""[..]));
    assert!(answer.header("allow").contains("POST"));
    assert_eq!(answer.header("access-control-allow-methods"), "");
}
