//! How often an address may shake hands, how many sessions it may open, and how much a publisher may publish.
//!
//! An address is a peer's, or what a trusted proxy says of whom it speaks for; of IPv6 a /64 is one. Those of exempt networks
//! are not counted at all: behind one address may be a whole contact centre.
//!
//! What is remembered is bounded. Rates are kept by 17 bits of a keyed hash, so that beyond 131,072 addresses some share a rate and
//! nobody can choose with whom; those that have their whole burst again are forgotten. Sessions are counted while they are there.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use dashmap::DashMap;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use hyper::HeaderMap;

use crate::config::{Limits, Network};

/// Who counts as one, and what each has used up.
pub struct Quotas<C: Clock = DefaultClock> {
    trusted_proxies: Vec<Network>,
    exempt: Vec<Network>,
    hasher: RandomState,
    handshakes: Option<Rate<C>>,
    publishes: Option<Rate<C>>,
}

/// One that is counted: it says nothing of where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(NonZeroU64);

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Its peer, or whom a trusted proxy speaks for.
    pub client: IpAddr,
    /// That, if it is counted.
    pub address: Option<Address>,
}

impl Default for Origin {
    /// Nowhere.
    fn default() -> Self {
        Self {
            client: Ipv4Addr::UNSPECIFIED.into(),
            address: None,
        }
    }
}

/// How many there are of each address.
#[derive(Debug, Default)]
pub struct Tally(DashMap<Address, usize>);

/// Too many: it makes sense to ask again after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComeAgain(pub Duration);

/// So many a second, and so many at once.
struct Rate<C: Clock> {
    limiter: RateLimiter<u32, DashMapStateStore<u32>, C, NoOpMiddleware<C::Instant>>,
    burst: NonZeroU32,
    clock: C,
}

/// How many rates are told apart.
const BUCKETS: u64 = 1 << 17;

impl Quotas {
    /// Nobody has used up anything.
    pub fn new(limits: &Limits) -> Self {
        Self::with_clock(limits, &DefaultClock::default())
    }
}

impl<C: Clock + Clone> Quotas<C> {
    fn with_clock(limits: &Limits, clock: &C) -> Self {
        Self {
            trusted_proxies: limits.trusted_proxies.clone(),
            exempt: limits.exempt_networks.clone(),
            hasher: RandomState::new(),
            handshakes: Rate::of(limits.handshakes_per_address, limits.handshake_burst, clock),
            publishes: Rate::of(limits.publishes_per_publisher, limits.publish_burst, clock),
        }
    }
}

impl<C: Clock> Quotas<C> {
    /// Who sends a request.
    pub fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> Origin {
        let client = self.client(peer, headers);
        let is_exempt = is_in(&self.exempt, client);
        let address = (!is_exempt).then(|| Address(NonZeroU64::MIN | self.hasher.hash_one(network(client))));
        Origin { client, address }
    }

    /// A handshake came from there.
    pub fn handshake(&self, address: Option<Address>) -> Result<(), ComeAgain> {
        match (&self.handshakes, address) {
            (Some(rate), Some(Address(hash))) => rate.take(hash.get(), 1),
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// A publisher wants so many events to be taken.
    pub fn publish(&self, publisher: &str, events: usize) -> Result<(), ComeAgain> {
        match &self.publishes {
            Some(rate) => rate.take(self.hasher.hash_one(publisher), events),
            None => Ok(()),
        }
    }

    /// Forgets who has nothing used up any more.
    pub fn forget(&self) {
        for rate in [&self.handshakes, &self.publishes].into_iter().flatten() {
            rate.limiter.retain_recent();
            rate.limiter.shrink_to_fit();
        }
    }

    /// The last address of `X-Forwarded-For` that is no trusted proxy, as far as proxies that are trusted have written it. What
    /// stands before it anybody may have made up.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let mut named = headers
            .get_all("x-forwarded-for")
            .iter()
            .rev()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.rsplit(','));
        while is_in(&self.trusted_proxies, client) {
            let Some(Ok(before)) = named.next().map(|text| text.trim().parse()) else {
                break;
            };
            client = before;
        }
        client
    }
}

impl<C: Clock + Clone> Rate<C> {
    fn of(per_second: u32, burst: u32, clock: &C) -> Option<Self> {
        let (per_second, burst) = (NonZeroU32::new(per_second)?, NonZeroU32::new(burst)?);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Some(Self {
            limiter: RateLimiter::dashmap_with_clock(quota, clock.clone()),
            burst,
            clock: clock.clone(),
        })
    }
}

impl<C: Clock> Rate<C> {
    fn take(&self, hash: u64, count: usize) -> Result<(), ComeAgain> {
        let bucket = u32::try_from(hash % BUCKETS).unwrap_or_default();
        // More at once than the burst would never be let in: it takes the whole of it.
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(self.burst.get());
        let Some(count) = NonZeroU32::new(count) else {
            return Ok(());
        };
        match self.limiter.check_key_n(&bucket, count) {
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(refused)) => Err(ComeAgain(refused.wait_time_from(self.clock.now()))),
        }
    }
}

impl ComeAgain {
    /// In whole seconds, at least one.
    pub fn seconds(self) -> u32 {
        let seconds = self.0.as_millis().div_ceil(1000).max(1);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// The same, and up to a second more: those that were refused together need not come back together.
    #[must_use]
    pub fn spread(self) -> Self {
        let chance = RandomState::new().hash_one(()) % 1000;
        Self(self.0 + Duration::from_millis(chance))
    }
}

impl Tally {
    /// Counts one more, if there are fewer than `most`; zero is any number.
    pub fn enter(&self, address: Address, most: usize) -> bool {
        let mut count = self.0.entry(address).or_insert(0);
        let has_room = most == 0 || *count < most;
        if has_room {
            *count += 1;
        }
        has_room
    }

    /// Counts one more, however many there are.
    pub fn add(&self, address: Address) {
        *self.0.entry(address).or_insert(0) += 1;
    }

    /// Counts one less.
    pub fn leave(&self, address: Address) {
        self.0.remove_if_mut(&address, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// Whoever has an address of IPv6 has all of its /64.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn network_of(text: &str) -> Network {
        Network::parse(text).expect("a network")
    }

    fn limits() -> Limits {
        Limits {
            handshakes_per_address: 10,
            handshake_burst: 3,
            publishes_per_publisher: 100,
            publish_burst: 50,
            trusted_proxies: vec![network_of("10.0.0.0/8")],
            exempt_networks: vec![network_of("192.0.2.0/24")],
            ..Limits::default()
        }
    }

    struct It {
        quotas: Quotas<FakeRelativeClock>,
        clock: FakeRelativeClock,
    }

    impl It {
        fn new() -> Self {
            let clock = FakeRelativeClock::default();
            let quotas = Quotas::with_clock(&limits(), &clock);
            Self { quotas, clock }
        }

        fn address(&self, peer: &str, forwarded: &[&str]) -> Option<Address> {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append("x-forwarded-for", line.parse().expect("a value"));
            }
            let peer = peer.parse().expect("an address");
            self.quotas.origin(peer, &headers).address
        }

        fn handshakes(&self, peer: &str, times: usize) -> usize {
            let address = self.address(peer, &[]);
            (0..times)
                .filter(|_| self.quotas.handshake(address).is_ok())
                .count()
        }
    }

    #[test]
    fn an_address_shakes_hands_as_often_as_its_burst_and_then_at_its_rate() {
        let it = It::new();
        assert_eq!(it.handshakes("203.0.113.1", 10), 3);
        assert_eq!(it.handshakes("203.0.113.2", 10), 3, "another has its own");
        it.clock.advance(Duration::from_millis(100));
        assert_eq!(it.handshakes("203.0.113.1", 10), 1);
        it.clock.advance(Duration::from_secs(60));
        assert_eq!(it.handshakes("203.0.113.1", 10), 3);
    }

    #[test]
    fn who_is_refused_hears_when_to_come_again() {
        let it = It::new();
        it.handshakes("203.0.113.1", 3);
        let refused = it.quotas.handshake(it.address("203.0.113.1", &[]));
        let Err(ComeAgain(after)) = refused else {
            panic!("it was let in")
        };
        assert!(after <= Duration::from_millis(100), "{after:?}");
        it.clock.advance(after);
        assert_eq!(it.handshakes("203.0.113.1", 1), 1);
        assert_eq!(ComeAgain(after).seconds(), 1);
        assert_eq!(ComeAgain(Duration::from_millis(1001)).seconds(), 2);
    }

    #[test]
    fn an_exempt_network_is_not_counted() {
        let it = It::new();
        assert_eq!(it.handshakes("192.0.2.7", 10_000), 10_000);
        assert_eq!(it.address("192.0.2.7", &[]), None);
    }

    #[test]
    fn loopback_is_exempt_unless_it_is_said_otherwise() {
        let quotas = Quotas::new(&Limits::default());
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            let peer = loopback.parse().expect("an address");
            assert_eq!(quotas.origin(peer, &HeaderMap::new()).address, None, "{loopback}");
        }
    }

    #[test]
    fn all_addresses_of_a_64_are_one() {
        let it = It::new();
        assert_eq!(it.handshakes("2001:db8::1", 3), 3);
        assert_eq!(it.handshakes("2001:db8::ffff:2", 3), 0);
        assert_eq!(it.handshakes("2001:db8:0:1::1", 3), 3);
    }

    #[test]
    fn a_trusted_proxy_says_whom_it_speaks_for_and_nobody_else_does() {
        let it = It::new();
        let client = it.address("203.0.113.1", &[]);
        for (peer, forwarded) in [
            ("10.1.1.1", &["203.0.113.1"][..]),
            ("10.1.1.1", &["198.51.100.9, 203.0.113.1"]),
            ("10.1.1.1", &["198.51.100.9", "203.0.113.1, 10.2.2.2"]),
            // A stranger's own words.
            ("203.0.113.1", &["198.51.100.9"]),
        ] {
            assert_eq!(it.address(peer, forwarded), client, "{peer} {forwarded:?}");
        }
        let proxy = it.address("10.1.1.1", &[]);
        assert_ne!(proxy, client);
        assert_eq!(it.address("10.1.1.1", &["nonsense"]), proxy);
    }

    #[test]
    fn a_publisher_publishes_its_burst_and_then_at_its_rate() {
        let it = It::new();
        assert_eq!(it.quotas.publish("voice", 40), Ok(()));
        assert!(it.quotas.publish("voice", 40).is_err());
        assert_eq!(it.quotas.publish("crm", 40), Ok(()), "another has its own");
        it.clock.advance(Duration::from_secs(1));
        assert_eq!(
            it.quotas.publish("voice", 512),
            Ok(()),
            "one batch is let in whole"
        );
    }

    #[test]
    fn without_a_rate_nobody_is_counted() {
        let quotas = Quotas::new(&Limits {
            handshakes_per_address: 0,
            exempt_networks: Vec::new(),
            ..Limits::default()
        });
        let peer = "203.0.113.1".parse().expect("an address");
        let address = quotas.origin(peer, &HeaderMap::new()).address;
        assert!((0..10_000).all(|_| quotas.handshake(address).is_ok() && quotas.publish("x", 9).is_ok()));
    }

    #[test]
    fn a_million_addresses_are_remembered_in_bounded_memory_and_forgotten_when_they_are_calm() {
        let it = It::new();
        for number in 0..1_000_000_u32 {
            let peer = IpAddr::V6(Ipv6Addr::from_bits(u128::from(number) << 64 | 1 << 127));
            let _ = it
                .quotas
                .handshake(it.quotas.origin(peer, &HeaderMap::new()).address);
        }
        let limiter = &it.quotas.handshakes.as_ref().expect("a rate").limiter;
        assert!(limiter.len() as u64 <= BUCKETS, "{}", limiter.len());
        it.clock.advance(Duration::from_secs(60));
        it.quotas.forget();
        assert_eq!(limiter.len(), 0);
    }

    #[test]
    fn an_address_has_as_many_sessions_as_it_may_and_none_is_remembered_when_they_are_gone() {
        let (it, tally) = (It::new(), Tally::default());
        let address = it.address("203.0.113.1", &[]).expect("it is counted");
        assert!(tally.enter(address, 2) && tally.enter(address, 2));
        assert!(!tally.enter(address, 2));
        assert!(tally.enter(address, 0), "any number");
        (0..3).for_each(|_| tally.leave(address));
        assert!(tally.0.is_empty());
        assert!(tally.enter(address, 2));
    }
}
