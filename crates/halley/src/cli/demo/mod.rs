//! `halley demo`: the main job in one terminal.
//!
//! A broker with a durable log in a temporary folder, the reference voice API that publishes to it over HTTP, three agents as
//! its clients, and a conference call played live. Everything talks over real sockets; `--once` checks every stream
//! against what it must be.

mod agents;
mod directions;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use tempfile::TempDir;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use voice::scenario::{self, Mismatch};

use super::exit;
use super::serve::{asked_to_end, complain};
use crate::app::{App, AppError};
use crate::config::{self, Config};
use agents::{Desktop, Heard};

/// Show the main job: a broker, a voice API, three agents, and a conference call, live in this terminal.
///
/// Afterwards everything stays up until Ctrl-C, and the last lines say how to connect a client and how to publish.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Play the call once, check what every agent received, and exit with 0 or 1
    #[arg(long)]
    once: bool,
    /// Where clients come; another free port is taken when this one is in use
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where publishers come; another free port is taken when this one is in use
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9090")]
    internal: SocketAddr,
    /// The pause between two steps, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 400)]
    pace: u64,
}

#[derive(Debug, Error)]
enum DemoError {
    #[error(transparent)]
    Broker(#[from] AppError),
    #[error("the voice API did not start: {0}")]
    Voice(#[from] voice::server::BindError),
    #[error("agent {0} did not connect: {1}")]
    Agent(&'static str, client::Error),
    #[error("the call did not go on: {0}")]
    Play(#[from] scenario::PlayError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How long the last notification may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &Args) -> ExitCode {
    let logging = config::Logging {
        filter: "warn,halley::app=error".to_owned(),
        ..config::Logging::default()
    };
    let _log = crate::logging::start(&logging);
    let result = tokio::runtime::Runtime::new()
        .map_err(DemoError::Io)
        .and_then(|runtime| runtime.block_on(demo(args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(exit::FAILED, &error),
    }
}

async fn demo(args: &Args) -> Result<(), DemoError> {
    let folder = tempfile::tempdir()?;
    let app = App::start(configure(args, &folder).await).await?;
    let (public, internal) = (app.public_addr(), app.internal_addr());
    let voice = voice::Server::bind(voice::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        broker: format!("http://{internal}"),
        agents: people(),
        ..voice::Config::default()
    })
    .await?;
    let voice_addr = voice.local_addr();
    say(&format!(
        "broker     clients at {public} (/cometd), publishers at {internal}, log in {}\n\
         voice API  http://{voice_addr}/api/v2, publishing to the broker\n",
        folder.path().display()
    ))?;

    let (stop_broker, broker_stopped) = oneshot::channel::<()>();
    let (stop_voice, voice_stopped) = oneshot::channel::<()>();
    let broker = tokio::spawn(app.run(async { drop(broker_stopped.await) }, std::future::pending()));
    let voice = tokio::spawn(voice.run(async { drop(voice_stopped.await) }));
    let result = show(args, public, internal, voice_addr).await;
    drop(stop_voice);
    let _ = voice.await;
    drop(stop_broker);
    let _ = broker.await;
    result
}

async fn show(
    args: &Args,
    public: SocketAddr,
    internal: SocketAddr,
    voice: SocketAddr,
) -> Result<(), DemoError> {
    let began = Instant::now();
    let (tell, mut heard) = mpsc::channel(1024);
    let mut desktops = Vec::new();
    for (user, transport) in agents::DESKS {
        let desktop = Desktop::open(user, transport, public, tell.clone())
            .await
            .map_err(|error| DemoError::Agent(user, error))?;
        say(&format!(
            "agent      {user} connected over {}, session {}\n",
            desktop.transport,
            desktop.session()
        ))?;
        desktops.push(desktop);
    }
    say("\n")?;
    let printing = tokio::spawn(async move { print(began, &mut heard).await.map(|()| heard) });
    play(args, began, &format!("http://{voice}")).await?;
    for desktop in &mut desktops {
        desktop
            .expect(scenario::expected(desktop.user).len(), PATIENCE)
            .await;
    }
    for desktop in &desktops {
        scenario::check(desktop.user, &desktop.received())?;
    }
    let counts: Vec<String> = desktops
        .iter()
        .map(|desktop| format!("{} to {}", desktop.received().len(), desktop.user))
        .collect();
    say(&format!(
        "\nEvery stream is as it must be: {} notifications, in order, each once, to nobody else.\n",
        counts.join(", ")
    ))?;
    if !args.once {
        say(&directions::text(public, internal, voice))?;
        asked_to_end().await;
    }
    for desktop in desktops {
        desktop.close().await;
    }
    drop(tell);
    let _ = printing.await;
    Ok(())
}

async fn play(args: &Args, began: Instant, voice: &str) -> Result<(), DemoError> {
    let pace = Duration::from_millis(if args.once { 0 } else { args.pace });
    let mut result = Ok(());
    scenario::play(voice, &people(), |step| {
        // The script waits for each answer; a person wants to read along. This is the main thread, which nobody else needs.
        std::thread::sleep(pace);
        result = say(&format!("{} {step}\n", stamp(began)));
    })
    .await?;
    Ok(result?)
}

/// Prints what agents hear until nobody can hear anything.
async fn print(began: Instant, heard: &mut mpsc::Receiver<Heard>) -> io::Result<()> {
    while let Some(Heard { user, what }) = heard.recv().await {
        say(&format!(
            "{}                                   {user} <- {what}\n",
            stamp(began)
        ))?;
    }
    Ok(())
}

async fn configure(args: &Args, folder: &TempDir) -> Config {
    let mut config = Config::default();
    config.public.listen = free(args.listen).await;
    config.internal.listen = free(args.internal).await;
    config.log.url = format!("file:{}", folder.path().join("log").display());
    config.shutdown.drain = config::Span(Duration::ZERO);
    config.auth.kind = "static".to_owned();
    config.auth.users = people()
        .into_iter()
        .map(|agent| config::User {
            user: agent.user,
            token: agent.password,
            roles: Vec::new(),
        })
        .collect();
    config
}

/// The address, or any free port there when it is taken.
async fn free(addr: SocketAddr) -> SocketAddr {
    match TcpListener::bind(addr).await {
        Ok(_) => addr,
        Err(_) => SocketAddr::new(addr.ip(), 0),
    }
}

fn people() -> Vec<voice::Agent> {
    scenario::USERS
        .iter()
        .map(|user| voice::Agent::new(*user, format!("secret-{user}")))
        .collect()
}

fn stamp(began: Instant) -> String {
    format!("{:7.3}s", began.elapsed().as_secs_f64())
}

/// Writes to stdout; a closed stdout is an error, not a panic.
fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Waits for something, but not for ever. What did not come shows in the check that follows.
async fn patiently(patience: Duration, something: impl Future<Output = ()>) {
    let _ = timeout(patience, something).await;
}
