//! A Bayeux client for any Bayeux server: Halley, CometD, Faye.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! let builder = client::Client::builder("ws://127.0.0.1:8080/cometd").bearer("token").acknowledge(true);
//! let (client, mut events) = builder.connect().await?;
//! client.subscribe("/v2/me/calls").await?;
//! while let Some(event) = events.next().await {
//!     if let client::Event::Message { channel, data, .. } = event {
//!         // handle it
//! #       let _ = (channel, data);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It behaves like the CometD clients that people run in browsers: one `/meta/connect` after the
//! other, the same session after a network failure, a new one (with the old subscriptions) when the
//! server no longer knows it, silence when the server says `reconnect:"none"`.
//!
//! It leaves out TLS (`https://` and `wss://` are refused), falling back from one transport to the
//! other, callback-polling, and the messages that some servers send along with a handshake before
//! the first connect (they are delivered, but the connect does not wait for them).
//!
//! Inside there are three layers. `session` is the protocol without I/O and without a clock: time
//! and replies go in, requests and events come out. `driver` is the one task of a client and gives
//! the session both. `transport` carries requests over a WebSocket or over HTTP.

mod backoff;
mod builder;
mod driver;
mod error;
mod event;
mod handle;
mod reply;
mod request;
mod session;
mod transport;

pub use builder::{Builder, Transport};
pub use error::Error;
pub use event::{CloseReason, Event, Events};
pub use handle::Client;
