//! What an application with a stock client tells: its lines, and all that they have said so far.

use serde::Deserialize;
use serde_json::Value;

/// Everything the client has told since it started.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// The clientId of every successful handshake; more than one means that the session was lost.
    pub sessions: Vec<String>,
    /// The clientId of every handshake that the reload extension answered from what it had kept.
    pub restored: Vec<String>,
    /// Why handshakes failed.
    pub refused: Vec<String>,
    /// Whether the last `/meta/connect` was successful.
    pub connected: bool,
    /// The transport of the last handshake or `/meta/connect`.
    pub transport: Option<String>,
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
    /// How many of them had arrived when it last sent a `/meta/connect`: an acknowledging client says so with it.
    pub acknowledged: usize,
    /// Every event with bytes that the binary extension decoded, in the order of arrival.
    pub binaries: Vec<Binary>,
    /// Every answer to a remote call, in the order of arrival.
    pub calls: Vec<Call>,
    /// What the timesync extension thinks at each answer to a connect.
    pub clocks: Vec<Clock>,
    /// How often the process woke from a pause.
    pub pauses: u64,
    /// How often the page was loaded.
    pub loads: u64,
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

/// One event of CometD's binary extension as the application sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Binary {
    /// The channel it was published to.
    pub channel: String,
    /// The bytes.
    pub hex: String,
    /// What the publisher said about them.
    pub meta: Value,
    /// Whether these are the last of several.
    pub last: bool,
}

/// The answer to a remote call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What was called.
    pub target: String,
    /// What it returned, or why it failed.
    pub result: Result<Value, String>,
    /// What came with the failure.
    pub data: Option<Value>,
}

/// What the timesync extension thinks about the broker's clock, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Clock {
    /// How long a message travels.
    pub lag: i64,
    /// How far the broker's clock is ahead of the client's.
    pub offset: i64,
}

/// A line that `driver.mjs` writes, or what runs it.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line {
    Handshake(Handshake),
    Connecting {},
    Connect(Connect),
    Subscribed(OnChannel),
    Unsubscribed(OnChannel),
    Published(OnChannel),
    Message(Message),
    Binary(Binary),
    Called(Called),
    Timesync(Clock),
    Paused {},
    Resumed {},
    Loaded {},
    Disconnected(Outcome),
    Error { text: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Handshake {
    client_id: Option<String>,
    #[serde(default)]
    reload: bool,
    transport: Option<String>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Connect {
    transport: Option<String>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize)]
pub(crate) struct OnChannel {
    channel: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Called {
    target: String,
    data: Option<Value>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Outcome {
    successful: bool,
    error: Option<String>,
    reconnect: Option<String>,
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

    pub(crate) fn note(&mut self, line: Line) {
        match line {
            Line::Handshake(handshake) => self.note_handshake(handshake),
            Line::Connecting {} => self.acknowledged = self.messages.len(),
            Line::Connect(Connect { transport, outcome }) => {
                self.interruptions += u64::from(self.connected && !outcome.successful);
                self.connected = outcome.successful;
                self.transport = transport;
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
            Line::Binary(binary) => self.binaries.push(binary),
            Line::Called(called) => self.calls.push(called.into()),
            Line::Timesync(clock) => self.clocks.push(clock),
            Line::Paused {} => {}
            Line::Resumed {} => self.pauses += 1,
            Line::Loaded {} => self.loads += 1,
            Line::Disconnected(outcome) => self.disconnected = Some(outcome.successful),
            Line::Error { text } => self.errors.push(text),
        }
    }

    fn note_handshake(&mut self, handshake: Handshake) {
        self.transport = handshake.transport;
        match handshake.client_id {
            Some(id) if handshake.outcome.successful && handshake.reload => self.restored.push(id),
            Some(id) if handshake.outcome.successful => self.sessions.push(id),
            Some(_) | None => self.refused.push(handshake.outcome.to_string()),
        }
    }
}

impl From<Called> for Call {
    fn from(called: Called) -> Call {
        let Called {
            target,
            data,
            outcome,
        } = called;
        match outcome.successful {
            true => Call {
                target,
                result: Ok(data.unwrap_or_default()),
                data: None,
            },
            false => Call {
                target,
                result: Err(outcome.to_string()),
                data,
            },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(lines: &[&str]) -> Seen {
        let mut seen = Seen::default();
        for line in lines {
            seen.note(serde_json::from_str(line).expect("a line of the client"));
        }
        seen
    }

    #[track_caller]
    fn check(lines: &[&str], expect: &str) {
        assert_eq!(seen(lines).summary(), expect);
    }

    #[test]
    fn the_lines_of_a_session() {
        check(
            &[
                r#"{"event":"handshake","successful":true,"clientId":"abc","transport":"websocket","reload":false}"#,
                r#"{"event":"connect","successful":true,"transport":"websocket"}"#,
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

    #[test]
    fn a_handshake_that_a_reload_restored_is_no_new_session() {
        let seen = seen(&[
            r#"{"event":"handshake","successful":true,"clientId":"abc","reload":false}"#,
            r#"{"event":"loaded"}"#,
            r#"{"event":"handshake","successful":true,"clientId":"abc","reload":true}"#,
        ]);
        assert_eq!(
            (seen.sessions.len(), seen.restored, seen.loads),
            (1, vec!["abc".to_owned()], 1)
        );
    }

    #[test]
    fn a_remote_call_returns_or_fails() {
        let seen = seen(&[
            r#"{"event":"called","target":"a","successful":true,"data":7}"#,
            r#"{"event":"called","target":"b","successful":false,"error":"406::timeout"}"#,
        ]);
        let results: Vec<_> = seen.calls.into_iter().map(|call| call.result).collect();
        assert_eq!(results, [Ok(7.into()), Err("406::timeout".to_owned())]);
    }
}
