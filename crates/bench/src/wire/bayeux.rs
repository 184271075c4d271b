//! The messages that a client sends, and what it reads of replies.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Malformed;
use super::http::write_number;

/// How a session comes by its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    LongPolling,
}

impl Transport {
    /// As messages and reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::LongPolling => "long-polling",
        }
    }
}

/// What is read of a message of the server; of an event only its channel.
#[derive(Debug, Deserialize)]
pub(crate) struct Reply<'a> {
    #[serde(borrow, default)]
    pub(crate) channel: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "clientId")]
    pub(crate) client_id: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) successful: Option<bool>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) advice: Option<Advice>,
    #[serde(borrow, default)]
    ext: Option<&'a RawValue>,
}

/// What a client should do next. Times are in milliseconds; some servers write them as fractions.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Advice {
    #[serde(default)]
    pub(crate) reconnect: Option<Reconnect>,
    #[serde(default)]
    interval: Option<f64>,
    #[serde(default)]
    timeout: Option<f64>,
}

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reconnect {
    Retry,
    Handshake,
    None,
}

impl Advice {
    /// How long to wait before the next connect.
    pub(crate) fn interval(&self) -> Option<u32> {
        self.interval.map(milliseconds)
    }

    /// How long the server holds a connect.
    pub(crate) fn timeout(&self) -> Option<u32> {
        self.timeout.map(milliseconds)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn milliseconds(value: f64) -> u32 {
    value.clamp(0.0, f64::from(u32::MAX)) as u32
}

impl Reply<'_> {
    /// It answers a message, and it is not bad news.
    pub(crate) fn is_successful(&self) -> bool {
        self.successful == Some(true)
    }

    /// The id, if it is one of ours: a number, or a text of digits.
    pub(crate) fn id(&self) -> Option<u64> {
        self.id?.get().trim_matches('"').parse().ok()
    }

    /// Why it is not successful.
    pub(crate) fn reason(&self) -> String {
        let error = self.error.as_deref().unwrap_or("no reason given");
        format!("{}: {error}", self.channel)
    }

    /// The number of the acknowledge extension.
    pub(crate) fn acknowledge(&self) -> Option<u64> {
        #[derive(Deserialize)]
        struct Ext<'a> {
            #[serde(borrow, default)]
            ack: Option<&'a RawValue>,
        }
        let ext: Ext = serde_json::from_str(self.ext?.get()).ok()?;
        ext.ack?.get().parse().ok()
    }
}

/// The messages of a body or frame: an array, or one alone.
pub(crate) fn replies(body: &[u8]) -> Result<Vec<Reply<'_>>, Malformed> {
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let parsed = if is_array {
        serde_json::from_slice(body)
    } else {
        serde_json::from_slice(body).map(|one| vec![one])
    };
    parsed.map_err(|error| Malformed::new(&format!("no Bayeux messages ({error})"), body))
}

/// Whether a body has replies to a protocol message. Events need not be parsed, and their data (which is ours) never says so.
pub(crate) fn has_replies(body: &[u8]) -> bool {
    memmem::find(body, b"/meta/").is_some()
}

/// Writes a handshake. `ext` is what its `ext` has besides the acknowledge extension: the members of an object, or nothing.
pub(crate) fn write_handshake(
    out: &mut Vec<u8>,
    id: u64,
    transport: Transport,
    acknowledges: bool,
    ext: &str,
) {
    out.extend_from_slice(
        b"[{\"channel\":\"/meta/handshake\",\"version\":\"1.0\",\"minimumVersion\":\"1.0\",\
          \"supportedConnectionTypes\":[\"",
    );
    out.extend_from_slice(transport.name().as_bytes());
    out.extend_from_slice(b"\"],\"advice\":{\"timeout\":60000,\"interval\":0}");
    let ack = if acknowledges { "\"ack\":true" } else { "" };
    if !(ack.is_empty() && ext.is_empty()) {
        let comma = if ack.is_empty() || ext.is_empty() { "" } else { "," };
        out.extend_from_slice(format!(",\"ext\":{{{ack}{comma}{ext}}}").as_bytes());
    }
    end(out, id);
}

/// Writes a subscribe for each of the channels. `client_id` is JSON.
pub(crate) fn write_subscribes(out: &mut Vec<u8>, first_id: u64, client_id: &str, channels: &[String]) {
    out.push(b'[');
    for (id, channel) in (first_id..).zip(channels) {
        if id > first_id {
            out.push(b',');
        }
        let message = format!(
            "{{\"channel\":\"/meta/subscribe\",\"clientId\":{client_id},\"subscription\":\"{channel}\""
        );
        out.extend_from_slice(message.as_bytes());
        out.extend_from_slice(b",\"id\":\"");
        write_number(out, id);
        out.extend_from_slice(b"\"}");
    }
    out.push(b']');
}

/// A `/meta/connect`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connect<'a> {
    pub(crate) id: u64,
    /// As JSON.
    pub(crate) client_id: &'a str,
    pub(crate) transport: Transport,
    /// Ask for an answer at once, as clients do first and after a break.
    pub(crate) at_once: bool,
    /// With the acknowledge extension, the number of the last answer.
    pub(crate) acknowledged: Option<u64>,
}

impl Connect<'_> {
    /// Writes it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"[{\"channel\":\"/meta/connect\",\"clientId\":");
        out.extend_from_slice(self.client_id.as_bytes());
        out.extend_from_slice(b",\"connectionType\":\"");
        out.extend_from_slice(self.transport.name().as_bytes());
        out.push(b'"');
        if self.at_once {
            out.extend_from_slice(b",\"advice\":{\"timeout\":0}");
        }
        if let Some(number) = self.acknowledged {
            out.extend_from_slice(b",\"ext\":{\"ack\":");
            write_number(out, number);
            out.push(b'}');
        }
        end(out, self.id);
    }
}

/// Writes a goodbye.
pub(crate) fn write_disconnect(out: &mut Vec<u8>, id: u64, client_id: &str) {
    out.extend_from_slice(b"[{\"channel\":\"/meta/disconnect\",\"clientId\":");
    out.extend_from_slice(client_id.as_bytes());
    end(out, id);
}

fn end(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(b",\"id\":\"");
    write_number(out, id);
    out.extend_from_slice(b"\"}]");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_handshake_says_what_it_can_and_who_it_is() {
        let message = written(|out| write_handshake(out, 1, Transport::LongPolling, true, r#""token":"t""#));
        assert_eq!(message[0]["supportedConnectionTypes"], json!(["long-polling"]));
        assert_eq!(message[0]["ext"], json!({ "ack": true, "token": "t" }));
        let plain = written(|out| write_handshake(out, 1, Transport::WebSocket, false, ""));
        assert_eq!(plain[0].get("ext"), None);
    }

    #[test]
    fn a_connect_repeats_the_number_that_it_acknowledges() {
        let connect = Connect {
            id: 7,
            client_id: "\"c\"",
            transport: Transport::WebSocket,
            at_once: true,
            acknowledged: Some(42),
        };
        let expected = json!([{
            "channel": "/meta/connect", "clientId": "c", "connectionType": "websocket",
            "advice": { "timeout": 0 }, "ext": { "ack": 42 }, "id": "7",
        }]);
        assert_eq!(written(|out| connect.write(out)), expected);
    }

    #[test]
    fn each_channel_is_subscribed_with_an_id_of_its_own() {
        let channels = ["/a".to_owned(), "/b".to_owned()];
        let messages = written(|out| write_subscribes(out, 2, "\"c\"", &channels));
        assert_eq!(messages[1]["subscription"], "/b");
        assert_eq!(messages[1]["id"], "3");
    }

    #[test]
    fn replies_are_read_in_an_array_or_alone_whatever_else_they_have() {
        let body =
            br#" [{"channel":"/a","data":{"x":[1]}},{"channel":"/meta/connect","successful":true,"id":"12",
            "ext":{"ack":9,"timesync":{}},"advice":{"interval":0,"timeout":30000,"reconnect":"retry"}}]"#;
        let replies = replies(body).unwrap();
        assert_eq!(replies[0].successful, None);
        assert_eq!((replies[1].id(), replies[1].acknowledge()), (Some(12), Some(9)));
        assert_eq!(replies[1].advice.unwrap().timeout(), Some(30_000));
        assert_eq!(
            super::replies(br#"{"channel":"/meta/connect","id":3}"#).unwrap()[0].id(),
            Some(3)
        );
    }

    #[test]
    fn an_acknowledge_extension_that_only_agrees_has_no_number() {
        let body = br#"[{"channel":"/meta/handshake","successful":true,"ext":{"ack":true}}]"#;
        assert_eq!(replies(body).unwrap()[0].acknowledge(), None);
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_beginning() {
        let error = replies(b"<html>no</html>").unwrap_err();
        assert!(error.0.contains("<html>"), "{error}");
    }
}
