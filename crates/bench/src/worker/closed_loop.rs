//! A closed loop: the next event only when one that is under way has reached everyone. It says how much a server can do, and
//! nothing about latency, since a slow server is asked for less.

use std::collections::HashMap;

use crate::body::EVERYONE;

/// What is under way.
#[derive(Debug)]
pub(super) struct ClosedLoop {
    limit: usize,
    /// Deliveries that are left of each event.
    left: HashMap<(u32, u64), u32>,
    /// Sessions of each user, and all of them.
    by_user: Vec<u32>,
    all: u32,
}

impl ClosedLoop {
    /// `limit` events at once to sessions of these users.
    pub(super) fn new(limit: u32, users: u32, sessions: impl Iterator<Item = u32>) -> Self {
        let mut by_user = vec![0; users as usize];
        sessions.for_each(|user| by_user[user as usize] += 1);
        Self {
            limit: limit as usize,
            left: HashMap::new(),
            all: by_user.iter().sum(),
            by_user,
        }
    }

    /// How many more may begin, with so many that wait to be published.
    pub(super) fn room(&self, waiting: usize) -> usize {
        self.limit.saturating_sub(self.left.len() + waiting)
    }

    pub(super) fn publish(&mut self, stream: u32, number: u64) {
        let audience = if stream == EVERYONE {
            self.all
        } else {
            self.by_user[stream as usize]
        };
        if audience > 0 {
            self.left.insert((stream, number), audience);
        }
    }

    pub(super) fn deliver(&mut self, stream: u32, number: u64) {
        if let Some(left) = self.left.get_mut(&(stream, number)) {
            *left -= 1;
            if *left == 0 {
                self.left.remove(&(stream, number));
            }
        }
    }

    /// It will not be delivered.
    pub(super) fn give_up(&mut self, stream: u32, number: u64) {
        self.left.remove(&(stream, number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_again_when_all_have_an_event() {
        let mut closed_loop = ClosedLoop::new(2, 2, [0, 1, 1].into_iter());
        closed_loop.publish(EVERYONE, 0);
        closed_loop.publish(0, 0);
        assert_eq!(closed_loop.room(0), 0);
        closed_loop.deliver(0, 0);
        assert_eq!((closed_loop.room(0), closed_loop.room(1)), (1, 0));
        (0..2).for_each(|_| closed_loop.deliver(EVERYONE, 0));
        assert_eq!(closed_loop.room(0), 1);
        closed_loop.deliver(EVERYONE, 0);
        assert_eq!(closed_loop.room(0), 2);
    }

    #[test]
    fn what_was_refused_is_not_waited_for() {
        let mut closed_loop = ClosedLoop::new(1, 1, [0].into_iter());
        closed_loop.publish(0, 0);
        closed_loop.give_up(0, 0);
        assert_eq!(closed_loop.room(0), 1);
    }
}
