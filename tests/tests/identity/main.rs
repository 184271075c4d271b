//! Who may have a session, for how long, and what others get who try: credentials as clients and thieves show them.
//!
//! The broker runs in this process. docs/security.md says which threat each of these tests is about.

mod events;
#[expect(
    dead_code,
    reason = "shared with the tests of bad input, which need more of it"
)]
#[path = "../bad_input/it.rs"]
mod it;
mod lifetimes;
mod matrix;
mod presenting;
mod publishers;
mod revocation;
mod tenants;
mod tokens;
