//! Bodies and messages that are not what they should be.

use bytesize::ByteSize;
use serde_json::json;

use crate::it::{Client, It, Socket, TRANSPORTS, Transport, USERS, authorization};

/// Bodies that are refused as a whole, and what the refusal says.
const BROKEN: &[(&str, &str)] = &[
    (r#"[{"channel":"/a" "id":1}]"#, "line 1 column 18"),
    ("[{\n\"channel\":\n}]", "line 3 column 1"),
    (r#"[{"channel":"/a"}"#, "EOF"),
    (r#"[{"channel":"/a"}] x"#, "trailing characters"),
    ("\u{feff}[]", "line 1 column 1"),
    ("[]", "without messages"),
    ("7", "neither a message nor an array"),
    ("\"/meta/handshake\"", "neither a message nor an array"),
];

#[tokio::test]
async fn malformed_json_is_answered_400_with_a_reason_that_says_where() {
    let it = It::new().await;
    for (body, reason) in BROKEN.iter().chain([&("", "EOF")]) {
        let answer = it.post("/cometd", &[], body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{body}");
        let error = answer.json()[0]["error"].to_string();
        assert!(
            error.contains("400::") && error.contains(reason),
            "{body}: {error}"
        );
        assert_eq!(answer.json()[0]["successful"], false, "{body}");
    }
}

#[tokio::test]
async fn malformed_json_closes_a_websocket_with_a_reason_that_says_where() {
    let it = It::new().await;
    for (body, reason) in BROKEN {
        let mut socket = Socket::open(it.public, "/cometd", &[]).await;
        socket.send(body).await;
        let end = socket.closed().await;
        assert!(end.starts_with("1007 ") && end.contains(reason), "{body}: {end}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_utf8_are_refused_wherever_they_stand() {
    let it = It::new().await;
    for place in [
        &b"[{\"channel\":\"/chat/x\",\"data\":\"\xff\"}]"[..],
        b"[{\"channel\":\"/chat/x\",\"x\":\"\xff\"}]",
        b"[\xff]",
    ] {
        assert_eq!(it.post("/cometd", &[], place).await.status, 400);
    }
    let answer = it.publish(b"{\"channel\":\"/chat/x\",\"data\":\"\xff\"}").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn a_wrong_field_fails_its_message_and_not_the_batch() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        let mut client = Client::open(&it, transport, Some(USERS[0])).await;
        let replies = client
            .say(
                r#"[{"channel":"/meta/subscribe","clientId":12,"id":"a"},
                    {"channel":7,"id":1},
                    {"id":"b"},
                    {"channel":"/chat/x","clientId":"$id","id":{}},
                    {"channel":"/meta/subscribe","clientId":"$id","subscription":7},
                    {"channel":"/meta/subscribe","clientId":"$id","subscription":["/chat/a",7]},
                    {"channel":"/meta/subscribe","clientId":"$id","ext":"x"},
                    {"channel":["/meta/handshake"]},
                    [[1]],
                    {"channel":"/chat/x","channel":"/chat/y"},
                    {"channel":"/meta/subscribe","clientId":"$id","subscription":"/chat/x","id":"last"}]"#,
            )
            .await;
        let errors: Vec<&str> = replies
            .iter()
            .map(|reply| reply["error"].as_str().unwrap_or("ok"))
            .collect();
        assert_eq!(
            errors,
            [
                "400:clientId:field_invalid",
                "405::channel_invalid",
                "400::channel_missing",
                "405::message_id_invalid",
                "403::subscription_invalid",
                "403::subscription_invalid",
                "400:ext:field_invalid",
                "405::channel_invalid",
                "400::message_invalid",
                "400::message_invalid",
                "ok"
            ],
            "{transport:?}"
        );
        assert_eq!(
            (&replies[0]["id"], &replies[10]["id"]),
            (&json!("a"), &json!("last"))
        );
    }
}

#[tokio::test]
async fn what_is_outside_the_channel_grammar_is_refused() {
    let it = It::new().await;
    let long = format!("/{}", "a".repeat(256));
    let many = "/a".repeat(17);
    let wrong = [
        "",
        "/",
        "//",
        "chat/x",
        "/chat//x",
        "/*/x",
        "/**/x",
        "/chat/*/x",
        "/chat/%2f",
        "/chat/\\u0000",
        "/chat/\\u200b",
        "/chat/ä",
        "/chat/x?y",
        "/chat/x\\ny",
        "/chat//",
        &long,
        &many,
    ];
    for transport in TRANSPORTS {
        let mut client = Client::open(&it, transport, Some(USERS[0])).await;
        for channel in wrong {
            let publish = client
                .say(&format!(r#"{{"channel":"{channel}","clientId":"$id","data":1}}"#))
                .await;
            assert_eq!(publish[0]["error"], "405::channel_invalid", "publish {channel:?}");
            let subscribe = client
                .say(&format!(
                    r#"{{"channel":"/meta/subscribe","clientId":"$id","subscription":["/chat/x","{channel}"]}}"#
                ))
                .await;
            assert_eq!(
                subscribe[0]["error"], "405::channel_invalid",
                "subscribe {channel:?}"
            );
        }
    }
}

#[tokio::test]
async fn look_alikes_of_meta_channels_are_nobodys() {
    let it = It::new().await;
    let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    for channel in ["/meta/subscribe/x", "/meta/x", "/meta/handshake/", "/meta/*"] {
        let replies = client
            .say(&format!(
                r#"{{"channel":"{channel}","clientId":"$id","subscription":"/**"}}"#
            ))
            .await;
        let error = replies[0]["error"].as_str().expect("refused");
        assert!(
            error.starts_with("403:denied_by_security_policy:"),
            "{channel}: {error}"
        );
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_413() {
    let it = It::new().await;
    let handshake = r#"[{"channel":"/meta/handshake","x":"PAD"}]"#;
    let padded = |size: usize| handshake.replace("PAD", &"x".repeat(size - handshake.len() + 3));
    let authorization = authorization(USERS[0]);
    let at_limit = it.post("/cometd", &[&authorization], padded(64 << 10)).await;
    assert_eq!(at_limit.status, 200, "{}", at_limit.text());

    for size in [(64 << 10) + 1, 8 << 20] {
        let above = it.post("/cometd", &[&authorization], padded(size)).await;
        assert_eq!(above.status, 413, "{size} bytes");
        assert!(above.json()[0]["error"].to_string().contains("413::"));
    }

    let chunked = format!("10001\r\n{}\r\n0\r\n\r\n", padded((64 << 10) + 1));
    let chunked = it.post("/cometd", &["Transfer-Encoding: chunked"], chunked).await;
    assert_eq!(chunked.status, 413);
}

#[tokio::test]
async fn a_body_is_refused_by_what_its_length_says_before_it_is_sent() {
    let it = It::new().await;
    let answer = it.post("/cometd", &["Content-Length: 1000000000"], "").await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn a_websocket_message_over_the_limit_closes_with_1009() {
    let it = It::new().await;
    let headers = authorization(USERS[0]);
    let handshake = |size: usize| {
        let text = r#"[{"channel":"/meta/handshake","x":"PAD"}]"#;
        text.replace("PAD", &"x".repeat(size - text.len() + 3))
    };
    let mut socket = Socket::open(it.public, "/cometd", &[&headers]).await;
    socket.send(&handshake(64 << 10)).await;
    assert!(socket.next().await.contains(r#""successful":true"#));
    socket.send(&handshake((64 << 10) + 1)).await;
    assert_eq!(socket.closed().await, "1009 message too large");
    let mut socket = Socket::open(it.public, "/cometd", &[&headers]).await;
    socket.send(&handshake(8 << 20)).await;
    assert_eq!(socket.closed().await, "1009 message too large");
}

#[tokio::test]
async fn too_many_messages_in_one_body_are_refused_together() {
    let it = It::new().await;
    let body = format!("[{}]", vec![r#"{"channel":"/meta/handshake"}"#; 65].join(","));
    let answer = it.post("/cometd", &[&authorization(USERS[0])], body).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("65 messages, more than the 64 allowed"),
        "{}",
        answer.text()
    );
    assert_eq!(it.metric("halley_sessions").await, 0.0);
}

#[tokio::test]
async fn only_one_handshake_of_a_body_makes_a_session() {
    let it = It::new().await;
    let body = format!("[{}]", vec![r#"{"channel":"/meta/handshake"}"#; 64].join(","));
    let answer = it.post("/cometd", &[&authorization(USERS[0])], body).await;
    let replies = answer.json();
    assert_eq!(replies[0]["successful"], true);
    assert_eq!(replies[63]["error"], "400::handshake_not_first");
    assert_eq!(it.metric("halley_sessions").await, 1.0);
}

#[tokio::test]
async fn what_is_nested_too_deep_is_refused() {
    let it = It::new().await;
    for levels in [33, 30_000] {
        let data = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let body = format!(r#"[{{"channel":"/chat/x","data":{data}}}]"#);
        let answer = it.post("/cometd", &[], &body).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains("deeper than the 32 levels"),
            "{}",
            answer.text()
        );
        let mut socket = Socket::open(it.public, "/cometd", &[]).await;
        socket.send(&body).await;
        assert!(
            socket
                .closed()
                .await
                .starts_with("1007 the body is nested deeper"),
            "{levels}"
        );
    }
}

/// Comparing each with each would take longer than any answer may.
#[tokio::test]
async fn a_list_of_fifty_thousand_subscriptions_is_refused_in_time() {
    let it = It::with(|config| config.limits.request_body = ByteSize::mib(1)).await;
    let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    let channels: Vec<String> = (0..50_000).map(|number| format!("/chat/{number}")).collect();
    let subscribe = json!({"channel": "/meta/subscribe", "clientId": "$id", "subscription": channels});
    let replies = client.say(&subscribe.to_string()).await;
    assert_eq!(
        replies[0]["error"],
        "403:subscriptions_per_session:subscribe_denied"
    );
}

#[tokio::test]
async fn of_several_connects_in_one_body_the_last_is_answered() {
    let it = It::new().await;
    let connects: Vec<String> = (0..64)
        .map(|id| format!(r#"{{"channel":"/meta/connect","clientId":"$id","id":{id}}}"#))
        .collect();
    let body = format!("[{}]", connects.join(","));
    let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    let replies = client.say(&body).await;
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(
        (&replies[0]["id"], &replies[0]["successful"]),
        (&json!(63), &json!(true))
    );
}
