//! What holds for which channels.

use bayeux::{Access, ChannelPattern, ReplayId, Rule, Rules};
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::values::{Span, bytes};

/// What holds for which channels.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Channels {
    /// The rules, in any order: the most specific pattern that says something decides.
    pub rules: Vec<ChannelRule>,
}

/// What holds for the channels that a pattern matches; what is left out, a wider rule says.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRule {
    /// The channels.
    pub pattern: ChannelPattern,
    /// Only clients with a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    /// Roles that may publish: `["*"]` is everyone, `[]` is nobody but the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<String>>,
    /// Roles that may subscribe: `["*"]` is everyone, `[]` is nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Vec<String>>,
    /// How long an event for everyone may wait for company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lazy: Option<Span>,
    /// Whether a client gets back what it publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// The largest data of one event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_message: Option<ByteSize>,
    /// Where events carry their offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_id: Option<ReplayId>,
    /// For how long events are given to those who were away, or who replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Span>,
}

impl Channels {
    /// The rules as the protocol knows them.
    pub(super) fn rules(&self) -> Rules {
        Rules::new(self.rules.iter().map(ChannelRule::rule).collect())
    }
}

impl ChannelRule {
    fn rule(&self) -> Rule {
        Rule {
            pattern: self.pattern.clone(),
            private: self.private,
            publish: self.publish.as_deref().map(access),
            subscribe: self.subscribe.as_deref().map(access),
            lazy: self.lazy.map(|lazy| lazy.0),
            echo: self.echo,
            largest_message: self.largest_message.map(bytes),
            replay_id: self.replay_id,
            retention: self.retention.map(|retention| retention.0),
        }
    }
}

fn access(roles: &[String]) -> Access {
    if roles.iter().any(|role| role == "*") {
        return Access::Anyone;
    }
    Access::Roles(roles.iter().map(|role| role.as_str().into()).collect())
}

impl Default for Channels {
    fn default() -> Self {
        let of_the_backend = |text| ChannelRule {
            pattern: ChannelPattern::parse(text).expect("a constant in the grammar"),
            private: None,
            publish: Some(Vec::new()),
            subscribe: None,
            lazy: None,
            echo: None,
            largest_message: None,
            replay_id: None,
            retention: None,
        };
        Self {
            rules: ["/v2/**", "/notifications/**", "/workspace/**"]
                .map(of_the_backend)
                .into(),
        }
    }
}
