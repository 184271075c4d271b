//! What a service is asked.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::backend::Backend;
use crate::it::{Client, It, TRANSPORTS, Transport, USERS};

fn call(channel: &str) -> String {
    format!(r#"{{"channel":"{channel}","clientId":"$id","id":"7","data":1}}"#)
}

#[tokio::test]
async fn a_question_has_the_channel_the_id_the_very_bytes_of_the_data_and_who_asks() {
    let mut backend = Backend::start().await;
    let it = It::with(|config| config.services = vec![backend.answers("/service/**")]).await;
    for transport in TRANSPORTS {
        let mut client = Client::open(&it, transport, Some(USERS[0])).await;
        client
            .say(r#"{"channel":"/service/echo/","clientId":"$id","id":7,"data":{"n": 1e400,"s":"\ud83d"}}"#)
            .await;
        let question = backend.question().await;
        let body = String::from_utf8(question.body.to_vec()).expect("a text");
        let session = body.split(r#""session":""#).nth(1).expect("a session")[..16].to_owned();
        assert_eq!(
            body,
            format!(
                r#"{{"channel":"/service/echo","id":7,"data":{{"n": 1e400,"s":"\ud83d"}},"user":"15000","session":"{session}"}}"#
            )
        );
        assert!(session.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!client.id.contains(&session), "it is not the clientId");
        assert_eq!(question.header("content-type"), "application/json");
        assert_eq!(question.header("x-halley-request-id").len(), 26);
    }
}

#[tokio::test]
async fn a_session_without_a_user_and_a_message_without_data_and_id_leave_them_out() {
    let mut backend = Backend::start().await;
    let it = It::with(|config| {
        config.auth.kind = "anonymous".to_owned();
        config.services = vec![backend.answers("/service/echo")];
    })
    .await;
    let mut client = Client::open(&it, Transport::WebSocket, None).await;
    client
        .say(r#"{"channel":"/service/echo","clientId":"$id"}"#)
        .await;
    let question = backend.question().await.json();
    let names: Vec<_> = question.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["channel", "session"]);
}

#[tokio::test]
async fn two_calls_of_a_session_name_the_same_session_and_those_of_another_one_another() {
    let mut backend = Backend::start().await;
    let it = It::with(|config| config.services = vec![backend.answers("/service/**")]).await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
        for _ in 0..2 {
            client.say(&call("/service/echo")).await;
            names.push(backend.question().await.json()["session"].clone());
        }
    }
    assert_eq!(names[0], names[1]);
    assert_eq!(names[2], names[3]);
    assert_ne!(names[0], names[2]);
}

#[tokio::test]
async fn a_question_is_signed_with_the_secret_of_its_service() {
    let mut backend = Backend::start().await;
    let mut service = backend.answers("/service/**");
    service.secret = "hush".to_owned();
    let it = It::with(|config| config.services = vec![service, backend.answers("/service/plain")]).await;
    let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    client.say(&call("/service/echo")).await;
    let question = backend.question().await;
    let mut mac = Hmac::<Sha256>::new_from_slice(b"hush").expect("a key");
    mac.update(question.header("x-halley-timestamp").as_bytes());
    mac.update(b".");
    mac.update(&question.body);
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(question.header("x-halley-signature"), format!("v1={hex}"));
    let sent: u64 = question.header("x-halley-timestamp").parse().expect("seconds");
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    assert!(now.abs_diff(sent) < 60, "{sent}");

    client.say(&call("/service/plain")).await;
    let unsigned = backend.question().await;
    assert!(unsigned.headers.get("x-halley-signature").is_none());
}

#[tokio::test]
async fn the_most_specific_service_is_asked_and_a_channel_of_none_is_not() {
    let patterns = [
        "/service/**",
        "/service/a/**",
        "/service/a/*",
        "/service/a/b",
        "/service/z/b",
    ];
    let mut backends = Vec::new();
    for _ in patterns {
        backends.push(Backend::start().await);
    }
    let it = It::with(|config| {
        // The widest one is left out: a channel may be nobody's.
        let services = patterns.iter().zip(&backends).skip(1);
        config.services = services
            .map(|(pattern, backend)| backend.answers(pattern))
            .collect();
    })
    .await;
    let mut client = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
    for (channel, place) in [
        ("/service/a/b", 3),
        ("/service/a/c", 2),
        ("/service/a/c/d", 1),
        ("/service/z/b", 4),
    ] {
        client.say(&call(channel)).await;
        let question = backends[place].question().await;
        assert_eq!(question.json()["channel"], channel);
    }
    for channel in ["/service/a", "/service/b", "/service/z/c"] {
        let replies = client.say(&call(channel)).await;
        assert_eq!(
            replies,
            [json!({"channel": channel, "id": "7", "successful": true})]
        );
    }
    assert!(backends.iter().all(Backend::is_idle));
}

#[tokio::test]
async fn questions_one_after_the_other_share_connections() {
    let mut backend = Backend::start().await;
    let it = It::with(|config| config.services = vec![backend.answers("/service/**")]).await;
    let mut client = Client::open(&it, Transport::WebSocket, Some(USERS[0])).await;
    for _ in 0..5 {
        client.say(&call("/service/echo")).await;
        backend.question().await.answer("1");
        client.events().await;
    }
    // One that is on its way back to the pool is not there yet.
    assert!(backend.connections() < 5, "{}", backend.connections());
}

#[tokio::test]
async fn a_session_that_is_not_the_askers_asks_nothing() {
    let backend = Backend::start().await;
    let it = It::with(|config| config.services = vec![backend.answers("/service/**")]).await;
    let owner = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    let mut other = Client::open(&it, Transport::LongPolling, Some(USERS[1])).await;
    let stolen = call("/service/echo").replace("$id", &owner.id);
    let replies = other.say(&stolen).await;
    assert_eq!(replies[0]["error"], "402::session_unknown");
    assert!(backend.is_idle());
}
