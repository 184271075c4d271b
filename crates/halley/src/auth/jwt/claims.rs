//! What a token must say, each claim with its type, and what is made of it.
//!
//! A claim of another type is an error and not a missing one: an `exp` that is a text, and is passed over, makes a token that
//! never ends (CVE-2026-54238, CVE-2026-25537).

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Verified;
use crate::auth::{Denial, Principal};
use crate::config;
use crate::event::{Tenant, Token, UserId};

/// The claims that are checked, and all of them for those that the configuration names.
pub(super) struct Claims {
    pub(super) iss: String,
    known: Known,
    all: Value,
}

/// A field that is there twice is an error.
#[derive(Deserialize)]
struct Known {
    iss: String,
    sub: String,
    aud: Audience,
    exp: Seconds,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Seconds>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<Seconds>,
    #[serde(default, deserialize_with = "present")]
    jti: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Seconds since 1970, which may have a fraction (RFC 7519, 2).
#[derive(Clone, Copy)]
struct Seconds(u64);

/// In the year 5138.
const LATEST: f64 = 1e11;

/// The longest `jti`: it may be kept among those that are revoked.
const ID_BYTES: usize = 256;

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        if (0.0..=LATEST).contains(&number) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "in the range"
            )]
            return Ok(Self(number as u64));
        }
        Err(serde::de::Error::custom("no time"))
    }
}

/// `null` is not a missing claim.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Claims {
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let known: Known = serde_json::from_slice(json).ok()?;
        if has_twins(json)? || known.jti.as_ref().is_some_and(|id| id.len() > ID_BYTES) {
            return None;
        }
        Some(Self {
            iss: known.iss.clone(),
            known,
            all: serde_json::from_slice(json).ok()?,
        })
    }

    /// Until when it is good, with the skew.
    pub(super) fn check_times(&self, now: u64, skew: u64, max_lifetime: u64) -> Result<u64, Denial> {
        let Known { exp, nbf, iat, .. } = &self.known;
        let until = exp.0.saturating_add(skew);
        if until <= now {
            return Err(Denial::Expired);
        }
        let begins = [nbf, iat].into_iter().flatten().map(|time| time.0).max();
        let is_early = begins.is_some_and(|begins| begins > now.saturating_add(skew));
        // From its issue, or from now if it does not say.
        let lifetime = exp.0.saturating_sub(iat.map_or(now, |issued| issued.0));
        if is_early || lifetime > max_lifetime {
            return Err(Denial::Wrong);
        }
        Ok(until)
    }

    /// What the claims say, once the signature was checked.
    pub(super) fn prove(&self, issuer: &config::Issuer, until: u64) -> Result<Verified, Denial> {
        let is_for_us = match &self.known.aud {
            Audience::One(audience) => issuer.audience.contains(audience),
            Audience::Several(all) => all.iter().any(|one| issuer.audience.contains(one)),
        };
        if !is_for_us || !is_subject(&self.known.sub) {
            return Err(Denial::Wrong);
        }
        let user = self.text(&issuer.user).filter(|user| is_subject(user));
        let user = user
            .and_then(|user| UserId::parse(user).ok())
            .ok_or(Denial::Wrong)?;
        let tenant = if issuer.tenant.is_empty() {
            Tenant::default()
        } else {
            let tenant = self
                .text(&issuer.tenant)
                .and_then(|name| Tenant::parse(name).ok());
            tenant.ok_or(Denial::Wrong)?
        };
        let roles = self.words(&issuer.roles);
        let token = Token {
            id: self.known.jti.as_deref().map(Into::into),
            issued: self.known.iat.map(|issued| issued.0),
            until: Some(until),
        };
        Ok(Verified {
            principal: Principal {
                tenant,
                user: Some(user),
                roles: roles.iter().map(|role| role.as_str().into()).collect(),
                token: Some(token.into()),
            },
            scopes: self.words("scope"),
        })
    }

    fn claim(&self, name: &str) -> Option<&Value> {
        match name {
            "" => None,
            pointer if pointer.starts_with('/') => self.all.pointer(pointer),
            name => self.all.get(name),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.claim(name)?.as_str()
    }

    /// A list of texts, or a text with spaces between words. Anything else is none.
    fn words(&self, name: &str) -> Vec<String> {
        match self.claim(name) {
            Some(Value::String(words)) => words.split_whitespace().map(str::to_owned).collect(),
            Some(Value::Array(words)) => {
                let words = words.iter().filter_map(Value::as_str);
                words.map(str::to_owned).collect()
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        }
    }
}

/// Whether any claim is there twice: another reader might take the other one.
fn has_twins(json: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    struct Fields<'a>(#[serde(borrow)] HashMap<Cow<'a, str>, &'a RawValue>);
    let Fields(distinct) = serde_json::from_slice(json).ok()?;
    let Counted(all) = serde_json::from_slice(json).ok()?;
    Some(all > distinct.len())
}

/// How many fields an object has.
struct Counted(usize);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> serde::de::Visitor<'de> for Each {
            type Value = Counted;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Counted, A::Error> {
                let mut count = 0;
                while map
                    .next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?
                    .is_some()
                {
                    count += 1;
                }
                Ok(Counted(count))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// The longest subject, in bytes.
const SUBJECT_BYTES: usize = 128;

/// Letters, digits and the signs that identity providers use: `auth0|5f7c`, `user@example.com`.
fn is_subject(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_@.-+|:".contains(&byte);
    (1..=SUBJECT_BYTES).contains(&text.len()) && text.bytes().all(is_allowed)
}
