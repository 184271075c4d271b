//! What holds for which channels: who may publish and subscribe, and how events are kept and delivered.
//!
//! A rule names a pattern and says one thing or several; what it leaves out, the next wider rule says. Decisions are pure
//! functions of who asks, the channel and the action.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::{Action, ChannelName, ChannelPattern, Failure, Reach, ReplayId, Traits};

/// What holds for the channels that `pattern` matches. `None` leaves it to a wider rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The channels.
    pub pattern: ChannelPattern,
    /// Only a client with a user may publish or subscribe.
    pub private: Option<bool>,
    /// Which clients may publish. The backend always may.
    pub publish: Option<Access>,
    /// Which clients may subscribe, and get what others publish for everyone.
    pub subscribe: Option<Access>,
    /// How long an event for everyone may wait for company (CometD: a lazy channel).
    pub lazy: Option<Duration>,
    /// Whether a client gets back what it publishes.
    pub echo: Option<bool>,
    /// The largest data of one event, in bytes.
    pub largest_message: Option<usize>,
    /// Where events carry their offset.
    pub replay_id: Option<ReplayId>,
    /// For how long events are given to those who were away, or who replay.
    pub retention: Option<Duration>,
}

/// Which clients may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// All of them.
    Anyone,
    /// Those with one of these roles; none at all if there are none.
    Roles(Vec<Box<str>>),
}

/// What a client may do, as far as who it is decides that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// It has a user.
    pub named: bool,
    /// Its roles.
    pub roles: Arc<[Box<str>]>,
}

/// All rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The most specific first.
    rules: Vec<Rule>,
}

impl Rule {
    /// A rule that says nothing yet.
    pub fn of(pattern: ChannelPattern) -> Self {
        Self {
            pattern,
            private: None,
            publish: None,
            subscribe: None,
            lazy: None,
            echo: None,
            largest_message: None,
            replay_id: None,
            retention: None,
        }
    }
}

impl Rules {
    /// Puts the most specific first: the channel itself, then `/*`, then `/**`, and longer patterns before shorter ones.
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_by_key(|rule| {
            let breadth = match rule.pattern.reach() {
                Reach::Exact => 0,
                Reach::Children => 1,
                Reach::Descendants => 2,
            };
            (breadth, Reverse(rule.pattern.segments()))
        });
        Self { rules }
    }

    /// Whether a client may publish to a channel.
    pub fn may_publish(&self, rights: &Rights, channel: &ChannelName) -> Result<(), Failure> {
        self.decide(rights, channel, Action::Publish, |rule| rule.publish.as_ref())
    }

    /// Whether a client may subscribe to a channel, or get an event of it through a wider subscription.
    pub fn may_subscribe(&self, rights: &Rights, channel: &ChannelName) -> Result<(), Failure> {
        self.decide(rights, channel, Action::Subscribe, |rule| rule.subscribe.as_ref())
    }

    /// Whether a pattern may match channels that this client may not subscribe to: then each event is looked at.
    pub fn guards(&self, rights: &Rights, pattern: &ChannelPattern) -> bool {
        self.rules.iter().any(|rule| {
            let refuses = rule.private == Some(true) && !rights.named
                || rule
                    .subscribe
                    .as_ref()
                    .is_some_and(|access| !access.admits(rights));
            refuses && rule.pattern.may_meet(pattern)
        })
    }

    /// How an event on this channel is encoded and delivered. `for_everyone` is false for a user's own event, which does not
    /// wait because of its channel (CometD: `deliver` on a lazy channel is immediate).
    pub fn traits(&self, channel: &ChannelName, for_everyone: bool) -> Traits {
        Traits {
            lazy: self
                .say(channel, |rule| rule.lazy)
                .filter(|lazy| for_everyone && !lazy.is_zero()),
            replay_id: self.say(channel, |rule| rule.replay_id),
            ..Traits::default()
        }
    }

    /// How long a lazy event on this channel may wait, if a rule says.
    pub fn lazy(&self, channel: &ChannelName) -> Option<Duration> {
        self.say(channel, |rule| rule.lazy)
    }

    /// Whether a client gets back what it publishes here, if a rule says.
    pub fn echo(&self, channel: &ChannelName) -> Option<bool> {
        self.say(channel, |rule| rule.echo)
    }

    /// The largest data of one event, in bytes, if a rule says.
    pub fn largest_message(&self, channel: &ChannelName) -> Option<usize> {
        self.say(channel, |rule| rule.largest_message)
    }

    /// For how long events are given to those who come later, if a rule says.
    pub fn retention(&self, channel: &ChannelName) -> Option<Duration> {
        self.say(channel, |rule| rule.retention)
    }

    /// Some channel has events that carry their offset.
    pub fn offers_replay(&self) -> bool {
        self.rules.iter().any(|rule| rule.replay_id.is_some())
    }

    /// What the most specific rule says that says anything.
    fn say<T>(&self, channel: &ChannelName, what: impl Fn(&Rule) -> Option<T>) -> Option<T> {
        self.matching(channel).find_map(what)
    }

    fn matching<'a>(&'a self, channel: &'a ChannelName) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(|rule| rule.pattern.covers(channel))
    }

    fn decide<'a>(
        &'a self,
        rights: &Rights,
        channel: &'a ChannelName,
        action: Action,
        access: impl Fn(&'a Rule) -> Option<&'a Access>,
    ) -> Result<(), Failure> {
        if self.say(channel, |rule| rule.private) == Some(true) && !rights.named {
            return Err(Failure::Denied(action));
        }
        match self.matching(channel).find_map(access) {
            None => Ok(()),
            Some(access) if access.admits(rights) => Ok(()),
            Some(access) if access.admits_nobody() => Err(Failure::Denied(action)),
            Some(_) => Err(Failure::NotGranted(action)),
        }
    }
}

impl Access {
    fn admits(&self, rights: &Rights) -> bool {
        match self {
            Self::Anyone => true,
            Self::Roles(roles) => roles.iter().any(|role| rights.roles.contains(role)),
        }
    }

    fn admits_nobody(&self) -> bool {
        match self {
            Self::Anyone => false,
            Self::Roles(roles) => roles.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text).unwrap()
    }

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    fn roles(names: &[&str]) -> Access {
        Access::Roles(names.iter().map(|name| (*name).into()).collect())
    }

    fn with_roles(names: &[&str]) -> Rights {
        Rights {
            named: true,
            roles: names.iter().map(|name| (*name).into()).collect(),
        }
    }

    fn rules() -> Rules {
        Rules::new(vec![
            Rule {
                publish: Some(roles(&[])),
                retention: Some(Duration::from_secs(60)),
                ..Rule::of(pattern("/v2/**"))
            },
            Rule {
                subscribe: Some(roles(&["supervisor"])),
                ..Rule::of(pattern("/v2/users"))
            },
            Rule {
                publish: Some(Access::Anyone),
                lazy: Some(Duration::from_secs(5)),
                ..Rule::of(pattern("/v2/chat/*"))
            },
            Rule {
                private: Some(true),
                publish: Some(roles(&["agent"])),
                ..Rule::of(pattern("/service/**"))
            },
        ])
    }

    #[test]
    fn the_most_specific_rule_decides_and_leaves_the_rest_to_wider_ones() {
        let channel = name("/v2/chat/7");
        assert_eq!(rules().may_publish(&Rights::default(), &channel), Ok(()));
        assert_eq!(rules().retention(&channel), Some(Duration::from_secs(60)));
    }

    #[test]
    fn nobody_may_is_a_policy_and_a_missing_role_is_not_granted() {
        assert_eq!(
            rules().may_publish(&with_roles(&["agent"]), &name("/v2/me/calls")),
            Err(Failure::Denied(Action::Publish))
        );
        assert_eq!(
            rules().may_subscribe(&with_roles(&["agent"]), &name("/v2/users")),
            Err(Failure::NotGranted(Action::Subscribe))
        );
    }

    #[test]
    fn a_role_opens_what_it_is_for() {
        assert_eq!(
            rules().may_subscribe(&with_roles(&["supervisor"]), &name("/v2/users")),
            Ok(())
        );
        assert_eq!(
            rules().may_publish(&with_roles(&["agent"]), &name("/service/dial")),
            Ok(())
        );
    }

    #[test]
    fn a_private_channel_needs_a_user_whatever_the_roles() {
        let nobody = Rights {
            named: false,
            ..with_roles(&["agent"])
        };
        assert_eq!(
            rules().may_publish(&nobody, &name("/service/dial")),
            Err(Failure::Denied(Action::Publish))
        );
    }

    #[test]
    fn where_no_rule_is_everyone_may() {
        let channel = name("/chat/7");
        assert_eq!(rules().may_publish(&Rights::default(), &channel), Ok(()));
        assert_eq!(rules().may_subscribe(&Rights::default(), &channel), Ok(()));
    }

    #[test]
    fn a_wide_pattern_is_guarded_only_against_those_who_may_not_have_all_of_it() {
        for (text, guarded) in [
            ("/**", true),
            ("/v2/*", true),
            ("/v2/me/*", false),
            ("/v2/users/*", false),
        ] {
            assert_eq!(
                rules().guards(&with_roles(&["agent"]), &pattern(text)),
                guarded,
                "{text}"
            );
        }
        assert!(!rules().guards(&with_roles(&["supervisor"]), &pattern("/**")));
    }

    #[test]
    fn a_users_own_event_does_not_wait_because_of_its_channel() {
        let channel = name("/v2/chat/7");
        assert_eq!(rules().traits(&channel, true).lazy, Some(Duration::from_secs(5)));
        assert_eq!(rules().traits(&channel, false).lazy, None);
    }

    /// Every outcome, as docs/security.md has it: what the rule says, and what becomes of a client without a user, of a user
    /// without the role, and of one with it.
    #[test]
    fn a_decision_is_one_of_these_outcomes() {
        let granted = |action| Err(Failure::NotGranted(action));
        let policy = |action| Err(Failure::Denied(action));
        let says = |access: Option<Access>, private: Option<bool>| {
            Rules::new(vec![Rule {
                private,
                publish: access.clone(),
                subscribe: access,
                ..Rule::of(pattern("/a/**"))
            }])
        };
        for action in [Action::Publish, Action::Subscribe] {
            let table = [
                (None, None, [Ok(()), Ok(()), Ok(())]),
                (Some(Access::Anyone), None, [Ok(()), Ok(()), Ok(())]),
                (
                    Some(roles(&["agent"])),
                    None,
                    [granted(action), granted(action), Ok(())],
                ),
                (
                    Some(roles(&[])),
                    None,
                    [policy(action), policy(action), policy(action)],
                ),
                (None, Some(true), [policy(action), Ok(()), Ok(())]),
                (Some(Access::Anyone), Some(true), [policy(action), Ok(()), Ok(())]),
                (
                    Some(roles(&["agent"])),
                    Some(true),
                    [policy(action), granted(action), Ok(())],
                ),
                (
                    Some(roles(&[])),
                    Some(true),
                    [policy(action), policy(action), policy(action)],
                ),
                (None, Some(false), [Ok(()), Ok(()), Ok(())]),
            ];
            for (access, private, outcomes) in table {
                let who = [Rights::default(), with_roles(&["other"]), with_roles(&["agent"])];
                let rules = says(access.clone(), private);
                let decide = |rights: &Rights| match action {
                    Action::Publish => rules.may_publish(rights, &name("/a/b")),
                    Action::Subscribe | Action::Create | Action::ChannelCreate => {
                        rules.may_subscribe(rights, &name("/a/b"))
                    }
                };
                let decided = who.map(|rights| decide(&rights));
                assert_eq!(decided, outcomes, "{access:?} private={private:?} {action:?}");
            }
        }
    }
}
