//! The answer "no": a GWS status code and a sentence for people.

use std::fmt;

/// Why an operation was not accepted. Nothing has changed and nothing was notified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, for programs.
    pub status: StatusCode,
    /// The reason, for people: `statusMessage`. The source leaves these texts open.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refusal {
            status,
            message: message.into(),
        }
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Refusal::new(
            StatusCode::ParameterMissing,
            format!("Required parameter '{parameter}' is missing."),
        )
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::InvalidState, message)
    }

    pub(crate) fn call_not_found(id: &str) -> Self {
        Refusal::new(StatusCode::NotFound, format!("Call '{id}' is not found."))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statusCode {}: {}", self.status.number(), self.message)
    }
}

impl std::error::Error for Refusal {}

/// The status codes of GWS 8.6 that this crate answers with (`ReturnValues`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    /// A required parameter is missing.
    ParameterMissing,
    /// A parameter, or the operation itself, does not fit the current state.
    InvalidState,
    /// The operation is forbidden.
    Forbidden,
    /// GWS or a server behind it failed.
    Internal,
    /// The user lacks permission.
    NoPermission,
    /// There is no such resource.
    NotFound,
    /// The input is not well formed.
    InvalidInput,
    /// The user is not authenticated.
    NotAuthenticated,
}

impl StatusCode {
    /// The number in `statusCode`.
    pub fn number(self) -> u8 {
        self.row().0
    }

    /// The HTTP status that carries it. Captures show 4 with 500 and 20 with 403; the source leaves the others open,
    /// so they are chosen here by the meaning of the HTTP status.
    pub fn http_status(self) -> u16 {
        self.row().1
    }

    fn row(self) -> (u8, u16) {
        match self {
            StatusCode::ParameterMissing => (1, 400),
            StatusCode::InvalidState => (2, 400),
            StatusCode::Forbidden => (3, 403),
            StatusCode::Internal => (4, 500),
            StatusCode::NoPermission => (5, 403),
            StatusCode::NotFound => (6, 404),
            StatusCode::InvalidInput => (10, 400),
            StatusCode::NotAuthenticated => (20, 403),
        }
    }
}
