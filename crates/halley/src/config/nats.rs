//! How a log on NATS is reached.

use std::path::PathBuf;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::values::{Span, bytes, password, redacted, seconds, secret, signing_secret};
use crate::log::{Credentials, Shared};

/// How a log on NATS is reached; for `log.url = "nats://…"` only.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// What its streams, buckets and subjects begin with.
    pub name: String,
    /// What operators call this node.
    pub node: String,
    /// The cookie that says so to whoever balances; nothing for none.
    pub affinity_cookie: String,
    /// On how many servers each event and record is kept.
    pub replicas: usize,
    /// How long a publisher waits at most to hear what became of an event.
    pub answer_within: Span,
    /// What is kept in memory of the newest events.
    pub recent: ByteSize,
    /// A file with a JWT and the seed of its nkey.
    pub credentials: String,
    /// The seed of an nkey.
    #[serde(serialize_with = "redacted", deserialize_with = "signing_secret")]
    pub nkey_secret: String,
    /// A user of the servers.
    pub user: String,
    /// Its password.
    #[serde(serialize_with = "redacted", deserialize_with = "password")]
    pub password: String,
    /// A token instead of a user.
    #[serde(serialize_with = "redacted", deserialize_with = "secret")]
    pub token: String,
    /// TLS is insisted on.
    pub tls: bool,
    /// A PEM file of those who vouch for the servers.
    pub ca: String,
    /// A PEM file with the certificate of this node.
    pub certificate: String,
    /// A PEM file with its key.
    pub key: String,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            name: "halley".to_owned(),
            node: "halley".to_owned(),
            affinity_cookie: String::new(),
            replicas: 3,
            answer_within: seconds(2),
            recent: ByteSize::mib(64),
            credentials: String::new(),
            nkey_secret: String::new(),
            user: String::new(),
            password: String::new(),
            token: String::new(),
            tls: false,
            ca: String::new(),
            certificate: String::new(),
            key: String::new(),
        }
    }
}

impl Nats {
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        // Part of subjects and of the names of streams, in which dots and wildcards have a meaning.
        let is_name = |text: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            (1..=32).contains(&text.len()) && text.bytes().all(allowed)
        };
        if !is_name(&self.name) {
            return Err(("name", "1 to 32 letters, digits, hyphens and underscores"));
        }
        if !is_name(&self.node) {
            return Err(("node", "1 to 32 letters, digits, hyphens and underscores"));
        }
        // Every node has this name that was not given one.
        if !self.affinity_cookie.is_empty() && self.node == Self::default().node {
            return Err((
                "node",
                "a name that no other node has, since affinity_cookie says it to the balancer",
            ));
        }
        if ![1, 3, 5].contains(&self.replicas) {
            return Err((
                "replicas",
                "1, 3 or 5: an even number survives no more than the odd one below it",
            ));
        }
        if self.answer_within.0.is_zero() {
            return Err(("answer_within", "longer than nothing"));
        }
        let ways = [&self.credentials, &self.nkey_secret, &self.user, &self.token];
        if ways.iter().filter(|way| !way.is_empty()).count() > 1 {
            return Err(("credentials", "one of credentials, nkey_secret, user and token"));
        }
        if self.password.is_empty() != self.user.is_empty() {
            return Err(("password", "a user has a password, and nobody else has one"));
        }
        if self.certificate.is_empty() != self.key.is_empty() {
            return Err(("key", "a certificate has a key, and a key its certificate"));
        }
        Ok(())
    }

    pub(super) fn shared(&self, largest_event: usize) -> Shared {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        Shared {
            name: self.name.as_str().into(),
            node: self.node.as_str().into(),
            replicas: self.replicas,
            answer_within: self.answer_within.0,
            largest_event,
            recent_bytes: bytes(self.recent),
            credentials: self.credentials(),
            tls: self.tls,
            ca: path(&self.ca),
            certificate: path(&self.certificate).zip(path(&self.key)),
        }
    }

    fn credentials(&self) -> Credentials {
        if !self.credentials.is_empty() {
            Credentials::File(self.credentials.as_str().into())
        } else if !self.nkey_secret.is_empty() {
            Credentials::NKey(self.nkey_secret.clone())
        } else if !self.user.is_empty() {
            Credentials::User(self.user.clone(), self.password.clone())
        } else if !self.token.is_empty() {
            Credentials::Token(self.token.clone())
        } else {
            Credentials::None
        }
    }
}
