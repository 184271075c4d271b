//! Publishing: in the order of the calls, many under way at once, each answered when the servers have said what became of it.
//!
//! A batch is published event by event. When one of it fails, the call fails, and what came before it may be in the log: whoever
//! gives its events ids sends it again without harm.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use bayeux::Offset;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::super::{LogError, Position};
use super::connect;
use super::message::Outgoing;
use super::shared::Shared;

/// How often an event is published again that nobody took, as while servers choose a leader.
const AGAIN: u32 = 3;
/// How long nobody may be there.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// How long an answer waits for this node to know what it has published.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// Some events on their way.
pub(super) struct Call {
    pub(super) events: Vec<Outgoing>,
    /// When the publisher is to be answered at the latest.
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Vec<Position>, LogError>>,
}

/// Publishes what is called until nobody can call any more.
pub(super) async fn run(shared: Arc<Shared>, mut calls: mpsc::UnboundedReceiver<Call>) {
    while let Some(call) = calls.recv().await {
        let sent = send(&shared, &call.events, call.deadline).await;
        let of_call = shared.clone();
        shared.core.spawn(async move {
            let result = match sent {
                Ok(acknowledgements) => settle(&of_call, &call.events, acknowledgements, call.deadline).await,
                Err(error) => Err(error),
            };
            // Nobody may be waiting any more: the events are in the log all the same.
            let _ = call.answer.send(result);
        });
    }
}

/// Sends all of a call, without waiting for what becomes of it.
async fn send(
    shared: &Shared,
    events: &[Outgoing],
    deadline: Instant,
) -> Result<Vec<PublishAckFuture>, LogError> {
    let mut acknowledgements = Vec::with_capacity(events.len());
    for (place, event) in events.iter().enumerate() {
        let sent = send_one(shared, place, event, deadline).await;
        acknowledgements.push(sent.map_err(|error| partly(error, !acknowledgements.is_empty()))?);
    }
    Ok(acknowledgements)
}

/// An event that has not left is not in the log.
async fn send_one(
    shared: &Shared,
    place: usize,
    event: &Outgoing,
    deadline: Instant,
) -> Result<PublishAckFuture, LogError> {
    // What is sent without a connection would leave later, when nobody waits for it any more.
    if !connect::is_connected(&shared.core.client) {
        return Err(LogError::Away(
            "there is no connection to the NATS servers".into(),
        ));
    }
    let sending = shared
        .core
        .jetstream
        .send_publish(event.subject.clone(), event.message.clone());
    match tokio::time::timeout_at(deadline, sending).await {
        Ok(sent) => sent.map_err(|error| why(place, &error)),
        Err(_) => Err(LogError::Away("the NATS servers take nothing".into())),
    }
}

/// What became of a call.
async fn settle(
    shared: &Shared,
    events: &[Outgoing],
    acknowledgements: Vec<PublishAckFuture>,
    deadline: Instant,
) -> Result<Vec<Position>, LogError> {
    let mut positions = Vec::with_capacity(events.len());
    for (place, acknowledgement) in acknowledgements.into_iter().enumerate() {
        let settled = settle_one(shared, (place, &events[place]), acknowledgement, deadline).await;
        positions.push(settled.map_err(|error| partly(error, events.len() > 1))?);
    }
    if let Some(last) = positions.iter().map(|position| position.offset).max() {
        let mut reached = shared.reached.subscribe();
        // Not for long: the events are in the log, whether or not this node is slow.
        let _ = tokio::time::timeout(SEEN_WITHIN, reached.wait_for(|reached| *reached >= last)).await;
    }
    Ok(positions)
}

async fn settle_one(
    shared: &Shared,
    (place, event): (usize, &Outgoing),
    mut acknowledgement: PublishAckFuture,
    deadline: Instant,
) -> Result<Position, LogError> {
    for _ in 0..AGAIN {
        let may_wait = Instant::now() + AGAIN_AFTER < deadline;
        match acknowledged(acknowledgement, deadline).await? {
            Ok(ack) if is_under_way(&ack) && may_wait => {}
            Ok(ack) => return position(&ack),
            Err(error) if is_nobody(&error) && may_wait => {}
            Err(error) => return Err(why(place, &error)),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        acknowledgement = send_one(shared, place, event, deadline).await?;
    }
    let ack = acknowledged(acknowledgement, deadline).await?;
    position(&ack.map_err(|error| why(place, &error))?)
}

async fn acknowledged(
    acknowledgement: PublishAckFuture,
    deadline: Instant,
) -> Result<Result<PublishAck, PublishError>, LogError> {
    let waited = tokio::time::timeout_at(deadline, acknowledgement.into_future()).await;
    waited.map_err(|_| LogError::Unanswered("no server has said what became of an event".into()))
}

fn position(ack: &PublishAck) -> Result<Position, LogError> {
    if is_under_way(ack) {
        return Err(LogError::Unanswered("it is not stored yet".into()));
    }
    Ok(Position {
        offset: Offset(ack.sequence),
        duplicate: ack.duplicate,
    })
}

/// What some servers (2.10) say of an id that came before and is not stored, nor may ever be if they choose another leader now.
fn is_under_way(ack: &PublishAck) -> bool {
    ack.sequence == 0
}

/// Nobody took the event, or the same is being stored at the moment: later there is another answer.
fn is_nobody(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::StreamNotFound
        || [
            Some(ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT),
            Some(ErrorCode::CLUSTER_NOT_AVAILABLE),
        ]
        .contains(&code(error))
}

fn why(place: usize, error: &PublishError) -> LogError {
    let text = || error.to_string().into();
    match error.kind() {
        PublishErrorKind::StreamNotFound => LogError::Away("no server answers for the stream".into()),
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => LogError::Unanswered(text()),
        // It was looked at before: the servers take less since then.
        PublishErrorKind::MaxPayloadExceeded => LogError::TooLarge {
            place,
            why: format!("{error} (max_payload of the NATS servers)").into(),
        },
        PublishErrorKind::Other
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence => match code(error) {
            Some(
                ErrorCode::INSUFFICIENT_RESOURCES
                | ErrorCode::MEMORY_RESOURCES_EXCEEDED
                | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
                | ErrorCode::STREAM_STORE_FAILED,
            ) => {
                tracing::warn!(%error, "the NATS servers have no room for an event");
                LogError::Full(format!("the NATS servers have no room for an event: {error}").into())
            }
            Some(ErrorCode::CLUSTER_NOT_AVAILABLE) => LogError::Away(text()),
            Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM) => {
                LogError::TooLarge { place, why: text() }
            }
            Some(_) | None => LogError::Unanswered(text()),
        },
    }
}

fn code(error: &PublishError) -> Option<ErrorCode> {
    let source = error.source()?.downcast_ref::<jetstream::Error>()?;
    Some(source.error_code())
}

/// Nothing was stored, unless something else of the same call was.
fn partly(error: LogError, others: bool) -> LogError {
    match error {
        LogError::Away(why) if others => {
            LogError::Unanswered(format!("a part of the events may be stored: {why}").into())
        }
        LogError::Full(_)
        | LogError::TooLarge { .. }
        | LogError::Away(_)
        | LogError::Unanswered(_)
        | LogError::Taken
        | LogError::Stopped(_)
        | LogError::Unusable(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(json: &str) -> PublishAck {
        serde_json::from_str(json).expect("an acknowledgement")
    }

    #[test]
    fn an_id_whose_event_is_not_stored_is_no_duplicate() {
        let staged = position(&ack(r#"{"stream":"S","seq":0,"duplicate":true}"#));
        assert!(matches!(staged, Err(LogError::Unanswered(_))), "{staged:?}");
        let stored = position(&ack(r#"{"stream":"S","seq":7,"duplicate":true}"#));
        let stored = stored.expect("it is stored");
        assert_eq!((stored.offset, stored.duplicate), (Offset(7), true));
    }
}
