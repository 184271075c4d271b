//! `/meta/disconnect`: the end of a session, asked for by its client.
//!
//! Its reply leaves first; the held connect follows a little later with `reconnect: none`. A connect reply that arrives
//! first makes a client abort its transport and report the disconnect as failed.

use std::time::Instant;

use super::Session;
use crate::{Message, Reply};

impl Session {
    pub(super) fn disconnect(&mut self, now: Instant, message: &Message<'_>) -> Reply {
        self.life.end();
        self.connects.release_by(now + self.settings.disconnect_grace);
        Reply::success(message)
    }

    /// The client has said goodbye: the session and its record can go once its connect is answered.
    pub fn is_over(&self) -> bool {
        self.life.is_over()
    }
}
