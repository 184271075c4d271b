//! What the application asks for: subscribe, unsubscribe, publish, disconnect.

use std::time::Instant;

use serde_json::value::RawValue;

use super::{Output, Phase, Session};
use crate::error::Error;
use crate::event::CloseReason;
use crate::reply::Reply;
use crate::request::{DISCONNECT, MessageId, Request, SUBSCRIBE, UNSUBSCRIBE};

/// One call.
#[derive(Debug)]
pub(crate) enum Call {
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
    Publish { channel: String, data: Box<RawValue> },
    Disconnect,
}

/// A call that waits for its answer.
pub(super) struct Pending {
    aim: Aim,
    /// What an error is about.
    subject: String,
    deadline: Instant,
}

/// What becomes true when a call succeeds.
enum Aim {
    Subscribed(Vec<String>),
    Unsubscribed(Vec<String>),
    Published,
    Disconnected,
}

impl Session {
    /// Sends the request of a call. [`Output::Answer`] with the id that this returns is its end; it
    /// comes at once if there is no connection to send it on.
    pub(crate) fn handle_call(&mut self, now: Instant, call: Call) -> MessageId {
        let (request, aim) = match call {
            Call::Disconnect => return self.leave(now),
            Call::Subscribe(_) | Call::Unsubscribe(_) | Call::Publish { .. } if !self.connected => {
                return self.answer_at_once(Err(Error::NotConnected));
            }
            Call::Subscribe(channels) => (self.subscription(SUBSCRIBE, &channels), Aim::Subscribed(channels)),
            Call::Unsubscribe(channels) => (
                self.subscription(UNSUBSCRIBE, &channels),
                Aim::Unsubscribed(channels),
            ),
            Call::Publish { channel, data } => (
                Request {
                    data: Some(data),
                    ..self.request(&channel)
                },
                Aim::Published,
            ),
        };
        self.send_call(now, request, aim)
    }

    /// The answer to a call, or to nothing that is still waited for.
    pub(super) fn answer_call(&mut self, reply: &Reply) {
        let Some((id, pending)) = reply.id.and_then(|id| self.calls.remove_entry(&id)) else {
            return;
        };
        if matches!(pending.aim, Aim::Disconnected) {
            self.outputs.push_back(Output::Answer(id, Ok(())));
            return self.close(CloseReason::ByClient);
        }
        if !reply.successful {
            let error = Error::Refused {
                channel: pending.subject,
                error: reply.refusal(),
            };
            self.outputs.push_back(Output::Answer(id, Err(error)));
            return;
        }
        match pending.aim {
            Aim::Subscribed(channels) => self.subscriptions.extend(channels),
            Aim::Unsubscribed(channels) => self.subscriptions.retain(|channel| !channels.contains(channel)),
            Aim::Published | Aim::Disconnected => {}
        }
        self.outputs.push_back(Output::Answer(id, Ok(())));
    }

    /// Ends the calls whose answer is lost.
    pub(super) fn fail_calls(&mut self, lost: impl Fn(MessageId) -> bool, reason: &str) {
        for (id, pending) in self.calls.extract_if(.., |id, _| lost(*id)) {
            let result = match pending.aim {
                // Nothing is left to say goodbye to.
                Aim::Disconnected => Ok(()),
                Aim::Subscribed(_) | Aim::Unsubscribed(_) | Aim::Published => Err(Error::connection(reason)),
            };
            self.outputs.push_back(Output::Answer(id, result));
        }
    }

    pub(super) fn expire_calls(&mut self, now: Instant) {
        while let Some(entry) = self.calls.first_entry()
            && entry.get().deadline <= now
        {
            let (id, pending) = entry.remove_entry();
            if !self.stalled {
                self.outputs.push_back(Output::Abandon(id));
            }
            let (channel, patience) = (pending.subject, self.settings.network_delay);
            let unanswered = Err(Error::Unanswered { channel, patience });
            self.outputs.push_back(Output::Answer(id, unanswered));
            if matches!(pending.aim, Aim::Disconnected) {
                self.close(CloseReason::ByClient);
            }
        }
    }

    /// All calls are given the same time, so the oldest is the first to expire.
    pub(super) fn first_call_deadline(&self) -> Option<Instant> {
        self.calls.first_key_value().map(|(_, pending)| pending.deadline)
    }

    /// Ends all calls because the session has ended, which is what a disconnect wanted.
    pub(super) fn close_calls(&mut self) {
        for (id, pending) in std::mem::take(&mut self.calls) {
            let disconnect = matches!(pending.aim, Aim::Disconnected);
            let result = if disconnect { Ok(()) } else { Err(Error::Closed) };
            self.outputs.push_back(Output::Answer(id, result));
        }
    }

    pub(super) fn is_disconnect_pending(&self) -> bool {
        self.calls
            .values()
            .any(|pending| matches!(pending.aim, Aim::Disconnected))
    }

    fn leave(&mut self, now: Instant) -> MessageId {
        if std::mem::take(&mut self.connected) {
            self.phase = Phase::Leaving;
            let request = self.request(DISCONNECT);
            return self.send_call(now, request, Aim::Disconnected);
        }
        let id = self.answer_at_once(Ok(()));
        self.close(CloseReason::ByClient);
        id
    }

    fn answer_at_once(&mut self, result: Result<(), Error>) -> MessageId {
        self.last_id += 1;
        self.outputs.push_back(Output::Answer(self.last_id, result));
        self.last_id
    }

    fn subscription(&mut self, channel: &str, channels: &[String]) -> Request {
        Request {
            subscription: Some(channels.to_vec().into()),
            ..self.request(channel)
        }
    }

    fn send_call(&mut self, now: Instant, request: Request, aim: Aim) -> MessageId {
        let id = request.id;
        let deadline = now + self.settings.network_delay;
        self.calls.insert(
            id,
            Pending {
                aim,
                subject: request.subject(),
                deadline,
            },
        );
        self.outputs.push_back(Output::Send(vec![request]));
        id
    }
}
