//! What an operator writes: a TOML file, overlaid by `HALLEY_SECTION__KEY` variables.
//!
//! `deploy/halley.toml` shows every key with its default, unit and reason; a test parses it and compares. An unknown key
//! is an error that names it.

mod auth;
mod browser;
mod channels;
mod cloudevents;
mod http2;
mod limits;
mod listeners;
mod log;
mod logging;
mod nats;
mod network;
mod presence;
mod services;
mod session;
mod shutdown;
mod tls;
mod transports;
mod values;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bayeux::StaleReplay;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use transports::is_parameter;
use values::{is_token, read_secret};

pub use auth::{Auth, Basic, Issuer, Jwt, JwtKey, ProxyHeaders, User};
pub use browser::{BrowserCookie, Cors, SameSite};
pub use channels::{ChannelRule, Channels};
pub use cloudevents::CloudEvents;
pub use http2::Http2;
pub use limits::Limits;
pub use listeners::{ApiCertificate, ApiKey, Internal, Public};
pub use log::Log;
pub use logging::{LogFormat, Logging};
pub use nats::Nats;
pub use network::Network;
pub use presence::Presence;
pub use services::Service;
pub use session::{Activity, Overload, Replay, Session, Stale};
pub use shutdown::Shutdown;
pub use tls::{ClientCertificates, Tls, TlsVersion};
pub use transports::{CallbackPolling, UnknownSessions, WebSocket};
pub use values::{Span, bytes};

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
    /// How it is reached on NATS.
    pub nats: Nats,
    /// Sessions.
    pub session: Session,
    /// Older events for who asks for them.
    pub replay: Replay,
    /// WebSockets.
    pub websocket: WebSocket,
    /// What is done about too much at once.
    pub overload: Overload,
    /// JSONP.
    pub callback_polling: CallbackPolling,
    /// Clients that do not hear that their session is unknown.
    pub unknown_sessions: UnknownSessions,
    /// HTTP/2.
    pub http2: Http2,
    /// Bounds.
    pub limits: Limits,
    /// Who is asking.
    pub auth: Auth,
    /// Tokens of `jwt`.
    pub jwt: Jwt,
    /// Users whom a proxy has asked already.
    pub proxy_headers: ProxyHeaders,
    /// Users with passwords in a file.
    pub basic: Basic,
    /// Which browser is asking.
    pub browser_cookie: BrowserCookie,
    /// Whose pages may ask.
    pub cors: Cors,
    /// Who may publish where.
    pub channels: Channels,
    /// What events say that publishers send as CloudEvents.
    pub cloudevents: CloudEvents,
    /// Telling which users are present.
    pub presence: Presence,
    /// How the broker ends.
    pub shutdown: Shutdown,
    /// What Halley says about itself.
    pub logging: Logging,
    /// Who answers what clients send to `/service/…`.
    pub services: Vec<Service>,
}

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
            let is_ours = overlay(&mut table, &name, &value).map_err(|reason| ConfigError::Invalid {
                place: name.clone(),
                reason,
            })?;
            if is_ours {
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
        if self.public.transports.is_empty() {
            return wrong("public.transports", "without a transport nobody could come");
        }
        let distinct: BTreeSet<&String> = self.public.transports.iter().collect();
        if distinct.len() < self.public.transports.len() {
            return wrong("public.transports", "a transport is listed twice");
        }
        if self.session.timeout.0 > self.session.max_timeout.0 {
            return wrong("session.timeout", "longer than session.max_timeout");
        }
        if self.session.impatient_interval.0 > self.session.max_timeout.0 {
            return wrong("session.impatient_interval", "longer than session.max_timeout");
        }
        if self.overload.interval.0 > self.session.max_timeout.0 {
            return wrong("overload.interval", "longer than session.max_timeout");
        }
        if self.websocket.ping_interval.0.is_zero() {
            return wrong("websocket.ping_interval", "longer than nothing");
        }
        if u64::from(self.websocket.idle_frames) < 2 + self.pongs() {
            return wrong(
                "websocket.idle_frames",
                "at least two more than the pongs that are asked for in one ping_interval",
            );
        }
        let protocol = &self.websocket.protocol;
        if !protocol.is_empty() && !is_token(protocol) {
            return wrong("websocket.protocol", "a token of HTTP, such as bayeux.v1");
        }
        if !is_parameter(&self.callback_polling.parameter) {
            return wrong(
                "callback_polling.parameter",
                "letters, digits, - and _, and not \"message\", which carries the messages",
            );
        }
        if self.callback_polling.callback_max_length == 0 {
            return wrong("callback_polling.callback_max_length", "at least 1");
        }
        let unknown = &self.unknown_sessions;
        if unknown.first_delay.0 > unknown.longest_delay.0 {
            return wrong("unknown_sessions.first_delay", "longer than longest_delay");
        }
        // A socket that waits is not read from.
        if unknown.longest_delay.0 >= self.websocket.ping_interval.0 + self.websocket.pong_timeout.0 {
            return wrong(
                "unknown_sessions.longest_delay",
                "shorter than websocket.ping_interval and pong_timeout together",
            );
        }
        if unknown.refuse_after == 0 || unknown.address_rate == 0 || unknown.remembered < 2 {
            return wrong(
                "unknown_sessions",
                "refuse_after and address_rate are at least 1, remembered at least 2",
            );
        }
        if self.limits.queue_events == 0 || self.limits.messages == 0 {
            return wrong("limits", "queue_events and messages are at least 1");
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.limits.connections) {
            return wrong("limits.connections", "from 1 to 1,000,000,000");
        }
        if let Err((key, reason)) = self.limits.check_rates() {
            return wrong(&format!("limits.{key}"), reason);
        }
        for rule in &self.channels.rules {
            if rule
                .retention
                .is_some_and(|retention| retention.0 > self.log.retention.0)
            {
                return wrong(
                    &format!("channels.rules of {}", rule.pattern),
                    "retention is longer than log.retention: the log keeps no event of one channel longer than the others",
                );
            }
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
        if self.session.max_inactivity.0.is_zero() {
            return wrong("session.max_inactivity", "longer than nothing");
        }
        if !(400..=599).contains(&self.session.duplicate_connect_status) {
            return wrong(
                "session.duplicate_connect_status",
                "an HTTP status from 400 to 599",
            );
        }
        for (key, number) in [
            (
                "session.max_sessions_per_browser",
                self.session.max_sessions_per_browser,
            ),
            (
                "session.http2_max_sessions_per_browser",
                self.session.http2_max_sessions_per_browser,
            ),
        ] {
            if number < -1 {
                return wrong(key, "a number of sessions, or -1 for any number");
            }
        }
        if let Err((key, reason)) = self.check_identity() {
            return wrong(key, &reason);
        }
        for (listener, tls) in [("public", &self.public.tls), ("internal", &self.internal.tls)] {
            if let Err((key, reason)) = tls.check() {
                return wrong(&format!("{listener}.tls.{key}"), reason);
            }
        }
        if let Err((key, reason)) = self.nats.check() {
            return wrong(&format!("nats.{key}"), reason);
        }
        if let Err((key, reason)) = self.cloudevents.check() {
            return wrong(&format!("cloudevents.{key}"), &reason);
        }
        if let Err((key, reason)) = self.presence.check(&self.channels.rules()) {
            return wrong(&format!("presence.{key}"), &reason);
        }
        if self.shutdown.drain.0 > LONGEST_DRAIN {
            return wrong(
                "shutdown.drain",
                "at most 1h: nobody new comes in meanwhile, and most supervisors end a process long before",
            );
        }
        if let Err((key, reason)) = self.http2.check() {
            return wrong(&format!("http2.{key}"), reason);
        }
        if let Err((key, reason)) = self.browser_cookie.check(self.public.tls.is_on()) {
            return wrong(&format!("browser_cookie.{key}"), reason);
        }
        if let Some(cookie) = self.affinity_cookie() {
            if let Err((_, reason)) = cookie.check(self.public.tls.is_on()) {
                return wrong("nats.affinity_cookie", reason);
            }
            if [&self.browser_cookie.name, &self.auth.cookie].contains(&&cookie.name) {
                return wrong(
                    "nats.affinity_cookie",
                    "another cookie than that of the browser and that of the credentials",
                );
            }
        }
        let is_header = |name: &String| !name.is_empty() && is_token(name);
        for (key, names) in [
            ("cors.allowed_headers", &self.cors.allowed_headers),
            ("cors.exposed_headers", &self.cors.exposed_headers),
        ] {
            if !names.iter().all(is_header) {
                return wrong(key, "names of headers, such as [\"x-api-key\"]");
            }
        }
        Ok(())
    }

    /// The cookie that says which node a client is at, if there is to be one. It goes where that of the browser goes, and is kept
    /// for as long as the browser is open.
    pub fn affinity_cookie(&self) -> Option<BrowserCookie> {
        let name = &self.nats.affinity_cookie;
        (!name.is_empty()).then(|| BrowserCookie {
            name: name.clone(),
            max_age: Span(Duration::ZERO),
            ..self.browser_cookie.clone()
        })
    }

    /// How many pongs are asked for in one ping interval: for proof, and to see whether the peer is there.
    fn pongs(&self) -> u64 {
        let proof = self.websocket.proof_interval.0.as_millis().max(1);
        let pings = self.websocket.ping_interval.0.as_millis() / proof;
        u64::try_from(pings).unwrap_or(u64::MAX).saturating_add(1)
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
            impatient_interval: self.session.impatient_interval.0,
            proof_interval: self.websocket.proof_interval.0,
            rules: self.channels.rules().into(),
            services: self
                .services
                .iter()
                .map(|service| service.channel.clone())
                .collect(),
            expiry_warning: self.auth.warning.0,
            handshake_reconnect: self.session.handshake_reconnect,
            atomic_subscriptions: self.session.atomic_subscriptions,
            meta_connect_deliver_only: self.session.meta_connect_deliver_only,
            broadcast_to_publisher: self.session.broadcast_to_publisher,
            max_lazy_timeout: self.session.max_lazy_timeout.0,
            timestamps: self.session.timestamps,
            activity: match self.session.activity {
                Activity::Off => bayeux::Activity::Off,
                Activity::Client => bayeux::Activity::Client,
                Activity::ClientServer => bayeux::Activity::ClientServer,
            },
            max_inactivity: self.session.max_inactivity.0,
            subscribed: self.session.subscribed.clone(),
            messages_during_handshake: self.session.messages_during_handshake,
            replay: self.replay.enabled,
            stale_replay: match self.replay.stale {
                Stale::Earliest => StaleReplay::Earliest,
                Stale::Latest => StaleReplay::Latest,
                Stale::Error => StaleReplay::Error,
            },
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

    /// How large an event may be that is let in: one alone in its body.
    fn largest_event(&self) -> usize {
        let by_socket = self.websocket.max_message;
        let limits = &self.limits;
        [limits.publish_body, limits.request_body, by_socket]
            .map(bytes)
            .into_iter()
            .max()
            .unwrap_or_default()
    }

    /// What the log needs to know.
    pub fn storage(&self) -> crate::log::Settings {
        crate::log::Settings {
            retention: self.log.retention.0,
            retention_bytes: self.log.retention_bytes.as_u64(),
            dedup_window: self.log.dedup_window.0,
            min_free_bytes: self.log.min_free.as_u64(),
            records_for: self.session.resume_window.0,
            protocol: self.protocol().into(),
            shared: self.nats.shared(self.largest_event()),
        }
    }
}

fn read(table: &toml::Table, place: &str) -> Result<Config, ConfigError> {
    Config::deserialize(table.clone()).map_err(|error| invalid(place, "", error))
}

/// `HALLEY_SESSION__MAX_INTERVAL=20s` is `session.max_interval = "20s"`, and `HALLEY_PUBLIC__TLS__KEY` is `public.tls.key`. A value
/// that is TOML (a number, a list) is taken as such, anything else as text. Returns whether the variable is one of ours: those
/// with one underscore are not, since an orchestrator makes up `HALLEY_PORT` and the like for a service of that name.
fn overlay(table: &mut toml::Table, name: &str, value: &str) -> Result<bool, String> {
    let Some((sections, key)) = name
        .strip_prefix("HALLEY_")
        .and_then(|name| name.rsplit_once("__"))
    else {
        return Ok(false);
    };
    let key = key.to_lowercase();
    // HALLEY_SECTION__KEY_FILE is the path of a file that holds the value, as orchestrators mount secrets.
    let (key, value) = match key.strip_suffix("_file") {
        Some(key) => (key.to_owned(), read_secret(value)?.into()),
        None => (key, parsed(value)),
    };
    let mut inner = table;
    for section in sections.split("__") {
        let section = inner
            .entry(section.to_lowercase())
            .or_insert_with(|| toml::Table::new().into());
        if !section.is_table() {
            // A list of blocks has no keys, and the error will say so.
            *section = toml::Table::new().into();
        }
        let toml::Value::Table(section) = section else {
            return Ok(true);
        };
        inner = section;
    }
    inner.insert(key, value);
    Ok(true)
}

fn parsed(value: &str) -> toml::Value {
    value
        .parse()
        .unwrap_or_else(|_| toml::Value::String(value.to_owned()))
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
            .is_some_and(|line| SECRETS.iter().any(|word| line.contains(word)))
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

/// What lines of the configuration have in them that are not repeated.
const SECRETS: [&str; 5] = ["token", "secret", "pem", "hash", "password"];

/// Longer than any load balancer needs.
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);

/// Far above what a machine can hold, and below what the accept loop can count.
const CONNECTIONS_MAX: usize = 1_000_000_000;

/// What an answer has beside its data, channel and id.
const ANSWER_FRAME: usize = 64;
