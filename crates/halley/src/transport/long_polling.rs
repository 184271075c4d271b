//! `long-polling`: a POST brings messages, its response brings the replies.

use std::sync::Arc;

use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode, header};

use super::polling::{NoMessages, poll, refuse};
use super::{Connection, Public, Served, Transport};
use crate::http::{self, Reply};
use crate::metrics;

pub(super) const TRANSPORT: Transport = Transport {
    connection_type: "long-polling",
    method: Some(Method::POST),
    accepts: |request| request.method() == Method::POST,
    answer: |public, connection, request| -> BoxFuture<'static, Reply> {
        Box::pin(answer(public, connection, request))
    },
};

const LABEL: metrics::Transport = metrics::Transport {
    transport: "long-polling",
};

async fn answer(public: Arc<Public>, connection: Connection, request: Request<Incoming>) -> Reply {
    let mut who = public.requester(&connection, &request, None).await;
    let knew_browser = who.browser.is_some();
    let body = match http::read_body(request.into_body(), public.body_limit(), public.body_timeout()).await {
        Ok(body) => body,
        Err(refused) => {
            public.count_refusal(refused.label());
            return refuse(
                refused.status(),
                "the body was not read whole: too large, too slow or broken",
            );
        }
    };
    let polled = match poll(&public, &connection, &mut who, vec![body], &LABEL).await {
        Ok(polled) => polled,
        Err(NoMessages::Superseded) => return superseded(&public),
        Err(NoMessages::Refused(status, reason)) => return refuse(status, &reason),
    };
    let cookie = who.browser.filter(|_| polled.shook_hands && !knew_browser);
    let is_served = polled.is_served;
    let mut response = polled.response(&connection, "application/json", |messages| messages);
    if let Some(browser) = cookie {
        response.headers_mut().insert(
            header::SET_COOKIE,
            public.browsers.set_cookie(&browser, connection.is_secure),
        );
    }
    if is_served {
        response.extensions_mut().insert(Served);
    }
    response
}

/// The client has given up on this connect: what it says to it must not look like an answer.
fn superseded(public: &Public) -> Reply {
    let status = StatusCode::from_u16(public.config.session.duplicate_connect_status);
    http::json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "")
}
