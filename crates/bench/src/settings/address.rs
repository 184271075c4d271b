//! Addresses: where to, and where from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::SettingsError;

/// A `ws://`, `http://` address, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// How it is spoken there.
    pub scheme: Scheme,
    /// Host and port as a `Host` header has them.
    pub host: String,
    /// From the first slash on.
    pub path: String,
    /// Where that is.
    pub socket: SocketAddr,
}

/// How it is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`
    Http,
    /// `ws://`
    Ws,
}

impl Address {
    /// Where Halley takes events.
    pub(super) fn halley_events() -> Self {
        Self {
            scheme: Scheme::Http,
            host: "127.0.0.1:9090".to_owned(),
            path: "/api/v1/events".to_owned(),
            socket: (Ipv4Addr::LOCALHOST, 9090).into(),
        }
    }

    /// Whether it says that a WebSocket is spoken.
    pub fn is_websocket(&self) -> bool {
        self.scheme == Scheme::Ws
    }
}

impl FromStr for Address {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let wrong = |reason: &str| SettingsError(format!("{text}: {reason}"));
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| wrong("an address is like ws://127.0.0.1:8080/cometd"))?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "ws" => Scheme::Ws,
            "https" | "wss" => {
                return Err(wrong(
                    "TLS is not spoken here: point to the server itself, behind whatever ends TLS",
                ));
            }
            _ => return Err(wrong("an address begins with ws:// or http://")),
        };
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if host.is_empty()
            || path.contains(|letter: char| letter.is_ascii_whitespace() || letter.is_control())
        {
            return Err(wrong("there is no host, or the path has blanks"));
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let socket = with_port
            .to_socket_addrs()
            .map_err(|error| wrong(&error.to_string()))?
            .next()
            .ok_or_else(|| wrong("there is no such host"))?;
        Ok(Self {
            scheme,
            host: host.to_owned(),
            path: path.to_owned(),
            socket,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Ws => "ws",
        };
        write!(formatter, "{scheme}://{}{}", self.host, self.path)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Addresses that connections come from: `127.0.0.2`, or `127.0.0.2-127.0.0.9`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources(pub Vec<IpAddr>);

impl FromStr for Sources {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let wrong = || {
            SettingsError(format!(
                "{text}: source addresses are like 127.0.0.2 or 127.0.0.2-127.0.0.9"
            ))
        };
        let Some((first, last)) = text.split_once('-') else {
            return Ok(Self(vec![text.parse().map_err(|_| wrong())?]));
        };
        let number = |text: &str| text.parse::<Ipv4Addr>().map(u32::from).map_err(|_| wrong());
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last - first >= 1_000 {
            return Err(wrong());
        }
        Ok(Self(
            (first..=last)
                .map(|number| Ipv4Addr::from(number).into())
                .collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_put_together() {
        let address: Address = "ws://127.0.0.1:8080/cometd".parse().unwrap();
        assert_eq!((&*address.host, &*address.path), ("127.0.0.1:8080", "/cometd"));
        assert_eq!(address.to_string(), "ws://127.0.0.1:8080/cometd");
    }

    #[test]
    fn a_port_and_a_path_may_be_left_out() {
        let address: Address = "http://[::1]".parse().unwrap();
        assert_eq!((address.socket.port(), &*address.path), (80, "/"));
    }

    #[test]
    fn what_cannot_be_spoken_is_refused_with_a_reason() {
        for (text, words) in [
            ("wss://host/cometd", "TLS"),
            ("host/cometd", "like ws://"),
            ("ftp://host/", "ws:// or http://"),
            ("ws:///cometd", "no host"),
        ] {
            let reason = text.parse::<Address>().unwrap_err().0;
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn sources_come_alone_or_as_a_range() {
        let sources: Sources = "127.0.0.254-127.0.1.1".parse().unwrap();
        assert_eq!(sources.0.len(), 4);
        assert_eq!("127.0.0.7".parse::<Sources>().unwrap().0.len(), 1);
        assert!("127.0.0.9-127.0.0.1".parse::<Sources>().is_err());
    }
}
