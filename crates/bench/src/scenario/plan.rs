//! What is going to happen in a run.

use std::time::Duration;

use crate::arrivals::{Arrivals, Beat, Calls, PER_CALL, Sizes, Steady, Target, Together};
use crate::body::Bodies;
use crate::settings::{Cut, Settings};
use crate::site::Channels;
use crate::wire::bayeux::Transport;

/// What is going to happen.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every session.
    pub(crate) seats: Vec<Seat>,
    pub(crate) users: u32,
    /// Users whose events may be due at the same moment; they share a thread and a publisher.
    pub(crate) team: u32,
    pub(crate) groups: Groups,
    pub(crate) channels: Channels,
    pub(crate) bodies: Bodies,
    pub(crate) traffic: Traffic,
    /// What happens to sessions, by when it does, from the moment at which measuring begins.
    pub(crate) acts: Vec<(Duration, Act)>,
    /// Nothing but opening and closing is measured.
    pub(crate) only_opens: bool,
}

/// One session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    pub(crate) user: u32,
    pub(crate) transport: Transport,
    pub(crate) acknowledges: bool,
    /// Whose latency its own belongs to.
    pub(crate) group: u8,
    /// Whether acts concern it.
    pub(crate) is_struck: bool,
}

/// What happens to sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// They lose their connection.
    Cut(Cut),
    /// They stop reading.
    StopReading,
    /// They read again.
    ReadAgain,
}

/// Latencies that are told apart.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    /// Kinds of sessions.
    pub(crate) seats: Vec<String>,
    /// What comes to everyone is told apart from what comes to one user.
    pub(crate) splits_everyone: bool,
    /// What was due after the first act is told apart from what was due before, in these words.
    pub(crate) after: Option<&'static str>,
}

/// Added to the name of a group that is told apart.
const EVERYONE: &str = "announcements";

impl Groups {
    /// A group for each transport that there is.
    pub(crate) fn by_transport() -> Self {
        Self {
            seats: vec![
                Transport::WebSocket.name().to_owned(),
                Transport::LongPolling.name().to_owned(),
            ],
            splits_everyone: false,
            after: None,
        }
    }

    /// Two for each transport: sessions that acts do not concern, and the others.
    pub(crate) fn by_transport_and(untouched: &str, struck: &str) -> Self {
        let Self { seats, .. } = Self::by_transport();
        Self {
            seats: [untouched, struck]
                .iter()
                .flat_map(|kind| seats.iter().map(move |seat| format!("{seat}, {kind}")))
                .collect(),
            ..Self::by_transport()
        }
    }

    /// The place of a latency among the names.
    pub(crate) fn index(&self, seat: u8, is_for_everyone: bool, is_after: bool) -> usize {
        let everyone = usize::from(self.splits_everyone && is_for_everyone);
        let after = usize::from(self.after.is_some() && is_after);
        usize::from(seat) + self.seats.len() * (everyone + 2 * after)
    }

    /// Every name, with whether it is part of what is summed up as *all*.
    pub(crate) fn names(&self) -> Vec<(String, bool)> {
        let mut names = Vec::new();
        for after in [None, self.after] {
            for everyone in [false, true] {
                names.extend(self.seats.iter().map(|seat| {
                    let mut name = seat.clone();
                    for addition in [everyone.then_some(EVERYONE), after].into_iter().flatten() {
                        name.push_str(", ");
                        name.push_str(addition);
                    }
                    (name, !everyone)
                }));
            }
        }
        names
    }
}

/// What is published.
#[derive(Debug, Clone)]
pub(crate) enum Traffic {
    /// Nothing.
    None,
    /// Events at a steady rate.
    Steady {
        rate: f64,
        /// For everyone, or for one user at a time.
        for_everyone: bool,
        bodies: Vec<u16>,
    },
    /// Calls, and now and then an announcement.
    Centre {
        calls_per_second: f64,
        sizes: Sizes,
        announce_every: Duration,
        announcement: u16,
    },
}

/// The part of a run that one thread has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) thread: usize,
    pub(crate) threads: usize,
    pub(crate) team: u32,
}

impl Share {
    /// Whether a user belongs to it.
    pub(crate) fn has(&self, user: u32) -> bool {
        (user / self.team) as usize % self.threads == self.thread
    }

    /// Which of a thread's publishers a stream belongs to: a team always to the same.
    pub(crate) fn lane(&self, stream: u32, lanes: usize) -> usize {
        if stream == crate::body::EVERYONE {
            return 0;
        }
        (stream / self.team) as usize / self.threads % lanes
    }

    /// The first user of each of its teams.
    fn teams(&self, users: u32) -> Vec<u32> {
        (0..users)
            .step_by(self.team as usize)
            .filter(|user| self.has(*user))
            .collect()
    }

    /// What is for everyone is published by one thread.
    fn is_first(&self) -> bool {
        self.thread == 0
    }
}

impl Traffic {
    /// Events a second, on average.
    pub(crate) fn rate(&self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Steady { rate, .. } => *rate,
            Self::Centre {
                calls_per_second,
                announce_every,
                ..
            } => {
                let announcements = if announce_every.is_zero() {
                    0.0
                } else {
                    1.0 / announce_every.as_secs_f64()
                };
                calls_per_second * PER_CALL + announcements
            }
        }
    }

    /// The part of it that a thread publishes.
    pub(crate) fn arrivals(&self, share: &Share, users: u32, seed: u64) -> Option<Box<dyn Arrivals>> {
        let rng = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(share.thread as u64));
        match self {
            Self::None => None,
            Self::Steady {
                rate,
                for_everyone: true,
                bodies,
            } => share.is_first().then(|| -> Box<dyn Arrivals> {
                Box::new(Steady::new(
                    *rate,
                    Beat::Even,
                    Target::Everyone,
                    bodies.clone(),
                    rng,
                ))
            }),
            Self::Steady {
                rate,
                for_everyone: false,
                bodies,
            } => {
                let mine: Vec<u32> = (0..users).filter(|user| share.has(*user)).collect();
                let rate = rate * mine.len() as f64 / f64::from(users);
                let target = Target::AnyOf(mine.into());
                (rate > 0.0).then(|| -> Box<dyn Arrivals> {
                    Box::new(Steady::new(rate, Beat::Random, target, bodies.clone(), rng))
                })
            }
            Self::Centre {
                calls_per_second,
                sizes,
                announce_every,
                announcement,
            } => {
                let mut all: Vec<Box<dyn Arrivals>> = Vec::new();
                let teams = share.teams(users);
                let rate = calls_per_second * teams.len() as f64 / f64::from(users / share.team);
                if rate > 0.0 {
                    all.push(Box::new(Calls::new(rate, teams, sizes.clone(), rng.clone())));
                }
                if share.is_first() && !announce_every.is_zero() {
                    let rate = 1.0 / announce_every.as_secs_f64();
                    let bodies = vec![*announcement];
                    all.push(Box::new(Steady::new(
                        rate,
                        Beat::Even,
                        Target::Everyone,
                        bodies,
                        rng,
                    )));
                }
                (!all.is_empty()).then(|| -> Box<dyn Arrivals> { Box::new(Together(all)) })
            }
        }
    }
}

impl Plan {
    /// A plan with `users`, one session each unless told otherwise.
    pub(crate) fn new(settings: &Settings, users: u32, channels: Channels) -> Self {
        Self {
            seats: seats(settings, 0..users),
            users,
            team: 1,
            groups: Groups::by_transport(),
            channels,
            bodies: Bodies::default(),
            traffic: Traffic::None,
            acts: Vec::new(),
            only_opens: false,
        }
    }

    /// Says that acts concern these seats, and that their latency is told apart.
    pub(crate) fn strike(&mut self, is_struck: impl Fn(usize) -> bool) {
        for (number, seat) in self.seats.iter_mut().enumerate() {
            seat.is_struck = is_struck(number);
            seat.group += 2 * u8::from(seat.is_struck);
        }
    }

    /// The part of a thread.
    pub(crate) fn share(&self, thread: usize, threads: usize) -> Share {
        Share {
            thread,
            threads,
            team: self.team,
        }
    }
}

/// A session for each of these users, with transports and the acknowledge extension in their shares.
pub(crate) fn seats(settings: &Settings, users: impl ExactSizeIterator<Item = u32>) -> Vec<Seat> {
    let mut rng = fastrand::Rng::with_seed(settings.seed);
    let count = users.len();
    let polls = marked(count, settings.long_polling, &mut rng);
    let acknowledges = marked(count, settings.ack, &mut rng);
    users
        .zip(polls.into_iter().zip(acknowledges))
        .map(|(user, (polls, acknowledges))| Seat {
            user,
            transport: if polls {
                Transport::LongPolling
            } else {
                Transport::WebSocket
            },
            acknowledges,
            group: u8::from(polls),
            is_struck: false,
        })
        .collect()
}

/// Exactly a share of `count`, which ones by chance.
pub(crate) fn marked(count: usize, share: f64, rng: &mut fastrand::Rng) -> Vec<bool> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of what is there"
    )]
    let marked = (count as f64 * share).round() as usize;
    let mut marks = vec![false; count];
    marks[..marked.min(count)].fill(true);
    rng.shuffle(&mut marks);
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::named;
    use crate::settings::Users;

    fn settings(scenario: &str) -> Settings {
        let mut settings = Settings::new(named(scenario).unwrap(), "ws://127.0.0.1:1/".parse().unwrap());
        settings.users = Users::from_templates("{n}", Some("{n}"));
        settings
    }

    #[test]
    fn shares_are_exact_and_independent() {
        let mut settings = settings("unicast");
        settings.long_polling = 0.5;
        settings.ack = 0.5;
        let seats = seats(&settings, 0..1_000);
        let polls = |seat: &Seat| seat.transport == Transport::LongPolling;
        assert_eq!(seats.iter().filter(|seat| polls(seat)).count(), 500);
        let both = seats
            .iter()
            .filter(|seat| polls(seat) && seat.acknowledges)
            .count();
        assert!((200..300).contains(&both), "{both}");
    }

    #[test]
    fn every_group_has_its_name() {
        let groups = Groups {
            splits_everyone: true,
            after: Some("after the cut"),
            ..Groups::by_transport_and("spared", "cut")
        };
        let names = groups.names();
        let name = |index: usize| names[index].0.as_str();
        assert_eq!(name(groups.index(0, false, false)), "websocket, spared");
        assert_eq!(
            name(groups.index(3, true, true)),
            "long-polling, cut, announcements, after the cut"
        );
        assert!(!names[groups.index(3, true, true)].1);
    }

    #[test]
    fn threads_share_users_by_teams_and_publish_everything_together() {
        let mut settings = settings("contact-centre");
        settings.agents = 50;
        let plan = (settings.scenario.plan)(&settings);
        let shares = [plan.share(0, 2), plan.share(1, 2)];
        for user in 0..plan.users {
            let owners = shares.iter().filter(|share| share.has(user)).count();
            assert_eq!(owners, 1, "{user}");
        }
        assert!(shares[0].has(0) && shares[0].has(10) && shares[1].has(11));
        for share in &shares {
            let mut arrivals = plan.traffic.arrivals(share, plan.users, 1).unwrap();
            for _ in 0..200 {
                let stream = arrivals.next().stream;
                assert!(stream == crate::body::EVERYONE || share.has(stream), "{stream}");
            }
        }
    }

    #[test]
    fn every_scenario_keeps_the_shares_and_numbers_it_is_asked_for() {
        for kind in crate::scenario::ALL {
            let mut settings = settings(kind.name);
            (settings.sessions, settings.agents) = (40, 40);
            settings.long_polling = 0.5;
            let plan = (kind.plan)(&settings);
            let polls = (plan.seats.iter()).filter(|seat| seat.transport == Transport::LongPolling);
            assert!(plan.seats.len().abs_diff(polls.count() * 2) <= 1, "{}", kind.name);
            assert!(
                plan.seats.iter().all(|seat| seat.user < plan.users),
                "{}",
                kind.name
            );
            assert_eq!(kind.users(&settings), plan.users, "{}", kind.name);
            let names = plan.groups.names().len();
            let groups = plan
                .seats
                .iter()
                .map(|seat| plan.groups.index(seat.group, true, true));
            assert!(groups.max().unwrap() < names, "{}", kind.name);
        }
    }
}
