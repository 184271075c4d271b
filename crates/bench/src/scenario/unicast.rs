//! `unicast`: each session has a user of its own, and each event one user.

use super::fan_out::PAYLOAD;
use super::{Kind, Plan, Traffic};
use crate::settings::Settings;
use crate::site::Channels;

pub(super) const KIND: Kind = Kind {
    name: "unicast",
    about: "a user for every session, and every event for one of them: what an event costs from publisher to client",
    options: &["sessions", "rate", "in-flight", "payload"],
    addresses_users: true,
    // What an event costs is asked for, not what company saves.
    defaults: |settings| settings.publish.batch = 1,
    count_users: |settings| settings.sessions,
    plan,
};

fn plan(settings: &Settings) -> Plan {
    let channels = Channels {
        own: vec![format!("{}/calls", settings.prefix())],
        everyone: None,
        route: settings.route(),
    };
    let mut plan = Plan::new(settings, settings.sessions, channels);
    let body = plan.bodies.add(settings.payload.unwrap_or(PAYLOAD), 0);
    plan.traffic = Traffic::Steady {
        rate: settings.rate.unwrap_or(500.0),
        for_everyone: false,
        bodies: vec![body],
    };
    plan
}
