//! What was promised against what arrived.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// Both sides of the account: sequence numbers in the order in which they were answered `201`, and in the order in
/// which a client received them.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// Every number answered `201`, in the order of publication.
    pub published: Vec<u64>,
    /// Every number received, in the order of arrival, repeats included.
    pub received: Vec<u64>,
}

/// What a [`Ledger`] says, exactly.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many were promised.
    pub published: usize,
    /// How many arrived, repeats included.
    pub received: usize,
    /// Promised, never received.
    pub lost: Vec<u64>,
    /// Received, never promised.
    pub unexpected: Vec<u64>,
    /// How many arrivals were repeats.
    pub repeats: usize,
    /// How often the stream went back to something already received.
    pub resends: usize,
    /// The most that was repeated in one of them.
    pub longest_resend: usize,
    /// Repeats that do not continue what was sent again: after a step back the stream must run on without a hole up
    /// to where it had been. A resend that is cut short by another one is fine.
    pub stray: Vec<u64>,
    /// Numbers whose first arrival came after the first arrival of a later one.
    pub out_of_order: Vec<u64>,
}

impl Ledger {
    /// An account of numbers published against numbers received.
    pub fn new(published: impl IntoIterator<Item = u64>, received: impl IntoIterator<Item = u64>) -> Ledger {
        Ledger {
            published: published.into_iter().collect(),
            received: received.into_iter().collect(),
        }
    }

    /// Compares both sides.
    pub fn report(&self) -> Report {
        let place_by_number: HashMap<u64, usize> = self
            .published
            .iter()
            .enumerate()
            .map(|(place, number)| (*number, place))
            .collect();
        let arrived: BTreeSet<u64> = self.received.iter().copied().collect();
        let mut report = Report {
            published: self.published.len(),
            received: self.received.len(),
            lost: self
                .published
                .iter()
                .copied()
                .filter(|number| !arrived.contains(number))
                .collect(),
            ..Report::default()
        };
        let mut walk = Walk::default();
        for number in &self.received {
            match place_by_number.get(number) {
                Some(place) => walk.arrive(*number, *place, &mut report),
                None => report.unexpected.push(*number),
            }
        }
        report
    }
}

/// Where the stream stands, as places in the order of publication.
#[derive(Default)]
struct Walk {
    seen: BTreeSet<usize>,
    last: Option<usize>,
    /// Repeats since the stream last went back.
    resent: usize,
}

impl Walk {
    fn arrive(&mut self, number: u64, place: usize, report: &mut Report) {
        let furthest = self.seen.last().copied();
        let is_first = self.seen.insert(place);
        let went_back = self.last.is_some_and(|last| place <= last);
        // Nothing that arrived before lies between the last one and this one.
        let runs_on = self
            .last
            .is_none_or(|last| self.seen.range(last + 1..place.max(last + 1)).next().is_none());
        self.last = Some(place);

        if is_first && furthest.is_some_and(|furthest| place < furthest) {
            report.out_of_order.push(number);
        }
        if !is_first {
            report.repeats += 1;
            report.resends += usize::from(went_back);
            self.resent = if went_back { 1 } else { self.resent + 1 };
            report.longest_resend = report.longest_resend.max(self.resent);
        }
        if !went_back && !runs_on {
            report.stray.push(number);
        }
    }
}

impl Report {
    /// Panics unless everything arrived once, in order, and nothing else did.
    #[track_caller]
    pub fn expect_exactly_once(&self) {
        assert!(
            self.is_complete_and_ordered() && self.repeats == 0,
            "expected each event exactly once: {self}"
        );
    }

    /// Panics unless everything arrived in order, with no repeats but re-sent suffixes.
    #[track_caller]
    pub fn expect_at_least_once(&self) {
        assert!(
            self.is_complete_and_ordered(),
            "expected each event at least once, in order: {self}"
        );
    }

    fn is_complete_and_ordered(&self) -> bool {
        self.lost.is_empty()
            && self.unexpected.is_empty()
            && self.out_of_order.is_empty()
            && self.stray.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} published, {} received", self.published, self.received)?;
        write!(f, ", {} repeated in {} resends", self.repeats, self.resends)?;
        if self.resends > 1 {
            write!(f, " of at most {}", self.longest_resend)?;
        }
        for (what, numbers) in [
            ("lost", &self.lost),
            ("unexpected", &self.unexpected),
            ("out of order", &self.out_of_order),
            ("stray", &self.stray),
        ] {
            if !numbers.is_empty() {
                write!(f, ", {} {what} {}", numbers.len(), Ranges(numbers))?;
            }
        }
        Ok(())
    }
}

/// Numbers as `[3..7 9 12..40]`, cut after eight ranges.
struct Ranges<'a>(&'a [u64]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in self.0 {
            match ranges.last_mut() {
                Some((_, to)) if *to + 1 == *number => *to = *number,
                _ => ranges.push((*number, *number)),
            }
        }
        f.write_str("[")?;
        for (i, (from, to)) in ranges.iter().take(8).enumerate() {
            let space = if i == 0 { "" } else { " " };
            if from == to {
                write!(f, "{space}{from}")?
            } else {
                write!(f, "{space}{from}..{to}")?
            }
        }
        f.write_str(if ranges.len() > 8 { " …]" } else { "]" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(received: &[u64], expect: &str) {
        let report = Ledger::new(1..=6, received.iter().copied()).report();
        assert_eq!(report.to_string(), expect);
    }

    #[test]
    fn everything_once() {
        check(
            &[1, 2, 3, 4, 5, 6],
            "6 published, 6 received, 0 repeated in 0 resends",
        );
    }

    #[test]
    fn lost_is_said_by_number() {
        check(
            &[1, 2, 6],
            "6 published, 3 received, 0 repeated in 0 resends, 3 lost [3..5]",
        );
    }

    #[test]
    fn a_suffix_sent_again_is_a_resend() {
        check(
            &[1, 2, 3, 4, 3, 4, 5, 6],
            "6 published, 8 received, 2 repeated in 1 resends",
        );
    }

    #[test]
    fn a_resend_may_be_cut_short_by_another() {
        check(
            &[1, 2, 3, 4, 2, 3, 2, 3, 4, 5, 6],
            "6 published, 11 received, 5 repeated in 2 resends of at most 3",
        );
    }

    #[test]
    fn a_resend_with_a_hole_is_stray() {
        check(
            &[1, 2, 3, 4, 2, 4, 5, 6],
            "6 published, 8 received, 2 repeated in 1 resends, 1 stray [4]",
        );
    }

    #[test]
    fn a_resend_that_stops_before_the_end_is_stray() {
        check(
            &[1, 2, 3, 4, 2, 5, 6],
            "6 published, 7 received, 1 repeated in 1 resends, 1 stray [5]",
        );
    }

    #[test]
    fn a_late_first_arrival_is_out_of_order() {
        let report = Ledger::new(1..=6, [1, 3, 2, 4, 5, 6]).report();
        assert_eq!((report.out_of_order, report.lost), (vec![2], vec![]));
    }

    #[test]
    fn a_stranger_is_unexpected() {
        check(
            &[1, 2, 3, 4, 5, 6, 9],
            "6 published, 7 received, 0 repeated in 0 resends, 1 unexpected [9]",
        );
    }

    #[test]
    #[should_panic(expected = "exactly once: 6 published, 7 received, 1 repeated")]
    fn once_means_once() {
        Ledger::new(1..=6, [1, 2, 3, 3, 4, 5, 6])
            .report()
            .expect_exactly_once();
    }
}
