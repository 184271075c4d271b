//! `reconnect-storm`: a contact centre at work, whose clients lose their connections all at once.

use std::time::Duration;

use super::contact_centre::{self, OPTIONS};
use super::{Act, Groups, Kind, Plan};
use crate::settings::{Cut, Settings};

pub(super) const KIND: Kind = Kind {
    name: "reconnect-storm",
    about: "a contact centre whose connections are cut all at once: time until everyone is back and has everything",
    options: &[
        OPTIONS[0],
        OPTIONS[1],
        OPTIONS[2],
        OPTIONS[3],
        OPTIONS[4],
        OPTIONS[5],
        OPTIONS[6],
        "spared",
        "cut",
        "come-back",
        "cut-command",
    ],
    addresses_users: true,
    defaults: |settings| {
        contact_centre::defaults(settings);
        settings.announce_every = Duration::from_secs(20);
        settings.warm_up = Duration::from_secs(5);
        settings.drain = Duration::from_secs(30);
    },
    count_users: contact_centre::count_users,
    plan,
};

/// The part of the measured time after which connections are cut.
const BEFORE: f64 = 0.2;

fn plan(settings: &Settings) -> Plan {
    let mut plan = contact_centre::plan(settings);
    let spared = match settings.storm.cut {
        Cut::Reset | Cut::Close | Cut::Silent => settings.storm.spared as usize,
        // A server that goes away spares nobody.
        Cut::By(_) => 0,
    };
    let spared = spared.min(plan.seats.len());
    // Evenly among all, so that they are of every kind.
    let every = plan.seats.len().checked_div(spared).unwrap_or(usize::MAX);
    plan.strike(|number| number % every != 0 || number / every >= spared);
    plan.groups = Groups {
        splits_everyone: true,
        after: Some("after the cut"),
        ..Groups::by_transport_and("spared", "cut")
    };
    plan.acts = vec![(
        settings.duration.mul_f64(BEFORE),
        Act::Cut(settings.storm.cut.clone()),
    )];
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_asked_are_spared() {
        for (agents, spared) in [(10, 3), (100, 10), (1, 0), (1, 100)] {
            let mut settings = Settings::new(&KIND, "ws://127.0.0.1:1/".parse().unwrap());
            settings.agents = agents;
            settings.storm.spared = spared;
            let plan = plan(&settings);
            let expected = (spared as usize).min(plan.seats.len());
            let found = plan.seats.iter().filter(|seat| !seat.is_struck).count();
            assert_eq!(found, expected, "{agents} {spared}");
        }
    }

    #[test]
    fn a_server_that_goes_away_spares_nobody() {
        let mut settings = Settings::new(&KIND, "ws://127.0.0.1:1/".parse().unwrap());
        settings.storm.cut = Cut::By("systemctl restart halley".to_owned());
        assert!(plan(&settings).seats.iter().all(|seat| seat.is_struck));
    }
}
