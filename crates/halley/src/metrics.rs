//! What operators see at `/metrics`, in OpenMetrics text. No label names a user, a session or a channel.

use std::sync::atomic::Ordering;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A label with the name of a transport.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Transport {
    /// Its connection type, such as `websocket`.
    pub transport: &'static str,
}

/// A label that says how something ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `ok`, or why not.
    pub result: &'static str,
}

/// A label with the name of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Listener {
    /// `public` or `internal`.
    pub listener: &'static str,
}

/// How something ended on a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerOutcome {
    /// `public` or `internal`.
    pub listener: &'static str,
    /// `ok`, or why not.
    pub result: &'static str,
}

/// The counters and gauges of one process.
pub struct Metrics {
    registry: Registry,
    /// Open sockets and exchanges.
    pub connections: Family<Transport, Gauge>,
    /// Handshakes by result.
    pub handshakes: Family<Outcome, Counter>,
    /// Messages of clients that were refused, by reason.
    pub refusals: Family<Outcome, Counter>,
    /// Answers about unknown sessions that were delayed or refused, since they repeat.
    pub unknown_sessions: Family<Outcome, Counter>,
    /// Sockets that ended, by reason.
    pub socket_ends: Family<Outcome, Counter>,
    /// Sessions that gave way to newer ones of their users.
    pub sessions_evicted: Counter,
    /// Events taken from publishers, by result.
    pub ingested: Family<Outcome, Counter>,
    /// Events handed to sessions.
    pub routed: Counter,
    /// Events that left on a transport.
    pub deliveries: Family<Transport, Counter>,
    /// Sessions that fell behind and went on from the log.
    pub fell_behind: Counter,
    /// Reads of the log for sessions that were behind.
    pub log_reads: Counter,
    /// Dormant sessions that came back.
    pub resumes: Counter,
    /// Sessions that were taken from another node.
    pub adoptions: Counter,
    /// Sessions that another node has taken.
    pub departures: Counter,
    /// Changes of presence that were published, by what they say.
    pub presence: Family<Outcome, Counter>,
    /// Times that a session was told that events it had not seen are gone.
    pub gaps: Counter,
    /// Seconds from taking a publish to its being durable.
    pub append_seconds: Histogram,
    /// Calls of services, by result.
    pub service_calls: Family<Outcome, Counter>,
    /// Seconds from a call to what came of it, with the wait for a place.
    pub service_seconds: Histogram,
    /// Answers of services for sessions that were gone.
    pub service_answers_lost: Counter,
    /// Agreements on keys, by listener and result.
    pub tls_handshakes: Family<ListenerOutcome, Counter>,
    /// Certificates that were read again, by listener and result.
    pub tls_reloads: Family<ListenerOutcome, Counter>,
    /// When the certificate in use ends, in seconds since 1970.
    pub tls_certificate_expiry: Family<Listener, Gauge>,
    /// 1 on the way out.
    pub draining: Gauge,
    log_lines_dropped: Counter,
    sessions: Gauge,
    users: Gauge,
    records: Gauge,
    log_last: Gauge,
    log_first: Gauge,
    log_bytes: Gauge,
}

/// What is measured when somebody looks.
pub struct Levels {
    /// Sessions in memory.
    pub sessions: usize,
    /// Users that have some of these.
    pub users: usize,
    /// Session records in the store.
    pub records: u64,
    /// The first offset in the log.
    pub log_first: u64,
    /// The last one.
    pub log_last: u64,
    /// What the log takes.
    pub log_bytes: u64,
    /// Lines about itself that the process could not write.
    pub log_lines_dropped: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("halley");
        let metrics = Self {
            connections: Family::default(),
            handshakes: Family::default(),
            refusals: Family::default(),
            unknown_sessions: Family::default(),
            socket_ends: Family::default(),
            sessions_evicted: Counter::default(),
            ingested: Family::default(),
            routed: Counter::default(),
            deliveries: Family::default(),
            fell_behind: Counter::default(),
            log_reads: Counter::default(),
            resumes: Counter::default(),
            adoptions: Counter::default(),
            departures: Counter::default(),
            presence: Family::default(),
            gaps: Counter::default(),
            append_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            service_calls: Family::default(),
            service_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            service_answers_lost: Counter::default(),
            tls_handshakes: Family::default(),
            tls_reloads: Family::default(),
            tls_certificate_expiry: Family::default(),
            draining: Gauge::default(),
            log_lines_dropped: Counter::default(),
            sessions: Gauge::default(),
            users: Gauge::default(),
            records: Gauge::default(),
            log_last: Gauge::default(),
            log_first: Gauge::default(),
            log_bytes: Gauge::default(),
            registry: Registry::default(),
        };
        let all = &mut registry;
        all.register(
            "connections",
            "Open carriers by transport",
            metrics.connections.clone(),
        );
        all.register("handshakes", "Handshakes by result", metrics.handshakes.clone());
        all.register(
            "refusals",
            "Client messages that were refused, by reason",
            metrics.refusals.clone(),
        );
        all.register(
            "unknown_sessions",
            "Answers about unknown sessions that were delayed, or refused, since clients ask again and again",
            metrics.unknown_sessions.clone(),
        );
        all.register(
            "socket_ends",
            "WebSockets that ended, by reason",
            metrics.socket_ends.clone(),
        );
        all.register(
            "sessions_evicted",
            "Sessions that gave way to newer ones of their users",
            metrics.sessions_evicted.clone(),
        );
        all.register(
            "events_ingested",
            "Events taken from publishers, by result",
            metrics.ingested.clone(),
        );
        all.register(
            "events_routed",
            "Events handed to sessions",
            metrics.routed.clone(),
        );
        all.register(
            "deliveries",
            "Events that left, by transport",
            metrics.deliveries.clone(),
        );
        all.register(
            "slow_sessions",
            "Sessions that fell behind and went on from the log",
            metrics.fell_behind.clone(),
        );
        all.register(
            "log_reads",
            "Reads of the log for sessions that were behind",
            metrics.log_reads.clone(),
        );
        all.register(
            "resumes",
            "Dormant sessions that came back",
            metrics.resumes.clone(),
        );
        all.register(
            "sessions_adopted",
            "Sessions taken from another node",
            metrics.adoptions.clone(),
        );
        all.register(
            "sessions_departed",
            "Sessions that another node has taken",
            metrics.departures.clone(),
        );
        all.register(
            "presence_changes",
            "Users who are told to be present now, or absent",
            metrics.presence.clone(),
        );
        all.register(
            "gap",
            "Sessions told that events they had not seen are gone",
            metrics.gaps.clone(),
        );
        all.register_with_unit(
            "log_append",
            "From taking a publish to its being durable",
            Unit::Seconds,
            metrics.append_seconds.clone(),
        );
        all.register(
            "service_calls",
            "Calls of services, by result",
            metrics.service_calls.clone(),
        );
        all.register_with_unit(
            "service_call",
            "From a call to what came of it, with the wait for a place",
            Unit::Seconds,
            metrics.service_seconds.clone(),
        );
        all.register(
            "service_answers_lost",
            "Answers of services for sessions that were gone",
            metrics.service_answers_lost.clone(),
        );
        all.register(
            "tls_handshakes",
            "Clients that agreed on keys, or why they did not, by listener",
            metrics.tls_handshakes.clone(),
        );
        all.register(
            "tls_reloads",
            "Certificates that were read again, by listener and result",
            metrics.tls_reloads.clone(),
        );
        all.register_with_unit(
            "tls_certificate_expiry",
            "When the certificate in use ends, in seconds since 1970",
            Unit::Seconds,
            metrics.tls_certificate_expiry.clone(),
        );
        all.register(
            "draining",
            "1 while clients are let go and nobody new is welcome",
            metrics.draining.clone(),
        );
        all.register(
            "log_lines_dropped",
            "Lines of the log that could not be written",
            metrics.log_lines_dropped.clone(),
        );
        all.register("sessions", "Sessions in memory", metrics.sessions.clone());
        all.register("users", "Users with sessions in memory", metrics.users.clone());
        all.register(
            "session_records",
            "Session records in the store",
            metrics.records.clone(),
        );
        all.register(
            "log_last_offset",
            "The last durable offset",
            metrics.log_last.clone(),
        );
        all.register(
            "log_first_offset",
            "The first offset still there",
            metrics.log_first.clone(),
        );
        all.register_with_unit(
            "log",
            "What the log takes",
            Unit::Bytes,
            metrics.log_bytes.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The OpenMetrics text.
    pub fn encode(&self, levels: &Levels) -> String {
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.sessions, levels.sessions as u64);
        set(&self.users, levels.users as u64);
        set(&self.records, levels.records);
        set(&self.log_first, levels.log_first);
        set(&self.log_last, levels.log_last);
        set(&self.log_bytes, levels.log_bytes);
        let lines = self.log_lines_dropped.inner();
        lines.store(levels.log_lines_dropped, Ordering::Relaxed);
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}
