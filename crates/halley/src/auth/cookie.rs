//! The browser cookie, `BAYEUX_BROWSER` unless it is called otherwise: which browser a session belongs to.
//!
//! Only values that this server issued count (CometD takes what it is given, so a value can be planted). A value is a random
//! part and its HMAC under a key that lives with the session store, so any process with the same store knows it.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use hyper::header::HeaderValue;
use sha2::Sha256;

use crate::config::{BrowserCookie, SameSite};

/// One browser: the value of its cookie.
pub type Browser = Arc<str>;

/// Issues and recognises browsers.
pub struct Browsers {
    /// Has taken in the key, which is half of the work.
    mac: Hmac<Sha256>,
    name: String,
    /// What follows the value in `Set-Cookie`.
    attributes: String,
    /// The same over TLS.
    secure_attributes: String,
}

impl Browsers {
    /// `key` is the secret of the session store.
    pub fn new(key: &[u8], cookie: &BrowserCookie) -> Self {
        Self {
            mac: Hmac::new_from_slice(key).expect("HMAC takes keys of any length"),
            name: cookie.name.clone(),
            attributes: attributes(cookie, false),
            secure_attributes: attributes(cookie, true),
        }
    }

    /// A browser that was never seen before.
    pub fn issue(&self) -> Browser {
        let random = random_id(26);
        let signature = self.sign(&random);
        let signature = std::str::from_utf8(&signature).expect("digits");
        format!("{random}.{signature}").into()
    }

    /// The `Set-Cookie` that tells a browser who it is. What came over TLS goes back over nothing else.
    pub fn set_cookie(&self, browser: &Browser, over_tls: bool) -> HeaderValue {
        let Self { name, .. } = self;
        let attributes = match over_tls {
            true => &self.secure_attributes,
            false => &self.attributes,
        };
        HeaderValue::from_str(&format!("{name}={browser}{attributes}"))
            .expect("the configuration was checked, and the value is ours")
    }

    /// The browser that the `Cookie` headers name, if this server issued it. Most requests of a connection come from the browser
    /// that was `known` there before, and its value need not be looked into again.
    pub fn recognise<'a>(
        &self,
        headers: impl Iterator<Item = &'a str>,
        known: Option<&Browser>,
    ) -> Option<Browser> {
        let is_known =
            |value: &&str| known.filter(|known| constant_time_eq(known.as_bytes(), value.as_bytes()));
        pairs(headers)
            .filter(|(name, _)| *name == self.name)
            .map(|(_, value)| value)
            .find_map(|value| {
                is_known(&value)
                    .cloned()
                    .or_else(|| self.is_ours(value).then(|| value.into()))
            })
    }

    fn is_ours(&self, value: &str) -> bool {
        let Some((random, signature)) = value.split_once('.') else {
            return false;
        };
        constant_time_eq(&self.sign(random), signature.as_bytes())
    }

    /// Half of the HMAC is 128 bits, in hexadecimal digits.
    fn sign(&self, random: &str) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut mac = self.mac.clone();
        mac.update(random.as_bytes());
        let mac = mac.finalize().into_bytes();
        std::array::from_fn(|place| {
            let byte = mac[place / 2];
            DIGITS[usize::from(if place % 2 == 0 { byte >> 4 } else { byte & 15 })]
        })
    }
}

/// The names and values that `Cookie` headers have.
pub(super) fn pairs<'a>(headers: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (&'a str, &'a str)> {
    headers
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name, value.trim_matches('"')))
}

/// In the order in which CometD writes them.
pub(super) fn attributes(cookie: &BrowserCookie, over_tls: bool) -> String {
    let mut text = String::new();
    let mut add = |attribute: &str| {
        text.push_str("; ");
        text.push_str(attribute);
    };
    if !cookie.domain.is_empty() {
        add(&format!("Domain={}", cookie.domain));
    }
    add(&format!("Path={}", cookie.path));
    if !cookie.max_age.0.is_zero() {
        add(&format!("Max-Age={}", cookie.max_age.0.as_secs()));
    }
    if cookie.http_only {
        add("HttpOnly");
    }
    if cookie.secure || over_tls {
        add("Secure");
    }
    match cookie.same_site {
        SameSite::Unset => {}
        SameSite::None => add("SameSite=None"),
        SameSite::Lax => add("SameSite=Lax"),
        SameSite::Strict => add("SameSite=Strict"),
    }
    if cookie.partitioned {
        add("Partitioned");
    }
    text
}

fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    left.ct_eq(right).into()
}

/// `length` random characters of base 36 from the operating system: 26 of them are 134 bits.
pub(crate) fn random_id(length: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut id = String::with_capacity(length);
    let mut random = [0_u8; 64];
    while id.len() < length {
        getrandom::fill(&mut random).expect("the operating system has random numbers");
        // Bytes from 252 up would make the first digits likelier than the others.
        let digits = random
            .iter()
            .filter(|byte| **byte < 252)
            .map(|byte| char::from(DIGITS[usize::from(byte % 36)]));
        id.extend(digits.take(length - id.len()));
    }
    id
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Span;

    fn browsers() -> Browsers {
        Browsers::new(b"key", &BrowserCookie::default())
    }

    #[test]
    fn a_browser_that_was_issued_is_recognised_with_and_without_a_space() {
        let browser = browsers().issue();
        for header in [
            format!("a=b;BAYEUX_BROWSER={browser}"),
            format!("a=b; BAYEUX_BROWSER={browser}; c=d"),
        ] {
            assert_eq!(
                browsers().recognise([header.as_str()].into_iter(), None),
                Some(browser.clone())
            );
        }
    }

    #[test]
    fn a_planted_value_is_nobody() {
        let browser = browsers().issue();
        let other = Browsers::new(b"another key", &BrowserCookie::default());
        assert_eq!(
            other.recognise([format!("BAYEUX_BROWSER={browser}").as_str()].into_iter(), None),
            None
        );
        assert_eq!(other.recognise(["BAYEUX_BROWSER=abc"].into_iter(), None), None);
    }

    #[test]
    fn a_browser_that_is_known_on_its_connection_is_recognised_and_no_other_value_is() {
        let (known, other) = (browsers().issue(), browsers().issue());
        let recognised = |value: &str| {
            let header = format!("BAYEUX_BROWSER={value}");
            browsers().recognise([header.as_str()].into_iter(), Some(&known))
        };
        assert!(recognised(&known).is_some_and(|browser| Arc::ptr_eq(&browser, &known)));
        assert_eq!(recognised(&other), Some(other.clone()));
        assert_eq!(recognised(&known[..known.len() - 1]), None);
        assert_eq!(recognised(&format!("{known}0")), None);
    }

    #[test]
    fn a_cookie_is_set_as_cometd_sets_it() {
        let value = browsers().set_cookie(&"1a2b.ff".into(), false);
        assert_eq!(value, "BAYEUX_BROWSER=1a2b.ff; Path=/; HttpOnly");
    }

    #[test]
    fn every_attribute_has_its_place() {
        let cookie = BrowserCookie {
            name: "B".to_owned(),
            domain: "example.com".to_owned(),
            path: "/cometd".to_owned(),
            max_age: Span(Duration::from_secs(3600)),
            secure: true,
            http_only: true,
            same_site: SameSite::None,
            partitioned: true,
        };
        assert_eq!(
            Browsers::new(b"", &cookie).set_cookie(&"v".into(), false),
            "B=v; Domain=example.com; Path=/cometd; Max-Age=3600; HttpOnly; Secure; SameSite=None; Partitioned"
        );
    }

    #[test]
    fn a_cookie_of_another_name_is_another_cookie() {
        let cookie = BrowserCookie {
            name: "B".to_owned(),
            ..BrowserCookie::default()
        };
        let named = Browsers::new(b"key", &cookie);
        let browser = named.issue();
        let recognised = |header: String| named.recognise([header.as_str()].into_iter(), None);
        assert_eq!(recognised(format!("B={browser}")), Some(browser.clone()));
        assert_eq!(recognised(format!("BAYEUX_BROWSER={browser}")), None);
    }

    #[test]
    fn a_random_id_has_the_length_that_was_asked_for() {
        assert_eq!(random_id(26).len(), 26);
        assert_ne!(random_id(26), random_id(26));
    }
}
