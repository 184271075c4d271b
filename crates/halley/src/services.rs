//! Services: what a client sends to `/service/…` is posted to the backend, and what the backend answers goes to that client.
//!
//! Nobody waits here for a backend: a question is a task of its own, and what came of it goes to a function that whoever
//! asked has left. Each service has so many questions at once and so many that wait; more fail at once. docs/services.md says what
//! is posted, how it is signed and what may be answered.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bayeux::{CallResult, ChannelName, ChannelPattern, Reach, codec};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::Sha256;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::auth::random_id;
use crate::config::{self, Config};
use crate::logging::Shown;
use crate::metrics::{Metrics, Outcome};

/// Every service of the configuration.
pub struct Services {
    /// The most specific pattern first.
    services: Vec<Arc<Service>>,
    /// New questions are not asked any more.
    ending: AtomicBool,
}

/// What a service is asked. It is not told the clientId: whoever knows that can speak for the session.
#[derive(Debug, Serialize)]
pub struct Question<'a> {
    /// The channel of the client's message.
    #[serde(serialize_with = "as_text")]
    pub channel: &'a ChannelName,
    /// Its id, exactly as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a RawValue>,
    /// Its data, exactly as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
    /// Among whose users that one is; nothing where there is one tenant.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub tenant: &'a str,
    /// Whose session it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// A name of the session.
    pub session: String,
}

struct Service {
    pattern: ChannelPattern,
    url: Uri,
    timeout: Duration,
    secret: String,
    client: Client<HttpConnector, Full<Bytes>>,
    /// One for each question that is under way or waits.
    places: Arc<Semaphore>,
    /// How many places there are.
    all_places: u32,
    /// One for each question that is under way.
    turns: Semaphore,
    limits: Limits,
    metrics: Arc<Metrics>,
    complained: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy)]
struct Limits {
    answer_bytes: usize,
    depth: usize,
}

/// Why a question has no answer.
#[derive(Debug, Error)]
enum Failure {
    #[error("the service answered {}", Answered(*.status, .title.as_deref(), .detail.as_deref()))]
    Refused {
        status: StatusCode,
        title: Option<String>,
        detail: Option<String>,
    },
    #[error("the service did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the service cannot be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    #[error("the service ended the connection before its answer")]
    BrokeOff(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("too many calls wait for the service")]
    Busy,
    #[error("the broker is about to end: ask again when connected again")]
    Ending,
    #[error("the service's answer is longer than the {0} bytes allowed (limits.service_answer)")]
    TooLong(usize),
    #[error("the service's answer is nested deeper than the {0} levels allowed (limits.json_depth)")]
    TooDeep(usize),
    #[error("the service's answer is not JSON: {0}")]
    NotJson(String),
}

/// Connections that nobody uses are closed after this.
const IDLE: Duration = Duration::from_secs(30);

/// A service that fails says so in the log this often at most.
const COMPLAINTS: Duration = Duration::from_secs(10);

impl Services {
    /// The services of a configuration that was checked.
    pub fn new(config: &Config, metrics: &Arc<Metrics>) -> Self {
        let limits = Limits {
            answer_bytes: config::bytes(config.limits.service_answer),
            depth: config.limits.json_depth,
        };
        let mut services: Vec<_> = config
            .services
            .iter()
            .map(|service| Arc::new(Service::new(service, limits, metrics)))
            .collect();
        services.sort_by_key(|service| std::cmp::Reverse(specificity(&service.pattern)));
        Self {
            services,
            ending: AtomicBool::new(false),
        }
    }

    /// Asks the service of a channel. What came of it goes to `answered`, soon or late: `None` is nothing to say.
    pub fn ask(
        &self,
        channel: &ChannelName,
        question: Bytes,
        answered: impl FnOnce(Option<CallResult>) + Send + 'static,
    ) {
        let Some(service) = self
            .services
            .iter()
            .find(|service| service.pattern.covers(channel))
        else {
            return answered(None);
        };
        let service = Arc::clone(service);
        let began = Instant::now();
        if self.ending.load(Ordering::Acquire) {
            return answered(service.settle(began, Err(Failure::Ending)));
        }
        match Arc::clone(&service.places).try_acquire_owned() {
            Err(_) => answered(service.settle(began, Err(Failure::Busy))),
            Ok(place) => drop(tokio::spawn(async move {
                let result = service.ask_in_time(question).await;
                answered(service.settle(began, result));
                drop::<OwnedSemaphorePermit>(place);
            })),
        }
    }

    /// Waits until no question is under way. New ones fail.
    pub async fn finish(&self) {
        self.ending.store(true, Ordering::Release);
        let all = self.services.iter().map(|service| async {
            // Never given back: the services have done their work.
            if let Ok(places) = service.places.acquire_many(service.all_places).await {
                places.forget();
            }
        });
        futures::future::join_all(all).await;
    }
}

impl Question<'_> {
    /// What is posted.
    pub fn body(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("texts and what was JSON before")
            .into()
    }
}

impl Service {
    fn new(config: &config::Service, limits: Limits, metrics: &Arc<Metrics>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.concurrency)
            .build(connector);
        let places = config.concurrency + config.queue;
        Self {
            pattern: config.channel.clone(),
            url: config.url.parse().expect("the configuration was checked"),
            timeout: config.timeout.0,
            secret: config.secret.clone(),
            client,
            places: Arc::new(Semaphore::new(places)),
            all_places: u32::try_from(places).expect("the configuration was checked"),
            turns: Semaphore::new(config.concurrency),
            limits,
            metrics: Arc::clone(metrics),
            complained: Mutex::new(None),
        }
    }

    async fn ask_in_time(&self, question: Bytes) -> Result<Option<Box<RawValue>>, Failure> {
        tokio::time::timeout(self.timeout, self.ask(question))
            .await
            .unwrap_or(Err(Failure::Timeout(self.timeout)))
    }

    async fn ask(&self, question: Bytes) -> Result<Option<Box<RawValue>>, Failure> {
        let _turn = self.turns.acquire().await.expect("it is never closed");
        let request = self.request(question);
        let response = self.client.request(request).await;
        let response = response.map_err(|error| {
            if error.is_connect() {
                Failure::Unreachable(error)
            } else {
                Failure::BrokeOff(error.into())
            }
        })?;
        self.read(response).await
    }

    fn request(&self, question: Bytes) -> Request<Full<Bytes>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let timestamp = now.unwrap_or_default().as_secs().to_string();
        let signature =
            (!self.secret.is_empty()).then(|| sign(self.secret.as_bytes(), &timestamp, &question));
        let mut request = Request::new(Full::new(question));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, application/problem+json"),
        );
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("halley/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert("x-halley-request-id", plain(&random_id(26)));
        headers.insert("x-halley-timestamp", plain(&timestamp));
        if let Some(signature) = signature {
            headers.insert("x-halley-signature", plain(&signature));
        }
        request
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Option<Box<RawValue>>, Failure> {
        let (head, body) = response.into_parts();
        let limit = self.limits.answer_bytes;
        let body = Limited::new(body, limit).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes);
        if !head.status.is_success() {
            let problem = body.ok().filter(|_| is_problem(&head.headers));
            return Err(refused(head.status, problem.as_deref()));
        }
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::TooLong(limit)
            } else {
                Failure::BrokeOff(error)
            }
        })?;
        self.parse(&body)
    }

    fn parse(&self, body: &[u8]) -> Result<Option<Box<RawValue>>, Failure> {
        if body.trim_ascii().is_empty() {
            return Ok(None);
        }
        if codec::is_deeper(body, self.limits.depth) {
            return Err(Failure::TooDeep(self.limits.depth));
        }
        serde_json::from_slice(body)
            .map(Some)
            .map_err(|error| Failure::NotJson(error.to_string()))
    }

    /// Counts what came of a question, and puts it into the form that its client gets.
    fn settle(&self, began: Instant, result: Result<Option<Box<RawValue>>, Failure>) -> Option<CallResult> {
        let label = match &result {
            Ok(Some(_)) => "ok",
            Ok(None) => "empty",
            Err(failure) => failure.label(),
        };
        self.metrics
            .service_calls
            .get_or_create(&Outcome { result: label })
            .inc();
        self.metrics
            .service_seconds
            .observe(began.elapsed().as_secs_f64());
        match result {
            Ok(None) => None,
            Ok(Some(data)) => Some(CallResult {
                successful: true,
                data,
            }),
            Err(failure) => {
                self.complain(&failure);
                Some(failure.result())
            }
        }
    }

    fn complain(&self, failure: &Failure) {
        if failure.is_the_clients() {
            return;
        }
        let now = Instant::now();
        let mut complained = self.complained.lock();
        if complained.is_none_or(|at| now.duration_since(at) >= COMPLAINTS) {
            *complained = Some(now);
            let cause = std::error::Error::source(failure).map(innermost);
            let cause = cause.map(|cause| tracing::field::display(Shown(cause)));
            let failure = Shown(failure);
            warn!(service = %self.pattern, url = %self.url, %failure, cause, "a service fails");
        }
    }
}

impl Failure {
    /// For metrics; with a prefix and hyphens, also the class that clients get.
    fn label(&self) -> &'static str {
        match self {
            Self::Refused { status, .. } if status.is_client_error() => "refused",
            Self::Refused { .. } => "failed",
            Self::Timeout(_) => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::BrokeOff(_) => "broke_off",
            Self::Busy => "busy",
            Self::Ending => "ending",
            Self::TooLong(_) => "too_long",
            Self::TooDeep(_) => "too_deep",
            Self::NotJson(_) => "not_json",
        }
    }

    /// The service works, and does not do what it was asked for.
    fn is_the_clients(&self) -> bool {
        self.label() == "refused"
    }

    /// In the form of CometD: a class and a message, and what is known beyond that.
    fn result(&self) -> CallResult {
        let mut data = Map::new();
        data.insert(
            "class".into(),
            format!("urn:halley:service:{}", self.label().replace('_', "-")).into(),
        );
        data.insert("message".into(), self.to_string().into());
        if let Self::Refused {
            status,
            title,
            detail,
        } = self
        {
            data.insert("status".into(), status.as_u16().into());
            let texts = [("title", title), ("detail", detail)];
            data.extend(texts.into_iter().filter_map(|(name, text)| {
                let text = text.clone()?;
                Some((name.into(), text.into()))
            }));
        }
        CallResult {
            successful: false,
            data: serde_json::value::to_raw_value(&data).expect("texts and a number are JSON"),
        }
    }
}

/// `409`, `409: Taken`, or `409: Taken: by somebody else`.
struct Answered<'a>(StatusCode, Option<&'a str>, Option<&'a str>);

impl fmt::Display for Answered<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status, title, detail) = self;
        formatter.write_str(status.as_str())?;
        [title, detail]
            .into_iter()
            .flatten()
            .try_for_each(|text| write!(formatter, ": {text}"))
    }
}

/// The longer the part that has no wildcard, the more specific; of `/a/*` and `/a/**`, the first.
fn specificity(pattern: &ChannelPattern) -> (usize, bool) {
    (pattern.stem().len(), pattern.reach() != Reach::Descendants)
}

fn is_problem(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/problem+json")
    })
}

fn refused(status: StatusCode, problem: Option<&[u8]>) -> Failure {
    let problem: Option<Value> = problem.and_then(|problem| serde_json::from_slice(problem).ok());
    let text = |name: &str| {
        let text = problem.as_ref()?.get(name)?.as_str()?;
        Some(text.to_owned())
    };
    Failure::Refused {
        status,
        title: text("title"),
        detail: text("detail"),
    }
}

/// `v1=` and the HMAC-SHA256 of `timestamp.body`, in hexadecimal.
fn sign(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let hex = digest.iter().map(|byte| format!("{byte:02x}"));
    format!("v1={}", hex.collect::<String>())
}

fn plain(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("letters, digits and a sign of equality")
}

/// What the world said, below the wrappings of libraries.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn as_text<S: serde::Serializer>(channel: &&ChannelName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(channel.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_docs_services_md_says() {
        // printf '1700000000.{"channel":"/service/echo"}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            sign(b"secret", "1700000000", br#"{"channel":"/service/echo"}"#),
            "v1=2b00ff8a868a21e48cdf8c6d20f0f5f53eef4472831d7a7eab26c6b8f44d32fe"
        );
    }

    #[test]
    fn the_longer_stem_is_the_more_specific_one() {
        let mut patterns = [
            "/service/**",
            "/service/a/**",
            "/service/a/b",
            "/service/*",
            "/service/a/*",
        ]
        .map(|text| ChannelPattern::parse(text).unwrap());
        patterns.sort_by_key(|pattern| std::cmp::Reverse(specificity(pattern)));
        let sorted: Vec<_> = patterns.iter().map(ChannelPattern::as_str).collect();
        assert_eq!(
            sorted,
            [
                "/service/a/b",
                "/service/a/*",
                "/service/a/**",
                "/service/*",
                "/service/**"
            ]
        );
    }
}
