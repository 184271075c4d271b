//! What a `CloudEvent` says of whom it is for, and where.

use std::collections::BTreeMap;

use bayeux::{ChannelKind, ChannelName};
use serde::{Deserialize, Serialize};

/// Which attributes and extensions of a `CloudEvent` are what; `""` is none.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudEvents {
    /// The user.
    pub user: String,
    /// Whether an event without a user is refused, and does not go to everyone.
    pub require_user: bool,
    /// The tenant.
    pub tenant: String,
    /// The channel.
    pub channel: String,
    /// The channels of events that name none, by their types.
    pub channels: BTreeMap<String, String>,
}

impl CloudEvents {
    /// What is wrong with them, and under which key.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        for (key, name) in [
            ("user", &self.user),
            ("tenant", &self.tenant),
            ("channel", &self.channel),
        ] {
            if !name.is_empty() && !is_usable(name) {
                let reason = format!(
                    "{name:?} is no extension (lower-case letters and digits), and none of subject, source, type and id"
                );
                return Err((key, reason));
            }
        }
        if self.require_user && self.user.is_empty() {
            return Err((
                "user",
                "with require_user there is an attribute for it".to_owned(),
            ));
        }
        for (kind, channel) in &self.channels {
            let is_broadcast = ChannelName::parse(channel)
                .is_ok_and(|channel| !channel.is_wild() && channel.kind() == ChannelKind::Broadcast);
            if !is_broadcast {
                let reason = format!("{channel:?} of {kind:?} is no channel that can be published to");
                return Err(("channels", reason));
            }
        }
        Ok(())
    }
}

/// What an event is about, and its own business, are told apart: these mean something else already.
const TAKEN: [&str; 5] = ["specversion", "time", "dataschema", "datacontenttype", "data"];

fn is_usable(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.bytes().all(allowed) && !TAKEN.contains(&name)
}

impl Default for CloudEvents {
    fn default() -> Self {
        Self {
            user: "user".to_owned(),
            require_user: true,
            tenant: "tenant".to_owned(),
            channel: "channel".to_owned(),
            channels: BTreeMap::new(),
        }
    }
}
