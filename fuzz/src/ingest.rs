//! The publish API: whatever body comes in, it is taken as a whole exactly when every event in it is right, and what goes
//! into the log is what was sent.
//!
//! The input is the body.

use std::mem::take;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::SystemTime;

use bayeux::{ChannelKind, ChannelName, Offset};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use halley::config::Limits;
use halley::event::{Audience, Event};
use halley::ingest::{Grant, Ingest};
use halley::log::{Bounds, Epoch, EventLog, Followed, Interest, Limit, LogError, Page, Position};
use halley::metrics::Metrics;
use http_body_util::BodyExt;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::Target;
use crate::channel::{is_reserved, segments};
use crate::json::{Fields, depth};

/// Bodies of the publish API.
pub const TARGET: Target = Target {
    name: "ingest",
    run,
    show: crate::show_text,
};

fn run(body: &[u8]) {
    static DOOR: LazyLock<Door> = LazyLock::new(Door::new);
    let (status, answer) = DOOR.publish(body);
    let events = take(&mut *DOOR.log.events.lock().expect("nobody has panicked"));
    let expected = expected(body, &DOOR.limits);
    let said = String::from_utf8_lossy(&answer);
    match (status, expected) {
        (201, Some(sent)) => {
            assert_eq!(events.len(), sent.len(), "events");
            events
                .iter()
                .zip(&sent)
                .for_each(|(event, sent)| check_event(event, sent));
            check_positions(body, &answer, sent.len());
        }
        (400, None) => {
            assert!(events.is_empty(), "refused and published: {events:?}");
            check_problem(body, &answer);
        }
        (status, Some(_)) => panic!("{status} for events that are right: {said}"),
        (status, None) => panic!("{status} for what is wrong: {said}"),
    }
}

/// What must be published: the fields of each event, unless one of them is wrong.
fn expected<'a>(body: &'a [u8], limits: &Limits) -> Option<Vec<Fields<'a>>> {
    let text = std::str::from_utf8(body).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let elements: Vec<&RawValue> = if is_array(body) {
        serde_json::from_str(text).expect("an array")
    } else {
        vec![serde_json::from_str(text).expect("a value")]
    };
    if elements.len() > limits.publish_events {
        return None;
    }
    let events: Vec<_> = elements.into_iter().map(Fields::of).collect::<Option<_>>()?;
    events
        .iter()
        .all(|event| is_right(event, limits))
        .then_some(events)
}

fn is_right(event: &Fields<'_>, limits: &Limits) -> bool {
    let known = ["tenant", "user", "channel", "data", "id", "lazy"];
    let each_once = event.0.len() == event.names().len()
        && event
            .names()
            .iter()
            .all(|name| known.contains(&name.as_str()) && event.one(name).is_some());
    let is_channel = event
        .text("channel")
        .is_some_and(|channel| is_channel(&channel, limits));
    let is_user = match event.one("user") {
        None => true,
        Some(_) => event
            .text("user")
            .is_some_and(|user| (1..=128).contains(&user.len()) && !user.chars().any(char::is_control)),
    };
    let is_tenant = match event.one("tenant") {
        None => true,
        Some(_) => event.text("tenant").is_some_and(|tenant| {
            (1..=64).contains(&tenant.len())
                && tenant
                    .chars()
                    .all(|one| one.is_ascii_alphanumeric() || "._-".contains(one))
        }),
    };
    let is_id = match event.one("id") {
        None => true,
        Some(_) => event
            .text("id")
            .is_some_and(|id| (1..=limits.id_bytes).contains(&id.len())),
    };
    let is_lazy = event
        .one("lazy")
        .is_none_or(|lazy| matches!(lazy, "true" | "false"));
    let is_shallow = event
        .one("data")
        .is_some_and(|data| depth(data.as_bytes()) <= limits.json_depth);
    each_once && is_channel && is_tenant && is_user && is_id && is_lazy && is_shallow
}

/// A channel that a publisher may name: none of the protocol's own, and no wildcard.
fn is_channel(text: &str, limits: &Limits) -> bool {
    segments(text).is_some_and(|segments| {
        text.len() <= limits.channel_bytes
            && segments.len() <= limits.channel_segments
            && !is_reserved("meta", &segments)
            && !is_reserved("service", &segments)
            && !matches!(segments.last(), Some(&("*" | "**")))
    })
}

fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

fn check_event(event: &Event, sent: &Fields<'_>) {
    assert_eq!(Some(event.data.get()), sent.one("data"), "data, byte for byte");
    let tenant = sent.text("tenant");
    assert_eq!(*event.tenant.0, *tenant.as_deref().unwrap_or_default());
    // An id is one of its tenant, and one that looks like another tenant's is changed, too.
    let id = sent.text("id");
    if tenant.is_none() && !id.as_deref().is_some_and(|id| id.starts_with('\u{1f}')) {
        assert_eq!(event.id.as_deref(), id.as_deref());
    }
    assert_eq!(event.channel.kind(), ChannelKind::Broadcast);
    let channel = sent.text("channel").expect("checked");
    assert_eq!(Ok(&event.channel), ChannelName::parse(&channel).as_ref());
    let user = match &event.audience {
        Audience::Everyone => None,
        Audience::User(user) => Some(&*user.0),
    };
    assert_eq!(user, sent.text("user").as_deref(), "whom it is for");
    assert_eq!(event.traits.lazy.is_some(), sent.one("lazy") == Some("true"));
}

/// The position of each, in the form in which the body came.
fn check_positions(body: &[u8], answer: &[u8], count: usize) {
    let answer: Value = serde_json::from_slice(answer).expect("positions are JSON");
    assert_eq!(answer.is_array(), is_array(body), "{answer}");
    let positions = answer
        .as_array()
        .map_or(std::slice::from_ref(&answer), Vec::as_slice);
    let offsets: Vec<_> = positions
        .iter()
        .map(|position| position["offset"].as_u64())
        .collect();
    let expected: Vec<_> = (1..=count as u64).map(Some).collect();
    assert_eq!(offsets, expected, "{answer}");
}

/// A problem says what is wrong, and points into the body.
fn check_problem(body: &[u8], answer: &[u8]) {
    let problem: Value = serde_json::from_slice(answer).expect("a problem is JSON");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty()),
        "{problem}"
    );
    let (Some(pointer), Ok(body)) = (problem["pointer"].as_str(), serde_json::from_slice::<Value>(body))
    else {
        return;
    };
    // What is missing cannot be pointed at, but where it is missing can.
    let (around, _) = pointer.rsplit_once('/').unwrap_or_default();
    assert!(body.pointer(around).is_some(), "{problem}");
}

struct Door {
    ingest: Ingest,
    log: Arc<Recorder>,
    limits: Limits,
}

impl Door {
    fn new() -> Self {
        let log = Arc::new(Recorder {
            epoch: Epoch("e".into()),
            events: Mutex::default(),
        });
        let limits = Limits {
            publish_events: 4,
            json_depth: 3,
            channel_bytes: 24,
            channel_segments: 3,
            id_bytes: 8,
            ..Limits::default()
        };
        let ingest = Ingest::new(
            Arc::<Recorder>::clone(&log),
            bayeux::Settings::default(),
            limits.clone(),
            Arc::new(Metrics::default()),
        );
        Self { ingest, log, limits }
    }

    /// The status and the body of the answer.
    fn publish(&self, body: &[u8]) -> (u16, Bytes) {
        let reply = self
            .ingest
            .publish(Bytes::copy_from_slice(body), &Grant::default(), |_| Ok(()))
            .now_or_never();
        let reply = reply.expect("it waits for nothing but the log");
        let status = reply.status().as_u16();
        let answer = reply.into_body().collect().now_or_never().expect("it is there");
        (status, answer.unwrap_or_else(|never| match never {}).to_bytes())
    }
}

/// A log that takes everything and keeps it until it is asked.
struct Recorder {
    epoch: Epoch,
    events: Mutex<Vec<Event>>,
}

impl EventLog for Recorder {
    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn append(&self, events: Vec<Event>) -> BoxFuture<'static, Result<Vec<Position>, LogError>> {
        let position = |place: usize| Position {
            offset: Offset(place as u64 + 1),
            duplicate: false,
        };
        let positions = (0..events.len()).map(position).collect();
        *self.events.lock().expect("nobody has panicked") = events;
        future::ready(Ok(positions)).boxed()
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            first: Offset(1),
            last: Offset::START,
        }
    }

    fn read(&self, _: &Interest, _: Offset, _: Limit) -> BoxFuture<'static, Result<Page, LogError>> {
        panic!("a door for publishers reads nothing")
    }

    fn follow(&self) -> Followed {
        panic!("a door for publishers follows nothing")
    }

    fn retain(&self, _: SystemTime) -> BoxFuture<'static, Result<(), LogError>> {
        panic!("a door for publishers drops nothing")
    }

    fn stopped(&self) -> BoxFuture<'static, LogError> {
        future::pending().boxed()
    }

    fn size_bytes(&self) -> u64 {
        0
    }
}
