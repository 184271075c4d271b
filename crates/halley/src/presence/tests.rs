//! Who is told to be present, with a log in memory and time that passes when the test says so.

use std::collections::VecDeque;

use bayeux::{CarrierKind, Limits, Message, Offset, codec};
use futures::FutureExt;
use serde_json::Value;

use super::*;
use crate::auth::{Principal, Revocations};
use crate::event::{Tenant, UserId};
use crate::log::{self, Attendance, Followed, NOBODY};
use crate::sessions::{Handle, Options, Overload, Room};

const DELAY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);

/// A node, and what subscribers hear.
struct It {
    sessions: Arc<Sessions>,
    storage: Opened,
    followed: Followed,
    heard: VecDeque<Value>,
    metrics: Arc<Metrics>,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl It {
    fn new() -> Self {
        Self::with(DELAY, |_| {})
    }

    fn with(delay: Duration, before: impl FnOnce(&Opened)) -> Self {
        let storage = log::open("memory:", &log::Settings::default()).expect("a log");
        before(&storage);
        let revocations = Revocations::load(Arc::clone(&storage.sessions));
        let revocations = revocations.now_or_never().expect("in memory").expect("none");
        let options = Options {
            resume_window: Duration::from_secs(3600),
            trust_client_session: true,
            overload: Overload::default(),
            room: Room::default(),
            tells_presence: true,
        };
        let metrics = Arc::new(Metrics::default());
        let sessions = Arc::new(Sessions::new(
            &storage,
            revocations.into(),
            Arc::default(),
            options,
            Arc::clone(&metrics),
        ));
        let settings = Settings {
            channel: ChannelName::parse("/presence").expect("a channel"),
            traits: Traits::default(),
            delay,
            patience: PATIENCE,
        };
        let presence = Presence {
            storage: storage.clone(),
            sessions: Arc::clone(&sessions),
            settings,
            metrics: Arc::clone(&metrics),
        };
        let (stop, shutdown) = Shutdown::new();
        tokio::spawn(Arc::new(presence).run(shutdown));
        Self {
            _stop: stop,
            followed: storage.log.follow(),
            sessions,
            storage,
            heard: VecDeque::new(),
            metrics,
        }
    }

    fn open(&self, user: &str) -> Arc<Handle> {
        let principal = Principal {
            user: Some(UserId(user.into())),
            ..Principal::default()
        };
        let carrier = self.sessions.carrier(CarrierKind::Exchange);
        let hello = said(br#"{"channel":"/meta/handshake"}"#);
        self.sessions.open(&principal, None, None, carrier, &hello).0
    }

    fn close(&self, handle: &Arc<Handle>) {
        let carrier = self.sessions.carrier(CarrierKind::Exchange);
        let goodbye = said(br#"{"channel":"/meta/disconnect"}"#);
        self.sessions
            .handle_message(handle, carrier, true, &goodbye)
            .expect("in memory");
        self.sessions.outputs(handle, carrier, usize::MAX).now();
    }

    /// Lets everything happen that happens at once. The thread of the log does its part in real time.
    async fn settle(&mut self) {
        let until = std::time::Instant::now() + Duration::from_millis(100);
        while std::time::Instant::now() < until {
            tokio::task::yield_now().await;
            while let Ok(batch) = self.followed.batches.try_recv() {
                for event in batch {
                    let message: Value =
                        serde_json::from_slice(event.delivery.message()).expect("an event is JSON");
                    self.heard.push_back(message["data"].clone());
                }
            }
        }
    }

    async fn pass(&mut self, time: Duration) {
        self.settle().await;
        tokio::time::advance(time).await;
        self.settle().await;
    }

    #[track_caller]
    fn expect(&mut self, told: &[(&str, bool)]) {
        let heard: Vec<(String, bool)> = self
            .heard
            .drain(..)
            .map(|data| {
                let user = data["user"].as_str().expect("a user").to_owned();
                (user, data["present"].as_bool().expect("whether"))
            })
            .collect();
        let heard: Vec<(&str, bool)> = heard.iter().map(|(user, is)| (user.as_str(), *is)).collect();
        assert_eq!(heard, told);
    }

    async fn entry(&self, user: &str) -> Option<Attendance> {
        let found = self.storage.presence.look(&whose(user)).await.expect("a look");
        found.map(|(_, attendance)| attendance)
    }
}

fn said(text: &'static [u8]) -> Message<'static> {
    let mut messages = codec::decode(text, &Limits::default()).expect("a body");
    messages.remove(0).expect("a message")
}

fn whose(user: &str) -> Whose {
    Whose {
        tenant: Tenant::default(),
        user: UserId(user.into()),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_session_of_a_user_is_told_and_the_second_is_not() {
    let mut it = It::new();
    it.open("15000");
    it.settle().await;
    it.expect(&[("15000", true)]);
    it.open("15000");
    it.pass(DELAY * 3).await;
    it.expect(&[]);
}

#[tokio::test(start_paused = true)]
async fn only_when_the_last_has_gone_it_is_told_and_only_when_it_stays_so() {
    let mut it = It::new();
    let (one, other) = (it.open("15000"), it.open("15000"));
    it.settle().await;
    it.expect(&[("15000", true)]);
    it.close(&one);
    it.pass(DELAY * 2).await;
    it.expect(&[]);
    it.close(&other);
    it.pass(DELAY - Duration::from_millis(1)).await;
    it.expect(&[]);
    it.pass(Duration::from_millis(2)).await;
    it.expect(&[("15000", false)]);
    assert_eq!(it.entry("15000").await, None, "nothing stays of him");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_loaded_again_is_no_news() {
    let mut it = It::new();
    let mut handle = it.open("15000");
    it.settle().await;
    it.expect(&[("15000", true)]);
    for _ in 0..5 {
        it.close(&handle);
        it.pass(DELAY - Duration::from_secs(1)).await;
        handle = it.open("15000");
        it.pass(Duration::from_secs(2)).await;
    }
    it.pass(DELAY * 3).await;
    it.expect(&[]);
}

#[tokio::test(start_paused = true)]
async fn without_a_delay_everything_is_told_at_once() {
    let mut it = It::with(Duration::ZERO, |_| {});
    for _ in 0..3 {
        let handle = it.open("15000");
        it.settle().await;
        it.close(&handle);
        it.settle().await;
        it.expect(&[("15000", true), ("15000", false)]);
    }
}

#[tokio::test(start_paused = true)]
async fn versions_grow_also_when_nothing_was_left_in_between() {
    let mut it = It::with(Duration::ZERO, |_| {});
    for _ in 0..3 {
        let handle = it.open("15000");
        it.settle().await;
        it.close(&handle);
        it.settle().await;
    }
    let versions: Vec<u64> = it
        .heard
        .iter()
        .map(|data| data["version"].as_u64().expect("a number"))
        .collect();
    assert_eq!(versions.len(), 6);
    assert!(versions.is_sorted_by(|one, other| one < other), "{versions:?}");
}

#[tokio::test(start_paused = true)]
async fn an_operator_ends_a_session_and_it_counts_no_more_though_its_client_does_not_listen() {
    let mut it = It::new();
    it.open("15000");
    it.settle().await;
    it.expect(&[("15000", true)]);
    let whose = whose("15000");
    assert_eq!(it.sessions.disconnect_user_here(&whose.tenant, &whose.user), 1);
    assert_eq!(it.sessions.count(), 1, "it waits for its client");
    it.settle().await;
    it.pass(DELAY).await;
    it.expect(&[("15000", false)]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_goes_to_another_node_is_not_gone() {
    let mut it = It::new();
    let handle = it.open("15000");
    it.settle().await;
    it.expect(&[("15000", true)]);
    assert!(it.sessions.let_go_of(handle.client_id()).is_some());
    // Nobody here shares the log: what is nowhere is waited for.
    it.pass(PATIENCE / 2).await;
    it.expect(&[]);
    assert!(it.entry("15000").await.is_some_and(|entry| entry.is_present()));
}

#[tokio::test(start_paused = true)]
async fn who_was_present_in_the_process_before_and_does_not_come_back_is_gone() {
    let left = Attendance {
        sessions: [("0011223344556677".into(), "".into())].into(),
        told: true,
        owed: false,
    };
    let mut it = It::with(DELAY, |storage| {
        for user in ["back", "gone"] {
            let written = storage.presence.write(&whose(user), &left, NOBODY);
            written.now_or_never().expect("in memory").expect("written");
        }
    });
    it.settle().await;
    it.open("back");
    for _ in 0..4 {
        it.pass(PATIENCE / 2).await;
    }
    it.pass(DELAY).await;
    it.expect(&[("gone", false)]);
    let entry = it.entry("back").await.expect("an entry");
    assert_eq!(entry.sessions.len(), 1, "what was left is taken out");
    assert_eq!(it.entry("gone").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_a_process_did_not_get_to_publish_is_published() {
    let owed = Attendance {
        sessions: [].into(),
        told: false,
        owed: true,
    };
    let mut it = It::with(DELAY, |storage| {
        let written = storage.presence.write(&whose("15000"), &owed, NOBODY);
        written.now_or_never().expect("in memory").expect("written");
    });
    it.settle().await;
    for _ in 0..3 {
        it.pass(PATIENCE / 2).await;
    }
    it.expect(&[("15000", false)]);
    assert_eq!(it.entry("15000").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_published_already_is_not_stored_again() {
    let mut it = It::new();
    let handle = it.open("15000");
    it.settle().await;
    it.expect(&[("15000", true)]);
    // As if the process had ended before it could say so.
    let (revision, mut entry) = it
        .storage
        .presence
        .look(&whose("15000"))
        .await
        .expect("a look")
        .expect("an entry");
    entry.owed = true;
    entry.told = false;
    let told = it.storage.log.bounds().last;
    let written = it.storage.presence.write(&whose("15000"), &entry, revision);
    let version = written.await.expect("written").expect("still the same");
    let id = format!("\u{1f}presence//{version}\u{1f}15000");
    let event = crate::event::Event {
        tenant: Tenant::default(),
        audience: crate::event::Audience::Everyone,
        channel: ChannelName::parse("/presence").expect("a channel"),
        data: serde_json::value::RawValue::NULL.to_owned(),
        id: Some(id.into()),
        traits: Traits::default(),
    };
    it.storage.log.append(vec![event]).await.expect("stored");
    it.open("15000");
    it.settle().await;
    // The event of the other one, and that he is present.
    assert_eq!(it.storage.log.bounds().last, Offset(told.0 + 2));
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn only_his_own_tenant_hears_of_a_user() {
    let mut it = It::new();
    let principal = Principal {
        tenant: Tenant("acme".into()),
        user: Some(UserId("15000".into())),
        ..Principal::default()
    };
    let carrier = it.sessions.carrier(CarrierKind::Exchange);
    let hello = said(br#"{"channel":"/meta/handshake"}"#);
    it.sessions.open(&principal, None, None, carrier, &hello);
    let batch = it.followed.batches.recv().await.expect("an event");
    assert_eq!(batch[0].tenant, principal.tenant);
    let message: Value = serde_json::from_slice(batch[0].delivery.message()).expect("JSON");
    assert_eq!(message["data"]["tenant"], "acme");
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_counted() {
    let mut it = It::with(Duration::ZERO, |_| {});
    let handle = it.open("15000");
    it.settle().await;
    it.close(&handle);
    it.settle().await;
    let counted = |result| {
        let label = crate::metrics::Outcome { result };
        it.metrics.presence.get_or_create(&label).get()
    };
    assert_eq!((counted("present"), counted("absent")), (1, 1));
}
