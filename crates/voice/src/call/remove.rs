//! `RemoveParticipantFromConference`.
//!
//! Source: the operation's page. The owner of the conference, or a supervisor who monitors it, takes one party off
//! the call. Who stays gets `ParticipantsUpdated` with its own view of who is left; who was removed gets
//! `StatusChange` to `Released`; an outside line has no stream. `dnis` stays, even when it names the removed party.
//!
//! The page does not say which failure has which code. Here, in the order in which they are found:
//!
//! | failure | statusCode |
//! |---|---|
//! | `participant` is missing | 1 |
//! | there is no such call, or the user is not on it | 6 |
//! | the user has not answered the call | 2 |
//! | the call is no conference: the user sees fewer than two others | 2 |
//! | the user neither owns the conference nor monitors it | 3 |
//! | `participant` is not on the call, or is the user | 2 |
//! | `participant` has not answered: the switch refuses after acceptance | 0, then an `ErrorMessage` |
//!
//! A repeated request therefore changes nothing: the participant is not on the call any more.

use super::model::{CallId, Leg};
use super::refusal::{Refusal, StatusCode};
use super::turn::{Accepted, Turn};

impl Turn<'_> {
    pub(super) fn remove_participant(&mut self, id: &CallId, participant: &str) -> Accepted {
        self.require(id, &[Leg::Established, Leg::Held])?;
        let call = self.call(id);
        if call.others(&self.user).count() < 2 {
            return Err(Refusal::invalid("The call is not a conference."));
        }
        if call.owner.as_ref() != Some(&self.user) && self.own_party(id).monitor.is_none() {
            return Err(Refusal::new(
                StatusCode::Forbidden,
                "Only the owner of the conference or a monitoring supervisor may remove a participant.",
            ));
        }
        let Some(leg) = call
            .others(&self.user)
            .find(|party| &*party.number == participant)
            .map(|party| party.leg)
        else {
            return Err(Refusal::invalid(format!(
                "'{participant}' is not a participant of the call."
            )));
        };
        if leg == Leg::Ringing {
            self.fail_later(
                None,
                format!("'{participant}' has not answered and cannot be removed."),
            );
        } else {
            self.leave(id, participant);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::call::office::Office;

    fn remove(participant: &str) -> Value {
        json!({"operationName": "RemoveParticipantFromConference", "participant": participant})
    }

    #[test]
    fn who_stays_sees_who_is_left_and_who_is_removed_is_released() {
        let mut office = Office::open();
        let call = office.conference();
        office.on_with("15000", &call, remove("15001"));
        office.expect(&[
            "15001 StatusChange Released []",
            "15000 ParticipantsUpdated Established [15002]",
            "15002 ParticipantsUpdated Established [15000]",
        ]);
    }

    #[test]
    fn the_owner_is_notified_exactly_as_documented() {
        let documented = include_str!("../../fixtures/remove-participant.json");
        let mut documented = serde_json::from_str::<Value>(documented).unwrap()["data"].clone();
        let mut office = Office::open();
        office.after_seconds(600);
        let call = office.conference();
        office.after_seconds(43);
        let mut said = office.on_with("15000", &call, remove("15001"))[1].clone();
        for own in ["id", "callUuid", "connId", "deviceUri", "uri", "path"] {
            documented["call"][own].take();
            assert!(said["call"][own].take().is_string());
        }
        assert_eq!(said, documented);
    }

    #[test]
    fn the_dialled_number_stays_even_when_it_was_removed() {
        let mut office = Office::open();
        let call = office.conference();
        let said = office.on_with("15000", &call, remove("15001"));
        assert_eq!(said[1]["call"]["dnis"], "15001");
    }

    #[test]
    fn the_capability_is_the_owners_while_it_is_a_conference() {
        let mut office = Office::open();
        let call = office.conference();
        let offered = ["15000", "15001", "15002"].map(|user| {
            office
                .capabilities(user, &call)
                .contains(&"RemoveParticipantFromConference".into())
        });
        assert_eq!(offered, [true, false, false]);
    }

    #[test]
    fn an_outside_line_is_removed_without_a_notification_of_its_own() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on_with(
            "15000",
            &call,
            Office::to("SingleStepConference", "+442079460000"),
        );
        office.on_with("15000", &call, remove("+442079460000"));
        office.expect(&[
            "15000 ParticipantsUpdated Established [15001]",
            "15001 ParticipantsUpdated Established [15000]",
        ]);
    }

    #[test]
    fn a_listening_supervisor_may_remove_and_is_updated() {
        let mut office = Office::open();
        office.listen_in("15009", "15000");
        let call = office.conference();
        office.on_with("15009", &call, remove("15001"));
        office.expect(&[
            "15001 StatusChange Released []",
            "15009 ParticipantsUpdated Established [15000, 15002]",
            "15000 ParticipantsUpdated Established [15002]",
            "15002 ParticipantsUpdated Established [15000]",
        ]);
    }

    #[test]
    fn a_silent_supervisor_does_not_keep_a_call_alive() {
        let mut office = Office::open();
        office.listen_in("15009", "15000");
        let call = office.connect("15000", "15001");
        office.on_with("15009", &call, remove("15001"));
        office.expect(&[
            "15001 StatusChange Released []",
            "15000 StatusChange Released []",
            "15009 StatusChange Released []",
        ]);
    }

    #[test]
    fn a_call_of_nobody_is_not_found() {
        let mut office = Office::open();
        assert_eq!(office.refused_with("15000", "NONE", remove("15001")), 6);
    }

    #[test]
    fn a_conference_of_others_is_not_found() {
        let mut office = Office::open();
        let call = office.conference();
        assert_eq!(office.refused_with("15003", &call, remove("15001")), 6);
    }

    #[test]
    fn a_supervisor_who_does_not_monitor_it_does_not_find_the_call() {
        let mut office = Office::open();
        let call = office.conference();
        assert_eq!(office.refused_with("15009", &call, remove("15001")), 6);
    }

    #[test]
    fn a_call_of_two_is_not_a_conference() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        assert_eq!(office.refused_with("15000", &call, remove("15001")), 2);
    }

    #[test]
    fn who_has_not_answered_removes_nobody() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on_with("15000", &call, Office::to("SingleStepConference", "15002"));
        assert_eq!(office.refused_with("15002", &call, remove("15001")), 2);
    }

    #[test]
    fn a_participant_who_does_not_own_the_conference_removes_nobody() {
        let mut office = Office::open();
        let call = office.conference();
        assert_eq!(office.refused_with("15001", &call, remove("15002")), 3);
    }

    #[test]
    fn a_conference_whose_owner_left_has_no_owner() {
        let mut office = Office::open();
        let call = office.conference();
        office.on_with("15000", &call, Office::to("SingleStepConference", "15003"));
        office.on("15000", &call, "Hangup");
        assert_eq!(office.refused_with("15001", &call, remove("15002")), 3);
    }

    #[test]
    fn whoever_makes_it_a_conference_again_owns_it() {
        let mut office = Office::open();
        let call = office.conference();
        office.on_with("15000", &call, remove("15001"));
        office.on_with("15002", &call, Office::to("SingleStepConference", "15003"));
        office.on("15003", &call, "Answer");
        assert_eq!(office.refused_with("15000", &call, remove("15003")), 3);
    }

    #[test]
    fn who_is_not_on_the_call_is_not_removed() {
        let mut office = Office::open();
        let call = office.conference();
        assert_eq!(office.refused_with("15000", &call, remove("15003")), 2);
    }

    #[test]
    fn the_owner_does_not_remove_itself() {
        let mut office = Office::open();
        let call = office.conference();
        assert_eq!(office.refused_with("15000", &call, remove("15000")), 2);
    }

    #[test]
    fn a_silent_supervisor_cannot_be_removed_because_nobody_sees_them() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.conference();
        assert_eq!(office.refused_with("15000", &call, remove("15009")), 2);
    }

    #[test]
    fn a_ringing_participant_is_an_error_on_the_stream() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        office.on_with("15000", &call, Office::to("SingleStepConference", "15002"));
        office.on_with("15000", &call, remove("15002"));
        office.expect(&["15000 ErrorMessage '15002' has not answered and cannot be removed."]);
    }

    #[test]
    fn a_repeated_removal_from_a_conference_of_three_is_refused_and_tells_nobody() {
        let mut office = Office::open();
        let call = office.conference();
        office.on_with("15000", &call, remove("15001"));
        assert_eq!(office.refused_with("15000", &call, remove("15001")), 2);
    }

    #[test]
    fn a_repeated_removal_from_a_larger_conference_is_refused_and_tells_nobody() {
        let mut office = Office::open();
        let call = office.conference();
        office.on_with("15000", &call, Office::to("SingleStepConference", "15003"));
        office.on("15003", &call, "Answer");
        office.on_with("15000", &call, remove("15001"));
        assert_eq!(office.refused_with("15000", &call, remove("15001")), 2);
    }
}
