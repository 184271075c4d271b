//! The cookies that the server set: name and value, nothing else.

use std::collections::BTreeMap;

use hyper::header::{HeaderMap, HeaderValue, SET_COOKIE};

/// A cookie jar for one endpoint. A client talks to no other, so attributes decide nothing.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    value_by_name: BTreeMap<String, String>,
}

impl Cookies {
    /// Keeps the cookies of a response, up to a bound.
    pub(crate) fn take(&mut self, headers: &HeaderMap) {
        for header in headers.get_all(SET_COOKIE) {
            let Some((name, value)) = header.to_str().ok().and_then(pair) else {
                continue;
            };
            if self.value_by_name.contains_key(name) || self.value_by_name.len() < MOST_COOKIES {
                self.value_by_name.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The `Cookie` header of the next request.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let pairs: Vec<String> = self
            .value_by_name
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (!pairs.is_empty())
            .then(|| HeaderValue::try_from(pairs.join("; ")).ok())
            .flatten()
    }
}

fn pair(set_cookie: &str) -> Option<(&str, &str)> {
    let (name, value) = set_cookie.split(';').next()?.split_once('=')?;
    let name = name.trim();
    (!name.is_empty()).then_some((name, value.trim()))
}

const MOST_COOKIES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(set_cookies: &[&'static str]) -> Cookies {
        let mut cookies = Cookies::default();
        let headers = set_cookies
            .iter()
            .map(|value| (SET_COOKIE, HeaderValue::from_static(value)));
        cookies.take(&headers.collect());
        cookies
    }

    #[test]
    fn attributes_are_not_sent_back() {
        assert_eq!(
            jar(&["BAYEUX_BROWSER=1a2b; Path=/; HttpOnly"]).header().unwrap(),
            "BAYEUX_BROWSER=1a2b"
        );
    }

    #[test]
    fn a_cookie_set_again_replaces_the_first() {
        assert_eq!(jar(&["a=1", "b=2", "a=3"]).header().unwrap(), "a=3; b=2");
    }

    #[test]
    fn without_cookies_there_is_no_header() {
        assert_eq!(jar(&["nonsense"]).header(), None);
    }
}
