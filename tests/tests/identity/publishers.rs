//! Who may publish, look after sessions and revoke: keys and tokens of the internal listener.

use bayeux::ChannelPattern;
use halley::config::{ApiKey, Config};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::events::{data, expect_silence, next, socket};
use crate::it::{Answer, It, exchange, request};
use crate::tokens::{issuer, now, sign, take_tokens, token};

const CHANNEL: &str = "/v2/me/calls";

fn key(name: &str, actions: &[&str]) -> ApiKey {
    let digest = Sha256::digest(format!("key-of-{name}"));
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("name = {name:?}\nhash = {hash:?}\nactions = {actions:?}");
    toml::from_str(&text).expect("a key")
}

fn guarded(config: &mut Config) {
    take_tokens(config);
    let mut narrow = key("narrow", &["publish"]);
    narrow.channels = vec![ChannelPattern::parse("/v2/me/**").expect("a pattern")];
    narrow.users = vec!["15000".to_owned()];
    config.internal.keys = vec![
        key("voice", &["publish"]),
        key("voice-of-before", &["publish"]),
        narrow,
        key("operator", &["sessions", "revoke"]),
    ];
    config.internal.issuers = vec![issuer("halley-api")];
}

async fn it() -> It {
    It::with(guarded).await
}

impl It {
    async fn internally(&self, method: &str, path: &str, headers: &[&str], body: &Value) -> Answer {
        let body = body.to_string();
        exchange(self.internal, &request(method, path, headers, body.as_bytes())).await
    }

    async fn publish_as(&self, header: &str, event: &Value) -> Answer {
        self.internally("POST", "/api/v1/events", &[header], event).await
    }
}

fn event(user: Option<&str>, channel: &str) -> Value {
    let mut event = json!({ "channel": channel, "data": 1 });
    if let Some(user) = user {
        event["user"] = user.into();
    }
    event
}

fn api_token(scope: &Value) -> String {
    let all = json!({ "iss": "us", "aud": "halley-api", "sub": "voice", "exp": now() + 300, "scope": scope });
    format!("Authorization: Bearer {}", sign(&all))
}

#[tokio::test]
async fn t18_without_a_key_or_with_another_nothing_is_published() {
    let it = it().await;
    let (mut subscriber, _) = socket(&it, &token("15000", 300), CHANNEL).await;
    let users = format!("Authorization: Bearer {}", token("15000", 300));
    for header in [
        "X-None: 1",
        "X-API-Key: ",
        "X-API-Key: key-of-nobody",
        "X-API-Key: key-of-voic",
        "X-API-Key: KEY-OF-VOICE",
        "Authorization: Basic a2V5LW9mLXZvaWNl",
        "Authorization: Bearer nonsense",
        // A token that is good for clients.
        &users,
    ] {
        let answer = it.publish_as(header, &event(Some("15000"), CHANNEL)).await;
        assert_eq!(answer.status, 401, "{header}: {}", answer.text());
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(answer.json()["type"], "urn:halley:problem:credentials");
    }
    expect_silence(&mut subscriber).await;
    // The control, in both places, and while one key takes over from another.
    for header in [
        "X-API-Key: key-of-voice",
        "Authorization: Bearer key-of-voice",
        "X-API-Key: key-of-voice-of-before",
    ] {
        assert_eq!(
            it.publish_as(header, &event(Some("15000"), CHANNEL)).await.status,
            201,
            "{header}"
        );
        assert_eq!(data(&next(&mut subscriber).await), [json!(1)]);
    }
}

#[tokio::test]
async fn t18_a_key_publishes_to_its_channels_and_users_only() {
    let it = it().await;
    let (mut mine, _) = socket(&it, &token("15000", 300), "/v2/**").await;
    let (mut others, _) = socket(&it, &token("15001", 300), "/v2/**").await;
    for (event, pointer) in [
        (event(Some("15001"), CHANNEL), "/user"),
        (event(None, CHANNEL), "/user"),
        (event(Some("15000"), "/v2/users"), "/channel"),
        (event(Some("15000"), "/v2/mee/calls"), "/channel"),
        (
            json!([event(Some("15000"), CHANNEL), event(Some("15001"), CHANNEL)]),
            "/1/user",
        ),
    ] {
        let answer = it.publish_as("X-API-Key: key-of-narrow", &event).await;
        assert_eq!(answer.status, 403, "{event}: {}", answer.text());
        assert_eq!(answer.json()["pointer"], pointer, "{event}");
    }
    let allowed = it
        .publish_as("X-API-Key: key-of-narrow", &event(Some("15000"), CHANNEL))
        .await;
    assert_eq!(allowed.status, 201);
    // Nothing of what was refused was stored, and nothing went to anybody else.
    assert_eq!(data(&next(&mut mine).await), [json!(1)]);
    expect_silence(&mut mine).await;
    expect_silence(&mut others).await;
}

#[tokio::test]
async fn a_key_does_what_it_is_for_and_nothing_else() {
    let it = it().await;
    for (key, publish, sessions, revoke) in [
        ("key-of-voice", 201, 403, 403),
        ("key-of-operator", 403, 200, 201),
        ("key-of-nobody", 401, 401, 401),
    ] {
        let header = format!("X-API-Key: {key}");
        let headers = [header.as_str()];
        assert_eq!(
            it.publish_as(&header, &event(Some("1"), CHANNEL)).await.status,
            publish,
            "{key}"
        );
        for (method, path, expected) in [
            ("GET", "/api/v1/sessions", sessions),
            ("DELETE", "/api/v1/users/15000/sessions", sessions),
        ] {
            let answer = it.internally(method, path, &headers, &json!(null)).await;
            assert_eq!(answer.status, expected, "{key} {method} {path}");
        }
        let what = json!({ "token": "t1" });
        let answer = it
            .internally("POST", "/api/v1/revocations", &headers, &what)
            .await;
        assert_eq!(answer.status, revoke, "{key}");
    }
}

#[tokio::test]
async fn a_token_does_what_its_scope_says() {
    let it = it().await;
    for (scope, everywhere, narrow) in [
        (json!("halley:publish"), 201, 201),
        (json!(["openid", "halley:publish"]), 201, 201),
        (json!("halley:publish:/v2/me/**"), 403, 201),
        (json!("halley:sessions"), 403, 403),
        (json!("halley:publishing publish"), 403, 403),
        (json!(null), 403, 403),
    ] {
        let header = api_token(&scope);
        let other = it.publish_as(&header, &event(Some("1"), "/v2/users")).await;
        assert_eq!(other.status, everywhere, "{scope}");
        let own = it.publish_as(&header, &event(Some("1"), CHANNEL)).await;
        assert_eq!(own.status, narrow, "{scope}");
    }
    let listing = api_token(&json!("halley:sessions"));
    let answer = it
        .internally("GET", "/api/v1/sessions", &[&listing], &json!(null))
        .await;
    assert_eq!(answer.status, 200);
    let ended = json!({ "iss": "us", "aud": "halley-api", "sub": "voice", "exp": now() - 1, "scope": "halley:publish" });
    let header = format!("Authorization: Bearer {}", sign(&ended));
    let answer = it.publish_as(&header, &event(Some("1"), CHANNEL)).await;
    assert_eq!((answer.status, answer.text().contains("ended")), (401, true));
}

#[tokio::test]
async fn t38_health_and_metrics_are_on_the_internal_listener_only_and_need_no_key() {
    let it = it().await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let inside = exchange(it.internal, &request("GET", path, &[], b"")).await;
        assert_eq!(inside.status, 200, "{path}");
        let outside = exchange(it.public, &request("GET", path, &[], b"")).await;
        assert_eq!(outside.status, 404, "{path}");
    }
    for path in ["/api/v1/events", "/api/v1/sessions", "/api/v1/revocations"] {
        let outside = it.post(path, &["X-API-Key: key-of-voice"], "{}").await;
        assert_eq!(outside.status, 404, "{path}");
    }
}

#[tokio::test]
async fn t37_keys_and_tokens_are_known_by_their_digests() {
    // A configuration that is stolen, or printed, has no key in it.
    let config = {
        let mut config = Config::default();
        guarded(&mut config);
        config
    };
    let printed = format!("{config:?} {}", toml::to_string(&config).expect("TOML"));
    assert!(printed.contains("narrow") && !printed.contains("key-of-"));
    // The digest is no key.
    let it = it().await;
    for key in &config.internal.keys {
        let header = format!("X-API-Key: {}", key.hash);
        let answer = it.publish_as(&header, &event(Some("15000"), CHANNEL)).await;
        assert_eq!(answer.status, 401);
    }
}

#[tokio::test]
async fn keys_that_cannot_be_are_refused_at_the_start() {
    for (change, words) in [
        (
            (|key| key.hash = "key-of-voice".to_owned()) as fn(&mut ApiKey),
            "hash",
        ),
        (|key| key.actions = vec!["publishing".to_owned()], "actions"),
    ] {
        let mut config = Config::default();
        config.log.url = "memory:".to_owned();
        let mut key = key("voice", &["publish"]);
        change(&mut key);
        config.internal.keys = vec![key];
        let Err(error) = halley::app::App::start(config).await else {
            panic!("it starts")
        };
        let error = error.to_string();
        assert!(error.contains("voice") && error.contains(words), "{error}");
        assert!(!error.contains("key-of-voice"), "{error}");
    }
}

#[tokio::test]
async fn a_key_has_its_channels_and_users_for_cloudevents_too() {
    let it = it().await;
    let header = "X-API-Key: key-of-narrow";
    let structured = "Content-Type: application/cloudevents+json";
    for (user, channel, status, pointer) in [
        ("15000", CHANNEL, 201, None),
        ("15001", CHANNEL, 403, Some("/user")),
        ("15000", "/v2/users", 403, Some("/channel")),
    ] {
        let event = json!({
            "specversion": "1.0", "id": channel, "source": user, "type": "x",
            "user": user, "channel": channel, "data": 1,
        });
        let answer = it
            .internally("POST", "/api/v1/events", &[header, structured], &event)
            .await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json().get("pointer").and_then(Value::as_str), pointer);
    }
    let event = json!({ "specversion": "1.0", "id": "1", "source": "x", "type": "x", "user": "15000" });
    let answer = it
        .internally("POST", "/api/v1/events", &[structured], &event)
        .await;
    assert_eq!(answer.status, 401);
}
