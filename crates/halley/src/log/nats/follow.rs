//! Following the stream: one consumer of this node, which the servers forget when it is gone. It is made anew after the last event
//! whenever it ends, fails or falls silent, so nothing is missed, and what comes again is dropped.
//!
//! Messages are asked for, not sent by themselves: a follower that is slow slows nothing down but itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, message::StreamMessage};
use bayeux::Offset;
use futures::StreamExt;
use tokio::sync::oneshot;

use super::super::{Appended, LogError};
use super::connect;
use super::message::{Incoming, NoEvent};
use super::shared::Shared;

/// A consumer that says nothing for twice as long is made anew.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Messages that are asked for at once.
const MESSAGES: usize = 256;
/// How long the servers keep a consumer that nobody asks any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// How long a failed attempt is let rest.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How often it is tried to get past one message before it is fetched by itself.
const TRIES: u32 = 3;
/// For how long the servers may have less than they had before it counts as lost: they may be reading their files yet.
const LOST_AFTER: Duration = Duration::from_secs(15);
/// How often skipped messages are spoken of.
const SPEAK_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Follow {
    shared: Arc<Shared>,
    /// The last message that was seen.
    last: Offset,
    /// Told when the node knows everything up to an offset.
    ready: Option<(Offset, oneshot::Sender<()>)>,
    /// Attempts since the last message.
    tries: u32,
    behind_since: Option<Instant>,
    skipped: Skipped,
}

#[derive(Default)]
struct Skipped {
    since: u64,
    spoken: Option<Instant>,
}

impl Follow {
    pub(super) fn new(shared: Arc<Shared>, after: Offset, ready: (Offset, oneshot::Sender<()>)) -> Self {
        let mut follow = Self {
            shared,
            last: after,
            ready: Some(ready),
            tries: 0,
            behind_since: None,
            skipped: Skipped::default(),
        };
        follow.say_when_ready();
        follow
    }

    pub(super) async fn run(mut self) {
        loop {
            self.shared.core.presence.connected().await;
            let last = self.last;
            if let Err(error) = self.consume().await {
                tracing::debug!(%error, "the consumer of the events is made anew");
            }
            self.tries = if self.last > last { 0 } else { self.tries + 1 };
            if self.last == last {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    async fn consume(&mut self) -> Result<(), LogError> {
        let info = self.shared.refresh().await?;
        self.require_not_behind(Offset(info.state.last_sequence))?;
        if self.tries >= TRIES && info.state.last_sequence > self.last.0 {
            self.fetch_one().await?;
        }
        let consumer = self.shared.stream.create_consumer(self.configuration()).await;
        let consumer = consumer.map_err(unanswered)?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(MESSAGES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(unanswered)?;
        let mut messages = messages.ready_chunks(MESSAGES);
        let mut connection = self.shared.core.presence.watch();
        let mut before = 0;
        loop {
            let chunk = tokio::select! {
                chunk = messages.next() => chunk,
                _ = connection.wait_for(|connected| !connected) => None,
            };
            let Some(chunk) = chunk else { return Ok(()) };
            let mut events = Vec::with_capacity(chunk.len());
            let mut failed = None;
            let from = self.last;
            for message in chunk {
                match self.take_next(message, &mut before).await {
                    Ok(event) => events.extend(event),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            if self.last > from {
                self.shared.arrived(events, self.last).await;
                self.say_when_ready();
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    fn configuration(&self) -> pull::Config {
        pull::Config {
            description: Some(format!("events of the node {}", self.shared.core.me)),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: self.last.0 + 1,
            },
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        }
    }

    /// Takes the next message, if it is the next: `before` counts those of the consumer.
    async fn take_next(
        &mut self,
        message: Result<jetstream::Message, impl ToString>,
        before: &mut u64,
    ) -> Result<Option<Appended>, LogError> {
        let message = message.map_err(unanswered)?;
        let info = message.info().map_err(unanswered)?;
        let is_next = info.consumer_sequence == *before + 1;
        *before = info.consumer_sequence;
        let offset = Offset(info.stream_sequence);
        if !is_next || !self.is_nothing_before(offset).await? {
            return Err(LogError::Unanswered("messages are missing".into()));
        }
        self.take(&message)
    }

    /// Whether there is no message between the last one and this: the consumer is on one server, and where copies are on others, the
    /// one that leads has the last word.
    async fn is_nothing_before(&self, offset: Offset) -> Result<bool, LogError> {
        if offset <= self.last.next() || self.shared.origin.config.num_replicas <= 1 {
            return Ok(true);
        }
        Ok(Offset(self.next_message().await?.sequence) >= offset)
    }

    async fn next_message(&self) -> Result<StreamMessage, LogError> {
        let next = self
            .shared
            .stream
            .raw_message_builder()
            .sequence(self.last.0 + 1)
            .next_by_subject(self.shared.form.names.all_events())
            .send();
        next.await.map_err(unanswered)
    }

    fn take(&mut self, message: &jetstream::Message) -> Result<Option<Appended>, LogError> {
        let info = message.info().map_err(unanswered)?;
        let offset = Offset(info.stream_sequence);
        if offset <= self.last {
            return Ok(None);
        }
        self.last = offset;
        let read = self.shared.form.read(&Incoming {
            subject: &message.subject,
            headers: message.headers.as_ref(),
            payload: &message.payload,
            stored: info.published.unix_timestamp_nanos(),
            offset,
        });
        Ok(read.map_err(|why| self.skipped.count(offset, why)).ok())
    }

    /// Gets past a message that looks like one of the protocol's own: anybody can publish such.
    async fn fetch_one(&mut self) -> Result<(), LogError> {
        let found = self.next_message().await?;
        let offset = Offset(found.sequence);
        let read = self.shared.form.read(&Incoming {
            subject: &found.subject,
            headers: Some(&found.headers),
            payload: &found.payload,
            stored: found.time.unix_timestamp_nanos(),
            offset,
        });
        self.last = offset;
        let event = read.map_err(|why| self.skipped.count(offset, why)).ok();
        self.shared.arrived(event.into_iter().collect(), offset).await;
        self.say_when_ready();
        Ok(())
    }

    /// Servers that have lost what was acknowledged would give its offsets to other events.
    fn require_not_behind(&mut self, last: Offset) -> Result<(), LogError> {
        if last >= self.last {
            self.behind_since = None;
            return Ok(());
        }
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        if since.elapsed() > LOST_AFTER {
            self.shared.stop(&format!(
                "the servers have lost events: their stream ends at {last}, and this node has seen {}",
                self.last
            ));
        }
        Err(LogError::Away("the servers have less than they had".into()))
    }

    fn say_when_ready(&mut self) {
        if let Some((_, ready)) = self.ready.take_if(|(until, _)| *until <= self.last) {
            // Nobody waits any more when the start took too long.
            let _ = ready.send(());
        }
    }
}

impl Skipped {
    fn count(&mut self, offset: Offset, why: NoEvent) {
        self.since += 1;
        if self.spoken.is_none_or(|spoken| spoken.elapsed() >= SPEAK_EVERY) {
            let count = self.since;
            tracing::warn!(%offset, count, "skipped what is no event in the stream: {why}");
            *self = Self {
                since: 0,
                spoken: Some(Instant::now()),
            };
        }
    }
}

fn unanswered(error: impl ToString) -> LogError {
    LogError::Unanswered(error.to_string().into())
}

/// Keeps what is known of the stream fresh, once a second.
pub(super) async fn keep_fresh(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if connect::is_connected(&shared.core.client)
            && let Err(error) = shared.refresh().await
        {
            tracing::debug!(%error, "the servers do not answer for the stream");
        }
    }
}
