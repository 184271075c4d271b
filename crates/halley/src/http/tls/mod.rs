//! TLS of a listener (RFC 8446, RFC 5246): who comes in, with which certificate, and how that is changed under way.
//!
//! A connection keeps what it was opened with. New ones get what the files say now: they are looked at again when somebody asks
//! (SIGHUP) and when they have changed, and what cannot be used changes nothing.

mod files;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use self::files::Stamps;
use super::Shutdown;
use crate::config;
use crate::denials::Denials;
use crate::logging::Shown;
use crate::metrics::{Listener, ListenerOutcome, Metrics};

/// A connection on which both sides have agreed on keys.
pub type Secured = TlsStream<TcpStream>;

/// TLS of one listener.
pub struct Tls {
    /// The section of its settings, which begins with the name of the listener.
    listener: &'static str,
    settings: config::Tls,
    offers_http2: bool,
    current: RwLock<Arc<ServerConfig>>,
    /// The files as they were when they were last read.
    stamps: Mutex<Stamps>,
    /// Those who have said something and are not through yet.
    places: Semaphore,
    asked: Notify,
    denials: Denials,
    metrics: Arc<Metrics>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, Error)]
#[error("{listener}.tls.{key}: {reason}")]
pub struct TlsError {
    listener: &'static str,
    key: &'static str,
    reason: String,
}

/// What a client has shown, and proved to have the key of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The SHA-256 of the whole certificate.
    pub sha256: [u8; 32],
    /// Its names (subject alternative names) of hosts, in lower case.
    pub dns: Vec<String>,
    /// Its names that are URIs.
    pub uris: Vec<String>,
}

/// Why somebody did not come in.
enum Refused {
    /// It went away, and had said nothing.
    Gone,
    /// It speaks HTTP without TLS.
    PlainHttp,
    /// It took too long.
    Slow,
    /// The two do not agree.
    Failed(io::Error),
}

/// How a record begins with which TLS begins (RFC 8446, 5.1). A request of HTTP begins with a letter.
const HANDSHAKE: u8 = 22;

/// What whoever speaks HTTP without TLS is told.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 51\r\n\
    Connection: close\r\n\r\nTLS is spoken here: use https:// or wss:// instead\n";

impl Tls {
    /// Reads the files that `settings` names.
    pub fn new(
        listener: &'static str,
        settings: &config::Tls,
        offers_http2: bool,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, TlsError> {
        let stamps = Stamps::of(settings);
        let read = files::read(settings, offers_http2).map_err(|(key, reason)| TlsError {
            listener,
            key,
            reason,
        })?;
        if read.has_ended() {
            warn!(listener, ended = %read.end(), "the certificate has ended: clients will not take it");
        }
        note_end(metrics, listener, read.not_after);
        Ok(Self {
            listener,
            settings: settings.clone(),
            offers_http2,
            current: RwLock::new(Arc::new(read.config)),
            stamps: Mutex::new(stamps),
            places: Semaphore::new(settings.handshakes),
            asked: Notify::new(),
            denials: Denials::default(),
            metrics: Arc::clone(metrics),
        })
    }

    /// Has the files read again soon, changed or not.
    pub fn reload(&self) {
        self.asked.notify_one();
    }

    /// Reads the files again when that was asked for, and when they have changed, until shutdown.
    pub async fn watch(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(self.settings.reload_interval.0);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                _ = ticks.tick() => false,
                () = self.asked.notified() => true,
                () = shutdown.wait() => return,
            };
            let tls = Arc::clone(&self);
            // Files may be on a network.
            let looked = tokio::task::spawn_blocking(move || tls.look_again(is_asked)).await;
            if let Err(panic) = looked {
                warn!(%panic, listener = self.listener, "the certificate was not looked at");
            }
        }
    }

    fn look_again(&self, is_asked: bool) {
        let stamps = Stamps::of(&self.settings);
        if std::mem::replace(&mut *self.stamps.lock(), stamps.clone()) == stamps && !is_asked {
            return;
        }
        let listener = self.listener;
        let read = files::read(&self.settings, self.offers_http2).and_then(|read| match read.has_ended() {
            true => Err(("certificate", format!("it has ended on {}", read.end()))),
            false => Ok(read),
        });
        let result = match read {
            Ok(read) => {
                info!(listener, until = %read.end(), "the certificate was read again");
                note_end(&self.metrics, listener, read.not_after);
                *self.current.write() = Arc::new(read.config);
                "ok"
            }
            Err((key, reason)) => {
                let error = TlsError {
                    listener,
                    key,
                    reason,
                };
                warn!(%error, "the certificate was read again and cannot be used; the old one stays");
                "failed"
            }
        };
        let label = ListenerOutcome { listener, result };
        self.metrics.tls_reloads.get_or_create(&label).inc();
    }

    /// Agrees on keys with whoever has connected, if it does in time.
    pub(super) async fn secure(&self, stream: TcpStream, peer: SocketAddr) -> Option<Secured> {
        let limit = self.settings.handshake_timeout.0;
        let secured = match tokio::time::timeout(limit, self.shake_hands(stream)).await {
            Ok(secured) => secured,
            Err(_) => Err(Refused::Slow),
        };
        let result = match &secured {
            Ok(_) => "ok",
            Err(refused) => refused.label(),
        };
        let listener = self.listener;
        let label = ListenerOutcome { listener, result };
        self.metrics.tls_handshakes.get_or_create(&label).inc();
        secured.map_err(|refused| self.say(&refused, peer)).ok()
    }

    async fn shake_hands(&self, mut stream: TcpStream) -> Result<Secured, Refused> {
        let mut first = [0];
        // Whoever says nothing takes no place from those who do.
        if stream.peek(&mut first).await.map_err(|_| Refused::Gone)? == 0 {
            return Err(Refused::Gone);
        }
        if first[0] != HANDSHAKE && first[0].is_ascii_alphabetic() {
            refuse_http(&mut stream).await;
            return Err(Refused::PlainHttp);
        }
        let _place = self.places.acquire().await;
        let config = Arc::clone(&self.current.read());
        TlsAcceptor::from(config)
            .accept(stream)
            .await
            .map_err(Refused::Failed)
    }

    fn say(&self, refused: &Refused, peer: SocketAddr) {
        let reason = refused.label();
        let listener = self.listener;
        match refused {
            Refused::Gone => debug!(listener, %peer, "gone before a word of TLS"),
            Refused::PlainHttp | Refused::Slow | Refused::Failed(_) => {
                let Some(silent) = self.denials.may_say(reason, Instant::now()) else {
                    return;
                };
                match refused {
                    Refused::PlainHttp => warn!(
                        listener, %peer, silent,
                        "HTTP without TLS on a port with TLS: the client's URL begins with http:// or ws:// and should not"
                    ),
                    Refused::Failed(error) => {
                        let error = Shown(error);
                        info!(listener, %peer, silent, %error, "no TLS was agreed on");
                    }
                    Refused::Slow | Refused::Gone => {
                        info!(listener, %peer, silent, "no TLS was agreed on in time")
                    }
                }
            }
        }
    }
}

impl Refused {
    fn label(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::PlainHttp => "plain_http",
            Self::Slow => "timeout",
            Self::Failed(_) => "failed",
        }
    }
}

impl Certificate {
    fn of(der: &[u8]) -> Self {
        let mut certificate = Self {
            sha256: Sha256::digest(der).into(),
            dns: Vec::new(),
            uris: Vec::new(),
        };
        let parsed = X509Certificate::from_der(der);
        let names = (parsed.as_ref().ok()).and_then(|(_, parsed)| parsed.subject_alternative_name().ok()?);
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            // Whatever else it may be, nobody is known by it.
            if let GeneralName::DNSName(name) = name {
                certificate.dns.push(name.to_ascii_lowercase());
            } else if let GeneralName::URI(name) = name {
                certificate.uris.push((*name).to_owned());
            }
        }
        certificate
    }
}

/// What the other end has shown.
pub(super) fn certificate_of(secured: &Secured) -> Option<Arc<Certificate>> {
    let shown = secured.get_ref().1.peer_certificates()?.first()?;
    Some(Arc::new(Certificate::of(shown)))
}

/// Whether HTTP/2 is to be spoken.
pub(super) fn agreed_on_http2(secured: &Secured) -> bool {
    secured.get_ref().1.alpn_protocol() == Some(files::HTTP2)
}

fn note_end(metrics: &Metrics, listener: &'static str, not_after: i64) {
    let gauge = &metrics.tls_certificate_expiry;
    gauge.get_or_create(&Listener { listener }).set(not_after);
}

/// Best effort: what it says is read, or the answer might be lost with it.
async fn refuse_http(stream: &mut TcpStream) {
    let mut read = [0; 4096];
    while let Ok(1..) = stream.try_read(&mut read) {}
    let _ = stream.write_all(PLAIN_HTTP).await;
    let _ = stream.shutdown().await;
}

/// Seconds since 1970.
fn unix_time() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}
