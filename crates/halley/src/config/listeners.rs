//! The two listeners.

use std::fmt;
use std::net::SocketAddr;

use bayeux::ChannelPattern;
use serde::{Deserialize, Serialize};

use super::values::{digest, redacted};
use super::{Issuer, Tls};

/// The listener for clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Public {
    /// Address and port.
    pub listen: SocketAddr,
    /// Bayeux is spoken at these paths and everywhere below them.
    pub paths: Vec<String>,
    /// The transports that are spoken, in the order in which handshake replies name them.
    pub transports: Vec<String>,
    /// TLS.
    pub tls: Tls,
}

/// The listener for the voice backend and for operators. Never expose it to clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Internal {
    /// Address and port.
    pub listen: SocketAddr,
    /// Who may use it. Everyone, if there are neither keys nor issuers.
    pub keys: Vec<ApiKey>,
    /// Who issues tokens for it.
    pub issuers: Vec<Issuer>,
    /// Whose certificates open it.
    pub certificates: Vec<ApiCertificate>,
    /// TLS.
    pub tls: Tls,
}

/// A key of a backend or operator. The key itself is nowhere, only its digest.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// What logs call it.
    pub name: String,
    /// The SHA-256 of the key, in hexadecimal.
    #[serde(serialize_with = "redacted", deserialize_with = "digest")]
    pub hash: String,
    /// What it may do: `publish`, `sessions`, `revoke`, `drain`.
    #[serde(default = "ApiKey::default_actions")]
    pub actions: Vec<String>,
    /// The channels that it may publish to: patterns.
    #[serde(default = "ApiKey::default_channels")]
    pub channels: Vec<ChannelPattern>,
    /// The users that it may publish to; `*` is any user, and everyone.
    #[serde(default = "ApiKey::any")]
    pub users: Vec<String>,
    /// The tenants that it may publish to; `*` is any.
    #[serde(default = "ApiKey::any")]
    pub tenants: Vec<String>,
}

/// A certificate of a backend or operator, known by one thing of it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiCertificate {
    /// What logs call it.
    pub name: String,
    /// The SHA-256 of the certificate, in hexadecimal.
    #[serde(default)]
    pub sha256: String,
    /// A host's name in it.
    #[serde(default)]
    pub dns: String,
    /// A URI in it.
    #[serde(default)]
    pub uri: String,
    /// What it may do: `publish`, `sessions`, `revoke`, `drain`.
    #[serde(default = "ApiKey::default_actions")]
    pub actions: Vec<String>,
    /// The channels that it may publish to: patterns.
    #[serde(default = "ApiKey::default_channels")]
    pub channels: Vec<ChannelPattern>,
    /// The users that it may publish to; `*` is any user, and everyone.
    #[serde(default = "ApiKey::any")]
    pub users: Vec<String>,
    /// The tenants that it may publish to; `*` is any.
    #[serde(default = "ApiKey::any")]
    pub tenants: Vec<String>,
}

impl ApiKey {
    fn default_actions() -> Vec<String> {
        vec!["publish".to_owned()]
    }

    fn default_channels() -> Vec<ChannelPattern> {
        vec![ChannelPattern::parse("/**").expect("a constant in the grammar")]
    }

    fn any() -> Vec<String> {
        vec!["*".to_owned()]
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ApiKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Default for Public {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], 8080).into(),
            paths: vec!["/cometd".to_owned(), "/api/v2/notifications".to_owned()],
            transports: vec!["websocket".to_owned(), "long-polling".to_owned()],
            tls: Tls::default(),
        }
    }
}

impl Default for Internal {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 9090).into(),
            keys: Vec::new(),
            issuers: Vec::new(),
            certificates: Vec::new(),
            tls: Tls::default(),
        }
    }
}
