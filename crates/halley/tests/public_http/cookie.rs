//! The browser cookie.

use halley::config::SameSite;

use crate::it::{broker, handshake, post, request, send};

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
