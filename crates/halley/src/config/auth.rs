//! Who is asking.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::Config;
use super::network::Network;
use super::values::{Span, is_token, pem, redacted, seconds, secret, signing_secret};

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// `anonymous`, `static`, `jwt`, `proxy-headers` or `basic`.
    pub kind: String,
    /// The users of `static`.
    pub users: Vec<User>,
    /// The cookie that may carry a token; none if it is empty.
    pub cookie: String,
    /// The parameter of a WebSocket's URL that may carry a token; none if it is empty.
    pub query_parameter: String,
    /// How long before its credentials end a session is told so; never if it is zero.
    pub warning: Span,
}

/// One user of `static`.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The subject, to whom events are addressed.
    pub user: String,
    /// `Authorization: Bearer TOKEN`, or Basic with the user's name and the token, or `ext.token`.
    #[serde(serialize_with = "redacted", deserialize_with = "secret")]
    pub token: String,
    /// What the user may do beyond what everyone may: names that rules of channels know.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// Tokens of `jwt`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// How far the clocks of issuers may be off.
    pub skew: Span,
    /// Tokens that are good for longer are refused.
    pub max_lifetime: Span,
    /// The longest token.
    pub token_bytes: ByteSize,
    /// Who issues tokens for clients.
    pub issuers: Vec<Issuer>,
    /// How old fetched keys may be before they are fetched again.
    pub jwks_refresh: Span,
    /// The least time between two fetches of one issuer.
    pub jwks_min_interval: Span,
    /// How long a fetch may take.
    pub jwks_timeout: Span,
}

/// Who issues tokens, by which keys they are known, and what they say.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Their `iss`, exactly.
    pub issuer: String,
    /// Their `aud` names one of these.
    pub audience: Vec<String>,
    /// Keys that are known in advance.
    #[serde(default)]
    pub keys: Vec<JwtKey>,
    /// Where the issuer publishes its keys; nowhere if it is empty.
    #[serde(default)]
    pub jwks_url: String,
    /// What keys from there may be used with.
    #[serde(default = "Issuer::default_algorithms")]
    pub algorithms: Vec<String>,
    /// The claim with the user: a name, or a JSON pointer that begins with a slash.
    #[serde(default = "Issuer::default_user")]
    pub user: String,
    /// The claim with the tenant; no tenant if it is empty.
    #[serde(default)]
    pub tenant: String,
    /// The claim with the roles: a list, or a text with spaces between them. None if it is empty.
    #[serde(default = "Issuer::default_roles")]
    pub roles: String,
}

/// A key, and the one algorithm that it is used with.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JwtKey {
    /// `HS256`, `RS256`, `ES256`, `EdDSA` and their like.
    pub algorithm: String,
    /// The `kid` of tokens that are signed with it; empty for those without one.
    #[serde(default)]
    pub id: String,
    /// The secret of an `HS…` key.
    #[serde(
        default,
        serialize_with = "redacted",
        deserialize_with = "signing_secret",
        skip_serializing_if = "String::is_empty"
    )]
    pub secret: String,
    /// The public key of any other, in PEM.
    #[serde(
        default,
        serialize_with = "redacted",
        deserialize_with = "pem",
        skip_serializing_if = "String::is_empty"
    )]
    pub pem: String,
}

/// Users whom a proxy has already asked who they are.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyHeaders {
    /// The addresses of proxies, or networks such as `10.0.0.0/8`.
    pub peers: Vec<Network>,
    /// The header with the user.
    pub user: String,
    /// The header with the tenant; no tenant if it is empty.
    pub tenant: String,
    /// The header with the roles, with commas between them; none if it is empty.
    pub roles: String,
}

/// Users with passwords in a file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Basic {
    /// The file: `user:hash` or `user:hash:role,role` in each line.
    pub file: String,
    /// Passwords that are checked at once.
    pub concurrency: usize,
    /// Passwords that wait for that; more are answered that the broker is busy.
    pub queue: usize,
    /// How long a password that was right is not checked again.
    pub remember: Span,
    /// How many are remembered.
    pub remembered: usize,
}

impl Issuer {
    fn default_algorithms() -> Vec<String> {
        ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec()
    }

    fn default_user() -> String {
        "sub".to_owned()
    }

    fn default_roles() -> String {
        "roles".to_owned()
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            kind: "anonymous".to_owned(),
            users: Vec::new(),
            cookie: String::new(),
            query_parameter: String::new(),
            warning: seconds(0),
        }
    }
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            skew: seconds(60),
            max_lifetime: seconds(24 * 3600),
            token_bytes: ByteSize::kib(8),
            issuers: Vec::new(),
            jwks_refresh: seconds(300),
            jwks_min_interval: seconds(30),
            jwks_timeout: seconds(5),
        }
    }
}

impl Default for ProxyHeaders {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            user: "X-Halley-User".to_owned(),
            tenant: String::new(),
            roles: String::new(),
        }
    }
}

impl Default for Basic {
    fn default() -> Self {
        Self {
            file: String::new(),
            concurrency: 2,
            queue: 1000,
            remember: seconds(300),
            remembered: 10_000,
        }
    }
}

impl Config {
    /// What can be known to be wrong before anybody asks.
    pub(super) fn check_identity(&self) -> Result<(), (&'static str, String)> {
        let wrong = |key, reason: &str| Err((key, reason.to_owned()));
        for (key, name) in [
            ("auth.cookie", &self.auth.cookie),
            ("auth.query_parameter", &self.auth.query_parameter),
            ("proxy_headers.tenant", &self.proxy_headers.tenant),
            ("proxy_headers.roles", &self.proxy_headers.roles),
        ] {
            if !name.is_empty() && !is_token(name) {
                return wrong(key, "a name without spaces and signs, or nothing");
            }
        }
        if !is_token(&self.proxy_headers.user) {
            return wrong("proxy_headers.user", "the name of a header");
        }
        if !self.auth.cookie.is_empty() && self.auth.cookie == self.browser_cookie.name {
            return wrong("auth.cookie", "another cookie than that of the browser");
        }
        if self.jwt.skew.0 > Duration::from_secs(300) {
            return wrong(
                "jwt.skew",
                "at most 5m: a token that has ended is good for as long",
            );
        }
        if self.jwt.jwks_min_interval.0.is_zero() || self.jwt.jwks_refresh.0 < self.jwt.jwks_min_interval.0 {
            return wrong(
                "jwt.jwks_min_interval",
                "longer than nothing, and not longer than jwks_refresh",
            );
        }
        if self.basic.concurrency == 0 || self.basic.queue == 0 || self.basic.remembered == 0 {
            return wrong("basic", "concurrency, queue and remembered are at least 1");
        }
        Ok(())
    }
}

impl fmt::Debug for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("User")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Issuer")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JwtKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
