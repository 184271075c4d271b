//! `Hold`, `Retrieve`, `SwapCalls`, `SendDtmf`, `MuteCall`, `UnmuteCall`.
//!
//! Each concerns the user's own end of the call, so only the user is told.

use super::model::{CallId, Leg};
use super::refusal::Refusal;
use super::turn::{Accepted, Turn};
use crate::message::NotificationType;

impl Turn<'_> {
    pub(super) fn hold(&mut self, id: &CallId) -> Accepted {
        self.require(id, &[Leg::Established])?;
        self.change_own_leg(id, Leg::Held);
        Ok(())
    }

    /// Goes back to a held call. While a consult call is up, that one is put on hold first: nobody speaks on both.
    pub(super) fn retrieve(&mut self, id: &CallId) -> Accepted {
        self.require(id, &[Leg::Held])?;
        match self.consult_pair(id) {
            Some((parent, consult)) => self.alternate(&parent, &consult),
            None => {
                self.change_own_leg(id, Leg::Established);
                Ok(())
            }
        }
    }

    /// Changes places between the held call and its consult call; either may be named.
    pub(super) fn swap_calls(&mut self, id: &CallId) -> Accepted {
        let Some((parent, consult)) = self.consult_pair(id) else {
            return Err(Refusal::invalid("There is no consult call to swap with."));
        };
        self.alternate(&parent, &consult)
    }

    pub(super) fn send_dtmf(&mut self, id: &CallId) -> Accepted {
        self.require(id, &[Leg::Dialing, Leg::Established])?;
        self.tell_user(id, NotificationType::DtmfSent);
        Ok(())
    }

    /// A supervisor who listens in is mute by nature and uses `SwitchToBargeIn`.
    pub(super) fn mute(&mut self, id: &CallId, muted: bool) -> Accepted {
        self.require(id, &[Leg::Established])?;
        let party = self.own_party(id);
        if !party.is_heard() || party.muted == muted {
            let state = if party.muted { "muted" } else { "not muted" };
            return Err(Refusal::invalid(format!("The call is {state}.")));
        }
        let user = self.user.clone();
        if let Some(party) = self.call_mut(id).party_mut(&user) {
            party.muted = muted;
        }
        self.tell_user(id, NotificationType::StatusChange);
        Ok(())
    }

    pub(super) fn change_own_leg(&mut self, id: &CallId, leg: Leg) {
        let user = self.user.clone();
        self.set_leg(id, &user, leg);
        self.tell_user(id, NotificationType::StatusChange);
    }

    pub(super) fn tell_user(&mut self, id: &CallId, what: NotificationType) {
        let user = self.user.clone();
        self.tell(id, &user, what);
    }

    fn alternate(&mut self, parent: &CallId, consult: &CallId) -> Accepted {
        let (held, active) = match (self.own_party(parent).leg, self.own_party(consult).leg) {
            (Leg::Held, Leg::Established) => (parent, consult),
            (Leg::Established, Leg::Held) => (consult, parent),
            _ => return Err(Refusal::invalid("The consult call is not established.")),
        };
        self.change_own_leg(active, Leg::Held);
        self.change_own_leg(held, Leg::Established);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::call::office::Office;

    #[test]
    fn hold_is_told_to_who_holds() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on("15000", &call, "Hold");
        office.expect(&["15000 StatusChange Held [15001]"]);
    }

    #[test]
    fn a_held_call_can_be_retrieved() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on("15000", &call, "Hold");
        office.on("15000", &call, "Retrieve");
        office.expect(&["15000 StatusChange Established [15001]"]);
    }

    #[test]
    fn a_held_call_offers_retrieve_in_place_of_hold() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on("15000", &call, "Hold");
        let offered = office.capabilities("15000", &call);
        assert!(
            offered.contains(&"Retrieve".into()) && !offered.contains(&"Hold".into()),
            "{offered:?}"
        );
    }

    #[test]
    fn what_is_not_held_cannot_be_retrieved() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        assert_eq!(office.refused("15000", &call, "Retrieve"), 2);
    }

    #[test]
    fn swapping_holds_one_call_and_establishes_the_other() {
        let mut office = Office::open();
        let (call, _) = office.consult("InitiateTransfer");
        office.on("15000", &call, "SwapCalls");
        office.expect(&[
            "15000 StatusChange Held [15002]",
            "15000 StatusChange Established [15001]",
        ]);
    }

    #[test]
    fn digits_are_confirmed() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on_with(
            "15000",
            &call,
            json!({"operationName": "SendDtmf", "digits": "42"}),
        );
        office.expect(&["15000 DtmfSent Established [15001]"]);
    }

    #[test]
    fn muting_shows_in_the_call() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        let said = office.on("15000", &call, "MuteCall");
        assert_eq!(said[0]["call"]["mute"], "On");
    }

    #[test]
    fn a_muted_party_is_offered_unmute() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on("15000", &call, "MuteCall");
        assert!(office.capabilities("15000", &call).contains(&"UnmuteCall".into()));
    }
}
