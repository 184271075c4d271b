//! The command line.

mod demo;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit codes, besides 0 and clap's 2 for wrong usage (sysexits.h).
pub(crate) mod exit {
    /// Something failed while running.
    pub(crate) const FAILED: u8 = 1;
    /// An address or a dependency is not available.
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// The log cannot be opened, read or written.
    pub(crate) const LOG: u8 = 74;
    /// The configuration cannot be used.
    pub(crate) const CONFIG: u8 = 78;
}

/// Halley: a CometD/Bayeux notification broker. Nothing lost, nothing twice, for unmodified clients.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (the default).
    Serve(serve::Args),
    /// Show the main job: a broker, a voice API, three agents, and a conference call, live in this terminal.
    Demo(demo::Args),
}

impl Cli {
    /// Does what was asked. `variables` are those of the environment that begin with `HALLEY_`.
    pub fn run(self, variables: Vec<(String, String)>) -> ExitCode {
        match self.command {
            None => serve::run(&serve::Args::default(), variables),
            Some(Command::Serve(args)) => serve::run(&args, variables),
            Some(Command::Demo(args)) => demo::run(&args),
        }
    }
}
