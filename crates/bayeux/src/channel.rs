//! Channel names and patterns, parsed once at the edge.
//!
//! The grammar is CometD's validator (shared facts, "Channel grammar"): a slash, then characters of an ASCII
//! allow-list. Surrounding spaces and one trailing slash are dropped; empty segments, and `*` or `**` anywhere but
//! last, are refused. Inside, the type is the proof: a function that takes a [`ChannelPattern`] cannot meet `/a/*/b`.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The name of one channel, such as `/v2/me/calls`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// What a subscription asks for: one channel, or with `*` and `**` as last segment, the channels below it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelPattern(ChannelName);

/// Why a text is no channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChannelError {
    /// A channel has at least a slash and one more character.
    #[error("a channel is a slash followed by at least one character")]
    TooShort,
    /// The first character is not a slash.
    #[error("a channel begins with a slash")]
    NoSlash,
    /// A character outside the allow-list.
    #[error("the character {0:?} is not allowed in a channel")]
    Character(char),
    /// Two slashes in a row.
    #[error("a channel has no empty segments")]
    EmptySegment,
    /// `*` or `**` before the last segment.
    #[error("a wildcard is only allowed as the last segment")]
    Wildcard,
}

/// Who answers a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// `/meta/…`: the protocol itself.
    Meta,
    /// `/service/…`: from one client to the server, never routed to other sessions.
    Service,
    /// Everything else.
    Broadcast,
}

/// How far a pattern reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The channel itself.
    Exact,
    /// `/*`: exactly one more segment.
    Children,
    /// `/**`: one or more segments.
    Descendants,
}

impl ChannelName {
    /// Parses a channel name. A wildcard as last segment is a legal, literal name to publish to (CometD accepts it).
    pub fn parse(text: &str) -> Result<Self, ChannelError> {
        let text = normalise(text);
        check(text)?;
        Ok(Self(text.into()))
    }

    /// The normalised name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who answers this channel. The tests are for the prefixes `/meta/` and `/service/`: `/meta` alone is an
    /// ordinary channel, as it is for CometD.
    pub fn kind(&self) -> ChannelKind {
        if self.0.starts_with("/meta/") {
            ChannelKind::Meta
        } else if self.0.starts_with("/service/") {
            ChannelKind::Service
        } else {
            ChannelKind::Broadcast
        }
    }

    /// Whether the last segment is `*` or `**`.
    pub fn is_wild(&self) -> bool {
        self.0.ends_with("/*") || self.0.ends_with("/**")
    }

    /// The number of segments: 3 for `/v2/me/calls`.
    pub fn segments(&self) -> usize {
        self.0.bytes().filter(|byte| *byte == b'/').count()
    }

    /// Calls `look_up` with every pattern that matches this channel: for `/v2/me/calls` these are `/v2/me/calls`,
    /// `/v2/me/*`, `/v2/me/**`, `/v2/**` and `/**`. So a router needs n + 2 look-ups and no trie.
    pub fn expand(&self, mut look_up: impl FnMut(&str)) {
        look_up(&self.0);
        if self.kind() != ChannelKind::Broadcast {
            return;
        }
        let mut pattern = String::with_capacity(self.0.len() + 3);
        let mut end = self.0.len();
        let mut nearest = true;
        while let Some(slash) = self.0[..end].rfind('/') {
            for wildcard in if nearest { &["/*", "/**"][..] } else { &["/**"][..] } {
                pattern.clear();
                pattern.push_str(&self.0[..slash]);
                pattern.push_str(wildcard);
                if pattern != *self.0 {
                    look_up(&pattern);
                }
            }
            nearest = false;
            end = slash;
        }
    }
}

impl ChannelPattern {
    /// Parses what a client wants to subscribe to.
    pub fn parse(text: &str) -> Result<Self, ChannelError> {
        ChannelName::parse(text).map(Self)
    }

    /// The normalised pattern.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Who answers the channels of this pattern.
    pub fn kind(&self) -> ChannelKind {
        self.0.kind()
    }

    /// The number of segments, the wildcard included.
    pub fn segments(&self) -> usize {
        self.0.segments()
    }

    /// How far the pattern reaches.
    pub fn reach(&self) -> Reach {
        if self.as_str().ends_with("/**") {
            Reach::Descendants
        } else if self.as_str().ends_with("/*") {
            Reach::Children
        } else {
            Reach::Exact
        }
    }

    /// What every matching channel begins with: `/v2/me/` for `/v2/me/*`, the channel itself when exact.
    pub fn stem(&self) -> &str {
        self.as_str().trim_end_matches('*')
    }

    /// Whether an event on `channel` is what this pattern asks for. Wildcards never reach into `/meta` and `/service`.
    pub fn matches(&self, channel: &ChannelName) -> bool {
        let (pattern, name) = (self.as_str(), channel.as_str());
        if pattern == name {
            return true;
        }
        let reach = self.reach();
        if reach == Reach::Exact || channel.kind() != ChannelKind::Broadcast {
            return false;
        }
        let Some(rest) = name.strip_prefix(self.stem()) else {
            return false;
        };
        match reach {
            Reach::Exact => false,
            Reach::Children => !rest.is_empty() && !rest.contains('/'),
            Reach::Descendants => !rest.is_empty(),
        }
    }

    /// Like [`ChannelPattern::matches`], but for rules: these reach into `/meta` and `/service` too.
    pub fn covers(&self, channel: &ChannelName) -> bool {
        let (pattern, name) = (self.as_str(), channel.as_str());
        let below = || name.strip_prefix(self.stem()).filter(|rest| !rest.is_empty());
        match self.reach() {
            Reach::Exact => pattern == name,
            Reach::Children => below().is_some_and(|rest| !rest.contains('/')),
            Reach::Descendants => below().is_some(),
        }
    }

    /// Whether some channel may match both. It errs on the side of yes.
    pub(crate) fn may_meet(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.as_str().split('/'), other.as_str().split('/'));
        loop {
            match (mine.next(), theirs.next()) {
                (Some("**"), _) | (_, Some("**")) | (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(mine), Some(theirs)) if mine == theirs || mine == "*" || theirs == "*" => {}
                (Some(_), Some(_)) => return false,
            }
        }
    }
}

impl From<ChannelName> for ChannelPattern {
    fn from(name: ChannelName) -> Self {
        Self(name)
    }
}

fn normalise(text: &str) -> &str {
    let text = text.trim_matches(' ');
    match text.strip_suffix('/') {
        // A space before the slash is at the end now: a name that was kept and is parsed again must stay what it is.
        Some(shorter) if !shorter.is_empty() => shorter.trim_end_matches(' '),
        _ => text,
    }
}

fn check(text: &str) -> Result<(), ChannelError> {
    if text.len() < 2 {
        return Err(if text.starts_with('/') || text.is_empty() {
            ChannelError::TooShort
        } else {
            ChannelError::NoSlash
        });
    }
    let Some(path) = text.strip_prefix('/') else {
        return Err(ChannelError::NoSlash);
    };
    if let Some(character) = path.chars().find(|character| !is_allowed(*character)) {
        return Err(ChannelError::Character(character));
    }
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() {
            return Err(ChannelError::EmptySegment);
        }
        if segments.peek().is_some() && (segment == "*" || segment == "**") {
            return Err(ChannelError::Wildcard);
        }
    }
    Ok(())
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || " !#$()*+-./@_{~}".contains(character)
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ChannelPattern {
    fn borrow(&self) -> &str {
        self.0.borrow()
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for ChannelPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl serde::Serialize for ChannelPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for ChannelPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    fn matches(pattern: &str, channel: &str) -> bool {
        ChannelPattern::parse(pattern).unwrap().matches(&name(channel))
    }

    #[test]
    fn a_star_is_exactly_one_segment() {
        assert!(matches("/v2/me/*", "/v2/me/calls"));
        assert!(!matches("/v2/me/*", "/v2/me"));
        assert!(!matches("/v2/me/*", "/v2/me/calls/7"));
    }

    #[test]
    fn two_stars_are_one_or_more_segments() {
        assert!(matches("/v2/**", "/v2/me/calls"));
        assert!(matches("/**", "/a"));
        assert!(!matches("/v2/**", "/v2"));
        assert!(!matches("/v2/**", "/v22/me"));
    }

    #[test]
    fn wildcards_do_not_reach_into_meta_and_service() {
        assert!(!matches("/**", "/meta/connect"));
        assert!(!matches("/service/**", "/service/echo"));
    }

    #[test]
    fn a_star_inside_a_word_is_a_letter() {
        assert!(!matches("/foo*", "/foobar"));
        assert!(matches("/foo*", "/foo*"));
    }

    #[test]
    fn spaces_around_and_one_trailing_slash_are_dropped() {
        assert_eq!(name(" /v2/me/calls/ ").as_str(), "/v2/me/calls");
        assert_eq!(ChannelName::parse("/a//"), Err(ChannelError::EmptySegment));
    }

    #[test]
    fn a_name_that_is_parsed_again_stays_what_it_is() {
        for text in ["/a /", " /a/ ", "/a / "] {
            assert_eq!(name(name(text).as_str()), name(text), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_channel_says_why() {
        for (text, error) in [
            ("", ChannelError::TooShort),
            ("/", ChannelError::TooShort),
            ("a", ChannelError::NoSlash),
            ("foo", ChannelError::NoSlash),
            ("/fo=o", ChannelError::Character('=')),
            ("/fo\u{200b}o", ChannelError::Character('\u{200b}')),
            ("/%2f", ChannelError::Character('%')),
            ("/a\0", ChannelError::Character('\0')),
            ("/foo//bar", ChannelError::EmptySegment),
            ("/foo/*/bar", ChannelError::Wildcard),
            ("/foo/**/bar", ChannelError::Wildcard),
        ] {
            assert_eq!(ChannelName::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn two_patterns_meet_where_a_channel_could_match_both() {
        let meet = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| ChannelPattern::parse(text).unwrap());
            assert_eq!(one.may_meet(&other), other.may_meet(&one));
            one.may_meet(&other)
        };
        assert!(meet("/**", "/a/b") && meet("/a/*", "/a/b") && meet("/a/*", "/a/**") && meet("/a", "/a"));
        assert!(!meet("/a/*", "/a/b/c") && !meet("/a/*", "/b/*") && !meet("/a", "/b") && !meet("/a", "/a/b"));
    }

    #[test]
    fn a_channel_of_three_segments_is_matched_by_five_look_ups() {
        let mut seen = Vec::new();
        name("/v2/me/calls").expand(|pattern| seen.push(pattern.to_owned()));
        assert_eq!(seen, ["/v2/me/calls", "/v2/me/*", "/v2/me/**", "/v2/**", "/**"]);
    }

    proptest! {
        /// Expansion and matching are two ways to say the same.
        #[test]
        fn a_pattern_matches_what_its_channel_expands_to(
            channel in "(/[ab*]{1,2}){1,3}", pattern in "(/[ab]{1,2}){0,2}(/\\*|/\\*\\*|/[ab]{1,2})",
        ) {
            let (Ok(channel), Ok(pattern)) = (ChannelName::parse(&channel), ChannelPattern::parse(&pattern)) else {
                return Ok(());
            };
            let mut expanded = false;
            channel.expand(|candidate| expanded |= candidate == pattern.as_str());
            prop_assert_eq!(expanded, pattern.matches(&channel), "{} {}", channel, pattern);
        }
    }
}
