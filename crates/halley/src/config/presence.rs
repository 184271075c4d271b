//! Telling which users are present.

use bayeux::{ChannelKind, ChannelName, Rights, Rules};
use serde::{Deserialize, Serialize};

use super::values::{Span, seconds};

/// Telling which users are present.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// Where it is told; nowhere if it is empty.
    pub channel: String,
    /// How long a user must be gone until that is told.
    pub delay: Span,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            channel: String::new(),
            delay: seconds(5),
        }
    }
}

impl Presence {
    /// Where it is told, if it is.
    pub fn channel(&self) -> Option<ChannelName> {
        ChannelName::parse(&self.channel).ok()
    }

    /// Whether a client may hear of it whose user has no role.
    pub fn is_for_everyone(&self, rules: &Rules) -> bool {
        self.channel()
            .is_some_and(|channel| rules.may_subscribe(&somebody(), &channel).is_ok())
    }

    pub(super) fn check(&self, rules: &Rules) -> Result<(), (&'static str, String)> {
        if self.channel.is_empty() {
            return Ok(());
        }
        let channel = ChannelName::parse(&self.channel).map_err(|error| ("channel", error.to_string()))?;
        if channel.is_wild() || channel.kind() != ChannelKind::Broadcast {
            return Err(("channel", "a channel that events are published to".to_owned()));
        }
        if rules.may_publish(&somebody(), &channel).is_ok() {
            let reason = "every client may publish there, and say what it likes of who is present: a rule in channels.rules with \
                          publish = [] keeps it from that";
            return Err(("channel", reason.to_owned()));
        }
        if self.delay.0 > LONGEST {
            return Err(("delay", "at most 1h".to_owned()));
        }
        Ok(())
    }
}

/// A client that is known, and no more than that.
fn somebody() -> Rights {
    Rights {
        named: true,
        ..Rights::default()
    }
}

/// Whoever is gone for longer than this is not about to come back.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(3600);
