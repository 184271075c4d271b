//! The public listener: which transport a request is for.
//!
//! A transport is a file beside this one and a line in [`ALL`]. What they share (messages in, replies out) is in
//! `exchange.rs`; what those share that poll, in `polling.rs`.

mod callback_polling;
mod exchange;
mod long_polling;
mod polling;
mod unknown;
mod websocket;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::Carrier;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode, Version, header};
use parking_lot::Mutex;
use thiserror::Error;

use crate::auth::{
    Affinity, Authenticator, Browser, Browsers, Credentials, Principal, Revocations, Verdict, Whereabouts,
};
use crate::config::Config;
use crate::cors::{Cors, Source};
use crate::denials::Denials;
use crate::drain::{Attending, Drain};
use crate::http::{self, Peer, Reply, Service, Shutdown};
use crate::log::EventLog;
use crate::metrics::{self, Metrics, Outcome};
use crate::quota::{Origin, Quotas};
use crate::services::Services;
use crate::sessions::{Crowd, Handle, Requester, Sessions};

pub use unknown::Unknown;
use unknown::{Lateness, Stray};
#[doc(hidden)]
pub use websocket::socket_wire;
pub use websocket::{Beat, Leaving};

/// One way for clients to come.
pub struct Transport {
    /// Its name in `supportedConnectionTypes` and in metrics.
    pub connection_type: &'static str,
    /// The method of its requests, for `Allow`; an upgrade is none.
    pub method: Option<Method>,
    /// Whether this request is for it.
    pub accepts: fn(&Request<Incoming>) -> bool,
    /// Answers the request.
    pub answer: fn(Arc<Public>, Connection, Request<Incoming>) -> BoxFuture<'static, Reply>,
}

/// Every transport, in the order in which requests meet them.
pub const ALL: &[Transport] = &[
    websocket::TRANSPORT,
    long_polling::TRANSPORT,
    callback_polling::TRANSPORT,
];

/// Why transports cannot be spoken.
#[derive(Debug, Error)]
pub enum TransportError {
    /// There is no such transport.
    #[error("public.transports: {0:?} is unknown, a transport is one of {1}")]
    Unknown(String, String),
}

/// The transports with these names, in this order.
pub fn named(names: &[String]) -> Result<Vec<&'static Transport>, TransportError> {
    let find = |name: &String| {
        let known = ALL.iter().find(|transport| transport.connection_type == *name);
        known.ok_or_else(|| TransportError::Unknown(name.clone(), connection_types(ALL).join(", ")))
    };
    names.iter().map(find).collect()
}

fn connection_types<'a>(transports: impl IntoIterator<Item = &'a Transport>) -> Vec<&'static str> {
    transports
        .into_iter()
        .map(|transport| transport.connection_type)
        .collect()
}

/// What the public listener knows.
pub struct Public {
    /// The sessions of this node.
    pub sessions: Arc<Sessions>,
    /// Where clients' publishes go.
    pub log: Arc<dyn EventLog>,
    /// Says who is asking.
    pub authenticator: Arc<dyn Authenticator>,
    /// What does not count any more.
    pub revocations: Arc<Revocations>,
    /// The transports that are spoken here.
    pub transports: Vec<&'static Transport>,
    /// Issues and recognises browser cookies.
    pub browsers: Browsers,
    /// Says to balancers at which node a client is, if they want to know.
    pub affinity: Option<Affinity>,
    /// Whose pages may ask.
    pub cors: Cors,
    /// How many connects each browser has held.
    pub crowd: Arc<Crowd>,
    /// Answers what clients send to services.
    pub services: Arc<Services>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The clock of all sockets.
    pub beat: Beat,
    /// Says what was denied.
    pub denials: Denials,
    /// Who was told that a session is unknown.
    pub unknown: Mutex<Unknown>,
    /// What each address has used up.
    pub quotas: Arc<Quotas>,
    /// Paths and bounds.
    pub config: Arc<Config>,
    /// Whether it is about to, and nobody new is welcome.
    pub drain: Arc<Drain>,
    /// Given when the process is going to end.
    pub shutdown: Shutdown,
}

/// One connection of a client: remembers whose connects were answered on it, in case that did not arrive, and which browser is
/// at its other end.
#[derive(Clone)]
pub struct Connection {
    public: Arc<Public>,
    peer: IpAddr,
    noted: Arc<Mutex<Noted>>,
    /// HTTP/2: a request says nothing of the response to another.
    is_shared: bool,
    /// TLS.
    is_secure: bool,
}

/// What is remembered from one request of a connection to the next.
#[derive(Default)]
struct Noted {
    last_replies: Vec<LastReply>,
    browser: Option<Browser>,
}

/// Goes with a reply to a client whose session is here.
#[derive(Debug, Clone, Copy)]
struct Served;

/// The last answer to a connect of one session, and on which carrier.
struct LastReply {
    handle: Arc<Handle>,
    carrier: Carrier,
}

impl Connection {
    /// A new connection.
    pub fn new(public: &Arc<Public>, peer: &Peer) -> Self {
        Self {
            public: Arc::clone(public),
            peer: peer.address.ip(),
            noted: Arc::default(),
            is_shared: false,
            is_secure: peer.is_secure,
        }
    }

    /// The browser that cookies name.
    fn recognise<'a>(&self, cookies: impl Iterator<Item = &'a str>) -> Option<Browser> {
        let known = self.noted.lock().browser.clone();
        let browser = self.public.browsers.recognise(cookies, known.as_ref());
        if browser.is_some() && browser != known {
            self.noted.lock().browser.clone_from(&browser);
        }
        browser
    }

    /// How many sessions of one browser may have a connect held, if that is bounded.
    fn most_held(&self) -> Option<usize> {
        let session = &self.public.config.session;
        let most = if self.is_shared {
            session.http2_max_sessions_per_browser
        } else {
            session.max_sessions_per_browser
        };
        usize::try_from(most).ok()
    }

    /// The response that is about to leave carries a connect reply of this session.
    fn replies_for(&self, last: LastReply, response: &mut Reply) {
        let LastReply { handle, carrier } = &last;
        if self.is_shared {
            let (public, handle, carrier) = (Arc::clone(&self.public), Arc::clone(handle), *carrier);
            let tell = move || public.sessions.handle_reply_lost(&handle, carrier);
            response.extensions_mut().insert(http::IfLost(Arc::new(tell)));
        }
        let mut noted = self.noted.lock();
        let replies = &mut noted.last_replies;
        replies.retain(|old| !Arc::ptr_eq(&old.handle, handle));
        if replies.len() == replies.capacity() {
            replies.retain(|old| self.public.sessions.may_be_lost(&old.handle, old.carrier));
            // Over HTTP/1.1 there is never more than one.
            let more = replies.len().max(1);
            replies.reserve_exact(more);
        }
        replies.push(last);
    }
}

impl Connection {
    /// Answers a request that may be asked. Nothing of it stays here: hyper keeps room for this future as long as the connection
    /// is there.
    fn route(self, request: Request<Incoming>) -> BoxFuture<'static, Reply> {
        let public = Arc::clone(&self.public);
        let at_once = |reply| Box::pin(std::future::ready(reply));
        if !public.serves(request.uri().path()) {
            return at_once(http::text(StatusCode::NOT_FOUND, public.directions()));
        }
        if request.method() == Method::OPTIONS {
            return at_once(public.cors.preflight(&request));
        }
        match public.transport_of(&request) {
            Some(transport) => (transport.answer)(public, self, request),
            None => at_once(public.not_allowed()),
        }
    }
}

impl Service for Connection {
    fn answer(mut self, request: Request<Incoming>) -> impl Future<Output = Reply> + Send {
        self.is_shared = request.version() == Version::HTTP_2;
        if !self.is_shared {
            // Another request on this connection: the response before it was written.
            self.noted.lock().last_replies.clear();
        }
        let public = Arc::clone(&self.public);
        let is_secure = self.is_secure;
        let whereabouts = public
            .affinity
            .as_ref()
            .map(|affinity| affinity.whereabouts(request.headers()));
        let source = public.cors.source(&request, self.is_secure);
        let (origin, answered) = match source {
            Source::Own => (None, self.route(request)),
            Source::Listed(origin) => (Some(origin), self.route(request)),
            Source::Foreign => (None, public.refuse_origin(&request)),
        };
        async move {
            let mut reply = http::say_when(answered.await);
            if let Some(origin) = origin {
                public.cors.share(origin, &mut reply);
            }
            if let Some(whereabouts) = whereabouts {
                public.direct(whereabouts, is_secure, &mut reply);
            }
            if public.drain.is_on() && reply.status() != StatusCode::SWITCHING_PROTOCOLS {
                // The next request finds another node, if there is one. HTTP/2 has another word for it.
                let close = header::HeaderValue::from_static("close");
                reply.headers_mut().insert(header::CONNECTION, close);
            }
            reply
        }
    }

    fn ended(&self, clean: bool) {
        let replies = std::mem::take(&mut self.noted.lock().last_replies);
        for last in replies.iter().filter(|_| !clean) {
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

    fn transport_of(&self, request: &Request<Incoming>) -> Option<&'static Transport> {
        ALL.iter()
            .filter(|transport| self.speaks(transport))
            .find(|transport| (transport.accepts)(request))
    }

    fn speaks(&self, transport: &Transport) -> bool {
        (self.transports.iter()).any(|spoken| spoken.connection_type == transport.connection_type)
    }

    fn not_allowed(&self) -> Reply {
        let transports = connection_types(self.transports.iter().copied()).join(" or ");
        let text = format!("Bayeux is spoken here over {transports}\n");
        let mut response = http::text(StatusCode::METHOD_NOT_ALLOWED, text);
        let methods = self.transports.iter().filter_map(|spoken| spoken.method.as_ref());
        let methods: Vec<&str> = methods.map(Method::as_str).collect();
        if let Ok(methods) = methods.join(", ").parse() {
            response.headers_mut().insert(header::ALLOW, methods);
        }
        response
    }

    fn refuse_origin(&self, request: &Request<Incoming>) -> BoxFuture<'static, Reply> {
        self.count_refusal("origin_refused");
        Box::pin(std::future::ready(self.cors.refuse(request)))
    }

    /// Tells a balancer where the next request of this client is at home.
    fn direct(&self, whereabouts: Whereabouts, is_secure: bool, reply: &mut Reply) {
        let Some(affinity) = &self.affinity else { return };
        let is_served = reply.extensions().get::<Served>().is_some();
        let cookie = if self.drain.is_on() {
            affinity.release(whereabouts, is_secure)
        } else {
            (affinity.keep(whereabouts, is_secure)).filter(|_| is_served)
        };
        if let Some(cookie) = cookie {
            reply.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }

    /// A request was refused as a whole.
    fn count_refusal(&self, result: &'static str) {
        self.metrics.refusals.get_or_create(&Outcome { result }).inc();
    }

    fn directions(&self) -> String {
        format!(
            "Bayeux is spoken at {} and below\n",
            self.config.public.paths.join(", ")
        )
    }

    /// Who sends this request, as far as its headers say; and its query, where that may.
    async fn requester(
        &self,
        connection: &Connection,
        request: &Request<Incoming>,
        query: Option<&str>,
    ) -> Requester {
        let cookies = request
            .headers()
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let browser = connection.recognise(cookies);
        let mut who = Requester {
            browser,
            origin: self.quotas.origin(connection.peer, request.headers()),
            ..Requester::default()
        };
        let shown = Credentials::of_request(request.headers(), query, connection.peer, &self.config.auth);
        who.learn(self.authenticator.judge(&shown).await);
        who
    }

    /// Who sends a request that a browser may have made for any page: what its headers say is not what the page knows.
    async fn requester_without_headers(&self, origin: Origin) -> Requester {
        let mut who = Requester {
            browserless: true,
            origin,
            ..Requester::default()
        };
        who.learn(self.authenticator.judge(&Credentials::default()).await);
        who
    }

    fn is_revoked(&self, principal: &Principal) -> bool {
        let Principal {
            tenant, user, token, ..
        } = principal;
        self.revocations.holds(tenant, user.as_ref(), token.as_deref())
    }

    /// How many sockets are open, and how many requests are held.
    pub fn attending(&self) -> Attending {
        let count = |transport: &Transport| {
            let label = metrics::Transport {
                transport: transport.connection_type,
            };
            let open = self.metrics.connections.get_or_create(&label).get();
            usize::try_from(open).unwrap_or(0)
        };
        let (sockets, polls): (Vec<_>, Vec<_>) = ALL.iter().partition(|transport| transport.method.is_none());
        Attending {
            sockets: sockets.into_iter().map(count).sum(),
            connects: polls.into_iter().map(count).sum(),
        }
    }

    /// How to answer a client that asked for sessions that are unknown, perhaps beside one that is known.
    fn judge(&self, client: IpAddr, stray: &Stray, beside_another: bool) -> Lateness {
        let mut lateness = self.unknown.lock().judge(Instant::now(), client, stray);
        lateness.refused &= !beside_another;
        let counts = &self.metrics.unknown_sessions;
        if lateness.refused {
            counts.get_or_create(&Outcome { result: "refused" }).inc();
        } else if lateness.delay > Duration::ZERO {
            counts.get_or_create(&Outcome { result: "delayed" }).inc();
        }
        lateness
    }

    fn body_timeout(&self) -> Duration {
        self.config.limits.body_timeout.0
    }

    /// The largest WebSocket message.
    fn message_limit(&self) -> usize {
        match crate::config::bytes(self.config.websocket.max_message) {
            0 => self.body_limit(),
            limit => limit,
        }
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
                self.refused = None;
            }
            Verdict::Refused(denial) => self.refused = Some(denial),
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
