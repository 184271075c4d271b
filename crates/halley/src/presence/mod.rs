//! Tells subscribers which users are present: an event when the first session of a user comes into memory, and one when the last
//! has gone.
//!
//! Which sessions there are, all nodes know from one entry for each user ([`PresenceStore`](crate::log::PresenceStore)), and every
//! write of it is compared with what the writer has read. It says three things: which sessions, each with its node; what was told
//! last; and whether that has yet to be published. So whatever happens in between, somebody can see what is still to be done:
//!
//! * A session that moves stays in the entry, and only its node changes: nothing is told. A node takes out what has ended with it,
//!   and nothing that has gone on to another one.
//! * That nobody is left is told when it is so for `delay`. A page that is loaded again, on whatever node, is no news.
//! * First the entry says what is told, then it is published, with the revision of that write as its version and in its id, and then
//!   it is no longer owed. A node that ends in between leaves an event that another one publishes; if both do, the log knows the id.
//! * A node that ends at once leaves its sessions in the entries. Now and then every node looks at all of them ([`roll`]): what
//!   nobody has in memory for `patience`, which is as long as a session may be silent, is taken out.
//!
//! Nothing here is on the road of an event, and nobody waits for it: sessions note whose they are ([`Sessions::turnout`]), and one
//! task does the rest, a user at a time ([`entry`]), again until it has succeeded ([`agenda`]).

mod agenda;
mod entry;
mod roll;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bayeux::{ChannelName, Traits};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, warn};

use crate::event::Whose;
use crate::http::Shutdown;
use crate::log::{LogError, Opened};
use crate::metrics::Metrics;
use crate::sessions::Sessions;

use agenda::{Agenda, Outcome, Task};
use roll::Roll;

/// What an operator has chosen.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is told.
    pub channel: ChannelName,
    /// How events there are delivered.
    pub traits: Traits,
    /// How long nobody must be left until that is told.
    pub delay: Duration,
    /// How long a session that no node has is waited for.
    pub patience: Duration,
}

/// Tells who is present.
pub struct Presence {
    /// The entries, the log, and who shares them.
    pub storage: Opened,
    /// What is here.
    pub sessions: Arc<Sessions>,
    /// What an operator has chosen.
    pub settings: Settings,
    /// What was told.
    pub metrics: Arc<Metrics>,
}

/// A user who was seen to, what was known of him, and what came of it.
type Seen = (Whose, Task, Result<Outcome, LogError>);

/// Users who are seen to at once.
const AT_ONCE: usize = 32;

/// How long it takes from a failure to the next attempt.
const AGAIN: Duration = Duration::from_millis(500);

impl Presence {
    /// Tells what changes, until shutdown. What is not told by then, another node finds, or the next process.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut agenda = Agenda::default();
        let mut at_work: FuturesUnordered<BoxFuture<'static, Seen>> = FuturesUnordered::new();
        let mut roll: Option<BoxFuture<'static, Result<Roll, LogError>>> = None;
        let every = (self.settings.patience / 2).clamp(Duration::from_millis(100), Duration::from_secs(15));
        let mut rolls = interval(every);
        rolls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while at_work.len() < AT_ONCE
                && let Some((whose, task)) = agenda.begin(Instant::now())
            {
                at_work.push(Box::pin(Arc::clone(&self).see_to(whose, task)));
            }
            let wakes = agenda.wakes().filter(|_| at_work.len() < AT_ONCE);
            tokio::select! {
                changed = self.sessions.turnout() => {
                    for (whose, left) in changed {
                        agenda.note(whose, left, Instant::now());
                    }
                }
                Some(seen) = at_work.next() => self.note_result(&mut agenda, seen),
                () = sleep_until(wakes.unwrap_or_else(Instant::now)), if wakes.is_some() => {}
                _ = rolls.tick(), if roll.is_none() => roll = Some(Box::pin(Arc::clone(&self).call_the_roll())),
                called = async { roll.as_mut().expect("it is asked for only if there is one").await }, if roll.is_some() => {
                    roll = None;
                    self.note_roll(&mut agenda, called);
                }
                () = shutdown.wait() => return,
            }
        }
    }

    async fn see_to(self: Arc<Self>, whose: Whose, task: Task) -> Seen {
        let result = self.settle(&whose, &task).await;
        (whose, task, result)
    }

    fn note_result(&self, agenda: &mut Agenda, (whose, task, result): Seen) {
        let now = Instant::now();
        match result {
            Ok(outcome) => agenda.done(whose, outcome, now, self.settings.delay),
            Err(error) => {
                debug!(%error, "presence is not told yet");
                agenda.failed(whose, task, now + AGAIN);
            }
        }
    }

    fn note_roll(&self, agenda: &mut Agenda, called: Result<Roll, LogError>) {
        match called {
            Ok(called) => agenda.heed(called, Instant::now(), self.settings.patience),
            Err(error) => {
                // Whoever could not be asked has not been silent.
                agenda.forget_doubts();
                warn!(%error, "who is present was not looked over");
            }
        }
    }
}
