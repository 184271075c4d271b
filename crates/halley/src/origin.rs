//! Where a page came from, as browsers write it in `Origin` (RFC 6454, 6.2).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// `scheme://host` or `scheme://host:port`, in lower case and without the scheme's own port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// A text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no origin such as https://example.com or http://example.com:8080: without path, slash, name or wildcard"
)]
pub struct NoOrigin(String);

impl Origin {
    /// Parses what a browser sends, or what an operator lists.
    pub fn parse(text: &str) -> Result<Self, NoOrigin> {
        Self::try_parse(text).ok_or_else(|| NoOrigin(text.to_owned()))
    }

    fn try_parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|letter: char| letter.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme)
        {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split(authority)?;
        Some(Self {
            port: port.filter(|port| Some(*port) != own_port(&scheme)),
            host: host.to_ascii_lowercase(),
            scheme,
        })
    }

    /// Whether a page of this origin and a request to this `Host` (or `:authority`) belong together. A host without a port
    /// may be the one of HTTP or that of HTTPS: a proxy that ends TLS leaves no trace that could be trusted.
    pub fn is_of(&self, host: &str) -> bool {
        let (Some(own), Some((host, port))) = (own_port(&self.scheme), split(host)) else {
            return false;
        };
        self.host.eq_ignore_ascii_case(host) && self.port.unwrap_or(own) == port.unwrap_or(own)
    }

    /// Whether anybody on the way could have written the page.
    pub fn is_plain(&self) -> bool {
        matches!(self.scheme.as_str(), "http" | "ws")
    }
}

/// The port that a URL of this scheme need not name.
fn own_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// `host` or `host:port`, where the host may be an IPv6 address in brackets.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_address = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.bytes().all(is_address),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
        None if port.is_empty() => None,
        None => return None,
    };
    is_host.then_some((host, port))
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(formatter, ":{port}"),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    #[test]
    fn an_origin_is_the_same_in_any_case_and_with_its_own_port() {
        for (one, other) in [
            ("https://Example.COM", "https://example.com"),
            ("HTTPS://example.com:443", "https://example.com"),
            ("http://example.com:80", "http://example.com"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(origin(one), origin(other));
            assert_eq!(origin(one).to_string(), other);
        }
    }

    #[test]
    fn scheme_host_and_port_all_count() {
        let known = origin("https://example.com");
        for other in [
            "http://example.com",
            "https://example.com:8443",
            "https://example.com:80",
            "https://www.example.com",
            "https://example.com.evil.example",
            "https://example.co",
        ] {
            assert_ne!(origin(other), known, "{other}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "null",
            "*",
            "example.com",
            "https://",
            "https://example.com/",
            "https://example.com/path",
            "https://*.example.com",
            "https://user@example.com",
            "https://example.com:",
            "https://example.com:x",
            "https://example.com:+80",
            "https://example.com:99999",
            "https://example.com https://example.com",
            "https://exämple.com",
            "https://[::1",
            "https://[]",
            "https://[::1]x",
            "://example.com",
            "1https://example.com",
            " https://example.com",
        ] {
            assert!(Origin::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_app_has_an_origin_too() {
        assert_eq!(
            origin("capacitor://localhost").to_string(),
            "capacitor://localhost"
        );
    }

    #[test]
    fn a_page_belongs_to_the_host_that_it_came_from() {
        for (page, host) in [
            ("http://example.com", "example.com"),
            ("http://example.com", "EXAMPLE.com"),
            ("http://example.com", "example.com:80"),
            ("https://example.com", "example.com"),
            ("https://example.com", "example.com:443"),
            ("https://example.com:8443", "example.com:8443"),
            ("wss://example.com", "example.com"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(origin(page).is_of(host), "{page} {host}");
        }
    }

    #[test]
    fn a_page_belongs_to_no_other_host_or_port() {
        for (page, host) in [
            ("http://example.com", "example.com:8080"),
            ("http://example.com:8080", "example.com"),
            ("http://example.com", "example.com:443"),
            ("https://example.com", "example.com:80"),
            ("https://example.com", "www.example.com"),
            ("https://www.example.com", "example.com"),
            ("capacitor://localhost", "localhost"),
            ("http://example.com", ""),
            ("http://example.com", "example.com:"),
            ("http://example.com", "user@example.com"),
        ] {
            assert!(!origin(page).is_of(host), "{page} {host}");
        }
    }
}
