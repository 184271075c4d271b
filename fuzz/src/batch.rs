//! Bodies: whatever bytes come in, each message is parsed or answered, and what goes out is JSON that says the same.
//!
//! The input is the body. It is read twice: with the limits of the configuration, and with limits so low that an input of
//! a few bytes meets them.

use std::collections::HashMap;

use bayeux::codec::{self, Body, BodyError, Decoded};
use bayeux::{ChannelName, Delivery, Failure, Limits, Message, Offset, Reply, Target as Asked};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::Target;
use crate::json::{Fields, depth};

/// Decoding of bodies, and encoding of what they lead to.
pub const TARGET: Target = Target {
    name: "batch",
    run,
    show: crate::show_text,
};

fn run(body: &[u8]) {
    check(body, &Limits::default());
    let low = Limits {
        messages: 3,
        depth: 2,
        channel_bytes: 24,
        channel_segments: 3,
        id_bytes: 5,
        ..Limits::default()
    };
    check(body, &low);
}

fn check(body: &[u8], limits: &Limits) {
    let elements = Elements::of(body);
    match (codec::decode(body, limits), elements) {
        (Ok(decoded), Some(Elements::Messages(elements))) => {
            assert_eq!(decoded.len(), elements.len(), "messages");
            assert!(
                (1..=limits.messages).contains(&decoded.len()),
                "{} messages",
                decoded.len()
            );
            assert!(depth(body) <= limits.depth + 2, "{} levels", depth(body));
            check_messages(&decoded, &elements, limits);
        }
        (Ok(_), elements) => panic!("taken for messages: {elements:?}"),
        (Err(BodyError::Syntax(text)), elements) => assert!(elements.is_none(), "it is JSON: {text}"),
        (Err(BodyError::NoMessages), elements) => {
            assert!(matches!(elements, Some(Elements::None)), "{elements:?}")
        }
        (Err(BodyError::Empty), elements) => {
            assert!(
                matches!(&elements, Some(Elements::Messages(none)) if none.is_empty()),
                "{elements:?}"
            );
        }
        (Err(BodyError::TooMany { found, limit }), elements) => {
            assert!(
                matches!(&elements, Some(Elements::Messages(many)) if many.len() == found),
                "{elements:?}"
            );
            assert!(found > limit && limit == limits.messages);
        }
        (Err(BodyError::TooDeep { limit }), elements) => {
            assert_eq!(limit, limits.depth);
            assert!(
                elements.is_none() || depth(body) > limit + 2,
                "{} levels",
                depth(body)
            );
        }
    }
}

/// The body as serde_json and nothing else reads it.
#[derive(Debug)]
enum Elements<'a> {
    Messages(Vec<&'a RawValue>),
    /// JSON, but neither an object nor an array.
    None,
}

impl<'a> Elements<'a> {
    fn of(body: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Some(match text.trim_start().as_bytes().first() {
            Some(b'[') => Self::Messages(serde_json::from_str(text).expect("an array")),
            Some(b'{') => Self::Messages(vec![serde_json::from_str(text).expect("an object")]),
            Some(_) | None => Self::None,
        })
    }
}

/// Each message was parsed or answered, in its place, and what its reply repeats is what it said.
fn check_messages(decoded: &[Decoded<'_>], elements: &[&RawValue], limits: &Limits) {
    let mut body = Body::default();
    for (decoded, raw) in decoded.iter().zip(elements) {
        match decoded {
            Ok(message) => {
                check_message(message, raw, limits);
                body.reply(&Reply::failure(message, Failure::SessionUnknown));
            }
            Err(reply) => {
                assert!(!reply.is_successful());
                body.reply(reply);
            }
        }
    }
    let encoded = body.finish();
    let replies: Vec<&RawValue> = serde_json::from_slice(&encoded).expect("replies are JSON");
    assert_eq!(replies.len(), decoded.len(), "each message has one reply");
    for ((decoded, raw), reply) in decoded.iter().zip(elements).zip(replies) {
        check_reply(decoded.is_ok(), raw, reply);
    }
}

fn check_message(message: &Message<'_>, raw: &RawValue, limits: &Limits) {
    let said = Fields::of(raw).expect("a message is an object");
    assert_eq!(
        message.data.map(RawValue::get),
        said.one("data"),
        "data, byte for byte"
    );
    assert_eq!(message.client_id.as_deref(), said.text("clientId").as_deref());
    let channel = said.text("channel").expect("a message has a channel");
    assert!(channel.len() <= limits.channel_bytes, "{channel}");
    let meta = |asked: &Asked| match asked {
        Asked::Handshake => Some("/meta/handshake"),
        Asked::Connect => Some("/meta/connect"),
        Asked::Subscribe => Some("/meta/subscribe"),
        Asked::Unsubscribe => Some("/meta/unsubscribe"),
        Asked::Disconnect => Some("/meta/disconnect"),
        Asked::Service(_) | Asked::Publish(_) => None,
    };
    match (&message.target, meta(&message.target)) {
        (_, Some(meta)) => assert_eq!(channel, meta),
        (Asked::Publish(name), _) => check_delivery(name, message.data),
        (other, None) => {
            let name = ChannelName::parse(&channel).expect("a channel");
            assert_eq!(name.kind(), bayeux::ChannelKind::Service, "{other:?}");
        }
    }
    let said_ext: HashMap<String, &RawValue> = said
        .one("ext")
        .filter(|ext| *ext != "null")
        .map(|ext| serde_json::from_str(ext).expect("ext is an object"))
        .unwrap_or_default();
    assert_eq!(message.ext.len(), said_ext.len());
    for (name, value) in &said_ext {
        assert_eq!(
            message.ext.get(name.as_str()).map(|value| value.get()),
            Some(value.get()),
            "{name}"
        );
    }
}

/// What its subscribers get of a publish: JSON, with the data as it came.
fn check_delivery(name: &ChannelName, data: Option<&RawValue>) {
    let data = data.unwrap_or(RawValue::NULL);
    let delivery = Delivery::encode(Offset(1), name.clone(), data);
    let mut body = Body::default();
    body.event(&delivery);
    body.event(&delivery);
    let encoded = body.finish();
    let events: Vec<&RawValue> = serde_json::from_slice(&encoded).expect("events are JSON");
    assert_eq!(events.len(), 2);
    for event in events {
        let got = Fields::of(event).expect("an event is an object");
        assert_eq!(got.names(), ["channel", "data"]);
        assert_eq!(got.text("channel").as_deref(), Some(name.as_str()));
        assert_eq!(got.one("data"), Some(data.get()), "data, byte for byte");
    }
    let alone: Vec<&RawValue> = serde_json::from_slice(delivery.frame()).expect("a frame is JSON");
    assert_eq!(alone.len(), 1);
}

/// A refusal that a client can match with what it sent.
fn check_reply(parsed: bool, raw: &RawValue, reply: &RawValue) {
    let got = Fields::of(reply).expect("a reply is an object");
    assert_eq!(got.one("successful"), Some("false"), "{reply}");
    let error = got.text("error").expect("a refusal says why");
    let (code, _) = error.split_once(':').expect("a code and a colon");
    assert!(
        code.len() == 3 && code.bytes().all(|digit| digit.is_ascii_digit()),
        "{error}"
    );
    let Some(said) = Fields::of(raw) else {
        assert_eq!(error, "400::message_invalid");
        return;
    };
    for field in ["id", "channel", "subscription"] {
        let echoed = got.one(field);
        let is_echoed = parsed || echoed.is_some();
        let said = said.one(field).filter(|said| *said != "null");
        assert!(
            !is_echoed || echoed == said,
            "{field} came as {said:?} and went as {echoed:?}"
        );
    }
    if let Some(id) = said.one("id").filter(|id| id.starts_with('"'))
        && error != "400::message_invalid"
        && error != "405::message_id_invalid"
    {
        assert_eq!(got.one("id"), Some(id), "a client waits for this id");
    }
}
