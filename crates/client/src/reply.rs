//! What a server sends: replies to our requests, and messages on channels.
//!
//! Some servers forward whatever fields a publisher put into a message, so only `channel` has to
//! have the right type; any other field of the wrong type counts as absent.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::backoff::LONGEST_WAIT;
use crate::request::MessageId;

/// One message from the server.
#[derive(Debug)]
pub(crate) enum Incoming {
    Reply(Reply),
    Published {
        channel: String,
        data: Box<RawValue>,
        ext: Option<Box<RawValue>>,
    },
}

/// The answer to a request, or (without an id) a meta message that nobody asked for.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) channel: String,
    pub(crate) id: Option<MessageId>,
    pub(crate) successful: bool,
    pub(crate) error: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) connection_types: Option<Vec<String>>,
    pub(crate) advice: Option<Advice>,
    pub(crate) ext: ReplyExt,
}

/// What the server wants of the client. Times are in milliseconds on the wire.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Advice {
    reconnect: Option<String>,
    interval: Option<i64>,
    timeout: Option<i64>,
}

/// What to do after a connect has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reconnect {
    Retry,
    Handshake,
    None,
}

/// The extensions of a reply that this client understands.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ReplyExt {
    ack: Option<serde_json::Value>,
    recovered: Option<bool>,
    first: Option<u64>,
}

/// Reads the array of messages that is one WebSocket frame or one HTTP body.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Incoming>, serde_json::Error> {
    let envelopes: Vec<Envelope<'_>> = serde_json::from_slice(bytes)?;
    Ok(envelopes.into_iter().map(Incoming::from).collect())
}

impl Reply {
    /// What the advice says, or what the error means where there is no advice.
    pub(crate) fn reconnect(&self) -> Reconnect {
        match self
            .advice
            .as_ref()
            .and_then(|advice| advice.reconnect.as_deref())
        {
            Some("none") => Reconnect::None,
            Some("handshake") => Reconnect::Handshake,
            Some("retry") => Reconnect::Retry,
            _ if self.session_unknown() => Reconnect::Handshake,
            _ => Reconnect::Retry,
        }
    }

    /// The server's error, or words for its absence.
    pub(crate) fn refusal(&self) -> String {
        self.error.clone().unwrap_or_else(|| "no reason given".to_owned())
    }

    fn session_unknown(&self) -> bool {
        !self.successful
            && self
                .error
                .as_deref()
                .is_some_and(|error| error.starts_with("402"))
    }
}

impl Advice {
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.interval.map(duration)
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout.map(duration)
    }
}

impl ReplyExt {
    /// A handshake reply confirms acknowledgements by `true` or `{"enabled":true,…}`.
    pub(crate) fn confirms_acknowledge(&self) -> bool {
        let Some(ack) = &self.ack else { return false };
        ack.as_bool() == Some(true) || ack.get("enabled").is_some_and(|enabled| enabled == true)
    }

    /// The number that a connect reply asks to be acknowledged.
    pub(crate) fn acknowledge_number(&self) -> Option<u64> {
        self.ack.as_ref().and_then(serde_json::Value::as_u64)
    }

    /// `recovered:false`, with the first offset that is still there.
    pub(crate) fn gap(&self) -> Option<Option<u64>> {
        (self.recovered == Some(false)).then_some(self.first)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    successful: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    client_id: Option<&'a RawValue>,
    #[serde(borrow)]
    supported_connection_types: Option<&'a RawValue>,
    #[serde(borrow)]
    advice: Option<&'a RawValue>,
    #[serde(borrow)]
    ext: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl From<Envelope<'_>> for Incoming {
    fn from(envelope: Envelope<'_>) -> Incoming {
        // The reply to a publish has the channel of the publish, but `successful` and no `data`.
        let answers_publish = envelope.successful.is_some() && envelope.data.is_none();
        if envelope.channel.starts_with("/meta/") || answers_publish {
            return Incoming::Reply(envelope.into_reply());
        }
        Incoming::Published {
            channel: envelope.channel.into_owned(),
            data: envelope.data.unwrap_or(RawValue::NULL).to_owned(),
            ext: envelope.ext.map(ToOwned::to_owned),
        }
    }
}

impl Envelope<'_> {
    fn into_reply(self) -> Reply {
        Reply {
            // Some servers answer a string with a number, which is the same id to us.
            id: self.id.and_then(|id| id.get().trim_matches('"').parse().ok()),
            successful: read(self.successful).unwrap_or(false),
            error: read(self.error),
            client_id: read(self.client_id),
            connection_types: read(self.supported_connection_types),
            advice: read(self.advice),
            ext: read(self.ext).unwrap_or_default(),
            channel: self.channel.into_owned(),
        }
    }
}

fn read<'a, T: Deserialize<'a>>(field: Option<&'a RawValue>) -> Option<T> {
    field.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

fn duration(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(json: &str) -> Reply {
        match decode(format!("[{json}]").as_bytes()).unwrap().remove(0) {
            Incoming::Reply(reply) => reply,
            Incoming::Published { channel, .. } => panic!("a message on {channel}"),
        }
    }

    fn is_published(json: &str) -> bool {
        matches!(
            decode(format!("[{json}]").as_bytes()).unwrap()[0],
            Incoming::Published { .. }
        )
    }

    #[test]
    fn an_id_is_the_same_as_a_string_and_as_a_number() {
        let ids = [
            r#"{"channel":"/meta/connect","id":"7"}"#,
            r#"{"channel":"/meta/connect","id":7}"#,
        ];
        assert_eq!(ids.map(|json| reply(json).id), [Some(7), Some(7)]);
    }

    #[test]
    fn a_message_with_data_is_published_even_if_its_publisher_added_successful() {
        assert!(is_published(r#"{"channel":"/a","successful":true,"data":1}"#));
    }

    #[test]
    fn a_message_without_data_is_published() {
        assert!(is_published(r#"{"channel":"/a"}"#));
    }

    #[test]
    fn successful_without_data_answers_a_publish() {
        assert!(reply(r#"{"channel":"/a","id":"1","successful":true}"#).successful);
    }

    #[test]
    fn fields_of_the_wrong_type_count_as_absent() {
        let reply = reply(r#"{"channel":"/meta/connect","successful":true,"advice":"none","ext":7,"id":{}}"#);
        assert!(reply.successful && reply.id.is_none() && reply.advice.is_none());
    }

    #[test]
    fn a_message_is_published_whatever_its_publisher_put_beside_the_data() {
        assert!(is_published(
            r#"{"channel":"/a","data":1,"advice":"none","ext":7,"id":{}}"#
        ));
    }

    #[test]
    fn data_keeps_the_bytes_that_the_server_sent() {
        let incoming = decode(br#"[{"channel":"/a","data":{"b" : 1.0}}]"#)
            .unwrap()
            .remove(0);
        let Incoming::Published { data, .. } = incoming else {
            panic!("a reply")
        };
        assert_eq!(data.get(), r#"{"b" : 1.0}"#);
    }

    #[test]
    fn error_402_without_advice_means_handshake() {
        let reply = reply(r#"{"channel":"/meta/connect","successful":false,"error":"402::session_unknown"}"#);
        assert_eq!(reply.reconnect(), Reconnect::Handshake);
    }

    #[test]
    fn advice_is_stronger_than_the_error() {
        let reply = reply(r#"{"channel":"/meta/connect","error":"402::gone","advice":{"reconnect":"none"}}"#);
        assert_eq!(reply.reconnect(), Reconnect::None);
    }

    #[test]
    fn acknowledge_is_confirmed_by_true_or_by_enabled() {
        let confirmed = [
            "true",
            r#"{"enabled":true,"batch":3}"#,
            "false",
            r#"{"enabled":false}"#,
        ]
        .map(|ack| {
            reply(&format!(
                r#"{{"channel":"/meta/handshake","ext":{{"ack":{ack}}}}}"#
            ))
        })
        .map(|reply| reply.ext.confirms_acknowledge());
        assert_eq!(confirmed, [true, true, false, false]);
    }

    #[test]
    fn a_negative_interval_is_no_interval() {
        let reply = reply(r#"{"channel":"/meta/connect","advice":{"interval":-1}}"#);
        assert_eq!(reply.advice.unwrap().interval(), Some(Duration::ZERO));
    }
}
