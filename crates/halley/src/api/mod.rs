//! The internal listener: publishing, sessions, the way out, health, metrics.

mod access;
mod revoke;
mod roster;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode, header};
use serde_json::json;

use self::access::Action;
pub use self::access::{Access, AccessError};
use self::roster::Question;
use crate::auth::Revocations;
use crate::census::Census;
use crate::drain::Drain;
use crate::http::{self, Certificate, Peer, Reply, Service};
use crate::ingest::{Grant, Ingest};
use crate::log::{Counts, Opened};
use crate::logging;
use crate::metrics::{Levels, Metrics, Outcome};
use crate::problem::Problem;
use crate::quota::Quotas;
use crate::sessions::Sessions;

/// What the internal listener knows.
pub struct Api {
    /// Who may do what.
    pub access: Access,
    /// The door for publishers.
    pub ingest: Ingest,
    /// To look at, and to end.
    pub sessions: Arc<Sessions>,
    /// For their state.
    pub storage: Opened,
    /// What does not count any more.
    pub revocations: Arc<Revocations>,
    /// What each publisher has used up.
    pub quotas: Arc<Quotas>,
    /// How long that is remembered unless the operator says otherwise: until every token has ended that is out there.
    pub revoked_for: Duration,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Time for a request body.
    pub body_timeout: Duration,
    /// Whether it is on its way out.
    pub drain: Arc<Drain>,
    /// How much is here.
    pub census: Arc<Census>,
    /// Whether new clients and events are welcome, but for that.
    pub ready: AtomicBool,
}

/// The connection-side handle of [`Api`].
#[derive(Clone)]
pub struct ApiService {
    api: Arc<Api>,
    peer: IpAddr,
    /// What its other end has shown.
    certificate: Option<Arc<Certificate>>,
}

impl ApiService {
    /// The service for one connection.
    pub fn for_peer(api: &Arc<Api>, peer: Peer) -> Self {
        Self {
            api: Arc::clone(api),
            peer: peer.address.ip(),
            certificate: peer.certificate,
        }
    }
}

impl Service for ApiService {
    async fn answer(self, request: Request<Incoming>) -> Reply {
        let answer = self.api.answer(request, self.peer, self.certificate.as_deref());
        http::say_when(answer.await)
    }

    fn ended(&self, _clean: bool) {}
}

impl Api {
    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        certificate: Option<&Certificate>,
    ) -> Reply {
        let admit = |action| self.access.admit(request.headers(), certificate, action);
        let path = request.uri().path().trim_end_matches('/').to_owned();
        match (request.method(), path.as_str()) {
            (&Method::POST, "/api/v1/events") => match admit(Action::Publish).await {
                Ok(grant) => self.publish(request, &grant.of(peer)).await,
                Err(refusal) => refusal,
            },
            (_, "/api/v1/events") => not_allowed("POST"),
            (&Method::GET | &Method::POST, "/api/v1/drain") => match admit(Action::Drain).await {
                Ok(_) => self.answer_about_drain(request.method()),
                Err(refusal) => refusal,
            },
            (_, "/api/v1/drain") => not_allowed("GET, POST"),
            (_, "/api/v1/revocations") => match admit(Action::Revoke).await {
                Ok(_) => self.answer_about_revocations(request).await,
                Err(refusal) => refusal,
            },
            (&Method::GET | &Method::HEAD, "/livez") => http::text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.readiness(request.uri().query()),
            (&Method::GET | &Method::HEAD, "/metrics") => self.metrics(),
            (_, "/livez" | "/readyz" | "/metrics") => not_allowed("GET, HEAD"),
            _ => match Question::read(request.method(), &path, request.uri().query()) {
                Some(question) => match admit(Action::Sessions).await {
                    Ok(_) => match question {
                        Ok(question) => self.answer_about_sessions(question).await,
                        Err(refusal) => refusal,
                    },
                    Err(refusal) => refusal,
                },
                None => nothing_at(&path),
            },
        }
    }

    /// POST begins it, GET looks at it.
    fn answer_about_drain(&self, method: &Method) -> Reply {
        let mut status = StatusCode::OK;
        if method == Method::POST {
            status = StatusCode::ACCEPTED;
            self.drain.ask();
        }
        let Counts {
            sockets,
            connects,
            draining,
            ..
        } = self.census.counts();
        let body = json!({ "draining": draining, "sockets": sockets, "connects": connects });
        http::json(status, body.to_string())
    }

    async fn publish(&self, request: Request<Incoming>, grant: &Grant) -> Reply {
        if self.drain.is_on() {
            let result = "draining";
            self.metrics.ingested.get_or_create(&Outcome { result }).inc();
            return draining().response();
        }
        let (head, body) = request.into_parts();
        match self.read(body, self.ingest.body_limit()).await {
            Ok(body) => {
                let quota = |events| self.quotas.publish(&grant.publisher, events);
                self.ingest.publish(&head.headers, body, grant, quota).await
            }
            Err(refusal) => {
                let result = "body_refused";
                self.metrics.ingested.get_or_create(&Outcome { result }).inc();
                refusal
            }
        }
    }

    async fn read(&self, body: Incoming, limit: usize) -> Result<Bytes, Reply> {
        http::read_body(body, limit, self.body_timeout)
            .await
            .map_err(|refused| {
                let detail = match refused {
                    http::BodyRefused::TooLarge => {
                        format!("the body is larger than the {limit} bytes allowed")
                    }
                    http::BodyRefused::TooSlow => "the body did not arrive in time".to_owned(),
                    http::BodyRefused::Broken => "the body ended early".to_owned(),
                };
                Problem::new(refused.status(), "body-refused", "The body was not read", detail).response()
            })
    }

    fn readiness(&self, query: Option<&str>) -> Reply {
        let away = self.storage.log.away().filter(|away| *away >= PATIENCE);
        let (status, mut said) = if self.drain.is_on() {
            let why_not = "draining: clients are let go, and then this process ends";
            (StatusCode::SERVICE_UNAVAILABLE, why_not.to_owned())
        } else if !self.ready.load(Ordering::Acquire) {
            let why_not = "not ready: the log has stopped";
            (StatusCode::SERVICE_UNAVAILABLE, why_not.to_owned())
        } else if let Some(away) = away {
            let why_not = format!("not ready: the log has not been reached for {} s", away.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, why_not)
        } else {
            (StatusCode::OK, "ready".to_owned())
        };
        if query == Some("verbose") {
            for line in self.storage.log.describe() {
                said.push('\n');
                said.push_str(&line);
            }
        }
        said.push('\n');
        http::text(status, said)
    }

    fn metrics(&self) -> Reply {
        let bounds = self.storage.log.bounds();
        let text = self.metrics.encode(&Levels {
            sessions: self.sessions.count(),
            users: self.sessions.users(),
            records: self.storage.sessions.count(),
            log_first: bounds.first.0,
            log_last: bounds.last.0,
            log_bytes: self.storage.log.size_bytes(),
            log_lines_dropped: logging::dropped(),
        });
        http::with_type(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            text.into(),
        )
    }
}

/// How long a node whose log cannot be reached goes on as if it came back at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// What publishers are told who come too late: another node, or the next process, takes it.
fn draining() -> Problem {
    let title = "This node is about to end";
    let detail = "nothing of this request was stored: send it again, to another node if there is one";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining", title, detail).retry_after(1)
}

fn nothing_at(path: &str) -> Reply {
    let detail = format!(
        "there is nothing at {path}; see /api/v1/events, /api/v1/sessions, /api/v1/users, /api/v1/nodes, /api/v1/revocations, /api/v1/drain, /livez, /readyz, /metrics"
    );
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "There is nothing here",
        detail,
    )
    .response()
}

fn not_allowed(allowed: &'static str) -> Reply {
    let detail = format!("only {allowed} is allowed here");
    let mut response = Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "This method is not allowed",
        detail,
    )
    .response();
    response
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    response
}
