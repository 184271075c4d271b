//! The end of a log: the last durable offset, and the one follower that hears of everything after it.
//!
//! Both are behind one lock. That is what makes following exact: an event either was durable before
//! [`EventLog::follow`](super::EventLog::follow) looked, or goes to the follower that it put in.

use bayeux::Offset;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::{Appended, Followed};

/// Batches that may wait for the follower before the writer waits too.
const BATCHES_AHEAD: usize = 8;

pub(super) struct Tail {
    state: Mutex<State>,
    turn: watch::Sender<u64>,
}

struct State {
    last: Offset,
    follower: Option<Follower>,
}

/// Who follows. A clone outlives its turn, but hands nothing over any more.
#[derive(Clone)]
pub(super) struct Follower {
    batches: mpsc::Sender<Vec<Appended>>,
    turn: watch::Receiver<u64>,
}

impl Tail {
    pub(super) fn new(last: Offset) -> Self {
        Self {
            state: Mutex::new(State { last, follower: None }),
            turn: watch::Sender::new(0),
        }
    }

    pub(super) fn last(&self) -> Offset {
        self.state.lock().last
    }

    /// Begins a stream after the last durable offset and ends the one before.
    pub(super) fn follow(&self) -> Followed {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let mut state = self.state.lock();
        self.turn.send_modify(|turn| *turn += 1);
        state.follower = Some(Follower {
            batches: sender,
            turn: self.turn.subscribe(),
        });
        Followed {
            after: state.last,
            batches,
        }
    }

    /// Makes everything up to `last` visible, and says who must hear of it.
    pub(super) fn advance(&self, last: Offset) -> Option<Follower> {
        let mut state = self.state.lock();
        state.last = last;
        state.follower.clone()
    }

    /// Ends the stream.
    pub(super) fn close(&self) {
        self.state.lock().follower = None;
        self.turn.send_modify(|turn| *turn += 1);
    }
}

impl Follower {
    /// Waits until the follower has room, has gone, or another took its turn. For the writer's thread only.
    pub(super) fn hand_over(self, batch: Vec<Appended>) {
        if let Err(mpsc::error::TrySendError::Full(batch)) = self.batches.try_send(batch) {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime without I/O and timers takes nothing from the system")
                .block_on(self.wait(batch));
        }
    }

    /// The same for a writer that is a task among others.
    pub(super) async fn hand_over_async(self, batch: Vec<Appended>) {
        if let Err(mpsc::error::TrySendError::Full(batch)) = self.batches.try_send(batch) {
            self.wait(batch).await;
        }
    }

    async fn wait(self, batch: Vec<Appended>) {
        let Self { batches, mut turn } = self;
        tokio::select! {
            _ = batches.send(batch) => {}
            _ = turn.changed() => {}
        }
    }
}
