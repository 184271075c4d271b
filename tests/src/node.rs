//! A stock npm CometD client in a Node process of its own, driven over stdin and stdout.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::say;

/// Which npm release of CometD's JavaScript client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 9.0.0, the newest.
    V9,
    /// 3.1.14, the last of the line that old pages still load.
    V3,
}

/// How the client talks to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Only `websocket`, with no fallback.
    WebSocket,
    /// Only `long-polling`.
    LongPolling,
}

/// One client, before it is started.
#[derive(Debug, Clone)]
pub struct Client {
    /// The npm release.
    pub version: Version,
    /// The transport, the only one it has.
    pub transport: Transport,
    /// The address of the Bayeux endpoint.
    pub url: String,
    /// Who it is; the token is `secret-USER`.
    pub user: String,
    /// Registers CometD's own acknowledge extension.
    pub ack: bool,
    /// `maxNetworkDelay`: how much later than promised an answer may come before the client gives a connection up.
    pub network_delay: Duration,
    /// `backoffIncrement`: how long it waits after the first failure.
    pub backoff: Duration,
}

/// Everything the client has told since it started.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// The clientId of every successful handshake; more than one means that the session was lost.
    pub sessions: Vec<String>,
    /// Why handshakes failed.
    pub refused: Vec<String>,
    /// Whether the last `/meta/connect` was successful.
    pub connected: bool,
    /// How often a `/meta/connect` failed after a successful one.
    pub interruptions: u64,
    /// Channels whose subscription was confirmed, in that order.
    pub subscribed: Vec<String>,
    /// Channels whose end was confirmed, in that order.
    pub unsubscribed: Vec<String>,
    /// Channels to which a publish by this client was confirmed.
    pub published: Vec<String>,
    /// Every event, in the order of arrival.
    pub messages: Vec<Message>,
    /// The process woke from its last pause.
    pub pauses: u64,
    /// Whether the disconnect was confirmed.
    pub disconnected: Option<bool>,
    /// What was refused, and exceptions inside the client.
    pub errors: Vec<String>,
    /// The process ended.
    pub ended: bool,
}

/// One event as the application sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    /// The channel it was published to.
    pub channel: String,
    /// What the publisher put there.
    pub data: Value,
}

/// A line that `cometd-client.mjs` writes.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Handshake(Handshake),
    Connect(Outcome),
    Subscribed(OnChannel),
    Unsubscribed(OnChannel),
    Published(OnChannel),
    Message(Message),
    Paused {},
    Resumed {},
    Disconnected(Outcome),
    Error { text: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Handshake {
    client_id: Option<String>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize)]
struct OnChannel {
    channel: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    successful: bool,
    error: Option<String>,
    reconnect: Option<String>,
}

/// A running client. Dropping it kills the process; when a test is failing, what it logged is printed first.
pub struct Node {
    name: String,
    seen: watch::Receiver<Seen>,
    stdin: Mutex<Option<ChildStdin>>,
    log: NamedTempFile,
    _child: Child,
}

impl Client {
    /// A client that reconnects quickly: 100 ms after a failure, and gives up a silent connection after a second.
    pub fn new(version: Version, transport: Transport, url: impl Into<String>, user: &str) -> Client {
        Client {
            version,
            transport,
            url: url.into(),
            user: user.to_owned(),
            ack: false,
            network_delay: Duration::from_secs(1),
            backoff: Duration::from_millis(100),
        }
    }

    /// The same client with CometD's acknowledge extension.
    pub fn with_ack(self) -> Client {
        Client { ack: true, ..self }
    }

    /// Starts it; it handshakes at once. `None`, with the reason printed, where Node or its packages are missing.
    pub fn start(&self) -> Option<Node> {
        let folder = js_folder();
        if !folder.join("node_modules/cometd").is_dir() {
            say("skipped: no npm packages; run `npm ci` in tests/js");
            return None;
        }
        let log = NamedTempFile::with_prefix("halley-test-node-").expect("a temporary file");
        let started = self
            .command(&folder, log.reopen().expect("a second handle of the log file"))
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                say(format_args!("skipped: node does not start: {error}"));
                return None;
            }
        };
        let (tell, seen) = watch::channel(Seen::default());
        tokio::spawn(listen(child.stdout.take().expect("stdout is piped"), tell));
        let stdin = Mutex::new(child.stdin.take());
        let name = format!(
            "{} over {} ({:?})",
            self.user,
            self.transport.name(),
            self.version
        );
        Some(Node {
            name,
            seen,
            stdin,
            log,
            _child: child,
        })
    }

    fn command(&self, folder: &Path, log: File) -> Command {
        let mut command = Command::new("node");
        command.arg(folder.join("cometd-client.mjs"));
        command.args(["--version", if self.version == Version::V9 { "9" } else { "3" }]);
        command.args(["--transport", self.transport.name(), "--url", &self.url]);
        command.args(["--user", &self.user, "--token", &format!("secret-{}", self.user)]);
        command.args(["--network-delay", &self.network_delay.as_millis().to_string()]);
        command.args(["--backoff", &self.backoff.as_millis().to_string()]);
        command.args(self.ack.then_some("--ack"));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        command
    }
}

impl Transport {
    /// The name in `supportedConnectionTypes`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::LongPolling => "long-polling",
        }
    }
}

impl Node {
    /// Subscribes and waits for the confirmation.
    pub async fn subscribe(&self, channel: &str) {
        self.command(&json!({ "do": "subscribe", "channel": channel }))
            .await;
        self.until("the subscription", |seen| {
            seen.subscribed.iter().any(|one| one == channel)
        })
        .await;
    }

    /// Unsubscribes and waits for the confirmation.
    pub async fn unsubscribe(&self, channel: &str) {
        self.command(&json!({ "do": "unsubscribe", "channel": channel }))
            .await;
        self.until("the end of the subscription", |seen| {
            seen.unsubscribed.iter().any(|one| one == channel)
        })
        .await;
    }

    /// Publishes from the client. Does not wait: what follows is for the test to say.
    pub async fn publish(&self, channel: &str, data: Value) {
        self.command(&json!({ "do": "publish", "channel": channel, "data": data }))
            .await;
    }

    /// Stops the whole process for a while, as a sleeping laptop does, and waits until it runs again.
    pub async fn sleep(&self, length: Duration) {
        let pauses = self.seen.borrow().pauses;
        self.command(&json!({ "do": "pause", "ms": length.as_millis() as u64 }))
            .await;
        self.until_within(length + Self::PATIENCE, "its waking", |seen| seen.pauses > pauses)
            .await;
    }

    /// Disconnects and waits for the confirmation.
    pub async fn disconnect(&self) {
        self.command(&json!({ "do": "disconnect" })).await;
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

    /// How long [`Node::until`] waits.
    pub const PATIENCE: Duration = Duration::from_secs(20);

    /// Waits until the client has told what `there` looks for; returns all that it has told.
    ///
    /// # Panics
    ///
    /// If that does not happen in time, with what was there instead.
    pub async fn until(&self, what: &str, there: impl FnMut(&Seen) -> bool) -> Seen {
        self.until_within(Self::PATIENCE, what, there).await
    }

    /// As [`Node::until`], with a deadline of its own.
    pub async fn until_within(
        &self,
        patience: Duration,
        what: &str,
        mut there: impl FnMut(&Seen) -> bool,
    ) -> Seen {
        let mut seen = self.seen.clone();
        let found = timeout(patience, seen.wait_for(|seen| seen.ended || there(seen))).await;
        let all = self.seen();
        match found {
            Ok(Ok(now)) if there(&now) => now.clone(),
            Ok(_) => panic!("{} ended while waiting for {what}: {}", self.name, all.summary()),
            Err(_) => panic!("{} waited {patience:?} for {what}: {}", self.name, all.summary()),
        }
    }

    /// Waits until `count` different numbers have arrived, or until `patience` is over: a [`Ledger`](crate::Ledger)
    /// then says which are missing. Waits a moment longer for what should not come.
    pub async fn until_received(&self, patience: Duration, count: usize) -> Seen {
        let mut seen = self.seen.clone();
        let all_there =
            |seen: &Seen| seen.ended || (seen.messages.len() >= count && seen.distinct() >= count);
        let _ = timeout(patience, seen.wait_for(all_there)).await;
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

    async fn command(&self, command: &Value) {
        let mut stdin = self.stdin.lock().take().expect("one command at a time");
        let line = format!("{command}\n");
        stdin
            .write_all(line.as_bytes())
            .await
            .expect("the client reads its commands");
        *self.stdin.lock() = Some(stdin);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
            say(format_args!(
                "--- {}: {}\n{log}---",
                self.name,
                self.seen().summary()
            ));
        }
    }
}

impl Seen {
    /// The sequence numbers received, in the order of arrival.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.messages
            .iter()
            .filter_map(|message| message.data["seq"].as_u64())
    }

    /// How many different sequence numbers were received.
    pub fn distinct(&self) -> usize {
        self.numbers().collect::<std::collections::HashSet<_>>().len()
    }

    /// One line for a person.
    pub fn summary(&self) -> String {
        format!(
            "sessions {:?}, refused {:?}, connected {}, {} interruptions, subscribed {:?}, {} messages up to {:?}, \
             errors {:?}",
            self.sessions,
            self.refused,
            self.connected,
            self.interruptions,
            self.subscribed,
            self.messages.len(),
            self.numbers().last(),
            self.errors,
        )
    }

    fn note(&mut self, line: Line) {
        match line {
            Line::Handshake(Handshake {
                client_id: Some(id),
                outcome,
            }) if outcome.successful => self.sessions.push(id),
            Line::Handshake(handshake) => self.refused.push(handshake.outcome.to_string()),
            Line::Connect(outcome) => {
                self.interruptions += u64::from(self.connected && !outcome.successful);
                self.connected = outcome.successful;
            }
            Line::Subscribed(reply) => match reply.outcome.successful {
                true => self.subscribed.push(reply.channel),
                false => self
                    .errors
                    .push(format!("subscribe {}: {}", reply.channel, reply.outcome)),
            },
            Line::Unsubscribed(reply) => match reply.outcome.successful {
                true => self.unsubscribed.push(reply.channel),
                false => self
                    .errors
                    .push(format!("unsubscribe {}: {}", reply.channel, reply.outcome)),
            },
            Line::Published(reply) => match reply.outcome.successful {
                true => self.published.push(reply.channel),
                false => self
                    .errors
                    .push(format!("publish {}: {}", reply.channel, reply.outcome)),
            },
            Line::Message(message) => self.messages.push(message),
            Line::Paused {} => {}
            Line::Resumed {} => self.pauses += 1,
            Line::Disconnected(outcome) => self.disconnected = Some(outcome.successful),
            Line::Error { text } => self.errors.push(text),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = self.error.as_deref().unwrap_or("no reason");
        match &self.reconnect {
            Some(reconnect) => write!(f, "{error} (reconnect: {reconnect})"),
            None => f.write_str(error),
        }
    }
}

async fn listen(stdout: ChildStdout, tell: watch::Sender<Seen>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tell.send_modify(|seen| match serde_json::from_str(&line) {
            Ok(line) => seen.note(line),
            Err(error) => seen.errors.push(format!("{error} in the client's line {line}")),
        });
    }
    tell.send_modify(|seen| seen.ended = true);
}

fn js_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("js")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expect: &str) {
        let mut seen = Seen::default();
        for line in lines {
            seen.note(serde_json::from_str(line).expect("a line of the client"));
        }
        assert_eq!(seen.summary(), expect);
    }

    #[test]
    fn the_lines_of_a_session() {
        check(
            &[
                r#"{"event":"handshake","successful":true,"clientId":"abc"}"#,
                r#"{"event":"connect","successful":true}"#,
                r#"{"event":"subscribed","channel":"/v2/me/calls","successful":true}"#,
                r#"{"event":"message","channel":"/v2/me/calls","data":{"seq":7}}"#,
                r#"{"event":"connect","successful":false,"error":"socket hang up"}"#,
                r#"{"event":"paused","ms":3}"#,
                r#"{"event":"resumed"}"#,
            ],
            "sessions [\"abc\"], refused [], connected false, 1 interruptions, subscribed [\"/v2/me/calls\"], \
             1 messages up to Some(7), errors []",
        );
    }

    #[test]
    fn a_refusal_says_why() {
        check(
            &[r#"{"event":"handshake","successful":false,"error":"403::denied","reconnect":"none"}"#],
            "sessions [], refused [\"403::denied (reconnect: none)\"], connected false, 0 interruptions, \
             subscribed [], 0 messages up to None, errors []",
        );
    }
}
