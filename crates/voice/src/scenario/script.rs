//! The steps.

use std::fmt;

use serde_json::{Value, json};

use super::USERS;
use crate::agent::device_id;
use crate::message::CallState;

/// One operation of one agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Who.
    pub user: &'static str,
    /// What: the `operationName`.
    pub operation: &'static str,
    /// With what.
    pub parameters: Value,
    pub(super) target: Target,
}

impl Step {
    pub(super) fn body(&self) -> Value {
        let mut body = self.parameters.clone();
        body["operationName"] = json!(self.operation);
        body
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.user, self.operation)?;
        let named = [
            &self.parameters["destination"]["phoneNumber"],
            &self.parameters["participant"],
        ];
        match named.into_iter().find_map(Value::as_str) {
            Some(number) => write!(f, " {number}"),
            None => Ok(()),
        }
    }
}

/// Where an operation goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// An address below `/api/v2/me`.
    Path(String),
    /// The user's call in this state. The script never has two.
    Call(CallState),
}

/// The whole scenario.
pub fn steps() -> Vec<Step> {
    let [owner, removed, third] = USERS;
    let mut steps: Vec<Step> = USERS.into_iter().flat_map(log_in).collect();
    steps.extend([
        on_path(
            owner,
            &format!("/devices/{}/calls", device_id(owner)),
            "Dial",
            to(removed),
        ),
        on_call(removed, CallState::Ringing, "Answer", json!({})),
        on_call(owner, CallState::Established, "InitiateConference", to(third)),
        on_call(third, CallState::Ringing, "Answer", json!({})),
        on_call(owner, CallState::Held, "CompleteConference", json!({})),
        on_call(
            owner,
            CallState::Established,
            "RemoveParticipantFromConference",
            json!({"participant": removed}),
        ),
        on_call(owner, CallState::Established, "Hangup", json!({})),
    ]);
    steps
}

fn log_in(user: &'static str) -> [Step; 2] {
    [
        on_path(
            user,
            "",
            "StartContactCenterSession",
            json!({"channels": ["voice"]}),
        ),
        on_path(user, "/channels/voice", "Ready", json!({})),
    ]
}

fn to(number: &str) -> Value {
    json!({"destination": {"phoneNumber": number}})
}

fn on_path(user: &'static str, path: &str, operation: &'static str, parameters: Value) -> Step {
    Step {
        user,
        operation,
        parameters,
        target: Target::Path(path.to_owned()),
    }
}

fn on_call(user: &'static str, state: CallState, operation: &'static str, parameters: Value) -> Step {
    Step {
        user,
        operation,
        parameters,
        target: Target::Call(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_as_who_does_what_with_whom() {
        let steps: Vec<String> = steps().iter().map(Step::to_string).collect();
        assert_eq!(
            steps[6..],
            [
                "15000 Dial 15001",
                "15001 Answer",
                "15000 InitiateConference 15002",
                "15002 Answer",
                "15000 CompleteConference",
                "15000 RemoveParticipantFromConference 15001",
                "15000 Hangup",
            ]
        );
    }
}
