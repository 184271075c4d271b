//! What a client asks a service, what the service sees of it, and what the client hears, whatever the service does.
//!
//! The broker runs in this process; the service is an HTTP server of the test, which answers when the test says so.

mod answers;
mod backend;
mod failures;
#[expect(
    dead_code,
    reason = "shared with the tests of bad input, which need more of it"
)]
#[path = "../bad_input/it.rs"]
mod it;
mod questions;
