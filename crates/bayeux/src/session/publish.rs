//! Publishing from a client: the same log by the same door as the backend's events.

use super::Session;
use crate::{Action, ChannelName, Failure, Message, Traits};

impl Session {
    /// Whether the client may publish this, and how it is then delivered.
    pub(super) fn publish(
        &mut self,
        channel: &ChannelName,
        message: &Message<'_>,
    ) -> Result<Traits, Failure> {
        self.may_say(channel, message)?;
        let rules = &self.settings.rules;
        let echoes = rules
            .echo(channel)
            .unwrap_or(self.settings.broadcast_to_publisher);
        let mut traits = rules.traits(channel, true);
        traits.timestamp = self.settings.timestamps;
        if !echoes || !self.agreed.echoes() {
            traits.not_to = Some(self.id.clone());
        }
        self.agreed.publishing(message, &mut traits);
        Ok(traits)
    }

    /// Whether the rules allow this message on this channel.
    pub(super) fn may_say(&self, channel: &ChannelName, message: &Message<'_>) -> Result<(), Failure> {
        let rules = &self.settings.rules;
        rules.may_publish(&self.rights, channel)?;
        let bytes = message.data.map_or(0, |data| data.get().len());
        if rules
            .largest_message(channel)
            .is_some_and(|largest| bytes > largest)
        {
            return Err(Failure::OverLimit(Action::Publish, "largest_message"));
        }
        Ok(())
    }
}
