//! `jwt`: signed tokens (RFC 7519), judged as RFC 8725 asks.
//!
//! - [`keys`]: a key is used with the algorithms that the configuration pins to it, whatever a token says of itself;
//! - [`jwks`]: keys that an issuer publishes, fetched and kept;
//! - [`claims`]: what a token must say, typed, and what is made of it.
//!
//! Of a token's header only `alg` and `kid` are looked at, and `kid` only among keys that are known. Nothing is ever fetched
//! from where a token says.

mod claims;
mod jwks;
mod keys;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::{BoxFuture, ready};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value;

use super::{AuthError, Authenticator, Credentials, Denial, Principal, Verdict, unix_time};
use crate::config::{self, Config};
use claims::Claims;
use jwks::{Fetching, Jwks};
use keys::Key;

struct Jwt(Arc<Verifier>);

pub(super) fn make(config: &Config) -> Result<Arc<dyn Authenticator>, AuthError> {
    if config.jwt.issuers.is_empty() {
        return Err(AuthError::Issuers(
            "jwt.issuers is empty, so nobody could ever connect".to_owned(),
        ));
    }
    let verifier = Verifier::new(&config.jwt, &config.jwt.issuers)?;
    verifier.warm_up();
    Ok(Arc::new(Jwt(Arc::new(verifier))))
}

impl Authenticator for Jwt {
    fn judge(&self, credentials: &Credentials<'_>) -> BoxFuture<'static, Verdict> {
        let Some(token) = credentials.token.clone() else {
            return Box::pin(ready(match credentials.basic {
                Some(_) => Verdict::Refused(Denial::Wrong),
                None => Verdict::Unknown,
            }));
        };
        let verifier = Arc::clone(&self.0);
        Box::pin(async move {
            match verifier.verify(&token, unix_time()).await {
                Ok(verified) => Verdict::Is(verified.principal),
                Err(denial) => Verdict::Refused(denial),
            }
        })
    }
}

/// Judges tokens of several issuers.
pub struct Verifier {
    issuer_by_name: HashMap<String, Issuer>,
    skew: u64,
    max_lifetime: u64,
    token_bytes: usize,
}

/// What a token proved.
#[derive(Debug)]
pub struct Verified {
    /// Who shows it.
    pub principal: Principal,
    /// What it may be used for: the words of `scope` (RFC 8693, 4.2).
    pub scopes: Vec<String>,
}

struct Issuer {
    settings: config::Issuer,
    keys: Vec<Key>,
    jwks: Option<Arc<Jwks>>,
}

/// The part of a token's header that is looked at. A field that is there twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// A token in its parts, nothing of it believed yet.
struct Parts<'a> {
    header: Header,
    algorithm: Algorithm,
    claims: Claims,
    /// What is signed.
    message: &'a str,
    signature: &'a str,
}

/// The longest `kid`.
const KID_BYTES: usize = 64;

impl Verifier {
    /// Judges tokens of these issuers.
    pub fn new(settings: &config::Jwt, issuers: &[config::Issuer]) -> Result<Self, AuthError> {
        // There may be one already, and it is the same.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let fetching = Fetching::of(settings);
        let mut issuer_by_name = HashMap::new();
        for issuer in issuers {
            let name = issuer.issuer.clone();
            let made = Issuer::new(issuer, &fetching)
                .map_err(|reason| AuthError::Issuers(format!("{name:?}: {reason}")))?;
            if issuer_by_name.insert(name.clone(), made).is_some() {
                return Err(AuthError::Issuers(format!("{name:?} is there twice")));
            }
        }
        Ok(Self {
            issuer_by_name,
            skew: settings.skew.0.as_secs(),
            max_lifetime: settings.max_lifetime.0.as_secs(),
            token_bytes: config::bytes(settings.token_bytes),
        })
    }

    /// Fetches what is published, so that the first client need not wait.
    pub fn warm_up(&self) {
        for jwks in self
            .issuer_by_name
            .values()
            .filter_map(|issuer| issuer.jwks.as_ref())
        {
            jwks.refresh_in_background();
        }
    }

    /// What a token proves at `now`, in seconds since 1970.
    pub async fn verify(&self, token: &str, now: u64) -> Result<Verified, Denial> {
        if token.len() > self.token_bytes {
            return Err(Denial::Wrong);
        }
        let parts = Parts::of(token).ok_or(Denial::Wrong)?;
        let issuer = self.issuer_by_name.get(&parts.claims.iss).ok_or(Denial::Wrong)?;
        issuer.check_signature(&parts).await?;
        let until = parts.claims.check_times(now, self.skew, self.max_lifetime)?;
        parts.claims.prove(&issuer.settings, until)
    }
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        // `none`, in whatever case, is no algorithm of this enum.
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let algorithm = header.alg.parse().ok()?;
        if header.crit.is_some() || header.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES) {
            return None;
        }
        Some(Self {
            header,
            algorithm,
            claims: Claims::parse(&URL_SAFE_NO_PAD.decode(claims).ok()?)?,
            message,
            signature,
        })
    }
}

impl Issuer {
    fn new(settings: &config::Issuer, fetching: &Fetching) -> Result<Self, String> {
        if settings.issuer.is_empty() || settings.audience.iter().all(String::is_empty) {
            return Err("issuer and audience say who signs tokens, and for whom".to_owned());
        }
        let keys = settings.keys.iter().map(Key::of).collect::<Result<Vec<_>, _>>()?;
        let jwks = match settings.jwks_url.as_str() {
            "" => None,
            url => Some(Arc::new(Jwks::new(url, &settings.algorithms, fetching)?)),
        };
        if keys.is_empty() && jwks.is_none() {
            return Err("without keys and jwks_url no token could be checked".to_owned());
        }
        Ok(Self {
            settings: settings.clone(),
            keys,
            jwks,
        })
    }

    async fn check_signature(&self, parts: &Parts<'_>) -> Result<(), Denial> {
        if self.keys.iter().any(|key| key.has_signed(parts)) {
            return Ok(());
        }
        let Some(jwks) = &self.jwks else {
            return Err(Denial::Wrong);
        };
        let is_signed = |keys: &[Key]| keys.iter().any(|key| key.has_signed(parts));
        if is_signed(&jwks.keys()) {
            return Ok(());
        }
        if jwks.keys().iter().any(|key| key.is_meant(parts)) {
            // The key is known, and has not signed this.
            return Err(Denial::Wrong);
        }
        jwks.fetch_again().await;
        if is_signed(&jwks.keys()) {
            return Ok(());
        }
        Err(if jwks.has_keys() {
            Denial::Wrong
        } else {
            Denial::Unavailable
        })
    }
}
