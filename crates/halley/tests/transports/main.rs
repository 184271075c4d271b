//! Transports as clients meet them: which are spoken, and what each does with requests and frames.
//!
//! In process, over real sockets, with a log in memory.

mod callback_polling;
mod crowds;
mod it;
mod listed;
mod sockets;
mod unknown_sessions;
