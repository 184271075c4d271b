//! Who is told what, each with its own view.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::model::{Call, CallId, Party};
use super::turn::{Turn, Unreachable};
use super::view::participant;
use crate::agent::device_id;
use crate::message::{
    self, CALLS, CallStateChange, CallStateChangeMessage, CallType, DEVICES, DeviceStateChange,
    DeviceStateChangeMessage, ErrorMessage, Message, Notification, NotificationType, Participant,
};

impl Turn<'_> {
    /// Tells one party, if it is an agent; an outside line has no stream.
    pub(super) fn tell(&mut self, id: &CallId, number: &str, what: NotificationType) {
        let call = self.call(id);
        let Some(party) = call.party(number) else { return };
        let view = self.switch.view(self.now, call, party);
        // The samples of AttachedDataChanged carry no extensions.
        let business = (what != NotificationType::AttachedDataChanged).then(|| business_call(call));
        let number = party.number.clone();
        self.say_call(&number, what, view, business);
    }

    /// Tells a party that it is off the call.
    pub(super) fn tell_released(&mut self, id: &CallId, party: &Party, participants: Vec<Participant>) {
        let call = self.call(id);
        let view = message::Call {
            participants,
            ..self.switch.released_view(self.now, call, party)
        };
        let business = business_call(call);
        self.say_call(
            &party.number,
            NotificationType::StatusChange,
            view,
            Some(business),
        );
    }

    /// Tells everyone on the call, the user first.
    pub(super) fn tell_all(&mut self, id: &CallId, what: NotificationType) {
        let user = self.user.clone();
        self.tell(id, &user, what);
        self.tell_others(id, &user, what);
    }

    pub(super) fn tell_others(&mut self, id: &CallId, number: &str, what: NotificationType) {
        for other in self.numbers(id) {
            if &*other != number {
                self.tell(id, &other, what);
            }
        }
    }

    /// A silent supervisor came or went: only the monitored agent is told.
    pub(super) fn tell_monitored(&mut self, id: &CallId, supervisor: &Party) {
        if let Some(monitor) = &supervisor.monitor {
            self.tell(id, &monitor.agent, NotificationType::StatusChange);
        }
    }

    /// Accepts the operation, and tells the user on the stream that the switch refused it.
    pub(super) fn fail_later(&mut self, error_code: Option<u16>, reason: impl Into<String>) {
        let error = ErrorMessage {
            error_code,
            error_message: Some(reason.into()),
            device_path: Some(format!("/devices/{}", device_id(&self.user))),
            device_uri: Some(self.switch.device_uri(&self.user)),
            ..ErrorMessage::default()
        };
        let message = Message::Error(Box::new(error));
        self.said.push(Notification {
            user: self.user.clone(),
            channel: CALLS,
            message,
        });
    }

    /// 415 with its text is what Genesys' own simulator sends; the other texts are this crate's.
    pub(super) fn fail_unreachable(&mut self, number: &str, why: Unreachable) {
        match why {
            Unreachable::Unknown => self.fail_later(Some(415), "Invalid Destination DN"),
            Unreachable::LoggedOut => self.fail_later(None, format!("Nobody is logged in at '{number}'.")),
            Unreachable::Busy => self.fail_later(None, format!("'{number}' is busy.")),
        }
    }

    /// Tells a user the state of its own device.
    pub(super) fn tell_device(&mut self, user: &str) {
        let Some((user, line)) = self.switch.line_by_user.get_key_value(user) else {
            return;
        };
        let message = DeviceStateChangeMessage {
            devices: vec![self.switch.device_view(user, line)],
            message_type: DeviceStateChange::Tag,
            rest: Map::new(),
        };
        let message = Message::Device(Box::new(message));
        self.said.push(Notification {
            user: user.clone(),
            channel: DEVICES,
            message,
        });
    }

    fn say_call(
        &mut self,
        number: &Arc<str>,
        notification_type: NotificationType,
        call: message::Call,
        extensions: Option<Map<String, Value>>,
    ) {
        if !self.switch.line_by_user.contains_key(number) {
            return;
        }
        let message = CallStateChangeMessage {
            notification_type,
            call,
            phone_number: number.clone(),
            extensions,
            message_type: CallStateChange::Tag,
            rest: Map::new(),
        };
        let message = Message::Call(Box::new(message));
        self.said.push(Notification {
            user: number.clone(),
            channel: CALLS,
            message,
        });
    }

    /// What each party sees of the others, before anything changes.
    pub(super) fn participants(&self, id: &CallId, number: &str) -> Vec<Participant> {
        self.call(id).others(number).map(participant).collect()
    }
}

/// Calls with an outside line are business calls.
fn business_call(call: &Call) -> Map<String, Value> {
    let business = matches!(call.call_type, CallType::Inbound | CallType::Outbound);
    Map::from_iter([("BusinessCall".to_owned(), json!(u8::from(business)))])
}
