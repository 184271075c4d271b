//! Names in NATS: what the stream, the buckets and the subjects are called.
//!
//! Users, tenants and channels come from people, and in a subject a dot, `*` and `>` have a meaning. So they are encoded:
//! letters, digits, `-` and `_` stand for themselves, every other byte is `=XX` in hexadecimal, and what is empty is `=`. There
//! is one way to write each, and nothing that is encoded can address another subject.

use bayeux::{ChannelName, ChannelPattern, Reach};

use crate::event::{Audience, Tenant, UserId};

const USER: &str = "u";
const EVERYONE: &str = "all";

/// What everything of one cluster is called.
#[derive(Debug, Clone)]
pub(in crate::log) struct Names {
    name: Box<str>,
}

impl Names {
    /// `name` is checked: letters, digits, hyphens and underscores.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into() }
    }

    /// The stream of the events.
    pub(super) fn events_stream(&self) -> String {
        format!("{}_EVENTS", self.name)
    }

    /// The bucket of the session records.
    pub(in crate::log) fn sessions_bucket(&self) -> String {
        format!("{}_SESSIONS", self.name)
    }

    /// The bucket of what is kept once: the secret, revocations, who does what for all.
    pub(in crate::log) fn meta_bucket(&self) -> String {
        format!("{}_META", self.name)
    }

    /// Where a node is asked.
    pub(in crate::log) fn node(&self, id: &str) -> String {
        format!("{}.nodes.{id}", self.name)
    }

    /// Where nodes say that they are there.
    pub(in crate::log) fn beat(&self) -> String {
        format!("{}.beat", self.name)
    }

    /// Every event.
    pub(super) fn all_events(&self) -> String {
        format!("{}.events.>", self.name)
    }

    /// Where an event is published.
    pub(super) fn event(&self, tenant: &Tenant, audience: &Audience, channel: &ChannelName) -> String {
        let mut subject = match audience {
            Audience::User(user) => self.of_user(tenant, user),
            Audience::Everyone => self.of_everyone(tenant),
        };
        for segment in channel.as_str().split('/').skip(1) {
            subject.push('.');
            encode(segment, &mut subject);
        }
        subject
    }

    /// The own events of a user.
    pub(super) fn events_of_user(&self, tenant: &Tenant, user: &UserId) -> String {
        format!("{}.>", self.of_user(tenant, user))
    }

    /// The events for everyone that a pattern matches.
    pub(super) fn events_for_everyone(&self, tenant: &Tenant, pattern: &ChannelPattern) -> String {
        let mut subject = self.of_everyone(tenant);
        let (text, wildcard) = match pattern.reach() {
            Reach::Exact => (pattern.as_str(), None),
            Reach::Children => (pattern.stem().trim_end_matches('/'), Some("*")),
            Reach::Descendants => (pattern.stem().trim_end_matches('/'), Some(">")),
        };
        for segment in text.split('/').skip(1) {
            subject.push('.');
            encode(segment, &mut subject);
        }
        if let Some(wildcard) = wildcard {
            subject.push('.');
            subject.push_str(wildcard);
        }
        subject
    }

    /// Reads where an event was published. `None` is a subject that no event has.
    pub(super) fn parse_event(&self, subject: &str) -> Option<(Tenant, Audience, ChannelName)> {
        let rest = subject.strip_prefix(&*self.name)?.strip_prefix(".events.")?;
        let mut tokens = rest.split('.');
        let tenant = Tenant(decode(tokens.next()?)?.into());
        let audience = match tokens.next()? {
            USER => Audience::User(UserId(decode(tokens.next()?)?.into())),
            EVERYONE => Audience::Everyone,
            _ => return None,
        };
        let mut text = String::with_capacity(rest.len());
        for token in tokens {
            text.push('/');
            // A slash inside a segment would be another way to write two.
            let is_segment = |segment: &String| !segment.is_empty() && !segment.contains('/');
            text.push_str(&decode(token).filter(is_segment)?);
        }
        let channel = ChannelName::parse(&text).ok()?;
        // The grammar of channels is stricter than that of tokens, and knows other ways to write the same.
        (channel.as_str() == text).then_some((tenant, audience, channel))
    }

    fn of_user(&self, tenant: &Tenant, user: &UserId) -> String {
        format!(
            "{}.events.{}.{USER}.{}",
            self.name,
            token(&tenant.0),
            token(&user.0)
        )
    }

    fn of_everyone(&self, tenant: &Tenant) -> String {
        format!("{}.events.{}.{EVERYONE}", self.name, token(&tenant.0))
    }
}

/// A text as one token of a subject.
pub(super) fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len() + 2);
    encode(text, &mut token);
    token
}

fn encode(text: &str, token: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if text.is_empty() {
        token.push('=');
    }
    for byte in text.bytes() {
        if is_plain(byte) {
            token.push(char::from(byte));
        } else {
            token.push('=');
            token.push(char::from(DIGITS[usize::from(byte >> 4)]));
            token.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// The text of a token. `None` when it is none, or another token says the same.
pub(super) fn decode(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    let mut text = Vec::with_capacity(token.len());
    let mut bytes = token.bytes();
    while let Some(byte) = bytes.next() {
        if is_plain(byte) {
            text.push(byte);
            continue;
        }
        let (b'=', Some(high), Some(low)) =
            (byte, bytes.next().and_then(digit), bytes.next().and_then(digit))
        else {
            return None;
        };
        let byte = high << 4 | low;
        if is_plain(byte) {
            return None;
        }
        text.push(byte);
    }
    if text.is_empty() {
        return None;
    }
    String::from_utf8(text).ok()
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names::new("halley")
    }

    fn channel(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    #[test]
    fn an_event_of_a_user_has_the_subject_that_the_documentation_shows() {
        let user = Audience::User(UserId("15000".into()));
        let subject = names().event(&Tenant::default(), &user, &channel("/v2/me/calls"));
        assert_eq!(subject, "halley.events.=.u.15000.v2.me.calls");
    }

    #[test]
    fn an_event_for_everyone_has_the_subject_that_the_documentation_shows() {
        let subject = names().event(
            &Tenant("acme.de".into()),
            &Audience::Everyone,
            &channel("/news/it"),
        );
        assert_eq!(subject, "halley.events.acme=2Ede.all.news.it");
    }

    #[test]
    fn a_hostile_user_stays_one_token() {
        for user in ["a.b.>", "*", ">", "..", "", "a b", "\0", "=", "=2E", "ü"] {
            let audience = Audience::User(UserId(user.into()));
            let subject = names().event(&Tenant::default(), &audience, &channel("/a"));
            assert_eq!(subject.split('.').count(), 6, "{subject}");
            let parsed = names().parse_event(&subject);
            assert_eq!(
                parsed,
                Some((Tenant::default(), audience, channel("/a"))),
                "{subject}"
            );
        }
    }

    #[test]
    fn what_another_subject_says_already_is_no_event() {
        for subject in [
            "halley.events.=.all",
            "halley.events.=.u.x",
            "halley.events.=.x.a",
            "halley.events.=.all.=",
            "halley.events.=.all.=41",
            "halley.events.=.all.=2f",
            "halley.events.=.all.=2",
            "halley.events.=.all.a=2Fb",
            "halley.events.=.all.=FF",
            "halley.events.=.all.a b",
            "halley.events.==.all.a",
            "halley2.events.=.all.a",
            "halley.nodes.=.all.a",
        ] {
            assert_eq!(names().parse_event(subject), None, "{subject}");
        }
    }

    #[test]
    fn patterns_become_wildcards_of_subjects() {
        let filter = |text: &str| {
            names().events_for_everyone(&Tenant::default(), &ChannelPattern::parse(text).unwrap())
        };
        assert_eq!(filter("/v2/calls"), "halley.events.=.all.v2.calls");
        assert_eq!(filter("/v2/*"), "halley.events.=.all.v2.*");
        assert_eq!(filter("/v2/**"), "halley.events.=.all.v2.>");
        assert_eq!(filter("/*"), "halley.events.=.all.*");
        assert_eq!(filter("/**"), "halley.events.=.all.>");
        assert_eq!(filter("/foo*"), "halley.events.=.all.foo=2A");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(text in ".*") {
            prop_assert_eq!(decode(&token(&text)), Some(text));
        }

        #[test]
        fn a_token_has_nothing_in_it_that_has_a_meaning_in_subjects(text in ".*") {
            let token = token(&text);
            prop_assert!(!token.is_empty());
            prop_assert!(token.bytes().all(|byte| is_plain(byte) || byte == b'='), "{}", token);
        }

        #[test]
        fn there_is_one_way_to_write_each(token_of_somebody in "[=0-9A-Fa-f._*>-]{0,8}") {
            if let Some(text) = decode(&token_of_somebody) {
                prop_assert_eq!(token(&text), token_of_somebody);
            }
        }
    }
}
