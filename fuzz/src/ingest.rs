//! The publish API: whatever body comes in, it is taken as a whole exactly when every event in it is right, and what goes
//! into the log is what was sent.
//!
//! The input is the body, which is sent in our own form and as a `CloudEvent`.

use std::mem::take;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::SystemTime;

use bayeux::{ChannelKind, ChannelName, Offset};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use halley::config::{CloudEvents, Limits};
use halley::event::{Audience, Event, UserId};
use halley::ingest::{Grant, Ingest};
use halley::log::{Bounds, Epoch, EventLog, Followed, Interest, Limit, LogError, Page, Position};
use halley::metrics::Metrics;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderValue};
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

static DOOR: LazyLock<Door> = LazyLock::new(Door::new);

fn run(body: &[u8]) {
    run_own(body);
    run_cloudevent(body);
}

fn run_own(body: &[u8]) {
    let (status, answer) = DOOR.publish(&HeaderMap::new(), body);
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

fn run_cloudevent(body: &[u8]) {
    let structured = HeaderValue::from_static("application/cloudevents+json");
    let (status, answer) = DOOR.publish(&HeaderMap::from_iter([(CONTENT_TYPE, structured)]), body);
    let events = take(&mut *DOOR.log.events.lock().expect("nobody has panicked"));
    let said = String::from_utf8_lossy(&answer);
    let sent = std::str::from_utf8(body)
        .ok()
        .and_then(|text| serde_json::from_str::<&RawValue>(text).ok())
        .and_then(Fields::of);
    let is_right = sent
        .as_ref()
        .is_some_and(|sent| is_right_cloudevent(sent, &DOOR.limits));
    match (status, sent) {
        (201, Some(sent)) if is_right => {
            let [event] = events.as_slice() else {
                panic!("one event, and not {events:?}")
            };
            assert_eq!(event.data.get(), sent.one("data").unwrap_or("null"));
            assert_eq!(Some(event.channel.as_str()), sent.text("channel").as_deref());
            let user = Audience::User(UserId(attribute(&sent, "user").unwrap_or_default().into()));
            assert_eq!(event.audience, user);
            assert!(
                event.id.as_ref().is_some_and(|id| id.len() <= 64 + 48),
                "{event:?}"
            );
        }
        (400, _) if !is_right => {
            assert!(events.is_empty(), "refused and published: {events:?}");
            check_problem(body, &answer);
        }
        // Not modelled: every way to write a time or a type.
        (400, Some(sent)) if sent.one("time").is_some() || sent.one("datacontenttype").is_some() => {}
        (status, _) => panic!("{status}, and it is right: {is_right}: {said}"),
    }
}

fn is_right_cloudevent(event: &Fields<'_>, limits: &Limits) -> bool {
    let names = event.names();
    let once = |name: &&str| names.iter().filter(|known| known == name).count() <= 1;
    let is_text = |name: &&str| {
        event.one(name).is_none_or(|value| value == "null")
            || event
                .text(name)
                .is_some_and(|text| !text.is_empty() && !text.chars().any(char::is_control))
    };
    let texts = [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "dataschema",
        "datacontenttype",
        "time",
    ];
    let mapped = ["user", "channel", "tenant"];
    let is_there = |name: &&str| event.text(name).is_some();
    let user = attribute(event, "user");
    let tenant = attribute(event, "tenant");
    event.0.len() == names.len()
        && texts.iter().chain(&mapped).chain(&["data"]).all(once)
        && texts.iter().all(is_text)
        && ["specversion", "id", "source", "type", "channel"]
            .iter()
            .all(is_there)
        && event.text("specversion").as_deref() == Some("1.0")
        && event
            .0
            .iter()
            .all(|(name, value)| !is_named(name, "data_base64") || value.get() == "null")
        && user.is_some_and(|user| (1..=128).contains(&user.len()) && !user.chars().any(char::is_control))
        && event
            .text("channel")
            .is_some_and(|channel| is_channel(&channel, limits))
        && (event.one("tenant").is_none_or(|value| value == "null")
            || tenant.is_some_and(|tenant| is_tenant(&tenant)))
        && event
            .one("data")
            .is_none_or(|data| depth(data.as_bytes()) <= limits.json_depth)
}

fn is_named(field: &RawValue, name: &str) -> bool {
    serde_json::from_str::<String>(field.get()).is_ok_and(|field| field == name)
}

/// A text, or an integer by its digits.
fn attribute(event: &Fields<'_>, name: &str) -> Option<String> {
    let is_integer = |value: &&str| {
        let digits = value.strip_prefix('-').unwrap_or(value);
        digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    event
        .text(name)
        .or_else(|| event.one(name).filter(is_integer).map(ToOwned::to_owned))
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
        Some(_) => event.text("tenant").is_some_and(|tenant| is_tenant(&tenant)),
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

fn is_tenant(tenant: &str) -> bool {
    let is_allowed = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
    (1..=64).contains(&tenant.len()) && tenant.chars().all(is_allowed)
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
            &CloudEvents::default(),
            Arc::new(Metrics::default()),
        );
        Self { ingest, log, limits }
    }

    /// The status and the body of the answer.
    fn publish(&self, headers: &HeaderMap, body: &[u8]) -> (u16, Bytes) {
        let reply = self
            .ingest
            .publish(headers, Bytes::copy_from_slice(body), &Grant::default(), |_| {
                Ok(())
            })
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
