//! The part of the log between what a client has proven to have and what it is waiting for.
//!
//! Four offsets, never in another order, and a cache of the events between the outer two:
//!
//! ```text
//!   proven ≤ base ≤ sent ≤ through          entries: every event of this session in (base, through]
//! ```
//!
//! * `proven`: everything up to here has arrived. Only proof moves it: an acknowledgement, a pong, the next connect.
//! * `sent`: everything up to here was handed to a carrier. A recovery sets it back to `proven`.
//! * `through`: everything up to here has been seen. While `through ≥ target` the window is *live*: each new event is
//!   appended. Otherwise it is *behind*: new events only move `target`, and the log is read until it is reached.
//!
//! So the entries may be dropped at any time; the log has them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::{Delivery, Limits, Offset};

#[derive(Debug)]
pub(crate) struct Window {
    entries: VecDeque<Arc<Delivery>>,
    /// The size of all entries.
    bytes: usize,
    /// The number of entries, from the front, that were handed to a carrier.
    handed: usize,
    /// How many of the others are in a hurry.
    hurried: usize,
    proven: Offset,
    base: Offset,
    sent: Offset,
    through: Offset,
    target: Offset,
}

/// What became of a new event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits to be sent.
    Queued,
    /// It was seen before.
    Known,
    /// There was no room: the window fell behind with this event, and it will be read from the log.
    Overflowed,
    /// The window was behind before: the event will be read from the log.
    Behind,
}

impl Window {
    /// A window in which everything up to `cursor` is proven, and everything up to `end` is in the log.
    pub(crate) fn new(cursor: Offset, end: Offset) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            handed: 0,
            hurried: 0,
            proven: cursor,
            base: cursor,
            sent: cursor,
            through: cursor,
            target: end,
        }
    }

    /// The same, when everything up to `sent` was handed over before: it is sent again if it turns out not to have arrived.
    pub(crate) fn half_way(cursor: Offset, sent: Offset, end: Offset) -> Self {
        let mut window = Self::new(sent, end);
        window.proven = cursor;
        window
    }

    pub(crate) fn proven(&self) -> Offset {
        self.proven
    }

    pub(crate) fn sent(&self) -> Offset {
        self.sent
    }

    pub(crate) fn is_live(&self) -> bool {
        self.through >= self.target
    }

    /// An event waits to be handed to a carrier.
    pub(crate) fn has_unsent(&self) -> bool {
        self.handed < self.entries.len()
    }

    /// What waits may wait longer: how long, from when it came, if there is anything.
    pub(crate) fn lazy(&self) -> Option<Duration> {
        if self.hurried > 0 {
            return None;
        }
        self.entries
            .range(self.handed..)
            .filter_map(|event| event.marks().lazy)
            .min()
    }

    /// An event was handed over and is not proven.
    pub(crate) fn has_unproven(&self) -> bool {
        self.handed > 0 || self.base > self.proven
    }

    /// How many events were handed over and are not proven; those that were dropped since count for more than any number.
    pub(crate) fn unproven(&self) -> usize {
        if self.base > self.proven {
            usize::MAX
        } else {
            self.handed
        }
    }

    /// Nothing can be sent before the log is read; after which offset.
    pub(crate) fn wants_read(&self) -> Option<Offset> {
        (!self.is_live() && !self.has_unsent()).then_some(self.through)
    }

    /// A new event from dispatch.
    pub(crate) fn push(&mut self, event: &Arc<Delivery>, limits: &Limits) -> Pushed {
        if event.offset() <= self.through {
            return Pushed::Known;
        }
        if !self.is_live() {
            self.target = self.target.max(event.offset());
            return Pushed::Behind;
        }
        self.append(Arc::clone(event));
        if self.is_over(limits) {
            self.forget_handed();
        }
        if !self.is_over(limits) {
            return Pushed::Queued;
        }
        let target = self.through;
        self.restart_after(self.sent);
        self.target = target;
        Pushed::Overflowed
    }

    /// What was read from the log after the offset that [`Window::wants_read`] said, complete up to `through`. Ignored
    /// when the window has moved meanwhile: it will want another read.
    pub(crate) fn fill(
        &mut self,
        after: Offset,
        events: Vec<Arc<Delivery>>,
        through: Offset,
        limits: &Limits,
    ) {
        if after != self.through {
            return;
        }
        events.into_iter().for_each(|event| self.append(event));
        self.pass(through);
        if self.is_over(limits) {
            self.forget_handed();
        }
    }

    /// Events up to `offset` may be in the log that were not pushed.
    pub(crate) fn missed(&mut self, offset: Offset) {
        self.target = self.target.max(offset);
    }

    /// There is nothing for this session up to `offset` that it was not told of.
    pub(crate) fn pass(&mut self, offset: Offset) {
        self.through = self.through.max(offset);
        self.settle();
    }

    /// The next event to hand over, if it is no larger than `room`.
    pub(crate) fn take(&mut self, room: usize) -> Option<Arc<Delivery>> {
        let event = self.entries.get(self.handed)?;
        if event.size() > room {
            return None;
        }
        self.handed += 1;
        self.hurried -= usize::from(event.marks().lazy.is_none());
        self.sent = event.offset();
        let event = Arc::clone(event);
        self.settle();
        Some(event)
    }

    /// Everything up to `offset` has arrived.
    pub(crate) fn prove(&mut self, offset: Offset) {
        if offset <= self.proven {
            return;
        }
        self.proven = offset;
        while self.entries.front().is_some_and(|event| event.offset() <= offset) {
            self.pop();
        }
        self.base = self.base.max(offset);
        self.sent = self.sent.max(offset);
        self.through = self.through.max(offset);
        self.settle();
    }

    /// What was handed over and is not proven will be sent again.
    pub(crate) fn rewind(&mut self) {
        if self.base > self.proven {
            let target = self.target.max(self.through);
            self.restart_after(self.proven);
            self.target = target;
        } else {
            let again = self.entries.range(..self.handed);
            self.hurried += again.filter(|event| event.marks().lazy.is_none()).count();
            self.handed = 0;
            self.sent = self.proven;
        }
    }

    /// Everything after `offset` is wanted again, or for the first time.
    pub(crate) fn go_back(&mut self, offset: Offset) {
        let target = self.target.max(self.through);
        self.restart_after(offset);
        self.proven = offset;
        self.target = target;
    }

    /// Whatever there was up to `offset` cannot be had any more.
    pub(crate) fn skip_to(&mut self, offset: Offset) {
        self.restart_after(offset);
        self.proven = offset;
    }

    fn append(&mut self, event: Arc<Delivery>) {
        self.bytes += event.size();
        self.hurried += usize::from(event.marks().lazy.is_none());
        self.through = event.offset();
        self.entries.push_back(event);
    }

    fn pop(&mut self) {
        if let Some(event) = self.entries.pop_front() {
            self.bytes -= event.size();
            self.base = event.offset();
            match self.handed.checked_sub(1) {
                Some(handed) => self.handed = handed,
                None => self.hurried -= usize::from(event.marks().lazy.is_none()),
            }
        }
    }

    /// When nothing waits, what has been seen counts as sent; when nothing is unproven either, as proven.
    fn settle(&mut self) {
        if self.has_unsent() || !self.is_live() {
            return;
        }
        self.sent = self.through;
        if !self.has_unproven() {
            self.proven = self.through;
            self.base = self.through;
        }
    }

    fn forget_handed(&mut self) {
        while self.handed > 0 {
            self.pop();
        }
    }

    fn restart_after(&mut self, offset: Offset) {
        // A new deque: the old one's capacity is what the overflow was about.
        self.entries = VecDeque::new();
        self.bytes = 0;
        self.handed = 0;
        self.hurried = 0;
        self.base = offset;
        self.sent = offset;
        self.through = offset;
    }

    fn is_over(&self, limits: &Limits) -> bool {
        self.entries.len() > limits.queue_events || self.bytes > limits.queue_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChannelName;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    fn event(offset: u64) -> Arc<Delivery> {
        let data = RawValue::from_string(format!("{offset:010}").replace('0', "1")).unwrap();
        Arc::new(Delivery::encode(
            Offset(offset),
            ChannelName::parse("/a").unwrap(),
            &data,
        ))
    }

    fn limits(queue_events: usize) -> Limits {
        Limits {
            queue_events,
            ..Limits::default()
        }
    }

    fn window() -> Window {
        Window::new(Offset(0), Offset(0))
    }

    fn taken(window: &mut Window) -> Vec<u64> {
        std::iter::from_fn(|| window.take(usize::MAX))
            .map(|event| event.offset().0)
            .collect()
    }

    #[test]
    fn what_is_not_proven_is_sent_again_after_a_rewind() {
        let mut window = window();
        for offset in 1..=3 {
            window.push(&event(offset), &limits(10));
        }
        assert_eq!(taken(&mut window), [1, 2, 3]);
        window.prove(Offset(1));
        window.rewind();
        assert_eq!(taken(&mut window), [2, 3]);
    }

    #[test]
    fn an_overflow_drops_what_was_sent_first() {
        let mut window = window();
        window.push(&event(1), &limits(2));
        window.push(&event(2), &limits(2));
        taken(&mut window);
        assert_eq!(window.push(&event(3), &limits(2)), Pushed::Queued);
        assert_eq!(taken(&mut window), [3]);
    }

    #[test]
    fn an_overflow_of_what_was_not_sent_is_read_from_the_log() {
        let mut window = window();
        window.push(&event(1), &limits(2));
        taken(&mut window);
        for offset in 2..=4 {
            window.push(&event(offset), &limits(2));
        }
        assert_eq!(window.wants_read(), Some(Offset(1)));
    }

    #[test]
    fn a_window_overflows_once_however_far_it_falls_behind() {
        let mut window = window();
        let pushed: Vec<_> = (1..=5)
            .map(|offset| window.push(&event(offset), &limits(2)))
            .collect();
        use Pushed::{Behind, Overflowed, Queued};
        assert_eq!(pushed, [Queued, Queued, Overflowed, Behind, Behind]);
    }

    #[test]
    fn a_window_that_is_behind_is_live_again_when_it_has_read_what_it_missed() {
        let mut window = window();
        for offset in 1..=4 {
            window.push(&event(offset), &limits(2));
        }
        window.fill(Offset(0), vec![event(1), event(2)], Offset(2), &limits(2));
        assert!(!window.is_live());
        taken(&mut window);
        window.fill(Offset(2), vec![event(3), event(4)], Offset(4), &limits(2));
        assert!(window.is_live());
    }

    #[test]
    fn a_read_that_began_before_a_rewind_is_ignored() {
        let mut window = Window::new(Offset(0), Offset(4));
        window.fill(Offset(0), vec![event(1), event(2)], Offset(2), &limits(10));
        taken(&mut window);
        assert_eq!(window.wants_read(), Some(Offset(2)));
        window.prove(Offset(1));
        window.fill(Offset(7), vec![event(8)], Offset(8), &limits(10));
        window.rewind();
        assert_eq!(taken(&mut window), [2]);
    }

    #[test]
    fn silence_proves_itself() {
        let mut window = window();
        window.push(&event(1), &limits(10));
        taken(&mut window);
        window.pass(Offset(9));
        assert_eq!(window.proven(), Offset(0));
        window.prove(Offset(1));
        assert_eq!(window.proven(), Offset(9));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Publish,
        Other,
        Send(usize),
        Prove(u64),
        Break,
        Read(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Publish),
            1 => Just(Step::Other),
            3 => (1..6_usize).prop_map(Step::Send),
            2 => (0..40_u64).prop_map(Step::Prove),
            1 => Just(Step::Break),
            3 => (1..6_usize).prop_map(Step::Read),
        ]
    }

    proptest! {
        /// Whatever happens, the client gets every event in order, and again only what it had not proven.
        #[test]
        fn nothing_is_lost_and_nothing_proven_comes_again(steps in proptest::collection::vec(step(), 1..120)) {
            let (mut window, limits) = (window(), limits(4));
            let (mut log, mut end, mut client, mut proven) = (Vec::<u64>::new(), 0_u64, Vec::<u64>::new(), 0_u64);
            let receive = |window: &mut Window, client: &mut Vec<u64>, count: usize| {
                for _ in 0..count {
                    if let Some(event) = window.take(usize::MAX) { client.push(event.offset().0) }
                }
            };
            let read = |window: &mut Window, log: &[u64], end: u64, count: usize| {
                let Some(after) = window.wants_read() else { return };
                let page: Vec<u64> = log.iter().copied().filter(|offset| *offset > after.0).take(count).collect();
                let through = if page.len() == count { *page.last().unwrap() } else { end };
                window.fill(after, page.into_iter().map(event).collect(), Offset(through), &limits);
            };
            for step in steps {
                match step {
                    Step::Publish => { end += 1; log.push(end); window.push(&event(end), &limits); }
                    Step::Other => end += 1,
                    Step::Send(count) => receive(&mut window, &mut client, count),
                    Step::Prove(offset) => {
                        let last = client.last().copied().unwrap_or(0);
                        proven = proven.max(offset.min(last));
                        window.prove(Offset(offset.min(last)).max(window.proven()).min(window.sent()));
                    }
                    Step::Break => {
                        window.rewind();
                        let first = log.iter().copied().find(|offset| *offset > window.proven().0);
                        client.retain(|seen| first.is_none_or(|first| *seen < first));
                    }
                    Step::Read(count) => read(&mut window, &log, end, count),
                }
                prop_assert!(window.entries.len() <= 4 + 5, "bounded");
            }
            for _ in 0..1000 {
                read(&mut window, &log, end, 4);
                receive(&mut window, &mut client, 100);
            }
            prop_assert_eq!(client, log);
        }
    }
}
