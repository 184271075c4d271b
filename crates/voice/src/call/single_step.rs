//! `SingleStepConference` and `SingleStepTransfer`: another party without a consult call.
//!
//! The new party is on the call at once, and its own telephone rings until it answers.

use std::sync::Arc;

use super::model::{CallId, Party};
use super::operation::Destination;
use super::turn::{Accepted, Turn};
use super::user_data;
use crate::message::NotificationType;

impl Turn<'_> {
    /// Brings a party to the call. Whoever does it first owns the conference.
    pub(super) fn single_step_conference(&mut self, id: &CallId, destination: Destination) -> Accepted {
        self.require_extensible(id, &destination.number)?;
        let Some(number) = self.bring(id, destination)? else {
            return Ok(());
        };
        let user = self.user.clone();
        self.call_mut(id).owner.get_or_insert(user.clone());
        let present = self.numbers(id);
        self.tell_user(id, NotificationType::ParticipantsUpdated);
        for other in present
            .iter()
            .filter(|other| **other != user && **other != number)
        {
            self.tell(id, other, NotificationType::ParticipantsUpdated);
        }
        self.tell(id, &number, NotificationType::StatusChange);
        Ok(())
    }

    /// Puts a party in the user's place.
    pub(super) fn single_step_transfer(&mut self, id: &CallId, destination: Destination) -> Accepted {
        self.require_extensible(id, &destination.number)?;
        self.require_somebody_to_transfer(id)?;
        let Some(number) = self.bring(id, destination)? else {
            return Ok(());
        };
        let user = self.user.clone();
        let present = self.numbers(id);
        self.release(id, &user, Vec::new());
        self.release_followers(id, &user);
        if self.call(id).heard() == 2 {
            self.call_mut(id).owner = None;
        }
        for other in present.iter().filter(|other| **other != number) {
            self.tell(id, other, NotificationType::ParticipantsUpdated);
        }
        self.tell(id, &number, NotificationType::StatusChange);
        Ok(())
    }

    /// Puts the party on the call, or tells the user why it cannot be reached.
    fn bring(&mut self, id: &CallId, destination: Destination) -> Accepted<Option<Arc<str>>> {
        let mut data = self.call(id).user_data.clone();
        data.extend(destination.user_data);
        user_data::require_size(&data)?;
        match self.reach(&destination.number) {
            Ok(leg) => {
                let number: Arc<str> = destination.number.into();
                self.call_mut(id).user_data = data;
                self.join(id, Party::new(number.clone(), leg));
                Ok(Some(number))
            }
            Err(why) => {
                self.fail_unreachable(&destination.number, why);
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::call::office::Office;

    #[test]
    fn a_single_step_conference_updates_who_is_there_and_rings_who_comes() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on_with("15000", &call, Office::to("SingleStepConference", "15002"));
        office.expect(&[
            "15000 ParticipantsUpdated Established [15001, 15002]",
            "15001 ParticipantsUpdated Established [15000, 15002]",
            "15002 StatusChange Ringing [15000, 15001]",
        ]);
    }

    #[test]
    fn an_answer_in_a_conference_changes_nothing_for_the_others() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on_with("15000", &call, Office::to("SingleStepConference", "15002"));
        office.on("15002", &call, "Answer");
        office.expect(&["15002 StatusChange Established [15000, 15001]"]);
    }

    #[test]
    fn a_single_step_transfer_releases_who_transfers() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on_with("15000", &call, Office::to("SingleStepTransfer", "15002"));
        office.expect(&[
            "15000 StatusChange Released []",
            "15001 ParticipantsUpdated Established [15002]",
            "15002 StatusChange Ringing [15001]",
        ]);
    }

    #[test]
    fn a_call_with_nobody_but_a_following_supervisor_is_not_transferred() {
        let mut office = Office::open();
        let call = office.alone_with_a_following_supervisor();
        assert_eq!(
            office.refused_with("15000", &call, Office::to("SingleStepTransfer", "15002")),
            2
        );
    }

    #[test]
    fn a_party_is_not_brought_twice() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        assert_eq!(
            office.refused_with("15000", &call, Office::to("SingleStepConference", "15001")),
            2
        );
    }
}
