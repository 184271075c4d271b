//! The voice API on the wire: its own HTTP routes, and what it says to a broker that may fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api;
mod broker;
mod publisher;
mod scenario;
mod server;
