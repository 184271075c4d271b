//! Requests, parsed once: after this file nobody looks at JSON again.

use serde_json::{Map, Value};

use super::agent_state::AgentState;
use super::monitor::MonitorMode;
use super::refusal::{Refusal, StatusCode};
use crate::message::{MonitoringMode, MonitoringScope};

/// What a user asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// `POST /me`, `StartContactCenterSession`.
    StartContactCenterSession,
    /// `POST /me`, `EndContactCenterSession`.
    EndContactCenterSession,
    /// `POST /me/channels/voice`: `Ready`, `NotReady`, `AfterCallWork`, `AuxWork`, `Offline`.
    SetState(AgentState),
    /// `POST /me/devices/{id}/calls`, `Dial`.
    Dial(Destination),
    /// `POST /me/devices/{id}`, `ListenIn` or `BargeIn`.
    Monitor(MonitorRequest),
    /// `POST /me/devices/{id}`, `CancelSupervisorMonitoring`.
    CancelSupervisorMonitoring,
    /// `POST /me/calls/{id}`.
    OnCall {
        /// The call, from the path.
        id: String,
        /// What to do with it.
        operation: CallOperation,
    },
}

/// What a party of a call asks for.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the operation names of the Voice API")]
pub enum CallOperation {
    Answer,
    Hangup,
    ClearCall,
    Hold,
    Retrieve,
    SwapCalls,
    SendDtmf { digits: String },
    MuteCall,
    UnmuteCall,
    InitiateConference(Destination),
    CompleteConference { consult_call_uri: Option<String> },
    SingleStepConference(Destination),
    InitiateTransfer(Destination),
    CompleteTransfer { consult_call_uri: Option<String> },
    SingleStepTransfer(Destination),
    AttachUserData(Map<String, Value>),
    UpdateUserData(Map<String, Value>),
    DeleteUserDataPair { key: String },
    DeleteUserData,
    RemoveParticipantFromConference { participant: String },
    SwitchToBargeIn,
    SwitchToListenIn,
}

/// Whom to call.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// An agent's number or an outside number.
    pub number: String,
    /// What to attach to the new call.
    pub user_data: Map<String, Value>,
}

/// Whom to monitor, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitorRequest {
    /// Silent or speaking.
    pub how: MonitorMode,
    /// The monitored agent's device.
    pub target_device_uri: String,
    /// Follow the agent or the call.
    pub scope: MonitoringScope,
    /// One call or all of them.
    pub mode: MonitoringMode,
}

impl Operation {
    /// Parses the body of `POST /me`. Agent states are taken here too: older clients send them to this address.
    pub fn on_user(body: &Value) -> Result<Self, Refusal> {
        let body = Body::new(body)?;
        match body.operation()? {
            "StartContactCenterSession" => body
                .voice_channel()
                .map(|()| Operation::StartContactCenterSession),
            "EndContactCenterSession" => Ok(Operation::EndContactCenterSession),
            other => AgentState::of_operation(other)
                .map(Operation::SetState)
                .ok_or_else(|| unknown(other)),
        }
    }

    /// Parses the body of `POST /me/channels/voice`.
    pub fn on_voice_channel(body: &Value) -> Result<Self, Refusal> {
        let name = Body::new(body)?.operation()?;
        AgentState::of_operation(name)
            .map(Operation::SetState)
            .ok_or_else(|| unknown(name))
    }

    /// Parses the body of `POST /me/devices/{id}`.
    pub fn on_device(body: &Value) -> Result<Self, Refusal> {
        let body = Body::new(body)?;
        match body.operation()? {
            "ListenIn" => body.monitor(MonitorMode::ListenIn).map(Operation::Monitor),
            "BargeIn" => body.monitor(MonitorMode::BargeIn).map(Operation::Monitor),
            "CancelSupervisorMonitoring" => Ok(Operation::CancelSupervisorMonitoring),
            other => Err(unknown(other)),
        }
    }

    /// Parses the body of `POST /me/devices/{id}/calls`.
    pub fn on_device_calls(body: &Value) -> Result<Self, Refusal> {
        let body = Body::new(body)?;
        match body.operation()? {
            "Dial" => body.destination().map(Operation::Dial),
            other => Err(unknown(other)),
        }
    }

    /// Parses the body of `POST /me/calls/{id}`.
    pub fn on_call(id: &str, body: &Value) -> Result<Self, Refusal> {
        let operation = CallOperation::parse(&Body::new(body)?)?;
        Ok(Operation::OnCall {
            id: id.to_owned(),
            operation,
        })
    }
}

impl CallOperation {
    fn parse(body: &Body<'_>) -> Result<Self, Refusal> {
        Ok(match body.operation()? {
            "Answer" => CallOperation::Answer,
            "Hangup" => CallOperation::Hangup,
            "ClearCall" => CallOperation::ClearCall,
            "Hold" => CallOperation::Hold,
            "Retrieve" => CallOperation::Retrieve,
            "SwapCalls" => CallOperation::SwapCalls,
            "SendDtmf" => CallOperation::SendDtmf { digits: body.dtmf()? },
            "MuteCall" => CallOperation::MuteCall,
            "UnmuteCall" => CallOperation::UnmuteCall,
            "InitiateConference" => CallOperation::InitiateConference(body.destination()?),
            "CompleteConference" => CallOperation::CompleteConference {
                consult_call_uri: body.consult_call()?,
            },
            "SingleStepConference" => CallOperation::SingleStepConference(body.destination()?),
            "InitiateTransfer" => CallOperation::InitiateTransfer(body.destination()?),
            "CompleteTransfer" => CallOperation::CompleteTransfer {
                consult_call_uri: body.consult_call()?,
            },
            "SingleStepTransfer" => CallOperation::SingleStepTransfer(body.destination()?),
            "AttachUserData" => CallOperation::AttachUserData(body.required_object("userData")?),
            "UpdateUserData" => CallOperation::UpdateUserData(body.required_object("userData")?),
            "DeleteUserDataPair" => CallOperation::DeleteUserDataPair {
                key: body.required_text("key")?,
            },
            "DeleteUserData" => CallOperation::DeleteUserData,
            "RemoveParticipantFromConference" => CallOperation::RemoveParticipantFromConference {
                participant: body.required_text("participant")?,
            },
            "SwitchToBargeIn" => CallOperation::SwitchToBargeIn,
            "SwitchToListenIn" => CallOperation::SwitchToListenIn,
            other => return Err(unknown(other)),
        })
    }
}

/// The parameters of a request.
struct Body<'a>(&'a Map<String, Value>);

impl<'a> Body<'a> {
    fn new(body: &'a Value) -> Result<Self, Refusal> {
        body.as_object()
            .map(Body)
            .ok_or_else(|| malformed("The request body must be a JSON object."))
    }

    fn operation(&self) -> Result<&'a str, Refusal> {
        self.text("operationName")?
            .ok_or_else(|| Refusal::missing("operationName"))
    }

    /// An empty string counts as missing.
    fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(malformed(format!("Parameter '{name}' must be a string."))),
        }
    }

    fn required_text(&self, name: &str) -> Result<String, Refusal> {
        self.text(name)?
            .map(str::to_owned)
            .ok_or_else(|| Refusal::missing(name))
    }

    fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(malformed(format!("Parameter '{name}' must be an object."))),
        }
    }

    fn required_object(&self, name: &str) -> Result<Map<String, Value>, Refusal> {
        self.object(name)?.cloned().ok_or_else(|| Refusal::missing(name))
    }

    fn destination(&self) -> Result<Destination, Refusal> {
        let destination = self
            .object("destination")?
            .ok_or_else(|| Refusal::missing("destination"))?;
        let number = Body(destination).required_text("phoneNumber")?;
        let digits = number.strip_prefix('+').unwrap_or(&number);
        if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed(format!("'{number}' is not a phone number.")));
        }
        let user_data = self.object("userData")?.cloned().unwrap_or_default();
        Ok(Destination { number, user_data })
    }

    fn dtmf(&self) -> Result<String, Refusal> {
        let digits = self.required_text("digits")?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(digits)
        } else {
            Err(malformed("Parameter 'digits' may contain 0 to 9 only."))
        }
    }

    fn consult_call(&self) -> Result<Option<String>, Refusal> {
        Ok(self.text("consultCallUri")?.map(str::to_owned))
    }

    fn monitor(&self, how: MonitorMode) -> Result<MonitorRequest, Refusal> {
        let target_device_uri = self.required_text("targetDeviceUri")?;
        let scope = match self.text("supervisorMonitoringScope")? {
            None | Some("Call") => MonitoringScope::Call,
            Some("Agent") => MonitoringScope::Agent,
            Some(other) => return Err(malformed(format!("'{other}' is no supervisorMonitoringScope."))),
        };
        let mode = match self.text("supervisorMonitoringMode")? {
            None | Some("AllCalls") => MonitoringMode::AllCalls,
            Some("NextCall") => MonitoringMode::NextCall,
            Some(other) => return Err(malformed(format!("'{other}' is no supervisorMonitoringMode."))),
        };
        Ok(MonitorRequest {
            how,
            target_device_uri,
            scope,
            mode,
        })
    }

    fn voice_channel(&self) -> Result<(), Refusal> {
        match self.0.get("channels") {
            None | Some(Value::Null) => Err(Refusal::missing("channels")),
            Some(Value::Array(channels)) if channels.iter().any(|channel| channel == "voice") => Ok(()),
            Some(_) => Err(Refusal::invalid("Only the channel 'voice' can be started.")),
        }
    }
}

fn unknown(operation: &str) -> Refusal {
    malformed(format!("Operation '{operation}' is not known here."))
}

fn malformed(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(body: Value) -> u8 {
        Operation::on_call("1", &body).unwrap_err().status.number()
    }

    #[test]
    fn a_missing_participant_is_a_missing_parameter() {
        assert_eq!(
            refused(json!({"operationName": "RemoveParticipantFromConference"})),
            1
        );
    }

    #[test]
    fn an_empty_participant_is_a_missing_parameter() {
        assert_eq!(
            refused(json!({"operationName": "RemoveParticipantFromConference", "participant": ""})),
            1
        );
    }

    #[test]
    fn a_participant_that_is_no_string_is_invalid_input() {
        assert_eq!(
            refused(json!({"operationName": "RemoveParticipantFromConference", "participant": 15001})),
            10
        );
    }

    #[test]
    fn a_missing_operation_name_is_a_missing_parameter() {
        assert_eq!(refused(json!({})), 1);
    }

    #[test]
    fn an_unknown_operation_is_invalid_input() {
        assert_eq!(refused(json!({"operationName": "Levitate"})), 10);
    }

    #[test]
    fn a_destination_must_be_a_number() {
        let body = json!({"operationName": "InitiateConference", "destination": {"phoneNumber": "bob"}});
        assert_eq!(refused(body), 10);
    }

    #[test]
    fn dtmf_is_digits_only() {
        assert_eq!(refused(json!({"operationName": "SendDtmf", "digits": "12a"})), 10);
    }

    #[test]
    fn monitoring_defaults_to_all_calls_and_to_the_call() {
        let body = json!({"operationName": "ListenIn", "targetDeviceUri": "http://h/devices/1"});
        let expected = MonitorRequest {
            how: MonitorMode::ListenIn,
            target_device_uri: "http://h/devices/1".into(),
            scope: MonitoringScope::Call,
            mode: MonitoringMode::AllCalls,
        };
        assert_eq!(Operation::on_device(&body), Ok(Operation::Monitor(expected)));
    }
}
