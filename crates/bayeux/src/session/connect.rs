//! `/meta/connect`: the client's heartbeat, and on an exchange the only way by which events leave.
//!
//! * The first connect of a session is answered at once, with advice, whether or not the client asked for that.
//! * A connect is held only when it came alone, and while not too many of the same browser are; a newer one ends an older one.
//! * The reply carries advice when the client sent some, or connects by another kind of carrier than before.
//! * The connect says what arrived: an acknowledgement if that was agreed; otherwise the reply before it, unless the client
//!   says that it recovers (`advice.timeout` 0 on a session that was connected) or the reply is known to be lost.
//! * Who connects without wanting to wait, again and again, is told to wait before the next. Who comes sooner all the same, and again
//!   does not want to wait, is answered when that time has passed; until then nothing leaves with the answer.
//! * A connect with the id of one that was answered is the same request again: browsers repeat it by themselves when a
//!   connection that was kept alive breaks, and neither the page nor its client know. The reply did not arrive.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::{Answer, Output, Session};
use crate::extension::Received;
use crate::reply::Asked;
use crate::{Carrier, CarrierKind, Message, Reply, ReplyAdvice, Target};

/// Bytes of events in an answer on a socket. It leaves in one frame, and clients that were not told otherwise close a socket
/// that brings a frame of more than 64 KiB.
const FRAME_BYTES: usize = 48 << 10;

/// A connect that asks for less than this does not want to wait.
const IMPATIENCE: Duration = Duration::from_millis(100);

/// Two such connects in this time are free, beside a session's first: a client asks so whenever it comes back, and so does a page
/// that was loaded again.
const HASTE: Duration = Duration::from_secs(1);

/// The connects of one session.
#[derive(Debug, Default)]
pub(crate) struct Connects {
    pub(super) held: Option<Held>,
    /// An older connect's carrier, to be told that a newer one took over.
    superseded: Vec<Carrier>,
    /// The kind of carrier that was last given advice.
    advised: Option<CarrierKind>,
    /// The last reply is known not to have arrived.
    pub(super) reply_lost: bool,
    /// The id of the last connect that was answered on an exchange.
    answered_id: Option<Box<RawValue>>,
    /// It was another one than before. A client whose connects all have the same id says nothing with it.
    ids_differ: bool,
    /// The server is overloaded: clients come back no sooner than this.
    busy: Duration,
    /// The client was told so.
    told_busy: bool,
    /// When the last two connects came that did not want to wait.
    impatient: [Option<Instant>; 2],
    /// The client was told not to connect before, for that.
    not_before: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) carrier: Carrier,
    asked: Asked,
    pub(super) advice: Advice,
    pub(super) interval: Duration,
    deadline: Instant,
    /// It came sooner than the client was told to: nothing leaves with its answer, nor the answer, until then.
    put_off: Option<Instant>,
    /// Answer without waiting for an event.
    due: bool,
    /// Answer even before the log was read.
    overdue: bool,
    /// Something has left with this answer.
    started: bool,
    /// Bytes of events that this answer may still take.
    room: usize,
}

/// What the answer to a connect tells the client to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// What it knows.
    Known,
    /// To connect again.
    Retry,
    /// To connect again, and later than it would.
    Impatient,
    /// To come back after the interval, or not at all without one: too many connects of its browser are held.
    Crowded,
}

impl Connects {
    pub(super) fn drop_held(&mut self, carrier: Carrier) -> bool {
        self.superseded.retain(|old| *old != carrier);
        self.held.take_if(|held| held.carrier == carrier).is_some()
    }

    pub(super) fn distrust_reply(&mut self) {
        self.reply_lost = true;
    }

    /// Whether a connect with this id was answered last.
    fn repeats(&self, id: Option<&RawValue>) -> bool {
        let answered = self.telling_id();
        answered.is_some() && answered == id.map(RawValue::get)
    }

    /// The id of the connect that was answered last, if another one with it is the same request again.
    pub(super) fn telling_id(&self) -> Option<&str> {
        let answered = self.answered_id.as_deref().filter(|_| self.ids_differ);
        answered.map(RawValue::get)
    }

    fn note_answered(&mut self, id: Option<&RawValue>) {
        let before = self.answered_id.as_deref().map(RawValue::get);
        self.ids_differ = before != id.map(RawValue::get);
        self.answered_id = id.map(ToOwned::to_owned);
    }

    /// This is the id of the connect that was answered last, elsewhere.
    pub(super) fn take_up(&mut self, id: &str) {
        self.answered_id = RawValue::from_string(id.to_owned()).ok();
        self.ids_differ = true;
    }

    /// Notes a connect that does not want to wait, and says whether it is one too many.
    fn note_impatient(&mut self, now: Instant) -> bool {
        let [before, last] = self.impatient;
        self.impatient = [last, Some(now)];
        before.is_some_and(|before| now.saturating_duration_since(before) < HASTE)
            || self.too_soon(now).is_some()
    }

    /// Until when an impatient connect that comes now is put off.
    fn too_soon(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|not_before| now < *not_before)
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Gives up the connect that this carrier holds, and hands out its reply.
    pub(super) fn take_held(&mut self, carrier: Carrier) -> Option<Box<Reply>> {
        let held = self.held.take_if(|held| held.carrier == carrier)?;
        self.advised = Some(carrier.kind);
        Some(Box::new(held.asked.reply()))
    }

    fn is_held_by(&self, carrier: Carrier) -> bool {
        self.held.as_ref().is_some_and(|held| held.carrier == carrier)
    }

    /// Nobody has to be told anything: a connect that is held is to wait.
    pub(super) fn are_quiet(&self) -> bool {
        self.superseded.is_empty() && self.held.as_ref().is_none_or(|held| !held.due && !held.started)
    }

    /// When the held connect came.
    pub(super) fn received(&self) -> Option<Received> {
        Some(self.held.as_ref()?.asked.received)
    }

    pub(super) fn holding_socket(&self) -> Option<Carrier> {
        let held = self.held.as_ref()?;
        (held.carrier.kind == CarrierKind::Socket).then_some(held.carrier)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held
            .as_ref()
            .filter(|held| !held.overdue)
            .map(|held| held.deadline)
    }

    /// Answers the held connect now, whatever there is to say.
    pub(super) fn release(&mut self) {
        if let Some(held) = &mut self.held {
            held.due = true;
        }
    }

    /// Answers the held connect now, and says to connect again at once.
    pub(super) fn send_elsewhere(&mut self) {
        self.release();
        if let Some(held) = &mut self.held
            && held.advice != Advice::Crowded
        {
            held.advice = Advice::Retry;
            held.interval = Duration::ZERO;
        }
    }

    /// The kind of carrier that a connect is held on.
    pub(super) fn held_on(&self) -> Option<CarrierKind> {
        self.held.as_ref().map(|held| held.carrier.kind)
    }

    /// Answers the held connect at `deadline` at the latest.
    pub(super) fn release_by(&mut self, deadline: Instant) {
        if let Some(held) = &mut self.held {
            held.deadline = held.deadline.min(deadline);
        }
    }
}

impl Session {
    pub(super) fn connect(
        &mut self,
        now: Instant,
        carrier: Carrier,
        alone: bool,
        message: &Message<'_>,
    ) -> Answer {
        let asked = message.advice.unwrap_or_default();
        let first = !self.life.connected();
        let recovers = !first && asked.timeout == Some(Duration::ZERO);
        let repeats = carrier.kind == CarrierKind::Exchange && self.connects.repeats(message.echo.id);
        self.account(now, carrier, recovers || repeats);
        self.begin_replays();
        self.supersede(carrier);
        let longest = self.settings.max_timeout;
        let timeout = asked.timeout.unwrap_or(self.settings.timeout).min(longest);
        let wait = alone && !first && !timeout.is_zero();
        let is_impatient = !first
            && asked.timeout.is_some_and(|timeout| timeout < IMPATIENCE)
            && self.connects.note_impatient(now)
            && !self.settings.impatient_interval.is_zero();
        let interval = asked.interval.unwrap_or(self.settings.interval).min(longest);
        let (advice, interval) = if is_impatient {
            (Advice::Impatient, interval.max(self.settings.impatient_interval))
        } else if message.advice.is_some() || self.connects.advised != Some(carrier.kind) {
            (Advice::Retry, interval)
        } else {
            (Advice::Known, interval)
        };
        let put_off = is_impatient.then(|| self.connects.too_soon(now)).flatten();
        self.connects.held = Some(Held {
            carrier,
            asked: Asked::of(message, self.agreed.receiving(now, message)),
            advice,
            interval,
            // A connect that is not to wait may still have to read the log.
            deadline: put_off.unwrap_or(now + if wait { timeout } else { self.settings.timeout }),
            put_off,
            due: !wait && put_off.is_none(),
            overdue: false,
            started: false,
            room: match carrier.kind {
                CarrierKind::Exchange => self.settings.limits.answer_bytes,
                CarrierKind::Socket => self.settings.limits.answer_bytes.min(FRAME_BYTES),
            },
        });
        self.life.held();
        Answer::Held
    }

    /// What this connect proves, and what has to be sent again.
    fn account(&mut self, now: Instant, carrier: Carrier, again: bool) {
        let lost = std::mem::take(&mut self.connects.reply_lost) || again;
        self.account_gap(carrier, lost);
        self.account_directs(carrier, lost);
        if self.agreed.acknowledges() {
            // The acknowledgement has said what arrived: the rest did not.
            self.window.rewind();
            return;
        }
        if !lost {
            self.note_connect(carrier);
        }
        let Some(brought_by) = self.brought_by else {
            return;
        };
        match brought_by.kind {
            CarrierKind::Exchange if lost => self.window.rewind(),
            CarrierKind::Exchange => self.prove_sent(now),
            CarrierKind::Socket if carrier.kind == CarrierKind::Exchange => self.window.rewind(),
            CarrierKind::Socket if !self.agreed.delivers_with_connect() => {}
            // A connect on another socket says nothing about this one, though that may be the one that events go to since.
            CarrierKind::Socket if lost || brought_by != carrier => self.window.rewind(),
            CarrierKind::Socket => self.prove_sent(now),
        }
    }

    fn supersede(&mut self, carrier: Carrier) {
        if let Some(old) = self.connects.held.take()
            && old.carrier != carrier
        {
            self.connects.superseded.push(old.carrier);
        }
        if self.reading_for.is_some_and(|reader| reader != carrier) {
            self.reading_for = None;
        }
    }

    pub(super) fn poll_superseded(&mut self, carrier: Carrier) -> Option<Output> {
        let place = self.connects.superseded.iter().position(|old| *old == carrier)?;
        self.connects.superseded.swap_remove(place);
        Some(Output::Superseded)
    }

    /// What the held connect of this carrier leads to: events if they travel with it, then the reply.
    pub(super) fn poll_connect(&mut self, now: Instant, carrier: Carrier) -> Option<Output> {
        if self.is_put_off(carrier) {
            return None;
        }
        let may_wait = self.may_wait(now);
        let brings_events = self.brings_events(carrier);
        let has_untold_gap = self.has_untold_gap();
        if carrier.kind == CarrierKind::Exchange && self.connects.is_held_by(carrier) {
            self.take_over_from_socket();
        }
        let held = self
            .connects
            .held
            .as_mut()
            .filter(|held| held.carrier == carrier)?;
        // After a goodbye of the server nothing leaves but the reply.
        if brings_events && !(self.life.is_ending() && self.life.is_over()) {
            // Before the events: there are few of them, but there may always be another event.
            let room = if held.started { held.room } else { usize::MAX };
            if let Some(message) = self.direct.take(room, carrier) {
                held.started = true;
                held.room = held.room.saturating_sub(message.size());
                return Some(Output::Direct(message));
            }
            let is_in_no_hurry = may_wait && !held.due && !held.started;
            if !is_in_no_hurry && let Some(event) = self.window.take(room) {
                held.started = true;
                held.room = held.room.saturating_sub(event.size());
                self.brought_by = Some(carrier);
                return Some(Output::Event(event));
            }
            if !held.started
                && !held.overdue
                && !self.life.is_over()
                && let Some(after) = self.window.wants_read()
            {
                return self.read_for(carrier, after);
            }
        }
        let is_due = held.due || held.started || has_untold_gap;
        if let Some(farewell) = self.poll_farewell(now) {
            return Some(farewell);
        }
        if is_due { self.answer(now) } else { None }
    }

    /// The connect of this carrier came too soon. A server that says goodbye has no time for that.
    fn is_put_off(&self, carrier: Carrier) -> bool {
        let held = self.connects.held.as_ref();
        held.is_some_and(|held| held.carrier == carrier && held.put_off.is_some() && !held.due)
            && !self.life.is_over()
            && !self.life.is_ending()
    }

    /// What a socket brought and nobody proved goes again: the connect that follows this one would prove it without knowing.
    fn take_over_from_socket(&mut self) {
        if self.was_brought_by(CarrierKind::Socket)
            && !self.agreed.acknowledges()
            && self.window.has_unproven()
            && self.window.has_unsent()
        {
            self.window.rewind();
        }
    }

    /// Too many connects of this client's browser are held already, so the one of this carrier is answered at once: with the advice
    /// to connect again after `interval` or, if that is nothing, with failure and the advice to stay away. A browser has few
    /// connections to a host, and held connects must not take all of them.
    pub fn handle_crowded(&mut self, carrier: Carrier, interval: Duration) {
        if let Some(held) = self.connects.held.as_mut().filter(|held| held.carrier == carrier) {
            held.advice = Advice::Crowded;
            held.interval = interval;
            held.due = true;
        }
    }

    /// Events have left for an answer whose reply has not: they belong together.
    pub fn is_answering(&self) -> bool {
        self.connects.held.as_ref().is_some_and(|held| held.started) || self.is_greeting()
    }

    /// How overloaded the server is: connects are answered with an interval of at least this, and once with none when it is
    /// over. Zero when it is not.
    pub fn handle_busy(&mut self, interval: Duration) {
        self.connects.busy = interval;
    }

    /// Returns whether a held connect became due.
    pub(super) fn handle_connect_timeout(&mut self, now: Instant) -> bool {
        let Some(held) = self
            .connects
            .held
            .as_mut()
            .filter(|held| held.deadline <= now && !held.overdue)
        else {
            return false;
        };
        held.due = true;
        if held.put_off.take().is_some() && !self.life.is_over() {
            // From now on it is one that is not to wait: it may have to read the log.
            held.deadline = now + self.settings.timeout;
        } else {
            held.overdue = true;
        }
        true
    }

    /// Whether events leave by the held connect of this carrier rather than by themselves.
    pub(super) fn brings_events(&self, carrier: Carrier) -> bool {
        carrier.kind == CarrierKind::Exchange || self.agreed.delivers_with_connect()
    }

    /// The advice to connect again.
    pub(super) fn retry_after(&self, interval: Duration) -> ReplyAdvice {
        let settings = &self.settings;
        let max_interval = settings.handshake_reconnect.then_some(settings.max_interval);
        ReplyAdvice::retry(interval, settings.timeout).until(max_interval)
    }

    pub(super) fn answer(&mut self, now: Instant) -> Option<Output> {
        let held = self.connects.held.take()?;
        let mut reply = Box::new(held.asked.reply());
        let interval = held.interval.max(self.connects.busy);
        let is_busy = !self.connects.busy.is_zero();
        if self.life.is_over() {
            reply.advise(ReplyAdvice::none());
        } else if held.advice == Advice::Crowded {
            // The next answer takes the interval back.
            self.connects.advised = None;
            reply.crowd(held.interval);
        } else if held.advice != Advice::Known || is_busy || self.connects.told_busy {
            // What was impatient is told later that it need not wait any more.
            let is_last_word = held.advice != Advice::Impatient;
            self.connects.advised = is_last_word.then_some(held.carrier.kind);
            self.connects.told_busy = is_busy;
            if held.advice == Advice::Impatient {
                self.connects.not_before = Some(now + self.settings.impatient_interval);
            }
            reply.advise(self.retry_after(interval));
        }
        self.tell_of_gap(held.carrier, &mut reply);
        self.note_answer(held.carrier);
        if held.carrier.kind == CarrierKind::Exchange {
            self.connects.note_answered(reply.id.as_deref());
        }
        self.agreed
            .clone()
            .outgoing(self, now, &Target::Connect, &mut reply);
        self.life.answered(now + interval, &self.settings);
        Some(Output::Reply(reply))
    }
}
