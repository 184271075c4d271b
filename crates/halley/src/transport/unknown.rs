//! Clients that loop on `402`: who is answered how late, and who is refused.
//!
//! A stock client shakes hands at once when it hears that its session is unknown, and must not wait for that. A client in the
//! field takes no notice of a `402` inside a success, and asks again more than a thousand times a second. So the first answers
//! to a clientId leave at once, later ones later and later, and after some more repeats the answer is no success any more.
//!
//! Both are about one clientId at one address (the peer's, or what a trusted proxy says), since an address may be a proxy with
//! thousands of clients behind it. The address as a whole is only slowed down, and only above a rate that no crowd of clients
//! reaches that lost its sessions: to one that is healthy a refusal would be worse than a delay, for it keeps its dead session
//! and tries again.
//!
//! What speaks for a session that is known is delayed and not refused.
//!
//! Nothing here waits or reads a clock. What is remembered is bounded: the clientIds and addresses that were not heard for the
//! longest are forgotten, half of them at a time.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::UnknownSessions;
use crate::quota::network;

/// Who was told of an unknown session, and how often.
pub struct Unknown {
    settings: UnknownSessions,
    /// Keyed by the process, so that nobody can make two keys the same.
    hasher: RandomState,
    clients: Recent<Repeats>,
    addresses: Recent<Pace>,
}

/// What one body asked of unknown sessions.
#[derive(Debug)]
pub(super) struct Stray {
    /// The first clientId; one that is missing is as good as any.
    pub(super) client_id: Option<String>,
    /// Messages for unknown sessions.
    pub(super) messages: u32,
}

/// How it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lateness {
    /// After this time.
    pub(super) delay: Duration,
    /// Not as a success.
    pub(super) refused: bool,
}

/// The answers to one clientId at one address.
struct Repeats {
    count: u32,
    /// When the last one was due.
    last: Instant,
}

/// The answers to one address: when all of them would have left at the rate that is always allowed.
struct Pace(Instant);

impl Unknown {
    /// Nobody was told anything.
    pub fn new(settings: UnknownSessions) -> Self {
        Self {
            hasher: RandomState::new(),
            clients: Recent::new(settings.remembered),
            addresses: Recent::new(settings.remembered),
            settings,
        }
    }

    /// Takes note of what a client at this address asked, and says how to answer.
    pub(super) fn judge(&mut self, now: Instant, address: IpAddr, stray: &Stray) -> Lateness {
        let network = network(address);
        let client = self.hasher.hash_one((network, &stray.client_id));
        let of_address = self.slow_down(now, self.hasher.hash_one(network), stray.messages);
        let settings = &self.settings;
        let fresh = Repeats { count: 0, last: now };
        let client = self.clients.entry(client, fresh);
        if now.saturating_duration_since(client.last) > settings.forget_after.0 {
            client.count = 0;
        }
        let repeats = client.count;
        client.count = client.count.saturating_add(1);
        let delay = delay_of(repeats, settings).max(of_address);
        client.last = now + delay;
        Lateness {
            delay,
            refused: repeats >= settings.refuse_after,
        }
    }

    /// How long the answers to an address wait for each other.
    fn slow_down(&mut self, now: Instant, address: u64, messages: u32) -> Duration {
        let each = Duration::from_secs(1) / self.settings.address_rate;
        let at_once = each * self.settings.address_burst;
        let longest = self.settings.longest_delay.0;
        let Pace(pace) = self.addresses.entry(address, Pace(now));
        // No further ahead than the longest delay, so that an address is free again soon after it has calmed down.
        *pace = ((*pace).max(now) + each * messages).min(now + at_once + longest);
        pace.saturating_duration_since(now).saturating_sub(at_once)
    }
}

fn delay_of(repeats: u32, settings: &UnknownSessions) -> Duration {
    match repeats.saturating_sub(settings.free_repeats) {
        0 => Duration::ZERO,
        number => {
            let factor = 1_u32.checked_shl(number - 1).unwrap_or(u32::MAX);
            let delay = settings.first_delay.0.saturating_mul(factor);
            delay.min(settings.longest_delay.0)
        }
    }
}

/// A map of at most `capacity` entries that forgets the half that was not looked up for the longest when it is full.
struct Recent<V> {
    young: HashMap<u64, V>,
    old: HashMap<u64, V>,
    capacity: usize,
}

impl<V> Recent<V> {
    fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            capacity,
        }
    }

    fn entry(&mut self, key: u64, fresh: V) -> &mut V {
        let known = self.old.remove(&key);
        if !self.young.contains_key(&key) && self.young.len() >= self.capacity / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.entry(key).or_insert_with(|| known.unwrap_or(fresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    const PROXY: &str = "10.0.0.1";

    /// Three answers at once; then after 1, 2, 4, 8, 8 … seconds; a minute of silence is forgotten.
    fn settings() -> UnknownSessions {
        UnknownSessions {
            free_repeats: 2,
            first_delay: seconds(1),
            longest_delay: seconds(8),
            refuse_after: 5,
            forget_after: seconds(60),
            ..UnknownSessions::default()
        }
    }

    fn seconds(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    struct It {
        unknown: Unknown,
        now: Instant,
    }

    impl It {
        fn with(settings: UnknownSessions) -> Self {
            Self {
                unknown: Unknown::new(settings),
                now: Instant::now(),
            }
        }

        fn after(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        fn ask(&mut self, peer: &str, client_id: &str) -> Lateness {
            let stray = Stray {
                client_id: Some(client_id.to_owned()),
                messages: 1,
            };
            self.unknown.judge(self.now, peer.parse().unwrap(), &stray)
        }

        /// Waits for each answer and asks again at once. Returns the seconds of the delays.
        fn loops(&mut self, times: usize) -> Vec<u64> {
            let ask = |_| {
                let Lateness { delay, .. } = self.ask(PROXY, "looping");
                self.now += delay;
                delay.as_secs()
            };
            (0..times).map(ask).collect()
        }
    }

    #[test]
    fn the_first_answers_leave_at_once_and_more_of_them_later_and_later() {
        let mut it = It::with(settings());
        assert_eq!(it.loops(10), [0, 0, 0, 1, 2, 4, 8, 8, 8, 8]);
        let mut it = It::with(settings());
        it.loops(100);
        assert_eq!(it.loops(1), [8], "after any number of repeats");
    }

    #[test]
    fn repeats_are_refused_after_some_time_and_no_first_answer_is() {
        let mut it = It::with(settings());
        let refused: Vec<bool> = (0..7).map(|_| it.ask(PROXY, "looping").refused).collect();
        assert_eq!(refused, [false, false, false, false, false, true, true]);
        assert!(!it.ask(PROXY, "another").refused);
    }

    #[test]
    fn silence_is_forgiven_and_waiting_for_an_answer_is_no_silence() {
        let mut it = It::with(settings());
        it.loops(10);
        it.after(60);
        assert_eq!(it.loops(1), [8]);
        it.after(61);
        assert_eq!(it.loops(4), [0, 0, 0, 1]);
        let mut it = It::with(UnknownSessions {
            longest_delay: seconds(100),
            ..settings()
        });
        it.loops(12);
        assert_eq!(it.loops(1), [100]);
    }

    #[test]
    fn others_do_not_wait_for_one_that_loops() {
        let mut it = It::with(settings());
        it.loops(10);
        for (peer, client_id) in [(PROXY, "another"), ("10.0.0.2", "looping"), ("::1", "looping")] {
            assert_eq!(
                it.ask(peer, client_id).delay,
                Duration::ZERO,
                "{peer} {client_id}"
            );
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_ipv4_is_the_same_in_its_clothes() {
        let mut it = It::with(settings());
        let mut last = |peers: [&str; 4]| {
            let delays = peers.map(|peer| it.ask(peer, "looping").delay.as_secs());
            delays[3]
        };
        assert_eq!(
            last(["2001:db8::1", "2001:db8::2", "2001:db8::3:4:5:6", "2001:db8::"]),
            1
        );
        assert_eq!(last(["10.0.0.9", "::ffff:10.0.0.9", "10.0.0.9", "10.0.0.9"]), 1);
        assert_eq!(it.ask("2001:db8:0:1::1", "looping").delay, Duration::ZERO);
    }

    #[test]
    fn a_client_id_that_is_missing_is_one_like_any_other() {
        let mut it = It::with(settings());
        let stray = Stray {
            client_id: None,
            messages: 1,
        };
        let peer = PROXY.parse().unwrap();
        let delays = [(); 4].map(|()| it.unknown.judge(it.now, peer, &stray).delay.as_secs());
        assert_eq!(delays, [0, 0, 0, 1]);
    }

    #[test]
    fn a_crowd_behind_one_address_that_lost_its_sessions_does_not_wait() {
        let mut it = It::with(UnknownSessions::default());
        for client in 0..10_000 {
            for _ in 0..3 {
                let lateness = it.ask(PROXY, &format!("client {client}"));
                assert_eq!(lateness.delay, Duration::ZERO, "{client}");
            }
        }
    }

    #[test]
    fn an_address_that_makes_up_client_ids_is_answered_at_the_rate_that_is_allowed() {
        let mut it = It::with(UnknownSessions {
            address_burst: 100,
            address_rate: 10,
            ..settings()
        });
        let ask = |number: u32| it.ask(PROXY, &format!("made up {number}"));
        let answers: Vec<Lateness> = (0..300).map(ask).collect();
        assert!(answers.iter().all(|lateness| !lateness.refused));
        let delays: Vec<u128> = answers
            .iter()
            .map(|lateness| lateness.delay.as_millis())
            .collect();
        assert!(delays[..100].iter().all(|delay| *delay == 0));
        assert_eq!((delays[100], delays[101], delays[109]), (100, 200, 1000));
        assert_eq!(delays[299], 8000, "the longest");
        assert_eq!(it.ask("10.0.0.2", "another").delay, Duration::ZERO);
        it.after(9);
        assert_eq!(it.ask(PROXY, "after a while").delay, Duration::ZERO);
    }

    #[test]
    fn every_message_of_a_body_counts_for_its_address() {
        let mut it = It::with(UnknownSessions {
            address_burst: 100,
            address_rate: 10,
            ..settings()
        });
        let stray = Stray {
            client_id: Some("x".to_owned()),
            messages: 110,
        };
        let lateness = it.unknown.judge(it.now, PROXY.parse().unwrap(), &stray);
        assert_eq!(lateness.delay, Duration::from_secs(1));
    }

    #[test]
    fn when_memory_is_full_the_half_that_was_silent_for_the_longest_is_forgotten() {
        let mut it = It::with(UnknownSessions {
            remembered: 100,
            ..settings()
        });
        for _ in 0..4 {
            it.ask(PROXY, "silent");
        }
        it.loops(4);
        for number in 0..1000 {
            it.ask(&format!("10.1.{}.{}", number / 250, number % 250), "once");
            if number % 40 == 0 {
                it.ask(PROXY, "looping");
            }
            for count in [
                it.unknown.clients.young.len() + it.unknown.clients.old.len(),
                it.unknown.addresses.young.len() + it.unknown.addresses.old.len(),
            ] {
                assert!(count <= 100, "{count} are remembered");
            }
        }
        assert_eq!(it.ask(PROXY, "looping").delay, Duration::from_secs(8));
        assert_eq!(it.ask(PROXY, "silent").delay, Duration::ZERO);
    }
}
