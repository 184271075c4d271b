//! Who may log in, and on which telephone.

use std::fmt;

/// An agent or supervisor of the contact centre.
#[derive(Clone, Default)]
pub struct Agent {
    /// The user name, which is also the agent's number (DN), as in the documented sample: 1 to 12 digits.
    pub user: String,
    /// The password of HTTP Basic authentication.
    pub password: String,
    /// What this user may do.
    pub role: Role,
}

impl Agent {
    /// An agent without supervisor rights.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Agent {
            user: user.into(),
            password: password.into(),
            role: Role::Agent,
        }
    }

    /// The same person with supervisor rights.
    pub fn supervisor(self) -> Self {
        Agent {
            role: Role::Supervisor,
            ..self
        }
    }
}

impl fmt::Debug for Agent {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("user", &self.user)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Feature `api-voice`: own calls.
    #[default]
    Agent,
    /// Also feature `api-supervisor-monitoring`.
    Supervisor,
}

/// The id of a number's device: a UUID that is the same after every start, and that a reader recognises.
///
/// ```
/// assert_eq!(voice::device_id("15000"), "00000000-0000-4000-8000-000000015000");
/// ```
pub fn device_id(number: &str) -> String {
    format!("00000000-0000-4000-8000-{number:0>12}")
}

/// Whether a number can be an agent's: digits that fit the last group of a [`device_id`].
pub(crate) fn is_extension(number: &str) -> bool {
    (1..=12).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        assert!(!format!("{:?}", Agent::new("15000", "secret")).contains("secret"));
    }
}
