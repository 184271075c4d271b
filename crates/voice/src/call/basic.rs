//! `Dial`, `Answer`, `Hangup`, `ClearCall`.

use std::sync::Arc;

use super::model::{CallId, Leg, Party};
use super::operation::Destination;
use super::refusal::Refusal;
use super::turn::{Accepted, Turn};
use super::{MOST_CALLS, user_data};
use crate::message::{CallType, NotificationType};

impl Turn<'_> {
    pub(super) fn dial(&mut self, destination: Destination) -> Accepted {
        self.require_session()?;
        self.require_other(&destination.number)?;
        self.require_free_call()?;
        user_data::require_size(&destination.user_data)?;
        match self.reach(&destination.number) {
            Ok(leg) => {
                let number: Arc<str> = destination.number.into();
                let call_type = self.type_of_call_to(&number);
                let id = self.open(call_type, number.clone(), destination.user_data);
                self.connect(&id, number.clone(), leg);
                self.announce(&id, &number, leg);
            }
            Err(why) => self.fail_unreachable(&destination.number, why),
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, id: &CallId) -> Accepted {
        self.require(id, &[Leg::Ringing])?;
        let user = self.user.clone();
        self.set_leg(id, &user, Leg::Established);
        let dialing: Vec<Arc<str>> = self.waiting_callers(id);
        for caller in &dialing {
            self.set_leg(id, caller, Leg::Established);
        }
        self.tell(id, &user, NotificationType::StatusChange);
        for caller in &dialing {
            self.tell(id, caller, NotificationType::StatusChange);
        }
        Ok(())
    }

    pub(super) fn hang_up(&mut self, id: &CallId) -> Accepted {
        self.require(id, &[Leg::Dialing, Leg::Established, Leg::Held])?;
        let user = self.user.clone();
        self.leave(id, &user);
        Ok(())
    }

    /// Releases every party; unlike after `Hangup`, each is still told who was there. A party that has not answered
    /// yet only declines for itself.
    pub(super) fn clear_call(&mut self, id: &CallId) -> Accepted {
        let user = self.user.clone();
        if self.own_party(id).leg == Leg::Ringing {
            self.leave(id, &user);
            return Ok(());
        }
        if self.own_party(id).monitor.is_some() {
            return Err(Refusal::invalid("A monitoring supervisor cannot clear the call."));
        }
        let numbers = self.numbers(id);
        let seen: Vec<_> = numbers
            .iter()
            .map(|number| self.participants(id, number))
            .collect();
        for (number, participants) in numbers.iter().zip(seen) {
            self.release(id, number, participants);
        }
        self.switch.call_by_id.remove(id);
        Ok(())
    }

    /// Puts the user and the called party on a new call.
    pub(super) fn connect(&mut self, id: &CallId, called: Arc<str>, leg: Leg) {
        self.join(id, Party::new(self.user.clone(), Leg::Dialing));
        self.join(id, Party::new(called, leg));
    }

    /// Tells both that there is a new call. An outside line answers at once.
    pub(super) fn announce(&mut self, id: &CallId, called: &str, leg: Leg) {
        self.tell_user(id, NotificationType::StatusChange);
        self.tell(id, called, NotificationType::StatusChange);
        if leg == Leg::Established {
            self.change_own_leg(id, Leg::Established);
        }
    }

    pub(super) fn type_of_call_to(&self, number: &str) -> CallType {
        if self.switch.line_by_user.contains_key(number) {
            CallType::Internal
        } else {
            CallType::Outbound
        }
    }

    pub(super) fn set_leg(&mut self, id: &CallId, number: &str, leg: Leg) {
        if let Some(party) = self.call_mut(id).party_mut(number) {
            party.leg = leg;
        }
    }

    pub(super) fn require_other(&self, number: &str) -> Accepted {
        if *number == *self.user {
            return Err(Refusal::invalid("A line cannot call itself."));
        }
        Ok(())
    }

    pub(super) fn require_free_call(&self) -> Accepted {
        if self.line().calls.len() >= MOST_CALLS {
            return Err(Refusal::invalid(format!(
                "A line has at most {MOST_CALLS} calls."
            )));
        }
        Ok(())
    }

    fn waiting_callers(&self, id: &CallId) -> Vec<Arc<str>> {
        let dialing = self
            .call(id)
            .parties
            .iter()
            .filter(|party| party.leg == Leg::Dialing);
        dialing.map(|party| party.number.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::call::office::Office;

    #[test]
    fn the_caller_sees_dialing_and_the_called_agent_sees_ringing() {
        let mut office = Office::open();
        office.dial("15000", "15001");
        office.expect(&[
            "15000 StatusChange Dialing [15001]",
            "15001 StatusChange Ringing [15000]",
        ]);
    }

    #[test]
    fn an_answer_establishes_both_ends() {
        let mut office = Office::open();
        let call = office.dial("15000", "15001");
        office.on("15001", &call, "Answer");
        office.expect(&[
            "15001 StatusChange Established [15000]",
            "15000 StatusChange Established [15001]",
        ]);
    }

    #[test]
    fn a_hangup_releases_both_ends() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on("15000", &call, "Hangup");
        office.expect(&["15000 StatusChange Released []", "15001 StatusChange Released []"]);
    }

    #[test]
    fn a_cleared_conference_is_released_for_all_who_still_see_who_was_there() {
        let mut office = Office::open();
        let call = office.conference();
        office.on("15001", &call, "ClearCall");
        office.expect(&[
            "15000 StatusChange Released [15001, 15002]",
            "15001 StatusChange Released [15000, 15002]",
            "15002 StatusChange Released [15000, 15001]",
        ]);
    }

    #[test]
    fn a_ringing_agent_declines_with_clear_call() {
        let mut office = Office::open();
        let call = office.dial("15000", "15001");
        office.on("15001", &call, "ClearCall");
        office.expect(&["15001 StatusChange Released []", "15000 StatusChange Released []"]);
    }

    #[test]
    fn a_ringing_agent_cannot_hang_up() {
        let mut office = Office::open();
        let call = office.dial("15000", "15001");
        assert_eq!(office.refused("15001", &call, "Hangup"), 2);
    }

    #[test]
    fn an_outside_line_answers_at_once_and_has_no_stream() {
        let mut office = Office::open();
        office.dial("15000", "+442079460000");
        office.expect(&[
            "15000 StatusChange Dialing [+442079460000]",
            "15000 StatusChange Established [+442079460000]",
        ]);
    }

    #[test]
    fn an_unknown_extension_is_an_error_on_the_stream_not_a_refusal() {
        let mut office = Office::open();
        office.dial("15000", "19999");
        office.expect(&["15000 ErrorMessage 415 Invalid Destination DN"]);
    }

    #[test]
    fn nobody_dials_before_logging_in() {
        let mut office = Office::closed();
        assert_eq!(office.refused_dial("15000", "15001"), 4);
    }

    #[test]
    fn a_line_has_a_bounded_number_of_calls() {
        let mut office = Office::open();
        for _ in 0..super::MOST_CALLS {
            office.dial("15000", "15001");
        }
        assert_eq!(office.refused_dial("15000", "15002"), 2);
    }

    #[test]
    fn a_line_with_all_its_calls_is_busy() {
        let mut office = Office::open();
        for caller in 0..super::MOST_CALLS {
            office.dial(["15000", "15001"][caller % 2], "15002");
        }
        office.dial("15003", "15002");
        office.expect(&["15003 ErrorMessage '15002' is busy."]);
    }

    #[test]
    fn somebody_elses_call_is_not_found() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        assert_eq!(office.refused("15002", &call, "Hangup"), 6);
    }

    #[test]
    fn a_call_that_ended_leaves_nothing_behind() {
        let mut office = Office::open();
        let call = office.conference();
        office.on("15000", &call, "ClearCall");
        office.expect_no_calls();
    }
}
