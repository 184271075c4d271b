//! What a client does when the network or the server fails it.

mod server;

use std::time::Duration;

use client::{CloseReason, Error, Event, Transport};
use hyper::StatusCode;
use serde_json::json;
use server::{BOTH, COOKIE, Note, Server, next, soon};
use tokio_tungstenite::tungstenite::Message;

const UNKNOWN: &str = "402::session_unknown";

#[tokio::test]
async fn after_a_cut_the_same_session_connects_with_timeout_0() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (_client, _events, held) = server.connected(server.builder()).await;
        held.cut();
        let connect = server.expect("/meta/connect").await;
        let message = connect.message();
        assert_eq!(
            (&message["clientId"], &message["advice"]),
            (&json!("a"), &json!({"timeout": 0}))
        );
    }
}

#[tokio::test]
async fn a_cut_is_told_and_its_end_too() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (_client, mut events, held) = server.connected(server.builder()).await;
        held.cut();
        assert!(matches!(next(&mut events).await, Event::Interrupted { .. }));
        server.expect("/meta/connect").await.succeed(json!({}));
        assert!(matches!(
            next(&mut events).await,
            Event::Connected { resumed: true, .. }
        ));
    }
}

#[tokio::test]
async fn an_http_error_is_a_failure_and_not_the_end_of_the_session() {
    let mut server = Server::start(Transport::LongPolling).await;
    let (_client, mut events, held) = server.connected(server.builder()).await;
    held.fail(StatusCode::SERVICE_UNAVAILABLE);
    let Event::Interrupted { reason } = next(&mut events).await else {
        panic!("not interrupted")
    };
    assert!(reason.contains("503"));
    assert_eq!(server.expect("/meta/connect").await.message()["clientId"], "a");
}

#[tokio::test]
async fn an_empty_response_is_a_failure() {
    let mut server = Server::start(Transport::LongPolling).await;
    let (_client, mut events, held) = server.connected(server.builder()).await;
    held.send(vec![]);
    assert!(matches!(next(&mut events).await, Event::Interrupted { .. }));
}

#[tokio::test]
async fn a_frame_that_is_not_bayeux_is_a_failure() {
    let mut server = Server::start(Transport::WebSocket).await;
    let (_client, mut events, held) = server.connected(server.builder()).await;
    held.push(Message::text("nonsense"));
    assert!(matches!(next(&mut events).await, Event::Interrupted { .. }));
}

#[tokio::test]
async fn a_message_above_the_limit_is_a_failure() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (_client, mut events, held) = server.connected(server.builder().max_message_size(1000)).await;
        held.succeed_after(&[json!({"channel": "/a", "data": "x".repeat(1000)})], json!({}));
        assert!(matches!(next(&mut events).await, Event::Interrupted { .. }));
    }
}

#[tokio::test]
async fn a_call_that_the_cut_took_with_it_fails() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, _events, _held) = server.connected(server.builder()).await;
        let (published, ()) = tokio::join!(client.publish("/a", &1), async {
            server.expect("/a").await.cut();
        });
        assert!(matches!(published.unwrap_err(), Error::Connection { .. }));
    }
}

#[tokio::test]
async fn an_unknown_session_is_replaced_and_subscribes_again() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, _events, held) = server.connected(server.builder()).await;
        let (subscribed, ()) = tokio::join!(client.subscribe_all(&["/one", "/two"]), async {
            server.expect("/meta/subscribe").await.succeed(json!({}));
        });
        subscribed.expect("the server granted it");
        held.refuse(json!({"error": UNKNOWN, "advice": {"reconnect": "handshake"}}));
        server
            .expect("/meta/handshake")
            .await
            .succeed(json!({"clientId": "b"}));
        let again = server.expect("/meta/subscribe").await;
        let asked = again
            .messages
            .iter()
            .map(|it| (&it["clientId"], &it["subscription"]));
        let expected = [(&json!("b"), &json!("/one")), (&json!("b"), &json!("/two"))];
        assert_eq!(asked.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_replaced_session_is_announced_as_a_new_one() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, mut events, held) = server.connected(server.builder()).await;
        held.refuse(json!({"error": UNKNOWN}));
        server.accept("b").await;
        assert!(matches!(next(&mut events).await, Event::Interrupted { reason } if reason == UNKNOWN));
        assert!(matches!(
            next(&mut events).await,
            Event::Connected { resumed: false, .. }
        ));
        assert_eq!(client.client_id(), "b");
    }
}

#[tokio::test]
async fn reconnect_none_closes_the_client() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (_client, mut events, held) = server.connected(server.builder()).await;
        held.refuse(json!({"error": "403::expelled", "advice": {"reconnect": "none"}}));
        let Event::Closed { reason } = next(&mut events).await else {
            panic!("not closed")
        };
        assert_eq!(
            reason,
            CloseReason::ByServer {
                error: Some("403::expelled".to_owned())
            }
        );
        assert!(soon(events.next()).await.is_none());
    }
}

#[tokio::test]
async fn a_gap_is_told_with_the_first_offset_that_is_left() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (_client, mut events, held) = server.connected(server.builder()).await;
        held.succeed(json!({"ext": {"recovered": false, "first": 42}}));
        assert!(matches!(next(&mut events).await, Event::Gap { first: Some(42) }));
    }
}

#[tokio::test]
async fn a_cookie_is_sent_back_with_the_next_request() {
    let mut server = Server::start(Transport::LongPolling).await;
    let (_client, _events, held) = server.connected(server.builder()).await;
    assert_eq!(held.header("cookie"), Some(COOKIE));
}

#[tokio::test]
async fn a_cookie_is_sent_back_with_the_next_upgrade() {
    let mut server = Server::start(Transport::WebSocket).await;
    let (_client, _events, held) = server.connected(server.builder()).await;
    held.cut();
    assert_eq!(
        server.expect("/meta/connect").await.header("cookie"),
        Some(COOKIE)
    );
}

#[tokio::test]
async fn an_unanswered_connect_is_given_up_on_a_new_connection() {
    for (transport, connections) in [(Transport::WebSocket, (0, 1)), (Transport::LongPolling, (1, 2))] {
        let mut server = Server::start(transport).await;
        let (_client, _events, held) = server
            .connected(server.builder().network_delay(Duration::from_millis(100)))
            .await;
        let first = held.connection;
        held.succeed(json!({"advice": {"timeout": 50}}));
        let _unanswered = server.expect("/meta/connect").await;
        let again = server.expect("/meta/connect").await;
        assert_eq!((first, again.connection), connections);
    }
}

#[tokio::test]
async fn a_disconnect_while_interrupted_is_no_error() {
    let mut server = Server::start(Transport::WebSocket).await;
    let slow = Duration::from_secs(1000);
    let (client, mut events, held) = server.connected(server.builder().backoff(slow, slow)).await;
    held.cut();
    assert!(matches!(next(&mut events).await, Event::Interrupted { .. }));
    assert!(soon(client.disconnect()).await.is_ok());
}

#[tokio::test]
async fn an_idle_connection_that_the_server_closed_is_replaced() {
    let mut server = Server::start(Transport::LongPolling).await;
    let (client, _events, _held) = server.connected(server.builder()).await;
    let (_, ()) = tokio::join!(client.publish("/a", &1), async {
        server.expect("/a").await.succeed(json!({}));
    });
    server.hang_up(0);
    assert_eq!(server.note().await, Note::Ended(0));
    let (published, ()) = tokio::join!(client.publish("/a", &2), async {
        server.expect("/a").await.succeed(json!({}));
    });
    assert!(published.is_ok());
}

#[tokio::test]
async fn a_request_that_was_given_up_before_it_was_sent_is_never_sent() {
    let mut server = Server::start(Transport::LongPolling).await;
    let builder = server.builder().network_delay(Duration::from_millis(100));
    let (client, _events, _held) = server.connected(builder).await;
    let (first, second, _unanswered) = tokio::join!(
        client.publish("/first", &1),
        client.publish("/second", &1),
        server.next()
    );
    assert!(first.is_err() && second.is_err());
    let (_, exchange) = tokio::join!(client.publish("/third", &1), server.next());
    assert_eq!(exchange.message()["channel"], "/third");
}
