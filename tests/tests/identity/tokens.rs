//! Tokens as an issuer makes them, and a broker that takes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halley::config::{Config, Issuer, Span};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::it::It;

const SECRET: &str = "a secret of the tests, which is long enough";

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// The issuer of [`token`].
pub(crate) fn issuer(audience: &str) -> Issuer {
    let text = format!(
        "issuer = \"us\"\naudience = [\"{audience}\"]\nkeys = [{{ algorithm = \"HS256\", secret = \"{SECRET}\" }}]"
    );
    toml::from_str(&text).expect("an issuer")
}

/// Takes tokens for `halley`. Clocks are the same here, so that a test need not wait for a minute.
pub(crate) fn take_tokens(config: &mut Config) {
    config.auth.kind = "jwt".to_owned();
    config.jwt.skew = Span(Duration::ZERO);
    config.jwt.issuers = vec![issuer("halley")];
}

pub(crate) async fn it() -> It {
    It::with(take_tokens).await
}

/// A token of a user that is good for so many seconds, with more claims.
pub(crate) fn token_with(user: &str, lasts: u64, claims: &Value) -> String {
    let mut all = json!({ "iss": "us", "aud": "halley", "sub": user, "exp": now() + lasts, "iat": now() });
    let fields = all.as_object_mut().expect("an object");
    fields.extend(claims.as_object().expect("an object").clone());
    sign(&all)
}

/// A token of a user that is good for so many seconds.
pub(crate) fn token(user: &str, lasts: u64) -> String {
    token_with(user, lasts, &json!({}))
}

pub(crate) fn sign(claims: &Value) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(message.as_bytes());
    format!(
        "{message}.{}",
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    )
}

/// `Authorization` with a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}
