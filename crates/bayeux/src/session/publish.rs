//! Publishing from a client: the same log by the same door as the backend's events.

use super::{Answer, Session};
use crate::{Action, ChannelName, Message, Reply};

impl Session {
    pub(super) fn publish(&mut self, channel: &ChannelName, message: &Message<'_>) -> Answer {
        if self
            .settings
            .server_owned
            .iter()
            .any(|pattern| pattern.matches(channel))
        {
            return Answer::reply(Self::denied(message, Action::Publish));
        }
        Answer::Publish(channel.clone(), Box::new(Reply::success(message)))
    }
}
