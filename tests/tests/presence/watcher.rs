//! A client that hears who comes and goes.

use std::time::Duration;

use halley::config::{Config, Span, User};
use serde_json::{Value, json};

use crate::it::{Client, It, Transport, USERS};

pub(crate) const CHANNEL: &str = "/workspace/presence";

/// How long nobody must be left.
pub(crate) const DELAY: Duration = Duration::from_millis(400);

/// Longer than anything takes that is told, when nothing is wrong.
pub(crate) const QUIET: Duration = Duration::from_millis(1500);

const NAME: &str = "watcher";

pub(crate) struct Watcher(Client);

/// A configuration that tells who is present.
pub(crate) fn telling(config: &mut Config) {
    config.presence.channel = CHANNEL.to_owned();
    config.presence.delay = Span(DELAY);
    let names = (0..20).map(|number| format!("16{number:03}"));
    for user in names.chain([NAME.to_owned()]) {
        config.auth.users.push(User {
            token: format!("secret-{user}"),
            user,
            roles: Vec::new(),
        });
    }
}

impl Watcher {
    pub(crate) async fn at(it: &It) -> Self {
        let mut client = Client::open(it, Transport::WebSocket, Some(NAME)).await;
        client.subscribe(json!(CHANNEL)).await;
        client.hold().await;
        Self(client)
    }

    /// What is told until this is, of everyone but itself.
    pub(crate) async fn until(&mut self, user: &str, present: bool) -> Vec<Value> {
        let mut told = Vec::new();
        let is_it = |data: &Value| data["user"] == user && data["present"] == present;
        while !told.last().is_some_and(is_it) {
            told.extend(self.hear().await);
        }
        told
    }

    /// What was told by now, and in the time in which everything is told.
    pub(crate) async fn so_far(&mut self, it: &It) -> Vec<Value> {
        self.within(it, QUIET).await
    }

    pub(crate) async fn within(&mut self, it: &It, time: Duration) -> Vec<Value> {
        tokio::time::sleep(time).await;
        it.publish_to(None, CHANNEL, r#"{"user":"last"}"#).await;
        let mut told = Vec::new();
        while told.last().is_none_or(|data: &Value| data["user"] != "last") {
            told.extend(self.hear().await);
        }
        told.pop();
        told
    }

    async fn hear(&mut self) -> Vec<Value> {
        let messages: Vec<Value> = serde_json::from_str(&self.0.events().await).expect("an array");
        messages
            .into_iter()
            .filter_map(|mut message| message.get_mut("data").map(Value::take))
            .filter(|data| data["user"] != NAME)
            .collect()
    }
}

/// Who came and who went.
pub(crate) fn changes(told: &[Value]) -> Vec<(&str, bool)> {
    told.iter()
        .map(|data| {
            let user = data["user"].as_str().expect("a user");
            (user, data["present"].as_bool().expect("whether"))
        })
        .collect()
}

pub(crate) async fn goodbye(client: &mut Client) {
    let replies = client
        .say(r#"{"channel":"/meta/disconnect","clientId":"$id"}"#)
        .await;
    assert_eq!(replies[0]["successful"], true, "{replies:?}");
}

/// A connect that is answered at once.
pub(crate) async fn connect(client: &mut Client) {
    let replies = client
        .say(r#"{"channel":"/meta/connect","clientId":"$id","connectionType":"long-polling","advice":{"timeout":0}}"#)
        .await;
    assert!(
        replies
            .iter()
            .any(|reply| reply["channel"] == "/meta/connect" && reply["successful"] == true),
        "{replies:?}"
    );
}

/// Somebody who polls, of the users that are there anyway.
pub(crate) async fn poller(it: &It) -> Client {
    Client::open(it, Transport::LongPolling, Some(USERS[0])).await
}
