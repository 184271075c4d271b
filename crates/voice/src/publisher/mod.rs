//! Brings notifications to the broker: `POST <broker>/api/v1/events`.
//!
//! - **In order.** One request is in flight; what is said meanwhile waits and goes with the next, 64 at most.
//! - **Once in effect.** An event keeps its id through every attempt, so the broker can drop what it has already.
//! - **Never dropped silently.** While the queue is full, operations are refused before they change anything (see
//!   [`Publisher::has_room`]). Only a final refusal by the broker, or the deadline, loses an event, and both are
//!   counted and reported.
//! - A batch that the broker refuses for its content is sent again one event at a time, so that one bad event does
//!   not take its neighbours with it.

mod backoff;
mod delivery;
mod event;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::header::{HeaderValue, InvalidHeaderValue};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::http::{Connection, Origin};
use crate::message::Notification;
use delivery::Delivery;
use event::{Event, EventIds};

pub use crate::http::InvalidUrl;
use report::Counters;
pub use report::{Counts, Observer, Report};

/// How to publish.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address of the broker's API, such as `http://127.0.0.1:9090`.
    pub broker: String,
    /// Sent as `Authorization: Bearer …`, if the broker wants to know who publishes.
    pub token: Option<String>,
    /// How many notifications may wait before operations are refused.
    pub queue: usize,
    /// How long one attempt may take.
    pub answer_within: Duration,
    /// The pause after the first failed attempt; every further one doubles it.
    pub first_pause: Duration,
    /// The longest pause, unless the broker asks for more with `Retry-After`.
    pub longest_pause: Duration,
    /// When a batch is given up, counted from its first attempt. The broker should remember event ids for longer.
    pub give_up_after: Duration,
    /// Hears what becomes of the events.
    pub observer: Observer,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            broker: "http://127.0.0.1:9090".into(),
            token: None,
            queue: 10_000,
            answer_within: Duration::from_secs(10),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            give_up_after: Duration::from_secs(600),
            observer: Observer::default(),
        }
    }
}

/// The way to the broker.
pub struct Publisher {
    waiting: mpsc::UnboundedSender<Event>,
    state: Arc<State>,
    ids: EventIds,
    most_waiting: usize,
}

/// What the publisher and its task share.
#[derive(Debug, Default)]
struct State {
    /// Events that were pushed and whose fate is not known yet.
    waiting: AtomicUsize,
    counters: Counters,
}

/// The publisher's task.
pub struct Running {
    state: Arc<State>,
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// A configuration that cannot publish.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The broker's address.
    #[error(transparent)]
    Broker(#[from] InvalidUrl),
    /// The token does not fit into a header.
    #[error("the broker token cannot be sent in a header")]
    Token(#[from] InvalidHeaderValue),
    /// The operating system has no random numbers.
    #[error("no random numbers: {0}")]
    Chance(getrandom::Error),
}

impl Publisher {
    /// Starts the task that publishes. Must be called within a tokio runtime.
    pub fn start(config: Config) -> Result<(Publisher, Running), StartError> {
        let origin: Origin = config.broker.parse()?;
        let authorization = config.token.as_deref().map(bearer).transpose()?;
        let ids = EventIds::new(getrandom::u64().map_err(StartError::Chance)?);
        let (waiting, events) = mpsc::unbounded_channel();
        let (close, closing) = oneshot::channel();
        let state = Arc::new(State::default());
        let most_waiting = config.queue;
        let connection = Connection::new(origin, authorization, config.answer_within);
        let delivery = Delivery::new(config, connection, state.clone());
        let task = tokio::spawn(run(events, closing, delivery));
        let running = Running {
            state: state.clone(),
            close,
            task,
        };
        Ok((
            Publisher {
                waiting,
                state,
                ids,
                most_waiting,
            },
            running,
        ))
    }

    /// Whether another operation may be performed. Ask before the operation, and push all that it says: the queue is
    /// then bounded by the configured length and the notifications of one operation.
    pub fn has_room(&self) -> bool {
        self.state.waiting.load(Ordering::Relaxed) < self.most_waiting
    }

    /// Queues a notification. Notifications leave in the order of these calls.
    pub fn push(&mut self, notification: &Notification) {
        let event = Event::new(self.ids.next(), notification);
        self.state.waiting.fetch_add(1, Ordering::Relaxed);
        if self.waiting.send(event).is_err() {
            // The task has ended: the embedding program is shutting down and no longer takes operations.
            self.state.waiting.fetch_sub(1, Ordering::Relaxed);
            self.state.counters.add(&Report::Expired { events: 1 });
        }
    }

    /// What became of the events so far.
    pub fn counts(&self) -> Counts {
        self.state.counts()
    }
}

impl Running {
    /// What became of the events so far.
    pub fn counts(&self) -> Counts {
        self.state.counts()
    }

    /// Takes no more events, publishes those that wait, and returns when it is done or when the time is up. What then
    /// still waits is lost, and is in [`Counts::waiting`].
    pub async fn close(mut self, within: Duration) -> Counts {
        // An error means that the task has ended already.
        let _ = self.close.send(());
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            self.task.abort();
        }
        self.state.counts()
    }
}

impl State {
    fn counts(&self) -> Counts {
        self.counters.counts(self.waiting.load(Ordering::Relaxed))
    }
}

/// Takes everything that waits, up to a batch, and sees it through before it takes more.
async fn run(
    mut events: mpsc::UnboundedReceiver<Event>,
    mut closing: oneshot::Receiver<()>,
    mut delivery: Delivery,
) {
    let mut batch = Vec::with_capacity(MOST_IN_BATCH);
    loop {
        tokio::select! {
            biased;
            taken = events.recv_many(&mut batch, MOST_IN_BATCH) => match taken {
                0 => return,
                _ => delivery.deliver(&batch).await,
            },
            _ = &mut closing, if !events.is_closed() => events.close(),
        }
        batch.clear();
    }
}

fn bearer(token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The most events of one request.
const MOST_IN_BATCH: usize = 64;
