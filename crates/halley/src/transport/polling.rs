//! What transports that poll share: a request brings messages, its response brings the replies, and events leave only with
//! the reply to a connect. What a request and its response look like is the business of each transport.

use std::sync::Arc;
use std::time::Duration;

use bayeux::codec::Body;
use bayeux::{CarrierKind, Output};
use bytes::Bytes;
use hyper::{StatusCode, header};
use serde_json::json;
use tracing::debug;

use super::exchange::{Exchanged, Place, exchange};
use super::{Connection, LastReply, Public};
use crate::auth::Browser;
use crate::http::{self, Reply};
use crate::metrics;
use crate::sessions::{Handle, Requester, Seat};

/// What one request led to.
pub(super) struct Polled {
    /// The JSON array of its response.
    messages: Vec<u8>,
    /// A handshake succeeded.
    pub(super) shook_hands: bool,
    /// It spoke for a session, which is still here.
    pub(super) is_served: bool,
    /// A connect of this session is answered, for [`Connection::replies_for`].
    answered: Option<LastReply>,
    /// The client was told often enough that its session is unknown, or is to come again later.
    refused: Option<TryLater>,
}

/// The status that says so, and after how many seconds.
struct TryLater(StatusCode, u64);

/// Why a request has no messages to be answered with.
pub(super) enum NoMessages {
    /// A newer connect took over: the client has given up on this one, and what it is told must not look like an answer.
    Superseded,
    /// The body was refused as a whole, or the log could not be read or written.
    Refused(StatusCode, String),
}

/// The place of a connect among those that its browser has held.
enum Seating {
    /// It takes none from others.
    Unneeded,
    /// If it has to wait: in this browser, of which so many sessions may.
    Wanted(Browser, usize),
    /// It waits.
    Taken(#[expect(dead_code, reason = "held, never looked at")] Seat),
}

impl Seating {
    fn of(bounded: Option<(Browser, usize)>) -> Self {
        bounded.map_or(Self::Unneeded, |(browser, most)| Self::Wanted(browser, most))
    }
}

/// Handles the bodies of one request, and holds its connect until there is something to say.
pub(super) async fn poll(
    public: &Arc<Public>,
    connection: &Connection,
    who: &mut Requester,
    bodies: Vec<Bytes>,
    label: &metrics::Transport,
) -> Result<Polled, NoMessages> {
    let carrier = public.sessions.carrier(CarrierKind::Exchange);
    let mut exchanged = match exchange(public, who, carrier, None, &bodies).await {
        Ok(Ok(exchanged)) => exchanged,
        Ok(Err(error)) => {
            debug!(%error, "a body cannot be answered");
            return Err(NoMessages::Refused(
                StatusCode::SERVICE_UNAVAILABLE,
                error.to_string(),
            ));
        }
        Err(error) => {
            public.count_refusal("body_invalid");
            return Err(NoMessages::Refused(StatusCode::BAD_REQUEST, error.to_string()));
        }
    };
    // A held connect need not keep what it was asked with.
    drop(bodies);
    let mut refused = None;
    if let Some(stray) = exchanged.unknown.take() {
        let lateness = public.judge(who.origin.client, &stray, exchanged.session.is_some());
        let seconds = lateness.delay.as_secs() + 1;
        refused = (lateness.refused).then_some(TryLater(StatusCode::TOO_MANY_REQUESTS, seconds));
        wait(public, lateness.delay).await;
    }
    if let Some((status, again)) = exchanged.later {
        refused = Some(TryLater(status, again.seconds().into()));
    }
    let seating = Seating::of(who.browser.clone().zip(connection.most_held()));
    let polled = respond(public, carrier, seating, exchanged, label).await?;
    Ok(Polled { refused, ..polled })
}

/// Waits, but not longer than the process runs.
async fn wait(public: &Public, delay: Duration) {
    if delay > Duration::ZERO {
        let mut shutdown = public.shutdown.clone();
        let _ = tokio::time::timeout(delay, shutdown.wait()).await;
    }
}

async fn respond(
    public: &Arc<Public>,
    carrier: bayeux::Carrier,
    mut seating: Seating,
    exchanged: Exchanged,
    label: &metrics::Transport,
) -> Result<Polled, NoMessages> {
    // Held until the end: the session hears of it when this future is dropped.
    let _attached = exchanged.attached;
    let mut held = Held::default();
    let wanted = Wanted::of(&exchanged.replies);
    if let Some(handle) = &wanted.handle {
        let place = (carrier, &mut seating);
        hold(public, handle, place, wanted.replies, &mut held, label).await?;
    }
    public.metrics.deliveries.get_or_create(label).inc_by(held.events);
    let mut body = held.body;
    for (number, place) in exchanged.replies.iter().enumerate() {
        match place {
            Place::Reply(reply) => body.reply(reply),
            Place::Connect(_) if Some(number) == wanted.connect_at => {
                held.connect.iter().for_each(|reply| body.reply(reply));
            }
            // A later connect of the same request has taken its place, and there is one answer.
            Place::Connect(_) | Place::Greeting(_) => {}
        }
    }
    let answered = wanted.handle.filter(|_| held.connect.is_some());
    Ok(Polled {
        messages: body.finish(),
        shook_hands: exchanged.shook_hands,
        is_served: exchanged.session.is_some_and(|handle| !handle.is_elsewhere()),
        answered: answered.map(|handle| LastReply { handle, carrier }),
        refused: None,
    })
}

/// What a session answers by itself.
#[derive(Default)]
struct Held {
    /// What it says before other replies, in its order: the reply to a handshake and the events that follow it, and what leaves
    /// with a connect.
    body: Body,
    /// The number of events in it.
    events: u64,
    /// The reply to a connect, which comes in the place of its connect.
    connect: Option<Box<bayeux::Reply>>,
}

impl Held {
    fn take(&mut self, reply: Box<bayeux::Reply>) {
        if reply.opens_session() {
            self.body.reply(&reply);
        } else {
            self.connect = Some(reply);
        }
    }
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
    (carrier, seating): (bayeux::Carrier, &mut Seating),
    wanted: usize,
    held: &mut Held,
    label: &metrics::Transport,
) -> Result<(), NoMessages> {
    let _counted = Counted::new(public, label);
    let mut shutdown = public.shutdown.clone();
    let mut stopping = false;
    let mut replies = 0;
    while replies < wanted {
        let outputs = tokio::select! {
            outputs = outputs(public, handle, carrier, seating) => outputs,
            () = shutdown.wait(), if !stopping => {
                stopping = true;
                public.sessions.release(handle);
                continue;
            }
        };
        for output in outputs {
            match output {
                Output::Event(event) => {
                    held.body.event(&event);
                    held.events += 1;
                }
                Output::Direct(message) => held.body.direct(&message),
                Output::Reply(reply) => {
                    replies += 1;
                    held.take(reply);
                }
                Output::ReadLog(after) => {
                    public
                        .sessions
                        .read_log(handle, carrier, after)
                        .await
                        .map_err(|_| {
                            NoMessages::Refused(
                                StatusCode::SERVICE_UNAVAILABLE,
                                "the log cannot be read".to_owned(),
                            )
                        })?;
                }
                Output::Superseded => return Err(NoMessages::Superseded),
                Output::Ping(_) | Output::Refused => {}
            }
        }
    }
    Ok(())
}

/// What there is to do: at once if there is anything, since only who waits is in the way of others.
async fn outputs(
    public: &Public,
    handle: &Arc<Handle>,
    carrier: bayeux::Carrier,
    seating: &mut Seating,
) -> Vec<Output> {
    if let Seating::Wanted(browser, most) = seating {
        let outputs = public.sessions.outputs(handle, carrier, usize::MAX).now();
        if !outputs.is_empty() {
            return outputs;
        }
        let seat = public.crowd.seat(browser, handle, *most);
        if seat.is_none() {
            let interval = public.config.session.multi_session_interval.0;
            public.sessions.handle_crowded(handle, carrier, interval);
        }
        *seating = seat.map_or(Seating::Unneeded, Seating::Taken);
    }
    public.sessions.outputs(handle, carrier, usize::MAX).await
}

/// A request that was refused as a whole. Some clients read the JSON, so it is a Bayeux message; the status says the rest.
pub(super) fn refuse(status: StatusCode, reason: &str) -> Reply {
    let body = json!([{ "successful": false, "error": format!("{}::{reason}", status.as_u16()) }]);
    let mut response = http::json(status, body.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    response
}

impl Polled {
    /// The response, with what `body` makes of the messages. An error is what ends the loop of a client that takes no notice of
    /// what is in a success.
    pub(super) fn response(
        self,
        connection: &Connection,
        content_type: &'static str,
        body: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> Reply {
        let mut response = http::with_type(StatusCode::OK, content_type, body(self.messages).into());
        if let Some(answered) = self.answered {
            connection.replies_for(answered, &mut response);
        }
        if let Some(TryLater(status, seconds)) = self.refused {
            *response.status_mut() = status;
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Counts a held connect for as long as it is held.
struct Counted<'a> {
    public: &'a Public,
    label: &'a metrics::Transport,
}

impl<'a> Counted<'a> {
    fn new(public: &'a Public, label: &'a metrics::Transport) -> Self {
        public.metrics.connections.get_or_create(label).inc();
        Self { public, label }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.public.metrics.connections.get_or_create(self.label).dec();
    }
}
