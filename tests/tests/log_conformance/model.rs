//! Random operations against a list: whatever happens in whatever order, the log is that list.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bayeux::{ChannelPattern, Offset};
use halley::event::{Audience, Event};
use halley::log::Position;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;

use crate::it::{self, It, every_durable_kind, every_kind};

const USERS: &[&str] = &["", "1", "15000", "15000\0"];
const CHANNELS: &[&str] = &["/a", "/a/b", "/a/b/c", "/a/c", "/a-b", "/b/x", "/b/y", "/b/*"];
const PATTERNS: &[&str] = &[
    "/a",
    "/a/*",
    "/a/**",
    "/**",
    "/*",
    "/b/*",
    "/b/x",
    "/a/b/*",
    "/nothing/**",
];

#[derive(Debug, Clone)]
enum Operation {
    Append(Vec<Draft>),
    Read {
        user: Option<&'static str>,
        patterns: Vec<&'static str>,
        after: f64,
        limit: usize,
    },
    /// Retention runs when everything is some hours older.
    Retain(u64),
    Restart,
}

#[derive(Debug, Clone)]
struct Draft {
    user: Option<&'static str>,
    channel: &'static str,
    id: Option<u8>,
}

fn draft() -> impl Strategy<Value = Draft> {
    let parts = (
        proptest::option::of(select(USERS)),
        select(CHANNELS),
        proptest::option::of(0..30_u8),
    );
    parts.prop_map(|(user, channel, id)| Draft { user, channel, id })
}

fn operation() -> impl Strategy<Value = Operation> {
    let read = (
        proptest::option::of(select(USERS)),
        proptest::collection::vec(select(PATTERNS), 0..4),
        -0.1..1.1,
        1..40_usize,
    );
    prop_oneof![
        6 => proptest::collection::vec(draft(), 0..12).prop_map(Operation::Append),
        6 => read.prop_map(|(user, patterns, after, limit)| Operation::Read { user, patterns, after, limit }),
        2 => select(&[0, 2, 2, 26][..]).prop_map(Operation::Retain),
        1 => Just(Operation::Restart),
    ]
}

#[derive(Default)]
struct Model {
    events: Vec<Event>,
    offset_by_id: HashMap<u8, u64>,
}

impl Model {
    fn append(&mut self, draft: &Draft) -> (Event, Position) {
        let mut event = match draft.user {
            Some(user) => it::to(user, draft.channel, "1"),
            None => it::everyone(draft.channel, "1"),
        };
        event.id = draft.id.map(|id| id.to_string().into());
        let first = draft.id.and_then(|id| self.offset_by_id.get(&id).copied());
        let offset = first.unwrap_or(self.events.len() as u64 + 1);
        if first.is_none() {
            self.events.push(event.clone());
            self.offset_by_id.extend(draft.id.map(|id| (id, offset)));
        }
        (
            event,
            Position {
                offset: Offset(offset),
                duplicate: first.is_some(),
            },
        )
    }

    fn read(&self, user: Option<&str>, patterns: &[ChannelPattern], after: u64) -> Vec<u64> {
        let mine = |event: &Event| match &event.audience {
            Audience::Everyone => true,
            Audience::User(of) => user == Some(&*of.0),
        };
        let wanted = |event: &Event| patterns.iter().any(|pattern| pattern.matches(&event.channel));
        let numbered = self.events.iter().zip(1..).filter(|(_, offset)| *offset > after);
        numbered
            .filter(|(event, _)| mine(event) && wanted(event))
            .map(|(_, offset)| offset)
            .collect()
    }
}

async fn run(mut it: It, operations: &[Operation], restarts: bool) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for operation in operations {
        match operation {
            Operation::Append(drafts) => {
                let (events, expected): (Vec<_>, Vec<_>) =
                    drafts.iter().map(|draft| model.append(draft)).unzip();
                prop_assert_eq!(it.positions(events).await, expected);
            }
            Operation::Read {
                user,
                patterns,
                after,
                limit,
            } => {
                let after = (after * model.events.len() as f64) as u64;
                check_read(&it, &model, (*user, patterns), after, *limit).await?;
            }
            Operation::Retain(hours) => {
                let now = SystemTime::now() + Duration::from_secs(3600 * hours);
                it.log().retain(now).await.expect("retention works");
            }
            Operation::Restart if restarts => it.restart(),
            Operation::Restart => {}
        }
        prop_assert_eq!(it.bounds().1, model.events.len() as u64);
    }
    Ok(())
}

async fn check_read(
    it: &It,
    model: &Model,
    (user, patterns): (Option<&str>, &[&str]),
    after: u64,
    limit: usize,
) -> Result<(), TestCaseError> {
    let mut who = it::anybody(patterns);
    who.user = user.map(|user| halley::event::UserId(user.into()));
    let (first, last) = it.bounds();
    let mut expected = model.read(user, &who.patterns, after.max(first - 1));
    let page = it.page(who, after, limit).await;
    let through = if expected.len() > limit {
        expected[limit - 1]
    } else {
        last
    };
    expected.truncate(limit);
    prop_assert_eq!(it::offsets(&page.events), expected);
    prop_assert_eq!(page.through, Offset(through));
    prop_assert_eq!(page.gap, (first > after + 1).then_some(Offset(first)));
    for event in &page.events {
        let stored = &model.events[event.offset().0 as usize - 1];
        prop_assert_eq!(event.channel(), &stored.channel);
    }
    Ok(())
}

fn check(
    operations: &[Operation],
    logs: impl Iterator<Item = It>,
    restarts: bool,
) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut logs = logs;
    logs.try_for_each(|it| runtime.block_on(run(it, operations, restarts)))
}

proptest! {
    #![proptest_config(Config { cases: 24, ..Config::default() })]

    #[test]
    fn a_log_is_a_list(operations in proptest::collection::vec(operation(), 1..60)) {
        check(&operations, every_kind(), false)?;
    }

    #[test]
    fn a_log_is_a_list_also_over_restarts(operations in proptest::collection::vec(operation(), 1..30)) {
        check(&operations, every_durable_kind(), true)?;
    }
}
