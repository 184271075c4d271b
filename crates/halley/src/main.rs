//! The binary: reads the command line and the environment, and nothing else does.

use std::process::ExitCode;

use clap::Parser;

/// What a crowd took goes back to the system when it has left, which the system's own allocator does not do (docs/performance.md
/// has both measured). How soon is said where this is built, in `.cargo/config.toml`.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let variables = std::env::vars()
        .filter(|(name, _)| name.starts_with("HALLEY_"))
        .collect();
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    halley::cli::Cli::parse().run(variables, &words)
}
