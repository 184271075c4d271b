//! What sessions have for their carriers, on its way: taken by the task of a carrier, or put in line for a wire by whoever comes
//! upon it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bayeux::{Carrier, Delivery, Handover, Offset, Output};

use super::handle::{Handle, Stage, State};
use super::{Overload, Sessions, Wire};

/// What is on its way from sessions to their wires.
#[derive(Default)]
pub(crate) struct Sending {
    /// Room for what one of them sends; empty in between.
    outputs: Vec<Output>,
    /// Wires with something in line.
    staged: Vec<Arc<dyn Wire>>,
}

impl Sending {
    /// Writes everything that is in line.
    pub(crate) fn flush(&mut self) {
        self.staged.drain(..).for_each(|wire| wire.flush());
    }
}

/// Bytes of events in one sending; more waits for the next one, so that a slow socket holds no more than this.
const WIRE_BYTES: usize = 256 << 10;

impl Sessions {
    /// Waits until the session has something for this carrier, and takes all of it up to `room` bytes of events.
    pub fn outputs<'a>(&'a self, handle: &'a Arc<Handle>, carrier: Carrier, room: usize) -> Outputs<'a> {
        Outputs {
            sessions: self,
            handle,
            carrier,
            room,
        }
    }

    fn poll_outputs(
        &self,
        handle: &Arc<Handle>,
        carrier: Carrier,
        room: usize,
        waker: Option<&std::task::Waker>,
    ) -> Vec<Output> {
        let mut state = handle.state.lock();
        let mut outputs = Vec::new();
        self.drain(&mut state, carrier, room, &mut outputs);
        if let (true, Some(waker)) = (outputs.is_empty(), waker) {
            state.wait(carrier, waker);
        }
        self.settle(handle, &mut state);
        outputs
    }

    /// After the session was asked what it has.
    fn settle(&self, handle: &Arc<Handle>, state: &mut State) {
        if state.session.is_over() && state.stage == Stage::Here {
            // The server ended it, and has said so.
            self.remove(handle, state);
        }
        self.reschedule(handle, state);
    }

    /// Takes what the session has for a carrier, up to `room` bytes of events. Returns whether there may be more.
    fn drain(&self, state: &mut State, carrier: Carrier, room: usize, outputs: &mut Vec<Output>) -> bool {
        if state.stage != Stage::Here && !state.session.is_over() {
            let parting = state.parting.take_if(|(waits, _)| *waits == carrier);
            outputs.push(parting.map_or(Output::Superseded, |(_, reply)| Output::Reply(reply)));
            return false;
        }
        let dispatched = self.dispatched.load(Ordering::Acquire);
        state.session.handle_progress(Offset(dispatched));
        self.tell_of_overload(state, dispatched);
        let now = Instant::now();
        let mut taken = 0;
        while taken < room || state.session.is_answering() {
            let Some(output) = state.session.poll_output(now, carrier) else {
                return false;
            };
            match &output {
                Output::Event(event) => taken += event.size(),
                Output::Direct(message) => taken += message.size(),
                Output::Reply(_) => state.answered = Some(carrier),
                Output::Ping(_) | Output::ReadLog(_) | Output::Superseded | Output::Refused => {}
            }
            outputs.push(output);
        }
        true
    }

    /// From now on what the session has for this carrier leaves by this wire, whoever comes upon it.
    pub fn attach(&self, handle: &Handle, carrier: Carrier, wire: Arc<dyn Wire>) {
        handle.state.lock().wires.add(carrier, wire);
    }

    /// Sends what the session has for those who need no task.
    pub fn pump(&self, handle: &Arc<Handle>) {
        let mut state = handle.state.lock();
        self.send(handle, &mut state, &mut Sending::default());
    }

    /// Hands an event over. Whether [`Sessions::send_on`] has to be called for the session: once, however many events it gets
    /// before that.
    pub(crate) fn hand_over(&self, handle: &Handle, event: &Arc<Delivery>) -> (Handover, bool) {
        let mut state = handle.state.lock();
        let handover = state.session.handle_event(event);
        let is_first = handover.wakes() && !std::mem::replace(&mut state.awaits_sending, true);
        (handover, is_first)
    }

    /// Puts in line what may leave of what was handed over, and wakes who has to see to the rest. What is in line leaves with
    /// [`Sending::flush`].
    pub(crate) fn send_on(&self, handle: &Arc<Handle>, sending: &mut Sending) {
        let mut state = handle.state.lock();
        state.awaits_sending = false;
        self.stage(handle, &mut state, sending);
        let waiting = state.wake();
        // After the lock: a task that is woken wants it first of all.
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Sends by all wires what may leave, and says who has to be woken, when the lock is free again, to see to the rest.
    pub(super) fn rouse(&self, handle: &Arc<Handle>, state: &mut State) -> Vec<(Carrier, Waker)> {
        self.send(handle, state, &mut Sending::default());
        state.wake()
    }

    pub(super) fn rouse_if(
        &self,
        wakes: bool,
        handle: &Arc<Handle>,
        state: &mut State,
    ) -> Vec<(Carrier, Waker)> {
        if wakes {
            self.rouse(handle, state)
        } else {
            Vec::new()
        }
    }

    fn send(&self, handle: &Arc<Handle>, state: &mut State, sending: &mut Sending) {
        self.stage(handle, state, sending);
        sending.flush();
    }

    fn stage(&self, handle: &Arc<Handle>, state: &mut State, sending: &mut Sending) {
        if state.wires.is_empty() {
            return;
        }
        let wires = std::mem::take(&mut state.wires);
        for (carrier, wire) in wires.each() {
            let mut is_more = true;
            while is_more && wire.is_free() {
                is_more = self.drain(state, carrier, WIRE_BYTES, &mut sending.outputs);
                if sending.outputs.is_empty() {
                    break;
                }
                wire.stage(&mut sending.outputs, state.session.delivers_with_connect());
                if is_more {
                    wire.flush();
                } else {
                    sending.staged.push(Arc::clone(wire));
                }
            }
        }
        state.wires = wires;
        self.settle(handle, state);
    }

    fn tell_of_overload(&self, state: &mut State, dispatched: u64) {
        let Overload { interval, lag } = self.options.overload;
        if interval.is_zero() {
            return;
        }
        let is_overloaded = self.log.bounds().last.0.saturating_sub(dispatched) >= lag;
        let interval = if is_overloaded { interval } else { Duration::ZERO };
        state.session.handle_busy(interval);
    }
}

/// The future of [`Sessions::outputs`].
pub struct Outputs<'a> {
    sessions: &'a Sessions,
    handle: &'a Arc<Handle>,
    carrier: Carrier,
    room: usize,
}

impl Outputs<'_> {
    /// What there is now, without waiting.
    pub fn now(&self) -> Vec<Output> {
        self.sessions
            .poll_outputs(self.handle, self.carrier, self.room, None)
    }
}

impl Future for Outputs<'_> {
    type Output = Vec<Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Vec<Output>> {
        let outputs = self
            .sessions
            .poll_outputs(self.handle, self.carrier, self.room, Some(context.waker()));
        if outputs.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(outputs)
        }
    }
}
