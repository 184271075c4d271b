//! How requests travel: the seam between the session and the network.

mod cookies;
mod endpoint;
mod http;
mod long_polling;
mod websocket;

use std::task::{Context, Poll};

use crate::reply::Incoming;
use crate::request::{MessageId, Request};

pub(crate) use endpoint::Endpoint;
pub(crate) use long_polling::LongPolling;
pub(crate) use websocket::WebSocket;

/// Carries requests to the server and messages back.
///
/// It connects when there is something to send, and again after a failure when there is something
/// to send again. Nothing happens between two calls of `poll_report`, so a client that does not poll
/// does not read. Dropping it closes its connections.
pub(crate) trait Transport: Send {
    /// The name in `supportedConnectionTypes` and `connectionType`.
    const CONNECTION_TYPE: &'static str;

    /// Takes a batch to be sent by the next `poll_report`.
    fn send(&mut self, batch: Vec<Request>);

    /// Ends the exchange that should have brought the answer to this request.
    fn abandon(&mut self, id: MessageId);

    fn poll_report(&mut self, context: &mut Context<'_>) -> Poll<Report>;

    /// Says goodbye to the server, as far as the transport has words for it.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a transport has to tell.
#[derive(Debug)]
pub(crate) enum Report {
    Received(Vec<Incoming>),
    /// These requests will not be answered, unless they already were.
    Lost {
        ids: Vec<MessageId>,
        reason: String,
    },
    /// No request sent before this will be answered.
    Broken {
        reason: String,
    },
}
