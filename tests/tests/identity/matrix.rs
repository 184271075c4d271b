//! Users A and B: every way to show who one is, every form of a channel, every way to use somebody else's session. B never gets
//! what is A's, and each refusal stands beside the same thing done by who may.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::events::{
    ask, client_id, connect, data, expect_error, expect_success, handshake_with, next, post, subscribe, wait,
};
use crate::it::{It, Socket};
use crate::tokens::{bearer, now, take_tokens, token, token_with};

const A: &str = "15000";
const B: &str = "15001";
const CHANNEL: &str = "/v2/me/calls";
const UNKNOWN: &str = "402::session_unknown";

/// How a client shows its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Header,
    Cookie,
    Ext,
    Authentication,
    Query,
}

const WAYS: [Way; 5] = [
    Way::Header,
    Way::Cookie,
    Way::Ext,
    Way::Authentication,
    Way::Query,
];

impl Way {
    fn headers(self, token: &str) -> Vec<String> {
        match self {
            Self::Header => vec![bearer(token)],
            Self::Cookie => vec![format!("Cookie: session={token}")],
            Self::Ext | Self::Authentication | Self::Query => Vec::new(),
        }
    }

    fn path(self, token: &str) -> String {
        match self {
            Self::Query => format!("/cometd?access_token={token}"),
            Self::Header | Self::Cookie | Self::Ext | Self::Authentication => "/cometd".to_owned(),
        }
    }

    /// The message with what it shows.
    fn show(self, mut message: Value, token: &str) -> Value {
        match self {
            Self::Ext => message["ext"] = json!({ "token": token }),
            Self::Authentication => message["ext"] = json!({ "authentication": { "token": token } }),
            Self::Header | Self::Cookie | Self::Query => {}
        }
        message
    }

    fn comes_by_http(self) -> bool {
        self != Self::Query
    }
}

/// One client on one carrier, which shows a token in one way.
struct Client {
    way: Way,
    token: String,
    socket: Option<Socket>,
    address: std::net::SocketAddr,
}

impl Client {
    async fn new(it: &It, way: Way, over_websocket: bool, token: String) -> Self {
        let headers = way.headers(&token);
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let socket = if over_websocket {
            Some(Socket::open(it.public, &way.path(&token), &headers).await)
        } else {
            None
        };
        Self {
            way,
            token,
            socket,
            address: it.public,
        }
    }

    /// Every way by every carrier.
    async fn all(it: &It, user: &str) -> Vec<Self> {
        let mut all = Vec::new();
        for way in WAYS {
            for over_websocket in [true, false] {
                if over_websocket || way.comes_by_http() {
                    all.push(Self::new(it, way, over_websocket, token(user, 300)).await);
                }
            }
        }
        all
    }

    fn name(&self) -> String {
        format!(
            "{:?} over {}",
            self.way,
            if self.socket.is_some() {
                "WebSocket"
            } else {
                "HTTP"
            }
        )
    }

    /// Sends messages as they are, each with what shows the token.
    async fn say(&mut self, messages: &[Value]) -> Vec<Value> {
        let shown = messages
            .iter()
            .map(|message| self.way.show(message.clone(), &self.token));
        let body = Value::Array(shown.collect());
        match &mut self.socket {
            Some(socket) => ask(socket, &body).await,
            None => {
                let headers = self.way.headers(&self.token);
                let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
                post(self.address, &headers, &body).await
            }
        }
    }

    async fn open(&mut self) -> String {
        let id = client_id(&self.say(&[handshake_with(&json!({}))]).await);
        expect_success(&self.say(&[connect(&id)]).await);
        id
    }

    /// The data that comes, up to and including `last`.
    async fn data_until(&mut self, id: &str, last: &str) -> Vec<Value> {
        let mut seen: Vec<Value> = Vec::new();
        while seen.last() != Some(&json!(last)) {
            let messages = match &mut self.socket {
                Some(socket) => next(socket).await,
                None => self.say(&[wait(id)]).await,
            };
            seen.extend(data(&messages));
        }
        seen
    }
}

async fn it() -> It {
    It::with(|config| {
        take_tokens(config);
        config.auth.cookie = "session".to_owned();
        config.auth.query_parameter = "access_token".to_owned();
    })
    .await
}

/// Every form in which somebody might ask for a channel.
fn forms() -> Vec<Value> {
    let texts = [
        CHANNEL,
        "/v2/me/*",
        "/v2/me/**",
        "/v2/*",
        "/v2/**",
        "/*",
        "/**",
        "/v2/me/calls/",
        "/v2/me/calls//",
        "//v2/me/calls",
        "/v2//me/calls",
        "/V2/ME/CALLS",
        "/v2/Me/calls",
        "/v2/*/calls",
        "/v2/me/../15000/calls",
        "/v2/./me/calls",
        "/v2/15000/calls",
        "/v2/users/15000/calls",
        "/v2%2fme%2fcalls",
        "/v2/me%2fcalls",
        "%2fv2%2fme%2fcalls",
        "/v2/me/calls%00",
        "/v2/me/calls\u{0}",
        "/v2/me/calls\u{200b}",
        "/v2/m\u{435}/calls",
        "/v2/me/calls\n",
        " /v2/me/calls",
        "/v2/me/calls ",
        "/v2/me/calls?user=15000",
        "/v2/me/calls#15000",
        "/v2/me/calls;user=15000",
        "/v2/{user}/calls",
        "/v2/me/ca*",
        "/v2/me/***",
        "/**/calls",
        "/me/calls",
        "/15000",
        "15000",
        "",
        "/",
        "*",
        "**",
    ];
    let mut forms: Vec<Value> = texts.map(Value::from).into();
    forms.push(json!([CHANNEL]));
    forms.push(json!([CHANNEL, "/v2/**", "/**"]));
    forms.push(json!(["/chat/x", ["/v2/me/calls"]]));
    forms.push(json!([{ "channel": CHANNEL, "user": A }]));
    forms.push(json!({ "user": A, "channel": CHANNEL }));
    forms
}

#[tokio::test]
async fn t7_whatever_b_subscribes_to_in_whatever_way_it_comes_it_gets_nothing_of_a() {
    let it = it().await;
    let mut mine = Client::new(&it, Way::Ext, true, token(A, 300)).await;
    let my_id = mine.open().await;
    expect_success(&mine.say(&[subscribe(&my_id, CHANNEL)]).await);
    for mut other in Client::all(&it, B).await {
        let id = other.open().await;
        let mut taken = BTreeSet::new();
        for form in forms() {
            let message = json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": form });
            let replies = other.say(&[message]).await;
            if replies[0]["successful"] == true {
                taken.insert(form.to_string());
            }
        }
        // The grammar takes these, so that what follows shows something: the user's events go to the user alone all the same.
        assert!(taken.contains(&json!("/**").to_string()), "{taken:?}");
        it.publish_to(Some(A), CHANNEL, r#""for A""#).await;
        it.publish_to(Some(B), CHANNEL, r#""for B""#).await;
        it.publish_to(None, "/chat/x", r#""for everyone""#).await;
        let seen = other.data_until(&id, "for everyone").await;
        assert_eq!(seen, ["for B", "for everyone"], "{}", other.name());
        assert_eq!(mine.data_until(&my_id, "for A").await, ["for A"]);
    }
}

#[tokio::test]
async fn t10_whatever_b_publishes_to_in_whatever_form_nothing_reaches_the_channels_of_a() {
    let it = it().await;
    let mut mine = Client::new(&it, Way::Ext, true, token(A, 300)).await;
    let my_id = mine.open().await;
    for channel in ["/v2/**", "/chat/x"] {
        expect_success(&mine.say(&[subscribe(&my_id, channel)]).await);
    }
    for mut other in Client::all(&it, B).await {
        let id = other.open().await;
        for form in forms() {
            let message =
                json!({ "channel": form, "clientId": id, "data": "forged", "user": A, "ext": { "user": A } });
            // By a way that shows its token in ext, the token takes the place of the rest.
            let replies = other.say(&[message]).await;
            let under_v2 = form.as_str().is_some_and(|form| form.starts_with("/v2/"));
            assert!(
                !under_v2 || replies[0]["successful"] == false,
                "{form} {replies:?}"
            );
        }
        let allowed = json!({ "channel": "/chat/x", "clientId": id, "data": "allowed" });
        expect_success(&other.say(&[allowed]).await);
        let seen = mine.data_until(&my_id, "allowed").await;
        assert_eq!(seen, ["allowed"], "{}", other.name());
    }
}

/// What a thief would do with a clientId.
fn thefts(id: &str) -> Vec<Value> {
    vec![
        connect(id),
        subscribe(id, "/chat/planted"),
        json!({ "channel": "/meta/unsubscribe", "clientId": id, "subscription": CHANNEL }),
        json!({ "channel": "/chat/x", "clientId": id, "data": "forged" }),
        json!({ "channel": "/service/x", "clientId": id, "data": "forged" }),
        json!({ "channel": "/service/auth", "clientId": id, "data": {} }),
        json!({ "channel": "/meta/disconnect", "clientId": id }),
    ]
}

async fn expect_unaffected(it: &It, mine: &mut Client, id: &str, what: &str) {
    it.publish_to(None, "/chat/planted", r#""planted""#).await;
    it.publish_to(Some(A), CHANNEL, r#""mine""#).await;
    assert_eq!(mine.data_until(id, "mine").await, ["mine"], "{what}");
}

#[tokio::test]
async fn t2_t3_t6_a_stolen_client_id_is_unknown_alone_in_a_batch_behind_a_handshake_and_on_a_bare_socket() {
    let it = it().await;
    for over_websocket in [true, false] {
        let mut mine = Client::new(&it, Way::Ext, over_websocket, token(A, 300)).await;
        let stolen = mine.open().await;
        expect_success(&mine.say(&[subscribe(&stolen, CHANNEL)]).await);
        for mut thief in Client::all(&it, B).await {
            // A bare socket, or a request without a session of its own.
            for theft in thefts(&stolen) {
                let is_auth = theft["channel"] == "/service/auth";
                let replies = thief.say(&[theft]).await;
                if !is_auth {
                    assert_eq!(replies[0]["error"], UNKNOWN, "{} {replies:?}", thief.name());
                }
                assert_eq!(replies[0]["successful"], false, "{} {replies:?}", thief.name());
            }
            let own = thief.open().await;
            for theft in thefts(&stolen) {
                let replies = thief.say(&[subscribe(&own, "/chat/own"), theft.clone()]).await;
                assert_eq!(replies[0]["successful"], true, "{} {replies:?}", thief.name());
                assert_eq!(replies[1]["successful"], false, "{} {replies:?}", thief.name());
                let replies = thief.say(&[handshake_with(&json!({})), theft]).await;
                assert_eq!(replies[0]["successful"], true, "{} {replies:?}", thief.name());
                assert_ne!(replies[0]["clientId"], stolen, "it is always a new one");
                assert_eq!(replies[1]["successful"], false, "{} {replies:?}", thief.name());
            }
            expect_unaffected(&it, &mut mine, &stolen, &thief.name()).await;
        }
    }
}

#[tokio::test]
async fn t5_a_client_id_that_a_handshake_brings_is_not_taken() {
    let it = it().await;
    for mut client in Client::all(&it, A).await {
        let planted = json!({ "channel": "/meta/handshake", "version": "1.0", "clientId": "planted" });
        let id = client_id(&client.say(&[planted]).await);
        assert_ne!(id, "planted");
        let replies = client.say(&[connect("planted")]).await;
        expect_error(&replies, UNKNOWN, Some("handshake"));
        expect_success(&client.say(&[connect(&id)]).await);
    }
}

#[tokio::test]
async fn t17_what_has_ended_or_was_revoked_opens_nothing_however_it_is_shown() {
    let it = it().await;
    let mut mine = Client::new(&it, Way::Ext, false, token(A, 300)).await;
    let id = mine.open().await;
    expect_success(&mine.say(&[subscribe(&id, CHANNEL)]).await);
    let revoked = token_with(A, 300, &json!({ "jti": "stolen" }));
    let answer = crate::it::exchange(
        it.internal,
        &crate::it::request("POST", "/api/v1/revocations", &[], br#"{"token":"stolen"}"#),
    )
    .await;
    assert_eq!(answer.status, 201);
    let ended = token_with(A, 0, &json!({ "exp": now() - 1, "iat": 0 }));
    for (token, error, reconnect) in [
        (ended, "401::credentials_expired", "handshake"),
        (revoked, "401::credentials_revoked", "none"),
    ] {
        for way in WAYS {
            for over_websocket in [true, false] {
                if !over_websocket && !way.comes_by_http() {
                    continue;
                }
                let mut thief = Client::new(&it, way, over_websocket, token.clone()).await;
                it.publish_to(Some(A), CHANNEL, r#""mine""#).await;
                let replies = thief.say(&[connect(&id)]).await;
                expect_error(&replies, error, Some(reconnect));
                let denied = thief.say(&[handshake_with(&json!({}))]).await;
                expect_error(&denied, error, Some("none"));
                // The control: the owner gets it.
                assert_eq!(mine.data_until(&id, "mine").await, ["mine"], "{}", thief.name());
            }
        }
    }
}

#[tokio::test]
async fn t8_nothing_of_the_server_itself_is_on_any_channel() {
    let it = it().await;
    let mut listener = Client::new(&it, Way::Header, true, token(B, 300)).await;
    let id = listener.open().await;
    for channel in ["/**", "/oort/**", "/seti/**", "/_internal/**"] {
        expect_success(&listener.say(&[subscribe(&id, channel)]).await);
    }
    for channel in ["/meta/**", "/meta/connect", "/META/connect", "/meta/subscribe/x"] {
        let replies = listener.say(&[subscribe(&id, channel)]).await;
        assert_eq!(
            replies[0]["successful"],
            channel.starts_with("/META"),
            "{channel} {replies:?}"
        );
    }
    // Others come, go, sleep and are ended.
    let mut other = Client::new(&it, Way::Header, true, token(A, 300)).await;
    let other_id = other.open().await;
    expect_success(&other.say(&[subscribe(&other_id, "/**")]).await);
    expect_success(
        &other
            .say(&[json!({ "channel": "/meta/disconnect", "clientId": other_id })])
            .await,
    );
    it.publish_to(None, "/oort/cloud", r#""last""#).await;
    assert_eq!(listener.data_until(&id, "last").await, ["last"]);
}
