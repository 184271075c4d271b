//! `proxy-headers`: a proxy has asked who it is, and says so in headers. Only proxies at the configured addresses are believed.

use std::net::IpAddr;
use std::sync::Arc;

use futures::future::{BoxFuture, ready};
use hyper::HeaderMap;

use super::{AuthError, Authenticator, Credentials, Denial, Principal, Verdict};
use crate::config::{self, Config};
use crate::event::{Tenant, UserId};

struct ProxyHeaders(config::ProxyHeaders);

pub(super) fn make(config: &Config) -> Result<Arc<dyn Authenticator>, AuthError> {
    if config.proxy_headers.peers.is_empty() {
        let reason = "peers is empty, so nobody could ever connect";
        return Err(AuthError::Proxies(reason.to_owned()));
    }
    Ok(Arc::new(ProxyHeaders(config.proxy_headers.clone())))
}

impl ProxyHeaders {
    fn verdict(&self, headers: &HeaderMap, peer: IpAddr) -> Verdict {
        if !self.0.peers.iter().any(|proxy| proxy.contains(peer)) {
            // What a stranger says of itself is no credential.
            return Verdict::Unknown;
        }
        match self.principal(headers) {
            Ok(Some(principal)) => Verdict::Is(principal),
            Ok(None) => Verdict::Unknown,
            Err(denial) => Verdict::Refused(denial),
        }
    }

    fn principal(&self, headers: &HeaderMap) -> Result<Option<Principal>, Denial> {
        let Some(user) = only(headers, &self.0.user)? else {
            return Ok(None);
        };
        let user = UserId::parse(user).map_err(|_| Denial::Wrong)?;
        let tenant = match self.0.tenant.as_str() {
            "" => Tenant::default(),
            name => {
                let tenant = only(headers, name)?.ok_or(Denial::Wrong)?;
                Tenant::parse(tenant).map_err(|_| Denial::Wrong)?
            }
        };
        let roles = match self.0.roles.as_str() {
            "" => None,
            name => only(headers, name)?,
        };
        let roles = roles.unwrap_or_default().split(',').map(str::trim);
        Ok(Some(Principal {
            tenant,
            user: Some(user),
            roles: roles.filter(|role| !role.is_empty()).map(Into::into).collect(),
            token: None,
        }))
    }
}

/// The value of a header. When it is there twice, the client has slipped one past the proxy.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Denial> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Denial::Wrong);
    }
    value.to_str().map(Some).map_err(|_| Denial::Wrong)
}

impl Authenticator for ProxyHeaders {
    fn judge(&self, credentials: &Credentials<'_>) -> BoxFuture<'static, Verdict> {
        let verdict = match (credentials.request, &credentials.token) {
            (Some((headers, peer)), _) => self.verdict(headers, peer),
            // A token in a message: nobody here gives out any.
            (None, Some(_)) => Verdict::Refused(Denial::Wrong),
            (None, None) => Verdict::Unknown,
        };
        Box::pin(ready(verdict))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn judge(peer: &str, lines: &[(&'static str, &str)]) -> Verdict {
        let mut config = Config::default();
        config.proxy_headers.peers = vec![config::Network::parse("10.0.0.0/8").unwrap()];
        config.proxy_headers.roles = "X-Roles".to_owned();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let shown = Credentials {
            request: Some((&headers, peer.parse().unwrap())),
            ..Credentials::default()
        };
        let judged = make(&config).unwrap().judge(&shown);
        judged.now_or_never().expect("judged at once")
    }

    #[test]
    fn a_proxy_says_who_it_is() {
        let Verdict::Is(principal) = judge("10.1.2.3", &[("x-halley-user", "15000"), ("x-roles", "a, b,")])
        else {
            panic!("it is nobody")
        };
        assert_eq!(principal.user, Some(UserId("15000".into())));
        assert_eq!(&*principal.roles, ["a".into(), "b".into()]);
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(
            judge("192.0.2.1", &[("x-halley-user", "15000")]),
            Verdict::Unknown
        );
    }

    #[test]
    fn a_header_that_was_slipped_past_the_proxy_is_refused() {
        let lines = [("x-halley-user", "15001"), ("x-halley-user", "15000")];
        assert_eq!(judge("10.1.2.3", &lines), Verdict::Refused(Denial::Wrong));
    }

    #[test]
    fn a_proxy_that_says_nothing_leaves_it_open() {
        assert_eq!(judge("10.1.2.3", &[]), Verdict::Unknown);
    }
}
