//! `InitiateConference`, `CompleteConference`, `InitiateTransfer`, `CompleteTransfer`.
//!
//! A consultation holds the call and makes a second one to the third party. Completing it moves everyone of the
//! consult call to the first call, which keeps its id: who is moved sees the consult call `Released` and then the
//! first call in a `ParticipantsUpdated`.

use std::sync::Arc;

use super::model::{CallId, Consult, Leg, Party, Purpose};
use super::operation::Destination;
use super::refusal::Refusal;
use super::turn::{Accepted, Turn};
use super::user_data;
use crate::message::{CallType, NotificationType};

impl Turn<'_> {
    /// Holds the call and calls the third party. The consult call begins with a copy of the user data.
    pub(super) fn consult(&mut self, id: &CallId, destination: Destination, purpose: Purpose) -> Accepted {
        self.require_extensible(id, &destination.number)?;
        self.require_free_call()?;
        let mut data = self.call(id).user_data.clone();
        data.extend(destination.user_data);
        user_data::require_size(&data)?;
        match self.reach(&destination.number) {
            Ok(leg) => {
                let called: Arc<str> = destination.number.into();
                let consult = self.open(CallType::Consult, called.clone(), data);
                let by = self.user.clone();
                let call = self.call_mut(&consult);
                call.parent = Some(id.clone());
                call.consult = Some(Consult {
                    parent: id.clone(),
                    by,
                    purpose,
                });
                self.connect(&consult, called.clone(), leg);
                // Only now: the held call must already offer what the consultation makes possible.
                self.change_own_leg(id, Leg::Held);
                self.announce(&consult, &called, leg);
            }
            Err(why) => self.fail_unreachable(&destination.number, why),
        }
        Ok(())
    }

    /// Completes a consultation; either of its two calls may be named.
    pub(super) fn complete(&mut self, id: &CallId, consult_uri: Option<&str>, purpose: Purpose) -> Accepted {
        let Some((parent, consult)) = self.consult_pair(id) else {
            return Err(Refusal::invalid("There is no consult call to complete."));
        };
        self.require_completable(&parent, &consult, consult_uri, purpose)?;
        match purpose {
            Purpose::Conference => self.complete_conference(&parent, &consult),
            Purpose::Transfer => self.complete_transfer(&parent, &consult),
        }
        Ok(())
    }

    /// The user's consultation that a call belongs to: the first call and the consult call.
    pub(super) fn consult_pair(&self, id: &CallId) -> Option<(CallId, CallId)> {
        let own = |consult: &&Consult| consult.by == self.user;
        if let Some(consult) = self.call(id).consult.as_ref().filter(own) {
            return Some((consult.parent.clone(), id.clone()));
        }
        let made_from_it = |candidate: &&CallId| {
            let consult = self.call(candidate).consult.as_ref().filter(own);
            consult.is_some_and(|consult| consult.parent == *id)
        };
        self.line()
            .calls
            .iter()
            .find(made_from_it)
            .map(|consult| (id.clone(), consult.clone()))
    }

    /// Refuses unless the user may bring another party to the call.
    pub(super) fn require_extensible(&self, id: &CallId, number: &str) -> Accepted {
        self.require(id, &[Leg::Established, Leg::Held])?;
        self.require_other(number)?;
        let call = self.call(id);
        if self.own_party(id).monitor.is_some() {
            return Err(Refusal::invalid(
                "A monitoring supervisor cannot bring others to the call.",
            ));
        }
        if call.consult.is_some() || self.consult_pair(id).is_some() {
            return Err(Refusal::invalid("A consultation is already up."));
        }
        if call.party(number).is_some() {
            return Err(Refusal::invalid(format!("'{number}' is on the call already.")));
        }
        if !call.has_room_for(1) {
            return Err(Refusal::invalid("The call is full."));
        }
        Ok(())
    }

    /// Refuses a transfer after which the new party would be alone: a supervisor who follows the user goes with the user.
    pub(super) fn require_somebody_to_transfer(&self, id: &CallId) -> Accepted {
        if self
            .call(id)
            .others(&self.user)
            .all(|party| party.follows(&self.user))
        {
            return Err(Refusal::invalid("There is nobody on the call to transfer."));
        }
        Ok(())
    }

    fn require_completable(
        &self,
        parent: &CallId,
        consult: &CallId,
        consult_uri: Option<&str>,
        purpose: Purpose,
    ) -> Accepted {
        let named = consult_uri.and_then(|uri| uri.rsplit('/').next());
        if named.is_some_and(|named| named != consult.as_str()) {
            return Err(Refusal::invalid(
                "'consultCallUri' is not the consult call of this call.",
            ));
        }
        if self
            .call(consult)
            .consult
            .as_ref()
            .is_none_or(|consult| consult.purpose != purpose)
        {
            return Err(Refusal::invalid(format!(
                "The consult call was not made for a {purpose:?}."
            )));
        }
        self.require(parent, &[Leg::Established, Leg::Held])?;
        if purpose == Purpose::Transfer {
            self.require_somebody_to_transfer(parent)?;
        }
        let moved = self.moved(consult);
        if moved.is_empty() {
            return Err(Refusal::invalid("The consulted party has left."));
        }
        if self.own_party(consult).leg == Leg::Dialing || moved.iter().any(|party| party.leg == Leg::Ringing)
        {
            return Err(Refusal::invalid("The consult call is not answered yet."));
        }
        if moved
            .iter()
            .any(|party| self.call(parent).party(&party.number).is_some())
        {
            return Err(Refusal::invalid("The consulted party is on the call already."));
        }
        if !self.call(parent).has_room_for(moved.len()) {
            return Err(Refusal::invalid("The call is full."));
        }
        Ok(())
    }

    fn complete_conference(&mut self, parent: &CallId, consult: &CallId) {
        let user = self.user.clone();
        let moved = self.moved(consult);
        self.release(consult, &user, Vec::new());
        self.set_leg(parent, &user, Leg::Established);
        self.call_mut(parent).owner.get_or_insert_with(|| user.clone());
        let present = self.numbers(parent);
        self.move_to(parent, &moved);
        self.tell(parent, &user, NotificationType::StatusChange);
        for number in present.iter().filter(|number| **number != user) {
            self.tell(parent, number, NotificationType::ParticipantsUpdated);
        }
        self.welcome(parent, consult, &moved);
    }

    fn complete_transfer(&mut self, parent: &CallId, consult: &CallId) {
        let user = self.user.clone();
        let moved = self.moved(consult);
        self.release(parent, &user, Vec::new());
        self.release(consult, &user, Vec::new());
        self.release_followers(parent, &user);
        let present = self.numbers(parent);
        self.move_to(parent, &moved);
        if self.call(parent).heard() == 2 {
            self.call_mut(parent).owner = None;
        }
        for number in &present {
            self.tell(parent, number, NotificationType::ParticipantsUpdated);
        }
        self.welcome(parent, consult, &moved);
    }

    /// Who goes from the consult call to the first call. Supervisors stay behind: if they monitor somebody who is on
    /// the first call, they are brought there like into any other.
    fn moved(&self, consult: &CallId) -> Vec<Party> {
        let parties = self.call(consult).parties.iter();
        parties
            .filter(|party| party.number != self.user && party.monitor.is_none())
            .cloned()
            .collect()
    }

    fn move_to(&mut self, parent: &CallId, moved: &[Party]) {
        for party in moved {
            self.join(parent, party.clone());
        }
    }

    /// Ends the consult call, and shows those who were moved where they are now.
    fn welcome(&mut self, parent: &CallId, consult: &CallId, moved: &[Party]) {
        self.end(consult);
        for party in moved {
            self.tell(parent, &party.number, NotificationType::ParticipantsUpdated);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::call::office::Office;

    #[test]
    fn a_consultation_holds_the_call_and_rings_the_third_party() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on_with("15000", &call, Office::to("InitiateConference", "15002"));
        office.expect(&[
            "15000 StatusChange Held [15001]",
            "15000 StatusChange Dialing [15002]",
            "15002 StatusChange Ringing [15000]",
        ]);
    }

    #[test]
    fn a_consult_call_names_the_call_it_was_made_from() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        let said = office.on_with("15000", &call, Office::to("InitiateConference", "15002"));
        assert_eq!(said[1]["call"]["parentCallPath"], format!("/calls/{call}"));
    }

    #[test]
    fn a_call_held_for_a_transfer_offers_to_complete_it() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        let said = office.on_with("15000", &call, Office::to("InitiateTransfer", "15002"));
        let offered = said[0]["call"]["capabilities"].as_array().unwrap();
        assert!(offered.contains(&json!("CompleteTransfer")) && offered.contains(&json!("SwapCalls")));
    }

    #[test]
    fn a_completed_conference_releases_the_consult_call_and_brings_everyone_together() {
        let mut office = Office::open();
        let (call, _) = office.consult("InitiateConference");
        office.on("15000", &call, "CompleteConference");
        office.expect(&[
            "15000 StatusChange Released []",
            "15000 StatusChange Established [15001, 15002]",
            "15001 ParticipantsUpdated Established [15000, 15002]",
            "15002 StatusChange Released []",
            "15002 ParticipantsUpdated Established [15000, 15001]",
        ]);
    }

    #[test]
    fn a_conference_can_be_completed_on_its_consult_call() {
        let mut office = Office::open();
        let (call, consult) = office.consult("InitiateConference");
        office.on("15000", &consult, "CompleteConference");
        assert!(
            office
                .capabilities("15000", &call)
                .contains(&"RemoveParticipantFromConference".into())
        );
    }

    #[test]
    fn an_unanswered_consultation_cannot_be_completed() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on_with("15000", &call, Office::to("InitiateConference", "15002"));
        assert_eq!(office.refused("15000", &call, "CompleteConference"), 2);
    }

    #[test]
    fn a_consultation_for_a_transfer_is_not_completed_as_a_conference() {
        let mut office = Office::open();
        let (call, _) = office.consult("InitiateTransfer");
        assert_eq!(office.refused("15000", &call, "CompleteConference"), 2);
    }

    #[test]
    fn a_completed_transfer_leaves_the_other_two_together() {
        let mut office = Office::open();
        let (call, _) = office.consult("InitiateTransfer");
        office.on("15000", &call, "CompleteTransfer");
        office.expect(&[
            "15000 StatusChange Released []",
            "15000 StatusChange Released []",
            "15001 ParticipantsUpdated Established [15002]",
            "15002 StatusChange Released []",
            "15002 ParticipantsUpdated Established [15001]",
        ]);
    }

    #[test]
    fn a_transfer_with_nobody_but_a_following_supervisor_is_not_completed() {
        let mut office = Office::open();
        let call = office.alone_with_a_following_supervisor();
        let said = office.on_with("15000", &call, Office::to("InitiateTransfer", "15002"));
        let consult = said[1]["call"]["id"].as_str().unwrap().to_owned();
        office.on("15002", &consult, "Answer");
        assert_eq!(office.refused("15000", &consult, "CompleteTransfer"), 2);
    }

    #[test]
    fn a_consult_call_that_is_hung_up_leaves_the_first_call_on_hold() {
        let mut office = Office::open();
        let (call, consult) = office.consult("InitiateConference");
        office.on("15000", &consult, "Hangup");
        assert_eq!(office.state("15000", &call), "Held");
    }

    #[test]
    fn a_consultation_whose_first_call_ended_cannot_be_completed() {
        let mut office = Office::open();
        let (call, consult) = office.consult("InitiateConference");
        office.on("15001", &call, "Hangup");
        assert_eq!(office.refused("15000", &consult, "CompleteConference"), 2);
    }

    #[test]
    fn nobody_is_consulted_twice_at_once() {
        let mut office = Office::open();
        let (call, _) = office.consult("InitiateConference");
        let body = Office::to("InitiateConference", "15003");
        assert_eq!(office.refused_with("15000", &call, body), 2);
    }
}
