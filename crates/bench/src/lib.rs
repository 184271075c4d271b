//! An open-loop load test for Bayeux servers (Halley, CometD, Faye) that accounts for every event.
//!
//! It knows the wire only, and shares no code with a server. A run is [`Settings`] (those of a scenario in
//! [`scenario::ALL`], changed as one likes) and gives a [`Report`]:
//!
//! ```text
//! settings ─▶ scenario ─▶ plan ─▶ worker threads ─▶ account, latencies ─▶ report ─▶ table, JSON, page
//!                                  sessions (client)
//!                                  publishers (lane)
//! ```
//!
//! - [`scenario`]: what is tested; one file each.
//! - `arrivals`: when which event is due. The loop is open: events are due whatever the server does, and latency counts from
//!   the moment at which an event was due, so nothing that the server is slow at is left out.
//! - `client`, `wire`: one Bayeux session, bytes in and bytes out.
//! - `worker`: a thread with its sessions and publishers and one `epoll`; [`Settings::threads`] of them.
//! - `account`: what each session should have had, and what it had.
//! - `conduct`: the phases of a run. `report`: what it has shown.

mod account;
mod arrivals;
mod body;
mod client;
mod conduct;
mod crew;
mod latency;
mod limits;
mod machine;
mod process;
mod progress;
pub mod report;
pub mod scenario;
pub mod settings;
mod site;
mod wire;
mod worker;

pub use account::{Counts, Finding, Wrong};
pub use conduct::{BenchError, Manner, run};
pub use machine::Machine;
pub use report::Report;
pub use settings::{Settings, SettingsError};
