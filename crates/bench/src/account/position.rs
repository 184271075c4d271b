//! How far one session has come in one stream.

use std::ops::Range;

/// What a session has had of a stream whose events are numbered from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The one after the highest that came.
    next: u64,
    /// What was skipped below it, in order. Empty, and then without memory, unless something is wrong.
    skipped: Vec<Range<u64>>,
}

/// What the arrival of an event means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new.
    New,
    /// It is new, but a later one came before it.
    Late,
    /// It was there before.
    Again,
}

impl Position {
    /// Takes an event.
    pub(crate) fn take(&mut self, number: u64) -> Arrival {
        if number >= self.next {
            if number > self.next {
                self.skipped.push(self.next..number);
            }
            self.next = number + 1;
            return Arrival::New;
        }
        let Some(place) = self.skipped.iter().position(|range| range.contains(&number)) else {
            return Arrival::Again;
        };
        let range = self.skipped.remove(place);
        let parts = [range.start..number, number + 1..range.end];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        self.skipped.splice(place..place, parts);
        Arrival::Late
    }

    /// Whether nothing below `end` is missing.
    pub(crate) fn has_all_below(&self, end: u64) -> bool {
        self.next >= end && self.skipped.first().is_none_or(|range| range.start >= end)
    }

    /// Whether it has come.
    pub(crate) fn has(&self, number: u64) -> bool {
        number < self.next && !self.skipped.iter().any(|range| range.contains(&number))
    }

    /// What is missing below `end`.
    pub(crate) fn missing_below(&self, end: u64) -> impl Iterator<Item = u64> {
        self.skipped.iter().cloned().flatten().chain(self.next..end)
    }

    /// How many are missing below `end`.
    pub(crate) fn count_missing_below(&self, end: u64) -> u64 {
        let skipped: u64 = self.skipped.iter().map(|range| range.end - range.start).sum();
        skipped + end.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: &[u64]) -> Position {
        let mut position = Position::default();
        for number in numbers {
            position.take(*number);
        }
        position
    }

    fn missing(position: &Position, end: u64) -> Vec<u64> {
        let missing: Vec<u64> = position.missing_below(end).collect();
        assert_eq!(missing.len() as u64, position.count_missing_below(end));
        missing
    }

    #[test]
    fn events_in_order_are_new_and_nothing_is_missing() {
        let mut position = Position::default();
        let arrivals: Vec<_> = (0..3).map(|number| position.take(number)).collect();
        assert_eq!(arrivals, [Arrival::New; 3]);
        assert_eq!(missing(&position, 3), [0; 0]);
    }

    #[test]
    fn what_never_came_is_missing_in_the_middle_and_at_the_end() {
        assert_eq!(missing(&after(&[0, 2, 5]), 8), [1, 3, 4, 6, 7]);
    }

    #[test]
    fn what_came_before_comes_again() {
        assert_eq!(after(&[0, 1]).take(0), Arrival::Again);
    }

    #[test]
    fn what_was_overtaken_is_late_once_and_not_missing() {
        for late in [1, 2, 3] {
            let mut position = after(&[0, 4]);
            assert_eq!(position.take(late), Arrival::Late);
            assert_eq!(position.take(late), Arrival::Again);
            let left: Vec<u64> = (1..4).filter(|number| *number != late).collect();
            assert_eq!(missing(&position, 5), left);
        }
    }

    #[test]
    fn having_all_below_looks_into_the_holes() {
        let position = after(&[0, 1, 3]);
        assert!(position.has_all_below(2) && !position.has_all_below(3) && !position.has_all_below(5));
        assert!(position.has(1) && !position.has(2) && position.has(3) && !position.has(4));
    }
}
