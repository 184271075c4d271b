//! Until when a session may be used, by what its client has shown.
//!
//! When that time has come nothing is delivered any more: a held connect is answered `401` with the advice to shake hands, and so
//! is everything that comes later. The session itself stays as long as it would have: fresh credentials of the same user take it
//! up again where it stood, and nothing is lost. What was revoked does not come back: then the advice is to stay away.

use std::time::Instant;

use serde_json::value::RawValue;

use super::{Direct, Output, Session};
use crate::{Carrier, CarrierKind, Failure, ReplyAdvice, Rights, Target};

/// What a client sends fresh credentials to, and where it is told that they are about to end.
pub const AUTH_CHANNEL: &str = "/service/auth";

#[derive(Debug, Default)]
pub(super) struct Credentials {
    until: Option<Instant>,
    /// When the client is to be told that they are about to end.
    warn_at: Option<Instant>,
    /// The end was noticed, and everyone who waits was woken.
    noticed: bool,
    revoked: bool,
    /// The socket was told.
    told: bool,
}

impl Credentials {
    fn failure(&self, now: Instant) -> Option<Failure> {
        if self.revoked {
            return Some(Failure::CredentialsRevoked);
        }
        let has_ended = self.until.is_some_and(|until| until <= now);
        has_ended.then_some(Failure::CredentialsExpired)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let end = self.until.filter(|_| !self.noticed);
        [end, self.warn_at].into_iter().flatten().min()
    }
}

impl Session {
    /// The client has shown credentials that are good until then, and give it these rights. Returns whether a carrier has
    /// something to do.
    pub fn handle_credentials(&mut self, now: Instant, until: Option<Instant>, rights: Rights) -> bool {
        let had_ended = self.denial(now).is_some();
        let warning = self.settings.expiry_warning;
        self.credentials.until = until;
        self.credentials.noticed = false;
        self.credentials.warn_at = until
            .filter(|_| !warning.is_zero())
            .map(|until| until.checked_sub(warning).unwrap_or(now).max(now));
        if rights != self.rights {
            self.rights = rights;
            for subscription in &mut self.subscriptions {
                subscription.guarded = self.settings.rules.guards(&self.rights, &subscription.pattern);
            }
        }
        had_ended && self.is_waited_for()
    }

    /// The session may not be used any more, whatever its client shows. Returns whether a carrier has something to do.
    pub fn handle_revocation(&mut self) -> bool {
        self.credentials.revoked = true;
        self.life.end();
        self.connects.is_held() || self.socket.is_some()
    }

    /// What its client may do, by what it has shown last.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Why nothing may be delivered, if nothing may.
    pub(super) fn denial(&self, now: Instant) -> Option<Failure> {
        self.credentials.failure(now)
    }

    /// Returns whether somebody has to hear of the end, or that it is near.
    pub(super) fn handle_credentials_timeout(&mut self, now: Instant) -> bool {
        let mut is_news = false;
        if self.credentials.warn_at.take_if(|at| *at <= now).is_some() {
            self.warn(now);
            is_news = self.is_waited_for();
        }
        if self.denial(now).is_some() && !std::mem::replace(&mut self.credentials.noticed, true) {
            is_news |= self.connects.is_held() || self.socket.is_some();
        }
        is_news
    }

    fn warn(&mut self, now: Instant) {
        let until = self.credentials.until.unwrap_or(now);
        let left = until.saturating_duration_since(now).as_millis();
        let Ok(data) = RawValue::from_string(format!(r#"{{"expires_in":{left}}}"#)) else {
            return;
        };
        // A session that has no room has not come to what was before, and would not come to this in time.
        self.direct.push(
            Direct::unasked(AUTH_CHANNEL, Some(&data), None),
            &self.settings.limits,
        );
    }

    /// What is left to do for a carrier when nothing may be delivered.
    pub(super) fn poll_denied(
        &mut self,
        now: Instant,
        carrier: Carrier,
        failure: &Failure,
    ) -> Option<Output> {
        let greeting = self.greeting.take_if(|greeting| greeting.is_for(carrier));
        let mut reply = match greeting.map(|greeting| greeting.into_reply()) {
            Some(Some(reply)) => Box::new(reply),
            Some(None) => {
                // What it announced does not follow it.
                self.connects.distrust_reply();
                return None;
            }
            None => match self.connects.take_held(carrier) {
                Some(reply) => reply,
                None => return self.poll_refused(carrier),
            },
        };
        reply.fail(failure.clone());
        if let Some(advice) = ReplyAdvice::after(failure, &Target::Connect) {
            reply.advise(advice);
        }
        let target = Target::Connect;
        self.agreed.clone().outgoing(self, now, &target, &mut reply);
        self.life.answered(now, &self.settings);
        Some(Output::Reply(reply))
    }

    /// A socket of a session that was revoked is closed.
    fn poll_refused(&mut self, carrier: Carrier) -> Option<Output> {
        let closes = self.credentials.revoked && carrier.kind == CarrierKind::Socket;
        (closes && self.socket == Some(carrier) && !std::mem::replace(&mut self.credentials.told, true))
            .then_some(Output::Refused)
    }
}
