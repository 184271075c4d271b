//! HTTP Basic authentication (RFC 7617) against the configured agents.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use super::App;
use crate::agent::Agent;
use crate::call::{Refusal, StatusCode};

impl App {
    /// The agent that the request is from. Captures show 403 with statusCode 20, not 401, for everyone else.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<&Agent, Refusal> {
        let denied = || Refusal::new(StatusCode::NotAuthenticated, "Access denied");
        let (user, password) = credentials(headers).ok_or_else(denied)?;
        let agent = self.agent_by_user.get(&user).ok_or_else(denied)?;
        if bool::from(agent.password.as_bytes().ct_eq(password.as_bytes())) {
            Ok(agent)
        } else {
            Err(denied())
        }
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn read(value: &'static str) -> Option<(String, String)> {
        credentials(&HeaderMap::from_iter([(
            AUTHORIZATION,
            HeaderValue::from_static(value),
        )]))
    }

    #[test]
    fn a_password_may_contain_a_colon() {
        // 15000:a:b
        assert_eq!(read("Basic MTUwMDA6YTpi"), Some(("15000".into(), "a:b".into())));
    }

    #[test]
    fn another_scheme_is_nobody() {
        assert_eq!(read("Bearer MTUwMDA6YTpi"), None);
    }
}
