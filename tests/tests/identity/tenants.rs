//! Tenants share a broker and nothing else.

use halley::config::{Config, Network};
use serde_json::{Value, json};

use crate::events::{
    ask, connect, data, expect_error, expect_silence, expect_success, next, post, socket, subscribe, wait,
};
use crate::it::{Answer, It, Socket, exchange, request};
use crate::tokens::{bearer, take_tokens, token_with};

const CHANNEL: &str = "/v2/me/calls";

fn with_tenants(config: &mut Config) {
    take_tokens(config);
    config.jwt.issuers[0].tenant = "org".to_owned();
}

fn token(tenant: &str, user: &str) -> String {
    token_with(
        user,
        300,
        &json!({ "org": tenant, "iat": crate::tokens::now() - 1 }),
    )
}

impl It {
    async fn publish_event(&self, event: &Value) -> Answer {
        self.publish(event.to_string()).await
    }

    async fn expect_published(&self, event: &Value) {
        let answer = self.publish_event(event).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

#[tokio::test]
async fn t7_the_same_user_and_channel_of_another_tenant_are_another_user_and_channel() {
    let it = It::with(with_tenants).await;
    let (mut acme, _) = socket(&it, &token("acme", "15000"), "/**").await;
    let (mut other, _) = socket(&it, &token("acm", "15000"), "/**").await;
    for event in [
        json!({ "tenant": "acme", "user": "15000", "channel": CHANNEL, "data": 1 }),
        json!({ "tenant": "acme", "channel": "/chat/x", "data": 2 }),
        // Of nobody's tenant, which is one of its own.
        json!({ "user": "15000", "channel": CHANNEL, "data": 3 }),
        json!({ "channel": "/chat/x", "data": 4 }),
        json!({ "tenant": "acm", "channel": "/chat/x", "data": 5 }),
        json!({ "tenant": "acme", "channel": "/chat/x", "data": 6 }),
    ] {
        it.expect_published(&event).await;
    }
    for expected in [1, 2, 6] {
        assert_eq!(data(&next(&mut acme).await), [json!(expected)]);
    }
    assert_eq!(data(&next(&mut other).await), [json!(5)]);
    expect_silence(&mut acme).await;
    expect_silence(&mut other).await;
}

#[tokio::test]
async fn what_a_client_publishes_stays_in_its_tenant() {
    let it = It::with(with_tenants).await;
    let (mut publisher, id) = socket(&it, &token("acme", "1"), "/chat/other").await;
    let (mut colleague, _) = socket(&it, &token("acme", "2"), "/chat/x").await;
    let (mut stranger, _) = socket(&it, &token("bolt", "2"), "/chat/x").await;
    let message = json!({ "channel": "/chat/x", "clientId": id, "data": "hello", "tenant": "bolt" });
    expect_success(&ask(&mut publisher, &message).await);
    assert_eq!(data(&next(&mut colleague).await), [json!("hello")]);
    expect_silence(&mut stranger).await;
}

#[tokio::test]
async fn the_session_of_a_user_of_the_same_name_in_another_tenant_is_unknown() {
    let it = It::with(with_tenants).await;
    let (mut mine, id) = socket(&it, &token("acme", "15000"), CHANNEL).await;
    let foreign = bearer(&token("bolt", "15000"));
    let unknown = "402::session_unknown";
    expect_error(
        &post(it.public, &[&foreign], &connect(&id)).await,
        unknown,
        Some("handshake"),
    );
    let mut socket = Socket::open(it.public, "/cometd", &[&foreign]).await;
    expect_error(&ask(&mut socket, &subscribe(&id, "/x")).await, unknown, None);
    it.expect_published(&json!({ "tenant": "acme", "user": "15000", "channel": CHANNEL, "data": 1 }))
        .await;
    assert_eq!(data(&next(&mut mine).await), [json!(1)]);
}

#[tokio::test]
async fn a_session_that_slept_wakes_in_its_tenant() {
    let mut it = It::durable_with(with_tenants).await;
    let header = bearer(&token("acme", "15000"));
    let id = crate::events::session(&it, &header, "/**").await;
    it.restart().await;
    for event in [
        json!({ "tenant": "bolt", "user": "15000", "channel": CHANNEL, "data": 1 }),
        json!({ "tenant": "bolt", "channel": "/chat/x", "data": 2 }),
        json!({ "channel": "/chat/x", "data": 3 }),
        json!({ "tenant": "acme", "channel": "/chat/x", "data": 4 }),
        json!({ "tenant": "acme", "user": "15000", "channel": CHANNEL, "data": 5 }),
    ] {
        it.expect_published(&event).await;
    }
    assert_eq!(
        data(&post(it.public, &[&header], &wait(&id)).await),
        [json!(4), json!(5)]
    );
}

#[tokio::test]
async fn the_same_event_id_of_two_tenants_is_two_events() {
    let it = It::with(with_tenants).await;
    let offset = |answer: Answer| answer.json()["offset"].as_u64().expect("an offset");
    let event = |tenant: Option<&str>, id: &str| {
        let mut event = json!({ "channel": "/chat/x", "data": 1, "id": id });
        if let Some(tenant) = tenant {
            event["tenant"] = tenant.into();
        }
        event
    };
    let first = offset(it.publish_event(&event(Some("acme"), "1")).await);
    for (tenant, id) in [
        (Some("bolt"), "1"),
        (None, "1"),
        // What an id of the first would look like from outside.
        (None, "\u{1f}acme\u{1f}1"),
    ] {
        let other = offset(it.publish_event(&event(tenant, id)).await);
        assert_ne!(other, first, "{tenant:?} {id:?}");
    }
    assert_eq!(offset(it.publish_event(&event(Some("acme"), "1")).await), first);
}

#[tokio::test]
async fn operators_end_and_revoke_the_users_of_one_tenant() {
    let it = It::with(with_tenants).await;
    let (mut acme, _) = socket(&it, &token("acme", "15000"), CHANNEL).await;
    let (mut bolt, _) = socket(&it, &token("bolt", "15000"), CHANNEL).await;
    let revoke = |tenant: &str| json!({ "user": "15000", "tenant": tenant }).to_string();
    let ask_for = async |method: &str, path: &str, body: &str| {
        exchange(it.internal, &request(method, path, &[], body.as_bytes()))
            .await
            .json()
    };
    let listed = ask_for("GET", "/api/v1/sessions?user=15000&tenant=bolt", "").await;
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["sessions"][0]["tenant"], "bolt");
    let path = "/api/v1/users/15000/sessions";
    assert_eq!(ask_for("DELETE", path, "").await["disconnected"], 0);
    let ended = ask_for("POST", "/api/v1/revocations", &revoke("acme")).await;
    assert_eq!(ended["disconnected"], 1);
    assert_eq!(acme.closed().await, "1008 the credentials were revoked");
    it.expect_published(&json!({ "tenant": "bolt", "user": "15000", "channel": CHANNEL, "data": 1 }))
        .await;
    assert_eq!(data(&next(&mut bolt).await), [json!(1)]);
    let ended = ask_for("DELETE", &format!("{path}?tenant=bolt"), "").await;
    assert_eq!(ended["disconnected"], 1);
}

#[tokio::test]
async fn a_proxy_names_the_tenant_too() {
    let it = It::with(|config| {
        config.auth.kind = "proxy-headers".to_owned();
        config.proxy_headers.peers = vec![Network::parse("127.0.0.1").expect("a network")];
        config.proxy_headers.tenant = "X-Tenant".to_owned();
    })
    .await;
    let handshake = crate::events::handshake();
    let acme = ["X-Halley-User: 15000", "X-Tenant: acme"];
    let id = crate::events::client_id(&post(it.public, &acme, &handshake).await);
    let bolt = ["X-Halley-User: 15000", "X-Tenant: bolt"];
    expect_error(
        &post(it.public, &bolt, &connect(&id)).await,
        "402::session_unknown",
        Some("handshake"),
    );
    expect_success(&post(it.public, &acme, &connect(&id)).await);
    for wrong in [
        &["X-Halley-User: 15000"][..],
        &["X-Halley-User: 15000", "X-Tenant: a/b"],
    ] {
        expect_error(
            &post(it.public, wrong, &handshake).await,
            "403::handshake_denied",
            Some("none"),
        );
    }
}

#[tokio::test]
async fn t18_a_key_publishes_to_its_tenants_only() {
    let it = It::with(|config| {
        with_tenants(config);
        // printf %s key | sha256sum
        let key = "name = \"acme\"\nhash = \"2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683\"\ntenants = [\"acme\"]";
        config.internal.keys = vec![toml::from_str(key).expect("a key")];
    })
    .await;
    let (mut acme, _) = socket(&it, &token("acme", "15000"), "/**").await;
    let publish = async |tenant: Option<&str>, number: u32| {
        let mut event = json!({ "channel": "/chat/x", "data": number });
        if let Some(tenant) = tenant {
            event["tenant"] = tenant.into();
        }
        let body = event.to_string();
        exchange(
            it.internal,
            &request("POST", "/api/v1/events", &["X-API-Key: key"], body.as_bytes()),
        )
        .await
    };
    let refused = publish(Some("bolt"), 1).await;
    assert_eq!(
        (refused.status, refused.json()["pointer"].clone()),
        (403, json!("/tenant"))
    );
    assert_eq!(publish(Some("acme"), 2).await.status, 201);
    // It has only one, and need not name it.
    assert_eq!(publish(None, 3).await.status, 201);
    for expected in [2, 3] {
        assert_eq!(data(&next(&mut acme).await), [json!(expected)]);
    }
}
