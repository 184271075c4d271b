//! Events at a steady rate, for everyone or for one user at a time.

use std::sync::Arc;

use super::{Arrivals, Due, pause};
use crate::body::EVERYONE;

/// How events follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Each as long after the last.
    Even,
    /// As if they did not know of each other (Poisson).
    Random,
}

/// Whose an event is.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Everyone,
    /// One of these, by chance.
    AnyOf(Arc<[u32]>),
}

/// The source.
pub(crate) struct Steady {
    rate: f64,
    beat: Beat,
    target: Target,
    bodies: Vec<u16>,
    rng: fastrand::Rng,
    /// In microseconds; a fraction, so that no rounding adds up.
    at: f64,
}

impl Steady {
    /// `rate` events a second, each with one of the bodies.
    pub(crate) fn new(rate: f64, beat: Beat, target: Target, bodies: Vec<u16>, rng: fastrand::Rng) -> Self {
        let mut steady = Self {
            rate,
            beat,
            target,
            bodies,
            rng,
            at: 0.0,
        };
        steady.advance();
        steady
    }

    fn advance(&mut self) {
        self.at += match self.beat {
            Beat::Even => 1e6 / self.rate,
            Beat::Random => pause(&mut self.rng, self.rate),
        };
    }
}

impl Arrivals for Steady {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time of the run, which is positive and short"
    )]
    fn peek(&mut self) -> u64 {
        self.at as u64
    }

    fn next(&mut self) -> Due {
        let at = self.peek();
        let stream = match &self.target {
            Target::Everyone => EVERYONE,
            Target::AnyOf(users) => users[self.rng.usize(..users.len())],
        };
        let body = self.bodies[self.rng.usize(..self.bodies.len())];
        self.advance();
        Due { at, stream, body }
    }
}
