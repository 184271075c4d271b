//! Messages that claim to be what they are not, and clients that claim to be whom they are not.

use serde_json::{Value, json};

use crate::it::{Client, It, Socket, TRANSPORTS, Transport, USERS, authorization};

/// What a server alone says.
const FORGED: &str = r#"{"channel":"/chat/x","clientId":"$id","id":"77","data":{"n":1},"advice":{"reconnect":"none","interval":9},
    "successful":false,"error":"402::session_unknown","ext":{"ack":999,"replay":1},"subscription":"/v2/me/calls","timestamp":"x"}"#;

#[tokio::test]
async fn nothing_but_channel_and_data_reaches_a_subscriber() {
    let it = It::new().await;
    for (from, to) in [
        (Transport::LongPolling, Transport::WebSocket),
        (Transport::WebSocket, Transport::LongPolling),
    ] {
        let mut subscriber = Client::open(&it, to, Some(USERS[1])).await;
        subscriber.subscribe(json!("/chat/**")).await;
        let mut publisher = Client::open(&it, from, Some(USERS[0])).await;
        let replies = publisher.say(FORGED).await;
        assert_eq!(replies[0]["successful"], true, "{replies:?}");
        let came: Vec<Value> = serde_json::from_str(&subscriber.events().await).expect("an array");
        assert_eq!(
            came[0],
            json!({"channel": "/chat/x", "data": {"n": 1}}),
            "to {to:?}"
        );
    }
}

#[tokio::test]
async fn clients_may_not_publish_to_channels_of_the_server() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        let mut subscriber = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
        subscriber.subscribe(json!(["/**"])).await;
        let mut publisher = Client::open(&it, transport, Some(USERS[0])).await;
        for channel in [
            "/v2/me/calls",
            "/v2/x",
            " /v2/x/ ",
            "/v2/*",
            "/notifications/a/b",
            "/workspace/x",
        ] {
            let body = format!(
                r#"{{"channel":"{channel}","clientId":"$id","data":"forged","ext":{{"user":"15000"}}}}"#
            );
            let replies = publisher.say(&body).await;
            assert_eq!(
                replies[0]["error"], "403:denied_by_security_policy:publish_denied",
                "{channel}"
            );
        }
        let allowed = r#"{"channel":"/chat/x","clientId":"$id","data":"allowed"}"#;
        assert_eq!(publisher.say(allowed).await[0]["successful"], true);
        assert_eq!(subscriber.data_until("allowed").await, ["allowed"]);
    }
}

#[tokio::test]
async fn a_publish_without_a_session_reaches_nobody() {
    let it = It::new().await;
    let mut subscriber = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
    subscriber.subscribe(json!("/chat/x")).await;
    for client_id in [
        "",
        r#","clientId":"nobody""#,
        r#","clientId":"""#,
        r#","clientId":null"#,
    ] {
        let body = format!(r#"[{{"channel":"/chat/x","data":"forged"{client_id}}}]"#);
        let answer = it.post("/cometd", &[&authorization(USERS[0])], body).await;
        let reply = answer.json()[0].clone();
        assert_eq!(reply["error"], "402::session_unknown", "{client_id}");
        assert_eq!(reply.get("advice"), None, "a publish is given no advice");
    }
    it.publish_to(None, "/chat/x", r#""last""#).await;
    assert_eq!(subscriber.data_until("last").await, ["last"]);
}

#[tokio::test]
async fn an_unknown_session_is_told_to_shake_hands_on_connect_only() {
    let it = It::new().await;
    for (channel, advice) in [
        (
            "/meta/connect",
            Some(json!({"interval": 0, "reconnect": "handshake"})),
        ),
        ("/meta/subscribe", None),
        ("/meta/unsubscribe", None),
        ("/meta/disconnect", None),
        ("/chat/x", None),
        ("/service/x", None),
    ] {
        let message = format!(r#"[{{"channel":"{channel}","clientId":"nobody","subscription":"/a"}}]"#);
        let over_http = it
            .post("/cometd", &[&authorization(USERS[0])], &message)
            .await
            .json();
        let mut socket = Socket::open(it.public, "/cometd", &[&authorization(USERS[0])]).await;
        socket.send(&message).await;
        let over_websocket: Value = serde_json::from_str(&socket.next().await).expect("an array");
        for reply in [&over_http[0], &over_websocket[0]] {
            assert_eq!(reply["error"], "402::session_unknown", "{channel}");
            assert_eq!(reply.get("advice"), advice.as_ref(), "{channel}");
        }
    }
}

#[tokio::test]
async fn a_handshake_with_wrong_or_no_credentials_is_denied_and_makes_no_session() {
    let it = It::new().await;
    for (headers, ext) in [
        ("X-None: 1", ""),
        ("Authorization: Bearer wrong", ""),
        ("Authorization: Bearer", ""),
        ("Authorization: Basic !!!", ""),
        // 15000:secret-15001
        ("Authorization: Basic MTUwMDA6c2VjcmV0LTE1MDAx", ""),
        ("X-None: 1", r#","ext":{"token":"wrong"}"#),
        ("X-None: 1", r#","ext":{"token":["secret-15000"]}"#),
        (
            "Authorization: Bearer secret-15000",
            r#","ext":{"token":"wrong"}"#,
        ),
    ] {
        let message = format!(r#"[{{"channel":"/meta/handshake"{ext}}}]"#);
        let over_http = it.post("/cometd", &[headers], &message).await.json();
        let mut socket = Socket::open(it.public, "/cometd", &[headers]).await;
        socket.send(&message).await;
        let over_websocket: Value = serde_json::from_str(&socket.next().await).expect("an array");
        for reply in [&over_http[0], &over_websocket[0]] {
            assert_eq!(reply["error"], "403::handshake_denied", "{headers} {ext}");
            assert_eq!(reply["advice"], json!({"reconnect": "none"}), "{headers} {ext}");
            assert_eq!(reply.get("clientId"), None);
        }
    }
    assert_eq!(it.metric("halley_sessions").await, 0.0);
    let good = r#"[{"channel":"/meta/handshake","ext":{"token":"secret-15000"}}]"#;
    assert_eq!(it.post("/cometd", &[], good).await.json()[0]["successful"], true);
}

/// What somebody else might do with a clientId: each must be answered 402.
const THEFT: [&str; 5] = [
    r#"{"channel":"/meta/connect","clientId":"$stolen"}"#,
    r#"{"channel":"/meta/subscribe","clientId":"$stolen","subscription":"/chat/planted"}"#,
    r#"{"channel":"/meta/unsubscribe","clientId":"$stolen","subscription":"/v2/me/calls"}"#,
    r#"{"channel":"/chat/x","clientId":"$stolen","data":"stolen"}"#,
    r#"{"channel":"/meta/disconnect","clientId":"$stolen"}"#,
];

/// A session with a subscription, whose clientId becomes known to others.
async fn owner(it: &It, transport: Transport) -> Client {
    let mut owner = Client::open(it, transport, Some(USERS[0])).await;
    owner.subscribe(json!(["/v2/me/calls", "/chat/x"])).await;
    owner
}

/// The owner notices nothing: it gets its next event, and nothing before it.
async fn expect_unaffected(it: &It, owner: &mut Client) {
    it.publish_to(None, "/chat/planted", r#""planted""#).await;
    it.publish_to(Some(USERS[0]), "/v2/me/calls", r#""mine""#).await;
    assert_eq!(owner.data_until("mine").await, ["mine"]);
}

#[tokio::test]
async fn the_session_of_another_user_is_unknown_over_http() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        let mut owner = owner(&it, transport).await;
        let cookie = owner
            .cookie
            .as_ref()
            .map(|cookie| format!("Cookie: BAYEUX_BROWSER={cookie}"));
        let other = authorization(USERS[1]);
        let wrong = "Authorization: Bearer wrong".to_owned();
        let none = "X-None: 1".to_owned();
        for credentials in [&other, &wrong, &none] {
            for message in THEFT {
                let message = message.replace("$stolen", &owner.id);
                let answer = it.post("/cometd", &[credentials], &message).await;
                assert_eq!(
                    answer.json()[0]["error"],
                    "402::session_unknown",
                    "{credentials} {message}"
                );
            }
        }
        // Wrong credentials are not made good by the right cookie.
        for credentials in [&other, &wrong] {
            let Some(cookie) = &cookie else { continue };
            let message = THEFT[0].replace("$stolen", &owner.id);
            let answer = it.post("/cometd", &[credentials, cookie], &message).await;
            assert_eq!(
                answer.json()[0]["error"],
                "402::session_unknown",
                "{credentials} with the cookie"
            );
        }
        expect_unaffected(&it, &mut owner).await;
    }
}

#[tokio::test]
async fn the_session_of_another_user_is_unknown_over_a_websocket_without_handshake() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        let mut owner = owner(&it, transport).await;
        for headers in [
            &[][..],
            &[authorization(USERS[1])][..],
            &["Authorization: Bearer wrong".to_owned()][..],
        ] {
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let mut socket = Socket::open(it.public, "/cometd", &headers).await;
            for message in THEFT {
                socket.send(&message.replace("$stolen", &owner.id)).await;
                let reply = socket.next().await;
                assert!(
                    reply.contains("402::session_unknown"),
                    "{headers:?} {message}: {reply}"
                );
            }
        }
        expect_unaffected(&it, &mut owner).await;
    }
}

#[tokio::test]
async fn a_foreign_session_further_down_in_a_batch_is_unknown() {
    let it = It::new().await;
    for (victim, thief) in [
        (Transport::LongPolling, Transport::LongPolling),
        (Transport::WebSocket, Transport::LongPolling),
        (Transport::LongPolling, Transport::WebSocket),
        (Transport::WebSocket, Transport::WebSocket),
    ] {
        let mut owner = owner(&it, victim).await;
        let mut thief = Client::open(&it, thief, Some(USERS[1])).await;
        let own = r#"{"channel":"/meta/subscribe","clientId":"$id","subscription":"/chat/own"}"#;
        for message in THEFT {
            let message = message.replace("$stolen", &owner.id);
            let replies = thief.say(&format!("[{own},{message}]")).await;
            assert_eq!(replies[0]["successful"], true, "{message}");
            assert_eq!(replies[1]["error"], "402::session_unknown", "{message}");
        }
        let message = THEFT[1].replace("$stolen", &owner.id);
        let replies = thief
            .say(&format!(r#"[{{"channel":"/meta/handshake"}},{message}]"#))
            .await;
        assert_eq!(replies[1]["error"], "402::session_unknown", "behind a handshake");
        expect_unaffected(&it, &mut owner).await;
    }
}

#[tokio::test]
async fn another_session_of_the_same_user_is_not_spoken_for_in_the_same_batch() {
    let it = It::new().await;
    let mut other = owner(&it, Transport::LongPolling).await;
    let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    let own = r#"{"channel":"/meta/subscribe","clientId":"$id","subscription":"/chat/own"}"#;
    let replies = client
        .say(&format!("[{own},{}]", THEFT[4].replace("$stolen", &other.id)))
        .await;
    assert_eq!(replies[1]["error"], "402::session_unknown");
    expect_unaffected(&it, &mut other).await;
}

#[tokio::test]
async fn an_acknowledgement_beyond_what_was_sent_discards_nothing() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        let mut client = Client::greet_with(&it, transport, Some(USERS[0]), r#","ext":{"ack":true}"#).await;
        let connect = |ack: &str| {
            format!(
                r#"{{"channel":"/meta/connect","clientId":"$id","advice":{{"timeout":0}},"ext":{{"ack":{ack}}}}}"#
            )
        };
        let first = client.say(&connect("0")).await;
        let before = first[0]["ext"]["ack"].as_u64().expect("a number");
        client.subscribe(json!("/v2/me/calls")).await;
        it.publish_to(Some(USERS[0]), "/v2/me/calls", r#""kept""#).await;
        it.wait_for(
            "halley_events_routed_total",
            it.metric("halley_events_routed_total").await.max(1.0),
        )
        .await;

        for ack in [
            "999999",
            "9007199254740993",
            "18446744073709551616",
            "1.5",
            "\"1\"",
            "true",
            "{}",
            "1e400",
        ] {
            let replies = client.say(&connect(ack)).await;
            assert_eq!(
                replies[0]["error"], "400:ext.ack:field_invalid",
                "{transport:?} {ack}"
            );
        }
        let mut seen = String::new();
        while !seen.contains("kept") {
            seen.push_str(&client.say_text(&connect(&before.to_string())).await);
        }
        assert_eq!(seen.matches("kept").count(), 1, "{seen}");
    }
}
