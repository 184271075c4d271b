//! `long-polling`: a POST brings messages, its response brings the replies. Events leave only with the reply to a connect.

use std::sync::Arc;

use bayeux::codec::Body;
use bayeux::{CarrierKind, Delivery, Output};
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
    // Held until the end: the session hears of it when this future is dropped.
    let _attached = exchanged.attached;
    let mut held = Held::default();
    let wanted = Wanted::of(&exchanged.replies);
    if let Some(handle) = wanted.handle {
        match hold(public, &handle, carrier, wanted.replies, &mut held).await {
            Ok(()) if held.connect.is_some() => connection.replies_for(&handle, carrier),
            Ok(()) => {}
            Err(NoReply::Superseded) => return superseded(public),
            Err(NoReply::LogFailed) => {
                return refuse(StatusCode::SERVICE_UNAVAILABLE, "the log cannot be read");
            }
        }
    }
    public
        .metrics
        .deliveries
        .get_or_create(&LABEL)
        .inc_by(held.events.len() as u64);
    let mut body = Body::default();
    held.greeting.iter().for_each(|reply| body.reply(reply));
    held.events.iter().for_each(|event| body.event(event));
    for (number, place) in exchanged.replies.iter().enumerate() {
        match place {
            Place::Reply(reply) => body.reply(reply),
            Place::Connect(_) if Some(number) == wanted.connect_at => {
                held.connect.iter().for_each(|reply| body.reply(reply));
            }
            // A later connect of the same body has taken its place, and there is one answer.
            Place::Connect(_) | Place::Greeting(_) => {}
        }
    }
    http::json(StatusCode::OK, body.finish())
}

/// What a session answers by itself.
#[derive(Default)]
struct Held {
    /// The reply to a handshake, which events follow.
    greeting: Option<Box<bayeux::Reply>>,
    events: Vec<Arc<Delivery>>,
    /// The reply to a connect, which events precede.
    connect: Option<Box<bayeux::Reply>>,
}

/// Which replies of a body its session has to give.
struct Wanted {
    handle: Option<Arc<Handle>>,
    replies: usize,
    /// The place of the connect that is answered.
    connect_at: Option<usize>,
}

impl Wanted {
    fn of(places: &[Place]) -> Self {
        let connect_at = places
            .iter()
            .rposition(|place| matches!(place, Place::Connect(_)));
        let greets = matches!(places.first(), Some(Place::Greeting(_)));
        let handle = places.iter().find_map(|place| match place {
            Place::Greeting(handle) | Place::Connect(handle) => Some(Arc::clone(handle)),
            Place::Reply(_) => None,
        });
        Self {
            handle,
            replies: usize::from(connect_at.is_some()) + usize::from(greets),
            connect_at,
        }
    }
}

/// Waits for the replies that a session gives by itself, and for the events that leave with them. When the client goes away
/// meanwhile, hyper drops this future, and the session hears of it.
async fn hold(
    public: &Arc<Public>,
    handle: &Arc<Handle>,
    carrier: bayeux::Carrier,
    wanted: usize,
    held: &mut Held,
) -> Result<(), NoReply> {
    let _counted = Counted::new(public);
    let mut shutdown = public.shutdown.clone();
    let mut stopping = false;
    let mut replies = 0;
    while replies < wanted {
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
                Output::Event(event) => held.events.push(event),
                Output::Reply(reply) => {
                    replies += 1;
                    let place = if reply.opens_session() {
                        &mut held.greeting
                    } else {
                        &mut held.connect
                    };
                    *place = Some(reply);
                }
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
    Ok(())
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
