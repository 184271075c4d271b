//! After every operation: which supervisors must come into a call, and whose monitoring is over.

use std::sync::Arc;

use super::model::{CallId, Leg, Monitor, Party};
use super::monitor::MonitorMode;
use super::turn::Turn;
use crate::message::{MonitoringMode, NotificationType};

impl Turn<'_> {
    /// Brings supervisors into the calls that their agents are established on, and ends monitoring of one call when
    /// that call is over for the supervisor.
    pub(super) fn settle_monitoring(&mut self) {
        for supervisor in self
            .switch
            .monitoring_by_supervisor
            .keys()
            .cloned()
            .collect::<Vec<_>>()
        {
            for id in self.calls_to_join(&supervisor) {
                self.bring_supervisor(&supervisor, &id);
            }
            self.forget_finished(&supervisor);
        }
    }

    fn calls_to_join(&self, supervisor: &str) -> Vec<CallId> {
        let Some(monitoring) = self.switch.monitoring_by_supervisor.get(supervisor) else {
            return Vec::new();
        };
        let Some(line) = self.switch.line_by_user.get(&monitoring.agent) else {
            return Vec::new();
        };
        let most = match monitoring.mode {
            MonitoringMode::AllCalls => usize::MAX,
            MonitoringMode::NextCall => 1_usize.saturating_sub(monitoring.joined.len()),
        };
        let open = line.calls.iter().filter(|id| {
            let call = self.call(id);
            let agent = call.party(&monitoring.agent);
            let spoken = agent.is_some_and(|party| matches!(party.leg, Leg::Established | Leg::Held));
            let new = !monitoring.joined.contains(*id) && call.party(supervisor).is_none();
            spoken && new && call.has_room_for(1)
        });
        open.take(most).cloned().collect()
    }

    fn bring_supervisor(&mut self, supervisor: &Arc<str>, id: &CallId) {
        let Some(monitoring) = self.switch.monitoring_by_supervisor.get_mut(supervisor) else {
            return;
        };
        monitoring.joined.insert(id.clone());
        let monitor = Monitor {
            agent: monitoring.agent.clone(),
            mode: monitoring.how,
            scope: monitoring.scope,
        };
        let party = Party {
            muted: monitor.mode == MonitorMode::ListenIn,
            monitor: Some(monitor),
            ..Party::new(supervisor.clone(), Leg::Established)
        };
        self.join(id, party.clone());
        self.tell(id, supervisor, NotificationType::StatusChange);
        if party.is_heard() {
            self.tell_others(id, supervisor, NotificationType::ParticipantsUpdated);
        } else {
            self.tell_monitored(id, &party);
        }
    }

    /// Drops calls that are over from what was joined; `NextCall` ends with the one it was for.
    fn forget_finished(&mut self, supervisor: &Arc<str>) {
        let Some(monitoring) = self.switch.monitoring_by_supervisor.get(supervisor) else {
            return;
        };
        let finished = !monitoring.joined.is_empty()
            && !monitoring
                .joined
                .iter()
                .any(|id| self.is_monitoring(supervisor, id));
        if finished && monitoring.mode == MonitoringMode::NextCall {
            self.switch.monitoring_by_supervisor.remove(supervisor);
            self.tell_device(supervisor);
            return;
        }
        let live = &self.switch.call_by_id;
        if let Some(monitoring) = self.switch.monitoring_by_supervisor.get_mut(supervisor) {
            monitoring.joined.retain(|id| live.contains_key(id));
        }
    }
}
