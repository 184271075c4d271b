//! `ErrorMessage`: an operation that was accepted and failed afterwards.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The late answer "no". HTTP `statusCode` 0 only says that the request reached the switch; this says that the
/// switch refused it.
///
/// Only `messageType`, `devicePath` and `deviceUri` are captured. `errorCode` and `errorMessage` are named as on
/// `/v2/me`, and a client in the field shows `errorMessage` to its user. Every field but the type is optional.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorMessage {
    /// The T-Server error number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u16>,
    /// The reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// The path of the device that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_path: Option<String>,
    /// The address of the device that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_uri: Option<String>,
    /// Always `ErrorMessage`.
    pub message_type: ErrorTag,
    /// Fields that are not documented, such as `metrics`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl fmt::Display for ErrorMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErrorMessage")?;
        if let Some(code) = self.error_code {
            write!(f, " {code}")?;
        }
        match &self.error_message {
            Some(reason) => write!(f, " {reason}"),
            None => Ok(()),
        }
    }
}

/// The `messageType` of an [`ErrorMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ErrorTag {
    /// The one value there is.
    #[default]
    #[serde(rename = "ErrorMessage")]
    Tag,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_any_reason_still_parses() {
        let captured = r#"{"devicePath":"/devices/1","deviceUri":"http://h/api/v2/devices/1","messageType":"ErrorMessage","metrics":{}}"#;
        let message: ErrorMessage = serde_json::from_str(captured).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), captured);
    }

    #[test]
    fn an_error_reads_as_its_code_and_reason() {
        let error = ErrorMessage {
            error_code: Some(71),
            error_message: Some("Invalid Called DN".into()),
            ..ErrorMessage::default()
        };
        assert_eq!(error.to_string(), "ErrorMessage 71 Invalid Called DN");
    }
}
