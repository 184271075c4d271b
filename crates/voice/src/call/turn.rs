//! One operation of one user at one time: which it is, and what it can be refused for.
//!
//! What operations have in common is in three files: this one refuses, `change` moves parties, `tell` notifies.

use std::sync::Arc;
use std::time::Duration;

use super::model::{Call, CallId, Leg, Line, Party};
use super::operation::{CallOperation, Operation};
use super::refusal::{Refusal, StatusCode};
use super::{MOST_CALLS, Switch};
use crate::message::Notification;

/// An operation on its way through the switch.
pub(super) struct Turn<'a> {
    pub(super) switch: &'a mut Switch,
    pub(super) now: Duration,
    pub(super) user: Arc<str>,
    /// What the streams are told, in order.
    pub(super) said: Vec<Notification>,
}

/// A refused operation has changed nothing and said nothing.
pub(super) type Accepted<T = ()> = Result<T, Refusal>;

impl Turn<'_> {
    pub(super) fn take(&mut self, operation: Operation) -> Accepted {
        match operation {
            Operation::StartContactCenterSession => self.start_session(),
            Operation::EndContactCenterSession => self.end_session(),
            Operation::SetState(state) => self.set_state(state),
            Operation::Dial(destination) => self.dial(destination),
            Operation::Monitor(request) => self.monitor(request),
            Operation::CancelSupervisorMonitoring => self.cancel_monitoring(),
            Operation::OnCall { id, operation } => {
                let id = self.own_call(&id)?.id.clone();
                self.take_on_call(&id, operation)
            }
        }
    }

    fn take_on_call(&mut self, id: &CallId, operation: CallOperation) -> Accepted {
        use super::model::Purpose::{Conference, Transfer};
        match operation {
            CallOperation::Answer => self.answer(id),
            CallOperation::Hangup => self.hang_up(id),
            CallOperation::ClearCall => self.clear_call(id),
            CallOperation::Hold => self.hold(id),
            CallOperation::Retrieve => self.retrieve(id),
            CallOperation::SwapCalls => self.swap_calls(id),
            CallOperation::SendDtmf { digits: _ } => self.send_dtmf(id),
            CallOperation::MuteCall => self.mute(id, true),
            CallOperation::UnmuteCall => self.mute(id, false),
            CallOperation::InitiateConference(destination) => self.consult(id, destination, Conference),
            CallOperation::CompleteConference { consult_call_uri } => {
                self.complete(id, consult_call_uri.as_deref(), Conference)
            }
            CallOperation::SingleStepConference(destination) => self.single_step_conference(id, destination),
            CallOperation::InitiateTransfer(destination) => self.consult(id, destination, Transfer),
            CallOperation::CompleteTransfer { consult_call_uri } => {
                self.complete(id, consult_call_uri.as_deref(), Transfer)
            }
            CallOperation::SingleStepTransfer(destination) => self.single_step_transfer(id, destination),
            CallOperation::AttachUserData(data) => self.attach_user_data(id, data),
            CallOperation::UpdateUserData(data) => self.update_user_data(id, data),
            CallOperation::DeleteUserDataPair { key } => self.delete_user_data_pair(id, &key),
            CallOperation::DeleteUserData => self.delete_user_data(id),
            CallOperation::RemoveParticipantFromConference { participant } => {
                self.remove_participant(id, &participant)
            }
            CallOperation::SwitchToBargeIn => self.switch_to_barge_in(id),
            CallOperation::SwitchToListenIn => self.switch_to_listen_in(id),
        }
    }
}

impl Turn<'_> {
    /// A call that the user is a party of. Somebody else's call is "not found": the address says `me`.
    pub(super) fn own_call(&self, id: &str) -> Accepted<&Call> {
        let call = self
            .switch
            .call_by_id
            .get(id)
            .filter(|call| call.party(&self.user).is_some());
        call.ok_or_else(|| Refusal::call_not_found(id))
    }

    /// The user's own end of a call.
    pub(super) fn own_party(&self, id: &CallId) -> &Party {
        self.call(id)
            .party(&self.user)
            .expect("a turn on a call begins with own_call")
    }

    /// Refuses unless the user's own leg is in one of these states.
    pub(super) fn require(&self, id: &CallId, legs: &[Leg]) -> Accepted {
        let leg = self.own_party(id).leg;
        if legs.contains(&leg) {
            return Ok(());
        }
        Err(Refusal::invalid(format!(
            "The operation is not valid while the call is {leg:?}."
        )))
    }

    pub(super) fn call(&self, id: &CallId) -> &Call {
        self.switch
            .call_by_id
            .get(id)
            .expect("a call is removed only by the step that ends it")
    }

    pub(super) fn call_mut(&mut self, id: &CallId) -> &mut Call {
        self.switch
            .call_by_id
            .get_mut(id)
            .expect("a call is removed only by the step that ends it")
    }

    pub(super) fn line(&self) -> &Line {
        self.switch
            .line_by_user
            .get(&self.user)
            .expect("a turn is of a known user")
    }

    pub(super) fn line_mut(&mut self) -> &mut Line {
        self.switch
            .line_by_user
            .get_mut(&self.user)
            .expect("a turn is of a known user")
    }

    /// Refuses while the user is logged out; the text is that of a captured answer.
    pub(super) fn require_session(&self) -> Accepted {
        if self.line().is_logged_in() {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::Internal,
            format!("Device '{}' is not registered.", self.user),
        ))
    }

    /// Whether the switch can reach a number: the leg that the called party will have, or why not.
    ///
    /// A number that no agent has is an outside line from seven digits on, and answers at once. Everything else is
    /// found out after the operation was accepted, so it is told in an `ErrorMessage`.
    pub(super) fn reach(&self, number: &str) -> Result<Leg, Unreachable> {
        match self.switch.line_by_user.get(number) {
            Some(line) if !line.is_logged_in() => Err(Unreachable::LoggedOut),
            Some(line) if line.calls.len() >= MOST_CALLS => Err(Unreachable::Busy),
            Some(_) => Ok(Leg::Ringing),
            None if number.trim_start_matches('+').len() >= 7 => Ok(Leg::Established),
            None => Err(Unreachable::Unknown),
        }
    }
}

/// Why a number cannot be called.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unreachable {
    Unknown,
    LoggedOut,
    Busy,
}
