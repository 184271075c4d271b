//! The call model: a small switch with agents' lines and the calls between them.
//!
//! Pure: no I/O and no clock. [`Switch::perform`] takes the time, a user and an [`Operation`]; it either returns what
//! each party is told, in order, or a [`Refusal`], in which case nothing has changed.
//!
//! One file per group of operations, each a few methods of `turn::Turn`: every method first checks everything that
//! can be refused, then changes, then tells. Every party sees its own view of a call: `participants` without itself,
//! its own device and number, and the capabilities that it has (`capability`).
//!
//! What the documents leave open is decided here and said where it is decided. Two decisions concern everything:
//!
//! - A supervisor who listens in is not among the participants that others see; one who has barged in is.
//! - A call lives while at least two parties that can be heard are on it; when one is left, it is released too.

pub mod agent_state;
pub mod refusal;

mod basic;
mod capability;
mod change;
mod consult;
mod hold;
mod model;
mod monitor;
mod operation;
mod remove;
mod single_step;
mod supervision;
mod tell;
mod turn;
mod user_data;
mod view;

#[cfg(test)]
mod any_order;
#[cfg(test)]
mod office;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use agent_state::AgentState;
pub use monitor::MonitorMode;
pub use operation::{CallOperation, Destination, MonitorRequest, Operation};
pub use refusal::{Refusal, StatusCode};

use crate::agent::{Agent, Role};
use crate::message::{self, Notification};
use model::{Call, CallId, CallIds, Line, Monitoring};
use turn::Turn;

/// The most parties of one call, monitoring supervisors included.
pub const MOST_PARTIES: usize = 16;

/// The most calls of one line.
pub const MOST_CALLS: usize = 8;

/// The most user data of one call, in bytes of JSON.
pub const MOST_USER_DATA: usize = 64 * 1024;

/// The state of the contact centre.
#[derive(Debug)]
pub struct Switch {
    /// The address of the API: `http://127.0.0.1:8080/api/v2`.
    api: String,
    line_by_user: BTreeMap<Arc<str>, Line>,
    call_by_id: BTreeMap<CallId, Call>,
    monitoring_by_supervisor: BTreeMap<Arc<str>, Monitoring>,
    ids: CallIds,
}

impl Switch {
    /// A switch without calls, everybody logged out.
    ///
    /// `api` is the address that clients know the API by, `…/api/v2`. `chance` makes call ids differ from those of
    /// the last start.
    pub fn new<'a>(
        api: impl Into<String>,
        agents: impl IntoIterator<Item = &'a Agent>,
        chance: [u8; 16],
    ) -> Self {
        let line = |agent: &Agent| (Arc::from(agent.user.as_str()), Line::new(agent.role));
        Switch {
            api: api.into(),
            line_by_user: agents.into_iter().map(line).collect(),
            call_by_id: BTreeMap::new(),
            monitoring_by_supervisor: BTreeMap::new(),
            ids: CallIds::new(chance),
        }
    }

    /// Performs one operation of a user.
    ///
    /// `now` is the time since any fixed moment; it must not go backwards. Returns the notifications in the order in
    /// which they must reach each stream.
    pub fn perform(
        &mut self,
        now: Duration,
        user: &str,
        operation: Operation,
    ) -> Result<Vec<Notification>, Refusal> {
        let Some((user, _)) = self.line_by_user.get_key_value(user) else {
            return Err(Refusal::new(
                StatusCode::NotFound,
                format!("User '{user}' is not found."),
            ));
        };
        let mut turn = Turn {
            now,
            user: user.clone(),
            said: Vec::new(),
            switch: self,
        };
        turn.take(operation)?;
        turn.settle_monitoring();
        Ok(turn.said)
    }

    /// The user's calls, as the user sees them.
    pub fn calls_of(&self, now: Duration, user: &str) -> Vec<message::Call> {
        let line = self.line_by_user.get(user);
        let ids = line.map(|line| line.calls.as_slice()).unwrap_or_default();
        ids.iter()
            .filter_map(|id| self.call_of(now, user, id.as_str()))
            .collect()
    }

    /// One call, as the user sees it; `None` unless the user is a party of it.
    pub fn call_of(&self, now: Duration, user: &str, id: &str) -> Option<message::Call> {
        let call = self.call_by_id.get(id)?;
        let party = call.party(user)?;
        Some(self.view(now, call, party))
    }

    /// The user's device.
    pub fn device_of(&self, user: &str) -> Option<message::Device> {
        let (user, line) = self.line_by_user.get_key_value(user)?;
        Some(self.device_view(user, line))
    }

    /// What the user may do.
    pub fn role_of(&self, user: &str) -> Option<Role> {
        self.line_by_user.get(user).map(|line| line.role)
    }
}
