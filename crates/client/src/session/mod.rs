//! The client's side of a Bayeux session: no I/O, no clock.
//!
//! What happens goes in through `handle_*`, with the time at which it happened. What is to be done
//! comes out of [`Session::poll_output`], which is drained after every `handle_*`; when to come back
//! without news is [`Session::poll_timeout`].
//!
//! A session takes three steps, in this order, and repeats the last one for as long as it lives:
//!
//! 1. [`Step::Handshake`] makes a new session;
//! 2. [`Step::Subscribe`] subscribes again to everything, after a second handshake. The first
//!    connect waits for it: whoever sees `Connected` can rely on the subscriptions;
//! 3. [`Step::Connect`] keeps the session alive and brings events.
//!
//! A failure repeats the step after a pause; an unknown session goes back to the first.

mod calls;
mod connect;
mod handshake;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::error::Error;
use crate::event::{CloseReason, Event};
use crate::reply::{Advice, Incoming, Reply};
use crate::request::{DISCONNECT, MessageId, Request, RequestExt};

pub(crate) use calls::Call;

/// What a session is told once.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) connection_type: &'static str,
    pub(crate) acknowledge: bool,
    pub(crate) ext_token: Option<String>,
    pub(crate) backoff: Backoff,
    /// How long an answer may take, beyond the time that the server was asked to hold it.
    pub(crate) network_delay: Duration,
}

/// What the caller of a session has to do.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send these requests in one batch.
    Send(Vec<Request>),
    /// No answer to this request is wanted any more: end the exchange that should bring it.
    Abandon(MessageId),
    /// Tell the consumer.
    Emit(Event),
    /// The call that was given this id by [`Session::handle_call`] is over.
    Answer(MessageId, Result<(), Error>),
    /// The session could not be established. Nothing follows.
    Failed(Error),
    /// The session has ended. Nothing follows.
    Closed(CloseReason),
}

/// The client's side of a session.
///
/// `handle_start` comes first; then `handle_incoming`, `handle_broken`, `handle_lost`, `handle_call`,
/// `handle_stalled` and `handle_timeout` as things happen. `poll_output` and `poll_timeout` say what
/// follows from them.
pub(crate) struct Session {
    settings: Settings,
    phase: Phase,
    client_id: Option<String>,
    interval: Duration,
    timeout: Duration,
    /// The number that the next connect acknowledges; none if the server does not speak `ack`.
    acknowledged: Option<u64>,
    subscriptions: BTreeSet<String>,
    calls: BTreeMap<MessageId, calls::Pending>,
    /// The last connect succeeded, so the next one may be held.
    connected: bool,
    /// Some connect of this client has succeeded: from here on failures are repaired, not reported.
    established: bool,
    /// There was a handshake since the last `Connected`.
    renewed: bool,
    /// Failures since a held connect was last answered well.
    failures: u32,
    stalled: bool,
    last_id: MessageId,
    outputs: VecDeque<Output>,
}

/// What a session waits for.
#[derive(Debug)]
enum Phase {
    /// The answers to the requests of a step; the values name what was asked for.
    Awaiting {
        step: Step,
        unanswered: BTreeMap<MessageId, String>,
        patience: Duration,
        deadline: Instant,
    },
    /// The time for the next step.
    Pausing { step: Step, until: Instant },
    /// The answer to a disconnect, which is one of the calls.
    Leaving,
    /// Nothing: not begun, or over.
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Handshake,
    Subscribe,
    Connect,
}

impl Session {
    pub(crate) fn new(settings: Settings) -> Session {
        Session {
            settings,
            phase: Phase::Idle,
            client_id: None,
            interval: DEFAULT_INTERVAL,
            timeout: DEFAULT_TIMEOUT,
            acknowledged: None,
            subscriptions: BTreeSet::new(),
            calls: BTreeMap::new(),
            connected: false,
            established: false,
            renewed: false,
            failures: 0,
            stalled: false,
            last_id: 0,
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn handle_start(&mut self, now: Instant) {
        self.begin(now, Step::Handshake);
    }

    /// A message arrived.
    pub(crate) fn handle_incoming(&mut self, now: Instant, incoming: Incoming) {
        match incoming {
            Incoming::Published { channel, data, ext } => {
                self.outputs
                    .push_back(Output::Emit(Event::Message { channel, data, ext }));
            }
            Incoming::Reply(reply) => self.handle_reply(now, reply),
        }
    }

    /// The connection ended and took every unanswered request with it.
    pub(crate) fn handle_broken(&mut self, now: Instant, reason: &str) {
        self.fail_calls(|_| true, reason);
        match self.phase {
            Phase::Awaiting { step, .. } => self.fail(now, step, Error::connection(reason)),
            // A connection that breaks between two connects is a failure too; one that breaks while
            // we wait to try again is not another.
            Phase::Pausing { step, .. } if self.connected => self.fail(now, step, Error::connection(reason)),
            Phase::Pausing { .. } | Phase::Idle => {}
            Phase::Leaving => self.close(CloseReason::ByClient),
        }
    }

    /// These requests, and no others, will not be answered. Those that were answered count for nothing.
    pub(crate) fn handle_lost(&mut self, now: Instant, ids: &[MessageId], reason: &str) {
        self.fail_calls(|id| ids.contains(&id), reason);
        if let Phase::Awaiting { step, unanswered, .. } = &self.phase
            && ids.iter().any(|id| unanswered.contains_key(id))
        {
            self.fail(now, *step, Error::connection(reason));
        } else if matches!(self.phase, Phase::Leaving) && !self.is_disconnect_pending() {
            self.close(CloseReason::ByClient);
        }
    }

    /// From now on nothing is read from the network, or it is again. An answer that the client does
    /// not read cannot be held against the server.
    pub(crate) fn handle_stalled(&mut self, now: Instant, stalled: bool) {
        let resumed = self.stalled && !stalled;
        self.stalled = stalled;
        if let Phase::Awaiting {
            patience, deadline, ..
        } = &mut self.phase
            && resumed
        {
            *deadline = now + *patience;
        }
    }

    /// The time of `poll_timeout` has come. Too early does no harm.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.expire_calls(now);
        match &self.phase {
            Phase::Pausing { step, until } if *until <= now => self.begin(now, *step),
            Phase::Awaiting {
                step,
                unanswered,
                patience,
                deadline,
            } if *deadline <= now && !self.stalled => {
                let (id, subject) = unanswered
                    .first_key_value()
                    .expect("a step ends with its last answer");
                let error = Error::Unanswered {
                    channel: subject.clone(),
                    patience: *patience,
                };
                self.outputs.push_back(Output::Abandon(*id));
                self.fail(now, *step, error);
            }
            Phase::Pausing { .. } | Phase::Awaiting { .. } | Phase::Leaving | Phase::Idle => {}
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let step = match self.phase {
            Phase::Awaiting { deadline, .. } => (!self.stalled).then_some(deadline),
            Phase::Pausing { until, .. } => Some(until),
            Phase::Leaving | Phase::Idle => None,
        };
        step.into_iter().chain(self.first_call_deadline()).min()
    }

    /// True while the client says goodbye: what still arrives need not be kept.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving)
    }

    fn handle_reply(&mut self, now: Instant, reply: Reply) {
        if let Some((step, subject)) = self.take_answered(&reply) {
            match step {
                Step::Handshake => self.handle_handshake(now, reply),
                Step::Subscribe => self.handle_subscribe(now, reply, subject),
                Step::Connect => self.handle_connect(now, reply),
            }
        } else if reply.channel == DISCONNECT && reply.id.is_none() {
            self.close(CloseReason::ByServer { error: reply.error });
        } else {
            self.answer_call(&reply);
        }
    }

    /// The step that this reply answers, and what was asked for. A reply that comes after the step
    /// was given up answers none.
    fn take_answered(&mut self, reply: &Reply) -> Option<(Step, String)> {
        let Phase::Awaiting { step, unanswered, .. } = &mut self.phase else {
            return None;
        };
        let subject = unanswered.remove(&reply.id?)?;
        Some((*step, subject))
    }

    /// Sends the requests of a step, or goes on to the next if there are none.
    fn begin(&mut self, now: Instant, step: Step) {
        let requests = match step {
            Step::Handshake => vec![self.handshake_request()],
            Step::Subscribe if self.subscriptions.is_empty() => return self.begin(now, Step::Connect),
            Step::Subscribe => self.subscribe_requests(),
            Step::Connect => vec![self.connect_request()],
        };
        let held = if step == Step::Connect {
            self.timeout
        } else {
            Duration::ZERO
        };
        let patience = held + self.settings.network_delay;
        let unanswered = requests
            .iter()
            .map(|request| (request.id, request.subject()))
            .collect();
        self.phase = Phase::Awaiting {
            step,
            unanswered,
            patience,
            deadline: now + patience,
        };
        self.outputs.push_back(Output::Send(requests));
    }

    /// Repeats a step after a pause that grows with each failure in a row.
    fn fail(&mut self, now: Instant, step: Step, error: Error) {
        if !self.established {
            return self.give_up(error);
        }
        self.interrupt(error.to_string());
        self.failures = self.failures.saturating_add(1);
        let pause = self.interval + self.settings.backoff.delay(self.failures);
        self.phase = Phase::Pausing {
            step,
            until: now + pause,
        };
    }

    fn interrupt(&mut self, reason: String) {
        if std::mem::take(&mut self.connected) {
            self.outputs
                .push_back(Output::Emit(Event::Interrupted { reason }));
        }
    }

    fn give_up(&mut self, error: Error) {
        self.phase = Phase::Idle;
        self.close_calls();
        self.outputs.push_back(Output::Failed(error));
    }

    fn close(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Idle) {
            return;
        }
        self.phase = Phase::Idle;
        self.connected = false;
        self.close_calls();
        self.outputs.push_back(Output::Closed(reason));
    }

    fn take_advice(&mut self, advice: Option<&Advice>) {
        let Some(advice) = advice else { return };
        self.interval = advice.interval().unwrap_or(DEFAULT_INTERVAL);
        self.timeout = advice.timeout().unwrap_or(DEFAULT_TIMEOUT);
    }

    fn request(&mut self, channel: &str) -> Request {
        self.last_id += 1;
        Request {
            id: self.last_id,
            channel: channel.to_owned(),
            client_id: self.client_id.clone(),
            ..Request::default()
        }
    }

    fn ext(&self) -> RequestExt {
        RequestExt {
            token: self.settings.ext_token.clone(),
            ack: None,
        }
    }
}

/// What holds until the server advises otherwise, as in the CometD clients.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_INTERVAL: Duration = Duration::ZERO;
