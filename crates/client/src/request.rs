//! What a client sends: one Bayeux message, and the ids by which its answer is known.

use serde::Serialize;
use serde_json::value::RawValue;

pub(crate) const HANDSHAKE: &str = "/meta/handshake";
pub(crate) const CONNECT: &str = "/meta/connect";
pub(crate) const SUBSCRIBE: &str = "/meta/subscribe";
pub(crate) const UNSUBSCRIBE: &str = "/meta/unsubscribe";
pub(crate) const DISCONNECT: &str = "/meta/disconnect";

/// The number of a request, never used twice by a client. On the wire it is a string.
pub(crate) type MessageId = u64;

/// One message to the server. Fields that a kind of message does not have are `None`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    #[serde(serialize_with = "as_string")]
    pub(crate) id: MessageId,
    pub(crate) channel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) minimum_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) supported_connection_types: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subscription: Option<Subscription>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<RequestAdvice>,
    #[serde(skip_serializing_if = "RequestExt::is_empty")]
    pub(crate) ext: RequestExt,
}

/// What a client may ask of a connect: `timeout:0` means "answer at once".
#[derive(Debug, Serialize)]
pub(crate) struct RequestAdvice {
    pub(crate) timeout: u64,
}

/// The extensions that this client speaks.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RequestExt {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ack: Option<Acknowledge>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

/// `ext.ack`: a wish in the handshake, afterwards the last number received.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Acknowledge {
    Wanted(bool),
    Received(u64),
}

/// One channel is written as a string, which every server understands; several as an array.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Subscription {
    One(String),
    Several(Vec<String>),
}

impl From<Vec<String>> for Subscription {
    fn from(channels: Vec<String>) -> Subscription {
        match <[String; 1]>::try_from(channels) {
            Ok([channel]) => Subscription::One(channel),
            Err(channels) => Subscription::Several(channels),
        }
    }
}

impl RequestExt {
    fn is_empty(&self) -> bool {
        self.ack.is_none() && self.token.is_none()
    }
}

impl Request {
    /// What a refusal of this request is about, in the words of the caller.
    pub(crate) fn subject(&self) -> String {
        match &self.subscription {
            Some(Subscription::One(channel)) => channel.clone(),
            Some(Subscription::Several(channels)) => channels.join(","),
            None => self.channel.clone(),
        }
    }
}

/// A batch as it goes over the wire: always an array.
pub(crate) fn encode(batch: &[Request]) -> String {
    serde_json::to_string(batch).expect("strings, numbers and checked JSON always have a JSON form")
}

fn as_string<S: serde::Serializer>(id: &MessageId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_only_the_fields_it_has() {
        let request = Request {
            id: 7,
            channel: CONNECT.into(),
            ..Request::default()
        };
        assert_eq!(encode(&[request]), r#"[{"id":"7","channel":"/meta/connect"}]"#);
    }

    #[test]
    fn one_channel_is_subscribed_as_a_string() {
        let subscription = Subscription::from(vec!["/a".to_owned()]);
        assert_eq!(serde_json::to_string(&subscription).unwrap(), r#""/a""#);
    }

    #[test]
    fn several_channels_are_subscribed_as_an_array() {
        let subscription = Subscription::from(vec!["/a".to_owned(), "/b".to_owned()]);
        assert_eq!(serde_json::to_string(&subscription).unwrap(), r#"["/a","/b"]"#);
    }
}
