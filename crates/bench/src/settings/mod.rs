//! What a run is asked to do. [`Settings::new`] has the defaults of a scenario; the command line changes them.

mod address;
mod users;

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

pub use address::{Address, Scheme, Sources};
pub use users::Users;

use crate::body::Bodies;
use crate::scenario::Kind;

/// Everything that a run is asked to do.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// What is tested.
    #[serde(serialize_with = "by_name")]
    pub scenario: &'static Kind,
    /// Where clients go.
    pub url: Address,
    /// Other nodes of the same server: sessions go to each in turn.
    pub more_urls: Vec<Address>,
    /// How events are published.
    pub publish: Publish,
    /// How an event finds its one user. Without, by user where Halley is published to, otherwise by channel.
    pub route: Option<Route>,
    /// What channels begin with. Without, `/v2/me` where Halley is published to, otherwise `/bench/me`.
    pub prefix: Option<String>,
    /// Who clients are.
    pub users: Users,
    /// Sessions, in scenarios that count them.
    pub sessions: u32,
    /// Agents, in scenarios that count those.
    pub agents: u32,
    /// Sessions of an agent, on average.
    pub tabs: f64,
    /// The share of sessions that poll; the others have a WebSocket.
    pub long_polling: f64,
    /// The share of sessions with the acknowledge extension.
    pub ack: f64,
    /// Events a second. Without, what the scenario makes of its size.
    pub rate: Option<f64>,
    /// A closed loop instead of a rate: so many events under way at once.
    pub in_flight: Option<u32>,
    /// Bytes of every event's data, instead of what the scenario has.
    pub payload: Option<usize>,
    /// How long is measured.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// How long is published before that.
    #[serde(serialize_with = "seconds")]
    pub warm_up: Duration,
    /// How long nothing may arrive after the last publish until what is missing counts as lost.
    #[serde(serialize_with = "seconds")]
    pub drain: Duration,
    /// Calls that an agent handles in an hour.
    pub calls_per_hour: f64,
    /// How many times that.
    pub burst: f64,
    /// How often a service announcement goes to everyone; zero for never.
    #[serde(serialize_with = "seconds")]
    pub announce_every: Duration,
    /// What `reconnect-storm` does.
    pub storm: Storm,
    /// What `slow-clients` does.
    pub slow: Slow,
    /// How sessions are opened.
    pub opening: Opening,
    /// Addresses that connections come from; chosen by the system if there are none.
    pub sources: Vec<IpAddr>,
    /// Threads of the generator.
    pub threads: usize,
    /// What chance begins with.
    pub seed: u64,
    /// Processes of the server, whose memory and CPU are read.
    pub pids: Vec<u32>,
    /// Processes that the server works with, whose CPU is reported apart.
    pub beside: Vec<u32>,
}

/// How events are published.
#[derive(Debug, Clone, Serialize)]
pub struct Publish {
    /// In which way.
    pub by: Publisher,
    /// Where. Without, `http://127.0.0.1:9090/api/v1/events` or where the clients go.
    pub url: Option<Address>,
    /// Other nodes that take events: connections go to each in turn.
    pub more_urls: Vec<Address>,
    /// Connections, each with one request under way. What belongs to one user goes over one of them.
    pub connections: u32,
    /// Events that are due at once may share a request, at most so many.
    pub batch: usize,
    /// Whether events have ids, by which they can safely be published again when a connection breaks.
    pub ids: bool,
}

/// Ways to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publisher {
    /// `POST` of one event or an array of them, as Halley's `/api/v1/events` takes it.
    Halley,
    /// Sessions that publish on channels.
    Bayeux,
}

/// How an event finds its one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// By its `user`; all users subscribe to the same channels.
    User,
    /// By its channel, which nobody else subscribes to.
    Channel,
}

/// What `reconnect-storm` does.
#[derive(Debug, Clone, Serialize)]
pub struct Storm {
    /// Sessions that keep their connection.
    pub spared: u32,
    /// How the others lose it.
    pub cut: Cut,
    /// When they come back.
    pub come_back: ComeBack,
}

/// How connections are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// The server is told at once (RST).
    Reset,
    /// The server is told in order (FIN).
    Close,
    /// The server is not told: the old connection stays, and nobody reads it.
    Silent,
    /// By the server, which this shell command restarts, kills or cuts off.
    By(String),
}

/// When clients try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComeBack {
    /// As cometd.js: 1, 3, 6, 10, 15, … seconds after the break, all at exactly the same moments.
    Cometd,
    /// At once, and every 5 seconds.
    AtOnce,
    /// At some moment of so many seconds, and again within as many.
    Within(u32),
}

/// What `slow-clients` does.
#[derive(Debug, Clone, Serialize)]
pub struct Slow {
    /// The share of sessions that stop reading.
    pub share: f64,
    /// For how long.
    #[serde(serialize_with = "seconds")]
    pub pause: Duration,
}

/// How sessions are opened.
#[derive(Debug, Clone, Serialize)]
pub struct Opening {
    /// So many at a time.
    pub parallel: u32,
    /// So many a second instead, whether or not those before are done.
    pub rate: Option<f64>,
    /// How often `connect` opens and closes all of them.
    pub cycles: u32,
    /// How long the server may take for each answer.
    #[serde(serialize_with = "seconds")]
    pub patience: Duration,
}

/// Why settings cannot be.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

impl Settings {
    /// The defaults of a scenario, against the server at `url`.
    pub fn new(scenario: &'static Kind, url: Address) -> Self {
        let mut settings = Self {
            scenario,
            url,
            more_urls: Vec::new(),
            publish: Publish {
                by: Publisher::Halley,
                url: None,
                more_urls: Vec::new(),
                connections: 16,
                batch: 32,
                ids: false,
            },
            route: None,
            prefix: None,
            users: Users::default(),
            sessions: 1_000,
            agents: 1_000,
            tabs: 1.3,
            long_polling: 0.0,
            ack: 0.0,
            rate: None,
            in_flight: None,
            payload: None,
            duration: Duration::from_secs(30),
            warm_up: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            calls_per_hour: 16.0,
            burst: 1.0,
            announce_every: Duration::ZERO,
            storm: Storm {
                spared: 100,
                cut: Cut::Reset,
                come_back: ComeBack::Cometd,
            },
            slow: Slow {
                share: 0.1,
                pause: Duration::from_secs(10),
            },
            opening: Opening {
                parallel: 128,
                rate: None,
                cycles: 1,
                patience: Duration::from_secs(30),
            },
            sources: Vec::new(),
            threads: 1,
            seed: 1,
            pids: Vec::new(),
            beside: Vec::new(),
        };
        (scenario.defaults)(&mut settings);
        settings
    }

    /// How an event finds its one user.
    pub fn route(&self) -> Route {
        self.route.unwrap_or(match self.publish.by {
            Publisher::Halley => Route::User,
            Publisher::Bayeux => Route::Channel,
        })
    }

    /// What channels begin with.
    pub fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or(match self.publish.by {
            Publisher::Halley => "/v2/me",
            Publisher::Bayeux => "/bench/me",
        })
    }

    /// Says what cannot be, and what to do about it.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_numbers()?;
        self.check_names()?;
        if let Some(listed) = self.users.listed()
            && listed < self.scenario.users(self)
        {
            return Err(SettingsError(format!(
                "the users file has {listed} users, and {} are needed",
                self.scenario.users(self)
            )));
        }
        if self.scenario.addresses_users && self.route() == Route::User && self.users.are_anonymous() {
            return Err(SettingsError(
                "events are addressed to users, but clients do not say who they are, so nothing would arrive. Give them \
                 tokens (--token-template or --users-file; --print-users prints what the broker must know), or address \
                 events by channel (--route channel)"
                    .to_owned(),
            ));
        }
        if self.publish.by == Publisher::Bayeux && self.route() == Route::User {
            return Err(SettingsError(
                "a Bayeux publisher cannot address a user: use --route channel".to_owned(),
            ));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), SettingsError> {
        let positive = |rate: Option<f64>| rate.is_none_or(|rate| rate > 0.0 && rate <= 10_000_000.0);
        let share = |share: f64| (0.0..=1.0).contains(&share);
        let smallest = Bodies::SMALLEST;
        for (holds, complaint) in [
            (
                (1..=10_000_000).contains(&self.sessions) && (1..=9_000_000).contains(&self.agents),
                "--sessions and --agents are at least 1, and below ten million",
            ),
            ((1.0..=10.0).contains(&self.tabs), "--tabs is between 1 and 10"),
            (
                share(self.long_polling) && share(self.ack) && share(self.slow.share),
                "--long-polling, --ack and --slow are shares between 0 and 1",
            ),
            (
                positive(self.rate) && positive(self.opening.rate),
                "--rate and --connect-rate are above 0",
            ),
            (
                self.in_flight.is_none_or(|count| count > 0),
                "--in-flight is at least 1",
            ),
            (
                self.in_flight.is_none() || self.threads == 1,
                "--in-flight needs --threads 1",
            ),
            (
                positive(Some(self.calls_per_hour)) && positive(Some(self.burst)),
                "--calls-per-hour and --burst are above 0",
            ),
            ((1..=64).contains(&self.threads), "--threads is between 1 and 64"),
            (
                (1..=100_000).contains(&self.publish.connections),
                "--publishers is at least 1",
            ),
            (
                (1..=512).contains(&self.publish.batch),
                "--batch is between 1 and 512",
            ),
            (
                self.opening.parallel > 0 && self.opening.cycles > 0,
                "--parallel and --cycles are at least 1",
            ),
            (
                self.duration >= Duration::from_millis(100),
                "--duration is at least 100ms",
            ),
        ] {
            require(holds, || complaint.to_owned())?;
        }
        let payload = self.payload.unwrap_or(smallest);
        require((smallest..=1 << 20).contains(&payload), || {
            format!(
                "--payload is between {smallest} (room for the mark that tells events apart) and 1048576 bytes"
            )
        })
    }

    fn check_names(&self) -> Result<(), SettingsError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_!~()$@/".contains(&byte);
        let prefix = self.prefix();
        require(
            prefix.starts_with('/') && !prefix.ends_with('/') && prefix.bytes().all(allowed),
            || format!("--prefix {prefix} is no channel: it is like /v2/me"),
        )?;
        require(
            self.publish.by == Publisher::Bayeux
                || !(self.publish_address().is_websocket()
                    || self.publish.more_urls.iter().any(Address::is_websocket)),
            || "--publish-url begins with http:// where Halley is published to".to_owned(),
        )
    }

    /// Where clients go, each to one of these in turn.
    pub(crate) fn urls(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.url).chain(&self.more_urls)
    }

    /// Where events are published.
    pub fn publish_address(&self) -> Address {
        self.publish_address_of(0)
    }

    /// Where the connection with this number publishes.
    pub(crate) fn publish_address_of(&self, number: usize) -> Address {
        let in_turn = |first: &Address, more: &[Address]| match number % (1 + more.len()) {
            0 => first.clone(),
            place => more[place - 1].clone(),
        };
        match (&self.publish.url, self.publish.by) {
            (Some(url), _) => in_turn(url, &self.publish.more_urls),
            (None, Publisher::Halley) => Address::halley_events(),
            (None, Publisher::Bayeux) => in_turn(&self.url, &self.more_urls),
        }
    }
}

fn require(holds: bool, complaint: impl FnOnce() -> String) -> Result<(), SettingsError> {
    if holds {
        Ok(())
    } else {
        Err(SettingsError(complaint()))
    }
}

fn by_name<S: serde::Serializer>(kind: &&'static Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name)
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect_complaint(scenario: &str, change: impl FnOnce(&mut Settings), words: &str) {
        let kind = crate::scenario::named(scenario).unwrap();
        let mut settings = Settings::new(kind, "ws://127.0.0.1:8080/cometd".parse().unwrap());
        change(&mut settings);
        let complaint = settings.check().unwrap_err().0;
        assert!(complaint.contains(words), "{complaint}");
    }

    #[test]
    fn events_for_users_need_users() {
        expect_complaint("unicast", |_| {}, "--token-template");
    }

    #[test]
    fn a_users_file_that_is_too_short_is_refused() {
        let users = Users::from_file("15000,secret\n15001,other\n").unwrap();
        expect_complaint("unicast", |settings| settings.users = users, "has 2 users");
    }

    #[test]
    fn sessions_and_publishers_go_to_each_node_in_turn() {
        let node = |port: u16| -> Address { format!("http://127.0.0.1:{port}/").parse().unwrap() };
        let kind = crate::scenario::named("fan-out").unwrap();
        let mut settings = Settings::new(kind, node(1));
        settings.more_urls = vec![node(2), node(3)];
        settings.publish.url = Some(node(4));
        settings.publish.more_urls = vec![node(5)];
        let ports: Vec<u16> = settings.urls().map(|address| address.socket.port()).collect();
        assert_eq!(ports, [1, 2, 3]);
        let port = |number| settings.publish_address_of(number).socket.port();
        assert_eq!([port(0), port(1), port(2)], [4, 5, 4]);
    }

    #[test]
    fn a_payload_without_room_for_the_mark_is_refused() {
        expect_complaint("fan-out", |settings| settings.payload = Some(20), "--payload");
    }

    #[test]
    fn a_bayeux_publisher_addresses_channels() {
        expect_complaint(
            "fan-out",
            |settings| {
                settings.publish.by = Publisher::Bayeux;
                settings.route = Some(Route::User);
            },
            "--route channel",
        );
    }

    #[test]
    fn every_scenario_has_defaults_that_hold() {
        for kind in crate::scenario::ALL {
            let mut settings = Settings::new(kind, "ws://127.0.0.1:8080/cometd".parse().unwrap());
            settings.users = Users::from_templates("user-{n}", Some("token-{n}"));
            settings
                .check()
                .unwrap_or_else(|error| panic!("{}: {error}", kind.name));
        }
    }
}
