//! A stock client, and what it was promised: it applies a reply as a whole, says `advice.timeout` 0 after a failure, and
//! answers pings in order.

use std::collections::{BTreeMap, BTreeSet};

use bayeux::{Carrier, CarrierKind};
use serde_json::Value;

use super::world::Plan;
use crate::channel::{matches, segments};

pub(super) struct Client {
    acknowledges: bool,
    /// Events come to it with replies only, on a socket too.
    delivers_with_connect: bool,
    /// The number of the last reply.
    pub(super) acknowledged: u64,
    /// What it waits on.
    pub(super) link: Option<Carrier>,
    /// A connect was sent there and not answered.
    pub(super) connecting: bool,
    pub(super) recovering: bool,
    /// Events that came before the reply that they belong to.
    unapplied: Vec<u64>,
    seen: BTreeSet<u64>,
    /// The event that came last.
    position: u64,
    /// What it must get, and the subscriptions because of which.
    required: BTreeMap<u64, BTreeSet<u64>>,
    /// What it may get, since it has left the channel.
    optional: BTreeSet<u64>,
    /// What it asked for although it may have it, because of which subscriptions, and has not got since.
    again: BTreeMap<u64, BTreeSet<u64>>,
    /// All that it ever asked for in this way: that comes when nothing else is under way.
    replayed: BTreeSet<u64>,
    /// Each pattern, and which subscription it is: one that ends and begins again is another one.
    subscriptions: BTreeMap<String, u64>,
    subscribed: u64,
    /// It was told, or has brought it upon itself, that something below this is lost.
    excused_below: u64,
    /// The whole log was lost, and nobody has told it.
    is_owed_a_word: bool,
}

impl Client {
    pub(super) fn new(plan: Plan, position: u64) -> Self {
        Self {
            acknowledges: plan.acknowledges,
            delivers_with_connect: plan.delivers_with_connect(),
            acknowledged: 0,
            link: None,
            connecting: false,
            recovering: false,
            unapplied: Vec::new(),
            seen: BTreeSet::new(),
            position,
            required: BTreeMap::new(),
            optional: BTreeSet::new(),
            again: BTreeMap::new(),
            replayed: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            subscribed: 0,
            excused_below: 0,
            is_owed_a_word: false,
        }
    }

    pub(super) fn subscriptions(&self) -> Vec<&str> {
        self.subscriptions.keys().map(String::as_str).collect()
    }

    pub(super) fn subscribe(&mut self, pattern: &str) {
        let next = self.subscribed;
        self.subscribed += 1;
        self.subscriptions.entry(pattern.to_owned()).or_insert(next);
    }

    pub(super) fn unsubscribe(&mut self, pattern: &str) {
        let Some(left) = self.subscriptions.remove(pattern) else {
            return;
        };
        self.release(left, u64::MAX);
    }

    /// Something was published.
    pub(super) fn expect(&mut self, offset: u64, channel: &str) {
        let because = self.subscriptions_to(channel);
        if !because.is_empty() {
            self.required.insert(offset, because);
        }
    }

    /// It asked for everything after an offset on one of its patterns: what there is, besides what is still to come, and not
    /// what was before.
    pub(super) fn replay<'a>(
        &mut self,
        pattern: &str,
        after: u64,
        events: impl Iterator<Item = (u64, &'a str)>,
    ) {
        let subscription = self.subscriptions[pattern];
        self.release(subscription, after);
        let pattern = segments(pattern).expect("a pattern");
        for (offset, channel) in events {
            if offset > after && matches(&pattern, &segments(channel).expect("a name")) {
                self.required.entry(offset).or_default().insert(subscription);
                self.again.entry(offset).or_default().insert(subscription);
                self.replayed.insert(offset);
            }
        }
    }

    /// What was promised because of a subscription is not promised any more, up to an offset.
    fn release(&mut self, subscription: u64, through: u64) {
        let promised = self.required.range_mut(..=through);
        for (_, because) in promised.chain(self.again.range_mut(..=through)) {
            because.remove(&subscription);
        }
        self.again.retain(|_, because| !because.is_empty());
        let gone = self.required.extract_if(.., |_, because| because.is_empty());
        self.optional.extend(gone.map(|(offset, _)| offset));
    }

    /// The server goes on from the start of another log: these may come besides.
    pub(super) fn allow<'a>(&mut self, events: impl Iterator<Item = (u64, &'a str)>) {
        for (offset, channel) in events {
            if !self.required.contains_key(&offset) && !self.subscriptions_to(channel).is_empty() {
                self.optional.insert(offset);
            }
        }
    }

    fn subscriptions_to(&self, channel: &str) -> BTreeSet<u64> {
        let name = segments(channel).expect("a name");
        self.subscriptions
            .iter()
            .filter(|(pattern, _)| matches(&segments(pattern).expect("a pattern"), &name))
            .map(|(_, subscription)| *subscription)
            .collect()
    }

    /// Whether it asked for this event.
    pub(super) fn may_get(&self, offset: u64) -> bool {
        self.required.contains_key(&offset) || self.optional.contains(&offset)
    }

    /// An event came; with what it belongs to, if that is to come.
    pub(super) fn take_event(&mut self, offset: u64, carrier: Carrier, first: u64) {
        if self.delivers_with_connect || carrier.kind == CarrierKind::Exchange {
            self.unapplied.push(offset);
        } else {
            self.apply(offset, first);
        }
    }

    /// The reply that is about to come says that it brings another log from its start.
    pub(super) fn start_again(&mut self) {
        self.position = 0;
    }

    /// The reply to its connect came.
    pub(super) fn take_reply(&mut self, reply: &Value, first: u64, carrier: Carrier) {
        assert_eq!(reply["successful"], true, "{reply}");
        if reply["ext"]["recovered"] == false {
            let told = reply["ext"]["first"]
                .as_u64()
                .expect("the first offset that is there");
            self.excused_below = self.excused_below.max(told);
            self.is_owed_a_word = false;
        }
        if self.acknowledges {
            let number = reply["ext"]["ack"].as_u64().expect("a number to acknowledge");
            if number >> OFFSET_BITS > self.acknowledged >> OFFSET_BITS {
                // The session has gone back.
                self.position = 0;
            }
            self.acknowledged = number;
        }
        for offset in std::mem::take(&mut self.unapplied) {
            self.apply(offset, first);
        }
        self.recovering = false;
        self.connecting = false;
        if carrier.kind == CarrierKind::Exchange {
            self.link = None;
        }
    }

    /// In order; again only what nobody proved, and never with the extension.
    fn apply(&mut self, offset: u64, first: u64) {
        assert!(self.may_get(offset), "{offset} was not asked for");
        if self.acknowledges {
            assert!(offset > self.position, "{offset} came after {}", self.position);
        }
        let since = (self.position + 1).max(first).max(self.excused_below);
        let skipped = self
            .required
            .range(since.min(offset)..offset)
            .find(|(skipped, _)| !self.seen.contains(skipped) && !self.replayed.contains(skipped));
        assert!(skipped.is_none(), "{offset} came before {skipped:?}");
        self.seen.insert(offset);
        self.again.remove(&offset);
        self.position = offset;
    }

    pub(super) fn forget_unapplied(&mut self) {
        self.unapplied.clear();
    }

    /// It said that it has everything up to the offset of this number, true or not. Anything may come again.
    pub(super) fn has_claimed(&mut self, number: u64) {
        if number > self.acknowledged {
            self.excuse(number & OFFSET);
        }
        self.position = 0;
        if number > 0 {
            self.acknowledged = number;
        }
    }

    /// Its lies have caught up with it: it begins with nothing.
    pub(super) fn own_up(&mut self) {
        self.acknowledged = 0;
        self.position = 0;
    }

    /// Whatever there was up to here, it said that it has it.
    pub(super) fn excuse(&mut self, offset: u64) {
        self.excused_below = self.excused_below.max(offset + 1);
        self.is_owed_a_word = false;
    }

    /// The log is gone. What was published cannot be had any more, and it must hear of that.
    pub(super) fn lose_log(&mut self) {
        self.seen.clear();
        self.required.clear();
        self.optional.clear();
        self.again.clear();
        self.replayed.clear();
        self.position = 0;
        self.excused_below = 0;
        self.is_owed_a_word = true;
    }

    /// What it was promised and has not got.
    pub(super) fn missing(&self) -> Option<String> {
        if self.is_owed_a_word {
            return Some("the word that the log was lost".to_owned());
        }
        self.required
            .range(self.excused_below..)
            .find(|(offset, _)| !self.seen.contains(offset) || self.again.contains_key(offset))
            .map(|(offset, _)| format!("event {offset}; told of a gap below {}", self.excused_below))
    }
}

/// Below them in a number is the offset, above how often the session has gone back.
pub(super) const OFFSET_BITS: u32 = 45;
const OFFSET: u64 = (1 << OFFSET_BITS) - 1;
