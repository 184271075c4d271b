//! Which transports are spoken: `public.transports`.

use halley::app::App;
use serde_json::json;

use crate::it::{UPGRADE, ask, broker, config, post};

async fn speaking(transports: &[&str]) -> App {
    broker(|config| {
        config.public.transports = transports.iter().map(|name| (*name).to_owned()).collect();
    })
    .await
}

#[tokio::test]
async fn a_handshake_reply_names_what_is_listed_in_its_order() {
    for listed in [
        &["websocket", "long-polling"][..],
        &["long-polling", "websocket"],
        &["long-polling"],
    ] {
        let app = speaking(listed).await;
        let reply = post(&app, &json!([{ "channel": "/meta/handshake" }]))
            .await
            .json();
        assert_eq!(reply[0]["supportedConnectionTypes"], json!(listed));
    }
}

#[tokio::test]
async fn a_transport_that_is_not_listed_answers_as_if_it_did_not_exist() {
    let app = speaking(&["long-polling"]).await;
    let upgrade = ask(&app, "GET", "/cometd", &UPGRADE, "").await;
    assert_eq!((upgrade.status, upgrade.header("allow")), (405, Some("POST")));
    assert_eq!(upgrade.body, "Bayeux is spoken here over long-polling\n");
    let app = speaking(&["websocket"]).await;
    let request = post(&app, &json!([{ "channel": "/meta/handshake" }])).await;
    assert_eq!((request.status, request.header("allow")), (405, Some("")));
    assert_eq!(request.body, "Bayeux is spoken here over websocket\n");
}

#[tokio::test]
async fn an_unknown_transport_is_refused_at_start() {
    let config = config(|config| config.public.transports = vec!["carrier-pigeon".to_owned()]);
    let Err(error) = App::start(config).await else {
        panic!("nobody speaks it")
    };
    let error = error.to_string();
    assert!(
        error.starts_with("public.transports: \"carrier-pigeon\" is unknown")
            && error.contains("long-polling"),
        "{error}"
    );
}
