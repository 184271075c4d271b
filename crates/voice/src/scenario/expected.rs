//! What each stream must show after the scenario, exactly and in order.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::agent::device_id;
use crate::message::{CALLS, CallState, CallType, DEVICES, Envelope, Message, NotificationType};

/// What a message must say, as one comparable thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// On [`DEVICES`]: the agent's state.
    Device {
        /// The state or work mode.
        user_state: Cow<'static, str>,
    },
    /// On [`CALLS`]: a change of a call.
    Call {
        /// What kind of change.
        notification_type: NotificationType,
        /// The state after it.
        state: CallState,
        /// How the call came about.
        call_type: CallType,
        /// The number that was dialled.
        dnis: Cow<'static, str>,
        /// Who else is on the call.
        participants: Vec<Cow<'static, str>>,
        /// Whether this party may remove others.
        may_remove: bool,
    },
    /// Anything else: never expected, always shown.
    Other(String),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Device { user_state } => write!(f, "{DEVICES} DeviceStateChange {user_state}"),
            Expected::Call {
                notification_type,
                state,
                call_type,
                dnis,
                participants,
                may_remove,
            } => {
                let participants = participants.join(", ");
                let owner = if *may_remove { " may remove" } else { "" };
                write!(
                    f,
                    "{CALLS} {notification_type} {state} {call_type} dnis {dnis} [{participants}]{owner}"
                )
            }
            Expected::Other(what) => f.write_str(what),
        }
    }
}

/// What must arrive on a user's stream, in order; nothing for who is not in the scenario.
pub fn expected(user: &str) -> Vec<Expected> {
    use CallState::{Dialing, Established, Held, Released, Ringing};
    use NotificationType::{ParticipantsUpdated, StatusChange};
    let first = |what, state, others: &[&'static str]| call(what, state, CallType::Internal, "15001", others);
    let consult =
        |state, others: &[&'static str]| call(StatusChange, state, CallType::Consult, "15002", others);
    let calls = match user {
        "15000" => vec![
            first(StatusChange, Dialing, &["15001"]),
            first(StatusChange, Established, &["15001"]),
            first(StatusChange, Held, &["15001"]),
            consult(Dialing, &["15002"]),
            consult(Established, &["15002"]),
            consult(Released, &[]),
            owned(first(StatusChange, Established, &["15001", "15002"])),
            first(ParticipantsUpdated, Established, &["15002"]),
            first(StatusChange, Released, &[]),
        ],
        "15001" => vec![
            first(StatusChange, Ringing, &["15000"]),
            first(StatusChange, Established, &["15000"]),
            first(ParticipantsUpdated, Established, &["15000", "15002"]),
            first(StatusChange, Released, &[]),
        ],
        "15002" => vec![
            consult(Ringing, &["15000"]),
            consult(Established, &["15000"]),
            consult(Released, &[]),
            first(ParticipantsUpdated, Established, &["15000", "15001"]),
            first(ParticipantsUpdated, Established, &["15000"]),
            first(StatusChange, Released, &[]),
        ],
        _ => return Vec::new(),
    };
    let log_in = ["NotReady", "Ready"].map(|state| Expected::Device {
        user_state: Cow::Borrowed(state),
    });
    log_in.into_iter().chain(calls).collect()
}

/// Compares what arrived on a user's stream, as `{"data":…,"channel":…}` in order, with what must have arrived.
///
/// Other keys of a message are passed over: a Bayeux client may add its own. Every call and device must be the user's
/// own: a message that shows another user's `deviceUri` is a mismatch, whatever else it says.
pub fn check(user: &str, received: &[Value]) -> Result<(), Mismatch> {
    let expected: Vec<String> = expected(user).iter().map(Expected::to_string).collect();
    let received: Vec<String> = received
        .iter()
        .map(|message| observe(user, message).to_string())
        .collect();
    if expected == received {
        return Ok(());
    }
    Err(Mismatch {
        user: user.to_owned(),
        expected,
        received,
    })
}

/// A stream that did not show what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Whose stream.
    pub user: String,
    /// One line for every message that must arrive.
    pub expected: Vec<String>,
    /// One line for every message that arrived.
    pub received: Vec<String>,
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    /// The longest common part, with `-` before what is missing and `+` before what should not be there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream of {} (- missing, + not expected):", self.user)?;
        let (expected, received) = (&self.expected, &self.received);
        let common = common_lengths(expected, received);
        let (mut e, mut r) = (0, 0);
        while e < expected.len() || r < received.len() {
            if e < expected.len() && r < received.len() && expected[e] == received[r] {
                write!(f, "\n  {}", expected[e])?;
                (e, r) = (e + 1, r + 1);
            } else if r == received.len() || (e < expected.len() && common[e + 1][r] >= common[e][r + 1]) {
                write!(f, "\n- {}", expected[e])?;
                e += 1;
            } else {
                write!(f, "\n+ {}", received[r])?;
                r += 1;
            }
        }
        Ok(())
    }
}

/// For every pair of tails, the length of their longest common subsequence.
fn common_lengths(expected: &[String], received: &[String]) -> Vec<Vec<usize>> {
    let mut common = vec![vec![0; received.len() + 1]; expected.len() + 1];
    for e in (0..expected.len()).rev() {
        for r in (0..received.len()).rev() {
            common[e][r] = if expected[e] == received[r] {
                common[e + 1][r + 1] + 1
            } else {
                common[e + 1][r].max(common[e][r + 1])
            };
        }
    }
    common
}

/// What a received message says, or what is wrong with it.
fn observe(user: &str, received: &Value) -> Expected {
    let Ok(envelope) = serde_json::from_value::<Envelope>(received.clone()) else {
        return Expected::Other(format!("not a message of the voice API: {received}"));
    };
    let own = device_id(user);
    match (envelope.channel.as_str(), envelope.data) {
        (CALLS, Message::Call(message)) => {
            let call = message.call;
            if !call.device_uri.ends_with(&format!("/devices/{own}")) || *message.phone_number != *user {
                return Expected::Other(format!("another user's device: {}", call.device_uri));
            }
            Expected::Call {
                notification_type: message.notification_type,
                state: call.state,
                call_type: call.call_type,
                dnis: text(call.dnis.as_deref().unwrap_or("unknown")),
                participants: call
                    .participants
                    .iter()
                    .map(|other| text(&other.phone_number))
                    .collect(),
                may_remove: call
                    .capabilities
                    .iter()
                    .any(|name| name == "RemoveParticipantFromConference"),
            }
        }
        (DEVICES, Message::Device(message)) => match message.devices.as_slice() {
            [device] if device.id == own => Expected::Device {
                user_state: text(device.user_state.name()),
            },
            _ => Expected::Other("another user's device on /v2/me/devices".into()),
        },
        (channel, message) => Expected::Other(format!("{channel} {message}")),
    }
}

fn call(
    notification_type: NotificationType,
    state: CallState,
    call_type: CallType,
    dnis: &'static str,
    others: &[&'static str],
) -> Expected {
    Expected::Call {
        notification_type,
        state,
        call_type,
        dnis: Cow::Borrowed(dnis),
        participants: others.iter().copied().map(Cow::Borrowed).collect(),
        may_remove: false,
    }
}

fn owned(expected: Expected) -> Expected {
    match expected {
        Expected::Call {
            notification_type,
            state,
            call_type,
            dnis,
            participants,
            may_remove: _,
        } => Expected::Call {
            notification_type,
            state,
            call_type,
            dnis,
            participants,
            may_remove: true,
        },
        other @ (Expected::Device { .. } | Expected::Other(_)) => other,
    }
}

fn text(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_stream_misses_everything() {
        let mismatch = check("15001", &[]).unwrap_err();
        assert_eq!(mismatch.to_string().matches("\n- ").count(), 6);
    }

    #[test]
    fn a_message_of_another_user_is_named() {
        let documented = include_str!("../../fixtures/remove-participant.json");
        let mismatch = check("15002", &[serde_json::from_str(documented).unwrap()]).unwrap_err();
        assert!(
            mismatch.to_string().contains("+ another user's device: http"),
            "{mismatch}"
        );
    }

    #[test]
    fn who_is_not_in_the_scenario_gets_nothing() {
        assert_eq!(check("15009", &[]), Ok(()));
    }

    #[test]
    fn what_is_no_message_is_shown() {
        let mismatch = check("15009", &[json!({"hello": 1})]).unwrap_err();
        assert!(
            mismatch
                .to_string()
                .contains(r#"+ not a message of the voice API: {"hello":1}"#)
        );
    }
}
