//! The public listener: which transport a request is for.
//!
//! A transport is a file beside this one and a line in [`ALL`]. What they share (messages in, replies out) is in
//! `exchange.rs`.

mod exchange;
mod long_polling;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bayeux::Carrier;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Request, StatusCode, header};
use parking_lot::Mutex;

use crate::auth::{Authenticator, Browsers, Credentials, Verdict};
use crate::config::Config;
use crate::http::{self, Reply, Service, Shutdown};
use crate::log::EventLog;
use crate::metrics::Metrics;
use crate::services::Services;
use crate::sessions::{Handle, Requester, Sessions};

/// One way for clients to come.
pub struct Transport {
    /// Its name in `supportedConnectionTypes` and in metrics.
    pub connection_type: &'static str,
    /// Whether this request is for it.
    pub accepts: fn(&Request<Incoming>) -> bool,
    /// Answers the request.
    pub answer: fn(Arc<Public>, Connection, Request<Incoming>) -> BoxFuture<'static, Reply>,
}

/// Every transport, in the order in which the handshake names them and requests meet them.
pub const ALL: &[Transport] = &[websocket::TRANSPORT, long_polling::TRANSPORT];

/// What the public listener knows.
pub struct Public {
    /// The sessions of this node.
    pub sessions: Arc<Sessions>,
    /// Where clients' publishes go.
    pub log: Arc<dyn EventLog>,
    /// Says who is asking.
    pub authenticator: Arc<dyn Authenticator>,
    /// Issues and recognises browser cookies.
    pub browsers: Browsers,
    /// Answers what clients send to services.
    pub services: Arc<Services>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Paths and bounds.
    pub config: Arc<Config>,
    /// Given when the process is going to end.
    pub shutdown: Shutdown,
}

/// One connection of a client: remembers which session the last response was for, in case it did not arrive.
#[derive(Clone)]
pub struct Connection {
    public: Arc<Public>,
    last_reply: Arc<Mutex<Option<LastReply>>>,
}

/// Whose connect was answered last, and on which carrier.
struct LastReply {
    handle: Arc<Handle>,
    carrier: Carrier,
}

impl Connection {
    /// A new connection.
    pub fn new(public: &Arc<Public>, _peer: SocketAddr) -> Self {
        Self {
            public: Arc::clone(public),
            last_reply: Arc::default(),
        }
    }

    /// The response that is about to leave carries a connect reply of this session.
    fn replies_for(&self, handle: &Arc<Handle>, carrier: Carrier) {
        *self.last_reply.lock() = Some(LastReply {
            handle: Arc::clone(handle),
            carrier,
        });
    }
}

impl Service for Connection {
    async fn answer(self, request: Request<Incoming>) -> Reply {
        // Another request on this connection: the response before it was written.
        *self.last_reply.lock() = None;
        let public = Arc::clone(&self.public);
        if !public.serves(request.uri().path()) {
            return http::text(StatusCode::NOT_FOUND, public.directions());
        }
        match ALL.iter().find(|transport| (transport.accepts)(&request)) {
            Some(transport) => (transport.answer)(public, self, request).await,
            None => {
                let mut response = http::text(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "Bayeux is spoken by POST or WebSocket\n",
                );
                response
                    .headers_mut()
                    .insert(header::ALLOW, header::HeaderValue::from_static("POST"));
                response
            }
        }
    }

    fn ended(&self, clean: bool) {
        let last = self.last_reply.lock().take();
        if let (false, Some(last)) = (clean, last) {
            self.public.sessions.handle_reply_lost(&last.handle, last.carrier);
        }
    }
}

impl Public {
    /// A configured path, or anything below one.
    fn serves(&self, path: &str) -> bool {
        self.config.public.paths.iter().any(|base| {
            let base = base.trim_end_matches('/');
            path.strip_prefix(base)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    fn directions(&self) -> String {
        format!(
            "Bayeux is spoken at {} and below\n",
            self.config.public.paths.join(", ")
        )
    }

    /// Who sends this request, as far as its headers say.
    async fn requester(&self, request: &Request<Incoming>) -> Requester {
        let authorization = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let cookies = request
            .headers()
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let browser = self.browsers.recognise(cookies);
        let mut who = Requester {
            browser,
            ..Requester::default()
        };
        who.learn(
            self.authenticator
                .judge(&Credentials::from_header(authorization))
                .await,
        );
        who
    }

    fn body_timeout(&self) -> Duration {
        self.config.limits.body_timeout.0
    }

    fn body_limit(&self) -> usize {
        crate::config::bytes(self.config.limits.request_body)
    }
}

impl Requester {
    /// Takes in what an authenticator made of the credentials.
    fn learn(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Is(principal) => {
                self.principal = Some(principal);
                self.refused = false;
            }
            Verdict::Refused => self.refused = true,
            Verdict::Unknown => {}
        }
    }
}

/// Tells a session when a carrier is gone. After a carrier was answered this says nothing new.
struct Attached {
    public: Arc<Public>,
    handle: Arc<Handle>,
    carrier: Carrier,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.public
            .sessions
            .handle_carrier_lost(&self.handle, self.carrier);
    }
}
