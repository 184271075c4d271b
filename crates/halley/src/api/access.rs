//! Who may use the internal listener: keys, and tokens with a scope. Without either it asks nobody who they are.
//!
//! A key comes as `X-API-Key: KEY` or `Authorization: Bearer KEY`, a token as `Authorization: Bearer TOKEN`. Keys are known by
//! their digests; there may be several at once, so that one can be changed for another without a gap.
//!
//! A token's `scope` has words such as `halley:publish`, `halley:sessions` and `halley:revoke`; `halley:publish:/v2/**` allows
//! only channels of that pattern.

use bayeux::ChannelPattern;
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use tracing::warn;

use crate::auth::{AuthError, Denial, Verifier, unix_time};
use crate::config::{self, Config};
use crate::http::Reply;
use crate::ingest::Grant;
use crate::problem::Problem;

/// Who may do what here.
pub struct Access {
    keys: Vec<Key>,
    verifier: Option<Verifier>,
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Publish events.
    Publish,
    /// Look at sessions and end them.
    Sessions,
    /// Revoke users, sessions and tokens.
    Revoke,
}

struct Key {
    name: String,
    digest: [u8; 32],
    actions: Vec<Action>,
    grant: Grant,
}

/// Why there can be no such access.
#[derive(Debug, Error)]
pub enum AccessError {
    /// A key of the configuration cannot be.
    #[error("internal.keys: {0}: {1}")]
    Key(String, String),
    /// An issuer of the configuration cannot be.
    #[error("internal.issuers: {0}")]
    Issuer(AuthError),
}

/// Why somebody is turned away.
enum Refusal {
    Missing,
    Wrong,
    Expired,
    Unavailable,
    NotAllowed(String),
}

const ACTIONS: [Action; 3] = [Action::Publish, Action::Sessions, Action::Revoke];

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Sessions => "sessions",
            Self::Revoke => "revoke",
        }
    }

    fn named(name: &str) -> Option<Self> {
        ACTIONS.into_iter().find(|action| action.name() == name)
    }
}

impl Access {
    /// What the configuration says.
    pub fn new(config: &Config) -> Result<Self, AccessError> {
        let mut keys = Vec::new();
        for key in &config.internal.keys {
            let made = Key::of(key).map_err(|reason| AccessError::Key(key.name.clone(), reason))?;
            if keys.iter().any(|known: &Key| known.digest == made.digest) {
                return Err(AccessError::Key(made.name, "the key of another name".to_owned()));
            }
            keys.push(made);
        }
        let issuers = &config.internal.issuers;
        let verifier = (!issuers.is_empty())
            .then(|| Verifier::new(&config.jwt, issuers))
            .transpose()
            .map_err(AccessError::Issuer)?;
        Ok(Self { keys, verifier })
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty() && self.verifier.is_none()
    }

    /// What whoever sent these headers may publish, if the action is allowed.
    pub(super) async fn admit(&self, headers: &HeaderMap, action: Action) -> Result<Grant, Reply> {
        if self.is_open() {
            // Nobody has a name: whoever publishes is known by its address.
            return Ok(Grant::default());
        }
        let admitted = match shown(headers) {
            None => Err(Refusal::Missing),
            Some(shown) => match self.key(shown) {
                Some(key) => key.admit(action),
                None => self.admit_token(shown, action).await,
            },
        };
        admitted.map_err(|refusal| {
            warn!(
                action = action.name(),
                reason = refusal.label(),
                "a request to the internal listener is refused"
            );
            refusal.response(action)
        })
    }

    /// Every key is compared, and each in constant time: how long that takes says nothing of any.
    fn key(&self, shown: &str) -> Option<&Key> {
        let digest: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.digest.ct_eq(&digest)) {
                found = Some(key);
            }
        }
        found
    }

    async fn admit_token(&self, token: &str, action: Action) -> Result<Grant, Refusal> {
        let Some(verifier) = &self.verifier else {
            return Err(Refusal::Wrong);
        };
        let verified = verifier
            .verify(token, unix_time())
            .await
            .map_err(|denial| match denial {
                Denial::Wrong | Denial::Revoked => Refusal::Wrong,
                Denial::Expired => Refusal::Expired,
                Denial::Unavailable => Refusal::Unavailable,
            })?;
        let word = format!("halley:{}", action.name());
        let user = verified.principal.user.as_ref();
        let publisher: Box<str> = user.map_or("", |user| &user.0).into();
        if verified.scopes.contains(&word) {
            return Ok(Grant {
                publisher,
                ..Grant::default()
            });
        }
        let patterns = verified.scopes.iter().filter_map(|scope| {
            let pattern = scope.strip_prefix(&word)?.strip_prefix(':')?;
            ChannelPattern::parse(pattern).ok()
        });
        let channels: Vec<ChannelPattern> = patterns.collect();
        if action != Action::Publish || channels.is_empty() {
            return Err(Refusal::NotAllowed(format!("the token's scope has no {word}")));
        }
        Ok(Grant {
            publisher,
            channels: Some(channels),
            ..Grant::default()
        })
    }
}

impl Key {
    fn of(settings: &config::ApiKey) -> Result<Self, String> {
        let digest = parse_digest(&settings.hash).ok_or(
            "hash: the SHA-256 of the key, 64 hexadecimal digits (`printf %s \"$key\" | sha256sum`)",
        )?;
        let actions = settings
            .actions
            .iter()
            .map(|name| {
                Action::named(name)
                    .ok_or_else(|| format!("actions: {name:?} is none of publish, sessions, revoke"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let listed = |names: &[String]| {
            let is_any = names.iter().any(|name| name == "*");
            (!is_any).then(|| names.iter().map(|name| name.as_str().into()).collect())
        };
        Ok(Self {
            name: settings.name.clone(),
            digest,
            actions,
            grant: Grant {
                publisher: settings.name.as_str().into(),
                channels: Some(settings.channels.clone()),
                users: listed(&settings.users),
                tenants: listed(&settings.tenants),
            },
        })
    }

    fn admit(&self, action: Action) -> Result<Grant, Refusal> {
        if self.actions.contains(&action) {
            return Ok(self.grant.clone());
        }
        let detail = format!("the key {} may not {}", self.name, action.name());
        Err(Refusal::NotAllowed(detail))
    }
}

impl Refusal {
    fn label(&self) -> &'static str {
        match self {
            Self::Missing => "credentials_missing",
            Self::Wrong => "credentials_wrong",
            Self::Expired => "credentials_expired",
            Self::Unavailable => "credentials_unavailable",
            Self::NotAllowed(_) => "not_allowed",
        }
    }

    fn response(self, action: Action) -> Reply {
        let unauthorized = |detail: &str| {
            let title = "Credentials are needed here";
            let mut response =
                Problem::new(StatusCode::UNAUTHORIZED, "credentials", title, detail).response();
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response
        };
        match self {
            Self::Missing => {
                unauthorized("a key comes as X-API-Key, a key or token as Authorization: Bearer")
            }
            Self::Wrong => unauthorized("the key or token is not known here"),
            Self::Expired => unauthorized("the token has ended"),
            Self::Unavailable => {
                let title = "Nobody can say whether the token is good";
                let detail = "the keys of its issuer are not there yet";
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "credentials-unavailable",
                    title,
                    detail,
                )
                .retry_after(1)
                .response()
            }
            Self::NotAllowed(detail) => {
                let title = match action {
                    Action::Publish => "Publishing is not allowed",
                    Action::Sessions => "Looking after sessions is not allowed",
                    Action::Revoke => "Revoking is not allowed",
                };
                Problem::new(StatusCode::FORBIDDEN, "not-allowed", title, detail).response()
            }
        }
    }
}

fn shown(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok();
    }
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

fn parse_digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(digest)
}
