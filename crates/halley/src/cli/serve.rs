//! `halley serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::exit;
use crate::app::{App, AppError, Certificates};
use crate::config::Config;
use crate::logging;

/// Run the broker.
///
/// Without a configuration it listens for clients on port 8080 (paths /cometd and /api/v2/notifications) and for publishers
/// on 127.0.0.1:9090, keeps its log in ./halley-data, and lets anonymous clients in. deploy/halley.toml shows every
/// setting. A setting may also come as a variable: HALLEY_SESSION__TIMEOUT=20s is session.timeout.
#[derive(Debug, Default, ClapArgs)]
pub(super) struct Args {
    /// The configuration file (also: HALLEY_CONFIG)
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients come, instead of public.listen
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Where publishers and operators come, instead of internal.listen
    #[arg(long, value_name = "ADDR:PORT")]
    internal: Option<SocketAddr>,
    /// The event log, instead of log.url: file:PATH or memory:
    #[arg(long, value_name = "URL")]
    log: Option<String>,
}

pub(super) fn run(args: &Args, variables: Vec<(String, String)>) -> ExitCode {
    let config = match configure(args, variables) {
        Ok(config) => config,
        Err(error) => return complain(exit::CONFIG, &error),
    };
    let _log = logging::start(&config.logging);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(exit::FAILED, &error),
    };
    match runtime.block_on(serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(code(&error), &error),
    }
}

/// What other threads have woken goes first, the log's above all: what it says is durable has waited for a disk already, and sockets
/// always have something new.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .global_queue_interval(1)
        .build()
}

async fn serve(config: Config) -> Result<(), AppError> {
    let app = App::start(config).await?;
    let certificates = app.certificates();
    // Without TLS a hangup is what it is everywhere: the end.
    if !certificates.is_empty() {
        tokio::spawn(reload_on_hangup(certificates));
    }
    let ends = ends_asked_for();
    app.run(came(ends.clone(), 1), came(ends, 2)).await
}

fn configure(args: &Args, variables: Vec<(String, String)>) -> Result<Config, crate::config::ConfigError> {
    let named = variables
        .iter()
        .find(|(name, _)| name == "HALLEY_CONFIG")
        .map(|(_, value)| PathBuf::from(value));
    let file = args.config.clone().or(named);
    let mut config = Config::load(file.as_deref(), variables)?;
    if let Some(listen) = args.listen {
        config.public.listen = listen;
    }
    if let Some(listen) = args.internal {
        config.internal.listen = listen;
    }
    if let Some(url) = &args.log {
        config.log.url.clone_from(url);
    }
    Ok(config)
}

/// SIGHUP has certificates read again.
async fn reload_on_hangup(certificates: Certificates) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        certificates.reload();
    }
}

/// How often SIGTERM or SIGINT came, from now on.
fn ends_asked_for() -> watch::Receiver<u32> {
    let (count, counted) = watch::channel(0);
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    if let (Ok(mut terminate), Ok(mut interrupt)) = signals {
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
    }
    counted
}

/// Waits until that many have come.
async fn came(mut count: watch::Receiver<u32>, wanted: u32) {
    if count.wait_for(|count| *count >= wanted).await.is_err() {
        std::future::pending().await
    }
}

/// SIGTERM or SIGINT.
pub(super) async fn asked_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

pub(super) fn complain(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    logging::say_last(format!("halley: {error}\n"));
    ExitCode::from(code)
}

fn code(error: &AppError) -> u8 {
    match error {
        AppError::Log(_) => exit::LOG,
        AppError::Auth(_) | AppError::Access(_) | AppError::Transport(_) | AppError::Tls(_) => exit::CONFIG,
        AppError::Listen { .. } => exit::UNAVAILABLE,
    }
}
