//! A key and the algorithms that it is used with. A token cannot choose: a public key is no secret of an HMAC, whatever the
//! token's header says (RFC 8725, 3.1).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::Parts;
use crate::config;

pub(super) struct Key {
    id: String,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Key {
    /// A key of the configuration. The error says what is wrong, and nothing of the key.
    pub(super) fn of(settings: &config::JwtKey) -> Result<Self, String> {
        let algorithm = algorithm(&settings.algorithm)?;
        let (secret, pem) = (settings.secret.as_bytes(), settings.pem.as_bytes());
        if is_shared(algorithm) {
            let least = shortest_secret(algorithm);
            if secret.len() < least || !pem.is_empty() {
                return Err(format!(
                    "a key for {algorithm:?} is a secret of at least {least} bytes: shorter ones can be guessed"
                ));
            }
        } else if pem.is_empty() || !secret.is_empty() {
            return Err(format!("a key for {algorithm:?} is a public key in PEM"));
        }
        let key = if is_shared(algorithm) {
            Ok(DecodingKey::from_secret(secret))
        } else if RSA.contains(&algorithm) {
            DecodingKey::from_rsa_pem(pem)
        } else if algorithm == Algorithm::EdDSA {
            DecodingKey::from_ed_pem(pem)
        } else {
            DecodingKey::from_ec_pem(pem)
        };
        Ok(Self {
            id: settings.id.clone(),
            algorithms: vec![algorithm],
            key: key.map_err(|_| format!("pem: it holds no public key for {algorithm:?}"))?,
        })
    }

    /// A published key, if it is one that signs and that the configuration has a use for. A secret that is published is none.
    pub(super) fn published(jwk: &Jwk, allowed: &[Algorithm]) -> Option<Self> {
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let mut algorithms = of_its_kind(jwk).to_vec();
        let named = jwk.common.key_algorithm.map(|named| named.to_string());
        algorithms.retain(|algorithm| {
            let is_named = named
                .as_ref()
                .is_none_or(|named| *named == format!("{algorithm:?}"));
            allowed.contains(algorithm) && is_named
        });
        if algorithms.is_empty() {
            return None;
        }
        Some(Self {
            id: jwk.common.key_id.clone().unwrap_or_default(),
            algorithms,
            key: DecodingKey::from_jwk(jwk).ok()?,
        })
    }

    /// Whether a token says that it was signed by this key. One without a name is meant by any token.
    pub(super) fn is_meant(&self, parts: &Parts<'_>) -> bool {
        let is_named = self.id.is_empty() || parts.header.kid.as_ref().is_none_or(|kid| *kid == self.id);
        is_named && self.algorithms.contains(&parts.algorithm)
    }

    pub(super) fn has_signed(&self, parts: &Parts<'_>) -> bool {
        self.is_meant(parts)
            && jsonwebtoken::crypto::verify(
                parts.signature,
                parts.message.as_bytes(),
                &self.key,
                parts.algorithm,
            )
            .unwrap_or(false)
    }
}

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// `RS256` and the like, exactly.
pub(super) fn algorithm(name: &str) -> Result<Algorithm, String> {
    name.parse().map_err(|_| {
        format!("algorithm {name:?}: it is one of HS256 to HS512, RS256 to RS512, PS256 to PS512, ES256, ES384, EdDSA")
    })
}

/// Whoever can check such a signature can also make one.
pub(super) fn is_shared(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

/// As long as the digest (RFC 7518, 3.2).
fn shortest_secret(algorithm: Algorithm) -> usize {
    if algorithm == Algorithm::HS512 {
        64
    } else if algorithm == Algorithm::HS384 {
        48
    } else {
        32
    }
}

/// What a published key can be used with; nothing for a kind that is not known, and for a secret.
fn of_its_kind(jwk: &Jwk) -> &'static [Algorithm] {
    if let AlgorithmParameters::RSA(_) = jwk.algorithm {
        return RSA;
    }
    if let AlgorithmParameters::OctetKeyPair(_) = jwk.algorithm {
        return &[Algorithm::EdDSA];
    }
    let AlgorithmParameters::EllipticCurve(key) = &jwk.algorithm else {
        return &[];
    };
    if key.curve == EllipticCurve::P256 {
        &[Algorithm::ES256]
    } else if key.curve == EllipticCurve::P384 {
        &[Algorithm::ES384]
    } else {
        &[]
    }
}
