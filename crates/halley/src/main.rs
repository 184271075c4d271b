//! The binary: reads the command line and the environment, and nothing else does.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let variables = std::env::vars()
        .filter(|(name, _)| name.starts_with("HALLEY_"))
        .collect();
    halley::cli::Cli::parse().run(variables)
}
