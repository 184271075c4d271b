//! How sessions leave memory and come back.
//!
//! A session that its client left alone for `maxInterval` goes dormant: its record is made durable, then it leaves memory.
//! A message with its clientId wakes it, in this process or after it. A session that never connected is forgotten.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bayeux::{ClientId, LogEnds, Offset, Rights, Session};
use tracing::{debug, warn};

use super::handle::{Handle, Owner, Stage, State};
use super::timers::TICK;
use super::{Requester, Sessions, Subscriber, lifetime};
use crate::http::Shutdown;
use crate::log::{LogError, SessionRecord};
use crate::quota::Address;

impl Sessions {
    /// Lets time pass for every session, until shutdown.
    pub async fn run_timers(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.wait() => return,
            }
            for handle in self.timers.due(Instant::now()) {
                if let Some(handle) = handle.upgrade() {
                    self.handle_timer(&handle);
                }
            }
        }
    }

    pub(super) fn handle_timer(self: &Arc<Self>, handle: &Arc<Handle>) {
        let now = Instant::now();
        let mut state = handle.state.lock();
        // An older entry, from before an earlier deadline: the session is in the wheel a second time, where it says.
        if state.timer.is_some_and(|timer| timer > now) {
            return;
        }
        state.timer = None;
        let waiting = if state.session.handle_timeout(now) {
            self.rouse(handle, &mut state)
        } else {
            Vec::new()
        };
        if state.stage == Stage::Here {
            self.note_cursor(handle, &mut state, now);
            if state.session.is_silent() {
                self.put_to_sleep(handle, &mut state);
            }
        }
        self.reschedule(handle, &mut state);
        // A session with no deadline is looked at once a turn, for its record's sake.
        if state.stage == Stage::Here && state.timer.is_none() {
            state.timer = Some(self.timers.add(handle, now + Duration::from_secs(3600)));
        }
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Writes down how far a session has come when that moved, and that it lives when that was long ago.
    pub(super) fn note_cursor(&self, handle: &Handle, state: &mut State, now: Instant) {
        if !state.stored {
            return;
        }
        if state.taken_from.is_some() && !state.session.has_gap() {
            // Its cursor has moved back, or is of another log.
            state.taken_from = None;
            drop(self.put(handle, state));
        }
        let moved = state.session.poll_checkpoint();
        let is_stale = now.duration_since(state.refreshed) > self.options.resume_window / 4;
        let Some(cursor) = moved.or_else(|| is_stale.then(|| state.session.snapshot().cursor)) else {
            return;
        };
        state.refreshed = now;
        self.say_alive(handle, state, cursor);
    }

    fn say_alive(&self, handle: &Handle, state: &State, cursor: Offset) {
        // An offset of this log would not be one of the record's.
        let cursor = if state.taken_from.is_some() {
            Offset::START
        } else {
            cursor
        };
        drop(
            self.store
                .checkpoint(&handle.client_id, cursor, SystemTime::now()),
        );
    }

    fn put_to_sleep(self: &Arc<Self>, handle: &Arc<Handle>, state: &mut State) {
        if !state.session.was_connected() || state.session.is_ending() {
            debug!(client = ?handle.client_id, "forgotten: it never connected, or was to end");
            self.remove(handle, state);
            return;
        }
        self.note_progress(state);
        let written = self.put(handle, state);
        let (sessions, handle) = (Arc::clone(self), Arc::clone(handle));
        tokio::spawn(async move {
            let result = written.await;
            let mut state = handle.state.lock();
            match result {
                // Its client came back while the record was written.
                Ok(()) if !state.session.is_silent() || state.stage != Stage::Here => {}
                Ok(()) => {
                    debug!(client = ?handle.client_id, "dormant");
                    sessions.leave(&handle, &mut state, Stage::Gone);
                    let waiting = sessions.rouse(&handle, &mut state);
                    drop(state);
                    waiting.into_iter().for_each(|(_, waker)| waker.wake());
                }
                Err(error) => warn!(%error, "a session stays in memory: its record was not written"),
            }
        });
    }

    /// Without it the record would stand further back in the log than the session does, and retention could pass it by.
    pub(super) fn note_progress(&self, state: &mut State) {
        let dispatched = self.dispatched.load(Ordering::Acquire);
        state.session.handle_progress(Offset(dispatched));
    }

    /// Wakes a dormant session, if it is the requester's.
    pub(super) async fn wake(
        &self,
        client_id: &str,
        who: &Requester,
        spoke_before: bool,
    ) -> Result<Option<Arc<Handle>>, LogError> {
        let client_id = ClientId::new(client_id);
        loop {
            let departures = self.departures_of(&client_id).load(Ordering::Acquire);
            let Some(record) = self.store.get(&client_id).await? else {
                return Ok(None);
            };
            let owner = Owner {
                tenant: record.tenant.clone(),
                user: record.user.clone().map(crate::event::UserId),
                browser: record.browser.clone(),
            };
            if !spoke_before && !self.belongs(&owner, who) {
                return Ok(None);
            }
            // Looked at again: what is written meanwhile may be all there is to a session that was never seen here.
            let Some(record) = self.adopt(record).await? else {
                continue;
            };
            if let Some(handle) = self.resume(record, owner, who.origin.address, departures) {
                return Ok(Some(handle));
            }
        }
    }

    /// `None` when the record may not hold any more: since `departures` were counted the session may have been woken, and
    /// have left again, perhaps for good.
    pub(super) fn resume(
        &self,
        record: SessionRecord,
        owner: Owner,
        address: Option<Address>,
        departures: u64,
    ) -> Option<Arc<Handle>> {
        let now = Instant::now();
        let rights = Rights {
            named: owner.user.is_some(),
            roles: Arc::clone(&record.roles),
        };
        let same_log = record.epoch == *self.log.epoch();
        let ends = self.log_ends();
        let session = Session::resume(
            record.client_id.clone(),
            Arc::clone(&self.settings),
            rights.clone(),
            record.state,
            ends,
            same_log,
            now,
        );
        let taken_from = session.has_gap().then_some(record.epoch);
        if taken_from.is_some() {
            self.metrics.gaps.inc();
        }
        let handle = Arc::new(Handle::new(
            record.client_id.clone(),
            owner,
            (self.next_number(), address),
            record.token,
            session,
            true,
            now,
        ));
        // Held until the session knows what it may have missed: an event that is routed meanwhile waits for it.
        let mut state = handle.state.lock();
        lifetime::begin(&mut state, now, rights);
        match self.by_id.entry(record.client_id) {
            dashmap::Entry::Occupied(known) => return Some(Arc::clone(known.get())),
            dashmap::Entry::Vacant(place) => {
                if self.departures_of(&handle.client_id).load(Ordering::Acquire) != departures {
                    return None;
                }
                place.insert(Arc::clone(&handle));
                // Whoever had it before may have it again.
                address
                    .into_iter()
                    .for_each(|address| self.by_address.add(address));
            }
        }
        let subscriber = Subscriber(Arc::clone(&handle));
        let routing = self.routing_for(&handle.owner.tenant);
        if let Some(user) = &handle.owner.user {
            routing.join(&user.0, subscriber.clone());
        }
        self.turnout.came(&handle);
        for subscription in state.session.subscriptions() {
            routing.subscribe(&subscription.pattern, subscriber.clone());
        }
        let LogEnds { last, .. } = self.log_ends();
        state.session.handle_missed(last);
        state.taken_from = taken_from;
        self.heed_revocations(&handle, &mut state);
        // Its record may be about to be swept.
        let cursor = state.session.snapshot().cursor;
        self.say_alive(&handle, &state, cursor);
        self.reschedule(&handle, &mut state);
        self.metrics.resumes.inc();
        debug!(client = ?handle.client_id, "woken");
        drop(state);
        Some(handle)
    }

    /// Writes down every session, for the end of the process.
    pub async fn save_all(&self) -> Result<(), LogError> {
        let handles: Vec<Arc<Handle>> = self.by_id.iter().map(|entry| Arc::clone(entry.value())).collect();
        let mut writes = Vec::with_capacity(handles.len());
        for handle in handles {
            let mut state = handle.state.lock();
            self.note_progress(&mut state);
            if state.stage == Stage::Here && state.session.was_connected() {
                writes.push(self.put(&handle, &mut state));
            }
        }
        futures::future::try_join_all(writes).await?;
        Ok(())
    }

    /// Forgets the records of sessions that did not come back in time, about once a minute, until shutdown.
    pub async fn run_sweeper(self: Arc<Self>, mut shutdown: Shutdown) {
        let started = SystemTime::now();
        let window = self.options.resume_window;
        let mut ticks =
            tokio::time::interval((window / 10).clamp(Duration::from_secs(1), Duration::from_secs(60)));
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.wait() => return,
            }
            // A live session's record is refreshed every quarter of the window. After a start everyone gets the whole
            // window again: while the broker was down nobody could come back.
            let now = SystemTime::now();
            let oldest = now - window - window / 4;
            if now.duration_since(started).is_ok_and(|up| up < window) {
                continue;
            }
            match self.store.sweep(oldest).await {
                Ok(0) => {}
                Ok(count) => debug!(count, "records of sessions that did not come back were dropped"),
                Err(error) => warn!(%error, "records of old sessions were not dropped"),
            }
        }
    }
}
