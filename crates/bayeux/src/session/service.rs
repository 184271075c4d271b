//! `/service/…`: from one client to the server, never routed to other sessions.
//!
//! A message on a channel that no service answers succeeds and does nothing, as in CometD. Where one does, the message is a
//! call: its reply leaves at once, and the answer follows with the same id, whenever the service has it (CometD's remote call).

use std::time::Instant;

use serde_json::value::RawValue;

use super::{AUTH_CHANNEL, Session};
use crate::extension::Received;
use crate::{Action, ChannelName, Failure, Message};

/// A message to a service, as far as its answer repeats it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The service's channel.
    pub channel: ChannelName,
    /// Its id, exactly as it came.
    pub id: Option<Box<RawValue>>,
    /// The channel exactly as it came.
    pub(super) echo: Box<RawValue>,
    /// When the message came.
    pub(super) received: Received,
}

/// What came of a call.
#[derive(Debug, Clone)]
pub struct CallResult {
    /// Whether the service did what it was asked for.
    pub successful: bool,
    /// Its answer, or what went wrong.
    pub data: Box<RawValue>,
}

impl CallResult {
    /// A failure in the form that CometD gives to an exception.
    pub fn failed(class: &str, message: &str) -> Self {
        let data = serde_json::json!({ "class": class, "message": message });
        Self {
            successful: false,
            data: serde_json::value::to_raw_value(&data).expect("two texts are JSON"),
        }
    }
}

impl Session {
    /// The call that the message is, unless no service answers its channel. The rules for publishing hold for it too.
    pub(super) fn call(
        &mut self,
        now: Instant,
        channel: &ChannelName,
        message: &Message<'_>,
    ) -> Result<Option<Call>, Failure> {
        if channel.as_str() == AUTH_CHANNEL {
            // Whoever carries messages has taken the credentials from it. They are nobody else's business.
            return Ok(None);
        }
        self.may_say(channel, message)?;
        let services = &self.settings.services;
        if !services.iter().any(|pattern| pattern.covers(channel)) {
            return Ok(None);
        }
        if !self.direct.expect(&self.settings.limits) {
            return Err(Failure::OverLimit(Action::Publish, "direct_messages"));
        }
        let echo = message
            .echo
            .channel
            .expect("it has a target, so it has a channel");
        Ok(Some(Call {
            channel: channel.clone(),
            id: message.echo.id.map(ToOwned::to_owned),
            echo: echo.to_owned(),
            received: self.agreed.receiving(now, message),
        }))
    }
}
