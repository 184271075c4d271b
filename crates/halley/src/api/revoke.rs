//! Revocations: `POST`, `GET` and `DELETE /api/v1/revocations`. docs/operations.md says what they ask and answer.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, not_allowed};
use crate::auth::unix_time;
use crate::config::Span;
use crate::event::{Tenant, UserId};
use crate::http::{self, Reply};
use crate::log::{Answer, LogError, Question, Revocation, Revoked};
use crate::problem::Problem;
use crate::sessions::PublicId;

/// What an operator sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    user: Option<String>,
    tenant: Option<String>,
    session: Option<String>,
    token: Option<String>,
    #[serde(rename = "for")]
    lasts: Option<Span>,
}

/// The longest body: a name and a time.
const BODY: usize = 4 << 10;

/// The longest `jti`.
const TOKEN_BYTES: usize = 256;

impl Api {
    pub(super) async fn answer_about_revocations(&self, request: Request<Incoming>) -> Reply {
        if request.method() == Method::GET {
            return self.list_revocations();
        }
        let revokes = request.method() == Method::POST;
        if !revokes && request.method() != Method::DELETE {
            return not_allowed("GET, POST, DELETE");
        }
        let body = match self.read(request.into_body(), BODY).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let asked = serde_json::from_slice::<Asked>(&body).map_err(|error| error.to_string());
        match asked.and_then(|asked| Ok((asked.what()?, asked.lasts))) {
            Err(detail) => invalid(detail),
            Ok((what, lasts)) if revokes => self.revoke(what, lasts.map(|lasts| lasts.0)).await,
            Ok((what, _)) => self.pardon(&what).await,
        }
    }

    async fn revoke(&self, what: Revoked, lasts: Option<Duration>) -> Reply {
        let now = unix_time();
        let until = now.saturating_add(lasts.unwrap_or(self.revoked_for).as_secs().max(1));
        let revocation = Revocation {
            what: what.clone(),
            at: now,
            until,
        };
        // Begun before sessions are looked at, so that none slips in between; and those are ended before the disk is waited for.
        let kept = self.revocations.add(revocation.clone());
        let mut ended = self.sessions.revoke(&what);
        match kept.await {
            Ok(()) => {
                // Those that do not answer are not there, and read the store when they are.
                for (_, answer) in self.storage.nodes.ask_all(Question::Revoke(revocation)).await {
                    ended += match answer {
                        Some(Answer::Ended(elsewhere)) => elsewhere,
                        Some(Answer::Done | Answer::Here(_) | Answer::Sessions(_) | Answer::Counts(_))
                        | None => 0,
                    };
                }
                http::json(
                    StatusCode::CREATED,
                    json!({ "disconnected": ended, "until": until }).to_string(),
                )
            }
            Err(error) => unavailable(&error),
        }
    }

    async fn pardon(&self, what: &Revoked) -> Reply {
        let removed = self.revocations.remove(what).await;
        if removed.is_ok() {
            let question = Question::Pardon(what.clone());
            drop(self.storage.nodes.ask_all(question).await);
        }
        match removed {
            Ok(true) => http::json(StatusCode::OK, "{}"),
            Ok(false) => Problem::new(
                StatusCode::NOT_FOUND,
                "no-revocation",
                "There is no such revocation",
                "nothing of this name is revoked",
            )
            .response(),
            Err(error) => unavailable(&error),
        }
    }

    fn list_revocations(&self) -> Reply {
        let all: Vec<Value> = self.revocations.list().iter().map(describe).collect();
        http::json(StatusCode::OK, json!({ "revocations": all }).to_string())
    }
}

impl Asked {
    fn what(&self) -> Result<Revoked, String> {
        match (&self.user, &self.session, &self.token) {
            (Some(user), None, None) => Ok(Revoked::User {
                tenant: match &self.tenant {
                    None => Tenant::default(),
                    Some(tenant) => Tenant::parse(tenant)?,
                },
                user: UserId::parse(user)?,
            }),
            (None, Some(session), None) => PublicId::parse(session)
                .map(|id| Revoked::Session(id.to_string().into()))
                .ok_or_else(|| "session: 16 hexadecimal digits, as GET /api/v1/sessions shows it".to_owned()),
            (None, None, Some(token)) if (1..=TOKEN_BYTES).contains(&token.len()) => {
                Ok(Revoked::Token(token.as_str().into()))
            }
            (_, _, _) => Err("one of user, session and token (its jti)".to_owned()),
        }
    }
}

fn describe(revocation: &Revocation) -> Value {
    let mut value = json!({ "at": revocation.at, "until": revocation.until });
    match &revocation.what {
        Revoked::User { tenant, user } => {
            value["user"] = (*user.0).into();
            if !tenant.is_only() {
                value["tenant"] = (*tenant.0).into();
            }
        }
        Revoked::Session(id) => value["session"] = (**id).into(),
        Revoked::Token(id) => value["token"] = (**id).into(),
    }
    value
}

fn invalid(detail: String) -> Reply {
    let status = StatusCode::BAD_REQUEST;
    Problem::new(status, "invalid-request", "The request has no meaning", detail).response()
}

fn unavailable(error: &LogError) -> Reply {
    let detail = format!("it holds in this process and may not survive it, so ask again: {error}");
    let title = "The revocation was not written down";
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "revocation-not-kept",
        title,
        detail,
    )
    .retry_after(1)
    .response()
}
