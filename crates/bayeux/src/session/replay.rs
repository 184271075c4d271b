//! Going back in the log for a subscription that asks for older events.
//!
//! The window has one cursor, so a replay sets it back, and the other subscriptions begin where the cursor was: nothing comes
//! twice. That waits until nothing is unproven, since what is unproven may have to be sent again. An acknowledging client
//! then counts anew: the number of a reply from before the way back would otherwise skip what was asked for.

use serde_json::json;

use super::Session;
use crate::extension::Wish;
use crate::{Action, ChannelPattern, Failure, LogEnds, Offset, Reply, StaleReplay};

/// Where a subscription begins.
pub(super) enum Start {
    /// At the end of the log.
    End,
    /// After this offset.
    After(Offset),
    /// After this offset, and what was asked for is not all there.
    AfterGap(Offset),
}

impl Session {
    /// What a wish for older events comes to in this log.
    pub(super) fn start(&self, wish: Wish, ends: LogEnds) -> Result<Start, Failure> {
        let earliest = Offset(ends.first.0.saturating_sub(1));
        let start = match wish {
            _ if !self.settings.replay => Start::End,
            Wish::New => Start::End,
            Wish::All => Start::After(earliest),
            Wish::After(wanted) => {
                let after = Offset(u64::try_from(wanted).unwrap_or(u64::MAX));
                match self.settings.stale_replay {
                    _ if after >= earliest && after <= ends.last => Start::After(after),
                    StaleReplay::Earliest => Start::AfterGap(earliest),
                    StaleReplay::Latest => Start::AfterGap(ends.last),
                    StaleReplay::Error => return Err(Failure::ReplayInvalid(wanted)),
                }
            }
        };
        if self.agreed.replays == u8::MAX && !matches!(start, Start::End) {
            return Err(Failure::OverLimit(Action::Subscribe, "replays_per_session"));
        }
        Ok(start)
    }

    /// Notes that a subscription, which is there, wants older events; the reply says if some are gone.
    pub(super) fn replay(
        &mut self,
        pattern: &ChannelPattern,
        start: Start,
        first: Offset,
        reply: &mut Reply,
    ) {
        let after = match start {
            Start::End => return,
            Start::After(after) => after,
            Start::AfterGap(after) => {
                reply
                    .ext
                    .insert("replay".into(), json!({ "gap": true, "first": first.0 }));
                after
            }
        };
        if let Some(subscription) = self
            .subscriptions
            .iter_mut()
            .find(|subscription| subscription.pattern == *pattern)
        {
            subscription.replay = Some(after);
        }
    }

    /// Goes back, if a subscription asks for it and nothing is under way.
    pub(super) fn begin_replays(&mut self) {
        let wanted = self
            .subscriptions
            .iter()
            .filter_map(|subscription| subscription.replay);
        let Some(earliest) = wanted.min() else { return };
        if self.window.has_unproven() {
            return;
        }
        let sent = self.window.sent();
        let mut routed = Offset::START;
        let unapplied = self.proof.unapplied();
        for subscription in &mut self.subscriptions {
            subscription.began = match subscription.replay.take() {
                Some(after) => {
                    routed = routed.max(subscription.began);
                    after
                }
                None => {
                    let came_to = unapplied.map(|after| subscription.began.max(after));
                    subscription.before = subscription.before.or(came_to);
                    subscription.began.max(sent)
                }
            };
        }
        self.record_changed = true;
        self.reading_for = None;
        self.window.go_back(earliest.min(sent));
        // What was dispatched before they were routed was never handed over: it has to be read.
        self.window.missed(routed);
        self.note_way_back();
        self.agreed.replays = self.agreed.replays.saturating_add(1);
        self.agreed.carried = Offset::START;
        self.agreed.acknowledged = Offset::START;
        self.agreed.promised = self.window.sent();
        self.agreed.resumed = None;
    }
}
