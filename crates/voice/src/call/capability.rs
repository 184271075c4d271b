//! Which operations a party may ask for: `capabilities`.
//!
//! The sets are those of the documented samples. Where the samples end:
//!
//! - `MuteCall` is accepted but not offered, because the switch of the samples does not offer it; a muted party is
//!   offered `UnmuteCall`.
//! - A consult call offers no further consultation, and its initiator the operation that completes it.
//! - `RemoveParticipantFromConference` is offered to the owner and to a monitoring supervisor while they see at least
//!   two others, so that it disappears with the last removal, as it does in the sample notification.

use std::borrow::Cow;

use super::model::{Call, Leg, Party, Purpose};
use super::monitor::MonitorMode;

type Names = &'static [&'static str];

const DIALING: Names = &[
    "SendDtmf",
    "Hangup",
    "AttachUserData",
    "UpdateUserData",
    "DeleteUserData",
    "DeleteUserDataPair",
];

const RINGING: Names = &[
    "Answer",
    "AttachUserData",
    "UpdateUserData",
    "DeleteUserData",
    "DeleteUserDataPair",
    "ClearCall",
];

const ESTABLISHED: Names = &[
    "UpdateUserData",
    "SendDtmf",
    "InitiateConference",
    "Hold",
    "SingleStepTransfer",
    "InitiateTransfer",
    "AttachUserData",
    "DeleteUserDataPair",
    "SingleStepConference",
    "DeleteUserData",
    "Hangup",
];

const HELD: Names = &[
    "UpdateUserData",
    "Retrieve",
    "InitiateConference",
    "SingleStepTransfer",
    "InitiateTransfer",
    "AttachUserData",
    "DeleteUserDataPair",
    "SingleStepConference",
    "DeleteUserData",
    "Hangup",
];

const HELD_FOR_TRANSFER: Names = &[
    "UpdateUserData",
    "SwapCalls",
    "InitiateConference",
    "SingleStepTransfer",
    "InitiateTransfer",
    "AttachUserData",
    "DeleteUserDataPair",
    "SingleStepConference",
    "DeleteUserData",
    "Hangup",
    "CompleteTransfer",
];

const CONSULTING: Names = &[
    "InitiateConference",
    "InitiateTransfer",
    "SingleStepConference",
    "SingleStepTransfer",
];

/// The capabilities of a party. `prepared` is what a consult call that this party made from `call` prepares.
pub(super) fn of(call: &Call, party: &Party, prepared: Option<Purpose>) -> Vec<Cow<'static, str>> {
    let mut names = match (party.leg, prepared) {
        (Leg::Dialing, _) => DIALING.to_vec(),
        (Leg::Ringing, _) => RINGING.to_vec(),
        (Leg::Established, _) => ESTABLISHED.to_vec(),
        (Leg::Held, Some(Purpose::Transfer)) => HELD_FOR_TRANSFER.to_vec(),
        (Leg::Held, Some(Purpose::Conference) | None) => HELD.to_vec(),
    };
    if matches!(party.leg, Leg::Established | Leg::Held) {
        name_the_situation(&mut names, call, party, prepared);
    }
    names.into_iter().map(Cow::Borrowed).collect()
}

fn name_the_situation(names: &mut Vec<&'static str>, call: &Call, party: &Party, prepared: Option<Purpose>) {
    if prepared == Some(Purpose::Conference) {
        names.push("CompleteConference");
    }
    if let Some(consult) = &call.consult {
        names.retain(|name| !CONSULTING.contains(name));
        if consult.by == party.number {
            names.push(match consult.purpose {
                Purpose::Conference => "CompleteConference",
                Purpose::Transfer => "CompleteTransfer",
            });
        }
    }
    match &party.monitor {
        Some(monitor) if monitor.mode == MonitorMode::BargeIn => names.push("SwitchToListenIn"),
        Some(_) => names.push("SwitchToBargeIn"),
        None if party.muted => names.push("UnmuteCall"),
        None => {}
    }
    if may_remove(call, party) {
        names.push("RemoveParticipantFromConference");
    }
}

/// Whether a party is in command of a conference: its owner, or a supervisor who monitors it.
fn may_remove(call: &Call, party: &Party) -> bool {
    let commands = party.monitor.is_some() || call.owner.as_ref() == Some(&party.number);
    commands && call.others(&party.number).count() >= 2
}
