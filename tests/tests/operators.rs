//! What operators see of sessions, and what clients hear when operators end them.

#[expect(
    dead_code,
    reason = "shared with the tests of bad input, which need more of it"
)]
#[path = "bad_input/it.rs"]
mod it;

use std::collections::BTreeSet;
use std::time::Duration;

use halley::config::{Activity, Span, User};
use serde_json::{Value, json};

use it::{Answer, Client, It, TRANSPORTS, Transport, USERS, exchange, request};

const CONNECT: &str = r#"{"channel":"/meta/connect","clientId":"$id","id":"9"}"#;

impl It {
    async fn operate(&self, method: &str, path: &str) -> Answer {
        exchange(self.internal, &request(method, path, &[], b"")).await
    }

    async fn list(&self, query: &str) -> Value {
        let answer = self.operate("GET", &format!("/api/v1/sessions{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    async fn end_all_of(&self, user: &str) -> Value {
        let answer = self
            .operate("DELETE", &format!("/api/v1/users/{user}/sessions"))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

/// What follows a connect: the messages of one response, or of as many frames as it takes to the connect's reply.
async fn connect(client: &mut Client) -> Vec<Value> {
    let mut heard = client.say(CONNECT).await;
    while heard.last().expect("something")["channel"] != "/meta/connect" {
        heard.extend(serde_json::from_str::<Vec<Value>>(&client.events().await).expect("JSON"));
    }
    heard
}

fn goodbye() -> [Value; 2] {
    let advice = json!({"reconnect": "none"});
    [
        json!({"channel": "/meta/disconnect", "successful": true}),
        json!({"channel": "/meta/connect", "id": "9", "advice": advice, "successful": true}),
    ]
}

async fn expect_unknown(client: &mut Client) {
    let replies = client.say(CONNECT).await;
    assert_eq!(replies[0]["error"], "402::session_unknown", "{replies:?}");
    assert_eq!(replies[0]["advice"]["reconnect"], "handshake");
}

#[tokio::test]
async fn a_session_that_is_ended_hears_of_it_with_its_held_connect_and_is_unknown_afterwards() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        let mut client = Client::open(&it, transport, Some(USERS[0])).await;
        let id = it.list("").await["sessions"][0]["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let (heard, ()) = tokio::join!(connect(&mut client), async {
            while it.list("").await["sessions"][0]["attended"] != true {
                tokio::task::yield_now().await;
            }
            let ended = it.operate("DELETE", &format!("/api/v1/sessions/{id}")).await;
            assert_eq!(ended.json(), json!({"disconnected": 1, "forgotten": 0}));
        });
        assert_eq!(heard, goodbye(), "{transport:?}");
        expect_unknown(&mut client).await;
        assert_eq!(it.metric("halley_sessions").await, 0.0);
    }
}

#[tokio::test]
async fn what_was_answered_201_before_a_session_is_ended_is_delivered_first() {
    let it = It::new().await;
    for transport in TRANSPORTS {
        for _ in 0..20 {
            let mut client = Client::open(&it, transport, Some(USERS[0])).await;
            client.subscribe(json!("/v2/me/calls")).await;
            it.publish_to(Some(USERS[0]), "/v2/me/calls", "1").await;
            let ended = it.end_all_of(USERS[0]).await;
            assert_eq!(ended, json!({"disconnected": 1, "forgotten": 0}));
            it.publish_to(Some(USERS[0]), "/v2/me/calls", "2").await;
            let heard = connect(&mut client).await;
            assert_eq!(heard[0], json!({"channel": "/v2/me/calls", "data": 1}));
            assert_eq!(heard[1..], goodbye(), "{transport:?}");
        }
    }
}

#[tokio::test]
async fn a_users_sessions_are_ended_all_of_them_and_nobody_elses() {
    let it = It::new().await;
    let mut mine = Vec::new();
    for transport in TRANSPORTS {
        mine.push(Client::open(&it, transport, Some(USERS[0])).await);
    }
    let mut others = Client::open(&it, Transport::LongPolling, Some(USERS[1])).await;
    let ended = it.end_all_of(USERS[0]).await;
    assert_eq!(ended, json!({"disconnected": 2, "forgotten": 0}));
    for client in &mut mine {
        assert_eq!(client.say(CONNECT).await[0], goodbye()[0]);
    }
    let now = CONNECT.replace("}", r#","advice":{"timeout":0}}"#);
    assert_eq!(others.say(&now).await[0]["successful"], true);
}

#[tokio::test]
async fn dormant_sessions_are_forgotten_by_user_and_by_name() {
    for by_user in [true, false] {
        let it = It::with(|config| config.session.max_interval = Span(Duration::from_millis(200))).await;
        let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
        let id = it.list("").await["sessions"][0]["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        it.wait_for("halley_sessions", 0.0).await;
        it.wait_for("halley_session_records", 1.0).await;
        let path = match by_user {
            true => format!("/api/v1/users/{}/sessions", USERS[0]),
            false => format!("/api/v1/sessions/{id}"),
        };
        let ended = it.operate("DELETE", &path).await;
        assert_eq!(ended.json(), json!({"disconnected": 0, "forgotten": 1}));
        expect_unknown(&mut client).await;
        assert_eq!(it.metric("halley_session_records").await, 0.0);
    }
}

#[tokio::test]
async fn a_session_that_was_ended_does_not_come_back_with_the_broker() {
    let mut it = It::durable().await;
    let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    client.subscribe(json!("/a")).await;
    assert_eq!(it.end_all_of(USERS[0]).await["disconnected"], 1);
    it.restart().await;
    client.moved_to(&it);
    expect_unknown(&mut client).await;
}

#[tokio::test]
async fn a_session_that_was_ended_and_is_silent_leaves_nothing() {
    let it = It::with(|config| config.session.max_interval = Span(Duration::from_millis(200))).await;
    Client::open(&it, Transport::LongPolling, Some(USERS[0])).await;
    it.end_all_of(USERS[0]).await;
    it.wait_for("halley_sessions", 0.0).await;
    assert_eq!(it.metric("halley_session_records").await, 0.0);
}

#[tokio::test]
async fn a_client_that_only_connects_is_disconnected_as_idle_if_the_configuration_says_so() {
    let it = It::with(|config| {
        config.session.activity = Activity::ClientServer;
        config.session.max_inactivity = Span(Duration::from_millis(300));
    })
    .await;
    for transport in TRANSPORTS {
        let mut client = Client::open(&it, transport, Some(USERS[0])).await;
        // Until then it is not idle.
        let now = CONNECT.replace("\"9\"", "\"9\",\"advice\":{\"timeout\":0}");
        assert_eq!(client.say(&now).await[0]["advice"]["reconnect"], "retry");
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(connect(&mut client).await, goodbye(), "{transport:?}");
        expect_unknown(&mut client).await;
    }
}

#[tokio::test]
async fn sessions_are_listed_in_pages_without_their_client_ids() {
    let it = It::new().await;
    let mut clients = Vec::new();
    for number in 0..5 {
        let mut client = Client::open(&it, Transport::LongPolling, Some(USERS[number % 2])).await;
        client.subscribe(json!(["/a", "/b"])).await;
        clients.push(client);
    }
    let (mut seen, mut query) = (BTreeSet::new(), "?limit=2".to_owned());
    for size in [2, 2, 1] {
        let page = it.list(&query).await;
        let sessions = page["sessions"].as_array().expect("a list");
        assert_eq!(sessions.len(), size, "{page}");
        for session in sessions {
            assert_eq!(
                (&session["subscriptions"], &session["attended"]),
                (&json!(2), &json!(false))
            );
            seen.insert(session["id"].as_str().expect("an id").to_owned());
        }
        assert_eq!(page.get("next").is_some(), size == 2, "{page}");
        query = format!("?limit=2&after={}", page["next"].as_str().unwrap_or_default());
        let text = page.to_string();
        assert!(clients.iter().all(|client| !text.contains(&client.id)), "{text}");
    }
    assert_eq!(seen.len(), 5);

    let page = it.list(&format!("?user={}", USERS[1])).await;
    let users: Vec<_> = page["sessions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["user"])
        .collect();
    assert_eq!(users, [USERS[1], USERS[1]]);
}

#[tokio::test]
async fn a_user_is_named_percent_encoded() {
    let it = It::with(|config| {
        config.auth.users = vec![User {
            user: "a/b c+ü".to_owned(),
            token: "secret-odd".to_owned(),
            roles: Vec::new(),
        }];
    })
    .await;
    Client::open(&it, Transport::LongPolling, Some("odd")).await;
    let page = it.list("?user=a%2Fb%20c+%C3%BC").await;
    assert_eq!(page["sessions"][0]["user"], "a/b c+ü");
    assert_eq!(it.end_all_of("a%2Fb%20c+%C3%BC").await["disconnected"], 1);
}

#[tokio::test]
async fn a_request_without_meaning_is_a_problem_that_says_why() {
    let it = It::new().await;
    let long = "x".repeat(200);
    for (method, path, status, word) in [
        ("GET", "/api/v1/sessions?limit=0", 400, "limit"),
        ("GET", "/api/v1/sessions?limit=1001", 400, "from 1 to 1000"),
        (
            "GET",
            "/api/v1/sessions?page=2",
            400,
            "user, tenant, after, limit",
        ),
        ("GET", "/api/v1/sessions?after=xyz", 400, "16 hexadecimal digits"),
        ("GET", "/api/v1/sessions?user=%ff", 400, "UTF-8"),
        ("GET", "/api/v1/sessions?user=", 400, "1 to 128 bytes"),
        (
            "DELETE",
            "/api/v1/sessions/+23456789abcdef0",
            400,
            "16 hexadecimal digits",
        ),
        (
            "DELETE",
            "/api/v1/sessions/0123456789abcdef",
            404,
            "0123456789abcdef",
        ),
        (
            "DELETE",
            &format!("/api/v1/users/{long}/sessions"),
            400,
            "128 bytes",
        ),
        ("DELETE", "/api/v1/sessions", 405, "GET"),
        ("GET", "/api/v1/sessions/0123456789abcdef", 405, "DELETE"),
        ("POST", "/api/v1/users/15000/sessions", 405, "DELETE"),
        ("DELETE", "/api/v1/users/15000", 405, "GET"),
        ("POST", "/api/v1/nodes", 405, "GET"),
        ("GET", "/api/v1/users/15000/calls", 404, "/api/v1/users"),
    ] {
        let answer = it.operate(method, path).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let problem = answer.json();
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(word), "{method} {path}: {detail}");
        assert_eq!(answer.header("allow").is_some(), status == 405);
    }
}
