//! The connection to the servers: made once, and made again for as long as the process lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::{Credentials, LogError, NodeId, Shared};

/// The longest wait between two attempts to reach a server that is away.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// How often a silent server is asked for a sign of life; it is given up after two that it owes.
const PING: Duration = Duration::from_secs(1);
/// How long one attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long the servers are waited for at the start.
const START: Duration = Duration::from_secs(10);

/// Whether the servers are there, and since when not.
#[derive(Debug)]
pub(in crate::log) struct Presence {
    gone: Mutex<Gone>,
    connected: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Gone {
    connection: Option<Instant>,
    stream: Option<Instant>,
}

/// Parses what follows `nats:` in `log.url`.
pub(super) fn servers(place: &str) -> Result<Vec<ServerAddr>, LogError> {
    let wrong = |why: &str| {
        LogError::Unusable(
            format!("nats:{place} is no address of servers, such as nats://HOST:PORT,HOST:PORT: {why}")
                .into(),
        )
    };
    let list = place.strip_prefix("//").ok_or_else(|| wrong("there is no //"))?;
    let parse = |text: &str| {
        let address: ServerAddr = text.trim().parse().map_err(|_| wrong(&format!("{text:?}")))?;
        if address.has_user_pass() {
            return Err(wrong("user and password belong into the section [nats]"));
        }
        if address.is_websocket() {
            return Err(wrong("WebSockets are not for servers"));
        }
        Ok(address)
    };
    list.split(',').map(parse).collect()
}

/// Connects, and keeps connecting for as long as the client lives. The servers must be there at the start.
pub(super) async fn connect(
    servers: Vec<ServerAddr>,
    shared: &Shared,
    me: &NodeId,
    presence: Arc<Presence>,
) -> Result<Client, LogError> {
    // The libraries that ask for a provider of cryptography get the one that all of this server uses; whoever came first stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let names: Vec<String> = servers
        .iter()
        .map(|server| format!("{}:{}", server.host(), server.port()))
        .collect();
    let unusable = |why: String| {
        let names = names.join(", ");
        LogError::Unusable(format!("cannot connect to NATS at {names}: {why}").into())
    };
    let options = options(shared, me, presence)
        .await
        .map_err(|error| unusable(format!("the credentials cannot be used: {error}")))?;
    match tokio::time::timeout(START, options.connect(servers)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(unusable(error.to_string())),
        Err(_) => Err(unusable(format!("no answer within {} s", START.as_secs()))),
    }
}

async fn options(shared: &Shared, me: &NodeId, presence: Arc<Presence>) -> std::io::Result<ConnectOptions> {
    let mut options = ConnectOptions::new()
        .name(me)
        .require_tls(shared.tls)
        .ping_interval(PING)
        .connection_timeout(ATTEMPT)
        .request_timeout(Some(shared.answer_within))
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| match attempts {
            0 | 1 => Duration::ZERO,
            2..5 => AGAIN_AFTER / 5,
            _ => AGAIN_AFTER,
        })
        .event_callback(move |event| {
            presence.hear(&event);
            std::future::ready(())
        });
    if let Some(ca) = &shared.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &shared.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    match &shared.credentials {
        Credentials::None => Ok(options),
        Credentials::File(path) => options.credentials_file(path).await,
        Credentials::NKey(seed) => Ok(options.nkey(seed.clone())),
        Credentials::User(user, password) => Ok(options.user_and_password(user.clone(), password.clone())),
        Credentials::Token(token) => Ok(options.token(token.clone())),
    }
}

impl Presence {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            gone: Mutex::default(),
            connected: watch::Sender::new(true),
        })
    }

    /// For how long the servers have not been reached, or the stream has had nobody who answers for it.
    pub(in crate::log) fn away(&self) -> Option<Duration> {
        let gone = self.gone.lock();
        let since = [gone.connection, gone.stream].into_iter().flatten().min();
        since.map(|since| since.elapsed())
    }

    /// Says whether the servers answer for the stream.
    pub(super) fn stream_answers(&self, answers: bool) {
        let mut gone = self.gone.lock();
        match (answers, gone.stream) {
            (true, Some(_)) => gone.stream = None,
            (false, None) => gone.stream = Some(Instant::now()),
            (true, None) | (false, Some(_)) => {}
        }
    }

    /// Resolves at once when there is a connection, or as soon as there is one.
    pub(in crate::log) async fn connected(&self) {
        let mut connected = self.connected.subscribe();
        // The sender lives as long as this.
        let _ = connected.wait_for(|connected| *connected).await;
    }

    /// What becomes of the connection, from now on.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    fn hear(&self, event: &Event) {
        match event {
            Event::Connected => {
                if let Some(since) = self.gone.lock().connection.take() {
                    tracing::info!(
                        seconds = since.elapsed().as_secs(),
                        "the NATS servers are there again"
                    );
                }
                self.connected.send_replace(true);
            }
            Event::Disconnected | Event::Closed => {
                let mut gone = self.gone.lock();
                if gone.connection.is_none() {
                    gone.connection = Some(Instant::now());
                    tracing::warn!("the connection to the NATS servers is lost");
                }
                drop(gone);
                self.connected.send_replace(false);
            }
            Event::ServerError(error) => tracing::warn!(%error, "a NATS server complains"),
            Event::ClientError(error) => tracing::warn!(%error, "the connection to the NATS servers fails"),
            Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => {}
        }
    }
}

/// Whether something that is sent now has a connection to leave by.
pub(in crate::log) fn is_connected(client: &Client) -> bool {
    client.connection_state() == State::Connected
}
