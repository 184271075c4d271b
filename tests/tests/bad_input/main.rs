//! Whatever comes in gets a clear answer, costs a bounded amount, and harms nobody else.
//!
//! The broker runs in this process, on ports of its own; requests are written byte by byte, as no library would.

mod bodies;
mod clients;
mod cloudevents;
mod forgery;
mod http;
mod isolation;
mod it;
mod leftovers;
mod payloads;
mod publishing;
