//! What clients in the field do that looks wrong and must work (the numbers are those of the field notes on clients).

use serde_json::Value;

use crate::it::{It, Socket, USERS, authorization};

const HANDSHAKE: &str = r#"[{"channel":"/meta/handshake","version":"1.0"}]"#;

/// 3
const PATHS: &[&str] = &[
    "/cometd",
    "/cometd/",
    "/cometd/handshake",
    "/cometd/handshake/",
    "/cometd/connect",
    "/cometd/disconnect",
    "/cometd/45.0",
    "/cometd/60.0/",
    "/cometd?x=1",
    "/cometd/?x=1&y=/",
    "/cometd/handshake?message=x",
    "/api/v2/notifications",
    "/api/v2/notifications/",
    "/api/v2/notifications/handshake",
    "/api/v2/notifications?x=1",
];

#[tokio::test]
async fn every_sub_path_with_or_without_a_slash_or_query_serves_http() {
    let it = It::new().await;
    for path in PATHS {
        let answer = it.post(path, &[&authorization(USERS[0])], HANDSHAKE).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.json()[0]["successful"], true, "{path}");
    }
}

#[tokio::test]
async fn every_sub_path_with_or_without_a_slash_or_query_serves_websockets() {
    let it = It::new().await;
    for path in PATHS {
        let mut socket = Socket::open(it.public, path, &[&authorization(USERS[0])]).await;
        socket.send(HANDSHAKE).await;
        assert!(socket.next().await.contains(r#""successful":true"#), "{path}");
    }
    assert!(Socket::try_open(it.public, "/elsewhere", &[]).await.is_err());
}

/// 16
#[tokio::test]
async fn any_content_type_is_read_and_json_is_always_answered() {
    let it = It::new().await;
    for content_type in [
        "Content-Type: application/json",
        "Content-Type: application/json;charset=UTF-8",
        "Content-Type: application/json; charset=utf-8",
        "Content-Type: text/plain",
        "X-No-Content-Type: at all",
    ] {
        for (body, status) in [(HANDSHAKE, 200), ("[{", 400)] {
            let answer = it
                .post("/cometd", &[&authorization(USERS[0]), content_type], body)
                .await;
            assert_eq!(answer.status, status, "{content_type}");
            assert_eq!(
                answer.header("content-type"),
                Some("application/json"),
                "{content_type}"
            );
        }
    }
}

/// 17
#[tokio::test]
async fn a_chunked_body_is_read_like_any_other() {
    let it = It::new().await;
    let (first, second) = HANDSHAKE.split_at(10);
    let body = format!(
        "{:x};extension=1\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\nTrailer: x\r\n\r\n",
        first.len(),
        second.len()
    );
    let headers = [authorization(USERS[0]), "Transfer-Encoding: chunked".to_owned()];
    let answer = it.post("/cometd", &[&headers[0], &headers[1]], body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()[0]["successful"], true);
    let published = r#"{"channel":"/chat/x","data":1}"#;
    let body = format!("{:x}\r\n{published}\r\n0\r\n\r\n", published.len());
    let request = crate::it::request("POST", "/api/v1/events", &[&headers[1]], body.as_bytes());
    assert_eq!(crate::it::exchange(it.internal, &request).await.status, 201);
}

/// Shakes hands anonymously; returns the clientId and the cookie.
async fn anonymous(it: &It, headers: &[&str]) -> (String, Option<String>) {
    let answer = it.post("/cometd", headers, HANDSHAKE).await;
    let id = answer.json()[0]["clientId"]
        .as_str()
        .expect("a clientId")
        .to_owned();
    (id, answer.browser().map(ToOwned::to_owned))
}

async fn connect(it: &It, id: &str, headers: &[&str]) -> Value {
    let body = format!(r#"[{{"channel":"/meta/connect","clientId":"{id}","advice":{{"timeout":0}}}}]"#);
    it.post("/cometd", headers, body).await.json()[0].clone()
}

/// 17
#[tokio::test]
async fn cookies_are_read_with_and_without_a_space_between_them() {
    let it = It::anonymous().await;
    let (id, cookie) = anonymous(&it, &[]).await;
    let cookie = cookie.expect("a first handshake is given a cookie");
    for header in [
        format!("Cookie: BAYEUX_BROWSER={cookie}"),
        format!("Cookie: a=b;BAYEUX_BROWSER={cookie};c=d"),
        format!("Cookie: a=b; BAYEUX_BROWSER={cookie}; c=d"),
        format!("Cookie: a=b; BAYEUX_BROWSER=\"{cookie}\""),
        format!("cookie: a\r\nCookie: BAYEUX_BROWSER={cookie}"),
    ] {
        assert_eq!(
            connect(&it, &id, &[&header]).await["successful"],
            true,
            "{header}"
        );
    }
    let stray = format!("Set-Cookie: BAYEUX_BROWSER={cookie}");
    let without = connect(&it, &id, &[&stray]).await;
    assert_eq!(without["error"], "402::session_unknown", "{stray}");
}

#[tokio::test]
async fn a_planted_cookie_is_replaced_and_opens_nothing() {
    let it = It::anonymous().await;
    let (_, issued) = anonymous(&it, &[]).await;
    let issued = issued.expect("a cookie");
    let (random, signature) = issued.split_once('.').expect("signed");
    for planted in [
        "abc".to_owned(),
        String::new(),
        random.to_owned(),
        format!("{random}."),
        format!(".{signature}"),
        format!("x{random}.{signature}"),
        format!("{random}.{}", signature.to_uppercase()),
    ] {
        let header = format!("Cookie: BAYEUX_BROWSER={planted}");
        let (id, replaced) = anonymous(&it, &[&header]).await;
        let replaced = replaced.unwrap_or_else(|| panic!("{planted:?} was taken"));
        assert_ne!(replaced, planted);
        assert_eq!(
            connect(&it, &id, &[&header]).await["error"],
            "402::session_unknown",
            "{planted:?}"
        );
        let header = format!("Cookie: BAYEUX_BROWSER={planted}; BAYEUX_BROWSER={replaced}");
        assert_eq!(connect(&it, &id, &[&header]).await["successful"], true);
    }
    let (_, again) = anonymous(&it, &[&format!("Cookie: BAYEUX_BROWSER={issued}")]).await;
    assert_eq!(again, None, "what this server issued is kept");
}

#[tokio::test]
async fn a_session_of_one_browser_is_unknown_to_another() {
    let it = It::anonymous().await;
    let (id, cookie) = anonymous(&it, &[]).await;
    let (_, other) = anonymous(&it, &[]).await;
    let header = |cookie: Option<String>| format!("Cookie: BAYEUX_BROWSER={}", cookie.expect("a cookie"));
    let foreign = connect(&it, &id, &[&header(other)]).await;
    assert_eq!(foreign["error"], "402::session_unknown");
    assert_eq!(connect(&it, &id, &[&header(cookie)]).await["successful"], true);
}

/// 2
#[tokio::test]
async fn the_session_of_a_user_needs_no_cookie() {
    let it = It::new().await;
    let headers = authorization(USERS[0]);
    let (id, cookie) = anonymous(&it, &[&headers]).await;
    assert!(cookie.is_some());
    assert_eq!(connect(&it, &id, &[&headers]).await["successful"], true);
}

#[tokio::test]
async fn where_clients_are_trusted_the_client_id_alone_opens_a_session() {
    let it = It::with(|config| config.session.trust_client_session = true).await;
    let (id, _) = anonymous(&it, &[&authorization(USERS[0])]).await;
    assert_eq!(connect(&it, &id, &[]).await["successful"], true);
    let other = connect(&it, &id, &[&authorization(USERS[1])]).await;
    assert_eq!(
        other["error"], "402::session_unknown",
        "credentials of another user still count"
    );
}
