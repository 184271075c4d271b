//! CometD's activity extension: a session whose client does nothing but connect is disconnected, so that a page that somebody
//! left open does not live for ever.
//!
//! The configuration switches it on, for all sessions, and says what counts: what the client sends, but for connects, or also
//! what it gets. It is acted upon when a connect comes, as CometD does; nothing of it is on the wire but the goodbye.

use std::time::Instant;

use serde_json::value::RawValue;

use super::{Agreement, Extension};
use crate::{Failure, Message, Offset, Session, Settings, Target};

pub(super) struct Activity;

/// When something last happened to a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stirred {
    by_client: Instant,
    by_server: Instant,
}

impl Stirred {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            by_client: now,
            by_server: now,
        }
    }

    /// The client got something that is no reply.
    pub(crate) fn by_server(&mut self, now: Instant) {
        self.by_server = now;
    }

    fn last(&self, counted: crate::Activity) -> Instant {
        match counted {
            crate::Activity::Off | crate::Activity::Client => self.by_client,
            crate::Activity::ClientServer => self.by_client.max(self.by_server),
        }
    }
}

impl Extension for Activity {
    fn name(&self) -> &'static str {
        "activity"
    }

    fn negotiate(&self, settings: &Settings, _: Option<&RawValue>) -> Agreement {
        match settings.activity {
            crate::Activity::Off => Agreement::No,
            crate::Activity::Client | crate::Activity::ClientServer => Agreement::Silent,
        }
    }

    fn incoming(
        &self,
        session: &mut Session,
        now: Instant,
        message: &Message<'_>,
        _: Option<&RawValue>,
    ) -> Result<(), Failure> {
        if message.target != Target::Connect {
            session.stirred.by_client = now;
            return Ok(());
        }
        let settings = session.settings();
        let idle = now.saturating_duration_since(session.stirred.last(settings.activity));
        if idle > settings.max_inactivity {
            // What it already has is delivered; nobody waits for more.
            session.handle_server_disconnect(now, Offset::START);
        }
        Ok(())
    }
}
