//! What is run: a line in [`ALL`] for each. The generator's `--help` explains the options.

/// How the subscribers of a scenario come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    LongPolling,
}

/// What else is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    /// That it addresses events to users; by channels that one user each subscribes to where it cannot.
    Users,
    /// The acknowledge extension.
    Acknowledgement,
}

/// One load.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) transport: Transport,
    pub(crate) asked: Asked,
    pub(crate) options: &'static str,
    /// What is reported.
    pub(crate) figure: Figure,
    /// The yardstick.
    pub(crate) limit: &'static str,
    /// The most that we allow ourselves.
    pub(crate) target: Target,
    /// One of those that show how cost grows.
    pub(crate) grows: bool,
}

/// What a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// CPU seconds of the server for a million deliveries.
    Cpu,
    /// p99 from the time at which a publish was due, in milliseconds.
    Latency,
    /// Resident KiB for each connection.
    Memory,
    /// CPU milliseconds of the server for each session that is set up.
    Setup,
}

/// The most that a figure may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// So many times the yardstick.
    Times(f64),
    /// So many times what we take for another scenario.
    TimesOwn(f64, &'static str),
    /// This.
    Most(f64),
    /// Nothing was promised.
    Open,
}

impl Scenario {
    pub(crate) fn warms_up(&self) -> bool {
        matches!(self.figure, Figure::Cpu | Figure::Latency)
    }
}

const fn cpu(
    name: &'static str,
    what: &'static str,
    options: &'static str,
    limit: &'static str,
    times: f64,
) -> Scenario {
    Scenario {
        name,
        what,
        transport: Transport::WebSocket,
        asked: Asked::Nothing,
        options,
        figure: Figure::Cpu,
        limit,
        target: Target::Times(times),
        grows: false,
    }
}

const fn rate(name: &'static str, what: &'static str, options: &'static str, times: f64) -> Scenario {
    Scenario {
        figure: Figure::Latency,
        ..cpu(name, what, options, "limit-send", times)
    }
}

const fn rest(
    name: &'static str,
    what: &'static str,
    options: &'static str,
    figure: Figure,
    most: f64,
) -> Scenario {
    Scenario {
        figure,
        target: Target::Most(most),
        ..cpu(name, what, options, "limit-send", 0.0)
    }
}

const fn polled(scenario: Scenario) -> Scenario {
    Scenario {
        transport: Transport::LongPolling,
        ..scenario
    }
}

const fn acknowledged(scenario: Scenario, times: f64, without: &'static str) -> Scenario {
    Scenario {
        asked: Asked::Acknowledgement,
        target: Target::TimesOwn(times, without),
        ..scenario
    }
}

const fn by_user(scenario: Scenario) -> Scenario {
    Scenario {
        asked: Asked::Users,
        ..scenario
    }
}

const fn grown(name: &'static str, what: &'static str, options: &'static str) -> Scenario {
    Scenario {
        target: Target::Open,
        grows: true,
        ..cpu(name, what, options, "limit-batch", 0.0)
    }
}

/// Every scenario, as the documents have them.
pub(crate) const ALL: &[Scenario] = &[
    cpu(
        "s1k-w1",
        "1,000 WebSocket subscribers, the next event when all have the last",
        "--subs=1000 --window=1 --duration=4 --repeat=3",
        "limit-send",
        1.2,
    ),
    cpu(
        "s1k",
        "the same, up to 8 events in flight",
        "--subs=1000 --window=8 --duration=4 --repeat=3",
        "limit-batch",
        1.5,
    ),
    cpu(
        "s10k",
        "10,000 subscribers, 4 in flight",
        "--subs=10000 --window=4 --duration=5 --repeat=3",
        "limit-batch",
        1.5,
    ),
    cpu(
        "unicast",
        "10,000 subscribers, each on a channel of its own, one event a request, 32 publishing connections",
        "--scenario=unicast --pub-conns=32 --subs=10000 --window=64 --duration=4 --repeat=3",
        "limit-send",
        1.3,
    ),
    by_user(cpu(
        "unicast-user",
        "the same, each event for a user where the server knows users, on one channel for all",
        "--scenario=unicast --pub-conns=32 --subs=10000 --window=64 --duration=4 --repeat=3",
        "limit-send",
        1.3,
    )),
    cpu(
        "unicast-batch",
        "as unicast, 32 events a request, 8 connections",
        "--scenario=unicast --pub-conns=8 --subs=10000 --window=256 --batch=32 --duration=4 --repeat=3",
        "limit-send",
        1.2,
    ),
    polled(cpu(
        "lp1k",
        "1,000 long-polling subscribers, one event at a time",
        "--subs=1000 --window=1 --duration=5 --repeat=3",
        "limit-send",
        1.4,
    )),
    acknowledged(
        polled(cpu(
            "lp1k-ack",
            "the same with the acknowledge extension",
            "--subs=1000 --window=1 --duration=5 --repeat=3",
            "limit-send",
            0.0,
        )),
        1.3,
        "lp1k",
    ),
    rest(
        "idle",
        "10,000 WebSocket sessions that wait",
        "--scenario=idle --subs=10000 --pub=none --hold=4",
        Figure::Memory,
        4.0,
    ),
    polled(rest(
        "idle-lp",
        "5,000 long-polling sessions that wait",
        "--scenario=idle --subs=5000 --pub=none --hold=4",
        Figure::Memory,
        10.0,
    )),
    rest(
        "setup",
        "handshake, subscribe, first connect",
        "--scenario=setup --subs=2000 --pub=none --setup-cycles=5",
        Figure::Setup,
        0.1,
    ),
    polled(rest(
        "setup-lp",
        "the same over long-polling",
        "--scenario=setup --subs=1000 --pub=none --setup-cycles=5",
        Figure::Setup,
        0.1,
    )),
    rate(
        "s1k-rate",
        "10 events a second to 1,000 WebSocket subscribers",
        "--subs=1000 --rate=10 --duration=5 --repeat=3",
        1.2,
    ),
    rate(
        "unicast-rate",
        "2,000 events a second to 10,000 users",
        "--scenario=unicast --pub-conns=32 --subs=10000 --rate=2000 --duration=4 --repeat=3",
        1.5,
    ),
    polled(rate(
        "lp1k-rate",
        "4 events a second to 1,000 long-polling subscribers",
        "--subs=1000 --rate=4 --duration=5 --repeat=3",
        1.5,
    )),
    grown(
        "grow-1k",
        "fan-out to 1,000 sessions, 4 events in flight",
        "--subs=1000 --window=4 --duration=5 --repeat=3",
    ),
    grown(
        "grow-10k",
        "the same to 10,000",
        "--subs=10000 --window=4 --duration=5 --repeat=3",
    ),
    grown(
        "grow-50k",
        "the same to 50,000",
        "--subs=50000 --window=4 --duration=8 --repeat=3",
    ),
    grown(
        "grow-unicast-1k",
        "events for one session each, 32 a request, among 1,000",
        "--scenario=unicast --pub-conns=8 --subs=1000 --window=256 --batch=32 --duration=5 --repeat=3",
    ),
    grown(
        "grow-unicast-10k",
        "the same among 10,000",
        "--scenario=unicast --pub-conns=8 --subs=10000 --window=256 --batch=32 --duration=5 --repeat=3",
    ),
    grown(
        "grow-unicast-50k",
        "the same among 50,000",
        "--scenario=unicast --pub-conns=8 --subs=50000 --window=256 --batch=32 --duration=8 --repeat=3",
    ),
    rest_grown(
        "grow-idle-1k",
        "1,000 sessions that wait",
        "--scenario=idle --subs=1000 --pub=none --hold=4",
    ),
    rest_grown(
        "grow-idle-10k",
        "10,000 of them",
        "--scenario=idle --subs=10000 --pub=none --hold=4",
    ),
    rest_grown(
        "grow-idle-50k",
        "50,000 of them",
        "--scenario=idle --subs=50000 --pub=none --hold=4",
    ),
];

const fn rest_grown(name: &'static str, what: &'static str, options: &'static str) -> Scenario {
    Scenario {
        grows: true,
        ..rest(name, what, options, Figure::Memory, 4.0)
    }
}
