//! Who is asking: a kind of authenticator is a file beside this one and a line in [`ALL`].

mod affinity;
mod anonymous;
mod basic;
mod cookie;
mod credentials;
mod fixed;
mod jwt;
mod proxy_headers;
mod revocations;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bayeux::Rights;
use futures::future::BoxFuture;
use thiserror::Error;

use crate::config::Config;
use crate::event::{Tenant, Token, UserId};

pub use affinity::{Affinity, Whereabouts};
pub(crate) use cookie::random_id;
pub use cookie::{Browser, Browsers};
pub use credentials::Credentials;
pub use jwt::{Verified, Verifier};
pub use revocations::Revocations;

/// One kind of authenticator: its name in `auth.kind`, and how to make it.
pub struct Kind {
    /// `static` in `auth.kind = "static"`.
    pub name: &'static str,
    /// Makes it from the configuration.
    pub make: fn(&Config) -> Result<Arc<dyn Authenticator>, AuthError>,
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
    Kind {
        name: "jwt",
        make: jwt::make,
    },
    Kind {
        name: "proxy-headers",
        make: proxy_headers::make,
    },
    Kind {
        name: "basic",
        make: basic::make,
    },
];

/// Who someone turned out to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// Whose users and channels it is among.
    pub tenant: Tenant,
    /// The subject; without one, only events for everyone arrive.
    pub user: Option<UserId>,
    /// What it may do beyond what everyone may: the names that rules of channels know.
    pub roles: Arc<[Box<str>]>,
    /// What it was known by, if that is known more closely.
    pub token: Option<Arc<Token>>,
}

impl Principal {
    /// What the protocol needs to know of it.
    pub fn rights(&self) -> Rights {
        Rights {
            named: self.user.is_some(),
            roles: Arc::clone(&self.roles),
        }
    }

    /// Until when it is known to be who it is, in seconds since 1970.
    pub fn until(&self) -> Option<u64> {
        self.token.as_ref()?.until
    }
}

/// What an authenticator makes of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This is who it is.
    Is(Principal),
    /// Nothing was shown. A handshake is refused; another request may still be known by its cookie.
    Unknown,
    /// What was shown does not count.
    Refused(Denial),
}

/// Why credentials do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// They are wrong.
    Wrong,
    /// They were good once.
    Expired,
    /// They would be good, but were revoked.
    Revoked,
    /// Nobody can say now: keys are not there yet, or too many passwords wait to be checked.
    Unavailable,
}

impl Denial {
    /// A short constant name, for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Wrong => "credentials_wrong",
            Self::Expired => "credentials_expired",
            Self::Revoked => "credentials_revoked",
            Self::Unavailable => "credentials_unavailable",
        }
    }
}

/// Says who is asking.
pub trait Authenticator: Send + Sync {
    /// Judges what was shown.
    fn judge(&self, credentials: &Credentials<'_>) -> BoxFuture<'static, Verdict>;
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
    /// An issuer of tokens cannot be.
    #[error("issuers: {0}")]
    Issuers(String),
    /// Proxies cannot be believed like that.
    #[error("proxy_headers: {0}")]
    Proxies(String),
    /// The file of users cannot be used.
    #[error("basic.file: {0}")]
    Basic(String),
}

/// Makes the authenticator that the configuration names.
pub fn make(config: &Config) -> Result<Arc<dyn Authenticator>, AuthError> {
    match ALL.iter().find(|kind| kind.name == config.auth.kind) {
        Some(kind) => (kind.make)(config),
        None => {
            let known = ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
            Err(AuthError::UnknownKind(config.auth.kind.clone(), known))
        }
    }
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
