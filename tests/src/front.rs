//! The web server in front of the broker: a page and the broker under one origin.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ENDPOINT;
use crate::node::js_folder;

/// How long a browser may take to ask for a page.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server makes of a request to switch to WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrades {
    /// Passes it on.
    Pass,
    /// Answers `403` itself.
    Refuse,
    /// Passes it on without the headers that are between two neighbours, as a proxy does that was never told of
    /// WebSockets.
    Forget,
}

/// A reverse proxy: what is below [`ENDPOINT`] goes to the broker, everything else are the files of `tests/js`. Dropping
/// it ends it.
///
/// It listens before there is a broker, whose configuration may have to name this origin.
pub struct Front {
    /// Where browsers connect.
    pub address: SocketAddr,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

struct State {
    broker: OnceLock<SocketAddr>,
    upgrades: Mutex<Upgrades>,
    /// Whether pages are answered.
    pages: watch::Sender<Pages>,
    /// Every value of the browser cookie that was shown to the broker.
    browsers: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Clone, Copy)]
struct Pages {
    are_held: bool,
    asked: u64,
}

type Body = Either<Incoming, Full<Bytes>>;

impl Front {
    /// Listens on a port of its own.
    pub async fn start() -> Front {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port for the web server");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            broker: OnceLock::new(),
            upgrades: Mutex::new(Upgrades::Pass),
            pages: watch::Sender::new(Pages {
                are_held: false,
                asked: 0,
            }),
            browsers: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, Arc::clone(&state)));
        Front {
            address,
            state,
            listening,
        }
    }

    /// The broker, said once. Until then there are only files.
    pub fn stand_before(&self, broker: SocketAddr) {
        self.state.broker.set(broker).expect("said once");
    }

    /// What becomes of WebSockets from now on; those that are open stay.
    pub fn set_upgrades(&self, upgrades: Upgrades) {
        *self.state.upgrades.lock() = upgrades;
    }

    /// Lets whoever asks for a page wait, until [`Front::release_pages`].
    pub fn hold_pages(&self) {
        self.state.pages.send_modify(|pages| pages.are_held = true);
    }

    /// Answers those who wait for a page, and all others.
    pub fn release_pages(&self) {
        self.state.pages.send_modify(|pages| pages.are_held = false);
    }

    /// Waits until a page was asked for so many times: what the page before it had to do is then done.
    ///
    /// # Panics
    ///
    /// If that does not happen in time.
    pub async fn until_pages_asked(&self, count: u64) {
        let mut pages = self.state.pages.subscribe();
        let asked = timeout(PATIENCE, pages.wait_for(|pages| pages.asked >= count)).await;
        asked
            .expect("the browser asks for the page in time")
            .expect("the web server is there");
    }

    /// Every value of the browser cookie that was shown to the broker.
    pub fn browsers(&self) -> BTreeSet<String> {
        self.state.browsers.lock().clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Delaying nothing is a nicety; a socket that refuses it is about to fail anyway.
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(Arc::clone(&state), request));
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // How it ends is for its browser to notice.
        tokio::spawn(connection.with_upgrades());
    }
}

/// An error closes the connection, as a broken broker would without us.
async fn answer(state: Arc<State>, mut request: Request<Incoming>) -> io::Result<Response<Body>> {
    let path = request.uri().path();
    let broker = match state.broker.get() {
        Some(broker) if path.starts_with(ENDPOINT) => *broker,
        Some(_) | None => {
            if path.ends_with(".html") {
                state.wait_for_page().await;
            }
            return Ok(file(path));
        }
    };
    state.note_browser(request.headers());
    let upgrades = *state.upgrades.lock();
    if request.headers().contains_key(header::UPGRADE) {
        match upgrades {
            Upgrades::Pass => return switch(broker, request).await,
            Upgrades::Refuse => return Ok(refusal(StatusCode::FORBIDDEN)),
            Upgrades::Forget => {
                request.headers_mut().remove(header::UPGRADE);
                request.headers_mut().remove(header::CONNECTION);
            }
        }
    }
    Ok(forward(broker, request).await?.map(Either::Left))
}

impl State {
    async fn wait_for_page(&self) {
        let mut pages = self.pages.subscribe();
        self.pages.send_modify(|pages| pages.asked += 1);
        // An error means that the web server is gone.
        let _ = pages.wait_for(|pages| !pages.are_held).await;
    }

    fn note_browser(&self, headers: &HeaderMap) {
        let cookies = headers.get_all(header::COOKIE).iter();
        let values = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split("; "))
            .filter_map(|pair| pair.strip_prefix("BAYEUX_BROWSER="))
            .map(ToOwned::to_owned);
        self.browsers.lock().extend(values);
    }
}

/// A connection for each request: when the browser gives one up, so do we.
async fn forward(broker: SocketAddr, request: Request<Incoming>) -> io::Result<Response<Incoming>> {
    let stream = TcpStream::connect(broker).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(io::Error::other)
}

async fn switch(broker: SocketAddr, mut request: Request<Incoming>) -> io::Result<Response<Body>> {
    let browser = hyper::upgrade::on(&mut request);
    let mut response = forward(broker, request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        tokio::spawn(copy(browser, hyper::upgrade::on(&mut response)));
    }
    Ok(response.map(Either::Left))
}

async fn copy(browser: OnUpgrade, broker: OnUpgrade) -> Option<(u64, u64)> {
    let (browser, broker) = tokio::try_join!(browser, broker).ok()?;
    let (mut browser, mut broker) = (TokioIo::new(browser), TokioIo::new(broker));
    tokio::io::copy_bidirectional(&mut browser, &mut broker)
        .await
        .ok()
}

fn file(path: &str) -> Response<Body> {
    let path = Path::new(path.trim_start_matches('/'));
    let is_inside = path
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    let kind = match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("js" | "mjs") => "text/javascript",
        Some(_) | None => "application/octet-stream",
    };
    match std::fs::read(js_folder().join(path)) {
        Ok(content) if is_inside => {
            let mut response = Response::new(Either::Right(Full::from(content)));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        Ok(_) | Err(_) => refusal(StatusCode::NOT_FOUND),
    }
}

fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = status;
    response
}
