//! Who may use the internal listener: keys, tokens with a scope, and certificates. Without any it asks nobody who they are.
//!
//! A key comes as `X-API-Key: KEY` or `Authorization: Bearer KEY`, a token as `Authorization: Bearer TOKEN`. Keys are known by
//! their digests; there may be several at once, so that one can be changed for another without a gap.
//!
//! A certificate counts where neither a key nor a token comes along. It is known by its digest or by one of the names in it; that
//! it was issued by somebody who may, TLS has seen to.
//!
//! A token's `scope` has words such as `halley:publish`, `halley:sessions`, `halley:revoke` and `halley:drain`;
//! `halley:publish:/v2/**` allows only channels of that pattern.

use bayeux::ChannelPattern;
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use tracing::warn;

use crate::auth::{AuthError, Denial, Verifier, unix_time};
use crate::config::{self, ClientCertificates, Config};
use crate::http::{Certificate, Reply};
use crate::ingest::Grant;
use crate::problem::Problem;

/// Who may do what here.
pub struct Access {
    keys: Vec<Key>,
    certificates: Vec<(Mark, Holder)>,
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
    /// Let all clients go and end.
    Drain,
}

struct Key {
    digest: [u8; 32],
    holder: Holder,
}

/// By what a certificate is known.
#[derive(PartialEq, Eq)]
enum Mark {
    Sha256([u8; 32]),
    Dns(String),
    Uri(String),
}

/// Whoever has a key or a certificate.
struct Holder {
    name: String,
    actions: Vec<Action>,
    grant: Grant,
}

/// What the configuration says of one of them.
struct Rights<'a> {
    actions: &'a [String],
    channels: &'a [ChannelPattern],
    users: &'a [String],
    tenants: &'a [String],
}

/// Why there can be no such access.
#[derive(Debug, Error)]
pub enum AccessError {
    /// A key of the configuration cannot be.
    #[error("internal.keys: {0}: {1}")]
    Key(String, String),
    /// A certificate of the configuration cannot be.
    #[error("internal.certificates: {0}: {1}")]
    Certificate(String, String),
    /// An issuer of the configuration cannot be.
    #[error("internal.issuers: {0}")]
    Issuer(AuthError),
}

/// Why somebody is turned away.
enum Refusal {
    Missing,
    /// A certificate that is good, and of nobody here.
    Stranger,
    Wrong,
    Expired,
    Unavailable,
    NotAllowed(String),
}

const ACTIONS: [Action; 4] = [Action::Publish, Action::Sessions, Action::Revoke, Action::Drain];

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Sessions => "sessions",
            Self::Revoke => "revoke",
            Self::Drain => "drain",
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
                let reason = "the key of another name".to_owned();
                return Err(AccessError::Key(key.name.clone(), reason));
            }
            keys.push(made);
        }
        let certificates = known_certificates(config)?;
        let issuers = &config.internal.issuers;
        let verifier = (!issuers.is_empty())
            .then(|| Verifier::new(&config.jwt, issuers))
            .transpose()
            .map_err(AccessError::Issuer)?;
        Ok(Self {
            keys,
            certificates,
            verifier,
        })
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty() && self.certificates.is_empty() && self.verifier.is_none()
    }

    /// What whoever sent these headers over a connection with this certificate may publish, if the action is allowed.
    pub(super) async fn admit(
        &self,
        headers: &HeaderMap,
        certificate: Option<&Certificate>,
        action: Action,
    ) -> Result<Grant, Reply> {
        if self.is_open() {
            // Nobody has a name: whoever publishes is known by its address.
            return Ok(Grant::default());
        }
        let admitted = match shown(headers) {
            None => match certificate.map(|certificate| self.holder(certificate)) {
                None => Err(Refusal::Missing),
                Some(None) => Err(Refusal::Stranger),
                Some(Some(holder)) => holder.admit(action),
            },
            Some(shown) => match self.key(shown) {
                Some(key) => key.holder.admit(action),
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

    fn holder(&self, certificate: &Certificate) -> Option<&Holder> {
        let known = self.certificates.iter().find(|(mark, _)| mark.is_of(certificate));
        known.map(|(_, holder)| holder)
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
        let rights = Rights {
            actions: &settings.actions,
            channels: &settings.channels,
            users: &settings.users,
            tenants: &settings.tenants,
        };
        Ok(Self {
            digest,
            holder: Holder::of(&settings.name, &rights)?,
        })
    }
}

fn known_certificates(config: &Config) -> Result<Vec<(Mark, Holder)>, AccessError> {
    let mut known: Vec<(Mark, Holder)> = Vec::new();
    for settings in &config.internal.certificates {
        let wrong = |reason| AccessError::Certificate(settings.name.clone(), reason);
        if config.internal.tls.client_certificates == ClientCertificates::None {
            return Err(wrong(
                "nobody is asked for one: set internal.tls.client_certificates".to_owned(),
            ));
        }
        let mark = Mark::of(settings).map_err(wrong)?;
        if known.iter().any(|(other, _)| *other == mark) {
            return Err(wrong("the certificate of another name".to_owned()));
        }
        let rights = Rights {
            actions: &settings.actions,
            channels: &settings.channels,
            users: &settings.users,
            tenants: &settings.tenants,
        };
        known.push((mark, Holder::of(&settings.name, &rights).map_err(wrong)?));
    }
    Ok(known)
}

impl Mark {
    fn of(settings: &config::ApiCertificate) -> Result<Self, String> {
        let config::ApiCertificate { sha256, dns, uri, .. } = settings;
        match (sha256.is_empty(), dns.is_empty(), uri.is_empty()) {
            (false, true, true) => {
                // As openssl prints it, too.
                let digest = parse_digest(&sha256.replace(':', "")).ok_or(
                    "sha256: of the certificate, 64 hexadecimal digits (`openssl x509 -noout -fingerprint -sha256 -in FILE`)",
                )?;
                Ok(Self::Sha256(digest))
            }
            (true, false, true) => Ok(Self::Dns(dns.to_ascii_lowercase())),
            (true, true, false) => Ok(Self::Uri(uri.clone())),
            _ => Err("it is known by one of sha256, dns and uri".to_owned()),
        }
    }

    fn is_of(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Sha256(digest) => certificate.sha256 == *digest,
            Self::Dns(name) => certificate.dns.contains(name),
            Self::Uri(name) => certificate.uris.contains(name),
        }
    }
}

impl Holder {
    fn of(name: &str, rights: &Rights<'_>) -> Result<Self, String> {
        let named = |name: &String| {
            Action::named(name)
                .ok_or_else(|| format!("actions: {name:?} is none of publish, sessions, revoke, drain"))
        };
        let listed = |names: &[String]| {
            let is_any = names.iter().any(|name| name == "*");
            (!is_any).then(|| names.iter().map(|name| name.as_str().into()).collect())
        };
        Ok(Self {
            name: name.to_owned(),
            actions: rights.actions.iter().map(named).collect::<Result<_, _>>()?,
            grant: Grant {
                publisher: name.into(),
                channels: Some(rights.channels.to_vec()),
                users: listed(rights.users),
                tenants: listed(rights.tenants),
            },
        })
    }

    fn admit(&self, action: Action) -> Result<Grant, Refusal> {
        if self.actions.contains(&action) {
            return Ok(self.grant.clone());
        }
        let detail = format!("{} may not {}", self.name, action.name());
        Err(Refusal::NotAllowed(detail))
    }
}

impl Refusal {
    fn label(&self) -> &'static str {
        match self {
            Self::Missing => "credentials_missing",
            Self::Stranger => "certificate_unknown",
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
            Self::Stranger => unauthorized("the certificate is not known here, and there is no key or token"),
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
                    Action::Drain => "Ending the broker is not allowed",
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
