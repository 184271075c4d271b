//! The browser cookie, and the one that says which node a client is at.

use halley::app::App;
use halley::config::{Config, SameSite};
use serde_json::json;

use crate::it::{Answer, broker, handshake, post, post_to_api, request, send};

const UPGRADE: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[tokio::test]
async fn a_handshake_and_a_socket_set_the_same_kind_of_cookie() {
    let app = broker(|config| {
        config.browser_cookie.name = "B".to_owned();
        config.browser_cookie.secure = true;
        config.browser_cookie.same_site = SameSite::None;
        config.browser_cookie.partitioned = true;
    })
    .await;
    let posted = post(&app, &[], &handshake()).await;
    let upgraded = send(&app, request("GET", UPGRADE, "")).await;
    assert_eq!((posted.status(), upgraded.status()), (200, 101));
    for answer in [posted, upgraded] {
        let cookie = answer.header("set-cookie");
        let (value, attributes) = cookie.split_once("; ").expect("attributes");
        assert!(value.starts_with("B="), "{cookie}");
        assert_eq!(attributes, "Path=/; HttpOnly; Secure; SameSite=None; Partitioned");
    }
}

#[tokio::test]
async fn a_browser_that_is_known_by_the_configured_name_is_set_no_cookie() {
    let app = broker(|config| config.browser_cookie.name = "B".to_owned()).await;
    let first = post(&app, &[], &handshake()).await;
    let (cookie, _) = first.header("set-cookie").split_once(';').expect("attributes");
    let again = post(&app, &[("cookie", cookie)], &handshake()).await;
    assert_eq!(again.header("set-cookie"), "");
    let renamed = cookie.replacen("B=", "BAYEUX_BROWSER=", 1);
    let stranger = post(&app, &[("cookie", &renamed)], &handshake()).await;
    assert_ne!(stranger.header("set-cookie"), "");
}

fn with_affinity(config: &mut Config) {
    config.nats.affinity_cookie = "NODE".to_owned();
    config.nats.node = "halley-2".to_owned();
    config.shutdown.drain.0 = std::time::Duration::from_secs(60);
}

/// What is said about the node.
fn node(answer: &Answer) -> Vec<&str> {
    let cookies = answer.response.headers().get_all("set-cookie").iter();
    let cookies = cookies.filter_map(|cookie| cookie.to_str().ok());
    cookies.filter(|cookie| cookie.starts_with("NODE=")).collect()
}

/// A session, and the cookie of its browser.
async fn session(app: &App) -> (String, String) {
    let answer = post(app, &[], &handshake()).await;
    let browser = answer.header("set-cookie").split(';').next().expect("a cookie");
    let id = answer.json()[0]["clientId"]
        .as_str()
        .expect("a session")
        .to_owned();
    (id, browser.to_owned())
}

#[tokio::test]
async fn a_handshake_and_a_socket_say_which_node_they_came_to() {
    let app = broker(with_affinity).await;
    let posted = post(&app, &[], &handshake()).await;
    let upgraded = send(&app, request("GET", UPGRADE, "")).await;
    assert_eq!((posted.status(), upgraded.status()), (200, 101));
    for answer in [posted, upgraded] {
        assert_eq!(node(&answer), ["NODE=halley-2; Path=/; HttpOnly"]);
    }
}

#[tokio::test]
async fn a_client_that_comes_where_its_cookie_says_is_told_nothing() {
    let app = broker(with_affinity).await;
    let answer = post(&app, &[("cookie", "NODE=halley-2")], &handshake()).await;
    assert_eq!(node(&answer), [""; 0]);
}

#[tokio::test]
async fn a_session_that_goes_on_here_brings_its_client_along() {
    let app = broker(with_affinity).await;
    let (id, browser) = session(&app).await;
    let cookie = format!("{browser}; NODE=halley-1");
    let subscribe = json!([{ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" }]);
    let answer = post(&app, &[("cookie", &cookie)], &subscribe).await;
    assert_eq!(answer.json()[0]["successful"], true);
    assert_eq!(node(&answer), ["NODE=halley-2; Path=/; HttpOnly"]);
}

#[tokio::test]
async fn whoever_has_no_session_here_goes_wherever_it_went_before() {
    let app = broker(with_affinity).await;
    let stray =
        json!([{ "channel": "/meta/connect", "clientId": "nobody", "connectionType": "long-polling" }]);
    let answer = post(&app, &[("cookie", "NODE=halley-1")], &stray).await;
    assert_eq!(node(&answer), [""; 0]);
}

#[tokio::test]
async fn a_node_that_drains_takes_its_cookie_back() {
    let app = broker(with_affinity).await;
    let (id, browser) = session(&app).await;
    assert_eq!(post_to_api(&app, "/api/v1/drain").await.status(), 202);
    let cookie = format!("{browser}; NODE=halley-2");
    let disconnect = json!([{ "channel": "/meta/disconnect", "clientId": id }]);
    let served = post(&app, &[("cookie", &cookie)], &disconnect).await;
    let refused = send(
        &app,
        request("GET", &[UPGRADE, &[("cookie", &cookie)]].concat(), ""),
    )
    .await;
    let deferred = post(&app, &[("cookie", "NODE=halley-1")], &handshake()).await;
    assert_eq!((served.status(), refused.status()), (200, 503));
    for answer in [served, refused] {
        assert_eq!(node(&answer), ["NODE=; Path=/; HttpOnly; Max-Age=0"]);
    }
    assert_eq!(node(&deferred), [""; 0]);
}

#[tokio::test]
async fn without_a_name_there_is_no_such_cookie() {
    let app = broker(|_| {}).await;
    let answer = post(&app, &[], &handshake()).await;
    assert_eq!(answer.response.headers().get_all("set-cookie").iter().count(), 1);
}
