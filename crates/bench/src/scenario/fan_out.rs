//! `fan-out`: one channel, every session subscribed to it.

use super::{Kind, Plan, Traffic};
use crate::settings::Settings;
use crate::site::Channels;

pub(super) const KIND: Kind = Kind {
    name: "fan-out",
    about: "one channel with every session subscribed to it: what a delivery costs, and how long the last one waits",
    options: &["sessions", "rate", "in-flight", "payload"],
    addresses_users: false,
    defaults: |_| {},
    count_users: |settings| settings.sessions,
    plan,
};

/// A notification of the voice API.
pub(super) const PAYLOAD: usize = 990;

fn plan(settings: &Settings) -> Plan {
    let channels = Channels {
        own: Vec::new(),
        everyone: Some(format!("{}/calls", settings.prefix())),
        route: settings.route(),
    };
    let mut plan = Plan::new(settings, settings.sessions, channels);
    let body = plan.bodies.add(settings.payload.unwrap_or(PAYLOAD), 0);
    plan.traffic = Traffic::Steady {
        rate: settings.rate.unwrap_or(10.0),
        for_everyone: true,
        bodies: vec![body],
    };
    plan
}
