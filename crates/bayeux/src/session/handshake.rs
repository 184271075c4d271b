//! `/meta/handshake`: every handshake makes a new session.
//!
//! Read: `ext`. Everything else is ignored, as CometD does: `version`, `minimumVersion`, `supportedConnectionTypes`,
//! `advice`, `clientId`. A session that never connects is forgotten `maxInterval` after the reply.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{LogEnds, Session, window::Window};
use crate::{ClientId, Failure, Message, Reply, ReplyAdvice, Rights, Settings};

impl Session {
    /// Opens a session at the end of the log.
    pub fn open(
        id: ClientId,
        settings: Arc<Settings>,
        rights: Rights,
        ends: LogEnds,
        now: Instant,
        message: &Message<'_>,
    ) -> (Self, Reply) {
        let window = Window::new(ends.last, ends.last);
        let mut session = Self::new(id.clone(), settings, rights, window, now);
        let mut reply = Reply::success(message)
            .with_session(id, &session.settings.connection_types)
            .with_advice(session.retry_after(session.settings.interval));
        let settings = Arc::clone(&session.settings);
        session
            .agreed
            .negotiate(&settings, message, &mut reply, ends.last);
        (session, reply)
    }
}

/// The reply to a client that may not have a session: what it is told to do depends on why.
pub fn deny(message: &Message<'_>, failure: Failure) -> Reply {
    Reply::failure(message, failure)
}

/// The reply to a client that may have a session later: `interval` is when to ask again.
pub fn defer(message: &Message<'_>, failure: Failure, interval: Duration) -> Reply {
    Reply::failure(message, failure).with_advice(ReplyAdvice::handshake_after(interval))
}
