//! Answers: always JSON, always with a `statusCode`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::call::{self, Refusal};

pub(super) type HttpResponse = Response<Full<Bytes>>;

/// Why a request got no success.
#[derive(Debug)]
pub(super) enum Failure {
    /// The API says no.
    Refused(Refusal),
    /// The body did not fit.
    TooLarge,
    /// The body did not come.
    TooSlow,
    /// The address takes other methods.
    Method(&'static str),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

/// `{"statusCode":0}` and, for a query, what was asked for.
pub(super) fn success(found: Map<String, Value>) -> HttpResponse {
    let mut answer = Map::from_iter([("statusCode".to_owned(), json!(0))]);
    answer.extend(found);
    respond(StatusCode::OK, &Value::Object(answer))
}

/// `{"statusCode":…,"statusMessage":…}`. The HTTP status of a refusal is in [`call::StatusCode::http_status`].
pub(super) fn failure(failure: Failure) -> HttpResponse {
    use call::StatusCode::{Forbidden, InvalidInput};
    let (http, code, message) = match failure {
        Failure::Refused(refusal) => (refusal.status.http_status(), refusal.status, refusal.message),
        Failure::TooLarge => (413, InvalidInput, "The request body is too large.".into()),
        Failure::TooSlow => (
            408,
            InvalidInput,
            "The request body did not arrive in time.".into(),
        ),
        Failure::Method(allowed) => {
            let mut answer = refuse(405, Forbidden, "The method is not allowed here.");
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allowed));
            return answer;
        }
    };
    refuse(http, code, &message)
}

fn refuse(http: u16, code: call::StatusCode, message: &str) -> HttpResponse {
    let http = StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(
        http,
        &json!({"statusCode": code.number(), "statusMessage": message}),
    )
}

fn respond(status: StatusCode, body: &Value) -> HttpResponse {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json;charset=UTF-8"),
    );
    response
}
