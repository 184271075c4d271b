//! Where things are in a bucket: keys and values, byte by byte.
//!
//! | key | value |
//! |---|---|
//! | `0` | the head: last offset, bytes of all events (2 × u64) |
//! | `u`, length (u16), user, offset (u64) | a user's event |
//! | `c`, channel, `0`, offset (u64) | an event for everyone |
//! | `t`, length (u8), tenant, and one of the two above | the same of a tenant with a name |
//!
//! Numbers are big-endian, so that keys sort by offset. A user may have any bytes and so has its length in front:
//! two users' ranges never touch. A channel must sort below its stem and so has an end mark behind, which the channel
//! grammar does not know.
//!
//! The value of an event is: flags (u8), when it was stored (u64, milliseconds since 1970), what the flags announce (for how
//! long it may wait, u32 milliseconds; the session that does not get it, with a u8 length), the channel (with a u16 length),
//! and the encoded frame.

use std::str;
use std::time::Duration;

use bayeux::{ChannelName, ClientId, Marks, Offset};

use crate::event::{Audience, Tenant, UserId};

/// The key of a bucket's head.
pub(super) const HEAD: &[u8] = &[0];
/// The longest user, channel or event id that fits a key (65,535 bytes) with everything around it.
pub(super) const LONGEST_NAME: usize = 32 * 1024;

const TENANT: u8 = b't';
const USER: u8 = b'u';
const CHANNEL: u8 = b'c';
const END: u8 = 0;
const OFFSET: usize = size_of::<u64>();

/// What all keys of one user, or of one channel, begin with. An offset makes it a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix(Vec<u8>);

impl Prefix {
    pub(super) fn of(tenant: &Tenant, audience: &Audience, channel: &ChannelName) -> Self {
        match audience {
            Audience::User(user) => Self::user(tenant, user),
            Audience::Everyone => Self::channel(tenant, channel.as_str()),
        }
    }

    pub(super) fn user(tenant: &Tenant, user: &UserId) -> Self {
        let length = u16::try_from(user.0.len()).expect("names longer than LONGEST_NAME are refused before");
        let mut key = scope(tenant, 3 + user.0.len() + OFFSET);
        key.push(USER);
        key.extend_from_slice(&length.to_be_bytes());
        key.extend_from_slice(user.0.as_bytes());
        Self(key)
    }

    pub(super) fn channel(tenant: &Tenant, channel: &str) -> Self {
        let mut key = scope(tenant, 2 + channel.len() + OFFSET);
        key.push(CHANNEL);
        key.extend_from_slice(channel.as_bytes());
        key.push(END);
        Self(key)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() + OFFSET
    }

    pub(super) fn at(&self, offset: Offset) -> Vec<u8> {
        self.clone().into_key(offset)
    }

    pub(super) fn into_key(self, offset: Offset) -> Vec<u8> {
        let mut key = self.0;
        key.extend_from_slice(&offset.0.to_be_bytes());
        key
    }
}

/// What all keys of a tenant begin with, and room for the rest. The length keeps apart tenants of which one begins with the other.
fn scope(tenant: &Tenant, room: usize) -> Vec<u8> {
    let name = tenant.0.as_bytes();
    let mut key = Vec::with_capacity(2 + name.len() + room);
    if !tenant.is_only() {
        key.push(TENANT);
        key.push(u8::try_from(name.len()).expect("the name of a tenant is short"));
        key.extend_from_slice(name);
    }
    key
}

/// The first key behind those of a channel.
pub(super) fn behind(tenant: &Tenant, channel: &str) -> Vec<u8> {
    let mut key = scope(tenant, 2 + channel.len());
    key.push(CHANNEL);
    key.extend_from_slice(channel.as_bytes());
    key.push(END + 1);
    key
}

/// The keys of all channels that begin with `stem`, which ends with a slash.
pub(super) fn below(tenant: &Tenant, stem: &str) -> (Vec<u8>, Vec<u8>) {
    let mut from = scope(tenant, 1 + stem.len());
    from.push(CHANNEL);
    from.extend_from_slice(stem.as_bytes());
    let mut to = from.clone();
    // No channel sorts between what begins with a slash here and what begins with the next character.
    if let Some(slash) = to.last_mut() {
        *slash += 1;
    }
    (from, to)
}

/// The offset at the end of an event's key.
pub(super) fn offset(key: &[u8]) -> Option<Offset> {
    key.last_chunk().map(|bytes| Offset(u64::from_be_bytes(*bytes)))
}

/// The channel and the offset in the key of an event for everyone.
pub(super) fn split_channel<'a>(tenant: &Tenant, key: &'a [u8]) -> Option<(&'a str, Offset)> {
    let key = key.strip_prefix(scope(tenant, 0).as_slice())?;
    let (name, offset) = key.strip_prefix(&[CHANNEL])?.split_last_chunk()?;
    let name = name.strip_suffix(&[END])?;
    Some((str::from_utf8(name).ok()?, Offset(u64::from_be_bytes(*offset))))
}

/// The value of an event, and where in it the frame begins.
pub(super) fn value(channel: &ChannelName, marks: &Marks, frame: &[u8]) -> (Vec<u8>, usize) {
    let name = channel.as_str().as_bytes();
    let length = u16::try_from(name.len()).expect("names longer than LONGEST_NAME are refused before");
    let mut value = Vec::with_capacity(64 + name.len() + frame.len());
    value.push(flag(marks.lazy.is_some(), LAZY) | flag(marks.not_to.is_some(), NOT_TO));
    value.extend_from_slice(&marks.stored.to_be_bytes());
    if let Some(lazy) = marks.lazy {
        let milliseconds = u32::try_from(lazy.as_millis()).unwrap_or(u32::MAX);
        value.extend_from_slice(&milliseconds.to_be_bytes());
    }
    if let Some(client_id) = &marks.not_to {
        let client_id = client_id.as_str().as_bytes();
        value.push(u8::try_from(client_id.len()).expect("a clientId is ours, and short"));
        value.extend_from_slice(client_id);
    }
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(name);
    let frame_at = value.len();
    value.extend_from_slice(frame);
    (value, frame_at)
}

/// What [`value`] was made of.
pub(super) fn split_value(value: &[u8]) -> Option<(Marks, &str, &[u8])> {
    let (&flags, rest) = value.split_first()?;
    let (stored, mut rest) = rest.split_first_chunk()?;
    let mut marks = Marks {
        stored: u64::from_be_bytes(*stored),
        ..Marks::default()
    };
    if flags & LAZY != 0 {
        let (milliseconds, behind) = rest.split_first_chunk()?;
        marks.lazy = Some(Duration::from_millis(u32::from_be_bytes(*milliseconds).into()));
        rest = behind;
    }
    if flags & NOT_TO != 0 {
        let (length, behind) = rest.split_first()?;
        let (client_id, behind) = behind.split_at_checked(usize::from(*length))?;
        marks.not_to = Some(ClientId::new(str::from_utf8(client_id).ok()?));
        rest = behind;
    }
    let (length, rest) = rest.split_first_chunk()?;
    let (name, frame) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((marks, str::from_utf8(name).ok()?, frame))
}

const LAZY: u8 = 1;
const NOT_TO: u8 = 2;

fn flag(is_set: bool, flag: u8) -> u8 {
    if is_set { flag } else { 0 }
}

/// Two numbers as a value: a head, or a mark.
pub(super) fn pair(a: u64, b: u64) -> Vec<u8> {
    [a.to_be_bytes(), b.to_be_bytes()].concat()
}

/// What [`pair`] made.
pub(super) fn split_pair(value: &[u8]) -> Option<(u64, u64)> {
    let (a, b) = value.split_first_chunk()?;
    Some((u64::from_be_bytes(*a), u64::from_be_bytes(b.try_into().ok()?)))
}

/// One number as a value.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn only() -> Tenant {
        Tenant::default()
    }

    fn channel(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    #[test]
    fn a_channel_and_its_neighbours_keep_apart() {
        let own = Prefix::channel(&only(), "/a");
        for other in ["/a/b", "/a-b", "/a!", "/aa", "/A"] {
            let key = Prefix::channel(&only(), other).at(Offset(1));
            assert!(key < own.at(Offset(0)) || key >= behind(&only(), "/a"), "{other}");
        }
    }

    #[test]
    fn what_is_below_a_stem_is_what_begins_with_it() {
        let (from, to) = below(&only(), "/a/");
        for (name, inside) in [
            ("/a/b", true),
            ("/a/~", true),
            ("/a/b/c", true),
            ("/a", false),
            ("/a0", false),
        ] {
            let key = Prefix::channel(&only(), name).at(Offset(7));
            assert_eq!((&from..&to).contains(&&key), inside, "{name}");
        }
    }

    proptest! {
        /// Whatever a name contains, its keys are in its own range and in nobody else's.
        #[test]
        fn no_name_reaches_into_anothers_range(
            users in proptest::array::uniform2("(?s).{0,12}"),
            channels in proptest::array::uniform2("(/[ab!~*]{1,3}){1,3}"),
            tenants in proptest::array::uniform2("[abcu]{0,3}"),
            offset: u64,
        ) {
            let [mine, other] = channels.map(|text| ChannelName::parse(&text));
            let (Ok(mine), Ok(other)) = (mine, other) else { return Ok(()) };
            let [me, someone] = users.map(|name| Audience::User(UserId(name.as_str().into())));
            let [own, foreign] = tenants.map(|name| Tenant(name.as_str().into()));
            let all = [
                (&own, &me, &mine),
                (&own, &someone, &mine),
                (&own, &Audience::Everyone, &mine),
                (&own, &Audience::Everyone, &other),
                (&foreign, &me, &mine),
                (&foreign, &Audience::Everyone, &mine),
            ];
            for (tenant, audience, channel) in all {
                let range = Prefix::of(tenant, audience, channel);
                for (where_else, whose, name) in all {
                    let key = Prefix::of(where_else, whose, name).at(Offset(offset));
                    let same = Prefix::of(where_else, whose, name) == range;
                    let inside = range.at(Offset(0)) <= key && key <= range.at(Offset(u64::MAX));
                    prop_assert_eq!(inside, same, "{:?} {:?}", range, key);
                }
            }
        }

        #[test]
        fn an_event_is_read_as_it_was_written(
            name in "(/[a-z!~]{1,9}){1,4}", frame: Vec<u8>, offset: u64, stored: u64,
            lazy: Option<u32>, not_to in proptest::option::of("[a-z0-9]{26}"),
        ) {
            let channel = channel(&name);
            let marks = Marks {
                stored,
                lazy: lazy.map(|milliseconds| Duration::from_millis(milliseconds.into())),
                not_to: not_to.map(|id| ClientId::new(&id)),
            };
            let (value, frame_at) = value(&channel, &marks, &frame);
            prop_assert_eq!(&value[frame_at..], &frame[..]);
            prop_assert_eq!(split_value(&value), Some((marks, name.as_str(), &frame[..])));
            let key = Prefix::of(&only(), &Audience::Everyone, &channel).at(Offset(offset));
            prop_assert_eq!(split_channel(&only(), &key), Some((name.as_str(), Offset(offset))));
        }
    }
}
