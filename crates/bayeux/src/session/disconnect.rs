//! `/meta/disconnect`: the end of a session, asked for by its client, or decided by the server.
//!
//! By the client: its reply leaves first; the held connect follows a little later with `reconnect: none`. A connect reply that
//! arrives first makes a client abort its transport and report the disconnect as failed.
//!
//! By the server: what was published before is delivered, and what services answered; then `/meta/disconnect` goes out
//! unasked, and the held connect after it, with `reconnect: none`. Without a held connect the next one brings all that. Until
//! then the session is unknown to every other message, and afterwards to all of them.

use std::time::Instant;

use super::{Direct, Output, Session};
use crate::{Message, Offset, Reply};

impl Session {
    pub(super) fn disconnect(&mut self, now: Instant, message: &Message<'_>) -> Reply {
        self.life.end();
        self.connects.release_by(now + self.settings.disconnect_grace);
        Reply::success(message)
    }

    /// The server ends the session; the log's last offset is `end`. Returns whether a carrier has something to do.
    ///
    /// A client that is far behind is not waited for longer than `maxInterval`: what it has not got by then it will not get.
    pub fn handle_server_disconnect(&mut self, now: Instant, end: Offset) -> bool {
        if self.life.is_over() {
            return false;
        }
        self.window.missed(end);
        self.life.end_soon(now + self.settings.max_interval);
        self.is_waited_for()
    }

    /// The client or the server has said goodbye: the session and its record can go once its connect is answered.
    pub fn is_over(&self) -> bool {
        self.life.is_over()
    }

    /// The server ends the session, whether or not its client has heard of it: its record is worth nothing any more.
    pub fn is_ending(&self) -> bool {
        self.life.is_ending()
    }

    /// The goodbye of a server that ends the session, when nothing is left to be delivered before it. The reply of the held
    /// connect follows.
    pub(super) fn poll_farewell(&mut self, now: Instant) -> Option<Output> {
        if !self.life.is_ending() || self.life.is_over() {
            return None;
        }
        let is_done =
            !self.window.has_unsent() && self.window.wants_read().is_none() && !self.direct.has_unsent();
        if !is_done && !self.life.is_overdue() {
            return None;
        }
        let received = self.connects.received();
        let timestamp = received.and_then(|received| self.timestamp(&received, now));
        self.life.end();
        self.connects.release();
        Some(Output::Direct(Direct::unasked(
            "/meta/disconnect",
            None,
            timestamp.as_deref(),
        )))
    }
}
