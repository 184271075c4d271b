//! What is thrown at Halley, and what must be true of what it does then.
//!
//! A target takes any bytes and panics when a promise is broken. It is plain code: `cargo test` replays every committed
//! input with it (`tests/corpora.rs`), and `cargo xtask fuzz` lets libFuzzer look for new ones, guided by coverage. To add
//! a target: a file, a line in [`ALL`], and a folder of seeds.

pub mod batch;
pub mod channel;
pub mod ingest;
mod json;
pub mod session;

/// One thing to fuzz.
#[derive(Debug)]
pub struct Target {
    /// Its name on the command line, and of its folders in `corpus/` and `seeds/`.
    pub name: &'static str,
    /// Panics when what it does with the input is not what was promised.
    pub run: fn(&[u8]),
    /// The input as a person reads it.
    pub show: fn(&[u8]) -> String,
}

/// Every target.
pub const ALL: &[Target] = &[batch::TARGET, channel::TARGET, ingest::TARGET, session::TARGET];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

fn show_text(input: &[u8]) -> String {
    input.escape_ascii().to_string()
}
