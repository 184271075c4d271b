//! HTTP/2: many sessions on one connection, each with an end of its own.

use std::net::Shutdown;
use std::time::Duration;

use bytesize::ByteSize;
use futures::future::join_all;
use halley::app::App;
use halley::config::{Config, Span};
use halley::origin::Origin;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::it::{HELD, Line, PATIENCE, broker, connect, handshake, publish, request, send, wait_for};

const A_MOMENT: Duration = Duration::from_millis(300);

/// Where sessions are known by their clientIds.
async fn trusting(adjust: impl FnOnce(&mut Config)) -> App {
    broker(|config| {
        config.session.trust_client_session = true;
        adjust(config);
    })
    .await
}

fn data(replies: &Value) -> Vec<Value> {
    let replies = replies.as_array().expect("an array");
    replies.iter().map(|reply| reply["data"].clone()).collect()
}

/// A line, and what breaks it: nobody on this side says goodbye, or takes anything more.
async fn breakable(app: &App) -> (Line, impl FnOnce()) {
    let stream = TcpStream::connect(app.public_addr()).await.expect("a connection");
    let stream = stream.into_std().expect("a socket");
    let same = stream.try_clone().expect("a second handle");
    let line = Line::over(TcpStream::from_std(stream).expect("a socket")).await;
    (line, move || same.shutdown(Shutdown::Both).expect("a connection"))
}

#[tokio::test]
async fn many_sessions_are_held_on_one_connection_and_each_gets_its_own() {
    let app = trusting(|_| {}).await;
    let line = Line::open(&app).await;
    let ids = join_all((0..50).map(|number| {
        let line = line.clone();
        async move { line.join(&format!("/a/{number}")).await }
    }))
    .await;
    let held: Vec<_> = ids
        .iter()
        .map(|id| tokio::spawn(line.post(&[], &json!([connect(id)]))))
        .collect();
    wait_for(&app, HELD, 50).await;
    publish(&app, "/a/7", json!("seven")).await;
    wait_for(&app, HELD, 49).await;
    tokio::time::sleep(A_MOMENT).await;
    for (number, held) in held.into_iter().enumerate() {
        if number == 7 {
            let replies = held.await.expect("no panic").json();
            assert_eq!(data(&replies), [json!("seven"), Value::Null]);
        } else {
            assert!(!held.is_finished(), "{number} was woken");
        }
    }
}

#[tokio::test]
async fn a_held_connect_that_is_taken_back_is_noticed_at_once() {
    let app = trusting(|_| {}).await;
    let line = Line::open(&app).await;
    let (one, other) = (line.join("/a").await, line.join("/a").await);
    let taken_back = tokio::spawn(line.post(&[], &json!([connect(&one)])));
    let kept = tokio::spawn(line.post(&[], &json!([connect(&other)])));
    wait_for(&app, HELD, 2).await;
    taken_back.abort();
    wait_for(&app, HELD, 1).await;
    publish(&app, "/a", json!(1)).await;
    let replies = kept.await.expect("no panic").json();
    assert_eq!(data(&replies), [json!(1), Value::Null]);
    // Nothing was swallowed by the one that was given up.
    let replies = line.say(json!([connect(&one)])).await;
    assert_eq!(data(&replies), [json!(1), Value::Null]);
}

#[tokio::test]
async fn a_session_whose_connect_was_taken_back_leaves_memory_while_the_connection_stays() {
    let app = trusting(|config| config.session.max_interval = Span(Duration::from_millis(200))).await;
    let line = Line::open(&app).await;
    let (one, other) = (line.join("/a").await, line.join("/a").await);
    let taken_back = tokio::spawn(line.post(&[], &json!([connect(&one)])));
    let _kept = tokio::spawn(line.post(&[], &json!([connect(&other)])));
    wait_for(&app, HELD, 2).await;
    wait_for(&app, "halley_sessions", 2).await;
    taken_back.abort();
    wait_for(&app, "halley_sessions", 1).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_to_every_session_whose_reply_may_be_lost() {
    let app = trusting(|_| {}).await;
    let (line, break_off) = breakable(&app).await;
    let ids = [
        line.join("/a").await,
        line.join("/a").await,
        line.join("/b").await,
    ];
    for id in &ids {
        tokio::spawn(line.post(&[], &json!([connect(id)])));
    }
    wait_for(&app, HELD, 3).await;
    publish(&app, "/a", json!(1)).await;
    wait_for(&app, HELD, 1).await;
    line.say(handshake()).await;
    break_off();
    wait_for(&app, HELD, 0).await;
    let line = Line::open(&app).await;
    for id in &ids[..2] {
        let replies = line.say(json!([connect(id)])).await;
        assert_eq!(data(&replies), [json!(1), Value::Null]);
    }
}

#[tokio::test]
async fn a_session_that_has_moved_on_is_not_disturbed_by_the_end_of_its_old_connection() {
    let app = trusting(|_| {}).await;
    let (old, break_off) = breakable(&app).await;
    let id = old.join("/a").await;
    publish(&app, "/a", json!(1)).await;
    let replies = old.say(json!([connect(&id)])).await;
    assert_eq!(data(&replies), [json!(1), Value::Null]);
    let new = Line::open(&app).await;
    let held = tokio::spawn(new.post(&[], &json!([connect(&id)])));
    wait_for(&app, HELD, 1).await;
    break_off();
    tokio::time::sleep(A_MOMENT).await;
    publish(&app, "/a", json!(2)).await;
    let replies = held.await.expect("no panic").json();
    assert_eq!(data(&replies), [json!(2), Value::Null], "not 1 again");
}

#[tokio::test]
async fn the_next_connect_on_the_same_connection_proves_the_reply_before_it() {
    let app = trusting(|_| {}).await;
    let line = Line::open(&app).await;
    let id = line.join("/a").await;
    for number in 1..=3 {
        publish(&app, "/a", json!(number)).await;
        let replies = line.say(json!([connect(&id)])).await;
        assert_eq!(data(&replies), [json!(number), Value::Null]);
    }
}

#[tokio::test]
async fn pages_and_cookies_are_the_same_as_over_http1() {
    let app = broker(|config| {
        config.cors.allowed_origins = vec![Origin::parse("https://app.example").expect("an origin")];
    })
    .await;
    let line = Line::open(&app).await;
    for (origin, status) in [
        ("https://halley.example", 200),
        ("https://app.example", 200),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let answer = line.post(&[("origin", origin)], &handshake()).await;
        assert_eq!(answer.status(), status, "{origin}");
    }
    let answer = line.post(&[], &handshake()).await;
    let (cookie, _) = answer.header("set-cookie").split_once(';').expect("a cookie");
    let id = answer.json()[0]["clientId"]
        .as_str()
        .expect("a clientId")
        .to_owned();
    // Each cookie may come in a header of its own (RFC 9113, 8.2.3).
    let headers = [("cookie", "a=b"), ("cookie", cookie)];
    let replies = line.post(&headers, &json!([connect(&id)])).await.json();
    assert_eq!(replies[0]["successful"], true, "{replies}");
    let replies = line.post(&[], &json!([connect(&id)])).await.json();
    assert_eq!(replies[0]["error"], "402::session_unknown");
}

#[tokio::test]
async fn bodies_that_are_refused_unread_leave_room_for_others() {
    let app = trusting(|config| config.limits.request_body = ByteSize::kib(1)).await;
    let line = Line::open(&app).await;
    let large = "x".repeat(40_000);
    // More than the window of the connection.
    for _ in 0..20 {
        let answer = timeout(PATIENCE, line.send(request("POST", &[], &large)))
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 413);
    }
    assert_eq!(line.say(handshake()).await[0]["successful"], true);
}

#[tokio::test]
async fn too_many_or_too_long_headers_are_answered_431() {
    let app = trusting(|_| {}).await;
    let line = Line::open(&app).await;
    let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    for (headers, status) in [(&many[..99], 200), (&many[..], 431)] {
        let answer = line.post(headers, &handshake()).await;
        assert_eq!(answer.status(), status, "{}", headers.len());
    }
    let long = "x".repeat(17 << 10);
    let answer = line.post(&[("x-long", &long)], &handshake()).await;
    assert_eq!(answer.status(), 431);
    assert_eq!(line.say(handshake()).await[0]["successful"], true);
}

#[tokio::test]
async fn held_connects_are_answered_before_the_broker_ends() {
    let app = trusting(|_| {}).await;
    let line = Line::open(&app).await;
    let ids = [line.join("/a").await, line.join("/b").await];
    let held: Vec<_> = ids
        .iter()
        .map(|id| tokio::spawn(line.post(&[], &json!([connect(id)]))))
        .collect();
    wait_for(&app, HELD, 2).await;
    timeout(Duration::from_secs(2), app.shut_down())
        .await
        .expect("nothing is left to wait for");
    for held in held {
        let replies = held.await.expect("no panic").json();
        assert_eq!(replies[0]["successful"], true, "{replies}");
    }
}

#[tokio::test]
async fn http2_can_be_turned_off() {
    let app = trusting(|config| config.http2.enabled = false).await;
    let stream = TcpStream::connect(app.public_addr()).await.expect("a connection");
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, http_body_util::Full<bytes::Bytes>>(executor, io)
            .await
            .expect("the preface is written");
    tokio::spawn(connection);
    assert!(sender.send_request(request("POST", &[], "[]")).await.is_err());
    assert_eq!(send(&app, request("POST", &[], "[]")).await.status(), 400);
}
