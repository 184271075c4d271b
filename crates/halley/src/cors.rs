//! Which pages may speak with this broker: the check of `Origin`, and the CORS headers that tell browsers (Fetch, 3.2).
//!
//! A browser sends its cookies along with whatever a page asks for, so whoever may ask is decided here and not by the cookie.
//! `X-Forwarded-*` is not looked at: anybody can write it.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use serde_json::json;

use crate::config;
use crate::http::{self, Reply};
use crate::origin::Origin;

/// The rules of one listener.
pub struct Cors {
    allowed: Vec<Origin>,
    allowed_headers: Headers,
    exposed_headers: Option<HeaderValue>,
    max_age: HeaderValue,
    allow_credentials: bool,
}

/// The headers that a page may set.
enum Headers {
    /// Whichever it asks for.
    Asked,
    /// These.
    Listed(HeaderValue),
}

/// Where a request comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// No page, or one of this very host.
    Own,
    /// A page of an allowed origin, which the reply has to name.
    Listed(HeaderValue),
    /// Any other page.
    Foreign,
}

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");

/// What browsers say about a request, and no page can (its name begins with `Sec-`).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How much of what a request says is repeated to whoever looks for the reason.
const SHOWN: usize = 200;

impl Cors {
    /// The rules that are configured.
    pub fn new(config: &config::Cors) -> Self {
        let list = |names: &[String]| {
            HeaderValue::from_str(&names.join(", ")).expect("the configuration was checked")
        };
        let any = config.allowed_headers.iter().any(|name| name == "*");
        Self {
            allowed: config.allowed_origins.clone(),
            allowed_headers: if any {
                Headers::Asked
            } else {
                Headers::Listed(list(&config.allowed_headers))
            },
            exposed_headers: (!config.exposed_headers.is_empty()).then(|| list(&config.exposed_headers)),
            max_age: config.max_age.0.as_secs().into(),
            allow_credentials: config.allow_credentials,
        }
    }

    /// Where a request comes from. Only browsers say it, and they always do when a page posts or opens a socket. A page that came
    /// over plain HTTP is not of the host that it names when the request comes over TLS.
    pub fn source<B>(&self, request: &Request<B>, over_tls: bool) -> Source {
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        let Some(value) = origins.next() else {
            return Source::Own;
        };
        let origin = value.to_str().ok().and_then(|text| Origin::parse(text).ok());
        match origin {
            None => Source::Foreign,
            Some(_) if origins.next().is_some() => Source::Foreign,
            Some(origin) if self.allowed.contains(&origin) => Source::Listed(value.clone()),
            Some(origin) if over_tls && origin.is_plain() => Source::Foreign,
            Some(origin) if origin.is_of(host_of(request)) || is_of_same_origin(request.headers()) => {
                Source::Own
            }
            Some(_) => Source::Foreign,
        }
    }

    /// Answers `OPTIONS`, which browsers ask before a page of another origin may post.
    pub fn preflight<B>(&self, request: &Request<B>) -> Reply {
        let mut reply = http::text(StatusCode::OK, "");
        let headers = reply.headers_mut();
        headers.insert(header::ALLOW, METHODS);
        if request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
            let allowed = match &self.allowed_headers {
                Headers::Asked => request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS),
                Headers::Listed(names) => Some(names),
            };
            if let Some(names) = allowed.filter(|names| !names.is_empty()) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
        }
        reply
    }

    /// Lets a page of a listed origin read this reply, whatever it says.
    pub fn share(&self, origin: HeaderValue, reply: &mut Reply) {
        if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let headers = reply.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if self.allow_credentials {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if let Some(names) = &self.exposed_headers {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
        }
    }

    /// Refuses a foreign page, and tells whoever looks for the reason how to allow it. JSON, since some clients read nothing else.
    pub fn refuse<B>(&self, request: &Request<B>) -> Reply {
        let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes);
        let origin = String::from_utf8_lossy(origin.unwrap_or_default());
        let reason = format!(
            "403::the origin {} is neither that of this host ({}) nor in cors.allowed_origins",
            shown(&origin),
            shown(host_of(request)),
        );
        let body = json!([{ "successful": false, "error": reason }]);
        http::json(StatusCode::FORBIDDEN, body.to_string())
    }
}

fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN)]
}

/// What the request was sent to: `:authority` of HTTP/2 or an absolute URI, otherwise `Host`.
fn host_of<B>(request: &Request<B>) -> &str {
    let host = request.headers().get(header::HOST);
    request
        .uri()
        .authority()
        .map(hyper::http::uri::Authority::as_str)
        .or_else(|| host.and_then(|host| host.to_str().ok()))
        .unwrap_or_default()
}

/// The browser itself compared the page with what it asked for, before any proxy changed the host.
fn is_of_same_origin(headers: &HeaderMap) -> bool {
    headers
        .get(SEC_FETCH_SITE)
        .is_some_and(|site| site == "same-origin")
}
