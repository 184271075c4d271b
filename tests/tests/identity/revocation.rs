//! What operators take back, from that moment on.

use halley::config::Span;
use serde_json::{Value, json};
use std::time::Duration;

use crate::events::{
    ask, client_id, connect, data, expect_error, expect_silence, expect_success, handshake, handshake_with,
    next, post, session, socket, wait,
};
use crate::it::{Answer, It, exchange, request};
use crate::tokens::{bearer, it, now, take_tokens, token, token_with};

const CHANNEL: &str = "/v2/me/calls";
const REVOKED: &str = "401::credentials_revoked";

impl It {
    async fn revocations(&self, method: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let request = request(method, "/api/v1/revocations", &[], body.as_bytes());
        exchange(self.internal, &request).await
    }

    async fn revoke(&self, what: &Value) -> u64 {
        let answer = self.revocations("POST", what).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["disconnected"].as_u64().expect("a number")
    }

    /// The names of the sessions of a user.
    async fn names(&self, user: &str) -> Vec<String> {
        let path = format!("/api/v1/sessions?user={user}");
        let listed = exchange(self.internal, &request("GET", &path, &[], b""))
            .await
            .json();
        let sessions = listed["sessions"].as_array().expect("a list");
        let ids = sessions.iter().filter_map(|session| session["id"].as_str());
        ids.map(str::to_owned).collect()
    }
}

/// A token that is a moment older than any revocation to come.
fn older(user: &str, id: &str) -> String {
    token_with(user, 300, &json!({ "iat": now() - 1, "jti": id }))
}

#[tokio::test]
async fn t17_a_held_connect_and_a_socket_are_ended_at_once_when_their_user_is_revoked() {
    let it = it().await;
    let token = older("15000", "t1");
    let polling = session(&it, &bearer(&token), CHANNEL).await;
    let (mut socket, pushed) = socket(&it, &token, CHANNEL).await;
    let (mut other, _) = crate::events::socket(&it, &older("15001", "t2"), CHANNEL).await;
    socket.send(&wait(&pushed).to_string()).await;
    let header = bearer(&token);
    let (waiting, headers) = (wait(&polling), [header.as_str()]);
    let (held, ()) = tokio::join!(post(it.public, &headers, &waiting), async {
        it.wait_for("halley_connections{transport=\"long-polling\"}", 1.0)
            .await;
        assert_eq!(it.revoke(&json!({ "user": "15000" })).await, 2);
    });
    expect_error(&held, REVOKED, Some("none"));
    expect_error(&next(&mut socket).await, REVOKED, Some("none"));
    assert_eq!(socket.closed().await, "1008 the credentials were revoked");
    // Nobody else is concerned.
    it.publish_to(Some("15001"), CHANNEL, "1").await;
    assert_eq!(data(&next(&mut other).await), [json!(1)]);
}

#[tokio::test]
async fn t17_nothing_that_was_published_before_reaches_who_is_revoked() {
    let it = it().await;
    let token = older("15000", "t1");
    let id = session(&it, &bearer(&token), CHANNEL).await;
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    it.revoke(&json!({ "user": "15000" })).await;
    let replies = post(it.public, &[&bearer(&token)], &connect(&id)).await;
    expect_error(&replies, REVOKED, Some("none"));
    assert_eq!(data(&replies), [] as [Value; 0]);
    expect_error(
        &post(it.public, &[&bearer(&token)], &handshake()).await,
        REVOKED,
        Some("none"),
    );
}

#[tokio::test]
async fn who_was_revoked_may_log_in_again_with_a_newer_token() {
    let it = it().await;
    it.revoke(&json!({ "user": "15000" })).await;
    let newer = token_with("15000", 300, &json!({ "iat": now() + 1 }));
    // It was issued by a clock that is a little ahead, which this broker is not told to allow for.
    let lenient = It::with(|config| {
        take_tokens(config);
        config.jwt.skew = Span(Duration::from_secs(60));
    })
    .await;
    lenient.revoke(&json!({ "user": "15000" })).await;
    expect_success(&post(lenient.public, &[&bearer(&newer)], &handshake()).await);
    expect_error(
        &post(lenient.public, &[&bearer(&older("15000", "t1"))], &handshake()).await,
        REVOKED,
        Some("none"),
    );
}

#[tokio::test]
async fn one_token_is_revoked_by_its_name_and_no_other() {
    let it = it().await;
    let (first, second) = (older("15000", "t1"), older("15000", "t2"));
    let (mut gone, _) = socket(&it, &first, CHANNEL).await;
    let (mut stays, _) = socket(&it, &second, CHANNEL).await;
    assert_eq!(it.revoke(&json!({ "token": "t1" })).await, 1);
    assert_eq!(gone.closed().await, "1008 the credentials were revoked");
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    assert_eq!(data(&next(&mut stays).await), [json!(1)]);
    let replies = post(it.public, &[&bearer(&first)], &handshake()).await;
    expect_error(&replies, REVOKED, Some("none"));
    expect_success(&post(it.public, &[&bearer(&second)], &handshake()).await);
}

#[tokio::test]
async fn one_session_is_revoked_by_its_name_and_its_user_may_have_others() {
    let it = it().await;
    let token = older("15000", "t1");
    let (mut gone, id) = socket(&it, &token, CHANNEL).await;
    let names = it.names("15000").await;
    assert_eq!(it.revoke(&json!({ "session": names[0] })).await, 1);
    assert_eq!(gone.closed().await, "1008 the credentials were revoked");
    let replies = post(it.public, &[&bearer(&token)], &connect(&id)).await;
    expect_error(&replies, "402::session_unknown", Some("handshake"));
    expect_success(&post(it.public, &[&bearer(&token)], &handshake()).await);
}

#[tokio::test]
async fn a_socket_whose_user_is_revoked_before_it_has_a_session_gets_none() {
    let it = it().await;
    let token = older("15000", "t1");
    let mut socket = crate::it::Socket::open(it.public, "/cometd", &[&bearer(&token)]).await;
    it.revoke(&json!({ "user": "15000" })).await;
    expect_error(&ask(&mut socket, &handshake()).await, REVOKED, Some("none"));
    let with_token = handshake_with(&json!({ "token": token }));
    expect_error(&ask(&mut socket, &with_token).await, REVOKED, Some("none"));
}

#[tokio::test]
async fn t17_what_is_revoked_while_it_sleeps_stays_so_after_a_restart() {
    let mut it = It::durable_with(take_tokens).await;
    let (token, other) = (older("15000", "t1"), older("15001", "t2"));
    let id = session(&it, &bearer(&token), CHANNEL).await;
    let foreign = session(&it, &bearer(&other), CHANNEL).await;
    it.restart().await;
    assert_eq!(it.revoke(&json!({ "user": "15000" })).await, 0, "it sleeps");
    it.restart().await;
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    let replies = post(it.public, &[&bearer(&token)], &connect(&id)).await;
    expect_error(&replies, REVOKED, Some("none"));
    assert_eq!(data(&replies), [] as [Value; 0]);
    expect_success(&post(it.public, &[&bearer(&other)], &connect(&foreign)).await);
}

#[tokio::test]
async fn t17_a_session_that_wakes_by_its_cookie_hears_that_its_user_was_revoked() {
    let mut it = It::durable_with(take_tokens).await;
    let answer = crate::events::post_answer(it.public, &[&bearer(&older("15000", "t1"))], &handshake()).await;
    let cookie = format!("Cookie: BAYEUX_BROWSER={}", answer.browser().expect("a cookie"));
    let id = client_id(answer.json().as_array().expect("an array"));
    expect_success(&post(it.public, &[&cookie], &connect(&id)).await);
    it.restart().await;
    it.revoke(&json!({ "user": "15000" })).await;
    let replies = post(it.public, &[&cookie], &connect(&id)).await;
    expect_error(&replies, REVOKED, Some("none"));
    // It is not there any more.
    let replies = post(it.public, &[&cookie], &connect(&id)).await;
    expect_error(&replies, "402::session_unknown", Some("handshake"));
}

#[tokio::test]
async fn a_revocation_can_be_seen_and_taken_back() {
    let it = it().await;
    let token = older("15000", "t1");
    it.revoke(&json!({ "user": "15000" })).await;
    it.revoke(&json!({ "token": "t9", "for": "1h" })).await;
    let listed = it.revocations("GET", &json!({})).await.json();
    let listed = listed["revocations"].as_array().expect("a list");
    let user = listed
        .iter()
        .find(|one| one["user"] == "15000")
        .expect("it is listed");
    let lasts = user["until"].as_u64().expect("a time") - user["at"].as_u64().expect("a time");
    assert_eq!(lasts, 24 * 3600);
    let named = listed
        .iter()
        .find(|one| one["token"] == "t9")
        .expect("it is listed");
    let lasts = named["until"].as_u64().expect("a time") - named["at"].as_u64().expect("a time");
    assert_eq!(lasts, 3600);
    expect_error(
        &post(it.public, &[&bearer(&token)], &handshake()).await,
        REVOKED,
        Some("none"),
    );
    assert_eq!(
        it.revocations("DELETE", &json!({ "user": "15000" })).await.status,
        200
    );
    assert_eq!(
        it.revocations("DELETE", &json!({ "user": "15000" })).await.status,
        404
    );
    expect_success(&post(it.public, &[&bearer(&token)], &handshake()).await);
}

#[tokio::test]
async fn a_user_with_a_fixed_token_is_revoked_until_that_is_taken_back() {
    let it = It::new().await;
    let header = crate::it::authorization("15000");
    let (mut socket, _) = socket(&it, "secret-15000", CHANNEL).await;
    it.revoke(&json!({ "user": "15000" })).await;
    assert_eq!(socket.closed().await, "1008 the credentials were revoked");
    expect_error(
        &post(it.public, &[&header], &handshake()).await,
        REVOKED,
        Some("none"),
    );
    it.revocations("DELETE", &json!({ "user": "15000" })).await;
    expect_success(&post(it.public, &[&header], &handshake()).await);
}

#[tokio::test]
async fn what_cannot_be_revoked_is_a_problem_that_says_why() {
    let it = it().await;
    for body in [
        json!({}),
        json!({ "user": "15000", "token": "t1" }),
        json!({ "user": "" }),
        json!({ "session": "x" }),
        json!({ "token": "" }),
        json!({ "user": "15000", "for": "soon" }),
        json!({ "users": "15000" }),
        json!([]),
    ] {
        let answer = it.revocations("POST", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    let put = it.revocations("PUT", &json!({})).await;
    assert_eq!(
        (put.status, put.header("allow")),
        (405, Some("GET, POST, DELETE"))
    );
}

#[tokio::test]
async fn a_token_of_another_user_is_no_reason_to_end_a_session_of_the_same_name() {
    let it = it().await;
    let (mut socket, _) = socket(&it, &token("15000", 300), CHANNEL).await;
    assert_eq!(it.revoke(&json!({ "user": "1500" })).await, 0);
    assert_eq!(it.revoke(&json!({ "token": "15000" })).await, 0);
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    assert_eq!(data(&next(&mut socket).await), [json!(1)]);
    expect_silence(&mut socket).await;
}
