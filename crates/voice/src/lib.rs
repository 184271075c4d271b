//! The reference voice API: a small Genesys Web Services (GWS) backend that is a real client of the broker.
//!
//! - [`message`]: what is said on `/v2/me/calls` and `/v2/me/devices`, to the byte.
//! - [`call`]: the call model. No I/O, no clock; an operation is a function from time and state to notifications.
//!
//! Where the GWS documents leave something open, the item that decides it says so.

pub mod call;
pub mod message;

mod agent;

pub use agent::{Agent, Role, device_id};
