//! The calls of a contact centre, as the notifications that they make.
//!
//! A handled call makes 14.7 notifications on average:
//!
//! | what | how often | to whom |
//! |---|---|---|
//! | ringing, established, released | always | the agent |
//! | attached data | 5, one of them 151 ms after the ringing | the agent |
//! | held, retrieved | 30 % of calls | the agent |
//! | transfer | 30 %, 4 each | the agent and a colleague, at the same moments |
//! | conference | 10 %, 6 and 4 | the agent and a colleague; then the colleague is removed: one each, at once |
//! | monitoring | 5 %, 8 and 2 | the supervisor and the agent |
//! | after-call work, ready again | always, on the channel for devices | the agent |
//!
//! Calls arrive as a Poisson process and take their time, so the first moment finds as many of them under way as any other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Arrivals, Due, pause};

/// Notifications of one call, on average.
pub(crate) const PER_CALL: f64 = 14.7;

/// Agents of a team; one supervisor comes to them.
pub(crate) const TEAM: u32 = 10;

/// No call makes notifications for longer than this, in seconds.
const LONGEST: f64 = 360.0;

/// Bodies by what they are for.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// Of calls, and of the few that are much larger.
    pub(crate) call: Vec<u16>,
    pub(crate) large: Vec<u16>,
    /// Of devices.
    pub(crate) device: u16,
}

/// One call in this many has attached data that is much larger.
const LARGE_ONE_IN: u32 = 20;

/// The source.
pub(crate) struct Calls {
    rng: fastrand::Rng,
    /// Calls that begin in a second.
    rate: f64,
    /// The first user of each team: its agents, and after them its supervisor.
    teams: Vec<u32>,
    sizes: Sizes,
    /// When the next call begins, in microseconds; before 0 while those are made up that are under way at 0.
    next_call: f64,
    /// What the calls so far are going to make. The number keeps those of one moment in their order.
    ahead: BinaryHeap<Reverse<(u64, u64, Due)>>,
    count: u64,
}

/// Who a call is told to.
struct Parties {
    agent: u32,
    colleague: u32,
    supervisor: u32,
}

impl Calls {
    /// `rate` calls a second among the agents of these teams.
    pub(crate) fn new(rate: f64, teams: Vec<u32>, sizes: Sizes, rng: fastrand::Rng) -> Self {
        Self {
            rng,
            rate,
            teams,
            sizes,
            next_call: -LONGEST * 1e6,
            ahead: BinaryHeap::new(),
            count: 0,
        }
    }

    /// Makes calls until nothing that is still to be made up can come before what is known.
    fn look_ahead(&mut self) {
        while self
            .ahead
            .peek()
            .is_none_or(|Reverse((at, _, _))| *at as f64 >= self.next_call)
        {
            self.call(self.next_call);
            self.next_call += pause(&mut self.rng, self.rate);
        }
    }

    fn call(&mut self, began: f64) {
        let parties = self.parties();
        let answered = self.between(2.0, 10.0);
        let talk = self.between(90.0, 270.0);
        let hang_up = answered + talk;
        let Parties {
            agent,
            colleague,
            supervisor,
        } = parties;

        self.tell(began, agent, &[0.0, 0.151, answered, hang_up]);
        let attached: Vec<f64> = (0..4).map(|_| answered + talk * self.rng.f64()).collect();
        self.tell(began, agent, &attached);
        if self.chance(0.3) {
            self.tell(began, agent, &[answered + talk * 0.2, answered + talk * 0.4]);
        }
        if self.chance(0.3) {
            let steps = [0.0, 3.0, 8.0, 8.2].map(|step| answered + talk * 0.7 + step);
            self.tell(began, agent, &steps);
            self.tell(began, colleague, &steps);
        }
        if self.chance(0.1) {
            let steps = [0.0, 0.2, 4.0, 4.1, 9.0, 9.1].map(|step| answered + talk * 0.5 + step);
            self.tell(began, agent, &steps);
            self.tell(began, colleague, &steps[2..]);
            // RemoveParticipantFromConference: everyone learns of it at once, each by a notification of its own.
            let removed = [answered + talk * 0.5 + 30.0];
            self.tell(began, agent, &removed);
            self.tell(began, colleague, &removed);
        }
        if self.chance(0.05) {
            let steps: Vec<f64> = (1..=8)
                .map(|step| answered + talk * f64::from(step) / 9.0)
                .collect();
            self.tell(began, supervisor, &steps);
            self.tell(began, agent, &[steps[0], steps[7]]);
        }
        self.tell_device(began, agent, &[hang_up + 0.05, hang_up + 60.0]);
    }

    /// An agent, and others of the same team.
    fn parties(&mut self) -> Parties {
        let team = self.teams[self.rng.usize(..self.teams.len())];
        let agent = self.rng.u32(..TEAM);
        Parties {
            agent: team + agent,
            colleague: team + (agent + 1 + self.rng.u32(..TEAM - 1)) % TEAM,
            supervisor: team + TEAM,
        }
    }

    fn tell(&mut self, began: f64, user: u32, seconds: &[f64]) {
        for second in seconds {
            let sizes = if self.rng.u32(..LARGE_ONE_IN) == 0 {
                &self.sizes.large
            } else {
                &self.sizes.call
            };
            let body = sizes[self.rng.usize(..sizes.len())];
            self.plan(began + second * 1e6, user, body);
        }
    }

    fn tell_device(&mut self, began: f64, user: u32, seconds: &[f64]) {
        for second in seconds {
            self.plan(began + second * 1e6, user, self.sizes.device);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time of the run, which is positive and short"
    )]
    fn plan(&mut self, at: f64, stream: u32, body: u16) {
        if at >= 0.0 {
            let at = at as u64;
            self.ahead
                .push(Reverse((at, self.count, Due { at, stream, body })));
            self.count += 1;
        }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.f64() < share
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.rng.f64()
    }
}

impl Arrivals for Calls {
    fn peek(&mut self) -> u64 {
        self.look_ahead();
        self.ahead.peek().map_or(u64::MAX, |Reverse((at, _, _))| *at)
    }

    fn next(&mut self) -> Due {
        self.look_ahead();
        let Reverse((_, _, due)) = self.ahead.pop().expect("looking ahead has found one");
        due
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn calls(rate: f64) -> Calls {
        let sizes = Sizes {
            call: vec![0],
            large: vec![1],
            device: 2,
        };
        Calls::new(rate, vec![0, 11], sizes, fastrand::Rng::with_seed(3))
    }

    fn first_seconds(calls: &mut Calls, seconds: u64) -> Vec<Due> {
        std::iter::from_fn(|| (calls.peek() < seconds * 1_000_000).then(|| calls.next())).collect()
    }

    #[test]
    fn a_call_makes_as_many_notifications_as_the_model_says() {
        let due = first_seconds(&mut calls(2.0), 20_000);
        let per_call = due.len() as f64 / 40_000.0;
        assert!(
            (PER_CALL - 0.07..PER_CALL + 0.07).contains(&per_call),
            "{per_call}"
        );
    }

    #[test]
    fn the_first_minute_is_as_busy_as_any_other() {
        let due = first_seconds(&mut calls(20.0), 600);
        let in_minute = |minute: u64| (due.iter()).filter(|due| due.at / 60_000_000 == minute).count() as f64;
        let later: f64 = (5..10).map(in_minute).sum::<f64>() / 5.0;
        assert!(
            (0.9..1.1).contains(&(in_minute(0) / later)),
            "{} {later}",
            in_minute(0)
        );
    }

    #[test]
    fn notifications_come_in_the_order_of_their_time() {
        let due = first_seconds(&mut calls(5.0), 1_000);
        assert!(due.is_sorted_by_key(|due| due.at));
    }

    #[test]
    fn supervisors_get_what_monitoring_makes_and_agents_the_rest() {
        let due = first_seconds(&mut calls(10.0), 10_000);
        let mut by_user: BTreeMap<u32, usize> = BTreeMap::new();
        due.iter()
            .for_each(|due| *by_user.entry(due.stream).or_default() += 1);
        assert_eq!(by_user.len(), 22, "two teams of eleven");
        let supervisors = (by_user[&10] + by_user[&21]) as f64 / due.len() as f64;
        assert!(
            (0.4 / PER_CALL - 0.005..0.4 / PER_CALL + 0.005).contains(&supervisors),
            "{supervisors}"
        );
    }

    #[test]
    fn a_removal_is_told_to_two_at_the_same_moment() {
        let due = first_seconds(&mut calls(0.05), 20_000);
        let at_once = due
            .windows(2)
            .filter(|pair| pair[0].at == pair[1].at && pair[0].stream != pair[1].stream);
        assert!(at_once.count() > 100);
    }
}
