//! Channel names and patterns: parsing, matching and expansion against a reference that knows the grammar only.
//!
//! The input is two lines: a name, and what somebody subscribes to.

use bayeux::{ChannelKind, ChannelName, ChannelPattern};

use crate::Target;

/// Names, patterns, expansion and matching.
pub const TARGET: Target = Target {
    name: "channel",
    run,
    show: crate::show_text,
};

/// The grammar, written from CometD's rules and from nothing else: the segments of what is a channel. Spaces around it, one
/// slash behind it and the spaces before that do not count.
pub(crate) fn segments(text: &str) -> Option<Vec<&str>> {
    const LETTERS: &str = " !#$()*+-.0123456789@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz{~}";
    let text = text.trim_matches(' ');
    let text = text
        .strip_suffix('/')
        .map_or(text, |shorter| shorter.trim_end_matches(' '));
    let segments: Vec<_> = text.strip_prefix('/')?.split('/').collect();
    let (_, before_last) = segments.split_last()?;
    let is_legal =
        |segment: &&str| !segment.is_empty() && segment.chars().all(|letter| LETTERS.contains(letter));
    let is_wild = |segment: &&str| matches!(*segment, "*" | "**");
    (segments.iter().all(is_legal) && !before_last.iter().any(is_wild)).then_some(segments)
}

/// Who gets what: `*` is exactly one segment, `**` one or more, and neither reaches into `/meta/…` and `/service/…`.
pub(crate) fn matches(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        _ if pattern == name => true,
        _ if is_reserved("meta", name) || is_reserved("service", name) => false,
        ([stem @ .., "*"], _) => name.len() == stem.len() + 1 && name.starts_with(stem),
        ([stem @ .., "**"], _) => name.len() > stem.len() && name.starts_with(stem),
        _ => false,
    }
}

/// Below this root; the root alone is a channel like others.
pub(crate) fn is_reserved(root: &str, name: &[&str]) -> bool {
    matches!(name, [first, _, ..] if *first == root)
}

fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (name, pattern) = text.split_once('\n').unwrap_or((&text, ""));
    let name = parse(name);
    let pattern = parse(pattern);
    if let Some(name) = &name {
        check_expansion(name);
    }
    if let (Some(name), Some(pattern)) = (name, pattern) {
        check_pair(&name, &pattern);
    }
}

/// A name is one for both or for neither, and what it is made into means the same.
fn parse(text: &str) -> Option<ChannelName> {
    let parsed = ChannelName::parse(text);
    let reference = segments(text);
    assert_eq!(
        parsed.is_ok(),
        reference.is_some(),
        "{text:?}: {parsed:?}, the grammar says {reference:?}"
    );
    let (name, segments) = (parsed.ok()?, reference?);
    assert_eq!(name.as_str(), format!("/{}", segments.join("/")), "{text:?}");
    assert_eq!(name.segments(), segments.len());
    let expected = if is_reserved("meta", &segments) {
        ChannelKind::Meta
    } else if is_reserved("service", &segments) {
        ChannelKind::Service
    } else {
        ChannelKind::Broadcast
    };
    assert_eq!(name.kind(), expected, "{name}");
    assert_eq!(
        name.is_wild(),
        matches!(segments.last(), Some(&("*" | "**"))),
        "{name}"
    );
    assert_eq!(
        ChannelName::parse(name.as_str()).as_ref(),
        Ok(&name),
        "parsed again it is another one"
    );
    Some(name)
}

/// A name leads to every pattern that matches it, to each once, and to no other.
fn check_expansion(name: &ChannelName) {
    let mut found = Vec::new();
    name.expand(|pattern| found.push(pattern.to_owned()));
    let of_name = segments(name.as_str()).expect("it was parsed");
    let mut expected = vec![name.as_str().to_owned()];
    for length in 0..of_name.len() {
        for wildcard in ["*", "**"] {
            let pattern: Vec<_> = of_name[..length].iter().chain([&wildcard]).copied().collect();
            if pattern != of_name && matches(&pattern, &of_name) {
                expected.push(format!("/{}", pattern.join("/")));
            }
        }
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "what {name} leads to");
    for pattern in found {
        check_match(name, &ChannelName::parse(&pattern).expect("it is a pattern"));
    }
}

fn check_pair(name: &ChannelName, pattern: &ChannelName) {
    let is_match = check_match(name, pattern);
    let mut leads_there = false;
    name.expand(|found| leads_there |= found == pattern.as_str());
    assert_eq!(leads_there, is_match, "whether {name} leads to {pattern}");
    let pattern = ChannelPattern::from(pattern.clone());
    let written = serde_json::to_string(&pattern).expect("a pattern is a text");
    let read = serde_json::from_str(&written).ok();
    assert_eq!(read, Some(pattern), "written down and read again");
}

fn check_match(name: &ChannelName, pattern: &ChannelName) -> bool {
    let expected = matches(
        &segments(pattern.as_str()).expect("it was parsed"),
        &segments(name.as_str()).expect("it was parsed"),
    );
    let pattern = ChannelPattern::from(pattern.clone());
    assert_eq!(pattern.matches(name), expected, "{pattern} and {name}");
    expected
}
