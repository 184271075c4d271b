//! `StartContactCenterSession`, `EndContactCenterSession`, and the agent states.

use std::borrow::Cow;

use super::refusal::Refusal;
use super::turn::{Accepted, Turn};
use crate::message::UserState;

/// The system agent states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// No session, or the operation `Offline`.
    LoggedOut,
    /// Logged in and not available: the state after log-in.
    NotReady,
    /// Available.
    Ready,
    /// Not ready: working on the last call.
    AfterCallWork,
    /// Not ready: other work.
    AuxWork,
}

impl AgentState {
    /// The state that an operation asks for.
    pub fn of_operation(name: &str) -> Option<Self> {
        match name {
            "Ready" => Some(AgentState::Ready),
            "NotReady" => Some(AgentState::NotReady),
            "AfterCallWork" => Some(AgentState::AfterCallWork),
            "AuxWork" => Some(AgentState::AuxWork),
            "Offline" => Some(AgentState::LoggedOut),
            _ => None,
        }
    }

    /// The state as a device shows it, with the id of the system definition.
    pub fn user_state(self) -> UserState {
        let (id, display_name, state, work_mode) = match self {
            AgentState::LoggedOut => (
                "0F7F5003-EF26-4D13-A6Ef-D0C7EC819BEB",
                "Logged Out",
                "LoggedOut",
                None,
            ),
            AgentState::NotReady => (
                "900D55CC-2BB0-431F-8BF9-D3525B383BE6",
                "Not Ready",
                "NotReady",
                None,
            ),
            AgentState::Ready => ("9430250E-0A1B-421F-B372-F29E69366DED", "Ready", "Ready", None),
            AgentState::AfterCallWork => (
                "D3663509-3D82-4DD3-A82E-2EA8EFA02AEF",
                "After Call Work",
                "NotReady",
                Some("AfterCallWork"),
            ),
            AgentState::AuxWork => (
                "2B36138D-C564-4562-A8CB-3C32D564F296",
                "Aux Work",
                "NotReady",
                Some("AuxWork"),
            ),
        };
        UserState {
            id: Cow::Borrowed(id),
            display_name: Cow::Borrowed(display_name),
            state: Cow::Borrowed(state),
            work_mode: work_mode.map(Cow::Borrowed),
        }
    }
}

impl Turn<'_> {
    /// Logs the agent in, not ready. A second start begins anew and leaves the calls alone, as after a page reload.
    pub(super) fn start_session(&mut self) -> Accepted {
        self.enter(AgentState::NotReady);
        Ok(())
    }

    /// Logs the agent out and ends its monitoring. Calls must be over: the source does not say what becomes of them.
    pub(super) fn end_session(&mut self) -> Accepted {
        self.require_no_calls()?;
        let user = self.user.clone();
        self.switch.monitoring_by_supervisor.remove(&user);
        self.enter(AgentState::LoggedOut);
        Ok(())
    }

    pub(super) fn set_state(&mut self, state: AgentState) -> Accepted {
        if !self.line().is_logged_in() {
            return Err(Refusal::invalid("There is no contact center session."));
        }
        if state == AgentState::LoggedOut {
            return self.end_session();
        }
        self.enter(state);
        Ok(())
    }

    fn enter(&mut self, state: AgentState) {
        let user = self.user.clone();
        self.line_mut().state = state;
        self.tell_device(&user);
    }

    fn require_no_calls(&self) -> Accepted {
        if self.line().calls.is_empty() {
            return Ok(());
        }
        Err(Refusal::invalid("There are calls on the device."))
    }
}

#[cfg(test)]
mod tests {
    use crate::call::office::Office;

    #[test]
    fn an_agent_who_logs_in_is_not_ready() {
        let mut office = Office::closed();
        office.log_in("15000");
        office.expect(&["15000 DeviceStateChange NotReady"]);
    }

    #[test]
    fn a_work_mode_is_a_reason_not_to_be_ready() {
        let mut office = Office::open();
        let said = office.enter("15000", "AfterCallWork");
        assert_eq!(said[0]["devices"][0]["userState"]["state"], "NotReady");
    }

    #[test]
    fn nobody_is_ready_before_logging_in() {
        let mut office = Office::closed();
        assert_eq!(office.refused_state("15000", "Ready"), 2);
    }

    #[test]
    fn nobody_logs_out_of_a_call() {
        let mut office = Office::open();
        office.dial("15000", "15001");
        assert_eq!(office.refused_state("15000", "Offline"), 2);
    }

    #[test]
    fn who_is_logged_out_cannot_be_called() {
        let mut office = Office::open();
        office.enter("15001", "Offline");
        office.dial("15000", "15001");
        office.expect(&["15000 ErrorMessage Nobody is logged in at '15001'."]);
    }
}
