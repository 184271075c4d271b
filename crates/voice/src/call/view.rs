//! What one user sees of a call and of a device.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;

use super::Switch;
use super::capability;
use super::model::{Call, Line, Party, Purpose};
use crate::agent::{Role, device_id};
use crate::message::{self, CallState, DeviceState, Participant, SupervisorMonitoringState, Switched};

impl Switch {
    /// A party's view of a call that it is on.
    pub(super) fn view(&self, now: Duration, call: &Call, party: &Party) -> message::Call {
        message::Call {
            state: party.leg.into(),
            participants: call.others(&party.number).map(participant).collect(),
            capabilities: capability::of(call, party, self.prepared(call, party)),
            ..self.released_view(now, call, party)
        }
    }

    /// A party's view of a call that it has left: nobody is there, and nothing can be done.
    pub(super) fn released_view(&self, now: Duration, call: &Call, party: &Party) -> message::Call {
        let id = call.id.as_str();
        let parent = call.parent.as_ref().map(|parent| parent.as_str());
        message::Call {
            id: call.id.0.clone(),
            state: CallState::Released,
            call_uuid: call.id.0.clone(),
            conn_id: Some(call.conn_id.clone()),
            device_uri: self.device_uri(&party.number),
            participants: Vec::new(),
            dnis: Some(call.dnis.clone()),
            ani: None,
            call_type: call.call_type,
            capabilities: Vec::new(),
            user_data: Some(&call.user_data).filter(|data| !data.is_empty()).cloned(),
            duration: now.saturating_sub(call.started).as_secs().to_string(),
            mute: Switched::from(party.muted),
            recording_state: None,
            supervisor_listening_in: is_listened_to(call, &party.number),
            monitored_user_muted: false,
            monitoring: party.monitor.is_none().then_some(false),
            uri: format!("{}/me{}", self.api, call_path(id)),
            path: call_path(id),
            parent_call_uri: parent.map(|id| format!("{}/me{}", self.api, call_path(id))),
            parent_call_path: parent.map(call_path),
            rest: Map::new(),
        }
    }

    pub(super) fn device_view(&self, user: &Arc<str>, line: &Line) -> message::Device {
        let monitoring =
            self.monitoring_by_supervisor
                .get(user)
                .map(|monitoring| SupervisorMonitoringState {
                    state: Cow::Borrowed(monitoring.how.name()),
                    mode: monitoring.mode,
                    scope: monitoring.scope,
                    target_device_uri: self.device_uri(&monitoring.agent),
                });
        message::Device {
            id: device_id(user),
            device_state: if line.is_logged_in() {
                DeviceState::Active
            } else {
                DeviceState::Inactive
            },
            user_state: line.state.user_state(),
            phone_number: user.clone(),
            description: None,
            e164_number: user.clone(),
            telephony_network: Cow::Borrowed("Private"),
            do_not_disturb: Switched::Off,
            voice_environment_uri: None,
            capabilities: device_capabilities(line.role),
            channels: vec![Cow::Borrowed("voice")],
            dynamic_phone_number: false,
            supervisor_monitoring_state: monitoring,
            rest: Map::new(),
        }
    }

    pub(super) fn device_uri(&self, number: &str) -> String {
        format!("{}/devices/{}", self.api, device_id(number))
    }

    /// What a consult call that this party made from `call` prepares.
    fn prepared(&self, call: &Call, party: &Party) -> Option<Purpose> {
        let line = self.line_by_user.get(&party.number)?;
        let consults = line
            .calls
            .iter()
            .filter_map(|id| self.call_by_id.get(id)?.consult.as_ref());
        consults
            .filter(|consult| consult.parent == call.id && consult.by == party.number)
            .map(|consult| consult.purpose)
            .next()
    }
}

/// How a party appears to the others.
pub(super) fn participant(party: &Party) -> Participant {
    Participant::new(party.number.clone())
}

fn is_listened_to(call: &Call, number: &str) -> bool {
    call.parties
        .iter()
        .filter_map(|party| party.monitor.as_ref())
        .any(|monitor| &*monitor.agent == number)
}

fn call_path(id: &str) -> String {
    format!("/calls/{id}")
}

fn device_capabilities(role: Role) -> Vec<Cow<'static, str>> {
    let names: &[&str] = match role {
        Role::Agent => &[],
        Role::Supervisor => &["ListenIn", "BargeIn", "CancelSupervisorMonitoring"],
    };
    names.iter().copied().map(Cow::Borrowed).collect()
}
