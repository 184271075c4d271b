//! Reading: from memory what is recent, from the servers what is older.
//!
//! The servers are asked by consumers that live for one read, one for each subject that an interest touches, and what they find is
//! merged. Nothing is left out silently: where copies of the stream are on several servers, the one that leads has the last word.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::RawMessageErrorKind;
use bayeux::{ChannelPattern, Delivery, Offset, Reach};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::super::{Interest, Limit, LogError, Page};
use super::message::Incoming;
use super::recent;
use super::shared::Shared;

/// Reads of the servers that may be under way at once.
const READS: usize = 16;
/// Consumers of one read that may be under way at once.
const SOURCES: usize = 8;
/// Messages that are asked for at once.
const MESSAGES: usize = 500;
/// How long the servers keep a consumer that could not be deleted.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// How long a server that is behind is let rest, and how often.
const BEHIND: (Duration, u32) = (Duration::from_millis(100), 20);

pub(super) struct Reader {
    shared: Arc<Shared>,
    room: Semaphore,
}

/// What the servers have for one subject.
#[derive(Default)]
struct Source {
    events: Vec<Arc<Delivery>>,
    bytes: usize,
    /// The last message that was looked at.
    last: Offset,
}

/// Why nothing more is read from a consumer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is as much as was asked for.
    Enough,
    /// What comes is later than what was asked for.
    Beyond,
    /// The consumer knows of nothing more.
    Dry,
    /// The consumer has more, and does not give it.
    Stuck,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            room: Semaphore::new(READS),
        }
    }

    /// A page from memory, if everything after `after` is there.
    pub(super) fn recent(&self, interest: &Interest, after: Offset, limit: Limit) -> Option<Page> {
        let through = self.shared.tail.last();
        let first = self.shared.bounds().first;
        let recent = self.shared.recent.read();
        if after < recent.begin() && first < recent.begin().next() {
            return None;
        }
        // What retention has dropped is not shown, even if it is here yet.
        let from = after.max(Offset(first.0.saturating_sub(1)));
        let taken = recent.read(interest, from, through, limit);
        Some(page(taken, through, gap(first, after)))
    }

    /// A page that begins before what is in memory.
    pub(super) async fn older(
        &self,
        interest: Interest,
        after: Offset,
        limit: Limit,
    ) -> Result<Page, LogError> {
        let _room = self.room.acquire().await.map_err(|_| super::ended())?;
        let mut events = recent::Page::new(limit);
        let mut from = after;
        loop {
            let begin = self.shared.recent.read().begin();
            let (found, until) = self.ask_servers(&interest, from, begin, limit).await?;
            // Asked for afterwards: what has gone meanwhile is a gap, however little of it was read.
            self.shared.refresh().await?;
            let first = self.shared.bounds().first;
            let gap = gap(first, after);
            for event in found.into_iter().filter(|event| event.offset() >= first) {
                if !events.take(event) {
                    return Ok(page(events.done(), until, gap));
                }
            }
            if until == begin {
                match self.with_recent(events, &interest, (begin, after), gap, limit) {
                    Ok(page) => return Ok(page),
                    Err(unchanged) => events = unchanged,
                }
            }
            // There is more than was asked for, or what was in memory is not any more.
            from = until;
        }
    }

    /// Goes on after `begin` with what is in memory. If that begins later by now, nothing is read.
    fn with_recent(
        &self,
        mut events: recent::Page,
        interest: &Interest,
        (begin, after): (Offset, Offset),
        gap: Option<Offset>,
        limit: Limit,
    ) -> Result<Page, recent::Page> {
        let through = self.shared.tail.last();
        let left = gap.map_or(Offset::START, |first| Offset(first.0 - 1));
        let from = begin.max(after).max(left);
        let recent = self.shared.recent.read();
        if recent.begin() > from {
            return Err(events);
        }
        events.take_all(recent.read(interest, from, through, limit));
        Ok(page(events.done(), through, gap))
    }

    /// Events of an interest after `after` and up to the offset that is returned with them: `until`, if all of them are about as
    /// many as the limit takes.
    async fn ask_servers(
        &self,
        interest: &Interest,
        after: Offset,
        until: Offset,
        limit: Limit,
    ) -> Result<(Vec<Arc<Delivery>>, Offset), LogError> {
        if until <= after {
            return Ok((Vec::new(), until));
        }
        let sources = self
            .subjects(interest)
            .into_iter()
            .map(|subject| async move { self.source(&subject, interest, after, until, limit).await });
        let sources: Vec<(Source, Offset)> = futures::stream::iter(sources)
            .buffer_unordered(SOURCES)
            .try_collect()
            .await?;
        let until = sources.iter().map(|(_, until)| *until).min().unwrap_or(until);
        let mut events: Vec<_> = sources
            .into_iter()
            .flat_map(|(source, _)| source.events)
            .collect();
        events.retain(|event| event.offset() <= until);
        events.sort_by_key(|event| event.offset());
        events.dedup_by_key(|event| event.offset());
        Ok((events, until))
    }

    fn subjects(&self, interest: &Interest) -> Vec<String> {
        let names = &self.shared.form.names;
        let mut subjects: Vec<_> = widest(&interest.patterns)
            .map(|pattern| names.events_for_everyone(&interest.tenant, pattern))
            .collect();
        if let Some(user) = interest.user.as_ref().filter(|_| !interest.patterns.is_empty()) {
            subjects.push(names.events_of_user(&interest.tenant, user));
        }
        subjects.sort_unstable();
        subjects.dedup();
        subjects
    }

    /// What is in one subject, and up to where.
    async fn source(
        &self,
        subject: &str,
        interest: &Interest,
        after: Offset,
        until: Offset,
        limit: Limit,
    ) -> Result<(Source, Offset), LogError> {
        let mut source = Source {
            last: after,
            ..Source::default()
        };
        let (pause, times) = BEHIND;
        for _ in 0..times {
            let consumer = self.consumer(subject, source.last).await?;
            let end = self.drain(&consumer, &mut source, interest, until, limit).await;
            self.forget(&consumer);
            match end? {
                End::Enough => {
                    let last = source.last;
                    return Ok((source, last));
                }
                End::Beyond => return Ok((source, until)),
                End::Dry if !self.is_behind(subject, source.last, until).await? => {
                    return Ok((source, until));
                }
                End::Dry | End::Stuck => tokio::time::sleep(pause).await,
            }
        }
        Err(LogError::Unanswered(
            "the server that was asked has less of the stream than the others".into(),
        ))
    }

    async fn consumer(&self, subject: &str, after: Offset) -> Result<Consumer<pull::Config>, LogError> {
        let configuration = pull::Config {
            description: Some(format!("a read of the node {}", self.shared.core.me)),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: after.0 + 1,
            },
            ack_policy: AckPolicy::None,
            filter_subject: subject.to_owned(),
            inactive_threshold: FORGOTTEN_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        self.shared
            .stream
            .create_consumer(configuration)
            .await
            .map_err(unanswered)
    }

    async fn drain(
        &self,
        consumer: &Consumer<pull::Config>,
        source: &mut Source,
        interest: &Interest,
        until: Offset,
        limit: Limit,
    ) -> Result<End, LogError> {
        let within = self.shared.core.settings.shared.answer_within;
        let mut pending = consumer.cached_info().num_pending;
        let mut before = 0;
        while pending > 0 {
            let batch = consumer
                .fetch()
                .max_messages(MESSAGES.min(limit.events.saturating_add(1)));
            let mut messages = batch.messages().await.map_err(unanswered)?;
            let mut is_stuck = true;
            while let Some(message) = tokio::time::timeout(within, messages.next())
                .await
                .map_err(unanswered)?
            {
                let message = message.map_err(unanswered)?;
                let info = message.info().map_err(unanswered)?;
                if info.consumer_sequence != before + 1 {
                    // The connection was lost meanwhile, and messages with it.
                    return Ok(End::Stuck);
                }
                let offset = Offset(info.stream_sequence);
                if offset > until {
                    return Ok(End::Beyond);
                }
                (is_stuck, pending, before) = (false, info.pending, info.consumer_sequence);
                source.add(self.event(&message, interest, offset), offset);
                if source.is_enough(limit) {
                    return Ok(End::Enough);
                }
            }
            if is_stuck {
                return Ok(End::Stuck);
            }
        }
        Ok(End::Dry)
    }

    fn event(&self, message: &Message, interest: &Interest, offset: Offset) -> Option<Arc<Delivery>> {
        let info = message.info().ok()?;
        let incoming = Incoming {
            subject: &message.subject,
            headers: message.headers.as_ref(),
            payload: &message.payload,
            stored: info.published.unix_timestamp_nanos(),
            offset,
        };
        let delivery = self.shared.form.read(&incoming).ok()?.delivery;
        let is_wanted = interest
            .patterns
            .iter()
            .any(|pattern| pattern.matches(delivery.channel()));
        is_wanted.then_some(delivery)
    }

    /// Whether there is more of a subject than a consumer has found, as the server says that leads the others.
    async fn is_behind(&self, subject: &str, from: Offset, until: Offset) -> Result<bool, LogError> {
        if self.shared.origin.config.num_replicas <= 1 {
            return Ok(false);
        }
        let next = self
            .shared
            .stream
            .raw_message_builder()
            .sequence(from.0 + 1)
            .next_by_subject(subject)
            .send()
            .await;
        match next {
            Ok(message) => Ok(Offset(message.sequence) <= until),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
            Err(error) => Err(unanswered(error)),
        }
    }

    fn forget(&self, consumer: &Consumer<pull::Config>) {
        let stream = self.shared.stream.clone();
        let name = consumer.cached_info().name.clone();
        self.shared.core.spawn(async move {
            // Without an answer the servers forget it by themselves.
            let _ = stream.delete_consumer(&name).await;
        });
    }
}

impl Source {
    fn add(&mut self, event: Option<Arc<Delivery>>, offset: Offset) {
        self.last = offset;
        self.bytes += event.as_ref().map_or(0, |event| event.size());
        self.events.extend(event);
    }

    /// One more than fits, so that whoever merges sees that there is more.
    fn is_enough(&self, limit: Limit) -> bool {
        self.events.len() > limit.events || self.events.len() > 1 && self.bytes > limit.bytes
    }
}

/// Patterns that no other one contains.
fn widest(patterns: &[ChannelPattern]) -> impl Iterator<Item = &ChannelPattern> {
    let contains = |wide: &ChannelPattern, narrow: &ChannelPattern| {
        wide != narrow
            && wide.reach() == Reach::Descendants
            && narrow.as_str().len() > wide.stem().len()
            && narrow.as_str().starts_with(wide.stem())
    };
    patterns
        .iter()
        .filter(move |narrow| !patterns.iter().any(|wide| contains(wide, narrow)))
}

fn page(taken: recent::Taken, through: Offset, gap: Option<Offset>) -> Page {
    let newest = taken.events.last().map(|event| event.offset());
    Page {
        through: newest.filter(|_| taken.cut).unwrap_or(through),
        events: taken.events,
        gap,
    }
}

fn gap(first: Offset, after: Offset) -> Option<Offset> {
    (first > after.next()).then_some(first)
}

fn unanswered(error: impl ToString) -> LogError {
    LogError::Unanswered(error.to_string().into())
}
