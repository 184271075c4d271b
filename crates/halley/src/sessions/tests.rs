//! What happens between a session and what is around it, step by step.

use std::time::{Duration, Instant, SystemTime};

use bayeux::{Output, codec};
use futures::FutureExt;

use super::*;
use crate::event::{Audience, Event};
use crate::log::{self, Epoch};

struct Broker {
    sessions: Arc<Sessions>,
    store: Arc<dyn SessionStore>,
    log: Arc<dyn EventLog>,
}

impl Broker {
    fn new() -> Self {
        Self::with(bayeux::Settings::default())
    }

    fn with(protocol: bayeux::Settings) -> Self {
        let settings = log::Settings {
            retention: Duration::from_secs(60),
            retention_bytes: u64::MAX,
            dedup_window: Duration::from_secs(60),
            min_free_bytes: 0,
            ..log::Settings::default()
        };
        let opened = log::open("memory:", &settings).unwrap();
        let options = Options {
            resume_window: Duration::from_secs(3600),
            trust_client_session: true,
            overload: Overload {
                interval: Duration::from_millis(200),
                lag: 3,
            },
            room: Room::default(),
            tells_presence: false,
        };
        let revocations = Revocations::load(Arc::clone(&opened.sessions));
        let revocations = revocations.now_or_never().expect("in memory").expect("none");
        let sessions = Arc::new(Sessions::new(
            &opened,
            revocations.into(),
            Arc::new(protocol),
            options,
            Arc::default(),
        ));
        Self {
            sessions,
            store: opened.sessions,
            log: opened.log,
        }
    }

    fn open(&self) -> Arc<Handle> {
        let body = codec::decode(
            br#"{"channel":"/meta/handshake"}"#,
            &self.sessions.settings.limits,
        );
        let message = body.unwrap().remove(0).unwrap();
        let carrier = self.sessions.carrier(CarrierKind::Exchange);
        self.sessions
            .open(&Principal::default(), None, None, carrier, &message)
            .0
    }

    fn exchange(&self, handle: &Arc<Handle>, message: &str) -> (Carrier, Vec<Output>) {
        let carrier = self.sessions.carrier(CarrierKind::Exchange);
        let body = codec::decode(message.as_bytes(), &self.sessions.settings.limits);
        let message = body.unwrap().remove(0).unwrap();
        self.sessions
            .handle_message(handle, carrier, true, &message)
            .expect("in memory");
        (carrier, self.sessions.outputs(handle, carrier, usize::MAX).now())
    }

    async fn publish(&self, channel: &str) {
        let event = Event {
            tenant: crate::event::Tenant::default(),
            audience: Audience::Everyone,
            channel: bayeux::ChannelName::parse(channel).unwrap(),
            data: serde_json::value::RawValue::NULL.to_owned(),
            id: None,
            traits: bayeux::Traits::default(),
        };
        self.log.append(vec![event]).await.unwrap();
    }

    async fn record(&self, handle: &Handle) -> SessionRecord {
        self.store
            .get(handle.client_id())
            .await
            .unwrap()
            .expect("a record")
    }
}

const CONNECT: &str = r#"{"channel":"/meta/connect"}"#;
const SUBSCRIBE: &str = r#"{"channel":"/meta/subscribe","subscription":"/a"}"#;

fn told_of_gap(outputs: &[Output]) -> bool {
    format!("{outputs:?}").contains("recovered")
}

#[tokio::test]
async fn a_look_that_an_earlier_one_overtook_leaves_nothing_in_the_wheel() {
    let broker = Broker::new();
    let handle = broker.open();
    assert_eq!(broker.sessions.timers.len(), 1);
    for _ in 0..5 {
        broker.sessions.handle_timer(&handle);
    }
    assert_eq!(broker.sessions.timers.len(), 1);
}

#[tokio::test]
async fn a_deadline_that_is_due_already_needs_no_second_look() {
    let broker = Broker::new();
    let handle = broker.open();
    let due = Instant::now();
    assert!(broker.sessions.timers.add(&handle, due) <= due);
}

#[tokio::test]
async fn a_connection_that_ends_late_says_nothing_about_a_later_reply() {
    let broker = Broker::new();
    let handle = broker.open();
    let (first, _) = broker.exchange(&handle, CONNECT);
    broker.exchange(&handle, SUBSCRIBE);
    let event = bayeux::Delivery::encode(
        Offset(1),
        bayeux::ChannelName::parse("/a").unwrap(),
        serde_json::value::RawValue::NULL,
    );
    broker.sessions.hand_over(&handle, &Arc::new(event));
    let (_, outputs) = broker.exchange(&handle, CONNECT);
    assert!(matches!(outputs[..], [Output::Event(_), Output::Reply(_)]));
    broker.sessions.handle_reply_lost(&handle, first);
    let (_, outputs) = broker.exchange(&handle, CONNECT);
    assert!(outputs.is_empty(), "{outputs:?}");
}

#[tokio::test]
async fn a_subscription_is_written_again_when_it_is_asked_for_again() {
    let broker = Broker::new();
    let handle = broker.open();
    broker.exchange(&handle, SUBSCRIBE);
    // As after a write that failed.
    broker.store.remove(handle.client_id()).await.unwrap();
    broker.exchange(&handle, SUBSCRIBE);
    assert_eq!(broker.record(&handle).await.state.subscriptions.len(), 1);
}

#[tokio::test]
async fn a_record_of_another_log_stays_until_the_client_knows() {
    let broker = Broker::new();
    let handle = broker.open();
    broker.exchange(&handle, SUBSCRIBE);
    broker.exchange(&handle, CONNECT);
    let another = Epoch("another".into());
    let mut record = broker.record(&handle).await;
    record.epoch = another.clone();
    record.state.cursor = Offset(1000);
    record.seen = SystemTime::UNIX_EPOCH;
    broker
        .sessions
        .leave(&handle, &mut handle.state.lock(), Stage::Gone);
    broker.store.put(record).await.unwrap();

    let id = handle.client_id().as_str().to_owned();
    let woken = broker
        .sessions
        .find(&id, &Requester::default(), true)
        .await
        .unwrap()
        .unwrap();
    assert!(
        broker.record(&woken).await.seen > SystemTime::UNIX_EPOCH,
        "a live session is not swept"
    );
    let (_, outputs) = broker.exchange(&woken, CONNECT);
    assert!(told_of_gap(&outputs));
    broker
        .sessions
        .note_cursor(&woken, &mut woken.state.lock(), Instant::now());
    assert_eq!(broker.record(&woken).await.epoch, another);
    broker.exchange(&woken, CONNECT);
    broker
        .sessions
        .note_cursor(&woken, &mut woken.state.lock(), Instant::now());
    let record = broker.record(&woken).await;
    assert_eq!(
        (record.epoch, record.state.cursor),
        (broker.log.epoch().clone(), Offset(0))
    );
}

#[tokio::test]
async fn a_record_that_was_read_before_its_session_ended_wakes_nobody() {
    let broker = Broker::new();
    let handle = broker.open();
    broker.exchange(&handle, SUBSCRIBE);
    broker.exchange(&handle, CONNECT);
    let departures = broker
        .sessions
        .departures_of(handle.client_id())
        .load(Ordering::Acquire);
    let record = broker.record(&handle).await;
    broker.exchange(&handle, r#"{"channel":"/meta/disconnect"}"#);
    assert!(
        broker
            .sessions
            .resume(record, Owner::default(), None, departures)
            .is_none()
    );
    assert_eq!(broker.sessions.count(), 0);
}

#[tokio::test]
async fn a_record_that_was_read_before_an_operator_took_it_away_wakes_nobody() {
    let broker = Broker::new();
    let handle = broker.open();
    broker.exchange(&handle, SUBSCRIBE);
    broker.exchange(&handle, CONNECT);
    broker
        .sessions
        .leave(&handle, &mut handle.state.lock(), Stage::Gone);
    let departures = broker
        .sessions
        .departures_of(handle.client_id())
        .load(Ordering::Acquire);
    let record = broker.record(&handle).await;
    let ended = broker.sessions.disconnect_one(handle.public_id()).await.unwrap();
    assert_eq!((ended.disconnected, ended.forgotten), (0, 1));
    assert!(
        broker
            .sessions
            .resume(record, Owner::default(), None, departures)
            .is_none()
    );
    assert_eq!(broker.sessions.count(), 0);
}

#[tokio::test]
async fn a_session_that_is_to_end_reads_the_log_only_if_dispatch_is_not_that_far() {
    let broker = Broker::new();
    let handle = broker.open();
    broker.exchange(&handle, SUBSCRIBE);
    broker.exchange(&handle, CONNECT);
    broker.publish("/a").await;
    // Dispatch has seen the event, and it was for nobody here.
    broker.sessions.dispatched(Offset(1));
    assert!(broker.sessions.disconnect(&handle));
    let (_, outputs) = broker.exchange(&handle, CONNECT);
    assert!(
        matches!(outputs[..], [Output::Direct(_), Output::Reply(_)]),
        "{outputs:?}"
    );

    let handle = broker.open();
    broker.exchange(&handle, SUBSCRIBE);
    broker.exchange(&handle, CONNECT);
    broker.publish("/a").await;
    assert!(broker.sessions.disconnect(&handle));
    let (_, outputs) = broker.exchange(&handle, CONNECT);
    assert!(matches!(outputs[..], [Output::ReadLog(Offset(1))]), "{outputs:?}");
    assert_eq!(
        broker.store.count(),
        0,
        "a connect does not write down what is to end"
    );
}

#[tokio::test]
async fn events_that_a_rule_no_longer_keeps_are_given_to_nobody_and_are_no_gap() {
    let rule = bayeux::Rule {
        retention: Some(Duration::ZERO),
        ..bayeux::Rule::of(ChannelPattern::parse("/brief").unwrap())
    };
    let broker = Broker::with(bayeux::Settings {
        rules: Arc::new(bayeux::Rules::new(vec![rule])),
        ..bayeux::Settings::default()
    });
    let handle = broker.open();
    broker.exchange(
        &handle,
        r#"{"channel":"/meta/subscribe","subscription":["/brief","/long"]}"#,
    );
    for channel in ["/brief", "/long"] {
        broker.publish(channel).await;
    }
    // A millisecond is what separates "now" from "older than nothing".
    std::thread::sleep(Duration::from_millis(2));
    handle.state.lock().session.handle_missed(Offset(2));
    let (carrier, outputs) = broker.exchange(&handle, CONNECT);
    assert!(matches!(outputs[..], [Output::ReadLog(Offset(0))]), "{outputs:?}");
    broker
        .sessions
        .read_log(&handle, carrier, Offset(0))
        .await
        .unwrap();
    let outputs = broker.sessions.outputs(&handle, carrier, usize::MAX).now();
    let channels: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Event(event) => Some(event.channel().as_str()),
            Output::Direct(_)
            | Output::Reply(_)
            | Output::Ping(_)
            | Output::ReadLog(_)
            | Output::Superseded
            | Output::Refused => None,
        })
        .collect();
    assert_eq!(channels, ["/long"]);
    assert!(!told_of_gap(&outputs));
}

#[tokio::test]
async fn connects_are_told_to_come_later_while_dispatch_lags_behind() {
    let broker = Broker::new();
    let handle = broker.open();
    let says_later = |outputs: Vec<Output>| format!("{outputs:?}").contains("interval: Some(200)");
    assert!(!says_later(broker.exchange(&handle, CONNECT).1));
    for _ in 0..3 {
        broker.publish("/a").await;
    }
    let at_once = r#"{"channel":"/meta/connect","advice":{"timeout":0}}"#;
    assert!(says_later(broker.exchange(&handle, at_once).1));
    broker.sessions.dispatched(Offset(3));
    assert!(!says_later(broker.exchange(&handle, at_once).1));
}

#[tokio::test]
async fn a_session_that_is_ended_as_idle_leaves_nothing_behind() {
    let broker = Broker::with(bayeux::Settings {
        activity: bayeux::Activity::Client,
        max_inactivity: Duration::ZERO,
        ..bayeux::Settings::default()
    });
    let handle = broker.open();
    broker.exchange(&handle, SUBSCRIBE);
    // The clock of the machine may not have moved since.
    std::thread::sleep(Duration::from_millis(2));
    let (_, outputs) = broker.exchange(&handle, CONNECT);
    assert!(
        matches!(outputs[..], [Output::Direct(_), Output::Reply(_)]),
        "{outputs:?}"
    );
    assert_eq!((broker.sessions.count(), broker.store.count()), (0, 0));
}
