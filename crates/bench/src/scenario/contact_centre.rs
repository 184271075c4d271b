//! `contact-centre`: agents with calls, supervisors, conferences, several tabs, and a service announcement now and then.

use std::time::Duration;

use super::plan::{marked, seats};
use super::{Groups, Kind, Plan, Traffic};
use crate::arrivals::{PER_CALL, Sizes};
use crate::settings::{Publisher, Settings};
use crate::site::Channels;

pub(super) const KIND: Kind = Kind {
    name: "contact-centre",
    about: "the working day of a contact centre: agents and supervisors, calls with transfers and conferences, several tabs",
    options: OPTIONS,
    addresses_users: true,
    defaults,
    count_users,
    plan,
};

pub(super) const OPTIONS: &[&str] = &[
    "agents",
    "tabs",
    "calls-per-hour",
    "burst",
    "announce-every",
    "rate",
    "payload",
];

/// Agents of a team, and their supervisor after them.
const AGENTS: u32 = 10;
const TEAM: u32 = AGENTS + 1;

/// Number of the channel for devices, among the channels of a user.
const DEVICES: u8 = 1;

pub(super) fn defaults(settings: &mut Settings) {
    settings.long_polling = 0.2;
    settings.announce_every = Duration::from_secs(60);
    settings.duration = Duration::from_secs(60);
    settings.warm_up = Duration::from_secs(10);
}

/// Whole teams, so that every agent has a supervisor.
pub(super) fn count_users(settings: &Settings) -> u32 {
    settings.agents.div_ceil(AGENTS) * TEAM
}

pub(super) fn plan(settings: &Settings) -> Plan {
    let prefix = settings.prefix();
    let everyone = match (settings.publish.by, &settings.prefix) {
        (Publisher::Halley, None) => "/notifications/services".to_owned(),
        (Publisher::Halley | Publisher::Bayeux, _) => format!("{prefix}/services"),
    };
    let channels = Channels {
        own: vec![format!("{prefix}/calls"), format!("{prefix}/devices")],
        everyone: Some(everyone),
        route: settings.route(),
    };
    let users = count_users(settings);
    let mut plan = Plan::new(settings, users, channels);
    plan.team = TEAM;
    plan.seats = seats(settings, tabs(settings, users).into_iter());
    plan.groups = Groups {
        splits_everyone: true,
        ..Groups::by_transport()
    };
    plan.traffic = traffic(settings, &mut plan);
    plan
}

/// The user of each session: all of them once, and some more than once.
fn tabs(settings: &Settings, users: u32) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(settings.seed.wrapping_add(1));
    let mut sessions: Vec<u32> = (0..users).collect();
    let mut more = settings.tabs - 1.0;
    while more > 0.0 {
        let marks = marked(users as usize, more.min(1.0), &mut rng);
        sessions.extend(
            (0..users)
                .zip(marks)
                .filter(|(_, marked)| *marked)
                .map(|(user, _)| user),
        );
        more -= 1.0;
    }
    sessions
}

fn traffic(settings: &Settings, plan: &mut Plan) -> Traffic {
    let mut add = |size: usize, channel| plan.bodies.add(settings.payload.unwrap_or(size), channel);
    let sizes = Sizes {
        call: (1_000..=1_700).step_by(100).map(|size| add(size, 0)).collect(),
        large: vec![add(4_096, 0), add(8_192, 0)],
        device: add(710, DEVICES),
    };
    let announcement = add(300, 0);
    let agents = f64::from(settings.agents);
    let busy_hour = agents * settings.calls_per_hour * settings.burst / 3_600.0;
    Traffic::Centre {
        calls_per_second: settings.rate.map_or(busy_hour, |rate| rate / PER_CALL),
        sizes,
        announce_every: settings.announce_every,
        announcement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(agents: u32) -> Settings {
        let mut settings = Settings::new(&KIND, "ws://127.0.0.1:1/".parse().unwrap());
        settings.agents = agents;
        settings
    }

    #[test]
    fn ten_thousand_agents_make_the_messages_of_the_busy_hour() {
        let mut settings = settings(10_000);
        settings.announce_every = Duration::ZERO;
        let rate = plan(&settings).traffic.rate();
        assert!((652.0..654.0).contains(&rate), "{rate}");
    }

    #[test]
    fn users_have_more_than_one_session_as_asked() {
        let mut settings = settings(100);
        assert_eq!(count_users(&settings), 110);
        assert_eq!(plan(&settings).seats.len(), 143);
        settings.tabs = 2.5;
        assert_eq!(plan(&settings).seats.len(), 275);
    }
}
