//! The binary: reads the command line and the environment, and nothing else does.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let variables = std::env::vars()
        .filter(|(name, _)| name.starts_with("HALLEY_"))
        .collect();
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    halley::cli::Cli::parse().run(variables, &words)
}
