//! What an operator writes: a TOML file, overlaid by `HALLEY_SECTION__KEY` variables.
//!
//! `deploy/halley.toml` shows every key with its default, unit and reason; a test parses it and compares. An unknown key
//! is an error that names it.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bayeux::{ChannelKind, ChannelPattern};
use bytesize::ByteSize;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The listener for clients.
    pub public: Public,
    /// The listener for the voice backend and for operators.
    pub internal: Internal,
    /// The event log.
    pub log: Log,
    /// Sessions.
    pub session: Session,
    /// WebSockets.
    pub websocket: WebSocket,
    /// Bounds.
    pub limits: Limits,
    /// Who is asking.
    pub auth: Auth,
    /// Who may publish where.
    pub channels: Channels,
    /// What Halley says about itself.
    pub logging: Logging,
    /// Who answers what clients send to `/service/…`.
    pub services: Vec<Service>,
}

/// The listener for clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Public {
    /// Address and port.
    pub listen: SocketAddr,
    /// Bayeux is spoken at these paths and everywhere below them.
    pub paths: Vec<String>,
}

/// The listener for the voice backend and for operators. Never expose it to clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Internal {
    /// Address and port.
    pub listen: SocketAddr,
}

/// The event log.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `file:PATH` or `memory:`.
    pub url: String,
    /// Events are kept for at least this long.
    pub retention: Span,
    /// The oldest events are dropped when all of them take more than this.
    pub retention_bytes: ByteSize,
    /// How long a repeated event id is recognised.
    pub dedup_window: Span,
    /// Publishes are refused with 507 while the disk has less free space than this.
    pub min_free: ByteSize,
}

/// Sessions.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// How long a connect is held.
    pub timeout: Span,
    /// How long a client waits between connects.
    pub interval: Span,
    /// Silence after which a session goes dormant.
    pub max_interval: Span,
    /// How long a dormant session can come back.
    pub resume_window: Span,
    /// The longest hold or interval that a client may ask for.
    pub max_timeout: Span,
    /// A session is found by its clientId alone, without cookie or credentials.
    pub trust_client_session: bool,
    /// The HTTP status of a connect that a newer one of the same session replaced.
    pub duplicate_connect_status: u16,
}

/// WebSockets.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// Silence after which a ping asks whether the peer is there.
    pub ping_interval: Span,
    /// How long its pong may take.
    pub pong_timeout: Span,
    /// How long a write may stall before the socket is closed.
    pub write_timeout: Span,
    /// The least time between two pings that prove what arrived.
    pub proof_interval: Span,
}

/// Bounds on what a client or publisher can cost.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A client's request body, and a WebSocket message.
    pub request_body: ByteSize,
    /// A publisher's request body.
    pub publish_body: ByteSize,
    /// Events in one publish.
    pub publish_events: usize,
    /// Time to send a request body.
    pub body_timeout: Span,
    /// Time to send a request's headers; also how long a kept-alive connection may idle.
    pub header_timeout: Span,
    /// Headers of a request.
    pub headers: usize,
    /// Length of a request's headers, with the request line.
    pub header_bytes: ByteSize,
    /// Messages in one request.
    pub messages: usize,
    /// Nesting of a message's data.
    pub json_depth: usize,
    /// Length of a channel.
    pub channel_bytes: usize,
    /// Segments of a channel.
    pub channel_segments: usize,
    /// Length of a message id or event id.
    pub id_bytes: usize,
    /// Subscriptions of one session.
    pub subscriptions: usize,
    /// Events of one session in memory.
    pub queue_events: usize,
    /// Bytes of events of one session in memory.
    pub queue_bytes: ByteSize,
    /// Bytes of events in one answer.
    pub answer_bytes: ByteSize,
    /// Calls of one session that are under way, or whose answers wait for it.
    pub direct_messages: usize,
    /// Bytes of answers that wait for one session.
    pub direct_bytes: ByteSize,
    /// Length of a service's answer.
    pub service_answer: ByteSize,
    /// Connections of both listeners.
    pub connections: usize,
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// `anonymous` or `static`.
    pub kind: String,
    /// The users of `static`.
    pub users: Vec<User>,
}

/// One user of `static`.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The subject, to whom events are addressed.
    pub user: String,
    /// `Authorization: Bearer TOKEN`, or Basic with the user's name and the token, or `ext.token`.
    #[serde(serialize_with = "redacted", deserialize_with = "secret")]
    pub token: String,
}

/// Who may publish where.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Channels {
    /// Only the backend publishes to these.
    pub server_owned: Vec<ChannelPattern>,
}

/// Who answers what clients send to the channels of a pattern.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// `/service/name`, or `/service/**` for everything that no other service answers.
    pub channel: ChannelPattern,
    /// Where its questions are posted.
    pub url: String,
    /// How long a client waits for an answer at most, with the wait for a place.
    #[serde(default = "Service::default_timeout")]
    pub timeout: Span,
    /// Questions at once.
    #[serde(default = "Service::default_concurrency")]
    pub concurrency: usize,
    /// Questions that wait for their turn.
    #[serde(default = "Service::default_queue")]
    pub queue: usize,
    /// Signs each question; without one there is no signature.
    #[serde(default, serialize_with = "redacted", deserialize_with = "signing_secret")]
    pub secret: String,
}

/// What Halley says about itself, on stderr.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A filter such as `info` or `halley=debug,warn`.
    pub filter: String,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A length of time, written `30s`, `15m` or `24h`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file, or a variable over it, says something that has no meaning.
    #[error("{place}: {reason}")]
    Invalid {
        /// The file or variable.
        place: String,
        /// What is wrong, and where.
        reason: String,
    },
}

impl Config {
    /// Reads `file`, if there is one, and lays `variables` over it.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            None => toml::Table::new(),
            Some(path) => {
                let place = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
                    path: place.clone(),
                    error,
                })?;
                // Parsed once alone, so that an error has its line and column.
                Self::parse(&text, &place)?;
                toml::from_str(&text).map_err(|error| invalid(&place, &text, error))?
            }
        };
        let mut config = read(&table, "defaults")?;
        for (name, value) in variables {
            if overlay(&mut table, &name, &value) {
                // After each, so that an error names the variable that is wrong.
                config = read(&table, &name)?;
            }
        }
        config.check()?;
        Ok(config)
    }

    /// Parses the text of a configuration; `place` names it in errors.
    pub fn parse(text: &str, place: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| invalid(place, text, error))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |place: &str, reason: &str| {
            Err(ConfigError::Invalid {
                place: place.to_owned(),
                reason: reason.to_owned(),
            })
        };
        if self.public.paths.iter().any(|path| !path.starts_with('/')) {
            return wrong("public.paths", "a path begins with a slash");
        }
        if self.session.timeout.0 > self.session.max_timeout.0 {
            return wrong("session.timeout", "longer than session.max_timeout");
        }
        if self.websocket.ping_interval.0.is_zero() {
            return wrong("websocket.ping_interval", "longer than nothing");
        }
        if self.limits.queue_events == 0 || self.limits.messages == 0 {
            return wrong("limits", "queue_events and messages are at least 1");
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.limits.connections) {
            return wrong("limits.connections", "from 1 to 1,000,000,000");
        }
        for (place, service) in self.services.iter().enumerate() {
            if let Err(reason) = service.check(&self.services[..place]) {
                return wrong(&format!("services: {}", service.channel), &reason);
            }
        }
        if self.limits.direct_messages == 0 {
            return wrong(
                "limits.direct_messages",
                "at least 1, or no service could be asked",
            );
        }
        if bytes(self.limits.direct_bytes) < self.longest_answer() {
            return wrong(
                "limits.direct_bytes",
                "less than one answer of limits.service_answer with its channel and id",
            );
        }
        if !(400..=599).contains(&self.session.duplicate_connect_status) {
            return wrong(
                "session.duplicate_connect_status",
                "an HTTP status from 400 to 599",
            );
        }
        Ok(())
    }

    /// What an answer may take in a session.
    fn longest_answer(&self) -> usize {
        // It repeats the channel as it came, and a character may have come as six: \u0041.
        let echoed = (self.limits.channel_bytes.saturating_mul(6)).saturating_add(self.limits.id_bytes);
        bytes(self.limits.service_answer)
            .saturating_add(echoed)
            .saturating_add(ANSWER_FRAME)
    }

    /// What the protocol needs to know, but for what the server can do by itself.
    pub fn protocol(&self) -> bayeux::Settings {
        bayeux::Settings {
            timeout: self.session.timeout.0,
            interval: self.session.interval.0,
            max_interval: self.session.max_interval.0,
            max_timeout: self.session.max_timeout.0,
            proof_interval: self.websocket.proof_interval.0,
            server_owned: self.channels.server_owned.clone(),
            services: self
                .services
                .iter()
                .map(|service| service.channel.clone())
                .collect(),
            limits: bayeux::Limits {
                messages: self.limits.messages,
                depth: self.limits.json_depth,
                channel_bytes: self.limits.channel_bytes,
                channel_segments: self.limits.channel_segments,
                id_bytes: self.limits.id_bytes,
                subscriptions: self.limits.subscriptions,
                queue_events: self.limits.queue_events,
                queue_bytes: bytes(self.limits.queue_bytes),
                answer_bytes: bytes(self.limits.answer_bytes),
                direct_messages: self.limits.direct_messages,
                direct_bytes: bytes(self.limits.direct_bytes),
            },
            ..bayeux::Settings::default()
        }
    }

    /// What the log needs to know.
    pub fn storage(&self) -> crate::log::Settings {
        crate::log::Settings {
            retention: self.log.retention.0,
            retention_bytes: self.log.retention_bytes.as_u64(),
            dedup_window: self.log.dedup_window.0,
            min_free_bytes: self.log.min_free.as_u64(),
        }
    }
}

/// A size as a length in memory.
pub fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

fn read(table: &toml::Table, place: &str) -> Result<Config, ConfigError> {
    Config::deserialize(table.clone()).map_err(|error| invalid(place, "", error))
}

/// `HALLEY_SESSION__MAX_INTERVAL=20s` is `session.max_interval = "20s"`. A value that is TOML (a number, a list) is taken as
/// such, anything else as text. Returns whether the variable is one of ours: those with one underscore are not, since an
/// orchestrator makes up `HALLEY_PORT` and the like for a service of that name.
fn overlay(table: &mut toml::Table, name: &str, value: &str) -> bool {
    let Some((section, key)) = name
        .strip_prefix("HALLEY_")
        .and_then(|name| name.split_once("__"))
    else {
        return false;
    };
    let value = value
        .parse::<toml::Value>()
        .unwrap_or_else(|_| toml::Value::String(value.to_owned()));
    let section = table
        .entry(section.to_lowercase())
        .or_insert_with(|| toml::Table::new().into());
    if !section.is_table() {
        // A list of blocks has no keys, and the error will say so.
        *section = toml::Table::new().into();
    }
    if let Some(section) = section.as_table_mut() {
        section.insert(key.to_lowercase(), value);
    }
    true
}

/// The error with its line of `text`, unless a token or secret is on it: errors end up in logs.
fn invalid(place: &str, text: &str, mut error: toml::de::Error) -> ConfigError {
    let mut reason = String::new();
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| before.matches('\n').count());
    if let Some(line) = line
        && text
            .lines()
            .nth(line)
            .is_some_and(|line| line.contains("token") || line.contains("secret"))
    {
        error.set_input(None);
        reason = format!("line {}: ", line + 1);
    }
    reason.push_str(error.to_string().trim_end());
    ConfigError::Invalid {
        place: place.to_owned(),
        reason,
    }
}

/// Far above what a machine can hold, and below what the accept loop can count.
const CONNECTIONS_MAX: usize = 1_000_000_000;

/// What an answer has beside its data, channel and id.
const ANSWER_FRAME: usize = 64;

/// Questions of a service that are under way or wait: each is a task.
const QUESTIONS_MAX: usize = 1_000_000;

/// A hundred years: more can be added to no clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

impl Default for Public {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], 8080).into(),
            paths: vec!["/cometd".to_owned(), "/api/v2/notifications".to_owned()],
        }
    }
}

impl Default for Internal {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 9090).into(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            url: "file:./halley-data".to_owned(),
            retention: seconds(24 * 3600),
            retention_bytes: ByteSize::gib(8),
            dedup_window: seconds(900),
            min_free: ByteSize::mib(256),
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Self {
            timeout: seconds(30),
            interval: seconds(0),
            max_interval: seconds(10),
            resume_window: seconds(3600),
            max_timeout: seconds(60),
            trust_client_session: false,
            duplicate_connect_status: 500,
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            ping_interval: seconds(25),
            pong_timeout: seconds(20),
            write_timeout: seconds(20),
            proof_interval: seconds(1),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_body: ByteSize::kib(64),
            publish_body: ByteSize::kib(256),
            publish_events: 512,
            body_timeout: seconds(15),
            header_timeout: seconds(75),
            headers: 100,
            header_bytes: ByteSize::kib(16),
            messages: 64,
            json_depth: 32,
            channel_bytes: 256,
            channel_segments: 16,
            id_bytes: 128,
            subscriptions: 64,
            queue_events: 1000,
            queue_bytes: ByteSize::mib(1),
            answer_bytes: ByteSize::kib(512),
            direct_messages: 32,
            direct_bytes: ByteSize::kib(256),
            service_answer: ByteSize::kib(60),
            connections: 1_000_000,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            kind: "anonymous".to_owned(),
            users: Vec::new(),
        }
    }
}

impl Default for Channels {
    fn default() -> Self {
        let owned = ["/v2/**", "/notifications/**", "/workspace/**"];
        Self {
            server_owned: owned
                .into_iter()
                .map(|text| ChannelPattern::parse(text).expect("a constant in the grammar"))
                .collect(),
        }
    }
}

impl Service {
    const fn default_timeout() -> Span {
        seconds(5)
    }

    const fn default_concurrency() -> usize {
        64
    }

    const fn default_queue() -> usize {
        256
    }

    fn check(&self, others: &[Self]) -> Result<(), String> {
        if self.channel.kind() != ChannelKind::Service {
            return Err("a service's channel begins with /service/".to_owned());
        }
        if others.iter().any(|other| other.channel == self.channel) {
            return Err("there is another service for this very channel".to_owned());
        }
        if self.timeout.0.is_zero() {
            return Err("timeout: longer than nothing".to_owned());
        }
        let (concurrency, queue) = (self.concurrency, self.queue);
        if concurrency == 0 || concurrency > QUESTIONS_MAX || queue > QUESTIONS_MAX {
            return Err("concurrency: from 1 to 1,000,000; queue: up to 1,000,000".to_owned());
        }
        self.check_url()
    }

    fn check_url(&self) -> Result<(), String> {
        let url = &self.url;
        let parsed: hyper::Uri = url.parse().map_err(|error| format!("url: {url:?}: {error}"))?;
        match parsed.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "url: {url:?}: https comes with the TLS settings, which this version does not have; until then \
                     the service, or a proxy before it, is asked over http"
                ));
            }
            Some(_) | None => return Err(format!("url: {url:?} does not begin with http://")),
        }
        if parsed
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err("url: credentials do not belong in it; the signature says who asks".to_owned());
        }
        Ok(())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Service")
            .field("channel", &self.channel)
            .field("url", &self.url)
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info,fjall=warn,lsm_tree=warn".to_owned(),
        }
    }
}

impl fmt::Debug for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("User")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

fn redacted<S: Serializer>(_: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("…")
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_of("token", deserializer)
}

fn signing_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text_of("secret", deserializer)
}

/// serde's own words for a wrong type repeat the value.
fn text_of<'de, D: Deserializer<'de>>(what: &str, deserializer: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => Err(de::Error::custom(format!("a {what} is a text, in quotes"))),
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: jiff::SignedDuration = text
            .parse()
            .map_err(|_| de::Error::custom(format!("{text:?} is no length of time such as 30s or 24h")))?;
        let span = Duration::try_from(span)
            .map_err(|_| de::Error::custom(format!("{text:?} is negative, a length of time is not")))?;
        if span > LONGEST {
            return Err(de::Error::custom(format!(
                "{text:?} is longer than a hundred years"
            )));
        }
        Ok(Self(span))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}
