//! `connect`: sessions come, subscribe, connect, and say goodbye.

use super::{Kind, Plan};
use crate::settings::Settings;
use crate::site::Channels;

pub(super) const KIND: Kind = Kind {
    name: "connect",
    about: "sessions that come and go: time from the connection to the first connect's answer, and what that costs",
    options: &["sessions", "connect-rate", "cycles"],
    addresses_users: false,
    defaults: |settings| settings.opening.cycles = 5,
    count_users: |settings| settings.sessions,
    plan,
};

fn plan(settings: &Settings) -> Plan {
    let channels = Channels {
        own: vec![format!("{}/calls", settings.prefix())],
        everyone: None,
        route: settings.route(),
    };
    Plan {
        only_opens: true,
        ..Plan::new(settings, settings.sessions, channels)
    }
}
