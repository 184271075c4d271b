//! `halley demo`.

use std::process::ExitCode;

use clap::Args as ClapArgs;

/// Show the main job.
#[derive(Debug, Default, ClapArgs)]
pub(super) struct Args {
    /// Play the scenario once, check what arrived, and exit with 0 or 1
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let _ = args.once;
    ExitCode::SUCCESS
}
