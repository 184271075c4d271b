//! What services answer when the session that has asked goes on at another node: it goes after it, once.
//!
//! The node that has an answer reads in the record where the session is, and hands it over there. While a session is between two
//! nodes, neither has it: then it is looked for again. When a node does not say whether it has taken an answer, that is given up:
//! it may have, and the client's own timeout covers what it has not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::{Call, CallResult, ClientId, Direct, Handover};
use tracing::debug;

use super::Sessions;
use super::handle::{Handle, Stage};
use crate::log::{Answer, Frame, Question};

/// Sessions whose answers go after them at once: those of more are lost.
pub(super) const AT_ONCE: usize = 1024;

/// How long to wait before a session is looked for again that is between two nodes: as long as a node takes to give up on another
/// one, and some more.
const AGAIN_AFTER: [u64; 8] = [10, 20, 50, 100, 200, 400, 800, 1000];

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// It is where the session is.
    Arrived,
    /// The session is on its way.
    NotYet,
    /// There is no room for it there, or nobody knows.
    Lost,
}

impl Sessions {
    /// Hands over what a service answered, and sends it if it may leave. Where its session has moved on, it goes after it.
    pub fn answer(self: &Arc<Self>, handle: &Arc<Handle>, call: &Call, result: Option<CallResult>) {
        let now = Instant::now();
        let mut state = handle.state.lock();
        let (handover, waiting) = match (state.stage, result) {
            (Stage::Here, result) => {
                let handover = state.session.handle_direct(now, call, result);
                (handover, self.rouse_if(handover.wakes(), handle, &mut state))
            }
            (Stage::Elsewhere, Some(result)) => {
                let message = state.session.direct_of(now, call, &result);
                drop(state);
                return self.forward(handle.client_id(), vec![message]);
            }
            (Stage::Gone, Some(_)) => (Handover::Gone, Vec::new()),
            (Stage::Elsewhere | Stage::Gone, None) => (Handover::NotWanted, Vec::new()),
        };
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
        if handover == Handover::Gone {
            self.metrics.service_answers_lost.inc();
        }
    }

    /// Takes an answer from the node where its call was made. Returns whether the session is here; if there is no room for the
    /// answer, it is lost.
    pub fn take_forwarded(&self, client_id: &ClientId, message: Direct) -> bool {
        let Some(handle) = self.in_memory(client_id.as_str()) else {
            return false;
        };
        let mut state = handle.state.lock();
        if state.stage != Stage::Here {
            return false;
        }
        let handover = state.session.handle_forwarded(message);
        let waiting = self.rouse_if(handover.wakes(), &handle, &mut state);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
        if matches!(handover, Handover::Gone | Handover::NotWanted) {
            self.metrics.service_answers_lost.inc();
        }
        true
    }

    /// Sends answers after a session that has moved on, one after the other.
    pub(super) fn forward(self: &Arc<Self>, client_id: &ClientId, answers: Vec<Direct>) {
        if answers.is_empty() {
            return;
        }
        let lost = self.metrics.service_answers_lost.clone();
        let Ok(place) = Arc::clone(&self.forwards).try_acquire_owned() else {
            lost.inc_by(answers.len() as u64);
            return;
        };
        let (sessions, client_id) = (Arc::clone(self), client_id.clone());
        tokio::spawn(async move {
            let _place = place;
            for message in answers {
                if !sessions.pursue(&client_id, &message).await {
                    debug!(client = ?client_id, "an answer did not find its session");
                    lost.inc();
                }
            }
        });
    }

    /// Returns whether it has arrived.
    async fn pursue(&self, client_id: &ClientId, message: &Direct) -> bool {
        let mut again_after = AGAIN_AFTER.iter();
        loop {
            match self.pass_on(client_id, message).await {
                Passed::Arrived => return true,
                Passed::Lost => return false,
                Passed::NotYet => {}
            }
            let Some(pause) = again_after.next() else {
                return false;
            };
            tokio::time::sleep(Duration::from_millis(*pause)).await;
        }
    }

    async fn pass_on(&self, client_id: &ClientId, message: &Direct) -> Passed {
        // It may have come back.
        if self.take_forwarded(client_id, message.clone()) {
            return Passed::Arrived;
        }
        let node = match self.whereabouts(client_id).await {
            Ok(Some(node)) => node,
            Ok(None) => return Passed::NotYet,
            Err(_) => return Passed::Lost,
        };
        let frame = Frame(String::from_utf8_lossy(message.frame()).into());
        let question = Question::Direct(client_id.clone(), frame);
        match self.nodes.ask(&node, question).await {
            Some(Answer::Here(true)) => Passed::Arrived,
            Some(Answer::Here(false)) => Passed::NotYet,
            Some(Answer::Done | Answer::Ended(_) | Answer::Sessions(_) | Answer::Counts(_)) | None => {
                Passed::Lost
            }
        }
    }
}
