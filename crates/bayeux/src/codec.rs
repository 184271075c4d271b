//! Bodies: a JSON array of messages, or one message alone, in; a JSON array, always, out.

use serde_json::value::RawValue;
use thiserror::Error;

use crate::message::Echo;
use crate::{Delivery, Direct, Failure, Limits, Message, Reply};

/// One element of a body: a message, or the reply to what should have been one.
pub type Decoded<'a> = Result<Message<'a>, Box<Reply>>;

/// Why a body as a whole is refused. Everything else is answered message by message.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// Not JSON. The text says what and where.
    #[error("the body is not JSON: {0}")]
    Syntax(String),
    /// JSON, but neither a message nor an array of messages.
    #[error("the body is neither a message nor an array of messages")]
    NoMessages,
    /// `[]`
    #[error("the body is an array without messages")]
    Empty,
    /// More messages than the limit.
    #[error("the body has {found} messages, more than the {limit} allowed")]
    TooMany {
        /// Messages in the body.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Nested deeper than the limit.
    #[error("the body is nested deeper than the {limit} levels allowed")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

/// Parses a body. The messages borrow from it.
pub fn decode<'a>(body: &'a [u8], limits: &Limits) -> Result<Vec<Decoded<'a>>, BodyError> {
    decode_all([body], limits)
}

/// Parses several bodies as one, in their order: together they have no more messages than one may have.
pub fn decode_all<'a>(
    bodies: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> Result<Vec<Decoded<'a>>, BodyError> {
    let mut messages = Vec::new();
    for body in bodies {
        // Two more: the array of messages, and the message around its data.
        if is_deeper(body, limits.depth + 2) {
            return Err(BodyError::TooDeep { limit: limits.depth });
        }
        messages.extend(elements(body)?);
        if messages.len() > limits.messages {
            return Err(BodyError::TooMany {
                found: messages.len(),
                limit: limits.messages,
            });
        }
    }
    if messages.is_empty() {
        return Err(BodyError::Empty);
    }
    Ok(messages
        .into_iter()
        .map(|element| decode_one(element, limits))
        .collect())
}

fn elements(body: &[u8]) -> Result<Vec<&RawValue>, BodyError> {
    let syntax = |error: serde_json::Error| BodyError::Syntax(error.to_string());
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => serde_json::from_slice(body).map_err(syntax),
        Some(b'{') => serde_json::from_slice(body)
            .map(|message| vec![message])
            .map_err(syntax),
        Some(_) | None => {
            serde_json::from_slice::<&RawValue>(body).map_err(syntax)?;
            Err(BodyError::NoMessages)
        }
    }
}

fn decode_one<'a>(raw: &'a RawValue, limits: &Limits) -> Decoded<'a> {
    Message::parse(raw, limits)
        .map_err(|(echo, failure): (Echo<'a>, Failure)| Box::new(Reply::refused(echo, failure)))
}

/// Whether arrays and objects are nested deeper than this, whether or not the text is JSON. Nothing is kept.
pub fn is_deeper(text: &[u8], levels: usize) -> bool {
    // A text with few brackets cannot be deep, and they are counted much faster than they are understood.
    memchr::memchr2_iter(b'[', b'{', text).nth(levels).is_some() && depth(text) > levels
}

fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A body under construction: messages in the order in which they are added.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Vec<u8>,
}

impl Body {
    /// Adds a reply.
    pub fn reply(&mut self, reply: &Reply) {
        self.separate();
        serde_json::to_writer(&mut self.bytes, reply).expect("a reply has nothing that JSON cannot say");
    }

    /// Adds an event.
    pub fn event(&mut self, event: &Delivery) {
        self.separate();
        self.bytes.extend_from_slice(event.message());
    }

    /// Adds a message that is no event of the log.
    pub fn direct(&mut self, message: &Direct) {
        self.separate();
        self.bytes.extend_from_slice(message.message());
    }

    /// Nothing was added.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The finished array.
    pub fn finish(mut self) -> Vec<u8> {
        if self.bytes.is_empty() {
            self.bytes.push(b'[');
        }
        self.bytes.push(b']');
        self.bytes
    }

    fn separate(&mut self) {
        self.bytes.push(if self.bytes.is_empty() { b'[' } else { b',' });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(body: &str) -> Vec<String> {
        decode(body.as_bytes(), &Limits::default())
            .unwrap()
            .into_iter()
            .map(|decoded| match decoded {
                Ok(_) => "ok".to_owned(),
                Err(reply) => serde_json::to_string(&reply).unwrap(),
            })
            .collect()
    }

    fn refusal(body: &str) -> BodyError {
        decode(body.as_bytes(), &Limits::default()).expect_err("refused")
    }

    #[test]
    fn one_message_needs_no_array() {
        assert_eq!(errors(r#"{"channel":"/meta/connect","clientId":"x"}"#), ["ok"]);
    }

    #[test]
    fn a_broken_body_says_where() {
        let BodyError::Syntax(text) = refusal(r#"[{"channel":"/a" "id":1}]"#) else {
            panic!("syntax")
        };
        assert!(text.contains("line 1 column 18"), "{text}");
    }

    #[test]
    fn no_messages_are_an_error_of_the_body() {
        assert_eq!(refusal("[]"), BodyError::Empty);
        assert_eq!(refusal("null"), BodyError::NoMessages);
        assert_eq!(refusal("7"), BodyError::NoMessages);
        assert!(matches!(refusal(""), BodyError::Syntax(_)));
    }

    #[test]
    fn a_wrong_field_fails_its_message_and_not_the_batch() {
        assert_eq!(
            errors(
                r#"[{"channel":"/meta/connect","clientId":12,"id":"a"},{"channel":7,"id":1},{"id":"b"},{"channel":"/a","id":{}},
                    {"channel":"/meta/connect","ext":"x"},{"channel":"/meta/connect","advice":"x"},
                    {"channel":"/foo//bar"},[[1]],{"channel":"/a","channel":"/b"},{"channel":"/meta/connect"}]"#
            ),
            [
                r#"{"channel":"/meta/connect","id":"a","error":"400:clientId:field_invalid","successful":false}"#,
                r#"{"id":1,"error":"405::channel_invalid","successful":false}"#,
                r#"{"id":"b","error":"400::channel_missing","successful":false}"#,
                r#"{"channel":"/a","error":"405::message_id_invalid","successful":false}"#,
                r#"{"channel":"/meta/connect","error":"400:ext:field_invalid","successful":false}"#,
                r#"{"channel":"/meta/connect","error":"400:advice:field_invalid","successful":false}"#,
                r#"{"channel":"/foo//bar","error":"405::channel_invalid","successful":false}"#,
                r#"{"error":"400::message_invalid","successful":false}"#,
                r#"{"error":"400::message_invalid","successful":false}"#,
                "ok",
            ]
        );
    }

    #[test]
    fn the_values_of_the_fields_without_their_names_are_no_message() {
        assert_eq!(
            errors(
                r#"[["/meta/connect",1,"x",null,null,null,null],{"channel":"/meta/connect","advice":[0,0]}]"#
            ),
            [
                r#"{"error":"400::message_invalid","successful":false}"#,
                r#"{"channel":"/meta/connect","error":"400:advice:field_invalid","successful":false}"#,
            ]
        );
    }

    #[test]
    fn a_look_alike_of_a_meta_channel_is_refused() {
        assert_eq!(
            errors(r#"{"channel":"/meta/subscribe/x","id":"1"}"#),
            [
                r#"{"channel":"/meta/subscribe/x","id":"1","error":"403:denied_by_security_policy:channel_create_denied","successful":false}"#
            ]
        );
    }

    #[test]
    fn too_many_messages_and_too_deep_ones_are_refused() {
        let many = format!("[{}]", vec!["{}"; 65].join(","));
        assert_eq!(refusal(&many), BodyError::TooMany { found: 65, limit: 64 });
        let deep = format!(
            r#"[{{"channel":"/a","data":{}{}}}]"#,
            "[".repeat(33),
            "]".repeat(33)
        );
        assert_eq!(refusal(&deep), BodyError::TooDeep { limit: 32 });
    }

    #[test]
    fn several_bodies_are_one_batch_within_the_limits_of_one() {
        let limits = Limits {
            messages: 3,
            ..Limits::default()
        };
        let (one, two) = (br#"{"id":1}"#.as_slice(), br#"[{"id":2},{"id":3}]"#.as_slice());
        let batch = decode_all([one, two], &limits).unwrap();
        let ids: Vec<_> = batch
            .iter()
            .map(|decoded| serde_json::to_value(decoded.as_ref().unwrap_err()).unwrap()["id"].clone())
            .collect();
        assert_eq!(ids, [1, 2, 3]);
        let refused = decode_all([two, two], &limits).unwrap_err();
        assert_eq!(refused, BodyError::TooMany { found: 4, limit: 3 });
    }

    #[test]
    fn brackets_in_texts_are_not_nesting() {
        assert_eq!(depth(br#"[{"a":"[[[\"[["}]"#), 2);
        assert!(is_deeper(br#"[{"a":"[[[\"[["}]"#, 1));
        assert!(!is_deeper(br#"[{"a":"[[[\"[["}]"#, 2));
    }
}
