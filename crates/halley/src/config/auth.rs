//! Who is asking.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::values::{redacted, secret};

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// `anonymous` or `static`.
    pub kind: String,
    /// The users of `static`.
    pub users: Vec<User>,
}

/// One user of `static`.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The subject, to whom events are addressed.
    pub user: String,
    /// `Authorization: Bearer TOKEN`, or Basic with the user's name and the token, or `ext.token`.
    #[serde(serialize_with = "redacted", deserialize_with = "secret")]
    pub token: String,
    /// What the user may do beyond what everyone may: names that rules of channels know.
    #[serde(default)]
    pub roles: Vec<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            kind: "anonymous".to_owned(),
            users: Vec::new(),
        }
    }
}

impl fmt::Debug for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("User")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
