//! What clients say, good and bad, and what must come of it, written from the protocol and not from its implementation.

use std::time::Duration;

use super::node::CLIENT;
use super::step::Words;
use crate::channel::{is_reserved, segments};

/// Where events are published.
pub(super) const CHANNELS: [&str; 8] = ["/a", "/b", "/c", "/a/x", "/a/x/y", "/a/*", "/other", "/locked/z"];

/// What a client subscribes to when it behaves.
pub(super) const PATTERNS: [&str; 8] = ["/a", "/b", "/a/*", "/a/**", "/c", "/**", "/a/x", "/locked/**"];

/// What only the backend publishes to.
pub(super) const SERVER_OWNED: &str = "/locked/**";

/// The longest channel and the most segments that the limits allow here.
pub(super) const CHANNEL_BYTES: usize = 30;
pub(super) const CHANNEL_SEGMENTS: usize = 4;
pub(super) const SUBSCRIPTIONS: usize = 6;
pub(super) const ID_BYTES: usize = 12;

const ODD_CHANNELS: [&str; 16] = [
    "/meta/subscribe",
    "/meta/unsubscribe",
    "/meta/subscribe",
    "/meta/unsubscribe",
    "/meta/handshake",
    "/meta/connect/",
    "/meta/x",
    "/service/echo",
    "/a//b",
    "/a/*/b",
    "a",
    "/a=b",
    " /a/ ",
    "/a/b/c/d/e",
    "/this/channel/is/very/very/very/long",
    "",
];

const ODD_PATTERNS: [&str; 12] = [
    "/meta/connect",
    "/meta/*",
    "/service/echo",
    "/service/**",
    "/a/*/b",
    "/a//b",
    "",
    " /a/ ",
    "/a /",
    "/d",
    "/a/b/c/d/e",
    "/this/pattern/is/very/very/very/long",
];

/// What a connect says in `ext.ack`, and whether that is a whole number; none is more than 0.
pub(super) const ACKS: [(&str, bool); 14] = [
    ("0", true),
    ("-1", true),
    ("-9223372036854775808", true),
    ("-0", true),
    ("1.0", false),
    ("1e3", false),
    ("\"5\"", false),
    ("null", false),
    ("true", false),
    ("[1]", false),
    ("{}", false),
    ("9223372036854775808", false),
    ("1e400", false),
    ("0.1", false),
];

/// How long an event may wait for company.
pub(super) const LAZY: [Option<Duration>; 8] = [
    None,
    None,
    None,
    None,
    None,
    None,
    Some(Duration::from_secs(1)),
    Some(LONGEST_LAZY),
];

pub(super) const LONGEST_LAZY: Duration = Duration::from_secs(5);

/// What a client advises.
#[derive(Clone, Copy)]
pub(super) struct Advised {
    /// With its comma.
    pub(super) text: &'static str,
    pub(super) is_legal: bool,
    /// It is there at all.
    pub(super) is_there: bool,
    pub(super) timeout: Option<Duration>,
}

const fn advised(text: &'static str, milliseconds: Option<u64>) -> Advised {
    Advised {
        text,
        is_legal: true,
        is_there: true,
        timeout: match milliseconds {
            Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
            None => None,
        },
    }
}

const fn refused(text: &'static str) -> Advised {
    Advised {
        text,
        is_legal: false,
        is_there: true,
        timeout: None,
    }
}

const fn absent(text: &'static str) -> Advised {
    Advised {
        is_there: false,
        ..advised(text, None)
    }
}

/// The place in [`ADVICE`] of what a client says that recovers.
pub(super) const RECOVERY: usize = 1;

/// The first is none.
pub(super) const ADVICE: [Advised; 15] = [
    absent(""),
    advised(r#","advice":{"timeout":0}"#, Some(0)),
    advised(r#","advice":{"timeout":5000}"#, Some(5000)),
    advised(
        r#","advice":{"timeout":3600000,"interval":3600000}"#,
        Some(3_600_000),
    ),
    advised(r#","advice":{"timeout":-1,"interval":-1e308}"#, None),
    advised(r#","advice":{"interval":3000}"#, None),
    advised(r#","advice":{"interval":1e300,"timeout":1}"#, Some(1)),
    advised(r#","advice":{}"#, None),
    advised(r#","advice":{"timeout":null,"reconnect":"none"}"#, None),
    absent(r#","advice":null"#),
    refused(r#","advice":{"timeout":"0"}"#),
    refused(r#","advice":{"interval":1e400}"#),
    refused(r#","advice":"x""#),
    refused(r#","advice":{"timeout":0,"timeout":0}"#),
    refused(r#","advice":[[]]"#),
];

/// The text that follows, and whether a message with it is read at all.
type Field = (&'static str, bool);

const IDS: [Field; 9] = [
    ("", true),
    (r#","id":"1""#, true),
    (r#","id":7"#, true),
    (r#","id":null"#, true),
    (r#","id":"a-b_\u0063""#, true),
    (r#","id":"a-b-c-d-e-f-g""#, false),
    (r#","id":{}"#, false),
    (r#","id":true"#, false),
    (r#","id":"1","id":"2""#, false),
];

const EXTS: [Field; 9] = [
    ("", true),
    (r#","ext":{"ack":"x","replay":{"/a":-1}}"#, true),
    (r#","ext":null"#, true),
    (r#","ext":{"ack":9007199254740993}"#, true),
    (
        r#","ext":{"timesync":{"tc":1,"l":0,"o":-9223372036854775808}}"#,
        true,
    ),
    (r#","ext":{"timesync":[1,2,3],"binary":{}}"#, true),
    (r#","ext":{"timesync":{"tc":1e3},"replay":7}"#, true),
    (r#","ext":"x""#, false),
    (r#","ext":[]"#, false),
];

const DATA: [&str; 6] = [
    "",
    r#","data":null"#,
    r#","data":1e400"#,
    r#","data":[[{"a":[[]]}]]"#,
    r#","data":"\ud800""#,
    r#","data":{"advice":{"reconnect":"none"}}"#,
];

/// What must come of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// An error, and nothing else.
    Refused,
    /// Success, and nothing else.
    Nothing,
    /// From now on the session listens to these, besides what it listened to before.
    Subscribed(Vec<String>),
    Unsubscribed(Vec<String>),
    /// An event on this channel.
    Published(String),
}

impl Words {
    pub(super) fn text(self) -> String {
        let client = match self.client % 16 {
            0 => r#","clientId":"t""#.to_owned(),
            1 => String::new(),
            2 => r#","clientId":7"#.to_owned(),
            _ => format!(r#","clientId":"{CLIENT}""#),
        };
        format!(
            r#"{{"channel":"{}"{client}{}{}{}{}{}}}"#,
            self.channel(),
            self.subscription_text(),
            entry(&IDS, self.id).0,
            entry(&EXTS, self.ext).0,
            entry(&ADVICE, self.advice).text,
            entry(&DATA, self.data),
        )
    }

    /// What the protocol says of this message, to a session that listens to `held`.
    pub(super) fn expected(self, held: &[&str]) -> Expected {
        let is_read = self.client % 16 > 2
            && entry(&IDS, self.id).1
            && entry(&EXTS, self.ext).1
            && entry(&ADVICE, self.advice).is_legal;
        if !is_read {
            return Expected::Refused;
        }
        match self.channel() {
            "/meta/subscribe" => self.expected_of_subscribe(held),
            "/meta/unsubscribe" => match self.patterns() {
                Some(patterns) if patterns.iter().all(|pattern| !is_of("meta", pattern)) => {
                    Expected::Unsubscribed(patterns)
                }
                Some(_) | None => Expected::Refused,
            },
            other => match normal(other) {
                Some(name) if is_of("service", &name) => Expected::Nothing,
                Some(name) if is_of("meta", &name) || is_of("locked", &name) => Expected::Refused,
                Some(name) => Expected::Published(name),
                None => Expected::Refused,
            },
        }
    }

    fn expected_of_subscribe(self, held: &[&str]) -> Expected {
        let Some(patterns) = self.patterns() else {
            return Expected::Refused;
        };
        let mut wanted: Vec<String> = Vec::new();
        for pattern in &patterns {
            let is_new = !held.contains(&pattern.as_str()) && !wanted.contains(pattern);
            if is_new && !is_of("service", pattern) {
                wanted.push(pattern.clone());
            }
        }
        let is_refused = patterns.iter().any(|pattern| is_of("meta", pattern))
            || held.len() + wanted.len() > SUBSCRIPTIONS.max(held.len());
        if is_refused {
            Expected::Refused
        } else {
            Expected::Subscribed(wanted)
        }
    }

    fn channel(self) -> &'static str {
        // One in three is a publish.
        match self.channel % 3 {
            0 => entry(&CHANNELS, self.channel / 3),
            _ => entry(&ODD_CHANNELS, self.channel / 3),
        }
    }

    fn subscription_text(self) -> String {
        let [first, ..] = self.subscription.1;
        match self.subscription.0 % 8 {
            0 => format!(r#","subscription":"{}""#, pattern(first)),
            1 => String::new(),
            2 => r#","subscription":[]"#.to_owned(),
            3 => format!(r#","subscription":["{}",7]"#, pattern(first)),
            4 => r#","subscription":{"a":1}"#.to_owned(),
            _ => format!(r#","subscription":{:?}"#, self.subscription.1.map(pattern)),
        }
    }

    /// What the subscription names, if it is one.
    fn patterns(self) -> Option<Vec<String>> {
        let [first, ..] = self.subscription.1;
        match self.subscription.0 % 8 {
            0 => normal(pattern(first)).map(|pattern| vec![pattern]),
            1..5 => None,
            _ => self
                .subscription
                .1
                .into_iter()
                .map(|place| normal(pattern(place)))
                .collect(),
        }
    }
}

/// One of the list.
pub(super) fn entry<T: Copy + 'static>(list: &'static [T], place: usize) -> T {
    list[place % list.len()]
}

/// Half of them are good.
fn pattern(place: usize) -> &'static str {
    match place % 2 {
        0 => entry(&PATTERNS, place / 2),
        _ => entry(&ODD_PATTERNS, place / 2),
    }
}

/// The channel that a text means, if it means one and the limits allow it.
fn normal(text: &str) -> Option<String> {
    let segments = segments(text)?;
    let is_short = text.len() <= CHANNEL_BYTES && segments.len() <= CHANNEL_SEGMENTS;
    is_short.then(|| format!("/{}", segments.join("/")))
}

fn is_of(root: &str, name: &str) -> bool {
    is_reserved(root, &segments(name).expect("a name"))
}
