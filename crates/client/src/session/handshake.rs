//! The first two steps: a new session, and the subscriptions of the one before.

use std::time::Instant;

use super::{Output, Phase, Session, Step};
use crate::error::Error;
use crate::event::{CloseReason, Event};
use crate::reply::{Reconnect, Reply};
use crate::request::{Acknowledge, HANDSHAKE, Request, RequestExt, SUBSCRIBE, Subscription};

impl Session {
    pub(super) fn handshake_request(&mut self) -> Request {
        self.client_id = None;
        let wanted = self.settings.acknowledge.then_some(Acknowledge::Wanted(true));
        Request {
            version: Some("1.0"),
            minimum_version: Some("1.0"),
            supported_connection_types: Some([self.settings.connection_type]),
            ext: RequestExt {
                ack: wanted,
                ..self.ext()
            },
            ..self.request(HANDSHAKE)
        }
    }

    /// One message for each channel, so that each has its own answer: servers answer an array with
    /// one error, whatever part of it they granted.
    pub(super) fn subscribe_requests(&mut self) -> Vec<Request> {
        let channels: Vec<String> = self.subscriptions.iter().cloned().collect();
        let subscribe = |channel| Request {
            subscription: Some(Subscription::One(channel)),
            ..self.request(SUBSCRIBE)
        };
        channels.into_iter().map(subscribe).collect()
    }

    pub(super) fn handle_handshake(&mut self, now: Instant, reply: Reply) {
        self.take_advice(reply.advice.as_ref());
        if !reply.successful {
            return self.handle_handshake_refused(now, &reply);
        }
        if let Some(offered) = &reply.connection_types
            && !offered
                .iter()
                .any(|offered| offered == self.settings.connection_type)
        {
            let wanted = self.settings.connection_type;
            let error = format!(
                "{wanted} is not among the server's connection types: {}",
                offered.join(", ")
            );
            return self.refuse(error);
        }
        if reply.client_id.is_none() {
            return self.fail(
                now,
                Step::Handshake,
                Error::connection("a handshake reply without clientId"),
            );
        }
        self.acknowledged =
            (self.settings.acknowledge && reply.ext.confirms_acknowledge()).then_some(FIRST_ACKNOWLEDGED);
        self.client_id = reply.client_id;
        self.renewed = true;
        self.begin(now, Step::Subscribe);
    }

    pub(super) fn handle_subscribe(&mut self, now: Instant, reply: Reply, channel: String) {
        if !reply.successful && reply.reconnect() == Reconnect::Handshake {
            return self.renew(now, reply.refusal());
        }
        if !reply.successful {
            self.subscriptions.remove(&channel);
            let lost = Event::SubscriptionLost {
                channel,
                error: reply.refusal(),
            };
            self.outputs.push_back(Output::Emit(lost));
        }
        if matches!(&self.phase, Phase::Awaiting { unanswered, .. } if unanswered.is_empty()) {
            self.begin(now, Step::Connect);
        }
    }

    /// The server does not know the session: make a new one. At once the first time, with growing
    /// pauses if it happens again and again.
    pub(super) fn renew(&mut self, now: Instant, reason: String) {
        // What the old session still grants does not hold for the new one.
        self.fail_calls(|_| true, &reason);
        self.interrupt(reason);
        let pause = self.settings.backoff.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        if pause.is_zero() {
            self.begin(now, Step::Handshake);
        } else {
            self.phase = Phase::Pausing {
                step: Step::Handshake,
                until: now + pause,
            };
        }
    }

    fn handle_handshake_refused(&mut self, now: Instant, reply: &Reply) {
        if !self.established || reply.reconnect() == Reconnect::None {
            return self.refuse(reply.refusal());
        }
        let error = Error::Refused {
            channel: HANDSHAKE.to_owned(),
            error: reply.refusal(),
        };
        self.fail(now, Step::Handshake, error);
    }

    fn refuse(&mut self, error: String) {
        if self.established {
            self.close(CloseReason::ByServer { error: Some(error) });
        } else {
            self.give_up(Error::Refused {
                channel: HANDSHAKE.to_owned(),
                error,
            });
        }
    }
}

/// What a connect acknowledges before any number was received.
const FIRST_ACKNOWLEDGED: u64 = 0;
