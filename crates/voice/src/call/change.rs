//! Parties come and go: what every operation that changes a call is made of.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::model::{Call, CallId, Party};
use super::turn::Turn;
use crate::message::{CallType, NotificationType, Participant};

impl Turn<'_> {
    /// Puts a new call on the switch and returns its id.
    pub(super) fn open(
        &mut self,
        call_type: CallType,
        dnis: Arc<str>,
        user_data: Map<String, Value>,
    ) -> CallId {
        let (id, conn_id) = self.switch.ids.next();
        let call = Call {
            id: id.clone(),
            conn_id,
            call_type,
            dnis,
            started: self.now,
            user_data,
            parent: None,
            consult: None,
            owner: None,
            parties: Vec::new(),
        };
        self.switch.call_by_id.insert(id.clone(), call);
        id
    }

    pub(super) fn join(&mut self, id: &CallId, party: Party) {
        if let Some(line) = self.switch.line_by_user.get_mut(&party.number) {
            line.calls.push(id.clone());
        }
        self.call_mut(id).parties.push(party);
    }

    /// Takes a party off a call for good: it, and supervisors who followed it, are released; the others learn who is
    /// left, or are released too when only one of them can be heard.
    pub(super) fn leave(&mut self, id: &CallId, number: &str) {
        let Some(party) = self.call(id).party(number).cloned() else {
            return;
        };
        self.release(id, number, Vec::new());
        if !party.is_heard() {
            return self.tell_monitored(id, &party);
        }
        self.release_followers(id, number);
        self.after_departure(id);
    }

    /// Tells who is left, or ends a call that has nobody to talk to.
    pub(super) fn after_departure(&mut self, id: &CallId) {
        match self.call(id).heard() {
            0 | 1 => return self.end(id),
            2 => self.call_mut(id).owner = None,
            _ => {}
        }
        self.tell_all(id, NotificationType::ParticipantsUpdated);
    }

    /// Releases everyone who is still on the call, and forgets it.
    pub(super) fn end(&mut self, id: &CallId) {
        for number in self.numbers(id) {
            self.release(id, &number, Vec::new());
        }
        self.switch.call_by_id.remove(id);
    }

    /// Takes a party off a call and tells only that party.
    pub(super) fn release(&mut self, id: &CallId, number: &str, participants: Vec<Participant>) {
        let parties = &mut self.call_mut(id).parties;
        let Some(at) = parties.iter().position(|party| &*party.number == number) else {
            return;
        };
        let party = parties.remove(at);
        self.forget(id, number);
        self.tell_released(id, &party, participants);
    }

    /// Supervisors who monitor the agent and not the call go when the agent goes.
    pub(super) fn release_followers(&mut self, id: &CallId, agent: &str) {
        let followers: Vec<_> = self
            .call(id)
            .parties
            .iter()
            .filter(|party| party.follows(agent))
            .map(|party| party.number.clone())
            .collect();
        for supervisor in followers {
            self.release(id, &supervisor, Vec::new());
        }
    }

    /// The line no longer has the call, and a consult call made from it can no longer be completed.
    fn forget(&mut self, id: &CallId, number: &str) {
        let Some(line) = self.switch.line_by_user.get_mut(number) else {
            return;
        };
        line.calls.retain(|call| call != id);
        for other in &line.calls {
            let Some(call) = self.switch.call_by_id.get_mut(other) else {
                continue;
            };
            call.consult
                .take_if(|consult| consult.parent == *id && &*consult.by == number);
        }
    }

    pub(super) fn numbers(&self, id: &CallId) -> Vec<Arc<str>> {
        self.call(id)
            .parties
            .iter()
            .map(|party| party.number.clone())
            .collect()
    }
}
