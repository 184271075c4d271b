//! Errors of the internal API as RFC 9457 `application/problem+json`.

use http_body_util::Full;
use hyper::{Response, StatusCode, header};
use serde::{Serialize, Serializer};

use crate::http::Reply;

/// What went wrong with a request, where, and what to do.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// A stable name of the kind of problem.
    #[serde(rename = "type", serialize_with = "urn")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// Where: a JSON pointer into the body, such as `/3/channel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// Where, if not in the body: a header, such as `ce-source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// Seconds after which the same request may succeed.
    #[serde(skip)]
    retry_after: Option<u32>,
}

fn urn<S: Serializer>(kind: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:halley:problem:{kind}"))
}

impl Problem {
    /// A problem of a kind, a word such as `invalid-event`.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            pointer: None,
            header: None,
            retry_after: None,
        }
    }

    /// Says where in the body.
    #[must_use]
    pub fn at(mut self, pointer: String) -> Self {
        self.pointer = Some(pointer);
        self
    }

    /// Says in which header.
    #[must_use]
    pub fn in_header(mut self, name: String) -> Self {
        self.header = Some(name);
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Whether somebody else could do it.
    pub fn is_forbidden(&self) -> bool {
        self.status == StatusCode::FORBIDDEN.as_u16()
    }

    /// The HTTP response.
    pub fn response(&self) -> Reply {
        let body = serde_json::to_vec(self).expect("a problem is made of texts and numbers");
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = StatusCode::from_u16(self.status).expect("made from a status");
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
