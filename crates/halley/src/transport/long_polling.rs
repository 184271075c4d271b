//! `long-polling`: a POST brings messages, its response brings the replies. Events leave only with the reply to a connect.

use std::sync::Arc;

use bayeux::codec::Body;
use bayeux::{CarrierKind, Output};
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode, header};
use serde_json::json;

use super::exchange::{Exchanged, Place, exchange};
use super::{Connection, Public, Transport};
use crate::auth::BROWSER_COOKIE;
use crate::http::{self, Reply};
use crate::metrics;
use crate::sessions::Handle;

pub(super) const TRANSPORT: Transport = Transport {
    connection_type: "long-polling",
    accepts: |request| request.method() == Method::POST,
    answer: |public, connection, request| -> BoxFuture<'static, Reply> {
        Box::pin(answer(public, connection, request))
    },
};

const LABEL: metrics::Transport = metrics::Transport {
    transport: "long-polling",
};

/// Why a held connect has no reply.
enum NoReply {
    /// A newer connect took over.
    Superseded,
    /// The log could not be read.
    LogFailed,
}

async fn answer(public: Arc<Public>, connection: Connection, request: Request<Incoming>) -> Reply {
    let mut who = public.requester(&request).await;
    let knew_browser = who.browser.is_some();
    let body = match http::read_body(request.into_body(), public.body_limit(), public.body_timeout()).await {
        Ok(body) => body,
        Err(refused) => {
            return refuse(
                refused.status(),
                "the body was not read whole: too large, too slow or broken",
            );
        }
    };
    let carrier = public.sessions.carrier(CarrierKind::Exchange);
    let exchanged = match exchange(&public, &mut who, carrier, None, &body).await {
        Ok(Ok(exchanged)) => exchanged,
        Ok(Err(error)) => return refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let cookie = who.browser.filter(|_| exchanged.shook_hands && !knew_browser);
    let mut response = respond(&public, &connection, carrier, exchanged).await;
    if let Some(browser) = cookie
        && let Ok(value) = format!("{BROWSER_COOKIE}={browser}; Path=/; HttpOnly").parse()
    {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

async fn respond(
    public: &Arc<Public>,
    connection: &Connection,
    carrier: bayeux::Carrier,
    exchanged: Exchanged,
) -> Reply {
    let mut body = Body::default();
    let mut events = 0;
    let mut replies = Vec::with_capacity(exchanged.replies.len());
    // Held until the end: the session hears of it when this future is dropped.
    let _attached = exchanged.attached;
    let last_connect = exchanged
        .replies
        .iter()
        .rposition(|place| matches!(place, Place::Connect(_)));
    for (number, place) in exchanged.replies.into_iter().enumerate() {
        match place {
            Place::Reply(reply) => replies.push(reply),
            // A later connect of the same body has taken its place, and there is one answer.
            Place::Connect(_) if Some(number) != last_connect => {}
            Place::Connect(handle) => match hold(public, &handle, carrier, &mut body, &mut events).await {
                Ok(reply) => {
                    connection.replies_for(&handle, carrier);
                    replies.push(reply);
                }
                Err(NoReply::Superseded) => return superseded(public),
                Err(NoReply::LogFailed) => {
                    return refuse(StatusCode::SERVICE_UNAVAILABLE, "the log cannot be read");
                }
            },
        }
    }
    public.metrics.deliveries.get_or_create(&LABEL).inc_by(events);
    replies.iter().for_each(|reply| body.reply(reply));
    http::json(StatusCode::OK, body.finish())
}

/// Waits for the reply to a connect, and writes what leaves before it into the body. When the client goes away meanwhile, hyper drops
/// this future, and the session hears of it.
async fn hold(
    public: &Arc<Public>,
    handle: &Arc<Handle>,
    carrier: bayeux::Carrier,
    body: &mut Body,
    events: &mut u64,
) -> Result<Box<bayeux::Reply>, NoReply> {
    let _counted = Counted::new(public);
    let mut shutdown = public.shutdown.clone();
    let mut stopping = false;
    loop {
        let outputs = tokio::select! {
            outputs = public.sessions.outputs(handle, carrier, usize::MAX) => outputs,
            () = shutdown.wait(), if !stopping => {
                stopping = true;
                public.sessions.release(handle);
                continue;
            }
        };
        for output in outputs {
            match output {
                Output::Event(event) => {
                    body.event(&event);
                    *events += 1;
                }
                Output::Direct(message) => body.direct(&message),
                Output::Reply(reply) => return Ok(reply),
                Output::ReadLog(after) => {
                    public
                        .sessions
                        .read_log(handle, carrier, after)
                        .await
                        .map_err(|_| NoReply::LogFailed)?;
                }
                Output::Superseded => return Err(NoReply::Superseded),
                Output::Ping(_) => {}
            }
        }
    }
}

/// The client has given up on this connect: what it says to it must not look like an answer.
fn superseded(public: &Public) -> Reply {
    let status = StatusCode::from_u16(public.config.session.duplicate_connect_status);
    http::json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "")
}

/// A body that was refused as a whole. Some clients read the JSON, so it is a Bayeux message; the status says the rest.
fn refuse(status: StatusCode, reason: &str) -> Reply {
    let body = json!([{ "successful": false, "error": format!("{}::{reason}", status.as_u16()) }]);
    let mut response = http::json(status, body.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    response
}

/// Counts a held connect for as long as it is held.
struct Counted<'a>(&'a Public);

impl<'a> Counted<'a> {
    fn new(public: &'a Public) -> Self {
        public.metrics.connections.get_or_create(&LABEL).inc();
        Self(public)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.metrics.connections.get_or_create(&LABEL).dec();
    }
}
