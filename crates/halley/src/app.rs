//! The whole: the only place that knows every part.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::api::{Access, AccessError, Api, ApiService};
use crate::auth::{self, Affinity, AuthError, Browsers, Revocations};
use crate::census::Census;
use crate::cluster::Cluster;
use crate::config::{self, ClientCertificates, Config};
use crate::cors::Cors;
use crate::denials::Denials;
use crate::dispatch;
use crate::drain::{self, Drain};
use crate::http::{self, Bounds, Shutdown, Tls, TlsError};
use crate::ingest::Ingest;
use crate::log::{self, LogError};
use crate::metrics::Metrics;
use crate::presence::{self, Presence};
use crate::quota::Quotas;
use crate::services::Services;
use crate::sessions::{Options, Overload, Room, Sessions};
use crate::transport::{self, Beat, Connection, Public, Transport, TransportError, Unknown};

/// A running broker.
pub struct App {
    public_addr: SocketAddr,
    internal_addr: SocketAddr,
    api: Arc<Api>,
    public: Arc<Public>,
    services: Arc<Services>,
    certificates: Certificates,
    /// Clients are about to be let go.
    leave: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    /// Each ends with the last of its connections.
    listeners: [JoinHandle<()>; 2],
    tasks: Vec<JoinHandle<()>>,
}

/// The certificates that its listeners show.
#[derive(Clone, Default)]
pub struct Certificates(Vec<Arc<Tls>>);

impl Certificates {
    /// Whether TLS is spoken nowhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has their files read again. Connections stay; what cannot be used changes nothing.
    pub fn reload(&self) {
        self.0.iter().for_each(|tls| tls.reload());
    }
}

/// Why a broker does not start, or ends.
#[derive(Debug, Error)]
pub enum AppError {
    /// The log cannot be opened, or has stopped.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The authenticator cannot be made.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The internal listener cannot be guarded.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The transports cannot be spoken.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be listened on.
    #[error("cannot listen on {addr} ({key}): {error}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Where it is configured.
        key: &'static str,
        /// Why.
        error: std::io::Error,
    },
}

/// File descriptors that are not for connections.
const FILES: usize = 512;

/// How often it is said who is left.
const PROGRESS: Duration = Duration::from_secs(1);

/// How long services may take to answer, and connections to end.
const GOODBYE: Duration = Duration::from_secs(3);

impl App {
    /// Opens the log, listens on both addresses, and serves.
    pub async fn start(config: Config) -> Result<Self, AppError> {
        let authenticator = auth::make(&config)?;
        let access = Access::new(&config)?;
        let is_exposed = access.is_open()
            && !config.internal.listen.ip().is_loopback()
            && config.internal.tls.client_certificates != ClientCertificates::Required;
        let metrics = Arc::new(Metrics::default());
        let public_tls = tls("public", &config.public.tls, config.http2.enabled, &metrics)?;
        let internal_tls = tls("internal", &config.internal.tls, false, &metrics)?;
        let transports = transport::named(&config.public.transports)?;
        let opening = (config.log.url.clone(), config.storage());
        let opened = tokio::task::spawn_blocking(move || log::open(&opening.0, &opening.1)).await;
        let storage = opened.unwrap_or_else(|panic| Err(LogError::Unusable(panic.to_string().into())))?;
        let public_listener = bind(config.public.listen, "public.listen")?;
        let internal_listener = bind(config.internal.listen, "internal.listen")?;

        let (stop, shutdown) = Shutdown::new();
        let (leave, leaving) = Shutdown::new();
        let options = Options {
            resume_window: config.session.resume_window.0,
            trust_client_session: config.session.trust_client_session,
            overload: Overload {
                interval: config.overload.interval.0,
                lag: config.overload.lag,
            },
            room: Room {
                per_user: config.limits.sessions_per_user,
                per_address: config.limits.sessions_per_address,
            },
            tells_presence: config.presence.channel().is_some(),
        };
        let protocol = protocol(&config, &transports);
        let load = async || Revocations::load(Arc::clone(&storage.sessions)).await;
        let revocations = Arc::new(log::patiently(load).await?);
        let sessions = Arc::new(Sessions::new(
            &storage,
            Arc::clone(&revocations),
            Arc::new(protocol.clone()),
            options,
            Arc::clone(&metrics),
        ));
        let services = Arc::new(Services::new(&config, &metrics));
        let quotas = Arc::new(Quotas::new(&config.limits));
        let drain = Arc::new(Drain::new(config.shutdown.drain.0));
        let config = Arc::new(config);
        let public = Arc::new(Public {
            sessions: Arc::clone(&sessions),
            log: Arc::clone(&storage.log),
            authenticator,
            revocations: Arc::clone(&revocations),
            transports,
            browsers: Browsers::new(&storage.sessions.secret(), &config.browser_cookie),
            affinity: Affinity::of(&config),
            cors: Cors::new(&config.cors),
            crowd: Arc::default(),
            services: Arc::clone(&services),
            metrics: Arc::clone(&metrics),
            beat: Beat::new(config.websocket.ping_interval.0),
            denials: Denials::default(),
            unknown: Mutex::new(Unknown::new(config.unknown_sessions.clone())),
            quotas: Arc::clone(&quotas),
            config: Arc::clone(&config),
            drain: Arc::clone(&drain),
            shutdown: shutdown.clone(),
        });
        let counted = Arc::clone(&public);
        let census = Arc::new(Census {
            sessions: Arc::clone(&sessions),
            drain: Arc::clone(&drain),
            attending: Box::new(move || counted.attending()),
        });
        let presence = presence(&config, &protocol, &storage, &sessions, &metrics);
        let api = Arc::new(Api {
            access,
            ingest: Ingest::new(
                Arc::clone(&storage.log),
                protocol,
                config.limits.clone(),
                &config.cloudevents,
                Arc::clone(&metrics),
            ),
            sessions: Arc::clone(&sessions),
            storage: storage.clone(),
            revocations: Arc::clone(&revocations),
            quotas: Arc::clone(&quotas),
            revoked_for: config.jwt.max_lifetime.0 + config.jwt.skew.0,
            metrics: Arc::clone(&metrics),
            body_timeout: config.limits.body_timeout.0,
            drain,
            census: Arc::clone(&census),
            ready: AtomicBool::new(true),
        });
        let cluster = Arc::new(Cluster {
            storage: storage.clone(),
            sessions: Arc::clone(&sessions),
            revocations: Arc::clone(&revocations),
            census,
        });
        let addresses = (
            local(&public_listener, config.public.listen),
            local(&internal_listener, config.internal.listen),
        );
        let (for_public, for_api) = (Arc::clone(&public), Arc::clone(&api));
        let (for_beat, until) = (Arc::clone(&public), shutdown.clone());
        let certificates = Certificates(public_tls.iter().chain(&internal_tls).cloned().collect());
        let mut tasks = vec![
            tokio::spawn(async move { for_beat.beat.run(until).await }),
            // Followed from here on, not from the task's first turn: by then the listeners may have let events in.
            tokio::spawn(dispatch::run(
                storage.log.follow(),
                Arc::clone(&sessions),
                metrics,
            )),
            tokio::spawn(cluster.run(shutdown.clone())),
            tokio::spawn(Arc::clone(&sessions).run_timers(shutdown.clone())),
            tokio::spawn(sessions.run_sweeper(shutdown.clone())),
            tokio::spawn(retain(Arc::clone(&storage.log), shutdown.clone())),
            tokio::spawn(forget_revocations(revocations, shutdown.clone())),
            tokio::spawn(forget_quotas(quotas, shutdown.clone())),
        ];
        if let Some(presence) = presence {
            tasks.push(tokio::spawn(Arc::new(presence).run(shutdown.clone())));
        }
        for tls in &certificates.0 {
            tasks.push(tokio::spawn(Arc::clone(tls).watch(shutdown.clone())));
        }
        let listeners = [
            tokio::spawn(http::listen(
                public_listener,
                public_bounds(&config, leaving),
                public_tls,
                shutdown.clone(),
                move |peer| Connection::new(&for_public, &peer),
            )),
            tokio::spawn(http::listen(
                internal_listener,
                bounds(&config),
                internal_tls,
                shutdown,
                move |peer| ApiService::for_peer(&for_api, peer),
            )),
        ];
        info!(public = %addresses.0, internal = %addresses.1, log = %config.log.url, auth = %config.auth.kind, "ready");
        if is_exposed {
            warn!(
                "internal.listen is not on this machine alone, and without internal.keys, issuers or certificates it asks nobody who they are"
            );
        }
        if config.presence.is_for_everyone(&config.protocol().rules) {
            warn!(
                "every client may subscribe to presence.channel, and hears who is present: channels.rules can say which roles may"
            );
        }
        if config.auth.kind == "anonymous" {
            warn!("auth.kind is anonymous: clients have no user, so events for a user reach nobody");
        }
        Ok(Self {
            public_addr: addresses.0,
            internal_addr: addresses.1,
            api,
            public,
            services,
            certificates,
            leave,
            stop,
            listeners,
            tasks,
        })
    }

    /// Where clients come.
    pub fn public_addr(&self) -> SocketAddr {
        self.public_addr
    }

    /// Where publishers and operators come.
    pub fn internal_addr(&self) -> SocketAddr {
        self.internal_addr
    }

    /// What its listeners show, to be read again when they have changed.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Serves until `asked` resolves, or an operator wants it to end; then lets clients go, unless `insisted` resolves meanwhile, and
    /// ends well. If the log stops it says why.
    pub async fn run(
        self,
        asked: impl Future<Output = ()>,
        insisted: impl Future<Output = ()>,
    ) -> Result<(), AppError> {
        let mut stopped = self.api.storage.log.stopped();
        let drain = Arc::clone(&self.api.drain);
        let leaving = async {
            tokio::select! {
                () = asked => {}
                () = drain.asked() => {}
            }
            tokio::select! {
                () = self.drain() => {}
                () = insisted => info!("asked again: everyone is let go at once"),
            }
        };
        tokio::select! {
            () = leaving => {}
            error = &mut stopped => {
                error!(%error, "the log has stopped, and so does the broker: nothing was acknowledged that is not durable");
                self.api.ready.store(false, Ordering::Release);
                return Err(AppError::Log(error));
            }
        }
        self.shut_down().await;
        Ok(())
    }

    /// Lets clients go one after the other, and nobody new in.
    async fn drain(&self) {
        let Api {
            drain,
            metrics,
            sessions,
            ..
        } = &*self.api;
        let time = drain.time();
        drain.begin();
        self.leave.send_replace(true);
        metrics.draining.set(1);
        if time.is_zero() || sessions.count() == 0 {
            return;
        }
        let sockets = self.public.beat.sockets();
        let connects = sessions.held();
        info!(
            sockets = sockets.len(),
            connects = connects.len(),
            ?time,
            "draining: clients are let go"
        );
        let end = tokio::time::Instant::now() + time;
        let close = drain::spread(sockets.len(), time, |number| {
            sockets[number]
                .upgrade()
                .into_iter()
                .for_each(|socket| socket.leave());
        });
        let answer = drain::spread(connects.len(), time, |number| {
            connects[number]
                .upgrade()
                .into_iter()
                .for_each(|handle| sessions.release(&handle));
        });
        let let_go = async {
            tokio::join!(close, answer, tokio::time::sleep_until(end));
        };
        tokio::select! {
            () = let_go => {}
            () = self.watch_them_leave() => {}
        }
    }

    /// Says how many are left, until nobody is.
    async fn watch_them_leave(&self) {
        while self.api.sessions.count() > 0 {
            tokio::time::sleep(PROGRESS).await;
            let left = self.public.attending();
            info!(sockets = left.sockets, connects = left.connects, "draining");
        }
    }

    /// Lets clients go, writes down every session, and ends. Nothing is lost: sessions resume from the log.
    pub async fn shut_down(self) {
        self.api.ready.store(false, Ordering::Release);
        // While their clients can still be told.
        if tokio::time::timeout(GOODBYE, self.services.finish())
            .await
            .is_err()
        {
            warn!("some services did not answer in time; their clients give up on them");
        }
        self.stop.send_replace(true);
        let gone = futures::future::join_all(self.listeners);
        if tokio::time::timeout(GOODBYE, gone).await.is_err() {
            warn!("some connections did not end in time");
        }
        match self.api.sessions.save_all().await {
            Ok(()) => info!("sessions are written down; goodbye"),
            Err(error) => {
                warn!(%error, "sessions were not written down; they resume from their last checkpoint")
            }
        }
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn tls(
    listener: &'static str,
    settings: &config::Tls,
    offers_http2: bool,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Tls>>, TlsError> {
    let tls = (settings.is_on()).then(|| Tls::new(listener, settings, offers_http2, metrics));
    Ok(tls.transpose()?.map(Arc::new))
}

fn bind(addr: SocketAddr, key: &'static str) -> Result<TcpListener, AppError> {
    let listen = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
        // After a crash the old connections linger in TIME_WAIT; that must not keep the new process from its port.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(4096)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|error| AppError::Listen { addr, key, error })
}

fn local(listener: &TcpListener, configured: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(configured)
}

/// Who tells which users are present, if the configuration says where.
fn presence(
    config: &Config,
    protocol: &bayeux::Settings,
    storage: &log::Opened,
    sessions: &Arc<Sessions>,
    metrics: &Arc<Metrics>,
) -> Option<Presence> {
    let channel = config.presence.channel()?;
    let settings = presence::Settings {
        traits: protocol.traits(&channel, true, false),
        channel,
        delay: config.presence.delay.0,
        patience: config.session.max_interval.0,
    };
    Some(Presence {
        storage: storage.clone(),
        sessions: Arc::clone(sessions),
        settings,
        metrics: Arc::clone(metrics),
    })
}

fn protocol(config: &Config, transports: &[&Transport]) -> bayeux::Settings {
    bayeux::Settings {
        connection_types: transports
            .iter()
            .map(|transport| transport.connection_type)
            .collect(),
        ..config.protocol()
    }
}

/// Only clients have reason to share a connection among many requests that wait.
fn public_bounds(config: &Config, leaving: Shutdown) -> Bounds {
    Bounds {
        http2: config.http2.enabled.then(|| http2(&config.http2, leaving)),
        ..bounds(config)
    }
}

fn http2(config: &crate::config::Http2, leaving: Shutdown) -> http::Http2 {
    let size = |size| u32::try_from(crate::config::bytes(size)).unwrap_or(u32::MAX);
    http::Http2 {
        streams: config.max_concurrent_streams,
        header_list: size(config.header_list),
        header_table: size(config.header_table),
        frame: size(config.frame),
        stream_window: size(config.stream_window),
        connection_window: size(config.connection_window),
        send_buffer: crate::config::bytes(config.send_buffer),
        resets: config.resets,
        errors: config.errors,
        ping_interval: config.ping_interval.0,
        ping_timeout: config.ping_timeout.0,
        write_timeout: config.write_timeout.0,
        leaving,
    }
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        header_timeout: config.limits.header_timeout.0,
        headers: config.limits.headers,
        header_bytes: crate::config::bytes(config.limits.header_bytes),
        body_timeout: config.limits.body_timeout.0,
        connections: config.limits.connections.min(room_for_connections()),
        http2: None,
    }
}

/// How many connections leave file descriptors for the log, which cannot do without.
fn room_for_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    files - FILES.min(files / 4)
}

async fn retain(log: Arc<dyn log::EventLog>, mut shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.wait() => return,
        }
        if let Err(error) = log.retain(SystemTime::now()).await {
            warn!(%error, "old events were not dropped");
        }
    }
}

async fn forget_revocations(revocations: Arc<Revocations>, mut shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(Duration::from_secs(60));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.wait() => return,
        }
        if let Err(error) = revocations.sweep().await {
            warn!(%error, "revocations that have ended were not forgotten");
        }
    }
}

async fn forget_quotas(quotas: Arc<Quotas>, mut shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            _ = ticks.tick() => quotas.forget(),
            () = shutdown.wait() => return,
        }
    }
}
