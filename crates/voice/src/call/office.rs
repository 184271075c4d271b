//! A contact centre for the unit tests: agents 15000 to 15003 and the supervisor 15009.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Operation, Refusal, Switch};
use crate::agent::{Agent, device_id};
use crate::message::Notification;

pub(super) struct Office {
    switch: Switch,
    now: Duration,
    /// What the last operation said.
    last: Vec<Notification>,
}

impl Office {
    /// Nobody is logged in.
    pub(super) fn closed() -> Self {
        let agents = ["15000", "15001", "15002", "15003"].map(|user| Agent::new(user, "secret"));
        let supervisor = Agent::new("15009", "secret").supervisor();
        let switch = Switch::new(
            "http://127.0.0.1:8080/api/v2",
            agents.iter().chain([&supervisor]),
            [1; 16],
        );
        Office {
            switch,
            now: Duration::ZERO,
            last: Vec::new(),
        }
    }

    /// Everybody is logged in.
    pub(super) fn open() -> Self {
        let mut office = Office::closed();
        for user in ["15000", "15001", "15002", "15003", "15009"] {
            office.log_in(user);
        }
        office
    }

    pub(super) fn after_seconds(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    pub(super) fn log_in(&mut self, user: &str) {
        let body = json!({"operationName": "StartContactCenterSession", "channels": ["voice"]});
        self.take(user, Operation::on_user(&body));
    }

    pub(super) fn enter(&mut self, user: &str, state: &str) -> Vec<Value> {
        self.take(
            user,
            Operation::on_voice_channel(&json!({"operationName": state})),
        )
    }

    /// Dials and returns the new call, or nothing if there is none.
    pub(super) fn dial(&mut self, user: &str, number: &str) -> String {
        let said = self.take(user, Operation::on_device_calls(&Office::to("Dial", number)));
        said[0]["call"]["id"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn connect(&mut self, user: &str, number: &str) -> String {
        let call = self.dial(user, number);
        self.on(number, &call, "Answer");
        call
    }

    /// 15000 speaks with 15001 and then consults 15002: the first call and the consult call.
    pub(super) fn consult(&mut self, operation: &str) -> (String, String) {
        let call = self.connect("15000", "15001");
        let said = self.on_with("15000", &call, Office::to(operation, "15002"));
        let consult = said[1]["call"]["id"].as_str().unwrap().to_owned();
        self.on("15002", &consult, "Answer");
        (call, consult)
    }

    /// 15000, 15001 and 15002 in a conference that 15000 owns.
    pub(super) fn conference(&mut self) -> String {
        let (call, _) = self.consult("InitiateConference");
        self.on("15000", &call, "CompleteConference");
        call
    }

    /// 15000 on a call with 15009, who barged in, follows 15000, and is the only other left.
    pub(super) fn alone_with_a_following_supervisor(&mut self) -> String {
        let mut request = Office::monitor("BargeIn", "15000");
        request["supervisorMonitoringScope"] = json!("Agent");
        self.on_device("15009", request);
        let call = self.connect("15000", "15001");
        self.on("15001", &call, "Hangup");
        call
    }

    pub(super) fn listen_in(&mut self, supervisor: &str, agent: &str) {
        self.on_device(supervisor, Office::monitor("ListenIn", agent));
    }

    pub(super) fn to(operation: &str, number: &str) -> Value {
        json!({"operationName": operation, "destination": {"phoneNumber": number}})
    }

    pub(super) fn monitor(operation: &str, agent: &str) -> Value {
        let device = format!("http://127.0.0.1:8080/api/v2/devices/{}", device_id(agent));
        json!({"operationName": operation, "targetDeviceUri": device})
    }

    pub(super) fn on(&mut self, user: &str, call: &str, operation: &str) -> Vec<Value> {
        self.on_with(user, call, json!({"operationName": operation}))
    }

    pub(super) fn on_with(&mut self, user: &str, call: &str, body: Value) -> Vec<Value> {
        self.take(user, Operation::on_call(call, &body))
    }

    pub(super) fn on_device(&mut self, user: &str, body: Value) -> Vec<Value> {
        self.take(user, Operation::on_device(&body))
    }

    pub(super) fn refused(&mut self, user: &str, call: &str, operation: &str) -> u8 {
        self.refused_with(user, call, json!({"operationName": operation}))
    }

    pub(super) fn refused_with(&mut self, user: &str, call: &str, body: Value) -> u8 {
        self.refuse(user, Operation::on_call(call, &body))
    }

    pub(super) fn refused_on_device(&mut self, user: &str, body: Value) -> u8 {
        self.refuse(user, Operation::on_device(&body))
    }

    pub(super) fn refused_dial(&mut self, user: &str, number: &str) -> u8 {
        self.refuse(user, Operation::on_device_calls(&Office::to("Dial", number)))
    }

    pub(super) fn refused_state(&mut self, user: &str, state: &str) -> u8 {
        self.refuse(
            user,
            Operation::on_voice_channel(&json!({"operationName": state})),
        )
    }

    pub(super) fn view(&self, user: &str, call: &str) -> Value {
        serde_json::to_value(self.switch.call_of(self.now, user, call).unwrap()).unwrap()
    }

    pub(super) fn state(&self, user: &str, call: &str) -> String {
        self.switch
            .call_of(self.now, user, call)
            .unwrap()
            .state
            .to_string()
    }

    pub(super) fn capabilities(&self, user: &str, call: &str) -> Vec<String> {
        let call = self.switch.call_of(self.now, user, call).unwrap();
        call.capabilities.into_iter().map(String::from).collect()
    }

    /// Compares with what the last operation said, one line per notification: the user, then its one-liner.
    #[track_caller]
    pub(super) fn expect(&self, lines: &[&str]) {
        let said: Vec<String> = self
            .last
            .iter()
            .map(|said| format!("{} {said}", said.user))
            .collect();
        assert_eq!(said, lines);
    }

    #[track_caller]
    pub(super) fn expect_no_calls(&self) {
        assert!(self.switch.call_by_id.is_empty());
        assert!(
            self.switch
                .line_by_user
                .values()
                .all(|line| line.calls.is_empty())
        );
    }

    /// An operation that may be refused, on one of the user's calls.
    pub(super) fn try_on_call(&mut self, user: &str, call: usize, body: &Value) {
        let line = &self.switch.line_by_user[user];
        if let Some(id) = line.calls.get(call).cloned() {
            self.attempt(user, Operation::on_call(id.as_str(), body));
        }
    }

    pub(super) fn try_dial(&mut self, user: &str, number: &str) {
        self.attempt(user, Operation::on_device_calls(&Office::to("Dial", number)));
    }

    pub(super) fn try_on_device(&mut self, user: &str, body: &Value) {
        self.attempt(user, Operation::on_device(body));
    }

    /// What the last operation said, and to whom.
    pub(super) fn said(&self) -> Vec<(String, Value)> {
        let said = self.last.iter();
        said.map(|said| {
            (
                said.user.to_string(),
                serde_json::to_value(&said.message).unwrap(),
            )
        })
        .collect()
    }

    /// Lines and calls agree, every call has two who can be heard, and its bounds hold.
    #[track_caller]
    pub(super) fn expect_consistent(&self) {
        let Switch {
            line_by_user,
            call_by_id,
            ..
        } = &self.switch;
        for (user, line) in line_by_user {
            for id in &line.calls {
                assert!(call_by_id[id].party(user).is_some(), "{user} is not on its call");
            }
        }
        for (id, call) in call_by_id {
            assert!(call.heard() >= 2, "nobody to talk to: {call:?}");
            assert!(call.has_room_for(0), "too many parties: {call:?}");
            for party in &call.parties {
                let line = line_by_user.get(&party.number);
                assert!(
                    line.is_none_or(|line| line.calls.contains(id)),
                    "a line misses its call: {call:?}"
                );
            }
        }
    }

    fn attempt(&mut self, user: &str, operation: Result<Operation, Refusal>) {
        let said = operation.and_then(|operation| self.switch.perform(self.now, user, operation));
        self.last = said.unwrap_or_default();
    }

    #[track_caller]
    fn take(&mut self, user: &str, operation: Result<Operation, Refusal>) -> Vec<Value> {
        self.last = self.switch.perform(self.now, user, operation.unwrap()).unwrap();
        self.last
            .iter()
            .map(|said| serde_json::to_value(&said.message).unwrap())
            .collect()
    }

    #[track_caller]
    fn refuse(&mut self, user: &str, operation: Result<Operation, Refusal>) -> u8 {
        let before = format!("{:?}", self.switch);
        let refusal = operation
            .and_then(|operation| self.switch.perform(self.now, user, operation))
            .unwrap_err();
        assert_eq!(format!("{:?}", self.switch), before, "a refusal changes nothing");
        refusal.status.number()
    }
}
