//! `/meta/subscribe` and `/meta/unsubscribe`.
//!
//! A list is taken as a whole or not at all (CometD keeps what came before the first refusal and says that all of it
//! failed). Subscribing to `/service/…` succeeds and does nothing, as in CometD; subscribing twice succeeds. Leaving a
//! channel that was not subscribed to succeeds: channels exist by being used, so there is none that does not exist.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{Routes, Session, Subscription};
use crate::message::{parse_channel, text};
use crate::{Action, ChannelKind, ChannelPattern, Failure, Limits, Message, Reply};

impl Session {
    pub(super) fn subscribe(&mut self, message: &Message<'_>, routes: &mut dyn Routes) -> Reply {
        match self.wanted(message) {
            Err(failure) => Reply::failure(message, failure),
            Ok(wanted) => {
                if !wanted.is_empty() {
                    // A read that is under way does not know of them, and may reach beyond where they begin.
                    self.reading_for = None;
                }
                for pattern in wanted {
                    let began = routes.add(&pattern);
                    self.subscriptions.push(Subscription { pattern, began });
                }
                Reply::success(message)
            }
        }
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

    /// The patterns of a subscribe that are new to this session; none is taken unless all may be.
    fn wanted(&self, message: &Message<'_>) -> Result<Vec<ChannelPattern>, Failure> {
        // A resumed session may hold more than the limit that was lowered since.
        let room = self
            .settings
            .limits
            .subscriptions
            .saturating_sub(self.subscriptions.len());
        let mut wanted: Vec<ChannelPattern> = Vec::new();
        for pattern in patterns(message, &self.settings.limits)? {
            match pattern.kind() {
                ChannelKind::Meta => return Err(Failure::Denied(meta_denial(&pattern))),
                ChannelKind::Service => {}
                ChannelKind::Broadcast => {
                    let is_new = !wanted.contains(&pattern)
                        && !self.subscriptions.iter().any(|held| held.pattern == pattern);
                    // At once: a long list is not compared with itself.
                    if is_new && wanted.len() == room {
                        return Err(Failure::OverLimit(Action::Subscribe, "subscriptions_per_session"));
                    }
                    wanted.extend(is_new.then_some(pattern));
                }
            }
        }
        Ok(wanted)
    }
}

/// CometD's two ways to refuse a meta channel: those that exist may not be subscribed to, others may not be created.
fn meta_denial(pattern: &ChannelPattern) -> Action {
    match pattern.as_str() {
        "/meta/handshake" | "/meta/connect" | "/meta/subscribe" | "/meta/unsubscribe"
        | "/meta/disconnect" => Action::Subscribe,
        _ => Action::Create,
    }
}

fn patterns(message: &Message<'_>, limits: &Limits) -> Result<Vec<ChannelPattern>, Failure> {
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
    texts
        .iter()
        .map(|text| parse_channel(text, limits).map(ChannelPattern::from))
        .collect()
}
