//! Which channels of a bucket a wildcard pattern finds something in.
//!
//! A channel with a million events costs as much as one with ten: the scan steps over what it does not want with a
//! seek. It steps key by key first, since a seek costs as much as several steps and most channels are short.

use std::collections::BTreeMap;

use bayeux::{ChannelName, ChannelPattern, Offset, Reach};
use fjall::{Iter, Keyspace, UserKey};

use super::catalogue::damaged;
use super::{keys, unusable};
use crate::event::Tenant;
use crate::log::LogError;

/// Steps that are tried before a seek.
const STEPS: usize = 8;

/// Every channel that the pattern matches and that has events after `after`, with the first of them.
pub(super) fn channels(
    events: &Keyspace,
    tenant: &Tenant,
    pattern: &ChannelPattern,
    after: Offset,
    found: &mut BTreeMap<ChannelName, Offset>,
) -> Result<(), LogError> {
    let (from, to) = keys::below(tenant, pattern.stem());
    let mut scan = Scan {
        events,
        keys: events.range(from..to.clone()),
        to,
    };
    let mut next = scan.next()?;
    while let Some(key) = next {
        let Some((name, offset)) = keys::split_channel(tenant, &key) else {
            return Err(damaged("a key is none"));
        };
        let target = match wanted(tenant, pattern, name)? {
            Err(behind) => behind,
            Ok(_) if offset <= after => keys::Prefix::channel(tenant, name).into_key(after.next()),
            Ok(channel) => {
                found.insert(channel, offset);
                keys::behind(tenant, name)
            }
        };
        next = scan.seek(&target)?;
    }
    Ok(())
}

/// The channel if the pattern matches it, else where the next one may be.
fn wanted(
    tenant: &Tenant,
    pattern: &ChannelPattern,
    name: &str,
) -> Result<Result<ChannelName, Vec<u8>>, LogError> {
    let channel =
        ChannelName::parse(name).map_err(|error| damaged(&format!("a channel is none: {error}")))?;
    if pattern.matches(&channel) {
        return Ok(Ok(channel));
    }
    let stem = pattern.stem().len();
    let deeper = name.get(stem..).and_then(|rest| rest.find('/'));
    Ok(Err(match (pattern.reach(), deeper) {
        // `/a/b/c` is too deep for `/a/*`, and so is everything below `/a/b/`.
        (Reach::Children, Some(slash)) => keys::below(tenant, &name[..=stem + slash]).1,
        (Reach::Exact | Reach::Children | Reach::Descendants, _) => keys::behind(tenant, name),
    }))
}

struct Scan<'a> {
    events: &'a Keyspace,
    keys: Iter,
    to: Vec<u8>,
}

impl Scan<'_> {
    fn next(&mut self) -> Result<Option<UserKey>, LogError> {
        self.keys
            .next()
            .map(|entry| entry.key().map_err(unusable))
            .transpose()
    }

    /// The first key from `target` on.
    fn seek(&mut self, target: &[u8]) -> Result<Option<UserKey>, LogError> {
        for _ in 0..STEPS {
            match self.next()? {
                Some(key) if key[..] < *target => {}
                at_or_behind => return Ok(at_or_behind),
            }
        }
        if target >= &self.to[..] {
            return Ok(None);
        }
        self.keys = self.events.range(target.to_vec()..self.to.clone());
        self.next()
    }
}
