//! What an operator writes: a TOML file, overlaid by `HALLEY_SECTION__KEY` variables.
//!
//! `deploy/halley.toml` shows every key with its default, unit and reason; a test parses it and compares. An unknown key
//! is an error that names it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bayeux::{Access, ChannelPattern, ReplayId, Rule, Rules, StaleReplay};
use bytesize::ByteSize;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::origin::Origin;

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
    /// Which browser is asking.
    pub browser_cookie: BrowserCookie,
    /// Whose pages may ask.
    pub cors: Cors,
    /// Who may publish where.
    pub channels: Channels,
    /// What Halley says about itself.
    pub logging: Logging,
}

/// The listener for clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Public {
    /// Address and port.
    pub listen: SocketAddr,
    /// Bayeux is spoken at these paths and everywhere below them.
    pub paths: Vec<String>,
    /// The transports that are spoken, in the order in which handshake replies name them.
    pub transports: Vec<String>,
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
    /// Replies advise `maxInterval`, so that a client that was away for longer shakes hands by itself.
    pub handshake_reconnect: bool,
    /// A list of subscriptions is taken as a whole or not at all.
    pub atomic_subscriptions: bool,
    /// Events leave with connect replies only, over a WebSocket too.
    pub meta_connect_deliver_only: bool,
    /// Clients get back what they publish.
    pub broadcast_to_publisher: bool,
    /// How long a lazy event waits for company where no rule says.
    pub max_lazy_timeout: Span,
    /// Every message says when it was sent.
    pub timestamps: bool,
    /// What every session is subscribed to from its handshake on.
    pub subscribed: Vec<ChannelPattern>,
    /// Events that wait already leave with the handshake's reply.
    pub messages_during_handshake: bool,
    /// Sessions of one browser whose connects are held at once over HTTP/1.1; -1 for any number.
    pub max_sessions_per_browser: i32,
    /// The same over HTTP/2.
    pub http2_max_sessions_per_browser: i32,
    /// How long a client waits whose connect was one too many; nothing to send it away.
    pub multi_session_interval: Span,
}

/// Older events for who asks for them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    /// Whether clients may ask for older events.
    pub enabled: bool,
    /// What becomes of a replay from an offset that the log does not have.
    pub stale: Stale,
}

/// What becomes of a replay from an offset that the log does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stale {
    /// From the earliest event that is there.
    Earliest,
    /// From now on.
    Latest,
    /// The subscribe fails.
    Error,
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
    /// The subprotocol that is spoken; empty for none.
    pub protocol: String,
    /// Events in one frame; 0 is as many as wait.
    pub messages_per_frame: usize,
    /// A clientId is unknown on a socket that did not bring its handshake.
    pub require_handshake_per_connection: bool,
    /// The largest message; 0 is `limits.request_body`.
    pub max_message: ByteSize,
}

/// JSONP: how a request says which function is given the replies.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallbackPolling {
    /// The parameter of the query that names the function.
    pub parameter: String,
    /// Length of the function's name.
    pub callback_max_length: usize,
}

/// Clients that ask again and again for a session that is unknown: who is answered how late.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnknownSessions {
    /// Repeats of one clientId from one address that are answered at once, as the first is.
    pub free_repeats: u32,
    /// How late the next one is answered; each after it twice as late.
    pub first_delay: Span,
    /// The latest.
    pub longest_delay: Span,
    /// Repeats after which the answer is no success any more.
    pub refuse_after: u32,
    /// Silence after which a clientId begins anew.
    pub forget_after: Span,
    /// Answers to one address that may leave at once, whatever the clientIds.
    pub address_burst: u32,
    /// Answers a second that one address always has.
    pub address_rate: u32,
    /// ClientIds that are remembered, and as many addresses.
    pub remembered: usize,
}

/// What is done about too much at once.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overload {
    /// What connects are answered as their interval meanwhile; nothing is said when it is zero.
    pub interval: Span,
    /// Events that are stored and not yet handed to sessions, from which on it is too much.
    pub lag: u64,
}

/// HTTP/2, for clients, and bounds of one connection.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http2 {
    /// Whether it is spoken.
    pub enabled: bool,
    /// Requests at once, held connects among them.
    pub max_concurrent_streams: u32,
    /// Headers of a request, decoded.
    pub header_list: ByteSize,
    /// What is remembered of headers, to compress the next ones.
    pub header_table: ByteSize,
    /// A frame.
    pub frame: ByteSize,
    /// Bytes of one request's body that may be on their way.
    pub stream_window: ByteSize,
    /// Bytes of all bodies together.
    pub connection_window: ByteSize,
    /// Bytes of a response that are taken before the peer has room for them.
    pub send_buffer: ByteSize,
    /// Requests that a client takes back before they were looked at.
    pub resets: usize,
    /// Requests that break the protocol.
    pub errors: usize,
    /// Silence after which a ping asks whether the peer is there.
    pub ping_interval: Span,
    /// How long its answer may take.
    pub ping_timeout: Span,
    /// How long a response may wait for the peer to take some of it.
    pub write_timeout: Span,
}

/// Bounds on what a client or publisher can cost.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A client's request body, and a WebSocket message unless `websocket.max_message` says otherwise.
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
    /// What the user may do beyond what everyone may: names that rules of channels know.
    #[serde(default)]
    pub roles: Vec<String>,
}

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

/// What holds for which channels.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Channels {
    /// The rules, in any order: the most specific pattern that says something decides.
    pub rules: Vec<ChannelRule>,
}

/// What holds for the channels that a pattern matches; what is left out, a wider rule says.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRule {
    /// The channels.
    pub pattern: ChannelPattern,
    /// Only clients with a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    /// Roles that may publish: `["*"]` is everyone, `[]` is nobody but the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<String>>,
    /// Roles that may subscribe: `["*"]` is everyone, `[]` is nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Vec<String>>,
    /// How long an event for everyone may wait for company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lazy: Option<Span>,
    /// Whether a client gets back what it publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// The largest data of one event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_message: Option<ByteSize>,
    /// Where events carry their offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_id: Option<ReplayId>,
    /// For how long events are given to those who were away, or who replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Span>,
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
        if self.overload.interval.0 > self.session.max_timeout.0 {
            return wrong("overload.interval", "longer than session.max_timeout");
        }
        if self.websocket.ping_interval.0.is_zero() {
            return wrong("websocket.ping_interval", "longer than nothing");
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
        if let Err((key, reason)) = self.http2.check() {
            return wrong(&format!("http2.{key}"), reason);
        }
        if let Err((key, reason)) = self.browser_cookie.check() {
            return wrong(&format!("browser_cookie.{key}"), reason);
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

    /// What the protocol needs to know, but for what the server can do by itself.
    pub fn protocol(&self) -> bayeux::Settings {
        bayeux::Settings {
            timeout: self.session.timeout.0,
            interval: self.session.interval.0,
            max_interval: self.session.max_interval.0,
            max_timeout: self.session.max_timeout.0,
            proof_interval: self.websocket.proof_interval.0,
            rules: self.channels.rules().into(),
            handshake_reconnect: self.session.handshake_reconnect,
            atomic_subscriptions: self.session.atomic_subscriptions,
            meta_connect_deliver_only: self.session.meta_connect_deliver_only,
            broadcast_to_publisher: self.session.broadcast_to_publisher,
            max_lazy_timeout: self.session.max_lazy_timeout.0,
            timestamps: self.session.timestamps,
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

impl Channels {
    /// The rules as the protocol knows them.
    fn rules(&self) -> Rules {
        Rules::new(self.rules.iter().map(ChannelRule::rule).collect())
    }
}

impl ChannelRule {
    fn rule(&self) -> Rule {
        Rule {
            pattern: self.pattern.clone(),
            private: self.private,
            publish: self.publish.as_deref().map(access),
            subscribe: self.subscribe.as_deref().map(access),
            lazy: self.lazy.map(|lazy| lazy.0),
            echo: self.echo,
            largest_message: self.largest_message.map(bytes),
            replay_id: self.replay_id,
            retention: self.retention.map(|retention| retention.0),
        }
    }
}

fn access(roles: &[String]) -> Access {
    if roles.iter().any(|role| role == "*") {
        return Access::Anyone;
    }
    Access::Roles(roles.iter().map(|role| role.as_str().into()).collect())
}

impl Http2 {
    /// What RFC 9113 allows, and what leaves room to work.
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let within = |size: ByteSize, least: u64, most: u64| (least..=most).contains(&size.as_u64());
        let most = u64::from(u32::MAX >> 1);
        for (key, is_good, reason) in [
            (
                "max_concurrent_streams",
                self.max_concurrent_streams > 0,
                "at least 1",
            ),
            (
                "header_list",
                within(self.header_list, 1 << 10, most),
                "from 1 KiB to 2 GiB",
            ),
            (
                "header_table",
                within(self.header_table, 0, most),
                "at most 2 GiB",
            ),
            (
                "frame",
                within(self.frame, 1 << 14, (1 << 24) - 1),
                "from 16 KiB to less than 16 MiB",
            ),
            (
                "stream_window",
                within(self.stream_window, 1 << 10, most),
                "from 1 KiB to less than 2 GiB",
            ),
            (
                "connection_window",
                within(self.connection_window, 1 << 16, most),
                "from 64 KiB to less than 2 GiB",
            ),
            (
                "send_buffer",
                within(self.send_buffer, 1 << 10, most),
                "from 1 KiB to 2 GiB",
            ),
            (
                "ping_interval",
                !self.ping_interval.0.is_zero(),
                "longer than nothing",
            ),
            (
                "ping_timeout",
                !self.ping_timeout.0.is_zero(),
                "longer than nothing",
            ),
            (
                "write_timeout",
                !self.write_timeout.0.is_zero(),
                "longer than nothing",
            ),
        ] {
            if !is_good {
                return Err((key, reason));
            }
        }
        Ok(())
    }
}

impl BrowserCookie {
    /// Nothing may break out of the header, and nothing may make browsers throw the cookie away.
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let Self {
            name, domain, path, ..
        } = self;
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
        if !self.secure && self.same_site == SameSite::None {
            return Err((
                "same_site",
                "browsers refuse \"none\" from a cookie that is not secure: set browser_cookie.secure",
            ));
        }
        if !self.secure && self.partitioned {
            return Err((
                "partitioned",
                "browsers refuse it from a cookie that is not secure: set browser_cookie.secure",
            ));
        }
        let prefix = |prefix: &str| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if prefix("__Secure-") && !self.secure {
            return Err((
                "name",
                "browsers refuse __Secure- from a cookie that is not secure",
            ));
        }
        if prefix("__Host-") && !(self.secure && domain.is_empty() && path == "/") {
            return Err((
                "name",
                "browsers refuse __Host- from a cookie that is not secure, or has a domain or another path than /",
            ));
        }
        Ok(())
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
    if let Some(section) = section.as_table_mut() {
        section.insert(key.to_lowercase(), value);
    }
    true
}

/// The error with its line of `text`, unless a token is on it: errors end up in logs.
fn invalid(place: &str, text: &str, mut error: toml::de::Error) -> ConfigError {
    let mut reason = String::new();
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| before.matches('\n').count());
    if let Some(line) = line
        && text.lines().nth(line).is_some_and(|line| line.contains("token"))
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

/// A token of HTTP (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// The name of a parameter that is the same in a URL and out of it.
fn is_parameter(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(plain) && name != "message"
}

/// Far above what a machine can hold, and below what the accept loop can count.
const CONNECTIONS_MAX: usize = 1_000_000_000;

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
            transports: vec!["websocket".to_owned(), "long-polling".to_owned()],
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
            handshake_reconnect: false,
            atomic_subscriptions: true,
            meta_connect_deliver_only: false,
            broadcast_to_publisher: true,
            max_lazy_timeout: seconds(5),
            timestamps: false,
            subscribed: Vec::new(),
            messages_during_handshake: false,
            max_sessions_per_browser: 4,
            http2_max_sessions_per_browser: -1,
            multi_session_interval: seconds(2),
        }
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            enabled: true,
            stale: Stale::Earliest,
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
            protocol: String::new(),
            messages_per_frame: 1,
            require_handshake_per_connection: false,
            max_message: ByteSize::b(0),
        }
    }
}

impl Default for CallbackPolling {
    fn default() -> Self {
        Self {
            parameter: "jsonp".to_owned(),
            callback_max_length: 64,
        }
    }
}

impl Default for UnknownSessions {
    fn default() -> Self {
        Self {
            free_repeats: 2,
            first_delay: Span(Duration::from_millis(250)),
            longest_delay: seconds(5),
            refuse_after: 6,
            forget_after: seconds(60),
            address_burst: 50_000,
            address_rate: 50,
            remembered: 100_000,
        }
    }
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            interval: seconds(0),
            lag: 10_000,
        }
    }
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            enabled: true,
            max_concurrent_streams: 128,
            header_list: ByteSize::kib(16),
            header_table: ByteSize::kib(4),
            frame: ByteSize::kib(16),
            stream_window: ByteSize::kib(64),
            connection_window: ByteSize::kib(256),
            send_buffer: ByteSize::kib(64),
            resets: 20,
            errors: 1000,
            ping_interval: seconds(25),
            ping_timeout: seconds(20),
            write_timeout: seconds(20),
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

impl Default for Channels {
    fn default() -> Self {
        let of_the_backend = |text| ChannelRule {
            pattern: ChannelPattern::parse(text).expect("a constant in the grammar"),
            private: None,
            publish: Some(Vec::new()),
            subscribe: None,
            lazy: None,
            echo: None,
            largest_message: None,
            replay_id: None,
            retention: None,
        };
        Self {
            rules: ["/v2/**", "/notifications/**", "/workspace/**"]
                .map(of_the_backend)
                .into(),
        }
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

/// serde's own words for a wrong type repeat the value.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(token) => Ok(token),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => Err(de::Error::custom("a token is a text, in quotes")),
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
