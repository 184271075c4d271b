//! Every session of this node: those in memory, and the way back for those that are dormant.
//!
//! The one rule of locking: a session's lock may be held while a map of routing or of this registry is changed, never the
//! other way round; and no lock is held across an await.

mod crowd;
mod forwarding;
mod handle;
mod lifetime;
mod moving;
mod presence;
mod room;
mod roster;
mod sending;
mod sleep;
#[cfg(test)]
mod tests;
mod timers;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use bayeux::{
    Answer, Carrier, CarrierKind, ChannelPattern, ClientId, Delivery, LogEnds, Message, Offset, PageRead,
    Routes, Session, Target,
};
use dashmap::DashMap;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use routing::Routing;
use tokio::sync::Semaphore;

use crate::auth::{Browser, Denial, Principal, Revocations};
use crate::event::{Tenant, Token};
use crate::log::{EventLog, Interest, Limit, LogError, Nodes, Opened, SessionRecord, SessionStore};
use crate::metrics::Metrics;
use crate::quota::{Address, Origin, Tally};

pub use crowd::{Crowd, Seat};
pub use handle::{Handle, PublicId, Subscriber};
use handle::{Owner, Stage, State};
pub use presence::Left;
use presence::Turnout;
pub use room::Room;
pub use roster::{Ended, Listed};
pub use sending::Outputs;
pub(crate) use sending::Sending;
use timers::Timers;
pub use wire::Wire;
use wire::Wires;

/// The sessions of this node.
pub struct Sessions {
    by_id: DashMap<ClientId, Arc<Handle>>,
    routing: Arc<Routing<Subscriber>>,
    /// Those of tenants with names: nothing crosses, since nothing is looked up anywhere else.
    routing_by_tenant: DashMap<Tenant, Arc<Routing<Subscriber>>>,
    timers: Timers,
    turnout: Turnout,
    /// How many sessions have left memory, by a hash of their clientIds: whoever read a record knows whether it still holds.
    departures: [AtomicU64; 64],
    /// Every event up to here has been handed to the sessions that want it.
    dispatched: AtomicU64,
    next_carrier: AtomicU64,
    by_address: Tally,
    log: Arc<dyn EventLog>,
    store: Arc<dyn SessionStore>,
    nodes: Arc<dyn Nodes>,
    /// Answers of services that go after their sessions: one for each at once.
    forwards: Arc<Semaphore>,
    revocations: Arc<Revocations>,
    settings: Arc<bayeux::Settings>,
    options: Options,
    metrics: Arc<Metrics>,
}

/// What an operator may choose about sessions beyond the protocol.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a dormant session can come back.
    pub resume_window: Duration,
    /// A session is found by its clientId alone.
    pub trust_client_session: bool,
    /// What is done about too much at once.
    pub overload: Overload,
    /// How many there may be.
    pub room: Room,
    /// Somebody waits for [`Sessions::turnout`].
    pub tells_presence: bool,
}

/// What is done about too much at once.
#[derive(Debug, Clone, Default)]
pub struct Overload {
    /// The interval that connects are answered with; zero switches it off.
    pub interval: Duration,
    /// So many events wait for dispatch.
    pub lag: u64,
}

/// Who sends a message, as far as the request or socket itself tells.
#[derive(Debug, Clone, Default)]
pub struct Requester {
    /// Shown credentials were good, and this is whose they are.
    pub principal: Option<Principal>,
    /// Shown credentials do not count.
    pub refused: Option<Denial>,
    /// The browser cookie.
    pub browser: Option<Browser>,
    /// Neither cookies nor headers say anything here, so a session that is opened belongs to no browser.
    pub browserless: bool,
    /// The session that was last opened on the same request or socket.
    pub opened: Option<ClientId>,
    /// Where it is sent from.
    pub origin: Origin,
}

/// What a message led to: the protocol's answer, and the writes that must be durable before it may be sent.
pub struct Handled {
    /// The protocol's answer.
    pub answer: Answer,
    /// The session's record, if it changed.
    pub written: Option<BoxFuture<'static, Result<(), LogError>>>,
}

impl Sessions {
    /// An empty registry over a log and its store.
    pub fn new(
        storage: &Opened,
        revocations: Arc<Revocations>,
        settings: Arc<bayeux::Settings>,
        options: Options,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            by_id: DashMap::new(),
            routing: Arc::default(),
            routing_by_tenant: DashMap::new(),
            timers: Timers::new(Instant::now()),
            turnout: Turnout::new(options.tells_presence),
            departures: std::array::from_fn(|_| AtomicU64::new(0)),
            dispatched: AtomicU64::new(storage.log.bounds().last.0),
            next_carrier: AtomicU64::new(1),
            by_address: Tally::default(),
            log: Arc::clone(&storage.log),
            store: Arc::clone(&storage.sessions),
            nodes: Arc::clone(&storage.nodes),
            forwards: Arc::new(Semaphore::new(forwarding::AT_ONCE)),
            revocations,
            settings,
            options,
            metrics,
        }
    }

    /// Who wants what in a tenant, if anybody was ever there.
    pub(crate) fn routing(&self, tenant: &Tenant) -> Option<Arc<Routing<Subscriber>>> {
        if tenant.is_only() {
            return Some(Arc::clone(&self.routing));
        }
        self.routing_by_tenant
            .get(tenant)
            .map(|routing| Arc::clone(&routing))
    }

    /// The same for somebody who is about to be there.
    fn routing_for(&self, tenant: &Tenant) -> Arc<Routing<Subscriber>> {
        self.routing(tenant)
            .unwrap_or_else(|| Arc::clone(&self.routing_by_tenant.entry(tenant.clone()).or_default()))
    }

    /// Times, rules and limits.
    pub fn settings(&self) -> &bayeux::Settings {
        &self.settings
    }

    /// The number of sessions in memory.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Every event up to `offset` has been handed over.
    pub(crate) fn dispatched(&self, offset: Offset) {
        self.dispatched.store(offset.0, Ordering::Release);
    }

    /// A carrier that was never used before.
    pub fn carrier(&self, kind: CarrierKind) -> Carrier {
        Carrier {
            id: self.next_number(),
            kind,
        }
    }

    fn next_number(&self) -> u64 {
        self.next_carrier.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens a session for `principal`, whose events it gets from now on. An `address` is one that [`Sessions::has_room`] has
    /// counted for it.
    pub fn open(
        &self,
        principal: &Principal,
        browser: Option<Browser>,
        address: Option<Address>,
        carrier: Carrier,
        message: &Message<'_>,
    ) -> (Arc<Handle>, Handled) {
        let client_id = ClientId::new(&crate::auth::random_id(26));
        let now = Instant::now();
        let (session, reply) = Session::open(
            client_id.clone(),
            Arc::clone(&self.settings),
            principal.rights(),
            self.log_ends(),
            now,
            message,
        );
        let owner = Owner {
            tenant: principal.tenant.clone(),
            user: principal.user.clone(),
            browser,
        };
        let token = principal.token.clone();
        let place = (self.next_number(), address);
        let handle = Arc::new(Handle::new(
            client_id.clone(),
            owner,
            place,
            token,
            session,
            false,
            now,
        ));
        self.by_id.insert(client_id, Arc::clone(&handle));
        if let Some(user) = &handle.owner.user {
            let routing = self.routing_for(&handle.owner.tenant);
            routing.join(&user.0, Subscriber(Arc::clone(&handle)));
        }
        self.turnout.came(&handle);
        let mut state = handle.state.lock();
        lifetime::begin(&mut state, now, principal.rights());
        let mut routes = Registration {
            sessions: self,
            handle: &handle,
        };
        let answer = state.session.greet(now, carrier, message, reply, &mut routes);
        self.heed_revocations(&handle, &mut state);
        let listens = !state.session.subscriptions().is_empty();
        // Its first connect may come to another node.
        let is_shared = self.nodes.me().is_some();
        let written = (listens || is_shared).then(|| self.put(&handle, &mut state));
        if state.session.is_over() {
            self.remove(&handle, &mut state);
        }
        self.reschedule(&handle, &mut state);
        drop(state);
        self.make_room_beside(&handle);
        (handle, Handled { answer, written })
    }

    /// The session with this clientId, from memory or woken from its record, if it is the requester's. `spoke_before` says
    /// that the same socket has spoken for it before.
    pub async fn find(
        &self,
        client_id: &str,
        who: &Requester,
        spoke_before: bool,
    ) -> Result<Option<Arc<Handle>>, LogError> {
        loop {
            let Some(handle) = self.in_memory(client_id) else {
                return self.wake(client_id, who, spoke_before).await;
            };
            if !spoke_before && !self.belongs(&handle.owner, who) {
                return Ok(None);
            }
            if self.is_here(&handle) {
                return Ok(Some(handle));
            }
            // It is being removed this very moment.
            tokio::task::yield_now().await;
        }
    }

    /// Whether a handle is still the place to find its session.
    pub fn is_here(&self, handle: &Handle) -> bool {
        handle.state.lock().stage == Stage::Here
    }

    /// The sessions whose connects are held over HTTP.
    pub fn held(&self) -> Vec<Weak<Handle>> {
        let is_held = |handle: &Handle| {
            let state = handle.state.lock();
            state.session.holds_connect_on(CarrierKind::Exchange)
        };
        // Without a lock of the map while those of sessions are taken.
        let all: Vec<Arc<Handle>> = self.by_id.iter().map(|entry| Arc::clone(entry.value())).collect();
        all.iter()
            .filter(|handle| is_held(handle))
            .map(Arc::downgrade)
            .collect()
    }

    /// Answers the held connect of a session now, and has its client come again at once.
    pub fn release(&self, handle: &Arc<Handle>) {
        let waiting = {
            let mut state = handle.state.lock();
            state.session.handle_release();
            self.rouse(handle, &mut state)
        };
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Too many connects of the same browser are held: the one of this carrier is answered now.
    pub fn handle_crowded(&self, handle: &Handle, carrier: Carrier, interval: Duration) {
        handle.state.lock().session.handle_crowded(carrier, interval);
    }

    fn departures_of(&self, client_id: &ClientId) -> &AtomicU64 {
        let hash = std::hash::BuildHasher::hash_one(self.by_id.hasher(), client_id);
        &self.departures[hash as usize % self.departures.len()]
    }

    fn in_memory(&self, client_id: &str) -> Option<Arc<Handle>> {
        self.by_id.get(client_id).map(|handle| Arc::clone(&handle))
    }

    /// Whether the requester may speak for a session of this owner; no other place says so.
    ///
    /// * Wrong credentials open nothing, whatever cookie comes with them.
    /// * Good ones open the sessions of their user.
    /// * Without credentials the browser decides: the cookie of a session opens it, and no other cookie or none does.
    /// * A session that was opened where cookies do not count (callback-polling) has no browser. Its clientId, 134 random bits,
    ///   is all that its client has to show, and opens it for whoever knows it. No other session is opened by that alone,
    ///   unless `trust_client_session` says so.
    fn belongs(&self, owner: &Owner, who: &Requester) -> bool {
        if who.refused.is_some() {
            return false;
        }
        let same_browser = owner.browser.is_some() && owner.browser == who.browser;
        let asking = who.principal.as_ref().filter(|asking| asking.user.is_some());
        match (&owner.user, asking) {
            (Some(user), Some(asking)) => owner.tenant == asking.tenant && Some(user) == asking.user.as_ref(),
            (None, Some(_)) => false,
            (Some(_) | None, None) => {
                owner.browser.is_none() || same_browser || self.options.trust_client_session
            }
        }
    }

    /// Takes a message for a session that [`Sessions::find`] found. `None` when the session has just left memory: find it
    /// again.
    pub fn handle_message(
        &self,
        handle: &Arc<Handle>,
        carrier: Carrier,
        alone: bool,
        message: &Message<'_>,
    ) -> Option<Handled> {
        let mut state = handle.state.lock();
        if state.stage != Stage::Here {
            return None;
        }
        if message.target == Target::Connect {
            state.answered = None;
        }
        let mut routes = Registration {
            sessions: self,
            handle,
        };
        let answer = state
            .session
            .handle_message(Instant::now(), carrier, alone, message, &mut routes);
        let is_change = match message.target {
            // Written again when it changes nothing: what wrote it first may not have succeeded.
            Target::Subscribe => is_success(&answer) && !state.session.subscriptions().is_empty(),
            Target::Unsubscribe => is_success(&answer) && state.stored,
            Target::Connect => !state.stored,
            Target::Handshake | Target::Disconnect | Target::Service(_) | Target::Publish(_) => false,
        };
        let went_back = state.session.take_record_change();
        let mut written = (is_change || went_back).then(|| self.put(handle, &mut state));
        if message.target == Target::Connect && !went_back {
            // Worth keeping, not worth waiting for: a lost record of a session without subscriptions loses nothing.
            written = None;
        }
        if state.session.is_over() {
            self.remove(handle, &mut state);
        } else if state.session.is_ending() {
            self.forget(handle, &mut state);
        }
        let takes_over = message.target == Target::Connect || carrier.kind == CarrierKind::Socket;
        let others = self.rouse_if(takes_over, handle, &mut state);
        self.reschedule(handle, &mut state);
        drop(state);
        others.into_iter().for_each(|(_, waker)| waker.wake());
        Some(Handled { answer, written })
    }

    /// Reads the log for a session, as [`bayeux::Output::ReadLog`] asks.
    pub async fn read_log(
        &self,
        handle: &Arc<Handle>,
        carrier: Carrier,
        after: Offset,
    ) -> Result<(), LogError> {
        let patterns = {
            let state = handle.state.lock();
            state
                .session
                .subscriptions()
                .iter()
                .map(|subscription| subscription.pattern.clone())
                .collect()
        };
        let interest = Interest {
            tenant: handle.owner.tenant.clone(),
            user: handle.owner.user.clone(),
            patterns,
        };
        // Half of what a session may keep, so that what was sent and not proven can stay beside it.
        let limits = &self.settings.limits;
        let limit = Limit {
            events: (limits.queue_events / 2).max(1),
            bytes: limits.queue_bytes / 2,
        };
        let page = self.log.read(&interest, after, limit).await?;
        self.metrics.log_reads.inc();
        if page.gap.is_some() {
            self.metrics.gaps.inc();
        }
        let mut events = page.events;
        events.retain(|event| self.keeps(event));
        let page = PageRead {
            after,
            events,
            through: page.through,
            gap: page.gap,
        };
        let others = {
            let mut state = handle.state.lock();
            state.session.handle_read(carrier, page);
            self.rouse(handle, &mut state)
        };
        others.into_iter().for_each(|(_, waker)| waker.wake());
        Ok(())
    }

    /// Whether a channel's events are kept for as long as this one is old. What has gone by a rule is no loss.
    fn keeps(&self, event: &Delivery) -> bool {
        let Some(retention) = self.settings.rules.retention(event.channel()) else {
            return true;
        };
        let stored = SystemTime::UNIX_EPOCH + Duration::from_millis(event.marks().stored);
        stored.elapsed().is_ok_and(|age| age <= retention) || stored > SystemTime::now()
    }

    /// A pong came back.
    pub fn handle_pong(&self, handle: &Arc<Handle>, carrier: Carrier, offset: Offset) {
        let mut state = handle.state.lock();
        state.session.handle_pong(Instant::now(), carrier, offset);
        if state.session.take_record_change() {
            // Not waited for: until it is written, a crash only makes the session go back once more.
            drop(self.put(handle, &mut state));
        }
        self.reschedule(handle, &mut state);
    }

    /// The peer of a socket has answered our close.
    pub fn handle_close_answered(&self, handle: &Arc<Handle>, carrier: Carrier) {
        let mut state = handle.state.lock();
        state.session.handle_close_answered(Instant::now(), carrier);
        self.reschedule(handle, &mut state);
    }

    /// The peer of a socket has closed it.
    pub fn handle_close(&self, handle: &Arc<Handle>, carrier: Carrier) {
        self.let_go(handle, carrier, Session::handle_close);
    }

    /// A carrier is gone.
    pub fn handle_carrier_lost(&self, handle: &Arc<Handle>, carrier: Carrier) {
        self.let_go(handle, carrier, Session::handle_carrier_lost);
    }

    fn let_go(
        &self,
        handle: &Arc<Handle>,
        carrier: Carrier,
        how: fn(&mut Session, Instant, Carrier) -> bool,
    ) {
        let mut state = handle.state.lock();
        state.waiting.retain(|(waiting, _)| *waiting != carrier);
        state.wires.remove(carrier);
        let others = if how(&mut state.session, Instant::now(), carrier) {
            self.rouse(handle, &mut state)
        } else {
            Vec::new()
        };
        if state.stage == Stage::Here && state.session.take_record_change() {
            // Not waited for, as with a pong.
            drop(self.put(handle, &mut state));
        }
        self.reschedule(handle, &mut state);
        drop(state);
        others.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// The response with the connect reply of this carrier may not have arrived. That says nothing when another connect has
    /// come since, as when a kept-alive connection ends that has not been used for a while.
    pub fn handle_reply_lost(&self, handle: &Arc<Handle>, carrier: Carrier) {
        let mut state = handle.state.lock();
        if state.answered == Some(carrier) {
            state.session.handle_reply_lost();
        }
    }

    /// Whether it would matter that this response did not arrive.
    pub fn may_be_lost(&self, handle: &Arc<Handle>, carrier: Carrier) -> bool {
        let state = handle.state.lock();
        state.stage == Stage::Here && state.answered == Some(carrier)
    }

    fn log_ends(&self) -> LogEnds {
        let bounds = self.log.bounds();
        LogEnds {
            first: bounds.first,
            last: bounds.last,
        }
    }

    /// Makes sure that the timer looks at the session by its next deadline.
    fn reschedule(&self, handle: &Arc<Handle>, state: &mut State) {
        let Some(deadline) = state.session.poll_timeout() else {
            return;
        };
        if state.timer.is_none_or(|timer| deadline < timer) {
            state.timer = Some(self.timers.add(handle, deadline));
        }
    }

    fn put(&self, handle: &Handle, state: &mut State) -> BoxFuture<'static, Result<(), LogError>> {
        if state.session.is_ending() {
            // It is not to come back.
            return Box::pin(futures::future::ready(Ok(())));
        }
        state.stored = true;
        state.refreshed = Instant::now();
        self.store.put(self.record(handle, state))
    }

    fn record(&self, handle: &Handle, state: &State) -> SessionRecord {
        SessionRecord {
            client_id: handle.client_id.clone(),
            tenant: handle.owner.tenant.clone(),
            user: handle.owner.user.as_ref().map(|user| Arc::clone(&user.0)),
            roles: Arc::clone(&state.session.rights().roles),
            token: state.token.clone(),
            browser: handle.owner.browser.clone(),
            epoch: state
                .taken_from
                .as_ref()
                .filter(|_| state.session.has_gap())
                .unwrap_or(self.log.epoch())
                .clone(),
            state: state.session.snapshot(),
            seen: SystemTime::now(),
            node: self.nodes.me().cloned(),
            // The store knows it.
            fence: 0,
        }
    }

    /// Takes a session out of memory and routing. Its record is another matter.
    fn leave(&self, handle: &Arc<Handle>, state: &mut State, stage: Stage) {
        state.stage = stage;
        self.departures_of(&handle.client_id)
            .fetch_add(1, Ordering::AcqRel);
        self.by_id
            .remove_if(&handle.client_id, |_, known| Arc::ptr_eq(known, handle));
        handle
            .address
            .into_iter()
            .for_each(|address| self.by_address.leave(address));
        let subscriber = Subscriber(Arc::clone(handle));
        let routing = self.routing_for(&handle.owner.tenant);
        if let Some(user) = &handle.owner.user {
            routing.leave(&user.0, &subscriber);
        }
        for subscription in state.session.subscriptions() {
            routing.unsubscribe(&subscription.pattern, &subscriber);
        }
        if stage != Stage::Elsewhere {
            self.turnout.left(handle);
        }
        self.store.release(&handle.client_id);
    }

    /// Ends a session for good.
    fn remove(&self, handle: &Arc<Handle>, state: &mut State) {
        self.forget(handle, state);
        self.leave(handle, state, Stage::Gone);
    }

    /// Takes a session's record away: it does not come back after it has left memory.
    fn forget(&self, handle: &Handle, state: &mut State) {
        if std::mem::take(&mut state.stored) {
            // The call takes its place among the writes; nobody has to wait for it.
            drop(self.store.remove(&handle.client_id));
        }
    }
}

impl Handle {
    fn new(
        client_id: ClientId,
        owner: Owner,
        (number, address): (u64, Option<Address>),
        token: Option<Arc<Token>>,
        session: Session,
        stored: bool,
        now: Instant,
    ) -> Self {
        let state = State {
            session,
            token,
            stage: Stage::Here,
            waiting: Vec::new(),
            parting: None,
            wires: Wires::default(),
            awaits_sending: false,
            answered: None,
            taken_from: None,
            timer: None,
            stored,
            refreshed: now,
        };
        Self {
            public_id: PublicId::of(&client_id),
            client_id,
            owner,
            number,
            address,
            state: Mutex::new(state),
        }
    }
}

fn is_success(answer: &Answer) -> bool {
    match answer {
        Answer::Reply(reply) => reply.is_successful(),
        Answer::Held | Answer::Publish(_) | Answer::Service(..) => true,
    }
}

/// Makes the subscriptions of one session known.
struct Registration<'a> {
    sessions: &'a Sessions,
    handle: &'a Arc<Handle>,
}

impl Routes for Registration<'_> {
    fn add(&mut self, pattern: &ChannelPattern) -> LogEnds {
        self.sessions
            .routing_for(&self.handle.owner.tenant)
            .subscribe(pattern, Subscriber(Arc::clone(self.handle)));
        // Only now: what becomes durable between reading the end and being routed would be lost.
        self.sessions.log_ends()
    }

    fn remove(&mut self, pattern: &ChannelPattern) {
        self.sessions
            .routing_for(&self.handle.owner.tenant)
            .unsubscribe(pattern, &Subscriber(Arc::clone(self.handle)));
    }

    fn ends(&self) -> LogEnds {
        self.sessions.log_ends()
    }
}
