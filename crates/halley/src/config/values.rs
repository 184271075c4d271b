//! Values that are more than what TOML knows: lengths of time, sizes, secrets.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{self};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written `30s`, `15m` or `24h`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A size as a length in memory.
pub fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

/// A token of HTTP (RFC 9110, section 5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// A hundred years: more can be added to no clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(super) const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

pub(super) fn redacted<S: Serializer>(_: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("…")
}

pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_of("token", deserializer)
}

pub(super) fn signing_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_of("secret", deserializer)
}

pub(super) fn password<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_of("password", deserializer)
}

pub(super) fn pem<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_of("pem", deserializer)
}

pub(super) fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_of("hash", deserializer)
}

/// A text, or `{ file = "PATH" }` for what a file holds: secrets are mounted as files, and need not be in the configuration.
/// serde's own words for a wrong type repeat the value.
fn text_of<'de, D: Deserializer<'de>>(what: &str, deserializer: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => Ok(text),
        toml::Value::Table(table) if table.len() == 1 && table.contains_key("file") => {
            match table.get("file") {
                Some(toml::Value::String(path)) => read_secret(path).map_err(de::Error::custom),
                Some(_) | None => Err(de::Error::custom(format!(
                    "the file of a {what} is a path, in quotes"
                ))),
            }
        }
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => Err(de::Error::custom(format!(
            "a {what} is a text, in quotes, or {{ file = \"PATH\" }}"
        ))),
    }
}

/// What a file holds, without the line's end that editors put behind it.
pub(super) fn read_secret(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl fmt::Debug for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: jiff::SignedDuration = text
            .parse()
            .map_err(|_| de::Error::custom(format!("{text:?} is no length of time such as 30s or 24h")))?;
        let span = Duration::try_from(span)
            .map_err(|_| de::Error::custom(format!("{text:?} is negative, a length of time is not")))?;
        if span > LONGEST {
            return Err(de::Error::custom(format!(
                "{text:?} is longer than a hundred years"
            )));
        }
        Ok(Self(span))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}
