//! Where clients go, who they are there, and what they listen to.

use std::net::SocketAddr;

use crate::settings::{Address, Route, Users};
use crate::wire::http;

/// What all sessions of a run that go to the same place have in common.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) socket: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) post_prefix: Vec<u8>,
    users: Users,
    channels: Channels,
}

/// The channels of a run.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    /// Those on which a user gets events of its own, by the number that bodies know them by.
    pub(crate) own: Vec<String>,
    /// The one on which everyone gets events.
    pub(crate) everyone: Option<String>,
    /// How an event finds its one user.
    pub(crate) route: Route,
}

impl Channels {
    /// The channel on which a user gets events of its own.
    pub(crate) fn own(&self, channel: u8, user: u32) -> String {
        let name = &self.own[usize::from(channel)];
        match self.route {
            Route::User => name.clone(),
            Route::Channel => format!("{name}/{user}"),
        }
    }

    /// Everything that a user subscribes to.
    fn subscriptions(&self, user: u32) -> Vec<String> {
        let own = (0_u8..)
            .take(self.own.len())
            .map(|channel| self.own(channel, user));
        own.chain(self.everyone.clone()).collect()
    }
}

impl Site {
    pub(crate) fn new(address: &Address, users: &Users, channels: Channels) -> Self {
        Self {
            socket: address.socket,
            host: address.host.clone(),
            path: address.path.clone(),
            post_prefix: http::post_prefix(&address.path, &address.host),
            users: users.clone(),
            channels,
        }
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    /// The lines that each request of a user has.
    pub(crate) fn headers(&self, user: u32) -> String {
        self.users.headers(user)
    }

    /// The members that `ext` of its handshake has.
    pub(crate) fn handshake_ext(&self, user: u32) -> String {
        self.users.handshake_ext(user)
    }

    /// What it subscribes to.
    pub(crate) fn subscriptions(&self, user: u32) -> Vec<String> {
        self.channels.subscriptions(user)
    }
}
