//! An event between the publisher and the log.

use std::sync::Arc;
use std::time::SystemTime;

use bayeux::{ChannelName, Traits};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The subject that a session belongs to, such as `15000`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub Arc<str>);

/// Whose users and channels somebody is among: nothing crosses from one tenant to another. The empty one is the only one where
/// nobody has set up any.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(pub Arc<str>);

/// A user among those of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Whose {
    /// Among whose users.
    pub tenant: Tenant,
    /// Which one.
    pub user: UserId,
}

/// What is known of a token that was good, but not the token. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name (`jti`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<str>>,
    /// When it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<u64>,
    /// Until when it is good, with the skew that clocks are allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// Whom an event is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// The sessions of one user that subscribed to the channel, and nobody else, whatever patterns others hold.
    User(UserId),
    /// Everyone who subscribed to the channel.
    Everyone,
}

/// What a publisher hands in.
#[derive(Debug, Clone)]
pub struct Event {
    /// Among whose users and channels.
    pub tenant: Tenant,
    /// Whom it is for.
    pub audience: Audience,
    /// Where it is published.
    pub channel: ChannelName,
    /// The payload, as the validated bytes that came in.
    pub data: Box<RawValue>,
    /// The publisher's idempotency key.
    pub id: Option<Box<str>>,
    /// What goes with the payload, and how the event is delivered.
    pub traits: Traits,
}

/// What the clock on the wall says, in milliseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Longer than any subject that a directory or token would hold.
const USER_BYTES: usize = 128;

/// Longer than any customer's number or name for machines.
const TENANT_BYTES: usize = 64;

impl Tenant {
    /// Parses the name of a tenant. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > TENANT_BYTES || !text.bytes().all(is_allowed) {
            return Err(format!(
                "a tenant has 1 to {TENANT_BYTES} letters, digits, dots, hyphens and underscores"
            ));
        }
        Ok(Self(text.into()))
    }

    /// The one where nobody has set up any.
    pub fn is_only(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self("".into())
    }
}

impl UserId {
    /// Parses a subject, from a publisher or from the configuration: the same rules for both, or a user could be there whom
    /// nobody can address. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > USER_BYTES {
            return Err(format!("a user has 1 to {USER_BYTES} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err("a user has no control characters".to_owned());
        }
        Ok(Self(text.into()))
    }
}

impl std::fmt::Display for UserId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}
