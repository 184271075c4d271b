//! The reference voice API: a small Genesys Web Services (GWS) backend that is a real client of the broker.
//!
//! It knows the broker by its wire only. A REST operation arrives at the [`Server`], changes the [`call::Switch`],
//! and every notification that follows from it goes through the [`publisher`] to `POST /api/v1/events`:
//!
//! ```text
//! POST /api/v2/me/calls/{id} ─▶ server ─▶ call::Switch ─▶ publisher ─▶ the broker ─▶ each agent's own stream
//! ```
//!
//! - [`message`]: what is said on `/v2/me/calls` and `/v2/me/devices`, to the byte.
//! - [`call`]: the call model. No I/O, no clock; an operation is a function from time and state to notifications.
//! - [`server`]: the GWS v2 routes over HTTP/1.1.
//! - [`publisher`]: in order, with the same ids on every attempt, never dropping silently.
//! - [`scenario`]: one conference from log-in to hang-up, as a script and as what each stream must then show.
//!
//! Where the GWS documents leave something open, the item that decides it says so.

pub mod call;
pub mod message;
pub mod publisher;
pub mod scenario;
pub mod server;

mod agent;
mod http;

pub use agent::{Agent, Role, device_id};
pub use server::{Config, Server};
