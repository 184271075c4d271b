//! Where the server is, and what every request to it carries.

use hyper::Uri;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use tokio::net::TcpStream;

use super::cookies::Cookies;
use crate::error::Error;

/// The server's address, taken apart once.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// The `Host` header.
    authority: HeaderValue,
    post: Uri,
    upgrade: Uri,
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// Reads `http://…` or `ws://…`, which name the same server for either transport.
    pub(crate) fn parse(url: &str, authorization: Option<HeaderValue>) -> Result<Endpoint, Error> {
        let wrong = |reason| Error::Url {
            url: url.to_owned(),
            reason,
        };
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            Some("https" | "wss") => return Err(wrong("TLS is not supported yet, use http:// or ws://")),
            _ => return Err(wrong("must begin with http:// or ws://")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("carries credentials; give them to the builder"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let path = uri
            .path_and_query()
            .cloned()
            .unwrap_or(PathAndQuery::from_static("/"));
        let upgrade = Uri::builder()
            .scheme("ws")
            .authority(authority.clone())
            .path_and_query(path.clone());
        Ok(Endpoint {
            host,
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::try_from(authority.as_str()).map_err(|_| wrong("not a URL"))?,
            post: Uri::from(path),
            upgrade: upgrade.build().map_err(|_| wrong("not a URL"))?,
            authorization,
        })
    }

    pub(crate) async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// What a request line says, which names no host.
    pub(crate) fn post_uri(&self) -> Uri {
        self.post.clone()
    }

    /// What a WebSocket upgrade is made from.
    pub(crate) fn upgrade_uri(&self) -> Uri {
        self.upgrade.clone()
    }

    /// `Host`, `Authorization` and `Cookie`.
    pub(crate) fn headers(&self, cookies: &Cookies) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(HOST, self.authority.clone())]);
        headers.extend(self.authorization.clone().map(|value| (AUTHORIZATION, value)));
        headers.extend(cookies.header().map(|value| (COOKIE, value)));
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(url: &str) -> &'static str {
        match Endpoint::parse(url, None) {
            Err(Error::Url { reason, .. }) => reason,
            _ => "accepted",
        }
    }

    #[test]
    fn https_is_refused_with_a_reason() {
        assert_eq!(
            reason("https://host/cometd"),
            "TLS is not supported yet, use http:// or ws://"
        );
    }

    #[test]
    fn credentials_in_the_url_are_refused() {
        assert_eq!(
            reason("http://user:secret@host/"),
            "carries credentials; give them to the builder"
        );
    }

    #[test]
    fn the_port_is_80_unless_named() {
        assert_eq!(
            Endpoint::parse("ws://host/cometd", None)
                .ok()
                .map(|endpoint| endpoint.port),
            Some(80)
        );
    }

    #[test]
    fn a_post_keeps_path_and_query() {
        let endpoint = Endpoint::parse("http://host/cometd?a=b", None).ok();
        assert_eq!(
            endpoint.map(|endpoint| endpoint.post.to_string()),
            Some("/cometd?a=b".to_owned())
        );
    }

    #[test]
    fn an_ipv6_address_loses_its_brackets() {
        let endpoint = Endpoint::parse("http://[::1]:8080/cometd", None).ok();
        assert_eq!(endpoint.map(|endpoint| endpoint.host), Some("::1".to_owned()));
    }
}
