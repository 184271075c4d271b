//! Every way to show who one is.

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use halley::config::Network;
use serde_json::{Value, json};

use crate::events::{ask, client_id, connect, expect_error, expect_success, handshake, handshake_with, post};
use crate::it::{It, Socket};
use crate::tokens::{bearer, take_tokens, token, token_with};

const DENIED: &str = "403::handshake_denied";

async fn everywhere() -> It {
    It::with(|config| {
        take_tokens(config);
        config.auth.cookie = "session".to_owned();
        config.auth.query_parameter = "access_token".to_owned();
    })
    .await
}

/// Header lines, the query of a WebSocket, and `ext` of the handshake that show a token.
fn ways(token: &str) -> Vec<(Vec<String>, String, Value)> {
    let way = |header: Option<String>, query: &str, ext: Value| {
        (header.into_iter().collect(), query.to_owned(), ext)
    };
    vec![
        way(Some(bearer(token)), "", json!({})),
        way(Some(format!("Cookie: a=b; session={token}")), "", json!({})),
        way(None, "", json!({ "token": token })),
        way(None, "", json!({ "authentication": { "token": token } })),
        way(None, &format!("?access_token={token}"), json!({})),
    ]
}

#[tokio::test]
async fn a_token_counts_wherever_it_may_come_and_a_wrong_one_nowhere() {
    let it = everywhere().await;
    let other = token_with("15000", 300, &json!({ "aud": "somebody-else" }));
    for (token, is_good) in [(token("15000", 300), true), (other, false)] {
        for (headers, query, ext) in ways(&token) {
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let mut socket = Socket::open(it.public, &format!("/cometd{query}"), &headers).await;
            let over_websocket = ask(&mut socket, &handshake_with(&ext)).await;
            let over_http = post(it.public, &headers, &handshake_with(&ext)).await;
            let both = [
                Some(over_websocket),
                // A URL brings a token to a WebSocket only.
                Some(over_http).filter(|_| query.is_empty()),
            ];
            for replies in both.into_iter().flatten() {
                if is_good {
                    expect_success(&replies);
                } else {
                    expect_error(&replies, DENIED, Some("none"));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_token_in_a_url_or_cookie_counts_only_where_the_configuration_says_so() {
    let it = It::with(take_tokens).await;
    let token = token("15000", 300);
    let cookie = format!("Cookie: session={token}");
    expect_error(
        &post(it.public, &[&cookie], &handshake()).await,
        DENIED,
        Some("none"),
    );
    let path = format!("/cometd?access_token={token}");
    let mut socket = Socket::open(it.public, &path, &[]).await;
    expect_error(&ask(&mut socket, &handshake()).await, DENIED, Some("none"));
    // The control: the same token where it counts.
    expect_success(&post(it.public, &[&bearer(&token)], &handshake()).await);
}

#[tokio::test]
async fn a_token_in_the_url_of_a_post_is_not_looked_at() {
    let it = everywhere().await;
    let path = format!("/cometd?access_token={}", token("15000", 300));
    let answer = it.post(&path, &[], handshake().to_string()).await;
    expect_error(answer.json().as_array().expect("an array"), DENIED, Some("none"));
}

#[tokio::test]
async fn a_token_that_has_ended_is_told_so_and_not_to_try_again_with_it() {
    let it = It::with(take_tokens).await;
    let ended = token_with("15000", 0, &json!({ "exp": crate::tokens::now() - 1, "iat": 0 }));
    let replies = post(it.public, &[&bearer(&ended)], &handshake()).await;
    expect_error(&replies, "401::credentials_expired", Some("none"));
}

#[tokio::test]
async fn a_proxy_says_who_it_is_and_nobody_else_does() {
    for (peer, is_believed) in [("127.0.0.0/8", true), ("192.0.2.0/24", false)] {
        let it = It::with(|config| {
            config.auth.kind = "proxy-headers".to_owned();
            config.proxy_headers.peers = vec![Network::parse(peer).expect("a network")];
        })
        .await;
        let replies = post(it.public, &["X-Halley-User: 15000"], &handshake()).await;
        let mut socket = Socket::open(it.public, "/cometd", &["X-Halley-User: 15000"]).await;
        let over_websocket = ask(&mut socket, &handshake()).await;
        for replies in [replies, over_websocket] {
            if is_believed {
                expect_success(&replies);
            } else {
                expect_error(&replies, DENIED, Some("none"));
            }
        }
        // A session is its user's, whatever the proxy says of others.
        if is_believed {
            let id = client_id(&post(it.public, &["X-Halley-User: 15000"], &handshake()).await);
            let foreign = post(it.public, &["X-Halley-User: 15001"], &connect(&id)).await;
            expect_error(&foreign, "402::session_unknown", Some("handshake"));
            expect_success(&post(it.public, &["X-Halley-User: 15000"], &connect(&id)).await);
        }
    }
}

#[tokio::test]
async fn a_password_of_the_file_opens_a_session_and_another_does_not() {
    let params = Params::new(64, 1, 1, None).expect("cheap ones");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(b"secret").expect("a hash").to_string();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("15000:{hash}\n")).expect("written");
    let it = It::with(|config| {
        config.auth.kind = "basic".to_owned();
        config.basic.file = file.path().display().to_string();
    })
    .await;
    let basic = |text: &str| format!("Authorization: Basic {}", STANDARD.encode(text));
    for (shown, is_good) in [
        ("15000:secret", true),
        ("15000:secret", true),
        ("15000:Secret", false),
        ("15000:", false),
        ("15001:secret", false),
        (":secret", false),
    ] {
        let replies = post(it.public, &[&basic(shown)], &handshake()).await;
        if is_good {
            expect_success(&replies);
        } else {
            expect_error(&replies, DENIED, Some("none"));
        }
    }
}
