//! What browsers are told: the cookie, and whose pages may speak with the broker.

use serde::{Deserialize, Serialize};

use super::values::{Span, is_token, seconds};
use crate::origin::Origin;

/// The cookie that says which browser a session belongs to.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrowserCookie {
    /// Its name.
    pub name: String,
    /// The domain that gets it; empty for the host alone.
    pub domain: String,
    /// The path below which it is sent.
    pub path: String,
    /// How long the browser keeps it; nothing for as long as it is open.
    pub max_age: Span,
    /// Only over HTTPS.
    pub secure: bool,
    /// Not for scripts.
    pub http_only: bool,
    /// Which sites' pages it is sent from.
    pub same_site: SameSite,
    /// A jar of its own for each top-level site.
    pub partitioned: bool,
}

/// Whose pages may speak with the broker.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Beside pages of the broker's own origin, those of these.
    pub allowed_origins: Vec<Origin>,
    /// Headers that such pages may set; `*` for whichever they ask for.
    pub allowed_headers: Vec<String>,
    /// Headers of replies that they may read, beside the harmless ones.
    pub exposed_headers: Vec<String>,
    /// How long a browser remembers what it was allowed.
    pub max_age: Span,
    /// They come with cookies and credentials.
    pub allow_credentials: bool,
}

/// Which sites' pages a cookie is sent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// As the browser sees fit.
    Unset,
    /// Any.
    None,
    /// Its own, and links to it.
    Lax,
    /// Its own.
    Strict,
}

impl BrowserCookie {
    /// Nothing may break out of the header, and nothing may make browsers throw the cookie away.
    pub(super) fn check(&self, over_tls: bool) -> Result<(), (&'static str, &'static str)> {
        let Self {
            name, domain, path, ..
        } = self;
        let is_secure = self.secure || over_tls;
        if !is_token(name) {
            return Err((
                "name",
                "letters, digits and !#$%&'*+-.^_`|~, as in a header's name",
            ));
        }
        let is_host = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !domain.is_empty() && !domain.split('.').all(|label| !label.is_empty() && is_host(label)) {
            return Err((
                "domain",
                "a host name such as example.com, without scheme, port or leading dot",
            ));
        }
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
            return Err(("path", "begins with a slash, and has no space and no semicolon"));
        }
        if self.max_age.0.subsec_nanos() != 0 {
            return Err(("max_age", "a browser counts whole seconds"));
        }
        if !is_secure && self.same_site == SameSite::None {
            return Err((
                "same_site",
                "browsers refuse \"none\" from a cookie that is not secure: set browser_cookie.secure",
            ));
        }
        if !is_secure && self.partitioned {
            return Err((
                "partitioned",
                "browsers refuse it from a cookie that is not secure: set browser_cookie.secure",
            ));
        }
        let prefix = |prefix: &str| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if prefix("__Secure-") && !is_secure {
            return Err((
                "name",
                "browsers refuse __Secure- from a cookie that is not secure",
            ));
        }
        if prefix("__Host-") && !(is_secure && domain.is_empty() && path == "/") {
            return Err((
                "name",
                "browsers refuse __Host- from a cookie that is not secure, or has a domain or another path than /",
            ));
        }
        Ok(())
    }
}

impl Default for BrowserCookie {
    fn default() -> Self {
        Self {
            name: "BAYEUX_BROWSER".to_owned(),
            domain: String::new(),
            path: "/".to_owned(),
            max_age: seconds(0),
            secure: false,
            http_only: true,
            same_site: SameSite::Unset,
            partitioned: false,
        }
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            allowed_headers: vec!["*".to_owned()],
            exposed_headers: Vec::new(),
            max_age: seconds(1800),
            allow_credentials: true,
        }
    }
}
