//! Sessions of the server that want every event, and the dispatch that hands events to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bayeux::{CarrierKind, Offset, Output, Settings, codec};
use futures::FutureExt;
use futures::future::BoxFuture;
use halley::auth::Principal;
use halley::dispatch;
use halley::event::{Audience, Tenant};
use halley::log::{self, Appended, Followed, Opened};
use halley::sessions::{Handle, Sessions, Wire};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::{payload, settings};

/// What the clock has to do with it.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// Sockets are pinged about once a second, and connects are held for half a minute.
    Ticks,
    /// Nothing is due for an hour, so that what is counted does not depend on when.
    StandsStill,
}

/// Sessions on WebSockets, and a dispatch that does what it has to when [`Receivers::dispatch`] is called, on this thread.
pub struct Receivers {
    sessions: Arc<Sessions>,
    dispatching: BoxFuture<'static, ()>,
    turn: Arc<Turn>,
    batches: mpsc::Sender<Vec<Appended>>,
    last: Offset,
    data: Box<RawValue>,
    all: Vec<Receiver>,
    heard: Arc<Heard>,
    _log: Opened,
}

struct Receiver {
    handle: Arc<Handle>,
    carrier: bayeux::Carrier,
}

/// What has come out of sockets that are none.
#[derive(Default)]
struct Heard {
    events: AtomicU64,
    sends: AtomicU64,
    /// Who was pinged, and with what.
    pings: Mutex<Vec<(usize, Offset)>>,
}

/// Whether dispatch wants to go on.
#[derive(Default)]
struct Turn(AtomicBool);

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A socket that takes everything at once and costs nothing.
struct Nowhere {
    receiver: usize,
    heard: Arc<Heard>,
}

impl Clock {
    fn settings(self) -> Settings {
        match self {
            Self::Ticks => Settings::default(),
            Self::StandsStill => Settings {
                timeout: HOUR,
                proof_interval: HOUR,
                ..Settings::default()
            },
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

impl Wire for Nowhere {
    fn is_free(&self) -> bool {
        true
    }

    fn stage(&self, outputs: &mut Vec<Output>, _: bool) {
        self.heard.sends.fetch_add(1, Ordering::Relaxed);
        for output in outputs.drain(..) {
            match output {
                Output::Event(_) => drop(self.heard.events.fetch_add(1, Ordering::Relaxed)),
                Output::Ping(offset) => self.heard.pings.lock().push((self.receiver, offset)),
                Output::Direct(_)
                | Output::Reply(_)
                | Output::ReadLog(_)
                | Output::Superseded
                | Output::Refused => {}
            }
        }
    }

    fn flush(&self) {}
}

impl Receivers {
    /// So many, whose sockets take everything and cost nothing.
    pub fn without_sockets(count: usize, clock: Clock) -> Self {
        let heard = Arc::new(Heard::default());
        let wires = (0..count).map(|receiver| -> Arc<dyn Wire> {
            let heard = Arc::clone(&heard);
            Arc::new(Nowhere { receiver, heard })
        });
        let receivers = Self::on(wires, clock, Arc::clone(&heard));
        heard.pings.lock().reserve(count);
        receivers
    }

    /// One for each of these sockets. Their pings are never answered.
    pub fn on_sockets(wires: Vec<Arc<dyn Wire>>, clock: Clock) -> Self {
        Self::on(wires, clock, Arc::default())
    }

    fn on(wires: impl IntoIterator<Item = Arc<dyn Wire>>, clock: Clock, heard: Arc<Heard>) -> Self {
        let storage = log::open("memory:", &settings::log()).expect("a log");
        let metrics = Arc::default();
        let sessions = Arc::new(Sessions::new(
            &storage,
            settings::revocations(),
            Arc::new(clock.settings()),
            settings::sessions(),
            Arc::clone(&metrics),
        ));
        let (batches, followed) = mpsc::channel(1);
        let followed = Followed {
            after: Offset::START,
            batches: followed,
        };
        Self {
            all: wires.into_iter().map(|wire| join(&sessions, wire)).collect(),
            turn: Arc::default(),
            dispatching: dispatch::run(followed, Arc::clone(&sessions), metrics).boxed(),
            sessions,
            batches,
            last: Offset::START,
            data: payload::data(),
            heard,
            _log: storage,
        }
    }

    /// Stores events for everyone. They wait for [`Receivers::dispatch`].
    pub fn publish(&mut self, events: usize) {
        let batch = (0..events).map(|_| {
            self.last = self.last.next();
            Appended {
                tenant: Tenant::default(),
                audience: Audience::Everyone,
                delivery: payload::event(self.last, &self.data),
            }
        });
        let batch = batch.collect();
        self.batches
            .try_send(batch)
            .expect("what was published before has been dispatched");
    }

    /// Hands out what was published.
    pub fn dispatch(&mut self) {
        while self.turn() {}
    }

    /// One turn of dispatch. Whether it wants another one: it lets others have theirs in between.
    fn turn(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.turn));
        let ended = (self.dispatching.as_mut()).poll(&mut Context::from_waker(&waker));
        assert!(ended.is_pending(), "dispatch waits for the log again");
        self.turn.0.swap(false, Ordering::Relaxed)
    }

    /// Answers the pings that came out, as clients do.
    pub fn answer_pings(&mut self) {
        for (receiver, offset) in self.heard.pings.lock().drain(..) {
            let Receiver { handle, carrier } = &self.all[receiver];
            self.sessions.handle_pong(handle, *carrier, offset);
        }
    }

    /// How many events have come out, of all sessions together.
    pub fn heard(&self) -> u64 {
        self.heard.events.load(Ordering::Relaxed)
    }
}

/// A session that listens, with a held connect.
fn join(sessions: &Arc<Sessions>, wire: Arc<dyn Wire>) -> Receiver {
    const BODY: &str = r#"[{"channel":"/meta/handshake"},{"channel":"/meta/subscribe","subscription":"/v2/me/calls"},{"channel":"/meta/connect"}]"#;
    let carrier = sessions.carrier(CarrierKind::Socket);
    let messages = codec::decode(BODY.as_bytes(), &sessions.settings().limits).expect("a body");
    let mut messages = messages
        .into_iter()
        .map(|message| message.expect("a good message"));
    let handshake = messages.next().expect("a handshake");
    let (handle, _) = sessions.open(&Principal::default(), None, None, carrier, &handshake);
    for message in messages {
        let handled = sessions.handle_message(&handle, carrier, true, &message);
        handled.expect("it is in memory");
    }
    sessions.attach(&handle, carrier, wire);
    sessions.pump(&handle);
    Receiver { handle, carrier }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of which the last group is no whole one.
    const RECEIVERS: usize = 1000;
    /// Those that are sent for until others have their turn.
    const TURN: u64 = 256;

    fn receivers() -> Receivers {
        let mut receivers = Receivers::without_sockets(RECEIVERS, Clock::StandsStill);
        receivers.publish(1);
        receivers
    }

    #[test]
    fn others_have_their_turn_while_an_event_goes_to_many() {
        let mut receivers = receivers();
        let mut turns = 0;
        while receivers.turn() {
            turns += 1;
        }
        assert_eq!(turns, RECEIVERS as u64 / TURN);
        assert_eq!(receivers.heard(), RECEIVERS as u64);
    }

    #[test]
    fn what_is_stored_meanwhile_leaves_together_with_it() {
        let mut receivers = receivers();
        let sends = |receivers: &Receivers| receivers.heard.sends.load(Ordering::Relaxed);
        let before = sends(&receivers);
        receivers.turn();
        receivers.publish(1);
        receivers.dispatch();
        assert_eq!(receivers.heard(), 2 * RECEIVERS as u64);
        // Those that had the first one already get the second one alone.
        assert_eq!(sends(&receivers) - before, RECEIVERS as u64 + TURN);
    }
}
