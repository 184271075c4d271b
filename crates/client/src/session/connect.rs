//! The step that repeats: one `/meta/connect` after the other.

use std::time::Instant;

use super::{Output, Phase, Session, Step};
use crate::error::Error;
use crate::event::{CloseReason, Event};
use crate::reply::{Reconnect, Reply};
use crate::request::{Acknowledge, CONNECT, Request, RequestAdvice, RequestExt};

impl Session {
    /// The first connect after a handshake or a failure asks for an answer at once: it is the proof
    /// that the session lives.
    pub(super) fn connect_request(&mut self) -> Request {
        let ack = self.acknowledged.map(Acknowledge::Received);
        Request {
            connection_type: Some(self.settings.connection_type),
            advice: (!self.connected).then_some(RequestAdvice { timeout: 0 }),
            ext: RequestExt { ack, ..self.ext() },
            ..self.request(CONNECT)
        }
    }

    pub(super) fn handle_connect(&mut self, now: Instant, reply: Reply) {
        self.take_advice(reply.advice.as_ref());
        if reply.successful {
            self.note_extensions(&reply);
        }
        match reply.reconnect() {
            Reconnect::None => self.end(reply),
            _ if !reply.successful && !self.established => {
                self.give_up(Error::Refused {
                    channel: CONNECT.to_owned(),
                    error: reply.refusal(),
                });
            }
            Reconnect::Handshake => self.renew(now, reply.refusal()),
            Reconnect::Retry if reply.successful => self.go_on(now),
            Reconnect::Retry => {
                let error = Error::Refused {
                    channel: CONNECT.to_owned(),
                    error: reply.refusal(),
                };
                self.fail(now, Step::Connect, error);
            }
        }
    }

    fn note_extensions(&mut self, reply: &Reply) {
        if let (Some(acknowledged), Some(number)) =
            (self.acknowledged.as_mut(), reply.ext.acknowledge_number())
        {
            *acknowledged = number;
        }
        if let Some(first) = reply.ext.gap() {
            self.outputs.push_back(Output::Emit(Event::Gap { first }));
        }
    }

    fn end(&mut self, reply: Reply) {
        if self.established {
            self.close(CloseReason::ByServer { error: reply.error });
        } else {
            self.give_up(Error::Refused {
                channel: CONNECT.to_owned(),
                error: reply.refusal(),
            });
        }
    }

    fn go_on(&mut self, now: Instant) {
        if self.connected {
            // Only a held connect proves that the trouble is over: a server may answer every first
            // connect well and every second one badly.
            self.failures = 0;
        } else {
            self.announce();
        }
        if self.interval.is_zero() {
            self.begin(now, Step::Connect);
        } else {
            self.phase = Phase::Pausing {
                step: Step::Connect,
                until: now + self.interval,
            };
        }
    }

    fn announce(&mut self) {
        self.connected = true;
        self.established = true;
        let resumed = !std::mem::take(&mut self.renewed);
        let client_id = self
            .client_id
            .clone()
            .expect("a connect is sent only after a handshake");
        self.outputs
            .push_back(Output::Emit(Event::Connected { client_id, resumed }));
    }
}
