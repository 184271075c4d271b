//! What someone shows, and where it is looked for.
//!
//! In a request: `Authorization`, then the parameter of a WebSocket's URL, then the cookie, if the configuration names them. In
//! a message: `ext.token`, or `ext.authentication.token`.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bayeux::Message;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::config;

/// What someone showed. Never printed.
#[derive(Clone, Default)]
pub struct Credentials<'a> {
    /// `Authorization: Bearer …`, or a token from elsewhere.
    pub token: Option<String>,
    /// `Authorization: Basic …`, decoded.
    pub basic: Option<(String, String)>,
    /// The request it came with, for those who believe what its headers say.
    pub request: Option<(&'a HeaderMap, IpAddr)>,
}

#[derive(Deserialize)]
struct Shown {
    token: String,
}

impl<'a> Credentials<'a> {
    /// What a request shows. `query` is that of a WebSocket's URL; no other request may bring a token there, since URLs end up
    /// in logs and histories.
    pub fn of_request(
        headers: &'a HeaderMap,
        query: Option<&str>,
        peer: IpAddr,
        settings: &config::Auth,
    ) -> Self {
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let mut shown = Self::from_header(authorization);
        if shown.token.is_none() && shown.basic.is_none() {
            shown.token = query
                .and_then(|query| in_query(query, &settings.query_parameter))
                .or_else(|| in_cookie(headers, &settings.cookie));
        }
        shown.request = Some((headers, peer));
        shown
    }

    /// Reads an `Authorization` header.
    pub fn from_header(value: Option<&str>) -> Self {
        let mut shown = Self::default();
        let Some((scheme, rest)) = value.and_then(|value| value.split_once(' ')) else {
            return shown;
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            shown.token = Some(rest.to_owned());
        } else if scheme.eq_ignore_ascii_case("basic") {
            // What cannot be read is wrong, not absent.
            shown.basic = Some(decode_basic(rest).unwrap_or_default());
        }
        shown
    }

    /// What a message shows, if it shows anything.
    pub fn of_message(message: &Message<'_>) -> Option<Self> {
        let nested = || {
            let raw = message.ext.get("authentication")?;
            serde_json::from_str::<Shown>(raw.get()).ok()
        };
        message
            .ext_text("token")
            .or_else(|| nested().map(|nested| nested.token))
            .map(Self::from_token)
    }

    /// What a message brings that is for nothing else: `data` is `{"token":"…"}`, or its `ext` is as in any message.
    pub fn of_renewal(message: &Message<'_>) -> Self {
        let data = message
            .data
            .and_then(|data| serde_json::from_str::<Shown>(data.get()).ok());
        match data {
            Some(shown) => Self::from_token(shown.token),
            // Without any it is no renewal: an empty token is nobody's.
            None => Self::of_message(message).unwrap_or_else(|| Self::from_token(String::new())),
        }
    }

    /// A token.
    pub fn from_token(token: String) -> Self {
        Self {
            token: Some(token),
            ..Self::default()
        }
    }
}

fn decode_basic(encoded: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn in_query(query: &str, parameter: &str) -> Option<String> {
    if parameter.is_empty() {
        return None;
    }
    let (_, value) = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == parameter)?;
    Some(percent_decode_str(value).decode_utf8().ok()?.into_owned())
}

fn in_cookie(headers: &HeaderMap, cookie: &str) -> Option<String> {
    if cookie.is_empty() {
        return None;
    }
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == cookie)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn token(lines: &[(&str, &str)], query: Option<&str>, settings: &config::Auth) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = hyper::header::HeaderName::try_from(*name).expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        Credentials::of_request(&headers, query, PEER, settings).token
    }

    fn named() -> config::Auth {
        config::Auth {
            cookie: "session".to_owned(),
            query_parameter: "access_token".to_owned(),
            ..config::Auth::default()
        }
    }

    #[test]
    fn the_header_comes_before_the_url_and_the_url_before_the_cookie() {
        let cookie = ("cookie", "a=b;session=c");
        let header = ("authorization", "Bearer a");
        let query = Some("x=y&access_token=b%2Bc");
        assert_eq!(token(&[cookie, header], query, &named()).as_deref(), Some("a"));
        assert_eq!(token(&[cookie], query, &named()).as_deref(), Some("b+c"));
        assert_eq!(token(&[cookie], None, &named()).as_deref(), Some("c"));
    }

    #[test]
    fn nothing_is_taken_from_a_url_or_cookie_unless_the_configuration_says_so() {
        let cookie = ("cookie", "session=c; =d");
        let plain = config::Auth::default();
        assert_eq!(token(&[cookie], Some("access_token=b&=d"), &plain), None);
    }

    #[test]
    fn a_basic_header_that_cannot_be_read_is_wrong_rather_than_absent() {
        let shown = Credentials::from_header(Some("Basic !!"));
        assert_eq!(shown.basic, Some((String::new(), String::new())));
    }
}
