//! What operators do with sessions: `GET /api/v1/sessions`, `DELETE /api/v1/sessions/{id}` and
//! `DELETE /api/v1/users/{user}/sessions`; and what they ask of all nodes: `GET /api/v1/users/{user}` and `GET /api/v1/nodes`.
//! docs/operations.md says what they answer.

use std::borrow::Cow;

use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::{Api, not_allowed};
use crate::event::{Tenant, UserId, Whose};
use crate::http::{self, Reply};
use crate::log::{self as nodes, LogError, NodeId};
use crate::problem::Problem;
use crate::sessions::{Ended, Listed, PublicId};

/// What an operator wants.
#[derive(Debug)]
pub(super) enum Question {
    /// A page of the sessions in memory.
    List(Page),
    /// The end of one.
    End(PublicId),
    /// The end of all of a user.
    EndAllOf(Tenant, UserId),
    /// Where the sessions of a user are.
    User(Tenant, UserId),
    /// Which nodes there are, and how much each has.
    Nodes,
}

/// Which part of the sessions.
#[derive(Debug)]
pub(super) struct Page {
    tenant: Tenant,
    user: Option<UserId>,
    after: Option<PublicId>,
    limit: usize,
}

/// Sessions of a page, unless the operator wants another number.
const PAGE: usize = 100;

/// Sessions of a page at most: each is locked for a moment.
const PAGE_MAX: usize = 1000;

impl Question {
    /// What a request asks; `None` when it is about something else.
    pub(super) fn read(method: &Method, path: &str, query: Option<&str>) -> Option<Result<Self, Reply>> {
        let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
        let question = match (method, parts.as_slice()) {
            (&Method::GET, ["sessions"]) => Page::parse(query.unwrap_or_default()).map(Self::List),
            (_, ["sessions"]) => return Some(Err(not_allowed("GET"))),
            (&Method::DELETE, ["sessions", id]) => parse_id(id).map(Self::End),
            (&Method::DELETE, ["users", user, "sessions"]) => parse_user(user).and_then(|user| {
                let tenant = Page::parse(query.unwrap_or_default())?.tenant;
                Ok(Self::EndAllOf(tenant, user))
            }),
            (&Method::GET, ["users", user]) => parse_user(user).and_then(|user| {
                let tenant = Page::parse(query.unwrap_or_default())?.tenant;
                Ok(Self::User(tenant, user))
            }),
            (&Method::GET, ["nodes"]) => Ok(Self::Nodes),
            (_, ["sessions", _] | ["users", _, "sessions"]) => return Some(Err(not_allowed("DELETE"))),
            (_, ["users", _] | ["nodes"]) => return Some(Err(not_allowed("GET"))),
            _ => return None,
        };
        Some(question.map_err(|detail| {
            let status = StatusCode::BAD_REQUEST;
            Problem::new(status, "invalid-request", "The request has no meaning", detail).response()
        }))
    }
}

impl Page {
    fn parse(query: &str) -> Result<Self, String> {
        let mut page = Self {
            tenant: Tenant::default(),
            user: None,
            after: None,
            limit: PAGE,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "tenant" => page.tenant = Tenant::parse(value)?,
                "user" => page.user = Some(parse_user(value)?),
                "after" => page.after = Some(parse_id(value)?),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                    page.limit = limit.ok_or(format!("limit: a number from 1 to {PAGE_MAX}"))?;
                }
                other => return Err(format!("{other}: it is one of user, tenant, after, limit")),
            }
        }
        Ok(page)
    }
}

impl Api {
    pub(super) async fn answer_about_sessions(&self, question: Question) -> Reply {
        match question {
            Question::List(page) => self.list(&page),
            Question::End(id) => match self.sessions.disconnect_one(id).await {
                Ok(ended) if ended == Ended::default() => no_session(id),
                ended => said(ended),
            },
            Question::EndAllOf(tenant, user) => said(self.sessions.disconnect_user(&tenant, &user).await),
            Question::User(tenant, user) => self.find_user(tenant, user).await,
            Question::Nodes => self.list_nodes().await,
        }
    }

    /// The sessions of a user in memory, wherever they are.
    async fn find_user(&self, tenant: Tenant, user: UserId) -> Reply {
        let here = self.census.of_user(&tenant, &user);
        let whose = Whose { tenant, user };
        let mut sessions = describe_on(self.storage.nodes.me(), &whose, here);
        let mut silent = Vec::new();
        let question = nodes::Question::User(whose.tenant.clone(), whose.user.clone());
        for (node, answer) in self.storage.nodes.ask_all(question).await {
            match answer {
                Some(nodes::Answer::Sessions(found)) => {
                    sessions.extend(describe_on(Some(&node), &whose, found));
                }
                Some(
                    nodes::Answer::Done
                    | nodes::Answer::Here(_)
                    | nodes::Answer::Ended(_)
                    | nodes::Answer::Counts(_),
                )
                | None => {
                    silent.push(Value::from(&*node.0));
                }
            }
        }
        let mut answer = answer_of("sessions", sessions, silent);
        let is_present = answer["sessions"].as_array().is_some_and(|all| !all.is_empty());
        answer["present"] = is_present.into();
        http::json(StatusCode::OK, answer.to_string())
    }

    async fn list_nodes(&self) -> Reply {
        let name = self.storage.nodes.me().map_or("", |me| &*me.0);
        let mut all = vec![count(name, self.census.counts())];
        let mut silent = Vec::new();
        for (node, answer) in self.storage.nodes.ask_all(nodes::Question::Counts).await {
            match answer {
                Some(nodes::Answer::Counts(counts)) => all.push(count(&node.0, counts)),
                Some(
                    nodes::Answer::Done
                    | nodes::Answer::Here(_)
                    | nodes::Answer::Ended(_)
                    | nodes::Answer::Sessions(_),
                )
                | None => {
                    silent.push(Value::from(&*node.0));
                }
            }
        }
        http::json(StatusCode::OK, answer_of("nodes", all, silent).to_string())
    }

    fn list(&self, page: &Page) -> Reply {
        let user = page.user.as_ref().map(|user| (&page.tenant, user));
        let (listed, has_more) = self.sessions.list(user, page.after, page.limit);
        let mut answer = Map::new();
        if let Some(last) = listed.last().filter(|_| has_more) {
            answer.insert("next".into(), last.id.to_string().into());
        }
        let listed: Vec<Value> = listed.iter().map(describe).collect();
        answer.insert("sessions".into(), listed.into());
        http::json(StatusCode::OK, Value::from(answer).to_string())
    }
}

/// What was found, and which nodes did not say in time what they have.
fn answer_of(what: &str, found: Vec<Value>, silent: Vec<Value>) -> Value {
    let mut answer = Map::new();
    answer.insert(what.to_owned(), found.into());
    if !silent.is_empty() {
        answer.insert("unanswered".to_owned(), silent.into());
    }
    answer.into()
}

fn count(node: &str, counts: nodes::Counts) -> Value {
    json!({
        "node": node,
        "sessions": counts.sessions,
        "sockets": counts.sockets,
        "connects": counts.connects,
        "draining": counts.draining,
    })
}

/// The sessions of a user on a node, which has no name where there is one.
fn describe_on(node: Option<&NodeId>, whose: &Whose, found: Vec<(Box<str>, usize, bool)>) -> Vec<Value> {
    let describe = |(id, subscriptions, attended): (Box<str>, usize, bool)| {
        let mut session = json!({
            "id": id,
            "user": &*whose.user.0,
            "subscriptions": subscriptions,
            "attended": attended,
        });
        if !whose.tenant.is_only() {
            session["tenant"] = (*whose.tenant.0).into();
        }
        if let Some(node) = node {
            session["node"] = (*node.0).into();
        }
        session
    };
    found.into_iter().map(describe).collect()
}

fn describe(listed: &Listed) -> Value {
    let mut value = json!({
        "id": listed.id.to_string(),
        "subscriptions": listed.subscriptions,
        "attended": listed.attended,
    });
    if let (Some(fields), Some(user)) = (value.as_object_mut(), &listed.user) {
        fields.insert("user".into(), user.to_string().into());
    }
    if let (Some(fields), false) = (value.as_object_mut(), listed.tenant.is_only()) {
        fields.insert("tenant".into(), (*listed.tenant.0).into());
    }
    value
}

fn said(ended: Result<Ended, LogError>) -> Reply {
    match ended {
        Ok(ended) => {
            let body = json!({ "disconnected": ended.disconnected, "forgotten": ended.forgotten });
            http::json(StatusCode::OK, body.to_string())
        }
        Err(error) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "records-unavailable",
            "The session records cannot be read or written",
            format!("sessions in memory are ended; dormant ones may come back, so ask again: {error}"),
        )
        .retry_after(1)
        .response(),
    }
}

fn no_session(id: PublicId) -> Reply {
    let detail = format!("there is no session {id}, in memory or dormant");
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-session",
        "There is no such session",
        detail,
    )
    .response()
}

fn parse_id(text: &str) -> Result<PublicId, String> {
    PublicId::parse(text).ok_or(format!(
        "{text:?} is no session's id: 16 hexadecimal digits, as GET /api/v1/sessions shows it"
    ))
}

pub(super) fn parse_user(text: &str) -> Result<UserId, String> {
    let decoded: Cow<'_, str> = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| "user: not UTF-8, percent-encoded".to_owned())?;
    UserId::parse(&decoded).map_err(|reason| format!("user: {reason}"))
}
