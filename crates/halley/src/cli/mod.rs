//! The command line.

mod bench;
mod demo;
mod drain;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit codes, besides 0 (sysexits.h).
pub(crate) mod exit {
    /// Something failed while running.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong usage, as clap has it.
    pub(crate) const USAGE: u8 = 2;
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
    /// Let the clients of a running broker go, and end it.
    Drain(drain::Args),
    /// Show the main job: a broker, a voice API, three agents, and a conference call, live in this terminal.
    Demo(demo::Args),
    /// Test a Bayeux server under load, and account for every event.
    Bench(Box<bench::Args>),
}

impl Cli {
    /// Does what was asked. `variables` are those of the environment that begin with `HALLEY_`, `words` the command line.
    pub fn run(self, variables: Vec<(String, String)>, words: &[String]) -> ExitCode {
        match self.command {
            None => serve::run(&serve::Args::default(), variables),
            Some(Command::Serve(args)) => serve::run(&args, variables),
            Some(Command::Drain(args)) => drain::run(&args),
            Some(Command::Demo(args)) => demo::run(&args),
            Some(Command::Bench(args)) => bench::run(*args, words),
        }
    }
}
