//! Keys that an issuer publishes (RFC 7517): fetched in the background, asked for again with their `ETag`, and used while
//! the issuer is away.
//!
//! A token with a key that is not known makes them be fetched again, since issuers change their keys: whoever waits shares one
//! fetch, and an issuer is asked no more often than once in `jwks_min_interval`, however many such tokens come.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::{debug, warn};

use super::keys::{self, Key};
use crate::config;
use crate::http;
use crate::logging::Shown;

/// How often and how long issuers are asked.
#[derive(Clone, Copy)]
pub(super) struct Fetching {
    refresh: Duration,
    min_interval: Duration,
    timeout: Duration,
}

impl Fetching {
    pub(super) fn of(settings: &config::Jwt) -> Self {
        Self {
            refresh: settings.jwks_refresh.0,
            min_interval: settings.jwks_min_interval.0,
            timeout: settings.jwks_timeout.0,
        }
    }
}

/// The published keys of one issuer.
pub(super) struct Jwks {
    url: Uri,
    algorithms: Vec<Algorithm>,
    fetching: Fetching,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    state: Mutex<State>,
    /// Held while the issuer is asked.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Arc<Vec<Key>>,
    etag: Option<HeaderValue>,
    /// From when on the keys are to be fetched again; `None` before they were fetched once.
    stale: Option<Instant>,
    /// When the issuer was asked last.
    asked: Option<Instant>,
}

/// What an issuer publishes is shorter.
const LARGEST: usize = 256 << 10;

/// Keys of one issuer that are looked at.
const MOST_KEYS: usize = 64;

impl Jwks {
    pub(super) fn new(url: &str, algorithms: &[String], fetching: &Fetching) -> Result<Self, String> {
        let parsed: Uri = url
            .parse()
            .map_err(|error| format!("jwks_url {url:?}: {error}"))?;
        check(&parsed).map_err(|reason| format!("jwks_url {url:?}: {reason}"))?;
        let algorithms = algorithms
            .iter()
            .map(|name| keys::algorithm(name))
            .collect::<Result<Vec<_>, _>>()?;
        if algorithms.is_empty() || algorithms.iter().any(|algorithm| keys::is_shared(*algorithm)) {
            return Err("algorithms: at least one, and no HS…: what is published is no secret".to_owned());
        }
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(http::connector(&parsed)?),
            url: parsed,
            algorithms,
            fetching: *fetching,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// The keys as they were last fetched. Old ones are fetched again in the background.
    pub(super) fn keys(self: &Arc<Self>) -> Arc<Vec<Key>> {
        let (keys, is_stale) = {
            let state = self.state.lock();
            let is_stale = state.stale.is_none_or(|stale| stale <= Instant::now());
            (Arc::clone(&state.keys), is_stale)
        };
        if is_stale && self.may_ask() {
            self.refresh_in_background();
        }
        keys
    }

    /// Whether keys were ever fetched.
    pub(super) fn has_keys(&self) -> bool {
        self.state.lock().stale.is_some()
    }

    pub(super) fn refresh_in_background(self: &Arc<Self>) {
        // Whoever has the turn is doing it.
        if self.turn.try_lock().is_ok() {
            let jwks = Arc::clone(self);
            tokio::spawn(async move { jwks.fetch_again().await });
        }
    }

    /// Asks the issuer, unless that was done a moment ago. Everyone who comes meanwhile waits for the same answer.
    pub(super) async fn fetch_again(self: &Arc<Self>) {
        let _turn = self.turn.lock().await;
        if !self.may_ask() {
            return;
        }
        self.state.lock().asked = Some(Instant::now());
        let fetched = tokio::time::timeout(self.fetching.timeout, self.fetch()).await;
        match fetched.unwrap_or_else(|_| Err("it did not answer in time".to_owned())) {
            Ok(()) => debug!(url = %self.url, "an issuer's keys were fetched"),
            Err(reason) => {
                let kept = self.state.lock().keys.len();
                warn!(url = %self.url, reason = %Shown(reason), kept, "an issuer's keys cannot be fetched; those that are known stay");
            }
        }
    }

    fn may_ask(&self) -> bool {
        let asked = self.state.lock().asked;
        asked.is_none_or(|asked| asked.elapsed() >= self.fetching.min_interval)
    }

    async fn fetch(&self) -> Result<(), String> {
        let etag = self.state.lock().etag.clone();
        let mut request = Request::get(self.url.clone())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("halley/", env!("CARGO_PKG_VERSION")));
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!(
                "it cannot be reached: {}",
                cause.unwrap_or_else(|| error.to_string())
            )
        })?;
        let (head, body) = response.into_parts();
        let stale = Instant::now() + self.lifetime(&head.headers);
        match head.status {
            StatusCode::NOT_MODIFIED => {}
            StatusCode::OK => {
                let body = Limited::new(body, LARGEST).collect().await;
                let body = body
                    .map_err(|error| format!("its answer broke off: {error}"))?
                    .to_bytes();
                let keys = self.read(&body)?;
                let mut state = self.state.lock();
                state.keys = Arc::new(keys);
                state.etag = head.headers.get(ETAG).cloned();
            }
            status => return Err(format!("it answered {status}")),
        }
        self.state.lock().stale = Some(stale);
        Ok(())
    }

    fn read(&self, body: &[u8]) -> Result<Vec<Key>, String> {
        #[derive(Deserialize)]
        struct Published<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let published: Published<'_> =
            serde_json::from_slice(body).map_err(|_| "its answer is no set of keys".to_owned())?;
        let keys: Vec<Key> = published
            .keys
            .iter()
            .take(MOST_KEYS)
            .filter_map(|raw| serde_json::from_str::<Jwk>(raw.get()).ok())
            .filter_map(|jwk| Key::published(&jwk, &self.algorithms))
            .collect();
        if keys.is_empty() {
            return Err("none of its keys can be used: see jwt.issuers.algorithms".to_owned());
        }
        Ok(keys)
    }

    /// What the issuer says, between the least interval and the one of the configuration.
    fn lifetime(&self, headers: &HeaderMap) -> Duration {
        let said = headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
        let max_age = said.and_then(|said| {
            let ages = said
                .split(',')
                .filter_map(|part| part.trim().strip_prefix("max-age="));
            ages.filter_map(|age| age.parse().ok()).next()
        });
        let Fetching {
            refresh,
            min_interval,
            ..
        } = self.fetching;
        max_age.map_or(refresh, |age| {
            Duration::from_secs(age).clamp(min_interval, refresh.max(min_interval))
        })
    }
}

/// Whoever can change what is answered can make tokens: without TLS only where nobody else is in between.
fn check(url: &Uri) -> Result<(), String> {
    let host = url.host().unwrap_or_default();
    match url.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_near(host) => Ok(()),
        Some("http") => Err("over http only on this machine or in the cluster: use https".to_owned()),
        Some(_) | None => Err("it begins with https://".to_owned()),
    }
}

/// This machine, a private address, or a name that only a cluster knows.
fn is_near(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
    match address {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => {
            let inner = [".svc", ".svc.cluster.local", ".internal", ".localhost"];
            !host.contains('.') || inner.iter().any(|end| host.ends_with(end))
        }
    }
}
