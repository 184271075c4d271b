//! What this node has in memory, for whoever asks it or another node.

use std::sync::Arc;

use crate::drain::{Attending, Drain};
use crate::event::{Tenant, UserId};
use crate::log::Counts;
use crate::sessions::Sessions;

/// What a node knows of itself.
pub struct Census {
    /// What it has.
    pub sessions: Arc<Sessions>,
    /// Whether it is about to end.
    pub drain: Arc<Drain>,
    /// Who is there now.
    pub attending: Box<dyn Fn() -> Attending + Send + Sync>,
}

impl Census {
    /// How much there is.
    pub fn counts(&self) -> Counts {
        let Attending { sockets, connects } = (self.attending)();
        Counts {
            sessions: self.sessions.count(),
            sockets,
            connects,
            draining: self.drain.is_on(),
        }
    }

    /// Every session of a user: its name, its subscriptions, and whether its client is there now.
    pub fn of_user(&self, tenant: &Tenant, user: &UserId) -> Vec<(Box<str>, usize, bool)> {
        let (listed, _) = self.sessions.list(Some((tenant, user)), None, usize::MAX - 1);
        listed
            .iter()
            .map(|listed| {
                (
                    listed.id.to_string().into(),
                    listed.subscriptions,
                    listed.attended,
                )
            })
            .collect()
    }
}
