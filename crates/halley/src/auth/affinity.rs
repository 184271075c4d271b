//! The affinity cookie: the node at which a client was last served, for a balancer that would send it there again. Nothing here
//! depends on it: any node serves any client, and a cookie that somebody made up is only answered with the right one.

use hyper::header::{self, HeaderMap, HeaderValue};

use super::cookie::{attributes, pairs};
use crate::config::{BrowserCookie, Config};

/// Says which node this is.
pub struct Affinity {
    name: String,
    node: String,
    /// What keeps a client here, and what lets it go; each as it is and over TLS.
    keeping: [HeaderValue; 2],
    releasing: [HeaderValue; 2],
}

/// What the cookie of a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// Nothing, or another node.
    Elsewhere,
    /// This node.
    Here,
}

impl Affinity {
    /// `None` where none is wanted.
    pub fn of(config: &Config) -> Option<Self> {
        let cookie = config.affinity_cookie()?;
        Some(Self::new(&cookie, &config.nats.node))
    }

    fn new(cookie: &BrowserCookie, node: &str) -> Self {
        let name = &cookie.name;
        let header = |value: &str, more: &str| {
            [false, true].map(|over_tls| {
                let attributes = attributes(cookie, over_tls);
                HeaderValue::from_str(&format!("{name}={value}{attributes}{more}"))
                    .expect("the configuration was checked")
            })
        };
        Self {
            name: name.clone(),
            node: node.to_owned(),
            keeping: header(node, ""),
            releasing: header("", "; Max-Age=0"),
        }
    }

    /// What a request says.
    pub fn whereabouts(&self, headers: &HeaderMap) -> Whereabouts {
        let cookies = headers.get_all(header::COOKIE).iter();
        let named = pairs(cookies.filter_map(|value| value.to_str().ok()))
            .find(|(name, _)| *name == self.name)
            .map(|(_, value)| value);
        if named == Some(self.node.as_str()) {
            Whereabouts::Here
        } else {
            Whereabouts::Elsewhere
        }
    }

    /// The `Set-Cookie` that brings a client here again, unless it comes here anyway.
    pub fn keep(&self, said: Whereabouts, over_tls: bool) -> Option<HeaderValue> {
        match said {
            Whereabouts::Here => None,
            Whereabouts::Elsewhere => Some(self.keeping[usize::from(over_tls)].clone()),
        }
    }

    /// The `Set-Cookie` that lets it go to any node, if it would come here.
    pub fn release(&self, said: Whereabouts, over_tls: bool) -> Option<HeaderValue> {
        match said {
            Whereabouts::Here => Some(self.releasing[usize::from(over_tls)].clone()),
            Whereabouts::Elsewhere => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{SameSite, Span};

    fn affinity(adjust: impl FnOnce(&mut Config)) -> Affinity {
        let mut config = Config::default();
        config.nats.affinity_cookie = "NODE".to_owned();
        config.nats.node = "halley-2".to_owned();
        adjust(&mut config);
        Affinity::of(&config).expect("one is wanted")
    }

    #[track_caller]
    fn expect(header: &str, said: Whereabouts) {
        let headers = HeaderMap::from_iter([(header::COOKIE, header.parse().unwrap())]);
        assert_eq!(affinity(|_| {}).whereabouts(&headers), said, "{header}");
    }

    #[test]
    fn a_client_is_here_whose_cookie_is_the_name_of_this_node_and_nothing_else() {
        expect("NODE=halley-2", Whereabouts::Here);
        expect("a=b;NODE=\"halley-2\"; c=d", Whereabouts::Here);
        expect("NODE=halley-1", Whereabouts::Elsewhere);
        expect("NODE=halley-22", Whereabouts::Elsewhere);
        expect("OTHER=halley-2", Whereabouts::Elsewhere);
    }

    #[test]
    fn it_goes_where_the_cookie_of_the_browser_goes_and_ends_with_the_browser() {
        let affinity = affinity(|config| {
            config.browser_cookie.path = "/cometd".to_owned();
            config.browser_cookie.max_age = Span(Duration::from_secs(3600));
            config.browser_cookie.same_site = SameSite::Lax;
        });
        assert_eq!(
            affinity.keep(Whereabouts::Elsewhere, true).unwrap(),
            "NODE=halley-2; Path=/cometd; HttpOnly; Secure; SameSite=Lax"
        );
        assert_eq!(
            affinity.release(Whereabouts::Here, false).unwrap(),
            "NODE=; Path=/cometd; HttpOnly; SameSite=Lax; Max-Age=0"
        );
    }

    #[test]
    fn whoever_is_where_it_should_be_is_told_nothing() {
        let affinity = affinity(|_| {});
        assert_eq!(affinity.keep(Whereabouts::Here, false), None);
        assert_eq!(affinity.release(Whereabouts::Elsewhere, false), None);
    }

    #[test]
    fn there_is_none_unless_it_has_a_name() {
        assert!(Affinity::of(&Config::default()).is_none());
    }
}
