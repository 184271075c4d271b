//! One clock for all sockets: each is reminded once in a ping interval, and when the process ends.
//!
//! A socket that is idle has no timer of its own, and waits for no signal of its own: it is on a ring, in the place that comes
//! up next when the interval is over.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use super::road::{Crowd, Leaving, Road};
use super::wire::SocketWire;
use crate::http::Shutdown;

/// Places of the ring. The first reminder is early by up to one of them.
const PLACES: usize = 32;

/// Every socket of this node.
pub struct Beat {
    interval: Duration,
    ring: Mutex<Ring>,
}

struct Ring {
    places: [Crowd; PLACES],
    /// The place that comes up next.
    next: usize,
    is_over: bool,
}

impl Beat {
    /// Reminds each socket once in `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            ring: Mutex::new(Ring {
                places: [const { Crowd::new() }; PLACES],
                next: 0,
                is_over: false,
            }),
        }
    }

    /// From now on this socket is reminded.
    pub(super) fn add<R: Road>(&self, wire: &Arc<SocketWire<R>>) {
        let mut ring = self.ring.lock();
        if ring.is_over {
            wire.remind_of_shutdown();
        }
        let last = (ring.next + PLACES - 1) % PLACES;
        ring.places[last].add(wire);
    }

    /// Runs until shutdown, and tells every socket of that.
    pub async fn run(&self, mut shutdown: Shutdown) {
        let tick = self.interval / PLACES as u32;
        let mut ticks = tokio::time::interval(tick.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.turn(),
                () = shutdown.wait() => return self.end(),
            }
        }
    }

    /// Those that are open. Whoever counts them does not keep them.
    pub fn sockets(&self) -> Vec<Weak<dyn Leaving>> {
        let ring = self.ring.lock();
        let mut sockets = Vec::new();
        ring.places.iter().for_each(|place| place.all(&mut sockets));
        sockets.retain(|socket| socket.strong_count() > 0);
        sockets
    }

    /// Reminds the sockets of the next place, and forgets those that are gone.
    fn turn(&self) {
        let mut ring = self.ring.lock();
        let place = ring.next;
        ring.next = (place + 1) % PLACES;
        ring.places[place].remind(PLACES);
    }

    fn end(&self) {
        let mut ring = self.ring.lock();
        ring.is_over = true;
        ring.places.iter().for_each(Crowd::remind_of_shutdown);
    }
}
