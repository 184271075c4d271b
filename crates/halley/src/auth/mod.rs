//! Who is asking: a kind of authenticator is a file beside this one and a line in [`ALL`].

mod anonymous;
mod cookie;
mod fixed;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bayeux::Rights;
use futures::future::BoxFuture;
use thiserror::Error;

use crate::config;
use crate::event::UserId;

pub(crate) use cookie::random_id;
pub use cookie::{Browser, Browsers};

/// One kind of authenticator: its name in `auth.kind`, and how to make it.
pub struct Kind {
    /// `static` in `auth.kind = "static"`.
    pub name: &'static str,
    /// Makes it from the configuration.
    pub make: fn(&config::Auth) -> Result<Arc<dyn Authenticator>, AuthError>,
}

/// Every kind of authenticator.
pub const ALL: &[Kind] = &[
    Kind {
        name: "anonymous",
        make: anonymous::make,
    },
    Kind {
        name: "static",
        make: fixed::make,
    },
];

/// What someone showed. Never printed.
#[derive(Clone, Default)]
pub struct Credentials {
    /// `Authorization: Bearer …`, or `ext.token` of a message.
    pub token: Option<String>,
    /// `Authorization: Basic …`, decoded.
    pub basic: Option<(String, String)>,
}

/// Who someone turned out to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// The subject; without one, only events for everyone arrive.
    pub user: Option<UserId>,
    /// What it may do beyond what everyone may: the names that rules of channels know.
    pub roles: Arc<[Box<str>]>,
}

impl Principal {
    /// What the protocol needs to know of it.
    pub fn rights(&self) -> Rights {
        Rights {
            named: self.user.is_some(),
            roles: Arc::clone(&self.roles),
        }
    }
}

/// What an authenticator makes of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This is who it is.
    Is(Principal),
    /// Nothing was shown. A handshake is refused; another request may still be known by its cookie.
    Unknown,
    /// What was shown is wrong.
    Refused,
}

/// Says who is asking.
pub trait Authenticator: Send + Sync {
    /// Judges what was shown.
    fn judge(&self, credentials: &Credentials) -> BoxFuture<'static, Verdict>;
}

/// Why an authenticator cannot be made.
#[derive(Debug, Error)]
pub enum AuthError {
    /// There is no such kind.
    #[error("auth.kind {0:?} is unknown: it is one of {1}")]
    UnknownKind(String, String),
    /// Something in `auth.users` cannot be.
    #[error("auth.users: {0}")]
    Users(String),
}

/// Makes the authenticator that the configuration names.
pub fn make(config: &config::Auth) -> Result<Arc<dyn Authenticator>, AuthError> {
    match ALL.iter().find(|kind| kind.name == config.kind) {
        Some(kind) => (kind.make)(config),
        None => {
            let known = ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
            Err(AuthError::UnknownKind(config.kind.clone(), known))
        }
    }
}

impl Credentials {
    /// Reads an `Authorization` header.
    pub fn from_header(value: Option<&str>) -> Self {
        let Some((scheme, rest)) = value.and_then(|value| value.split_once(' ')) else {
            return Self::default();
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self {
                token: Some(rest.to_owned()),
                basic: None,
            };
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return Self {
                token: None,
                basic: decode_basic(rest),
            };
        }
        Self::default()
    }

    /// A token from a message.
    pub fn from_token(token: String) -> Self {
        Self {
            token: Some(token),
            basic: None,
        }
    }
}

fn decode_basic(encoded: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
