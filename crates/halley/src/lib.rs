//! Halley: a CometD/Bayeux notification broker.
//!
//! The road of an event, one file a step, each calling only the next: [`ingest`] → [`log`] → [`dispatch`] → `routing` →
//! [`sessions`] → [`transport`] → socket. ARCHITECTURE.md has the map.

pub mod api;
pub mod app;
pub mod auth;
pub mod census;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod cors;
pub mod denials;
pub mod dispatch;
pub mod drain;
pub mod event;
pub mod http;
pub mod ingest;
pub mod log;
pub mod logging;
pub mod metrics;
pub mod origin;
pub mod presence;
pub mod problem;
pub mod quota;
pub mod services;
pub mod sessions;
pub mod transport;
