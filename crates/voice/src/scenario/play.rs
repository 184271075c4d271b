//! Plays the script over HTTP, as three agents' desktops would.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderValue, InvalidHeaderValue};
use serde_json::Value;

use super::USERS;
use super::script::{Step, Target, steps};
use crate::agent::Agent;
use crate::http::{Connection, InvalidUrl, NoAnswer, Origin};

/// Why the scenario stopped.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The address of the voice API.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// One of [`USERS`] was not given.
    #[error("agent {0} is needed and not configured")]
    NoAgent(&'static str),
    /// A password that does not fit into a header.
    #[error("the password of an agent cannot be sent: {0}")]
    Password(#[from] InvalidHeaderValue),
    /// The voice API did not answer.
    #[error("{0}: {1}")]
    NoAnswer(String, NoAnswer),
    /// The voice API refused a step.
    #[error("{0}: refused with {1}: {2}")]
    Refused(String, u16, String),
    /// The agent has no call in the state that the step is for.
    #[error("{0}: no such call")]
    NoCall(String),
}

/// Plays the scenario against the voice API at `base_url`, such as `http://127.0.0.1:8080`.
///
/// Each step waits for its HTTP answer; `on_step` is called before it is sent. `agents` must contain [`USERS`], who
/// must have no calls.
pub async fn play(base_url: &str, agents: &[Agent], mut on_step: impl FnMut(&Step)) -> Result<(), PlayError> {
    let mut desktop_by_user = desktops(base_url, agents)?;
    for step in steps() {
        on_step(&step);
        let desktop = desktop_by_user
            .get_mut(step.user)
            .ok_or(PlayError::NoAgent(step.user))?;
        take(desktop, &step).await?;
    }
    Ok(())
}

fn desktops(base_url: &str, agents: &[Agent]) -> Result<HashMap<&'static str, Connection>, PlayError> {
    let origin: Origin = base_url.parse()?;
    let mut desktop_by_user = HashMap::new();
    for user in USERS {
        let agent = agents
            .iter()
            .find(|agent| agent.user == user)
            .ok_or(PlayError::NoAgent(user))?;
        let credentials = STANDARD.encode(format!("{user}:{}", agent.password));
        let mut authorization = HeaderValue::from_str(&format!("Basic {credentials}"))?;
        authorization.set_sensitive(true);
        desktop_by_user.insert(
            user,
            Connection::new(origin.clone(), Some(authorization), ANSWER_WITHIN),
        );
    }
    Ok(desktop_by_user)
}

async fn take(desktop: &mut Connection, step: &Step) -> Result<(), PlayError> {
    let path = match &step.target {
        Target::Path(path) => format!("/api/v2/me{path}"),
        Target::Call(state) => {
            let found = ask(desktop, step, Method::GET, "/api/v2/me/calls", Bytes::new()).await?;
            let state = state.to_string();
            let calls = found["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
            let call = calls.iter().find(|call| call["state"] == state.as_str());
            let id = call
                .and_then(|call| call["id"].as_str())
                .ok_or_else(|| PlayError::NoCall(step.to_string()))?;
            format!("/api/v2/me/calls/{id}")
        }
    };
    ask(desktop, step, Method::POST, &path, step.body().to_string().into()).await?;
    Ok(())
}

async fn ask(
    desktop: &mut Connection,
    step: &Step,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Value, PlayError> {
    let answer = desktop.ask(method, path, body).await;
    let answer = answer.map_err(|why| PlayError::NoAnswer(step.to_string(), why))?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if answer.status.is_success() && value["statusCode"] == 0 => Ok(value),
        _ => Err(PlayError::Refused(step.to_string(), answer.status.as_u16(), text)),
    }
}

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
