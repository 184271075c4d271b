//! An application with a stock client, in Node or in a page: a test tells it what to do, it tells what happens.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Seen;

/// One running application.
pub struct Application {
    name: String,
    seen: watch::Receiver<Seen>,
    send: Box<dyn Fn(Value) + Send + Sync>,
}

impl Application {
    /// How long [`Application::until`] waits.
    pub const PATIENCE: Duration = Duration::from_secs(20);

    /// An application that takes its commands from `send`, and tells what it has seen through `seen`.
    pub(crate) fn new(
        name: String,
        seen: watch::Receiver<Seen>,
        send: impl Fn(Value) + Send + Sync + 'static,
    ) -> Application {
        Application {
            name,
            seen,
            send: Box::new(send),
        }
    }

    /// Subscribes and waits for the confirmation.
    pub async fn subscribe(&self, channel: &str) {
        let before = count(&self.seen().subscribed, channel);
        self.send(json!({ "do": "subscribe", "channel": channel }));
        self.until("the subscription", |seen| {
            count(&seen.subscribed, channel) > before
        })
        .await;
    }

    /// The same, or what the client said when it was refused.
    pub async fn try_subscribe(&self, channel: &str) -> Result<(), Vec<String>> {
        let (before, errors) = {
            let seen = self.seen();
            (count(&seen.subscribed, channel), seen.errors.len())
        };
        self.send(json!({ "do": "subscribe", "channel": channel }));
        let seen = self
            .until("an answer to the subscription", |seen| {
                count(&seen.subscribed, channel) > before || seen.errors.len() > errors
            })
            .await;
        if count(&seen.subscribed, channel) > before {
            return Ok(());
        }
        Err(seen.errors[errors..].to_vec())
    }

    /// Unsubscribes and waits for the confirmation.
    pub async fn unsubscribe(&self, channel: &str) {
        self.send(json!({ "do": "unsubscribe", "channel": channel }));
        self.until("the end of the subscription", |seen| {
            seen.unsubscribed.iter().any(|one| one == channel)
        })
        .await;
    }

    /// Publishes from the client. Does not wait: what follows is for the test to say.
    pub fn publish(&self, channel: &str, data: Value) {
        self.send(json!({ "do": "publish", "channel": channel, "data": data }));
    }

    /// Publishes bytes, given in hexadecimal, with CometD's binary extension, and `meta` with them. Does not wait.
    pub fn publish_binary(&self, channel: &str, hex: &str, meta: Value) {
        self.send(json!({ "do": "publish_binary", "channel": channel, "hex": hex, "meta": meta }));
    }

    /// Calls a service, with `patience` to answer. Does not wait.
    pub fn call(&self, target: &str, data: Value, patience: Duration) {
        self.send(json!({ "do": "call", "target": target, "data": data, "ms": patience.as_millis() as u64 }));
    }

    /// Subscribes to a channel and publishes to it, all in one of the client's batches. Does not wait.
    pub fn batch(&self, channel: &str, data: impl IntoIterator<Item = Value>) {
        let publish = |data| json!({ "do": "publish", "channel": channel, "data": data });
        let mut commands = vec![json!({ "do": "subscribe", "channel": channel })];
        commands.extend(data.into_iter().map(publish));
        self.send(json!({ "do": "batch", "commands": commands }));
    }

    /// Disconnects and waits for the confirmation.
    pub async fn disconnect(&self) {
        self.send(json!({ "do": "disconnect" }));
        let seen = self
            .until("the disconnect", |seen| seen.disconnected.is_some())
            .await;
        assert_eq!(
            seen.disconnected,
            Some(true),
            "{}: the disconnect failed: {:?}",
            self.name,
            seen.errors
        );
    }

    /// Waits until the client has told what `there` looks for; returns all that it has told.
    ///
    /// # Panics
    ///
    /// If that does not happen in time, with what was there instead.
    pub async fn until(&self, what: &str, there: impl FnMut(&Seen) -> bool) -> Seen {
        self.until_within(Self::PATIENCE, what, there).await
    }

    /// As [`Application::until`], with a deadline of its own.
    pub async fn until_within(
        &self,
        patience: Duration,
        what: &str,
        mut there: impl FnMut(&Seen) -> bool,
    ) -> Seen {
        let mut seen = self.seen.clone();
        let found = timeout(patience, seen.wait_for(|seen| seen.ended || there(seen))).await;
        // Cloned before anybody looks again: the page tells from another thread, which may wait for this look to end.
        let found = found.map(|found| found.ok().map(|seen| seen.clone()));
        match found {
            Ok(Some(now)) if there(&now) => now,
            Ok(_) => panic!(
                "{} ended while waiting for {what}: {}",
                self.name,
                self.seen().summary()
            ),
            Err(_) => panic!(
                "{} waited {patience:?} for {what}: {}",
                self.name,
                self.seen().summary()
            ),
        }
    }

    /// Waits until `count` different numbers have arrived, or until `patience` is over: a [`Ledger`](crate::Ledger)
    /// then says which are missing. Waits a moment longer for what should not come.
    pub async fn until_received(&self, patience: Duration, count: usize) -> Seen {
        let mut seen = self.seen.clone();
        let all_there =
            |seen: &Seen| seen.ended || (seen.messages.len() >= count && seen.distinct() >= count);
        drop(timeout(patience, seen.wait_for(all_there)).await);
        // A duplicate or a stranger would follow on the heels of the last one.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.seen()
    }

    /// All that it has told so far.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Who it is and how it connects, for messages to a person.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn send(&self, command: Value) {
        (self.send)(command);
    }
}

fn count(channels: &[String], channel: &str) -> usize {
    channels.iter().filter(|one| *one == channel).count()
}
