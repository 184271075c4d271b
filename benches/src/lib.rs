//! Benches: `cargo bench -p halley-benches`. Each file in `benches/` answers the question in its first line. What they have in
//! common is here.

mod client;
pub mod payload;
mod receivers;
pub mod settings;
mod sockets;

pub use client::Client;
pub use receivers::{Clock, Receivers};
pub use sockets::Sockets;
