//! Who clients are.

use std::sync::Arc;

use serde::Serialize;

use super::SettingsError;

/// The users of a run, by their number. Credentials are never reported.
///
/// In templates `{number}`, or `{n}`, is the number, `{user}` the name and `{token}` the token.
#[derive(Debug, Clone, Serialize)]
pub struct Users {
    /// What users are called, unless they are listed.
    name_template: String,
    #[serde(skip)]
    token_template: Option<String>,
    /// Names and tokens of a file.
    #[serde(skip)]
    listed: Option<Arc<[(String, String)]>>,
    /// `Name: value` of each header that requests have.
    #[serde(skip)]
    headers: Vec<String>,
    /// What `ext` of a handshake has: the members of an object.
    #[serde(skip)]
    handshake_ext: String,
}

impl Default for Users {
    fn default() -> Self {
        Self::from_templates("bench-{number}", None)
    }
}

impl Users {
    /// Users with names and, perhaps, tokens that are made from their numbers.
    pub fn from_templates(name: &str, token: Option<&str>) -> Self {
        Self {
            name_template: name.to_owned(),
            token_template: token.map(ToOwned::to_owned),
            listed: None,
            headers: Vec::new(),
            handshake_ext: String::new(),
        }
    }

    /// Users of a file: one a line, `name,token`. Empty lines and those that begin with `#` do not count.
    pub fn from_file(text: &str) -> Result<Self, SettingsError> {
        let lines = text
            .lines()
            .enumerate()
            .map(|(number, line)| (number, line.trim()));
        let listed = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(number, line)| match line.split_once(',') {
                Some((name, token)) => Ok((name.trim().to_owned(), token.trim().to_owned())),
                None => Err(SettingsError(format!(
                    "line {} of the users file is not name,token",
                    number + 1
                ))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            listed: Some(listed.into()),
            ..Self::default()
        })
    }

    /// Adds a header to every request, such as `X-User: {user}`. With one that is called `Authorization` the token is not sent
    /// as a bearer token.
    pub fn add_header(&mut self, template: &str) -> Result<(), SettingsError> {
        let is_header = template.split_once(':').is_some_and(|(name, _)| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
        if !is_header || template.contains(char::is_control) {
            return Err(SettingsError(format!(
                "{template}: a header is like \"X-User: {{user}}\""
            )));
        }
        self.headers.push(template.to_owned());
        Ok(())
    }

    /// Says what `ext` of handshakes has, such as `{"token":"{token}"}`.
    pub fn set_handshake_ext(&mut self, template: &str) -> Result<(), SettingsError> {
        let inner = template
            .trim()
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'));
        let parses = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(template).is_ok();
        match inner {
            Some(inner) if parses => {
                self.handshake_ext = inner.trim().to_owned();
                Ok(())
            }
            Some(_) | None => Err(SettingsError(format!(
                "{template}: the ext of a handshake is an object, like {{\"token\":\"{{token}}\"}}"
            ))),
        }
    }

    /// How many a file has listed.
    pub(crate) fn listed(&self) -> Option<u32> {
        let listed = self.listed.as_ref()?;
        Some(u32::try_from(listed.len()).unwrap_or(u32::MAX))
    }

    /// Nothing says who they are.
    pub(crate) fn are_anonymous(&self) -> bool {
        self.listed.is_none()
            && self.token_template.is_none()
            && self.headers.is_empty()
            && self.handshake_ext.is_empty()
    }

    /// What a user is called.
    pub fn name(&self, number: u32) -> String {
        match self.of_list(number) {
            Some((name, _)) => name.clone(),
            None => fill(&self.name_template, number, "", ""),
        }
    }

    /// What it shows.
    pub fn token(&self, number: u32) -> Option<String> {
        match (self.of_list(number), &self.token_template) {
            (Some((_, token)), _) => Some(token.clone()),
            (None, Some(template)) => Some(fill(template, number, &self.name(number), "")),
            (None, None) => None,
        }
    }

    /// The lines that its requests have.
    pub(crate) fn headers(&self, number: u32) -> String {
        let token = self.token(number);
        let says_who = self
            .headers
            .iter()
            .any(|header| header.to_ascii_lowercase().starts_with("authorization:"));
        let mut lines = String::new();
        if let Some(token) = token.as_ref().filter(|_| !says_who) {
            lines = format!("Authorization: Bearer {token}\r\n");
        }
        for header in &self.headers {
            lines.push_str(&self.fill(header, number));
            lines.push_str("\r\n");
        }
        lines
    }

    /// The members that `ext` of its handshake has.
    pub(crate) fn handshake_ext(&self, number: u32) -> String {
        self.fill(&self.handshake_ext, number)
    }

    /// What Halley's configuration needs to know these users: `auth.kind = "static"`.
    pub fn to_toml(&self, count: u32) -> Result<String, SettingsError> {
        let mut text = "[auth]\nkind = \"static\"\n".to_owned();
        for number in 0..count {
            let token = self.token(number).ok_or_else(|| {
                SettingsError("these users have no tokens: give --token-template or --users-file".to_owned())
            })?;
            // A TOML text in quotes is written as a JSON one.
            let (name, token) = (
                serde_json::Value::from(self.name(number)),
                serde_json::Value::from(token),
            );
            text.push_str(&format!("\n[[auth.users]]\nuser = {name}\ntoken = {token}\n"));
        }
        Ok(text)
    }

    fn of_list(&self, number: u32) -> Option<&(String, String)> {
        self.listed.as_ref()?.get(number as usize)
    }

    fn fill(&self, template: &str, number: u32) -> String {
        if !template.contains('{') {
            return template.to_owned();
        }
        fill(
            template,
            number,
            &self.name(number),
            &self.token(number).unwrap_or_default(),
        )
    }
}

fn fill(template: &str, number: u32, user: &str, token: &str) -> String {
    template
        .replace("{number}", &number.to_string())
        .replace("{n}", &number.to_string())
        .replace("{user}", user)
        .replace("{token}", token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tokens_come_from_templates() {
        let users = Users::from_templates("agent-{number}", Some("secret-of-{user}"));
        assert_eq!(users.name(7), "agent-7");
        assert_eq!(users.headers(7), "Authorization: Bearer secret-of-agent-7\r\n");
    }

    #[test]
    fn names_and_tokens_come_from_a_file() {
        let users = Users::from_file("# two\n15000, a\n\n15001,b\n").unwrap();
        assert_eq!(
            (users.name(1), users.token(1), users.listed()),
            ("15001".into(), Some("b".into()), Some(2))
        );
    }

    #[test]
    fn a_file_that_is_no_list_of_users_is_refused_with_the_line() {
        assert!(
            Users::from_file("15000,a\nwhat\n")
                .unwrap_err()
                .0
                .contains("line 2")
        );
    }

    #[test]
    fn a_header_for_authorization_replaces_the_bearer_token() {
        let mut users = Users::from_templates("u{n}", Some("t{n}"));
        users.add_header("authorization: Custom {user}/{token}").unwrap();
        users.add_header("X-Number: {n}").unwrap();
        assert_eq!(users.headers(3), "authorization: Custom u3/t3\r\nX-Number: 3\r\n");
        assert!(users.add_header("no header\r\nX: y").is_err());
    }

    #[test]
    fn the_ext_of_a_handshake_is_filled_in() {
        let mut users = Users::from_templates("u{n}", Some("t{n}"));
        users.set_handshake_ext(r#"{"token":"{token}"}"#).unwrap();
        assert_eq!(users.handshake_ext(3), r#""token":"t3""#);
        assert!(users.set_handshake_ext("[1]").is_err());
    }

    #[test]
    fn what_is_printed_for_the_broker_names_everyone() {
        let text = Users::from_templates("u{n}", Some("t{n}")).to_toml(2).unwrap();
        assert!(
            text.ends_with("[[auth.users]]\nuser = \"u1\"\ntoken = \"t1\"\n"),
            "{text}"
        );
        assert!(Users::default().to_toml(1).is_err());
    }

    #[test]
    fn credentials_are_not_reported() {
        let mut users = Users::from_templates("u{n}", Some("secret"));
        users.add_header("X: secret").unwrap();
        assert!(!serde_json::to_string(&users).unwrap().contains("secret"));
    }
}
