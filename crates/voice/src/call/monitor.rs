//! `ListenIn`, `BargeIn`, `CancelSupervisorMonitoring`, `SwitchToBargeIn`, `SwitchToListenIn`.
//!
//! A supervisor asks once, on the device; from then on every call of the agent becomes a call of the supervisor too,
//! when the agent is established on it, and each call once: a supervisor who hangs up stays out of that call.
//! The monitored agent is told by `supervisorListeningIn`. A supervisor who barges in is a participant for everyone.
//!
//! The source leaves open what `CancelSupervisorMonitoring` does to a call in progress; here the supervisor leaves it.

use std::sync::Arc;

use super::model::{CallId, Monitoring};
use super::operation::MonitorRequest;
use super::refusal::{Refusal, StatusCode};
use super::turn::{Accepted, Turn};
use crate::agent::{Role, device_id};
use crate::message::NotificationType;

/// Whether a supervisor is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorMode {
    /// Silent, and seen by nobody but the monitored agent.
    ListenIn,
    /// A participant.
    BargeIn,
}

impl MonitorMode {
    pub(super) fn name(self) -> &'static str {
        match self {
            MonitorMode::ListenIn => "ListenIn",
            MonitorMode::BargeIn => "BargeIn",
        }
    }
}

impl Turn<'_> {
    pub(super) fn monitor(&mut self, request: MonitorRequest) -> Accepted {
        self.require_supervisor()?;
        self.require_session()?;
        let agent = self.agent_of(&request.target_device_uri)?;
        if self.switch.monitoring_by_supervisor.contains_key(&self.user) {
            return Err(Refusal::invalid("The device monitors somebody already."));
        }
        let monitoring = Monitoring {
            agent,
            how: request.how,
            scope: request.scope,
            mode: request.mode,
            joined: Default::default(),
        };
        self.switch
            .monitoring_by_supervisor
            .insert(self.user.clone(), monitoring);
        let user = self.user.clone();
        self.tell_device(&user);
        Ok(())
    }

    pub(super) fn cancel_monitoring(&mut self) -> Accepted {
        self.require_supervisor()?;
        let Some(monitoring) = self.switch.monitoring_by_supervisor.remove(&self.user) else {
            return Err(Refusal::invalid("The device monitors nobody."));
        };
        let user = self.user.clone();
        for id in &monitoring.joined {
            if self.is_monitoring(&user, id) {
                self.leave(id, &user);
            }
        }
        self.tell_device(&user);
        Ok(())
    }

    pub(super) fn switch_to_barge_in(&mut self, id: &CallId) -> Accepted {
        self.require_supervisor()?;
        self.switch_mode(id, MonitorMode::ListenIn, MonitorMode::BargeIn)
    }

    /// The last but one who can be heard must stay heard.
    pub(super) fn switch_to_listen_in(&mut self, id: &CallId) -> Accepted {
        self.require_supervisor()?;
        if self.call(id).heard() <= 2 {
            return Err(Refusal::invalid("Nobody would be left to listen to."));
        }
        self.switch_mode(id, MonitorMode::BargeIn, MonitorMode::ListenIn)
    }

    fn switch_mode(&mut self, id: &CallId, from: MonitorMode, to: MonitorMode) -> Accepted {
        let user = self.user.clone();
        let party = self.call_mut(id).party_mut(&user);
        let monitor = party.and_then(|party| Some((&mut party.muted, party.monitor.as_mut()?)));
        match monitor {
            Some((muted, monitor)) if monitor.mode == from => {
                monitor.mode = to;
                *muted = to == MonitorMode::ListenIn;
            }
            _ => {
                return Err(Refusal::invalid(format!(
                    "The call is not monitored by {}.",
                    from.name()
                )));
            }
        }
        self.tell(id, &user, NotificationType::StatusChange);
        self.tell_others(id, &user, NotificationType::ParticipantsUpdated);
        Ok(())
    }

    pub(super) fn is_monitoring(&self, supervisor: &str, id: &CallId) -> bool {
        let call = self.switch.call_by_id.get(id);
        call.and_then(|call| call.party(supervisor))
            .is_some_and(|party| party.monitor.is_some())
    }

    fn require_supervisor(&self) -> Accepted {
        match self.line().role {
            Role::Supervisor => Ok(()),
            Role::Agent => Err(Refusal::new(
                StatusCode::NoPermission,
                "The user lacks the feature 'api-supervisor-monitoring'.",
            )),
        }
    }

    fn agent_of(&self, device_uri: &str) -> Accepted<Arc<str>> {
        let id = device_uri.rsplit('/').next().unwrap_or_default();
        let agent = self.switch.line_by_user.keys().find(|user| device_id(user) == id);
        match agent {
            Some(agent) if *agent == self.user => {
                Err(Refusal::invalid("A supervisor cannot monitor itself."))
            }
            Some(agent) => Ok(agent.clone()),
            None => Err(Refusal::new(
                StatusCode::NotFound,
                format!("Device '{device_uri}' is not found."),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::call::office::Office;

    #[test]
    fn monitoring_shows_on_the_supervisors_device() {
        let mut office = Office::open();
        office.listen_in("15009", "15000");
        office.expect(&["15009 DeviceStateChange NotReady ListenIn"]);
    }

    #[test]
    fn an_established_call_of_the_agent_becomes_a_call_of_the_supervisor() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.dial("15000", "15001");
        office.on("15001", &call, "Answer");
        office.expect(&[
            "15001 StatusChange Established [15000]",
            "15000 StatusChange Established [15001]",
            "15009 StatusChange Established [15000, 15001]",
            "15001 StatusChange Established [15000]",
        ]);
    }

    #[test]
    fn only_the_monitored_agent_knows_that_somebody_listens() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.connect("15000", "15001");
        let told = ["15000", "15001"].map(|user| office.view(user, &call)["supervisorListeningIn"].clone());
        assert_eq!(told, [json!(false), json!(true)]);
    }

    #[test]
    fn a_listening_supervisor_is_muted() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.connect("15000", "15001");
        assert_eq!(office.view("15009", &call)["mute"], "On");
    }

    #[test]
    fn a_supervisor_may_join_a_call_that_is_up_already() {
        let mut office = Office::open();
        office.connect("15000", "15001");
        office.listen_in("15009", "15001");
        office.expect(&[
            "15009 DeviceStateChange NotReady ListenIn",
            "15009 StatusChange Established [15000, 15001]",
            "15001 StatusChange Established [15000]",
        ]);
    }

    #[test]
    fn who_barges_in_is_a_participant_for_everyone() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.connect("15000", "15001");
        office.on("15009", &call, "SwitchToBargeIn");
        office.expect(&[
            "15009 StatusChange Established [15000, 15001]",
            "15000 ParticipantsUpdated Established [15001, 15009]",
            "15001 ParticipantsUpdated Established [15000, 15009]",
        ]);
    }

    #[test]
    fn who_barges_in_is_not_muted_any_more() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.connect("15000", "15001");
        office.on("15009", &call, "SwitchToBargeIn");
        assert_eq!(office.view("15009", &call)["mute"], "Off");
    }

    #[test]
    fn who_is_left_with_one_other_is_not_offered_to_remove_them() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.connect("15000", "15001");
        office.on("15009", &call, "SwitchToBargeIn");
        office.on("15001", &call, "Hangup");
        assert!(
            !office
                .capabilities("15009", &call)
                .contains(&"RemoveParticipantFromConference".into())
        );
    }

    #[test]
    fn who_listens_again_is_seen_no_more() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.connect("15000", "15001");
        office.on("15009", &call, "SwitchToBargeIn");
        office.on("15009", &call, "SwitchToListenIn");
        office.expect(&[
            "15009 StatusChange Established [15000, 15001]",
            "15000 ParticipantsUpdated Established [15001]",
            "15001 ParticipantsUpdated Established [15000]",
        ]);
    }

    #[test]
    fn a_barged_in_supervisor_is_offered_what_the_samples_show() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.connect("15000", "15001");
        office.on("15009", &call, "SwitchToBargeIn");
        let offered = office.capabilities("15009", &call);
        assert_eq!(
            offered[11..],
            ["SwitchToListenIn", "RemoveParticipantFromConference"]
        );
    }

    #[test]
    fn a_supervisor_who_hangs_up_stays_out_of_that_call() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        let call = office.connect("15000", "15001");
        office.on("15009", &call, "Hangup");
        office.expect(&[
            "15009 StatusChange Released []",
            "15001 StatusChange Established [15000]",
        ]);
    }

    #[test]
    fn cancelled_monitoring_leaves_the_call_and_clears_the_device() {
        let mut office = Office::open();
        office.listen_in("15009", "15001");
        office.connect("15000", "15001");
        office.on_device("15009", json!({"operationName": "CancelSupervisorMonitoring"}));
        office.expect(&[
            "15009 StatusChange Released []",
            "15001 StatusChange Established [15000]",
            "15009 DeviceStateChange NotReady",
        ]);
    }

    #[test]
    fn monitoring_of_the_next_call_ends_with_that_call() {
        let mut office = Office::open();
        let mut request = Office::monitor("ListenIn", "15001");
        request["supervisorMonitoringMode"] = json!("NextCall");
        office.on_device("15009", request);
        let call = office.connect("15000", "15001");
        office.on("15000", &call, "Hangup");
        office.expect(&[
            "15000 StatusChange Released []",
            "15001 StatusChange Released []",
            "15009 StatusChange Released []",
            "15009 DeviceStateChange NotReady",
        ]);
    }

    #[test]
    fn who_follows_the_agent_leaves_with_the_agent() {
        let mut office = Office::open();
        let mut request = Office::monitor("ListenIn", "15001");
        request["supervisorMonitoringScope"] = json!("Agent");
        office.on_device("15009", request);
        let call = office.conference();
        office.on("15001", &call, "Hangup");
        office.expect(&[
            "15001 StatusChange Released []",
            "15009 StatusChange Released []",
            "15000 ParticipantsUpdated Established [15002]",
            "15002 ParticipantsUpdated Established [15000]",
        ]);
    }

    #[test]
    fn an_agent_lacks_the_permission_to_monitor() {
        let mut office = Office::open();
        assert_eq!(
            office.refused_on_device("15000", Office::monitor("ListenIn", "15001")),
            5
        );
    }

    #[test]
    fn an_unknown_device_cannot_be_monitored() {
        let mut office = Office::open();
        assert_eq!(
            office.refused_on_device("15009", Office::monitor("ListenIn", "19999")),
            6
        );
    }
}
