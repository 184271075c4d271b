//! Messages in, replies out: what every transport does with one body.

use std::sync::Arc;
use std::time::Duration;

use bayeux::codec::{self, BodyError, Decoded};
use bayeux::{
    AUTH_CHANNEL, Action, Answer, Call, Carrier, CarrierKind, ChannelName, Failure, Message, Publish, Reply,
    Target, Traits, defer_handshake, deny_handshake,
};
use futures::future::BoxFuture;
use hyper::StatusCode;
use serde_json::value::RawValue;
use tracing::debug;

use super::unknown::Stray;
use super::{Attached, Public};
use crate::auth::{Credentials, Denial};
use crate::event::{Audience, Event, Tenant, wall_clock};
use crate::log::LogError;
use crate::metrics::Outcome;
use crate::quota::ComeAgain;
use crate::services::Question;
use crate::sessions::{Handle, Handled, Requester};

/// What one body led to.
pub(super) struct Exchanged {
    /// The replies, in the order of the messages.
    pub(super) replies: Vec<Place>,
    /// The session that this carrier speaks for now.
    pub(super) session: Option<Arc<Handle>>,
    /// Tells that session when the carrier is gone, from the moment at which it got hold of it: whoever waits for this body's
    /// writes may be dropped meanwhile. `None` when the carrier spoke for this session before.
    pub(super) attached: Option<Attached>,
    /// A handshake succeeded.
    pub(super) shook_hands: bool,
    /// Messages spoke for sessions that are unknown.
    pub(super) unknown: Option<Stray>,
    /// What was asked for is to be asked for again later, and the HTTP status that says so.
    pub(super) later: Option<(StatusCode, ComeAgain)>,
}

/// The place of a reply among the others.
pub(super) enum Place {
    /// The reply is here.
    Reply(Box<Reply>),
    /// The handshake that made this session is answered by the session, with events that follow the reply.
    Greeting(Arc<Handle>),
    /// The connect of this session is answered by the session.
    Connect(Arc<Handle>),
}

/// A body under way.
struct Exchange<'a> {
    public: &'a Arc<Public>,
    who: &'a mut Requester,
    carrier: Carrier,
    /// The session that this carrier spoke for before.
    bound: Option<&'a Arc<Handle>>,
    exchanged: Exchanged,
    /// Events that clients publish, with the places of their replies.
    events: Vec<Event>,
    places: Vec<usize>,
    /// Records that must be durable before anything is said.
    writes: Vec<BoxFuture<'static, Result<(), LogError>>>,
}

/// Handles what came at once, mostly in one body. Errors of a body are the client's; a [`LogError`] inside `Ok` is ours.
pub(super) async fn exchange(
    public: &Arc<Public>,
    who: &mut Requester,
    carrier: Carrier,
    bound: Option<&Arc<Handle>>,
    bodies: &[impl AsRef<[u8]>],
) -> Result<Result<Exchanged, LogError>, BodyError> {
    let limits = &public.sessions.settings().limits;
    let messages = codec::decode_all(bodies.iter().map(AsRef::as_ref), limits)?;
    let exchanged = Exchanged {
        replies: Vec::with_capacity(messages.len()),
        session: None,
        attached: None,
        shook_hands: false,
        unknown: None,
        later: None,
    };
    let exchange = Exchange {
        public,
        who,
        carrier,
        bound,
        exchanged,
        events: Vec::new(),
        places: Vec::new(),
        writes: Vec::new(),
    };
    Ok(exchange.run(messages).await)
}

impl Exchange<'_> {
    async fn run(mut self, messages: Vec<Decoded<'_>>) -> Result<Exchanged, LogError> {
        let alone = messages.len() == 1;
        let wall = wall_clock();
        let mut taken = Vec::with_capacity(messages.len());
        for (place, message) in messages.into_iter().enumerate() {
            let refused = self.who.refused;
            match message {
                Err(reply) => {
                    self.reply(reply);
                    taken.push(None);
                }
                Ok(mut message) => {
                    message.wall = wall;
                    match message.target {
                        Target::Handshake if place == 0 => self.handshake(&message).await,
                        Target::Handshake => self.refuse(&message, Failure::HandshakeNotFirst),
                        Target::Connect
                        | Target::Subscribe
                        | Target::Unsubscribe
                        | Target::Disconnect
                        | Target::Service(_)
                        | Target::Publish(_) => self.speak(&message, alone).await?,
                    }
                    taken.push(Some(message));
                }
            }
            // What one message shows in vain is no reason to refuse the next.
            self.who.refused = self.who.refused.and(refused);
        }
        self.write_down(&taken, alone).await?;
        self.publish().await;
        Ok(self.exchanged)
    }

    async fn handshake(&mut self, message: &Message<'_>) {
        // Before anything is looked at that takes time.
        if self.public.drain.is_on() {
            let failure = Failure::Draining;
            return self.defer(message, failure, StatusCode::SERVICE_UNAVAILABLE, ComeAgain(NEXT));
        }
        if let Err(again) = self.public.quotas.handshake(self.who.origin.address) {
            return self.defer_many(message, "handshakes_per_address", again);
        }
        self.learn_token(message).await;
        self.look_again();
        let principal = match (&self.who.principal, self.who.refused) {
            (Some(principal), None) => principal.clone(),
            (None | Some(_), denial) => {
                let reason = denial.map_or("credentials_missing", Denial::label);
                self.count_handshake(reason);
                self.public.denials.say(reason, None, None);
                return self.reply(Box::new(deny_handshake(message, refusal(denial))));
            }
        };
        if !self.public.sessions.has_room(self.who.origin.address) {
            return self.defer_many(message, "sessions_per_address", ComeAgain(FULL));
        }
        if self.who.browser.is_none() && !self.who.browserless {
            self.who.browser = Some(self.public.browsers.issue());
        }
        let (handle, handled) = self.public.sessions.open(
            &principal,
            self.who.browser.clone(),
            self.who.origin.address,
            self.carrier,
            message,
        );
        self.count_handshake("ok");
        debug!(client = ?handle.client_id(), "handshake");
        self.who.opened = Some(handle.client_id().clone());
        self.attach(Arc::clone(&handle));
        self.exchanged.shook_hands = true;
        self.take(&handle, handled, message);
    }

    /// Not now: there are as many from its address as may be.
    fn defer_many(&mut self, message: &Message<'_>, limit: &'static str, again: ComeAgain) {
        self.public.denials.say(limit, None, None);
        let failure = Failure::TooMany(limit);
        self.defer(message, failure, StatusCode::TOO_MANY_REQUESTS, again);
    }

    /// Not now.
    fn defer(&mut self, message: &Message<'_>, failure: Failure, status: StatusCode, again: ComeAgain) {
        let again = again.spread();
        self.count_handshake(failure.label());
        self.exchanged.later = Some((status, again));
        self.reply(Box::new(defer_handshake(message, failure, again.0)));
    }

    /// Anything but a handshake: it speaks for a session.
    async fn speak(&mut self, message: &Message<'_>, alone: bool) -> Result<(), LogError> {
        let mut has_looked = false;
        loop {
            let Some(handle) = self.session_of(message).await? else {
                self.note_unknown(message);
                self.refuse(message, self.why_not(message));
                return Ok(());
            };
            if !has_looked && self.public.sessions.is_ahead(&handle, message) {
                has_looked = true;
                let sessions = &self.public.sessions;
                sessions.look_elsewhere(&handle, self.carrier).await?;
                continue;
            }
            let Some(handled) = self
                .public
                .sessions
                .handle_message(&handle, self.carrier, alone, message)
            else {
                // It went dormant between finding and speaking to it.
                tokio::task::yield_now().await;
                continue;
            };
            self.attach(Arc::clone(&handle));
            self.take(&handle, handled, message);
            return Ok(());
        }
    }

    fn note_unknown(&mut self, message: &Message<'_>) {
        let stray = self.exchanged.unknown.get_or_insert_with(|| Stray {
            client_id: message.client_id.as_deref().map(ToOwned::to_owned),
            messages: 0,
        });
        stray.messages += 1;
    }

    fn take(&mut self, handle: &Arc<Handle>, handled: Handled, message: &Message<'_>) {
        self.writes.extend(handled.written);
        match handled.answer {
            Answer::Reply(reply) => {
                self.note_denial(handle, &reply, message);
                self.reply(reply);
            }
            Answer::Service(call, reply) => {
                self.reply(reply);
                self.ask(handle, call, message.data);
            }
            Answer::Held if message.target == Target::Handshake => {
                self.exchanged.replies.push(Place::Greeting(Arc::clone(handle)));
            }
            Answer::Held => self.exchanged.replies.push(Place::Connect(Arc::clone(handle))),
            Answer::Publish(publish) => {
                let Publish {
                    channel,
                    traits,
                    reply,
                } = *publish;
                self.places.push(self.exchanged.replies.len());
                let tenant = handle.tenant().clone();
                self.events.push(published(tenant, channel, traits, message));
                self.reply(Box::new(reply));
            }
        }
    }

    fn note_denial(&self, handle: &Handle, reply: &Reply, message: &Message<'_>) {
        let Some(Failure::Denied(_) | Failure::NotGranted(_)) = reply.error() else {
            return;
        };
        let channel = match &message.target {
            Target::Publish(channel) | Target::Service(channel) => Some(channel.as_str()),
            // Patterns that were asked for are as the client wrote them.
            Target::Handshake
            | Target::Connect
            | Target::Subscribe
            | Target::Unsubscribe
            | Target::Disconnect => None,
        };
        let reason = reply.error().map_or("denied", Failure::label);
        let session = handle.public_id().to_string();
        self.public.denials.say(reason, Some(&session), channel);
    }

    /// Asks a service, and does not wait for it.
    fn ask(&self, handle: &Arc<Handle>, call: Call, data: Option<&RawValue>) {
        let question = Question {
            channel: &call.channel,
            id: call.id.as_deref(),
            data,
            tenant: &handle.tenant().0,
            user: handle.user().map(|user| &*user.0),
            session: handle.public_id().to_string(),
        };
        let body = question.body();
        let (handle, public) = (Arc::clone(handle), Arc::clone(self.public));
        self.public
            .services
            .ask(&call.channel.clone(), body, move |result| {
                public.sessions.answer(&handle, &call, result);
            });
    }

    fn attach(&mut self, handle: Arc<Handle>) {
        let spoke_before = self
            .exchanged
            .session
            .as_ref()
            .or(self.bound)
            .is_some_and(|known| Arc::ptr_eq(known, &handle));
        if !spoke_before {
            self.exchanged.attached = Some(Attached {
                public: Arc::clone(self.public),
                handle: Arc::clone(&handle),
                carrier: self.carrier,
            });
        }
        self.exchanged.session = Some(handle);
    }

    /// The session of a message: the one that this carrier speaks for already, or one that the requester may speak for.
    async fn session_of(&mut self, message: &Message<'_>) -> Result<Option<Arc<Handle>>, LogError> {
        let Some(client_id) = message.client_id.as_deref() else {
            return Ok(None);
        };
        if self.must_shake_hands_here(client_id) {
            return Ok(None);
        }
        // Whatever was shown before, this is shown now, and has to be good for this very session.
        let shows = self.learn_token(message).await;
        let current = self.exchanged.session.as_ref().or(self.bound).cloned();
        if let Some(handle) = current.filter(|handle| handle.client_id().as_str() == client_id)
            && self.public.sessions.is_here(&handle)
            && !shows
        {
            return Ok(Some(handle));
        }
        // One session a body: a foreign clientId further down is refused even if it could be found.
        if self
            .exchanged
            .session
            .as_ref()
            .is_some_and(|handle| handle.client_id().as_str() != client_id)
        {
            return Ok(None);
        }
        let current = self.exchanged.session.as_ref().or(self.bound);
        let spoke_before = current.is_some_and(|handle| handle.client_id().as_str() == client_id);
        self.look_again();
        let sessions = &self.public.sessions;
        let found = sessions.find(client_id, self.who, spoke_before && !shows).await?;
        if let (Some(handle), Some(principal), None) = (&found, &self.who.principal, self.who.refused) {
            sessions.renew(handle, principal);
        }
        Ok(found)
    }

    /// Why a message has no session that it may speak for. Whether there is one is nobody's business without credentials.
    fn why_not(&self, message: &Message<'_>) -> Failure {
        match self.who.refused {
            Some(Denial::Wrong) if is_renewal(message) => Failure::CredentialsWrong,
            None | Some(Denial::Wrong) => Failure::SessionUnknown,
            Some(Denial::Expired | Denial::Revoked | Denial::Unavailable) => refusal(self.who.refused),
        }
    }

    fn look_again(&mut self) {
        let public = self.public;
        self.who.look_again(|principal| public.is_revoked(principal));
    }

    /// Where each socket needs a handshake of its own, a session of another carrier is unknown to it.
    fn must_shake_hands_here(&self, client_id: &str) -> bool {
        let opened = self.who.opened.as_ref();
        self.carrier.kind == CarrierKind::Socket
            && self.public.config.websocket.require_handshake_per_connection
            && opened.is_none_or(|opened| opened.as_str() != client_id)
    }

    /// A client that can set no headers shows its token in the message, or sends it to the channel for that. Returns whether
    /// it did.
    async fn learn_token(&mut self, message: &Message<'_>) -> bool {
        let shown = if is_renewal(message) {
            Some(Credentials::of_renewal(message))
        } else {
            Credentials::of_message(message)
        };
        let Some(shown) = shown else { return false };
        self.who.learn(self.public.authenticator.judge(&shown).await);
        true
    }

    /// Makes the records durable that the replies will speak of. What a session that another node has taken meanwhile was told is
    /// said to it again where it is.
    async fn write_down(&mut self, messages: &[Option<Message<'_>>], alone: bool) -> Result<(), LogError> {
        for _ in 0..TRIES {
            match self.written().await {
                // Nobody else knows a session yet that was opened here.
                Err(LogError::Taken) if !self.exchanged.shook_hands => {
                    self.say_again(messages, alone).await?
                }
                other => return other,
            }
        }
        self.written().await
    }

    async fn written(&mut self) -> Result<(), LogError> {
        for written in self.writes.drain(..) {
            written.await?;
        }
        Ok(())
    }

    /// Publishes are not in the log yet, and services are asked once: neither is said again.
    async fn say_again(&mut self, messages: &[Option<Message<'_>>], alone: bool) -> Result<(), LogError> {
        let Some(lost) = self.exchanged.session.clone() else {
            return Err(LogError::Taken);
        };
        debug!(session = %lost.public_id(), "taken while its record was written: what it was told is said again");
        self.public.sessions.lose(&lost, Some(self.carrier));
        for (place, message) in messages.iter().enumerate() {
            let Some(message) = message else { continue };
            let is_to_it = message.client_id.as_deref() == Some(lost.client_id().as_str());
            if is_to_it && changes_session(message) {
                self.speak(message, alone).await?;
                // It was the last, and comes to where the first answer was.
                self.exchanged.replies.swap_remove(place);
            }
        }
        Ok(())
    }

    /// Has the log take what clients publish, and takes back the replies if it does not.
    async fn publish(&mut self) {
        if self.events.is_empty() {
            return;
        }
        let mut too_large = None;
        let failure = match self.public.log.append(std::mem::take(&mut self.events)).await {
            Ok(_) => return,
            Err(LogError::Full(_)) => Failure::StorageFull,
            Err(LogError::TooLarge { place, .. }) => {
                too_large = Some(place);
                Failure::PublishFailed
            }
            Err(
                LogError::Away(_)
                | LogError::Unanswered(_)
                | LogError::Taken
                | LogError::Stopped(_)
                | LogError::Unusable(_),
            ) => Failure::PublishFailed,
        };
        for (number, place) in self.places.iter().enumerate() {
            if let Place::Reply(reply) = &mut self.exchanged.replies[*place] {
                let is_it = too_large == Some(number);
                // Of the others none was stored either.
                let too_large = Failure::OverLimit(Action::Publish, "max_payload");
                reply.fail(if is_it { too_large } else { failure.clone() });
            }
        }
    }

    fn refuse(&mut self, message: &Message<'_>, failure: Failure) {
        self.reply(Box::new(Reply::failure(message, failure)));
    }

    fn reply(&mut self, reply: Box<Reply>) {
        if let Some(failure) = reply.error() {
            self.public
                .metrics
                .refusals
                .get_or_create(&Outcome {
                    result: failure.label(),
                })
                .inc();
        }
        self.exchanged.replies.push(Place::Reply(reply));
    }

    fn count_handshake(&self, result: &'static str) {
        self.public
            .metrics
            .handshakes
            .get_or_create(&Outcome { result })
            .inc();
    }
}

/// When a handshake may find another node, or the next process. Small: a client in the field takes the milliseconds for seconds.
const NEXT: Duration = Duration::from_millis(500);

/// How often a body is said again to a session that others take meanwhile.
const TRIES: usize = 3;

/// When it is worth while to look for room again: some sessions have gone dormant by then.
const FULL: Duration = Duration::from_secs(2);

/// Whether it changes what is kept of a session, or ends it, or waits for it.
fn changes_session(message: &Message<'_>) -> bool {
    match &message.target {
        Target::Connect | Target::Subscribe | Target::Unsubscribe | Target::Disconnect => true,
        Target::Handshake | Target::Publish(_) | Target::Service(_) => false,
    }
}

fn is_renewal(message: &Message<'_>) -> bool {
    match &message.target {
        Target::Service(channel) => channel.as_str() == AUTH_CHANNEL,
        Target::Handshake
        | Target::Connect
        | Target::Subscribe
        | Target::Unsubscribe
        | Target::Disconnect
        | Target::Publish(_) => false,
    }
}

/// What somebody is told who may not have a session.
fn refusal(denial: Option<Denial>) -> Failure {
    match denial {
        None | Some(Denial::Wrong) => Failure::HandshakeDenied,
        Some(Denial::Expired) => Failure::CredentialsExpired,
        Some(Denial::Revoked) => Failure::CredentialsRevoked,
        Some(Denial::Unavailable) => Failure::CredentialsUnavailable,
    }
}

/// A publish without data is delivered with `null`: an event without data looks like a reply to some clients.
fn published(tenant: Tenant, channel: ChannelName, traits: Traits, message: &Message<'_>) -> Event {
    let data = message
        .data
        .map_or_else(|| RawValue::NULL.to_owned(), ToOwned::to_owned);
    Event {
        tenant,
        audience: Audience::Everyone,
        channel,
        data,
        id: None,
        traits,
    }
}
