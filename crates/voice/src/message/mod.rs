//! What the voice API says on a stream, as typed messages.
//!
//! Keys keep the order of the documented samples, optional fields stay absent, and fields that this crate does not
//! know survive a round trip in `rest`. Unknown values of a closed field (a new `state`, say) do not parse.

mod call;
mod device;
mod error;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use call::{
    Call, CallState, CallStateChange, CallStateChangeMessage, CallType, NotificationType, Participant,
    Switched,
};
pub use device::{
    Device, DeviceState, DeviceStateChange, DeviceStateChangeMessage, MonitoringMode, MonitoringScope,
    SupervisorMonitoringState, UserState,
};
pub use error::{ErrorMessage, ErrorTag};

/// The channel of everything about calls. The name is the same for every user; the audience is one user.
pub const CALLS: &str = "/v2/me/calls";

/// The channel of agent state, do-not-disturb and supervisor monitoring.
pub const DEVICES: &str = "/v2/me/devices";

/// One message for one user's own stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Whose stream: the agent's user name.
    pub user: Arc<str>,
    /// [`CALLS`] or [`DEVICES`].
    pub channel: &'static str,
    /// What is said.
    pub message: Message,
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

/// Any message of the voice API, told apart by its `messageType`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Message {
    /// A call changed.
    Call(Box<CallStateChangeMessage>),
    /// A device or its agent changed.
    Device(Box<DeviceStateChangeMessage>),
    /// An accepted operation failed afterwards.
    Error(Box<ErrorMessage>),
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Call(message) => message.fmt(f),
            Message::Device(message) => message.fmt(f),
            Message::Error(message) => message.fmt(f),
        }
    }
}

/// A message as a subscriber receives it: `{"data":…,"channel":…}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The message.
    pub data: Message,
    /// The channel it came on.
    pub channel: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_apart_by_its_type() {
        let error: Message =
            serde_json::from_str(r#"{"errorMessage":"no","messageType":"ErrorMessage"}"#).unwrap();
        assert!(matches!(error, Message::Error(_)));
    }

    #[test]
    fn a_message_of_an_unknown_type_does_not_parse() {
        let parsed =
            serde_json::from_str::<Message>(r#"{"devices":[],"messageType":"ChatStateChangeMessage"}"#);
        assert!(parsed.is_err());
    }
}
