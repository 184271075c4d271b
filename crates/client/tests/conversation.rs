//! What a client says to a server, and what it makes of the answers, over both transports.

mod server;

use client::{CloseReason, Error, Event, Transport};
use serde_json::{Value, json};
use server::{BOTH, Note, Server, next, soon};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn a_handshake_names_the_version_and_the_transport() {
    for (transport, name) in [
        (Transport::WebSocket, "websocket"),
        (Transport::LongPolling, "long-polling"),
    ] {
        let mut server = Server::start(transport).await;
        tokio::spawn(server.builder().connect());
        let handshake = server.next().await.message().clone();
        let expected = json!({
            "id": "1", "channel": "/meta/handshake", "version": "1.0", "minimumVersion": "1.0",
            "supportedConnectionTypes": [name],
        });
        assert_eq!(handshake, expected);
    }
}

#[tokio::test]
async fn the_first_connect_asks_for_an_answer_at_once() {
    for (transport, name) in [
        (Transport::WebSocket, "websocket"),
        (Transport::LongPolling, "long-polling"),
    ] {
        let mut server = Server::start(transport).await;
        tokio::spawn(server.builder().connect());
        server
            .expect("/meta/handshake")
            .await
            .succeed(json!({"clientId": "a"}));
        let connect = server.next().await.message().clone();
        let expected = json!({
            "id": "2", "channel": "/meta/connect", "clientId": "a", "connectionType": name,
            "advice": {"timeout": 0},
        });
        assert_eq!(connect, expected);
    }
}

#[tokio::test]
async fn the_second_connect_may_be_held() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (_client, _events, held) = server.connected(server.builder()).await;
        assert_eq!(held.message()["advice"], Value::Null);
    }
}

#[tokio::test]
async fn the_client_id_is_the_servers() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, _events, _held) = server.connected(server.builder()).await;
        assert_eq!(client.client_id(), "a");
    }
}

#[tokio::test]
async fn a_subscription_is_granted_while_a_connect_is_held() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, _events, _held) = server.connected(server.builder()).await;
        let (subscribed, ()) = tokio::join!(client.subscribe("/v2/me/calls"), async {
            server
                .expect("/meta/subscribe")
                .await
                .succeed(json!({"subscription": "/v2/me/calls"}));
        });
        assert!(subscribed.is_ok());
    }
}

#[tokio::test]
async fn several_channels_are_subscribed_with_one_array() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, _events, _held) = server.connected(server.builder()).await;
        let (_, subscribe) = tokio::join!(client.subscribe_all(&["/a", "/b"]), async {
            let subscribe = server.expect("/meta/subscribe").await;
            let message = subscribe.message().clone();
            subscribe.succeed(json!({}));
            message
        });
        assert_eq!(subscribe["subscription"], json!(["/a", "/b"]));
    }
}

#[tokio::test]
async fn messages_arrive_in_order_with_the_bytes_of_their_data() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (_client, mut events, held) = server.connected(server.builder()).await;
        let messages = [1, 2, 3].map(|number| json!({"channel": "/a", "data": {"number": number}}));
        held.succeed_after(&messages, json!({}));
        for number in 1..=3 {
            let Event::Message { data, .. } = next(&mut events).await else {
                panic!("no message")
            };
            assert_eq!(data.get(), format!(r#"{{"number":{number}}}"#));
        }
    }
}

#[tokio::test]
async fn a_pushed_message_arrives_while_the_connect_is_held() {
    let mut server = Server::start(Transport::WebSocket).await;
    let (_client, mut events, held) = server.connected(server.builder()).await;
    held.push(Message::text(r#"[{"channel":"/a","data":"pushed"}]"#));
    let Event::Message { data, .. } = next(&mut events).await else {
        panic!("no message")
    };
    assert_eq!(data.get(), r#""pushed""#);
}

#[tokio::test]
async fn a_ping_is_answered() {
    let mut server = Server::start(Transport::WebSocket).await;
    let (_client, _events, held) = server.connected(server.builder()).await;
    held.push(Message::Ping("7".into()));
    assert_eq!(server.note().await, Note::Pong("7".into()));
}

#[tokio::test]
async fn each_connect_acknowledges_the_last_number_received() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let _connecting = tokio::spawn(server.builder().acknowledge(true).connect());
        let handshake = server.expect("/meta/handshake").await;
        let mut acks = vec![handshake.message()["ext"]["ack"].clone()];
        handshake.succeed(json!({"clientId": "a", "ext": {"ack": {"enabled": true}}}));
        for number in [5, 9] {
            let connect = server.expect("/meta/connect").await;
            acks.push(connect.message()["ext"]["ack"].clone());
            connect.succeed(json!({"ext": {"ack": number}}));
        }
        acks.push(server.next().await.message()["ext"]["ack"].clone());
        assert_eq!(Value::from(acks), json!([true, 0, 5, 9]));
    }
}

#[tokio::test]
async fn data_is_published_as_json() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, _events, _held) = server.connected(server.builder()).await;
        let (_, data) = tokio::join!(client.publish("/a", &("text", 1)), async {
            let publish = server.expect("/a").await;
            let data = publish.message()["data"].clone();
            publish.succeed(json!({}));
            data
        });
        assert_eq!(data, json!(["text", 1]));
    }
}

#[tokio::test]
async fn a_refused_publish_says_what_was_refused_and_why() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, _events, _held) = server.connected(server.builder()).await;
        let (published, ()) = tokio::join!(client.publish("/a", &1), async {
            server
                .expect("/a")
                .await
                .refuse(json!({"error": "403::publish_denied"}));
        });
        assert_eq!(
            published.unwrap_err().to_string(),
            "/a refused: 403::publish_denied"
        );
    }
}

#[tokio::test]
async fn a_refused_handshake_is_the_error_of_connect() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (connected, ()) = tokio::join!(server.builder().connect(), async {
            let fields = json!({"error": "403::handshake_denied", "advice": {"reconnect": "none"}});
            server.expect("/meta/handshake").await.refuse(fields);
        });
        assert_eq!(
            connected.unwrap_err().to_string(),
            "/meta/handshake refused: 403::handshake_denied"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_the_error_of_connect() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("a bound port"));
    drop(listener);
    for transport in BOTH {
        let connected = soon(client::Client::builder(&url).transport(transport).connect()).await;
        assert!(matches!(connected.unwrap_err(), Error::Connection { .. }));
    }
}

#[tokio::test]
async fn a_bearer_token_goes_with_every_request() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (_client, _events, held) = server.connected(server.builder().bearer("token")).await;
        assert_eq!(held.header("authorization"), Some("Bearer token"));
    }
}

#[tokio::test]
async fn basic_credentials_are_encoded() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (_client, _events, held) = server.connected(server.builder().basic("user", "secret")).await;
        assert_eq!(held.header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
    }
}

#[tokio::test]
async fn an_ext_token_goes_with_handshake_and_connect() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        tokio::spawn(server.builder().ext_token("token").connect());
        let handshake = server.expect("/meta/handshake").await;
        let first = handshake.message()["ext"].clone();
        handshake.succeed(json!({"clientId": "a"}));
        let second = server.expect("/meta/connect").await.message()["ext"].clone();
        assert_eq!(
            [first, second],
            [json!({"token": "token"}), json!({"token": "token"})]
        );
    }
}

#[tokio::test]
async fn long_polling_uses_two_connections() {
    let mut server = Server::start(Transport::LongPolling).await;
    let (client, _events, held) = server.connected(server.builder()).await;
    held.succeed(json!({}));
    let held = server.expect("/meta/connect").await;
    let (_, other) = tokio::join!(client.publish("/a", &1), async {
        let publish = server.expect("/a").await;
        let connection = publish.connection;
        publish.succeed(json!({}));
        connection
    });
    assert_eq!((other, held.connection), (0, 1));
}

#[tokio::test]
async fn a_disconnect_is_said_to_the_server_and_told_to_the_consumer() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, mut events, _held) = server.connected(server.builder()).await;
        let (disconnected, ()) = tokio::join!(client.disconnect(), async {
            server.expect("/meta/disconnect").await.succeed(json!({}));
        });
        assert!(disconnected.is_ok());
        let closed = next(&mut events).await;
        assert!(matches!(
            closed,
            Event::Closed {
                reason: CloseReason::ByClient
            }
        ));
    }
}

#[tokio::test]
async fn a_call_after_the_end_says_closed() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, _events, held) = server.connected(server.builder()).await;
        held.succeed(json!({"advice": {"reconnect": "none"}}));
        soon(async { while !matches!(client.publish("/a", &1).await, Err(Error::Closed)) {} }).await;
    }
}

#[tokio::test]
async fn dropping_handle_and_events_ends_the_connection() {
    let mut server = Server::start(Transport::WebSocket).await;
    let (client, events, _held) = server.connected(server.builder()).await;
    drop((client, events));
    assert_eq!(server.note().await, Note::Ended(0));
}

#[tokio::test]
async fn a_handle_without_events_goes_on() {
    for transport in BOTH {
        let mut server = Server::start(transport).await;
        let (client, events, held) = server.connected(server.builder()).await;
        drop(events);
        held.succeed_after(&[json!({"channel": "/a", "data": 1})], json!({}));
        assert_eq!(
            server.expect("/meta/connect").await.message()["clientId"],
            client.client_id()
        );
    }
}
