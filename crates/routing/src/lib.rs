//! Who wants what: the sessions of a user, and the subscribers of a channel.
//!
//! A channel of n segments is looked up by the n + 2 patterns that match it; there is no trie. Nothing here locks a
//! session, and no guard of a map leaves a method: receivers are copied out, so a caller may lock each of them.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use bayeux::{ChannelName, ChannelPattern};
use dashmap::DashMap;

/// The subscriptions of one node. `S` stands for a session: cheap to clone, equal to itself only.
#[derive(Debug)]
pub struct Routing<S: Eq + Hash> {
    sessions_by_user: DashMap<Arc<str>, HashSet<S>>,
    sessions_by_pattern: DashMap<ChannelPattern, HashSet<S>>,
}

impl<S: Clone + Eq + Hash> Default for Routing<S> {
    fn default() -> Self {
        Self {
            sessions_by_user: DashMap::new(),
            sessions_by_pattern: DashMap::new(),
        }
    }
}

impl<S: Clone + Eq + Hash> Routing<S> {
    /// `session` belongs to `user` from now on.
    pub fn join(&self, user: &Arc<str>, session: S) {
        self.sessions_by_user
            .entry(Arc::clone(user))
            .or_default()
            .insert(session);
    }

    /// `session` does not belong to `user` any more.
    pub fn leave(&self, user: &str, session: &S) {
        if let Some(mut sessions) = self.sessions_by_user.get_mut(user) {
            sessions.remove(session);
        }
        self.sessions_by_user
            .remove_if(user, |_, sessions| sessions.is_empty());
    }

    /// `session` wants what is published to everyone on channels that `pattern` matches.
    pub fn subscribe(&self, pattern: &ChannelPattern, session: S) {
        self.sessions_by_pattern
            .entry(pattern.clone())
            .or_default()
            .insert(session);
    }

    /// `session` does not want that any more.
    pub fn unsubscribe(&self, pattern: &ChannelPattern, session: &S) {
        if let Some(mut sessions) = self.sessions_by_pattern.get_mut(pattern) {
            sessions.remove(session);
        }
        self.sessions_by_pattern
            .remove_if(pattern, |_, sessions| sessions.is_empty());
    }

    /// Adds every session of `user` to `found`.
    pub fn of_user(&self, user: &str, found: &mut Vec<S>) {
        if let Some(sessions) = self.sessions_by_user.get(user) {
            found.extend(sessions.iter().cloned());
        }
    }

    /// Adds every session with a pattern that matches `channel` to `found`, each once however many of its patterns do.
    pub fn of_channel(&self, channel: &ChannelName, found: &mut Vec<S>) {
        let start = found.len();
        let mut patterns = 0;
        channel.expand(|pattern| {
            if let Some(sessions) = self.sessions_by_pattern.get(pattern) {
                patterns += 1;
                found.extend(sessions.iter().cloned());
            }
        });
        if patterns > 1 {
            let mut seen: HashSet<S> = HashSet::with_capacity(found.len() - start);
            let repeated: Vec<S> = found
                .drain(start..)
                .filter(|session| seen.insert(session.clone()))
                .collect();
            found.extend(repeated);
        }
    }

    /// The number of users with a session here.
    pub fn users(&self) -> usize {
        self.sessions_by_user.len()
    }

    /// The number of patterns with a subscriber here.
    pub fn patterns(&self) -> usize {
        self.sessions_by_pattern.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text).unwrap()
    }

    fn of_channel(routing: &Routing<u32>, channel: &str) -> Vec<u32> {
        let mut found = Vec::new();
        routing.of_channel(&ChannelName::parse(channel).unwrap(), &mut found);
        found.sort_unstable();
        found
    }

    #[test]
    fn a_session_is_found_once_however_many_of_its_patterns_match() {
        let routing = Routing::default();
        for text in ["/v2/me/calls", "/v2/me/*", "/v2/**"] {
            routing.subscribe(&pattern(text), 1);
        }
        routing.subscribe(&pattern("/**"), 2);
        assert_eq!(of_channel(&routing, "/v2/me/calls"), [1, 2]);
    }

    #[test]
    fn a_session_that_left_is_not_found() {
        let routing = Routing::default();
        routing.subscribe(&pattern("/a"), 1);
        routing.subscribe(&pattern("/a"), 2);
        routing.unsubscribe(&pattern("/a"), &1);
        assert_eq!(of_channel(&routing, "/a"), [2]);
    }

    #[test]
    fn only_the_sessions_of_a_user_are_that_users() {
        let routing = Routing::default();
        routing.join(&"15000".into(), 1);
        routing.join(&"15000".into(), 2);
        routing.join(&"15001".into(), 3);
        let mut found = Vec::new();
        routing.of_user("15000", &mut found);
        found.sort_unstable();
        assert_eq!(found, [1, 2]);
    }

    #[test]
    fn nothing_stays_of_what_nobody_wants() {
        let routing = Routing::default();
        routing.join(&"15000".into(), 1);
        routing.subscribe(&pattern("/a"), 1);
        routing.leave("15000", &1);
        routing.unsubscribe(&pattern("/a"), &1);
        assert_eq!((routing.users(), routing.patterns()), (0, 0));
    }

    #[test]
    fn sessions_found_before_stay_in_the_list() {
        let routing = Routing::default();
        routing.subscribe(&pattern("/a"), 1);
        routing.subscribe(&pattern("/*"), 1);
        let mut found = vec![1];
        routing.of_channel(&ChannelName::parse("/a").unwrap(), &mut found);
        assert_eq!(found, [1, 1]);
    }
}
