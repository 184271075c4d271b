//! `data` is carried as the bytes that came in.

use serde_json::json;

use crate::it::{Client, It, TRANSPORTS, Transport, USERS};

/// What other servers have decoded and encoded again into something else.
const DATA: &[&str] = &[
    r#"{"calls":[[1,[2,[]]],[],[[[{}]]]]}"#,
    r#"{"n":1e400,"m":-1E-400,"zero":-0.0,"one":1.10}"#,
    r#"1234567890123456789012345678901234567890"#,
    r#"{"class":"java.lang.Runtime","@class":[[1],[2]]}"#,
    r#""\ud800 alone, \udc00\ud800 the wrong way round, \ud83d\ude00 a pair""#,
    r#"{"a" :  1 , "b":[ 1,2 ] }"#,
    r#"{"b":1,"a":2,"":3}"#,
    r#""\u0041\/\u0000\u2028""#,
    "\"\u{2028}ä😀\"",
    r#""""#,
    "null",
    "false",
    "[]",
];

/// Events carry nothing else: see `forgery.rs`.
fn event(data: &str) -> String {
    format!(r#"{{"channel":"/chat/x","data":{data}}}"#)
}

async fn subscriber(it: &It, transport: Transport) -> Client {
    let mut client = Client::open(it, transport, Some(USERS[1])).await;
    client.subscribe(json!("/chat/x")).await;
    client
}

/// Reads as many events as there are in [`DATA`], and compares their bytes.
async fn expect_unchanged(client: &mut Client, transport: Transport) {
    let mut came = String::new();
    let mut rest = DATA;
    while let Some((data, others)) = rest.split_first() {
        if came.is_empty() {
            came = client.events().await;
        }
        let after = came
            .get(1..)
            .and_then(|came| came.strip_prefix(event(data).as_str()));
        let after = after.unwrap_or_else(|| panic!("{transport:?}: not {data} next, but {came}"));
        came = match after {
            "]" => String::new(),
            more if more.starts_with(",{\"channel\":\"/chat/x\"") => more.to_owned(),
            // Over long-polling the connect reply is last.
            _ => String::new(),
        };
        rest = others;
    }
}

#[tokio::test]
async fn data_from_the_backend_arrives_byte_for_byte() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        let mut client = subscriber(&it, transport).await;
        for data in DATA {
            it.publish_to(None, "/chat/x", data).await;
        }
        expect_unchanged(&mut client, transport).await;
    }
}

#[tokio::test]
async fn data_from_a_client_arrives_byte_for_byte() {
    let it = It::new().await;
    for from in TRANSPORTS {
        for to in TRANSPORTS {
            let mut publisher = Client::open(&it, from, Some(USERS[0])).await;
            let mut client = subscriber(&it, to).await;
            for data in DATA {
                let body = format!(r#"[{{"clientId":"$id","data":{data},"channel":"/chat/x"}}]"#);
                let replies = publisher.say(&body).await;
                assert_eq!(replies[0]["successful"], true, "{replies:?}");
            }
            expect_unchanged(&mut client, to).await;
        }
    }
}

#[tokio::test]
async fn data_that_was_written_to_disk_arrives_byte_for_byte() {
    let mut it = It::durable().await;
    let mut client = subscriber(&it, Transport::LongPolling).await;
    for data in DATA {
        it.publish_to(None, "/chat/x", data).await;
    }
    it.restart().await;
    client.moved_to(&it);
    expect_unchanged(&mut client, Transport::LongPolling).await;
}
