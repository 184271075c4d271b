//! `idle`: sessions that wait.

use std::time::Duration;

use super::{Kind, Plan};
use crate::settings::Settings;
use crate::site::Channels;

pub(super) const KIND: Kind = Kind {
    name: "idle",
    about: "sessions that wait for events that never come: memory of the server for each, and what waiting costs",
    options: &["sessions"],
    addresses_users: false,
    defaults: |settings| {
        settings.warm_up = Duration::ZERO;
        settings.duration = Duration::from_secs(10);
    },
    count_users: |settings| settings.sessions,
    plan,
};

fn plan(settings: &Settings) -> Plan {
    let channels = Channels {
        own: vec![format!("{}/calls", settings.prefix())],
        everyone: None,
        route: settings.route(),
    };
    Plan::new(settings, settings.sessions, channels)
}
