//! Until when a session gets anything, and how it goes on beyond that.

use std::time::Duration;

use halley::config::Span;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::events::{
    ask, client_id, connect, data, expect_error, expect_silence, expect_success, handshake, handshake_with,
    next, post, session, socket, subscribe, wait,
};
use crate::it::{It, Socket};
use crate::tokens::{bearer, it, now, take_tokens, token, token_with};

const CHANNEL: &str = "/v2/me/calls";
const EXPIRED: &str = "401::credentials_expired";

/// Until a token that lasts for `seconds` from now has ended.
async fn after(seconds: u64) {
    let end = now() + seconds;
    while now() < end {
        sleep(Duration::from_millis(20)).await;
    }
}

fn with_token(mut message: Value, token: &str) -> Value {
    message["ext"] = json!({ "token": token });
    message
}

#[tokio::test]
async fn t17_a_held_connect_is_answered_when_its_token_ends() {
    let it = it().await;
    let token = bearer(&token("15000", 2));
    let id = session(&it, &token, CHANNEL).await;
    let began = Instant::now();
    let replies = post(it.public, &[&token], &wait(&id)).await;
    expect_error(&replies, EXPIRED, Some("handshake"));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "it was held for {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn t17_a_socket_gets_nothing_after_its_token_has_ended() {
    let it = it().await;
    let (mut socket, id) = socket(&it, &token("15000", 2), CHANNEL).await;
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    assert_eq!(data(&next(&mut socket).await), [json!(1)]);
    after(2).await;
    it.publish_to(Some("15000"), CHANNEL, "2").await;
    expect_silence(&mut socket).await;
    let replies = ask(&mut socket, &wait(&id)).await;
    expect_error(&replies, EXPIRED, Some("handshake"));
}

#[tokio::test]
async fn t17_the_cookie_of_the_browser_opens_nothing_after_the_token_has_ended() {
    let it = it().await;
    let answer = crate::events::post_answer(it.public, &[&bearer(&token("15000", 2))], &handshake()).await;
    let cookie = format!("Cookie: BAYEUX_BROWSER={}", answer.browser().expect("a cookie"));
    let id = client_id(answer.json().as_array().expect("an array"));
    // The control: before that it does.
    expect_success(&post(it.public, &[&cookie], &connect(&id)).await);
    expect_success(&post(it.public, &[&cookie], &subscribe(&id, CHANNEL)).await);
    after(2).await;
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    let replies = post(it.public, &[&cookie], &connect(&id)).await;
    expect_error(&replies, EXPIRED, Some("handshake"));
    assert_eq!(data(&replies), [] as [Value; 0]);
}

#[tokio::test]
async fn a_fresh_token_on_any_request_renews_a_session() {
    let it = it().await;
    let id = session(&it, &bearer(&token("15000", 2)), CHANNEL).await;
    let fresh = bearer(&token("15000", 300));
    expect_success(&post(it.public, &[&fresh], &subscribe(&id, "/v2/me/more")).await);
    after(2).await;
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    assert_eq!(data(&post(it.public, &[&fresh], &connect(&id)).await), [json!(1)]);
}

#[tokio::test]
async fn a_fresh_token_in_a_connect_or_on_the_channel_for_it_renews_a_socket() {
    let it = it().await;
    let fresh = token("15000", 300);
    let renewals: [fn(&str, &str) -> Value; 2] = [
        |id, token| with_token(connect(id), token),
        |id, token| json!({ "channel": "/service/auth", "clientId": id, "data": { "token": token } }),
    ];
    for renewal in renewals {
        let (mut socket, id) = socket(&it, &token("15000", 2), CHANNEL).await;
        expect_success(&ask(&mut socket, &renewal(&id, &fresh)).await);
        after(2).await;
        it.publish_to(Some("15000"), CHANNEL, "1").await;
        assert_eq!(data(&next(&mut socket).await), [json!(1)]);
    }
}

#[tokio::test]
async fn what_was_missed_comes_when_the_token_is_renewed_after_its_end() {
    let it = it().await;
    let (mut socket, id) = socket(&it, &token("15000", 2), CHANNEL).await;
    after(2).await;
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    expect_silence(&mut socket).await;
    let renewal =
        json!({ "channel": "/service/auth", "clientId": id, "data": { "token": token("15000", 300) } });
    socket.send(&renewal.to_string()).await;
    let mut came = next(&mut socket).await;
    while data(&came).last() != Some(&json!(1)) {
        came.extend(next(&mut socket).await);
    }
    assert!(came.iter().any(|message| message["channel"] == "/service/auth"));
}

#[tokio::test]
async fn a_renewal_with_what_is_wrong_changes_nothing() {
    let it = it().await;
    let (mut socket, id) = socket(&it, &token("15000", 300), CHANNEL).await;
    for (token, error) in [
        ("nonsense".to_owned(), "401::credentials_wrong"),
        (String::new(), "401::credentials_wrong"),
        (
            token_with("15000", 0, &json!({ "exp": now() - 1, "iat": 0 })),
            EXPIRED,
        ),
        (token("15001", 300), "402::session_unknown"),
    ] {
        let message = json!({ "channel": "/service/auth", "clientId": id, "data": { "token": token } });
        expect_error(&ask(&mut socket, &message).await, error, None);
    }
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    it.publish_to(Some("15001"), CHANNEL, "2").await;
    assert_eq!(data(&next(&mut socket).await), [json!(1)]);
    expect_silence(&mut socket).await;
}

#[tokio::test]
async fn t4_a_session_is_never_bound_to_another_user() {
    let it = it().await;
    let (mine, foreign) = (token("15000", 300), token("15001", 3000));
    let id = session(&it, &bearer(&mine), CHANNEL).await;
    let unknown = "402::session_unknown";
    for (headers, message) in [
        (vec![bearer(&foreign)], connect(&id)),
        (vec![bearer(&mine)], with_token(connect(&id), &foreign)),
        (vec![], with_token(connect(&id), &foreign)),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        expect_error(
            &post(it.public, &headers, &message).await,
            unknown,
            Some("handshake"),
        );
    }
    let (mut socket, over_websocket) = socket(&it, &mine, CHANNEL).await;
    let replies = ask(&mut socket, &with_token(connect(&over_websocket), &foreign)).await;
    expect_error(&replies, unknown, Some("handshake"));
    // Both are who they were.
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    it.publish_to(Some("15001"), CHANNEL, "2").await;
    assert_eq!(data(&next(&mut socket).await), [json!(1)]);
    expect_silence(&mut socket).await;
    assert_eq!(
        data(&post(it.public, &[&bearer(&mine)], &connect(&id)).await),
        [json!(1)]
    );
}

#[tokio::test]
async fn t6_a_token_of_an_upgrade_opens_nothing_on_the_socket_after_its_end() {
    let it = it().await;
    let mut socket = Socket::open(it.public, "/cometd", &[&bearer(&token("15000", 2))]).await;
    let other = session(&it, &bearer(&token("15000", 300)), CHANNEL).await;
    // The control: as long as the token is good, the socket may speak for any session of its user.
    expect_success(&ask(&mut socket, &connect(&other)).await);
    let another = session(&it, &bearer(&token("15000", 300)), CHANNEL).await;
    after(2).await;
    expect_error(
        &ask(&mut socket, &connect(&another)).await,
        EXPIRED,
        Some("handshake"),
    );
    expect_error(&ask(&mut socket, &handshake()).await, EXPIRED, Some("none"));
    // A fresh one in the handshake does.
    let fresh = handshake_with(&json!({ "token": token("15000", 300) }));
    expect_success(&ask(&mut socket, &fresh).await);
}

#[tokio::test]
async fn t17_a_session_that_slept_is_as_old_as_its_token_when_it_wakes_also_after_a_restart() {
    let mut it = It::durable_with(|config| {
        take_tokens(config);
        config.session.max_interval = Span(Duration::from_millis(200));
    })
    .await;
    let (short, long) = (token("15000", 3), token("15000", 300));
    let id = session(&it, &bearer(&short), CHANNEL).await;
    it.restart().await;
    after(3).await;
    it.publish_to(Some("15000"), CHANNEL, "1").await;
    expect_error(
        &post(it.public, &[&bearer(&short)], &connect(&id)).await,
        EXPIRED,
        Some("handshake"),
    );
    assert_eq!(
        data(&post(it.public, &[&bearer(&long)], &connect(&id)).await),
        [json!(1)]
    );
}

#[tokio::test]
async fn a_client_is_told_before_its_token_ends_where_the_configuration_says_so() {
    let it = It::with(|config| {
        take_tokens(config);
        config.auth.warning = Span(Duration::from_secs(299));
    })
    .await;
    let (mut socket, _) = socket(&it, &token("15000", 300), CHANNEL).await;
    let told = next(&mut socket).await;
    assert_eq!(told[0]["channel"], "/service/auth");
    let left = told[0]["data"]["expires_in"].as_u64().expect("milliseconds");
    assert!((290_000..=299_000).contains(&left), "{left}");
}
