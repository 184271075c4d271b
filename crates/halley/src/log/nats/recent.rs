//! The newest events in memory, by user and by channel: what sessions read that come back soon, without a question to the
//! servers.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use bayeux::{ChannelName, Delivery, Offset, Reach};

use super::super::{Appended, Interest, Limit};
use crate::event::{Audience, Tenant, UserId};

/// What an event costs beside its frame: its places in the queues.
const OVERHEAD: usize = 192;

/// Every event after `begin`, and none before.
pub(super) struct Recent {
    begin: Offset,
    bytes: usize,
    most_bytes: usize,
    order: VecDeque<Place>,
    own: HashMap<(Tenant, UserId), Queue>,
    everyone: HashMap<Tenant, HashMap<ChannelName, Queue>>,
}

type Queue = VecDeque<Arc<Delivery>>;

struct Place {
    tenant: Tenant,
    audience: Audience,
    delivery: Arc<Delivery>,
}

/// Some events of an interest, in order.
pub(super) struct Taken {
    pub(super) events: Vec<Arc<Delivery>>,
    /// There are more.
    pub(super) cut: bool,
}

impl Recent {
    pub(super) fn new(begin: Offset, most_bytes: usize) -> Self {
        Self {
            begin,
            bytes: 0,
            most_bytes,
            order: VecDeque::new(),
            own: HashMap::new(),
            everyone: HashMap::new(),
        }
    }

    /// After this offset, everything is here.
    pub(super) fn begin(&self) -> Offset {
        self.begin
    }

    /// Adds the newest event, and lets the oldest go that have no more room.
    pub(super) fn push(&mut self, event: &Appended) {
        let queue = match &event.audience {
            Audience::User(user) => self.own.entry((event.tenant.clone(), user.clone())).or_default(),
            Audience::Everyone => {
                let channels = self.everyone.entry(event.tenant.clone()).or_default();
                channels.entry(event.delivery.channel().clone()).or_default()
            }
        };
        queue.push_back(event.delivery.clone());
        self.bytes += cost(&event.delivery);
        self.order.push_back(Place {
            tenant: event.tenant.clone(),
            audience: event.audience.clone(),
            delivery: event.delivery.clone(),
        });
        while self.bytes > self.most_bytes {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.order.pop_front() else {
            return;
        };
        self.begin = oldest.delivery.offset();
        self.bytes -= cost(&oldest.delivery);
        match oldest.audience {
            Audience::User(user) => forget_first(self.own.entry((oldest.tenant, user))),
            Audience::Everyone => {
                let Entry::Occupied(mut channels) = self.everyone.entry(oldest.tenant) else {
                    return;
                };
                forget_first(channels.get_mut().entry(oldest.delivery.channel().clone()));
                if channels.get().is_empty() {
                    channels.remove();
                }
            }
        }
    }

    /// The events of an interest after `after` and up to `through`. Whoever asks knows that nothing is missing.
    pub(super) fn read(&self, interest: &Interest, after: Offset, through: Offset, limit: Limit) -> Taken {
        let wanted = |delivery: &Delivery| {
            interest
                .patterns
                .iter()
                .any(|pattern| pattern.matches(delivery.channel()))
        };
        let mut queues: Vec<&Queue> = Vec::new();
        if let Some(user) = &interest.user {
            queues.extend(self.own.get(&(interest.tenant.clone(), user.clone())));
        }
        if let Some(channels) = self.everyone.get(&interest.tenant) {
            queues.extend(queues_for(channels, interest));
        }
        let mut sources: Vec<_> = queues
            .into_iter()
            .map(|queue| {
                let from = queue.partition_point(|delivery| delivery.offset() <= after);
                queue.range(from..).filter(|delivery| wanted(delivery)).peekable()
            })
            .collect();
        let mut next: BinaryHeap<_> = sources
            .iter_mut()
            .enumerate()
            .filter_map(|(place, source)| Some(Reverse((source.peek()?.offset(), place))))
            .collect();
        let mut page = Page::new(limit);
        while let Some(Reverse((offset, place))) = next.pop() {
            let source = &mut sources[place];
            let Some(delivery) = source.next().filter(|_| offset <= through) else {
                break;
            };
            if !page.take(delivery.clone()) {
                break;
            }
            next.extend(source.peek().map(|delivery| Reverse((delivery.offset(), place))));
        }
        page.done()
    }
}

/// A page that grows until one of its limits is reached.
pub(super) struct Page {
    limit: Limit,
    bytes: usize,
    some: Taken,
}

impl Page {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            limit,
            bytes: 0,
            some: Taken {
                events: Vec::new(),
                cut: false,
            },
        }
    }

    /// Whether there was room for it.
    pub(super) fn take(&mut self, delivery: Arc<Delivery>) -> bool {
        let is_full = self.some.events.len() >= self.limit.events
            || self.bytes.saturating_add(delivery.size()) > self.limit.bytes;
        if is_full && !self.some.events.is_empty() {
            self.some.cut = true;
            return false;
        }
        self.bytes += delivery.size();
        self.some.events.push(delivery);
        true
    }

    /// Goes on with what was read under the same limit.
    pub(super) fn take_all(&mut self, more: Taken) {
        for delivery in more.events {
            if !self.take(delivery) {
                return;
            }
        }
        self.some.cut |= more.cut;
    }

    pub(super) fn done(self) -> Taken {
        self.some
    }
}

/// The channels that some pattern matches: one look-up for a pattern without wildcard, and one walk for all others.
fn queues_for<'a>(channels: &'a HashMap<ChannelName, Queue>, interest: &Interest) -> Vec<&'a Queue> {
    if interest
        .patterns
        .iter()
        .any(|pattern| pattern.reach() != Reach::Exact)
    {
        let matched = channels
            .iter()
            .filter(|(channel, _)| interest.patterns.iter().any(|pattern| pattern.matches(channel)));
        return matched.map(|(_, queue)| queue).collect();
    }
    let mut names: Vec<_> = interest.patterns.iter().map(|pattern| pattern.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let named = names.into_iter().filter_map(|name| ChannelName::parse(name).ok());
    named.filter_map(|name| channels.get(&name)).collect()
}

fn forget_first<K>(entry: Entry<'_, K, Queue>) {
    if let Entry::Occupied(mut queue) = entry {
        queue.get_mut().pop_front();
        if queue.get().is_empty() {
            queue.remove();
        }
    }
}

fn cost(delivery: &Delivery) -> usize {
    delivery.size() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use bayeux::ChannelPattern;
    use serde_json::value::RawValue;

    use super::*;

    fn event(offset: u64, user: Option<&str>, channel: &str) -> Appended {
        let data: &RawValue = serde_json::from_str("1").unwrap();
        let channel = ChannelName::parse(channel).unwrap();
        Appended {
            tenant: Tenant::default(),
            audience: user.map_or(Audience::Everyone, |user| Audience::User(UserId(user.into()))),
            delivery: Arc::new(Delivery::encode(Offset(offset), channel, data)),
        }
    }

    fn read(recent: &Recent, user: &str, patterns: &[&str], after: u64) -> Vec<u64> {
        let interest = Interest {
            tenant: Tenant::default(),
            user: Some(UserId(user.into())),
            patterns: patterns
                .iter()
                .map(|text| ChannelPattern::parse(text).unwrap())
                .collect(),
        };
        let limit = Limit {
            events: 100,
            bytes: usize::MAX,
        };
        let some = recent.read(&interest, Offset(after), Offset::MAX, limit);
        some.events.iter().map(|event| event.offset().0).collect()
    }

    #[test]
    fn own_events_and_those_for_everyone_come_in_one_order() {
        let mut recent = Recent::new(Offset::START, usize::MAX);
        recent.push(&event(1, Some("u"), "/a"));
        recent.push(&event(2, None, "/b"));
        recent.push(&event(4, Some("v"), "/a"));
        recent.push(&event(7, None, "/a"));
        recent.push(&event(9, Some("u"), "/b"));
        assert_eq!(read(&recent, "u", &["/a", "/b", "/b"], 0), [1, 2, 7, 9]);
        assert_eq!(read(&recent, "u", &["/*"], 2), [7, 9]);
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room_and_nothing_is_left_of_them() {
        let mut recent = Recent::new(Offset::START, 2 * cost(&event(1, None, "/a").delivery));
        for offset in 1..=5 {
            recent.push(&event(offset, None, "/a"));
        }
        recent.push(&event(6, Some("u"), "/a"));
        recent.push(&event(7, Some("u"), "/a"));
        assert_eq!(recent.begin(), Offset(5));
        assert_eq!(read(&recent, "u", &["/a"], 5), [6, 7]);
        assert!(recent.everyone.is_empty() && recent.own.len() == 1);
    }
}
