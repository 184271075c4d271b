//! The GWS v2 routes over HTTP/1.1.
//!
//! A connection is bounded in every direction: its headers and body have a time and a size, and so has the number of
//! connections. Operations of all connections pass one lock, which is held while the switch changes and its
//! notifications are queued, never across an await: so notifications leave in the order of the changes.

mod answer;
mod auth;
mod body;
mod routes;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::agent::{Agent, is_extension};
use crate::call::{Operation, Refusal, StatusCode, Switch};
use crate::publisher::{self, Counts, Publisher, Running};

/// How to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The address of the broker's API, such as `http://127.0.0.1:9090`.
    pub broker: String,
    /// The address under which clients know this server, for the URIs in messages; by default `http://<listen>`.
    pub public_url: Option<String>,
    /// Who may log in.
    pub agents: Vec<Agent>,
    /// How many connections may be open; further ones wait to be accepted.
    pub connections: usize,
    /// How long a shutdown may take for open requests, and then again for notifications that still wait.
    pub drain: Duration,
    /// How to publish; `broker` above replaces the address in here.
    pub publisher: publisher::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            broker: "http://127.0.0.1:9090".into(),
            public_url: None,
            agents: Vec::new(),
            connections: 1024,
            drain: Duration::from_secs(10),
            publisher: publisher::Config::default(),
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address to listen on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// An agent's name.
    #[error("'{0}' cannot be an agent: a user name is a number of 1 to 12 digits, and given once")]
    Agent(String),
    /// The publisher.
    #[error(transparent)]
    Publisher(#[from] publisher::StartError),
    /// The operating system has no random numbers.
    #[error("no random numbers: {0}")]
    Chance(getrandom::Error),
}

/// The voice API, listening.
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    app: Arc<App>,
    publishing: Running,
    connections: Arc<Semaphore>,
    drain: Duration,
}

impl Server {
    /// Listens and begins to publish; requests are taken by [`Server::run`].
    pub async fn bind(config: Config) -> Result<Server, BindError> {
        let agent_by_user = agents(&config.agents)?;
        let mut chance = [0; 16];
        getrandom::fill(&mut chance).map_err(BindError::Chance)?;
        let failed = |error| BindError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let public = config
            .public_url
            .unwrap_or_else(|| format!("http://{local_addr}"));
        let api = format!("{}/api/v2", public.trim_end_matches('/'));
        let switch = Switch::new(api.clone(), &config.agents, chance);
        let (publisher, publishing) = Publisher::start(publisher::Config {
            broker: config.broker,
            ..config.publisher
        })?;
        let desk = Mutex::new(Desk { switch, publisher });
        let app = Arc::new(App {
            api,
            agent_by_user,
            started: Instant::now(),
            desk,
        });
        let connections = Arc::new(Semaphore::new(config.connections));
        Ok(Server {
            listener,
            local_addr,
            app,
            publishing,
            connections,
            drain: config.drain,
        })
    }

    /// Where the server listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What became of the notifications so far.
    pub fn counts(&self) -> Counts {
        self.publishing.counts()
    }

    /// Serves until `shutdown` is done; then finishes open requests, publishes what waits, and returns what became of
    /// all notifications.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Counts {
        let open = GracefulShutdown::new();
        tokio::select! {
            () = accept(&self.listener, &self.connections, &self.app, &open) => {}
            () = shutdown => {}
        }
        drop(self.listener);
        // Out of time: the requests that are left see their connection close.
        let _ = tokio::time::timeout(self.drain, open.shutdown()).await;
        self.publishing.close(self.drain).await
    }
}

/// What all connections share.
struct App {
    /// The public address of the API: `…/api/v2`.
    api: String,
    agent_by_user: HashMap<String, Agent>,
    started: Instant,
    desk: Mutex<Desk>,
}

/// What changes together: a notification leaves in the order in which the switch said it.
struct Desk {
    switch: Switch,
    publisher: Publisher,
}

impl App {
    /// Performs an operation, if what it says can be published.
    fn perform(&self, user: &str, operation: Operation) -> Result<(), Refusal> {
        let now = self.now();
        let mut desk = self.desk.lock();
        if !desk.publisher.has_room() {
            return Err(Refusal::new(
                StatusCode::Internal,
                "Too many notifications wait for the broker.",
            ));
        }
        for notification in desk.switch.perform(now, user, operation)? {
            desk.publisher.push(&notification);
        }
        Ok(())
    }

    /// The time since the server started.
    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Accepts for ever. A listener that cannot accept now (no file descriptors, say) is tried again.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    app: &Arc<App>,
    open: &GracefulShutdown,
) {
    while let Ok(permit) = connections.clone().acquire_owned().await {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let connection = open.watch(serve(socket, app.clone()));
        tokio::spawn(async move {
            // A connection that breaks concerns its client only, and who answers it knows already.
            let _ = connection.await;
            drop(permit);
        });
    }
}

fn serve(
    socket: TcpStream,
    app: Arc<App>,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send {
    // Answers are small and whole; there is nothing to wait for.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(routes::handle(&app, request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(socket), service)
}

fn agents(agents: &[Agent]) -> Result<HashMap<String, Agent>, BindError> {
    let mut agent_by_user = HashMap::new();
    for agent in agents {
        let known = agent_by_user.insert(agent.user.clone(), agent.clone()).is_some();
        if known || !is_extension(&agent.user) {
            return Err(BindError::Agent(agent.user.clone()));
        }
    }
    Ok(agent_by_user)
}

/// How long the headers of a request may take.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);

/// The pause before accepting again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_a_number() {
        assert!(agents(&[Agent::new("bob", "secret")]).is_err());
    }

    #[test]
    fn a_user_name_is_given_once() {
        assert!(agents(&[Agent::new("15000", "a"), Agent::new("15000", "b")]).is_err());
    }
}
