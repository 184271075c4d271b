//! Tokens as attackers and issuers make them, judged at a time that is an argument.

use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::config::{JwtKey, Span};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Made for these tests with `openssl genpkey`; they open nothing.
const RSA_PRIVATE: &str = include_str!("testdata/rsa.pem");
const RSA_PUBLIC: &str = include_str!("testdata/rsa.pub.pem");
const EC_PRIVATE: &str = include_str!("testdata/ec.pem");
const EC_PUBLIC: &str = include_str!("testdata/ec.pub.pem");

fn key(algorithm: &str, id: &str, secret: &str, pem: &str) -> JwtKey {
    JwtKey {
        algorithm: algorithm.to_owned(),
        id: id.to_owned(),
        secret: secret.to_owned(),
        pem: pem.to_owned(),
    }
}

fn issuer(name: &str, keys: Vec<JwtKey>) -> config::Issuer {
    let text = format!("issuer = {name:?}\naudience = [\"halley\"]");
    config::Issuer {
        keys,
        ..toml::from_str(&text).expect("an issuer")
    }
}

fn verifier(issuers: &[config::Issuer]) -> Verifier {
    Verifier::new(&config::Jwt::default(), issuers).expect("it can be made")
}

fn one(keys: Vec<JwtKey>) -> Verifier {
    verifier(&[issuer("us", keys)])
}

fn hmac() -> Verifier {
    one(vec![key("HS256", "", SECRET, "")])
}

fn claims(changes: &Value) -> Value {
    let mut claims = json!({ "iss": "us", "aud": "halley", "sub": "15000", "exp": NOW + 300, "iat": NOW });
    let (Some(all), Some(changes)) = (claims.as_object_mut(), changes.as_object()) else {
        panic!("objects")
    };
    for (name, value) in changes {
        if value == "REMOVED" {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    claims
}

fn sign(header: &str, claims: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    // The provider is there once a verifier was made.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signed");
    format!("{message}.{signature}")
}

fn token(changes: &Value) -> String {
    sign(r#"{"alg":"HS256","typ":"JWT"}"#, &claims(changes).to_string())
}

fn judge(verifier: &Verifier, token: &str) -> Result<Verified, Denial> {
    verifier
        .verify(token, NOW)
        .now_or_never()
        .expect("judged at once")
}

#[track_caller]
fn expect_wrong(token: &str) {
    assert_eq!(judge(&hmac(), token).err(), Some(Denial::Wrong), "{token}");
}

fn user(verified: &Verified) -> &str {
    verified.principal.user.as_ref().map_or("", |user| &user.0)
}

#[test]
fn a_good_token_names_its_user_roles_and_end() {
    let token = token(&json!({ "roles": ["agent", "supervisor"], "jti": "t1", "scope": "a b" }));
    let verified = judge(&hmac(), &token).expect("it is good");
    assert_eq!(user(&verified), "15000");
    assert_eq!(&*verified.principal.roles, ["agent".into(), "supervisor".into()]);
    let known = verified.principal.token.expect("a token");
    assert_eq!(
        (known.id.as_deref(), known.issued, known.until),
        (Some("t1"), Some(NOW), Some(NOW + 360))
    );
    assert_eq!(verified.scopes, ["a", "b"]);
}

#[test]
fn claims_are_found_where_the_configuration_says() {
    let mut settings = issuer("us", vec![key("HS256", "", SECRET, "")]);
    settings.user = "agent".to_owned();
    settings.roles = "/realm_access/roles".to_owned();
    settings.tenant = "org".to_owned();
    let verifier = verifier(&[settings]);
    let changes = json!({ "agent": "15001", "realm_access": { "roles": ["a"] }, "org": "acme" });
    let verified = judge(&verifier, &token(&changes)).expect("it is good");
    assert_eq!(user(&verified), "15001");
    assert_eq!(&*verified.principal.roles, ["a".into()]);
    assert_eq!(&*verified.principal.tenant.0, "acme");
    // Where a tenant is expected, a token without one is nobody's.
    let without = json!({ "agent": "15001" });
    assert_eq!(judge(&verifier, &token(&without)).err(), Some(Denial::Wrong));
}

#[test]
fn t14_an_algorithm_that_signs_nothing_is_refused_in_every_spelling() {
    let claims = claims(&json!({})).to_string();
    for alg in ["none", "None", "nOnE", "NONE", "", "HS256 ", "hs256", "HS384"] {
        let signed = sign(&format!(r#"{{"alg":"{alg}"}}"#), &claims);
        expect_wrong(&signed);
        let (message, _) = signed.rsplit_once('.').expect("a token");
        expect_wrong(&format!("{message}."));
        expect_wrong(message);
    }
    // The control: the same with the right one.
    assert!(judge(&hmac(), &sign(r#"{"alg":"HS256"}"#, &claims)).is_ok());
}

#[test]
fn t14_a_foreign_or_stripped_signature_is_refused() {
    let good = token(&json!({}));
    let (message, signature) = good.rsplit_once('.').expect("a token");
    let other = token(&json!({ "sub": "15001" }));
    let (_, foreign) = other.rsplit_once('.').expect("a token");
    for signature in [foreign, "", "AAAA", &signature[..signature.len() - 2]] {
        expect_wrong(&format!("{message}.{signature}"));
    }
    assert!(judge(&hmac(), &good).is_ok());
}

#[test]
fn t14_a_public_key_is_no_secret_of_an_hmac() {
    let verifier = one(vec![key("RS256", "", "", RSA_PUBLIC)]);
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(claims(&json!({})).to_string())
    );
    for secret in [RSA_PUBLIC, RSA_PUBLIC.trim_end()] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signed");
        let token = format!("{message}.{signature}");
        assert_eq!(judge(&verifier, &token).err(), Some(Denial::Wrong));
    }
    let private = EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).expect("a key");
    let good = encode(&Header::new(Algorithm::RS256), &claims(&json!({})), &private).expect("signed");
    assert!(judge(&verifier, &good).is_ok());
    // Nor is a key used with another algorithm of its own kind than the one that is pinned to it.
    let other = encode(&Header::new(Algorithm::RS512), &claims(&json!({})), &private).expect("signed");
    assert_eq!(judge(&verifier, &other).err(), Some(Denial::Wrong));
}

#[test]
fn t14_a_weak_or_empty_key_is_refused_at_the_start() {
    for (algorithm, secret, pem) in [
        ("HS256", "", ""),
        ("HS256", "0123456789abcdef0123456789abcde", ""),
        ("HS512", SECRET, ""),
        ("RS256", SECRET, ""),
        ("RS256", "", "no pem"),
        ("RS256", "", EC_PUBLIC),
        ("none", "", ""),
    ] {
        let issuers = [issuer("us", vec![key(algorithm, "", secret, pem)])];
        let Err(error) = Verifier::new(&config::Jwt::default(), &issuers) else {
            panic!("{algorithm} with {secret:?} and {pem:?} was taken")
        };
        assert!(
            secret.is_empty() || !error.to_string().contains(secret),
            "{error}"
        );
    }
}

#[test]
fn keys_of_elliptic_curves_are_known_too() {
    let verifier = one(vec![key("ES256", "e", "", EC_PUBLIC)]);
    let private = EncodingKey::from_ec_pem(EC_PRIVATE.as_bytes()).expect("a key");
    let header = Header {
        kid: Some("e".to_owned()),
        ..Header::new(Algorithm::ES256)
    };
    let good = encode(&header, &claims(&json!({})), &private).expect("signed");
    assert!(judge(&verifier, &good).is_ok());
}

#[test]
fn t15_nothing_that_a_header_says_is_fetched_or_looked_up_elsewhere() {
    let verifier = one(vec![key("HS256", "k1", SECRET, "")]);
    let claims = claims(&json!({})).to_string();
    for kid in [
        "../../../../dev/null",
        "k1' OR '1'='1",
        "http://127.0.0.1:9/keys",
        "k2",
        "K1",
        "k1\\u0000",
        &"k".repeat(65),
    ] {
        let token = sign(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), &claims);
        assert_eq!(judge(&verifier, &token).err(), Some(Denial::Wrong), "{kid}");
    }
    for kid in ["1", "null2", "[\"k1\"]", "{}"] {
        let token = sign(&format!(r#"{{"alg":"HS256","kid":{kid}}}"#), &claims);
        assert_eq!(judge(&verifier, &token).err(), Some(Denial::Wrong), "{kid}");
    }
    // Where keys would be is not read, and a key that the token brings is none.
    let elsewhere = r#"{"alg":"HS256","kid":"k1","jku":"http://127.0.0.1:9/","x5u":"http://127.0.0.1:9/"}"#;
    assert!(judge(&verifier, &sign(elsewhere, &claims)).is_ok());
    let brings =
        r#"{"alg":"HS256","kid":"k2","jwk":{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}}"#;
    assert!(judge(&verifier, &sign(brings, &claims)).is_err());
    // What a token says must be understood is not.
    let critical = r#"{"alg":"HS256","kid":"k1","crit":["exp"]}"#;
    assert!(judge(&verifier, &sign(critical, &claims)).is_err());
}

#[test]
fn t16_every_claim_is_required_and_has_its_type() {
    for changes in [
        json!({ "exp": "REMOVED" }),
        json!({ "exp": "1900000000" }),
        json!({ "exp": null }),
        json!({ "exp": [NOW + 300] }),
        json!({ "exp": { "at": NOW + 300 } }),
        json!({ "exp": true }),
        json!({ "exp": -1 }),
        json!({ "nbf": "0" }),
        json!({ "nbf": null }),
        json!({ "nbf": NOW + 300 }),
        json!({ "iat": "0" }),
        json!({ "iat": NOW + 300 }),
        json!({ "aud": "REMOVED" }),
        json!({ "aud": "other" }),
        json!({ "aud": [] }),
        json!({ "aud": ["other"] }),
        json!({ "aud": ["halley", 7] }),
        json!({ "aud": null }),
        json!({ "aud": { "halley": true } }),
        json!({ "iss": "REMOVED" }),
        json!({ "iss": "them" }),
        json!({ "iss": ["us"] }),
        json!({ "sub": "REMOVED" }),
        json!({ "sub": "" }),
        json!({ "sub": null }),
        json!({ "sub": 15000 }),
        json!({ "sub": ["15000"] }),
        json!({ "sub": "a b" }),
        json!({ "sub": "15000\n" }),
        json!({ "sub": "15000\u{200b}" }),
        json!({ "sub": "../15001" }),
        json!({ "sub": "*" }),
        json!({ "sub": "a".repeat(129) }),
        json!({ "jti": 7 }),
        json!({ "jti": "a".repeat(257) }),
    ] {
        expect_wrong(&token(&changes));
    }
    for changes in [
        json!({ "aud": ["other", "halley"] }),
        json!({ "sub": "auth0|user@example.com" }),
        json!({ "sub": "a".repeat(128) }),
        json!({ "nbf": NOW }),
        json!({ "exp": f64::from(u32::try_from(NOW).unwrap()) + 300.5 }),
    ] {
        assert!(judge(&hmac(), &token(&changes)).is_ok(), "{changes}");
    }
}

#[test]
fn t16_a_number_that_no_clock_holds_is_no_time() {
    for exp in ["1e308", "1e400", "-1e308", "18446744073709551616", "NaN"] {
        let claims = format!(r#"{{"iss":"us","aud":"halley","sub":"15000","exp":{exp}}}"#);
        expect_wrong(&sign(r#"{"alg":"HS256"}"#, &claims));
    }
}

#[test]
fn t16_a_claim_that_is_there_twice_is_refused() {
    for twice in [
        r#""sub":"15001""#,
        r#""exp":1900000000"#,
        r#""roles":["a"],"roles":[]"#,
    ] {
        let claims = format!(
            r#"{{"iss":"us","aud":"halley","sub":"15000","exp":{},{twice}}}"#,
            NOW + 300
        );
        expect_wrong(&sign(r#"{"alg":"HS256"}"#, &claims));
    }
    expect_wrong(&sign(
        r#"{"alg":"HS256","alg":"HS256"}"#,
        &claims(&json!({})).to_string(),
    ));
}

#[test]
fn t16_a_token_has_ended_a_minute_after_its_end_and_not_before() {
    for (exp, denial) in [
        (NOW - 59, None),
        (NOW - 60, Some(Denial::Expired)),
        (NOW - 300, Some(Denial::Expired)),
    ] {
        let token = token(&json!({ "exp": exp, "iat": NOW - 600 }));
        assert_eq!(judge(&hmac(), &token).err(), denial, "{exp}");
    }
}

#[test]
fn t16_a_token_that_is_good_for_too_long_is_refused() {
    let day = 24 * 3600;
    assert!(judge(&hmac(), &token(&json!({ "exp": NOW + day }))).is_ok());
    for changes in [
        json!({ "exp": NOW + day + 1 }),
        json!({ "exp": NOW + day + 1, "iat": "REMOVED" }),
        json!({ "exp": NOW + 60, "iat": NOW - day }),
    ] {
        expect_wrong(&token(&changes));
    }
}

#[test]
fn one_issuer_cannot_speak_for_another() {
    let other = "fedcba9876543210fedcba9876543210";
    let two = verifier(&[
        issuer("us", vec![key("HS256", "k", SECRET, "")]),
        issuer("them", vec![key("HS256", "k", other, "")]),
    ]);
    assert!(judge(&two, &token(&json!({}))).is_ok());
    assert_eq!(
        judge(&two, &token(&json!({ "iss": "them" }))).err(),
        Some(Denial::Wrong)
    );
}

#[test]
fn a_token_that_is_longer_than_allowed_is_not_looked_at() {
    expect_wrong(&token(&json!({ "roles": ["a".repeat(8 << 10)] })));
}

#[test]
fn what_is_no_token_is_refused() {
    for text in ["", ".", "..", "...", "a.b.c", "e30.e30.e30", "é.é.é"] {
        expect_wrong(text);
    }
}

/// An issuer that publishes keys, and counts how often it is asked.
struct Published {
    url: String,
    asked: Arc<AtomicU32>,
    not_modified: Arc<AtomicU32>,
    answer: Arc<parking_lot::Mutex<Option<String>>>,
}

async fn publish(answer: Option<String>) -> Published {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
    let published = Published {
        url,
        asked: Arc::default(),
        not_modified: Arc::default(),
        answer: Arc::new(parking_lot::Mutex::new(answer)),
    };
    let (asked, not_modified) = (Arc::clone(&published.asked), Arc::clone(&published.not_modified));
    let answer = Arc::clone(&published.answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
            asked.fetch_add(1, Ordering::SeqCst);
            let keys = answer.lock().clone();
            let response = match keys {
                None => "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
                Some(keys) => {
                    let etag = format!("\"{}\"", keys.len());
                    if request.contains(&format!("if-none-match: {etag}")) {
                        not_modified.fetch_add(1, Ordering::SeqCst);
                        "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned()
                    } else {
                        let length = keys.len();
                        format!(
                            "HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{keys}"
                        )
                    }
                }
            };
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    published
}

fn ec_jwk(kid: &str) -> Value {
    let private = EncodingKey::from_ec_pem(EC_PRIVATE.as_bytes()).expect("a key");
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&private, Algorithm::ES256).expect("its public half");
    let mut jwk = serde_json::to_value(jwk).expect("JSON");
    jwk["kid"] = kid.into();
    jwk
}

fn ec_token(kid: &str) -> String {
    let private = EncodingKey::from_ec_pem(EC_PRIVATE.as_bytes()).expect("a key");
    let header = Header {
        kid: Some(kid.to_owned()),
        ..Header::new(Algorithm::ES256)
    };
    encode(&header, &claims(&json!({})), &private).expect("signed")
}

fn asking(url: &str, min_interval: std::time::Duration, refresh: std::time::Duration) -> Verifier {
    let mut published = issuer("us", Vec::new());
    published.jwks_url = url.to_owned();
    let settings = config::Jwt {
        jwks_min_interval: Span(min_interval),
        jwks_refresh: Span(refresh),
        ..config::Jwt::default()
    };
    Verifier::new(&settings, &[published]).expect("it can be made")
}

const LONG: std::time::Duration = std::time::Duration::from_secs(3600);
const SHORT: std::time::Duration = std::time::Duration::from_millis(20);

#[tokio::test]
async fn published_keys_are_fetched_once_however_many_ask() {
    let issuer = publish(Some(json!({ "keys": [ec_jwk("a")] }).to_string())).await;
    let verifier = asking(&issuer.url, LONG, LONG);
    let token = ec_token("a");
    let judged = futures::future::join_all((0..50).map(|_| verifier.verify(&token, NOW))).await;
    assert!(judged.iter().all(Result::is_ok));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn t15_unknown_keys_do_not_make_an_issuer_be_asked_again_and_again() {
    let issuer = publish(Some(json!({ "keys": [ec_jwk("a")] }).to_string())).await;
    let verifier = asking(&issuer.url, LONG, LONG);
    assert!(verifier.verify(&ec_token("a"), NOW).await.is_ok());
    for number in 0..20 {
        let token = ec_token(&format!("unknown-{number}"));
        assert_eq!(verifier.verify(&token, NOW).await.err(), Some(Denial::Wrong));
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let issuer = publish(Some(json!({ "keys": [ec_jwk("a")] }).to_string())).await;
    let verifier = asking(&issuer.url, SHORT, LONG);
    assert!(verifier.verify(&ec_token("a"), NOW).await.is_ok());
    *issuer.answer.lock() = Some(json!({ "keys": [ec_jwk("a"), ec_jwk("b")] }).to_string());
    tokio::time::sleep(2 * SHORT).await;
    assert!(verifier.verify(&ec_token("b"), NOW).await.is_ok());
}

#[tokio::test]
async fn keys_are_used_while_the_issuer_is_away_and_asked_for_by_their_etag() {
    let issuer = publish(Some(json!({ "keys": [ec_jwk("a")] }).to_string())).await;
    let verifier = asking(&issuer.url, SHORT, SHORT);
    let token = ec_token("a");
    assert!(verifier.verify(&token, NOW).await.is_ok());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while issuer.not_modified.load(Ordering::SeqCst) == 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "they were not asked for again"
        );
        tokio::time::sleep(SHORT).await;
        assert!(verifier.verify(&token, NOW).await.is_ok());
    }
    *issuer.answer.lock() = None;
    let before = issuer.asked.load(Ordering::SeqCst);
    while issuer.asked.load(Ordering::SeqCst) == before {
        assert!(
            std::time::Instant::now() < deadline,
            "they were not asked for again"
        );
        tokio::time::sleep(SHORT).await;
        assert!(verifier.verify(&token, NOW).await.is_ok());
    }
    assert!(verifier.verify(&token, NOW).await.is_ok());
}

#[tokio::test]
async fn before_keys_were_ever_fetched_nobody_is_told_that_a_token_is_wrong() {
    let issuer = publish(None).await;
    let verifier = asking(&issuer.url, SHORT, LONG);
    let verdict = verifier.verify(&ec_token("a"), NOW).await;
    assert_eq!(verdict.err(), Some(Denial::Unavailable));
}

#[tokio::test]
async fn t14_a_published_secret_is_no_key() {
    let shared = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "kid": "s", "alg": "HS256" });
    let issuer = publish(Some(json!({ "keys": [shared, ec_jwk("a")] }).to_string())).await;
    let verifier = asking(&issuer.url, SHORT, LONG);
    assert!(verifier.verify(&ec_token("a"), NOW).await.is_ok());
    assert_eq!(
        verifier.verify(&token(&json!({})), NOW).await.err(),
        Some(Denial::Wrong)
    );
}

#[test]
fn keys_are_not_fetched_over_http_from_afar() {
    for (url, is_taken) in [
        ("http://id.example.com/keys", false),
        ("http://203.0.113.7/keys", false),
        ("ftp://localhost/keys", false),
        ("keys", false),
        ("http://127.0.0.1:1/keys", true),
        ("http://[::1]:1/keys", true),
        ("http://10.1.2.3/keys", true),
        ("http://keycloak/keys", true),
        ("http://keycloak.id.svc/keys", true),
    ] {
        let mut published = issuer("us", Vec::new());
        published.jwks_url = url.to_owned();
        let made = Verifier::new(&config::Jwt::default(), &[published]);
        assert_eq!(made.is_ok(), is_taken, "{url}");
    }
}
