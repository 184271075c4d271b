//! `DeviceStateChangeMessage`: an agent's device and the agent's own state.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Switched;

/// A change of an agent's devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStateChangeMessage {
    /// The devices after the change.
    pub devices: Vec<Device>,
    /// Always `DeviceStateChangeMessage`.
    pub message_type: DeviceStateChange,
    /// Fields that are not documented, such as `metrics`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl fmt::Display for DeviceStateChangeMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceStateChange")?;
        for device in &self.devices {
            write!(f, " {}", device.user_state.name())?;
            if let Some(monitoring) = &device.supervisor_monitoring_state {
                write!(f, " {}", monitoring.state)?;
            }
        }
        Ok(())
    }
}

/// The `messageType` of a [`DeviceStateChangeMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DeviceStateChange {
    /// The one value there is.
    #[default]
    #[serde(rename = "DeviceStateChangeMessage")]
    Tag,
}

/// One telephone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// A UUID; the last segment of `deviceUri`.
    pub id: String,
    /// Whether the device is in use by a logged-in agent.
    pub device_state: DeviceState,
    /// The agent's state.
    pub user_state: UserState,
    /// The number of the device.
    pub phone_number: Arc<str>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The number in E.164, or the number again.
    pub e164_number: Arc<str>,
    /// `Private` in every capture.
    pub telephony_network: Cow<'static, str>,
    /// Whether calls are kept away.
    pub do_not_disturb: Switched,
    /// The switch behind the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice_environment_uri: Option<String>,
    /// Operations on the device that the agent may ask for; unordered.
    pub capabilities: Vec<Cow<'static, str>>,
    /// The media of the device.
    #[serde(default)]
    pub channels: Vec<Cow<'static, str>>,
    /// Whether the number changes with each log-in.
    #[serde(default)]
    pub dynamic_phone_number: bool,
    /// Whom this supervisor monitors; absent when nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor_monitoring_state: Option<SupervisorMonitoringState>,
    /// Fields that are not documented.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Whether a device is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceState {
    /// An agent is logged in.
    Active,
    /// Nobody is.
    Inactive,
}

/// An agent state: one of the system states, or one that a contact centre defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserState {
    /// The id of the state definition.
    pub id: Cow<'static, str>,
    /// A name for people.
    pub display_name: Cow<'static, str>,
    /// `Ready`, `NotReady` or `LoggedOut`.
    pub state: Cow<'static, str>,
    /// Why not ready: `AfterCallWork` or `AuxWork`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_mode: Option<Cow<'static, str>>,
}

impl UserState {
    /// The most telling word of the state: the work mode, or else the state.
    pub fn name(&self) -> &str {
        self.work_mode.as_deref().unwrap_or(&self.state)
    }
}

/// What a supervisor's device does. The values of `state` are this crate's choice; the source names only the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SupervisorMonitoringState {
    /// `ListenIn` or `BargeIn`.
    pub state: Cow<'static, str>,
    /// One call or all of them.
    pub mode: MonitoringMode,
    /// Follow the agent or the call.
    pub scope: MonitoringScope,
    /// The monitored agent's device.
    pub target_device_uri: String,
}

/// How many calls are monitored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MonitoringMode {
    /// The next call, then monitoring ends.
    NextCall,
    /// Every call until it is cancelled.
    #[default]
    AllCalls,
}

/// How long one call is monitored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MonitoringScope {
    /// While the monitored agent is on the call.
    Agent,
    /// Until the call ends.
    #[default]
    Call,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURED: &str = r#"{"devices":[{"id":"631608b3","deviceState":"Active","userState":{"id":"9430250E","displayName":"Ready","state":"Ready"},"phoneNumber":"5001","description":"5001","e164Number":"5001","telephonyNetwork":"Private","doNotDisturb":"Off","voiceEnvironmentUri":"http://h/api/v2/voice-environments/1","capabilities":["DoNotDisturbOn"],"channels":["voice"],"dynamicPhoneNumber":false}],"messageType":"DeviceStateChangeMessage","metrics":{}}"#;

    #[test]
    fn a_device_message_comes_back_byte_for_byte() {
        let message: DeviceStateChangeMessage = serde_json::from_str(CAPTURED).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), CAPTURED);
    }

    #[test]
    fn a_device_message_is_one_line_to_a_reader() {
        let message: DeviceStateChangeMessage = serde_json::from_str(CAPTURED).unwrap();
        assert_eq!(message.to_string(), "DeviceStateChange Ready");
    }
}
