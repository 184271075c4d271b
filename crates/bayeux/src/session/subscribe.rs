//! `/meta/subscribe` and `/meta/unsubscribe`.
//!
//! A list is taken as a whole or not at all; or, if the configuration says so, as CometD does: what comes before the first
//! refusal is kept, and the reply says that all of it failed. Subscribing to `/service/…` succeeds and does nothing, as in
//! CometD; subscribing twice succeeds. Leaving a channel that was not subscribed to succeeds: channels exist by being used,
//! so there is none that does not exist. A subscribe may ask for older events: see the replay extension.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::replay::Start;
use super::{Routes, Session, Subscription};
use crate::extension::Wish;
use crate::message::{parse_channel, text};
use crate::{Action, ChannelKind, ChannelPattern, Failure, Limits, Message, Offset, Reply};

/// A subscription that the session may have.
struct Wanted {
    pattern: ChannelPattern,
    is_new: bool,
    start: Start,
    /// The first offset of the log.
    first: Offset,
}

impl Session {
    pub(super) fn subscribe(&mut self, message: &Message<'_>, routes: &mut dyn Routes) -> Reply {
        let (wanted, failure) = match self.wanted(message, routes) {
            Ok(wanted) => wanted,
            Err(failure) => return Reply::failure(message, failure),
        };
        let mut reply = Reply::success(message);
        if !wanted.is_empty() {
            // A read that is under way does not know of them, and may reach beyond where they begin.
            self.reading_for = None;
        }
        for wanted in wanted {
            self.take_up(wanted, routes, &mut reply);
        }
        self.begin_replays();
        failure.map_or(reply, |failure| Reply::failure(message, failure))
    }

    pub(super) fn unsubscribe(&mut self, message: &Message<'_>, routes: &mut dyn Routes) -> Reply {
        let patterns = match patterns(message, &self.settings.limits) {
            Ok(patterns) => patterns,
            Err(failure) => return Reply::failure(message, failure),
        };
        if patterns.iter().any(|pattern| pattern.kind() == ChannelKind::Meta) {
            return Reply::failure(message, Failure::UnsubscribeFailed);
        }
        for pattern in patterns {
            if let Some(place) = self.subscriptions.iter().position(|held| held.pattern == pattern) {
                self.subscriptions.swap_remove(place);
                routes.remove(&pattern);
            }
        }
        Reply::success(message)
    }

    /// Subscribes a new session to what the configuration gives to all; its handshake may ask for older events.
    pub(super) fn subscribe_from_the_server(
        &mut self,
        message: &Message<'_>,
        reply: &mut Reply,
        routes: &mut dyn Routes,
    ) -> Result<(), Failure> {
        let ends = routes.ends();
        for pattern in self.settings.subscribed.clone() {
            let start = self.start(Wish::of(message, pattern.as_str())?, ends)?;
            let wanted = Wanted {
                pattern,
                is_new: true,
                start,
                first: ends.first,
            };
            self.take_up(wanted, routes, reply);
        }
        self.begin_replays();
        Ok(())
    }

    /// What of a subscribe the session may have, and why not the rest.
    fn wanted(
        &self,
        message: &Message<'_>,
        routes: &dyn Routes,
    ) -> Result<(Vec<Wanted>, Option<Failure>), Failure> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for text in texts(message)? {
            match self.examine(&text, message, &wanted, routes) {
                Ok(more) => wanted.extend(more),
                Err(failure) if self.settings.atomic_subscriptions => return Err(failure),
                Err(failure) => return Ok((wanted, Some(failure))),
            }
        }
        Ok((wanted, None))
    }

    fn examine(
        &self,
        text: &str,
        message: &Message<'_>,
        wanted: &[Wanted],
        routes: &dyn Routes,
    ) -> Result<Option<Wanted>, Failure> {
        let name = parse_channel(text, &self.settings.limits)?;
        match name.kind() {
            ChannelKind::Meta => return Err(Failure::Denied(meta_denial(name.as_str()))),
            ChannelKind::Service => return Ok(None),
            ChannelKind::Broadcast => {}
        }
        self.settings.rules.may_subscribe(&self.rights, &name)?;
        let pattern = ChannelPattern::from(name);
        let is_known = self.subscriptions.iter().any(|held| held.pattern == pattern);
        if wanted.iter().any(|wanted| wanted.pattern == pattern) {
            return Ok(None);
        }
        // A resumed session may hold more than the limit that was lowered since.
        let held = self.subscriptions.len() + wanted.iter().filter(|wanted| wanted.is_new).count();
        if !is_known && held >= self.settings.limits.subscriptions {
            return Err(Failure::OverLimit(Action::Subscribe, "subscriptions_per_session"));
        }
        let ends = routes.ends();
        let start = self.start(Wish::of(message, text)?, ends)?;
        Ok(Some(Wanted {
            pattern,
            is_new: !is_known,
            start,
            first: ends.first,
        }))
    }

    fn take_up(&mut self, wanted: Wanted, routes: &mut dyn Routes, reply: &mut Reply) {
        let Wanted {
            pattern,
            is_new,
            start,
            first,
        } = wanted;
        if is_new {
            let began = routes.add(&pattern);
            self.agreed.subscribes(began.last);
            // Most sessions have few subscriptions, and keep them for long.
            self.subscriptions.reserve_exact(1);
            self.subscriptions.push(Subscription {
                guarded: self.settings.rules.guards(&self.rights, &pattern),
                ..Subscription::new(pattern.clone(), began.last)
            });
        }
        self.replay(&pattern, start, first, reply);
    }
}

/// CometD's two ways to refuse a meta channel: those that exist may not be subscribed to, others may not be created.
fn meta_denial(channel: &str) -> Action {
    match channel {
        "/meta/handshake" | "/meta/connect" | "/meta/subscribe" | "/meta/unsubscribe"
        | "/meta/disconnect" => Action::Subscribe,
        _ => Action::Create,
    }
}

fn patterns(message: &Message<'_>, limits: &Limits) -> Result<Vec<ChannelPattern>, Failure> {
    texts(message)?
        .iter()
        .map(|text| parse_channel(text, limits).map(ChannelPattern::from))
        .collect()
}

fn texts<'a>(message: &Message<'a>) -> Result<Vec<Cow<'a, str>>, Failure> {
    let raw = message.subscription.ok_or(Failure::SubscriptionMissing)?;
    let texts: Vec<Cow<'_, str>> = match raw.get().as_bytes().first() {
        Some(b'"') => vec![text(raw).ok_or(Failure::SubscriptionInvalid)?],
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(raw.get())
            .map_err(|_| Failure::SubscriptionInvalid)?
            .into_iter()
            .map(|element| text(element).ok_or(Failure::SubscriptionInvalid))
            .collect::<Result<_, _>>()?,
        Some(_) | None => return Err(Failure::SubscriptionInvalid),
    };
    if texts.is_empty() {
        return Err(Failure::SubscriptionMissing);
    }
    Ok(texts)
}
