//! What is tested: a scenario is a file beside this one and a line in [`ALL`].
//!
//! A scenario turns settings into a [`Plan`]: which sessions there are, what is published when, and what happens to the
//! sessions meanwhile. Everything else is common.

mod connect;
mod contact_centre;
mod fan_out;
mod idle;
mod plan;
mod reconnect_storm;
mod slow_clients;
mod unicast;

use std::fmt;

use crate::settings::Settings;

pub(crate) use plan::{Act, Groups, Plan, Seat, Share, Traffic};

/// One scenario.
pub struct Kind {
    /// As the command line calls it.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub about: &'static str,
    /// Options that it takes besides those that all take.
    pub options: &'static [&'static str],
    /// Whether events are addressed to one user.
    pub addresses_users: bool,
    /// Changes the defaults to its own.
    pub(crate) defaults: fn(&mut Settings),
    /// How many users it has.
    pub(crate) count_users: fn(&Settings) -> u32,
    /// What is going to happen.
    pub(crate) plan: fn(&Settings) -> Plan,
}

/// Every scenario.
pub const ALL: &[&Kind] = &[
    &fan_out::KIND,
    &unicast::KIND,
    &contact_centre::KIND,
    &idle::KIND,
    &connect::KIND,
    &reconnect_storm::KIND,
    &slow_clients::KIND,
];

/// The scenario of that name.
pub fn named(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name).copied()
}

impl Kind {
    /// How many users a run has.
    pub fn users(&self, settings: &Settings) -> u32 {
        (self.count_users)(settings)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}
