//! The events of one bucket that one interest asks for, in the order of their offsets.
//!
//! A user's own events and those of each channel are ranges of their own: each is a source, and a heap says which one
//! is next. A channel that a wildcard found waits with nothing but its first offset, so that a page of ten events from
//! ten thousand channels opens ten ranges.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use bayeux::{ChannelName, ChannelPattern, Delivery, Offset, Reach};
use bytes::Bytes;
use fjall::{Iter, Keyspace};

use super::catalogue::damaged;
use super::keys::{self, Prefix};
use super::{scan, unusable};
use crate::event::Tenant;
use crate::log::{Interest, LogError};

pub(super) struct Merge<'a> {
    events: &'a Keyspace,
    tenant: &'a Tenant,
    through: Offset,
    sources: Vec<Source<'a>>,
    next: BinaryHeap<Reverse<(Offset, usize)>>,
}

enum Source<'a> {
    /// Nothing is read yet.
    Waiting(ChannelName),
    Open(Range<'a>),
}

struct Range<'a> {
    entries: Iter,
    /// The event that the heap knows of.
    head: Option<Arc<Delivery>>,
    /// Only channels that one of these matches; everything if there are none.
    only: &'a [ChannelPattern],
    /// The channel of the last event: mostly that of the next one too.
    channel: Option<ChannelName>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        events: &'a Keyspace,
        interest: &'a Interest,
        after: Offset,
        through: Offset,
    ) -> Result<Self, LogError> {
        let mut merge = Self {
            events,
            tenant: &interest.tenant,
            through,
            sources: Vec::new(),
            next: BinaryHeap::new(),
        };
        if let (Some(user), false) = (&interest.user, interest.patterns.is_empty()) {
            let range = merge.range(
                &Prefix::user(&interest.tenant, user),
                after.next(),
                &interest.patterns,
            );
            merge.open(range)?;
        }
        let mut found = BTreeMap::new();
        for pattern in interest
            .patterns
            .iter()
            .filter(|pattern| pattern.reach() != Reach::Exact)
        {
            scan::channels(events, &interest.tenant, pattern, after, &mut found)?;
        }
        for pattern in interest
            .patterns
            .iter()
            .filter(|pattern| pattern.reach() == Reach::Exact)
        {
            let name = ChannelName::parse(pattern.as_str()).expect("a pattern is a channel name");
            found.entry(name).or_insert(after.next());
        }
        for (channel, first) in found {
            merge.next.push(Reverse((first, merge.sources.len())));
            merge.sources.push(Source::Waiting(channel));
        }
        Ok(merge)
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Result<Option<Arc<Delivery>>, LogError> {
        while let Some(Reverse((offset, index))) = self.next.pop() {
            if let Source::Waiting(channel) = &self.sources[index] {
                let prefix = Prefix::channel(self.tenant, channel.as_str());
                self.sources[index] = Source::Open(self.range(&prefix, offset, &[]));
                self.advance(index)?;
                continue;
            }
            let event = match &mut self.sources[index] {
                Source::Open(range) => range.head.take(),
                Source::Waiting(_) => None,
            };
            self.advance(index)?;
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn range(&self, prefix: &Prefix, from: Offset, only: &'a [ChannelPattern]) -> Range<'a> {
        let entries = self.events.range(prefix.at(from)..=prefix.at(self.through));
        Range {
            entries,
            head: None,
            only,
            channel: None,
        }
    }

    fn open(&mut self, range: Range<'a>) -> Result<(), LogError> {
        self.sources.push(Source::Open(range));
        self.advance(self.sources.len() - 1)
    }

    /// Reads the next event of a source and puts it back in the queue.
    fn advance(&mut self, index: usize) -> Result<(), LogError> {
        if let Source::Open(range) = &mut self.sources[index] {
            range.head = range.read()?;
            if let Some(event) = &range.head {
                self.next.push(Reverse((event.offset(), index)));
            }
        }
        Ok(())
    }
}

impl Range<'_> {
    fn read(&mut self) -> Result<Option<Arc<Delivery>>, LogError> {
        for entry in &mut self.entries {
            let (key, value) = entry.into_inner().map_err(unusable)?;
            let (Some(offset), Some((marks, name, frame))) = (keys::offset(&key), keys::split_value(&value))
            else {
                return Err(damaged("an event is none"));
            };
            let channel = match self.channel.take() {
                Some(channel) if channel.as_str() == name => channel,
                Some(_) | None => ChannelName::parse(name)
                    .map_err(|error| damaged(&format!("a channel is none: {error}")))?,
            };
            let wanted = self.only.is_empty() || self.only.iter().any(|pattern| pattern.matches(&channel));
            self.channel = Some(channel.clone());
            if wanted {
                // Copied, so that an event in a queue does not keep the block alive that it was read from.
                let frame = Bytes::copy_from_slice(frame);
                return Ok(Some(Arc::new(Delivery::from_frame(
                    offset, channel, frame, marks,
                ))));
            }
        }
        Ok(None)
    }
}
