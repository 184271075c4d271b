//! What a switch remembers: lines, calls, their parties, and who monitors whom.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::MOST_PARTIES;
use super::agent_state::AgentState;
use super::monitor::MonitorMode;
use crate::agent::Role;
use crate::message::{CallState, CallType, MonitoringMode, MonitoringScope};

/// An agent's telephone.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) role: Role,
    pub(super) state: AgentState,
    /// The calls that this line is a party of, oldest first.
    pub(super) calls: Vec<CallId>,
}

impl Line {
    pub(super) fn new(role: Role) -> Self {
        Line {
            role,
            state: AgentState::LoggedOut,
            calls: Vec::new(),
        }
    }

    pub(super) fn is_logged_in(&self) -> bool {
        self.state != AgentState::LoggedOut
    }
}

/// A call and everyone on it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) conn_id: Arc<str>,
    pub(super) call_type: CallType,
    pub(super) dnis: Arc<str>,
    pub(super) started: Duration,
    pub(super) user_data: Map<String, Value>,
    /// Of a consult call: where it was made from. Kept for the views even after `consult` is gone.
    pub(super) parent: Option<CallId>,
    /// Set while the consult call can still be completed.
    pub(super) consult: Option<Consult>,
    /// Who made this call a conference; `None` while it is none. It does not pass on when the owner leaves.
    pub(super) owner: Option<Arc<str>>,
    pub(super) parties: Vec<Party>,
}

impl Call {
    pub(super) fn party(&self, number: &str) -> Option<&Party> {
        self.parties.iter().find(|party| &*party.number == number)
    }

    pub(super) fn party_mut(&mut self, number: &str) -> Option<&mut Party> {
        self.parties.iter_mut().find(|party| &*party.number == number)
    }

    /// Everyone that `number` sees on the call.
    pub(super) fn others<'a>(&'a self, number: &'a str) -> impl Iterator<Item = &'a Party> {
        self.parties
            .iter()
            .filter(move |party| &*party.number != number && party.is_heard())
    }

    /// How many parties can be heard.
    pub(super) fn heard(&self) -> usize {
        self.parties.iter().filter(|party| party.is_heard()).count()
    }

    pub(super) fn has_room_for(&self, more: usize) -> bool {
        self.parties.len() + more <= MOST_PARTIES
    }
}

/// One end of a call.
#[derive(Debug, Clone)]
pub(super) struct Party {
    pub(super) number: Arc<str>,
    pub(super) leg: Leg,
    pub(super) muted: bool,
    /// Set for a supervisor who is on the call because of an agent on it.
    pub(super) monitor: Option<Monitor>,
}

impl Party {
    pub(super) fn new(number: Arc<str>, leg: Leg) -> Self {
        Party {
            number,
            leg,
            muted: false,
            monitor: None,
        }
    }

    /// A supervisor who only listens is not heard, and nobody sees them.
    pub(super) fn is_heard(&self) -> bool {
        self.monitor
            .as_ref()
            .is_none_or(|monitor| monitor.mode == MonitorMode::BargeIn)
    }

    /// A supervisor who monitors the agent and not the call goes when the agent goes.
    pub(super) fn follows(&self, agent: &str) -> bool {
        self.monitor
            .as_ref()
            .is_some_and(|monitor| &*monitor.agent == agent && monitor.scope == MonitoringScope::Agent)
    }
}

/// The state of one party that is on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leg {
    Dialing,
    Ringing,
    Established,
    Held,
}

impl From<Leg> for CallState {
    fn from(leg: Leg) -> Self {
        match leg {
            Leg::Dialing => CallState::Dialing,
            Leg::Ringing => CallState::Ringing,
            Leg::Established => CallState::Established,
            Leg::Held => CallState::Held,
        }
    }
}

/// What a consult call prepares.
#[derive(Debug, Clone)]
pub(super) struct Consult {
    pub(super) parent: CallId,
    pub(super) by: Arc<str>,
    pub(super) purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Conference,
    Transfer,
}

/// Why a supervisor is on a call.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    pub(super) agent: Arc<str>,
    pub(super) mode: MonitorMode,
    pub(super) scope: MonitoringScope,
}

/// What a supervisor has asked for.
#[derive(Debug)]
pub(super) struct Monitoring {
    pub(super) agent: Arc<str>,
    pub(super) how: MonitorMode,
    pub(super) scope: MonitoringScope,
    pub(super) mode: MonitoringMode,
    /// The calls that the supervisor was brought into: once each, so that who hangs up stays out.
    pub(super) joined: BTreeSet<CallId>,
}

/// The T-Server call UUID, in `id` and `callUuid`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId(pub(super) Arc<str>);

impl CallId {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for CallId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Makes call ids: 26 characters that differ with every start and six that count, both in base 32.
#[derive(Debug)]
pub(super) struct CallIds {
    start: u128,
    made: u32,
}

impl CallIds {
    pub(super) fn new(chance: [u8; 16]) -> Self {
        CallIds {
            start: u128::from_be_bytes(chance),
            made: 0,
        }
    }

    /// The next `id` and `connId`.
    pub(super) fn next(&mut self) -> (CallId, Arc<str>) {
        self.made = self.made.wrapping_add(1);
        let id = base32(self.start, 26) + &base32(self.made.into(), 6);
        let conn_id = format!("{:08x}{:08x}", (self.start >> 104) as u32, self.made);
        (CallId(id.into()), conn_id.into())
    }
}

fn base32(mut number: u128, digits: usize) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";
    let mut text = vec![b'0'; digits];
    for digit in text.iter_mut().rev() {
        *digit = ALPHABET[(number % 32) as usize];
        number /= 32;
    }
    text.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_id_has_32_characters_and_a_connection_id_16() {
        let (id, conn_id) = CallIds::new([0xab; 16]).next();
        assert_eq!((id.as_str().len(), conn_id.len()), (32, 16));
    }

    #[test]
    fn no_two_calls_have_the_same_id() {
        let mut ids = CallIds::new([7; 16]);
        assert_ne!(ids.next(), ids.next());
    }
}
