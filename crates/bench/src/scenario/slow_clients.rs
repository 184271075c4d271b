//! `slow-clients`: some sessions of a fan-out stop reading for a while.

use super::plan::marked;
use super::{Act, Groups, Kind, Plan, fan_out};
use crate::settings::Settings;

pub(super) const KIND: Kind = Kind {
    name: "slow-clients",
    about: "a fan-out of which some sessions stop reading for a while: what they cost, and whether others notice",
    options: &["sessions", "rate", "payload", "slow", "slow-for"],
    addresses_users: false,
    defaults: |settings| settings.rate = Some(50.0),
    count_users: |settings| settings.sessions,
    plan,
};

/// The part of the measured time after which they stop.
const BEFORE: f64 = 0.1;

fn plan(settings: &Settings) -> Plan {
    let mut plan = (fan_out::KIND.plan)(settings);
    let mut rng = fastrand::Rng::with_seed(settings.seed.wrapping_add(2));
    let slow = marked(plan.seats.len(), settings.slow.share, &mut rng);
    plan.strike(|number| slow[number]);
    plan.groups = Groups::by_transport_and("reading", "slow");
    let stop = settings.duration.mul_f64(BEFORE);
    plan.acts = vec![
        (stop, Act::StopReading),
        (stop + settings.slow.pause, Act::ReadAgain),
    ];
    plan
}
