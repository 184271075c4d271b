//! `CallStateChangeMessage`: one agent's view of one call.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A change of a call, as one party of it sees it. Source: `RemoveParticipantFromConference`, sample notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallStateChangeMessage {
    /// What kind of change.
    pub notification_type: NotificationType,
    /// The call after the change.
    pub call: Call,
    /// The receiving agent's own number.
    pub phone_number: Arc<str>,
    /// T-Server extensions. Absent on `AttachedDataChanged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Map<String, Value>>,
    /// Always `CallStateChangeMessage`.
    pub message_type: CallStateChange,
    /// Fields that are not documented, such as `metrics`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl fmt::Display for CallStateChangeMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<&str> = self
            .call
            .participants
            .iter()
            .map(|other| &*other.phone_number)
            .collect();
        write!(
            f,
            "{} {} [{}]",
            self.notification_type,
            self.call.state,
            numbers.join(", ")
        )
    }
}

/// The `messageType` of a [`CallStateChangeMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CallStateChange {
    /// The one value there is.
    #[default]
    #[serde(rename = "CallStateChangeMessage")]
    Tag,
}

/// The `call` object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The T-Server call UUID, 32 characters.
    pub id: Arc<str>,
    /// The state of this party's leg.
    pub state: CallState,
    /// Equal to `id` in every sample.
    pub call_uuid: Arc<str>,
    /// 16 hexadecimal digits; absent in one capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conn_id: Option<Arc<str>>,
    /// The receiving agent's own device.
    pub device_uri: String,
    /// Everyone else on the call.
    pub participants: Vec<Participant>,
    /// The number that was dialled. It does not change when that party leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dnis: Option<Arc<str>>,
    /// The calling number of an inbound call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ani: Option<Arc<str>>,
    /// How the call came about.
    pub call_type: CallType,
    /// The operations that this party may ask for now; unordered.
    pub capabilities: Vec<Cow<'static, str>>,
    /// Attached data; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<Map<String, Value>>,
    /// Seconds since the call began, as a string.
    pub duration: String,
    /// Whether this party is muted.
    pub mute: Switched,
    /// `Stopped`, `Recording` or `Paused`; only where recording is enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_state: Option<String>,
    /// Whether a supervisor listens to this party.
    pub supervisor_listening_in: bool,
    /// Whether the monitored agent is muted.
    pub monitored_user_muted: bool,
    /// Absent in supervisors' own views and from older servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<bool>,
    /// The absolute address of this call.
    pub uri: String,
    /// The address below `/api/v2/me`.
    pub path: String,
    /// Of a consult call: the call it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_call_uri: Option<String>,
    /// Of a consult call: the path of the call it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_call_path: Option<String>,
    /// Fields that are not documented, such as `case`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Another party of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Often empty.
    pub e164_number: String,
    /// As it should be shown.
    pub formatted_phone_number: Arc<str>,
    /// As operations name this party.
    pub phone_number: Arc<str>,
    /// The digits alone.
    pub digits: Arc<str>,
}

impl Participant {
    /// A party that is known by its number only, as in the samples.
    pub fn new(number: Arc<str>) -> Self {
        Participant {
            e164_number: String::new(),
            formatted_phone_number: number.clone(),
            phone_number: number.clone(),
            digits: number,
        }
    }
}

/// The kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotificationType {
    /// The state, the mute or the monitoring mode changed.
    StatusChange,
    /// A party came or went.
    ParticipantsUpdated,
    /// User data changed.
    AttachedDataChanged,
    /// Digits were sent.
    DtmfSent,
    /// Recording began, paused or ended.
    CallRecordingStateChange,
    /// The monitored agent was muted or unmuted.
    MonitoredUserMutedStateChange,
}

impl fmt::Display for NotificationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The state of one party's leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallState {
    /// Calling out, not answered yet.
    Dialing,
    /// Being called.
    Ringing,
    /// Speaking.
    Established,
    /// Put on hold by this party.
    Held,
    /// No longer on the call.
    Released,
}

impl fmt::Display for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How a call came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallType {
    /// Between agents.
    Internal,
    /// From an outside line.
    Inbound,
    /// To an outside line.
    Outbound,
    /// From a held call, to prepare a conference or a transfer.
    Consult,
}

impl fmt::Display for CallType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// GWS writes some switches as `"On"` and `"Off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Switched {
    /// On.
    On,
    /// Off.
    #[default]
    Off,
}

impl From<bool> for Switched {
    fn from(on: bool) -> Self {
        if on { Switched::On } else { Switched::Off }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Envelope, Message};

    const SEED: &str = include_str!("../../fixtures/remove-participant.json");

    fn without_whitespace(text: &str) -> String {
        text.chars().filter(|c| !c.is_whitespace()).collect()
    }

    fn seed() -> CallStateChangeMessage {
        match serde_json::from_str::<Envelope>(SEED).unwrap().data {
            Message::Call(message) => *message,
            Message::Device(_) | Message::Error(_) => panic!("the seed is a call"),
        }
    }

    #[test]
    fn the_documented_notification_comes_back_byte_for_byte() {
        let envelope: Envelope = serde_json::from_str(SEED).unwrap();
        assert_eq!(
            serde_json::to_string(&envelope).unwrap(),
            without_whitespace(SEED)
        );
    }

    #[test]
    fn a_notification_is_one_line_to_a_reader() {
        assert_eq!(seed().to_string(), "ParticipantsUpdated Established [15002]");
    }

    #[test]
    fn what_is_not_documented_survives() {
        let mut value = serde_json::to_value(seed()).unwrap();
        value["metrics"] = serde_json::json!({"eventProcessing": {"nodeProcessingTimeNanos": 12}});
        value["call"]["case"] = serde_json::json!([]);
        value["call"]["userData"] = serde_json::json!({"WWE_PARTY_1002": {"path": "/x"}, "n": 1});
        value["extensions"]["NO_ANSWER_TIMEOUT"] = serde_json::json!(15);
        let typed: CallStateChangeMessage = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), value);
    }
}
