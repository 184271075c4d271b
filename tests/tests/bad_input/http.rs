//! HTTP as it should not be spoken.

use std::time::Duration;

use halley::config::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::it::{It, USERS, authorization, exchange, read_answer, request};

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_answered_408() {
    let it = It::with(|config| config.limits.body_timeout = Span(Duration::from_millis(200))).await;
    for (address, path) in [(it.public, "/cometd"), (it.internal, "/api/v1/events")] {
        for length in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
            let answer = exchange(address, &request("POST", path, &[length], b"")).await;
            assert_eq!(answer.status, 408, "{path} {length}");
        }
    }
}

#[tokio::test]
async fn headers_that_come_too_slowly_end_the_connection() {
    let it = It::with(|config| config.limits.header_timeout = Span(Duration::from_millis(200))).await;
    let mut stream = TcpStream::connect(it.public).await.expect("the broker listens");
    stream
        .write_all(b"POST /cometd HTTP/1.1\r\nHost: halley\r\n")
        .await
        .expect("written");
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    end.expect("the broker closes").expect("in order");
}

#[tokio::test]
async fn too_many_headers_are_answered_431() {
    let it = It::new().await;
    for (address, path) in [(it.public, "/cometd"), (it.internal, "/api/v1/events")] {
        let lines: Vec<String> = (0..100).map(|number| format!("X-{number}: x")).collect();
        let headers: Vec<&str> = lines.iter().map(String::as_str).collect();
        // `Host` and `Content-Length` are two of the hundred.
        let at_limit = exchange(address, &request("POST", path, &headers[..98], b"x")).await;
        assert_eq!(at_limit.status, 400, "read, and found to be no JSON");
        let above = exchange(address, &request("POST", path, &headers[..99], b"x")).await;
        assert_eq!(above.status, 431);
    }
}

#[tokio::test]
async fn headers_that_are_too_long_are_answered_431() {
    let it = It::new().await;
    let long = format!("X-Long: {}", "x".repeat(20 << 10));
    for (address, path) in [(it.public, "/cometd"), (it.internal, "/api/v1/events")] {
        let answer = exchange(address, &request("POST", path, &[&long], b"x")).await;
        assert_eq!(answer.status, 431, "{path}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_answered_405_with_the_right_one() {
    let it = It::new().await;
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let public = exchange(it.public, &request(method, "/cometd", &[], b"")).await;
        assert_eq!(
            (public.status, public.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
        let publish = exchange(it.internal, &request(method, "/api/v1/events", &[], b"")).await;
        assert_eq!(
            (publish.status, publish.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
    }
    for path in ["/metrics", "/livez", "/readyz"] {
        let answer = exchange(it.internal, &request("POST", path, &[], b"")).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET, HEAD")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_unknown_path_is_answered_404_and_says_where_to_go() {
    let it = It::new().await;
    for path in [
        "/",
        "/cometdx",
        "/comet",
        "/api/v2",
        "/api/v1/events",
        "/metrics",
        "/../cometd",
    ] {
        let answer = it.post(path, &[], "[]").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(
            answer.text().contains("/cometd") && answer.text().contains("/api/v2/notifications"),
            "{path}: {}",
            answer.text()
        );
    }
    let answer = exchange(it.internal, &request("POST", "/cometd", &[], b"")).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("/api/v1/events"), "{}", answer.text());
}

#[tokio::test]
async fn an_upgrade_that_is_no_websocket_is_told_what_is_missing() {
    let it = It::new().await;
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket"];
    let no_version = exchange(it.public, &request("GET", "/cometd", &upgrade, b"")).await;
    assert_eq!(
        (no_version.status, no_version.header("sec-websocket-version")),
        (426, Some("13"))
    );
    let headers = [upgrade[0], upgrade[1], "Sec-WebSocket-Version: 13"];
    let no_key = exchange(it.public, &request("GET", "/cometd", &headers, b"")).await;
    assert_eq!(no_key.status, 400);
}

#[tokio::test]
async fn a_connection_serves_on_after_a_refusal() {
    let it = It::new().await;
    let mut stream = TcpStream::connect(it.public).await.expect("the broker listens");
    let authorization = authorization(USERS[0]);
    for (body, status) in [
        (&b"[{"[..], 400),
        (b"[]", 400),
        (br#"[{"channel":"/meta/handshake"}]"#, 200),
    ] {
        stream
            .write_all(&request("POST", "/cometd", &[&authorization], body))
            .await
            .expect("the connection is open");
        assert_eq!(read_answer(&mut stream).await.status, status);
    }
}
