//! The `BAYEUX_BROWSER` cookie: which browser a session belongs to.
//!
//! Only values that this server issued count (CometD takes what it is given, so a value can be planted). A value is a random
//! part and its HMAC under a key that lives with the session store, so any process with the same store knows it.

use std::sync::Arc;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The name of the cookie.
pub const BROWSER_COOKIE: &str = "BAYEUX_BROWSER";

/// One browser: the value of its cookie.
pub type Browser = Arc<str>;

/// Issues and recognises browsers.
pub struct Browsers {
    key: Bytes,
}

impl Browsers {
    /// `key` is the secret of the session store.
    pub fn new(key: Bytes) -> Self {
        Self { key }
    }

    /// A browser that was never seen before.
    pub fn issue(&self) -> Browser {
        let random = random_id(26);
        let signature = self.sign(&random);
        format!("{random}.{signature}").into()
    }

    /// The browser that the `Cookie` headers name, if this server issued it.
    pub fn recognise<'a>(&self, headers: impl Iterator<Item = &'a str>) -> Option<Browser> {
        headers
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == BROWSER_COOKIE)
            .map(|(_, value)| value.trim_matches('"'))
            .find(|value| self.is_ours(value))
            .map(Into::into)
    }

    fn is_ours(&self, value: &str) -> bool {
        let Some((random, signature)) = value.split_once('.') else {
            return false;
        };
        constant_time_eq(self.sign(random).as_bytes(), signature.as_bytes())
    }

    /// Half of the HMAC is 128 bits.
    fn sign(&self, random: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(random.as_bytes());
        mac.finalize().into_bytes()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
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
    use super::*;

    fn browsers() -> Browsers {
        Browsers::new(Bytes::from_static(b"key"))
    }

    #[test]
    fn a_browser_that_was_issued_is_recognised_with_and_without_a_space() {
        let browser = browsers().issue();
        for header in [
            format!("a=b;BAYEUX_BROWSER={browser}"),
            format!("a=b; BAYEUX_BROWSER={browser}; c=d"),
        ] {
            assert_eq!(
                browsers().recognise([header.as_str()].into_iter()),
                Some(browser.clone())
            );
        }
    }

    #[test]
    fn a_planted_value_is_nobody() {
        let browser = browsers().issue();
        let other = Browsers::new(Bytes::from_static(b"another key"));
        assert_eq!(
            other.recognise([format!("BAYEUX_BROWSER={browser}").as_str()].into_iter()),
            None
        );
        assert_eq!(other.recognise(["BAYEUX_BROWSER=abc"].into_iter()), None);
    }

    #[test]
    fn a_random_id_has_the_length_that_was_asked_for() {
        assert_eq!(random_id(26).len(), 26);
        assert_ne!(random_id(26), random_id(26));
    }
}
