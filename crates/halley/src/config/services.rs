//! Who answers what clients send to `/service/…`.

use std::fmt;

use bayeux::{ChannelKind, ChannelPattern};
use serde::{Deserialize, Serialize};

use super::values::{Span, redacted, seconds, signing_secret};

/// Who answers what clients send to the channels of a pattern.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// `/service/name`, or `/service/**` for everything that no other service answers.
    pub channel: ChannelPattern,
    /// Where its questions are posted.
    pub url: String,
    /// How long a client waits for an answer at most, with the wait for a place.
    #[serde(default = "Service::default_timeout")]
    pub timeout: Span,
    /// Questions at once.
    #[serde(default = "Service::default_concurrency")]
    pub concurrency: usize,
    /// Questions that wait for their turn.
    #[serde(default = "Service::default_queue")]
    pub queue: usize,
    /// Signs each question; without one there is no signature.
    #[serde(default, serialize_with = "redacted", deserialize_with = "signing_secret")]
    pub secret: String,
}

/// Questions of a service that are under way or wait: each is a task.
const QUESTIONS_MAX: usize = 1_000_000;

impl Service {
    const fn default_timeout() -> Span {
        seconds(5)
    }

    const fn default_concurrency() -> usize {
        64
    }

    const fn default_queue() -> usize {
        256
    }

    pub(super) fn check(&self, others: &[Self]) -> Result<(), String> {
        if self.channel.kind() != ChannelKind::Service {
            return Err("a service's channel begins with /service/".to_owned());
        }
        if others.iter().any(|other| other.channel == self.channel) {
            return Err("there is another service for this very channel".to_owned());
        }
        if self.timeout.0.is_zero() {
            return Err("timeout: longer than nothing".to_owned());
        }
        let (concurrency, queue) = (self.concurrency, self.queue);
        if concurrency == 0 || concurrency > QUESTIONS_MAX || queue > QUESTIONS_MAX {
            return Err("concurrency: from 1 to 1,000,000; queue: up to 1,000,000".to_owned());
        }
        self.check_url()
    }

    fn check_url(&self) -> Result<(), String> {
        let url = &self.url;
        let parsed: hyper::Uri = url.parse().map_err(|error| format!("url: {url:?}: {error}"))?;
        match parsed.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "url: {url:?}: this version asks services over http only: name a proxy in front of the service, on this \
                     machine or in the cluster"
                ));
            }
            Some(_) | None => return Err(format!("url: {url:?} does not begin with http://")),
        }
        if parsed
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err("url: credentials do not belong in it; the signature says who asks".to_owned());
        }
        Ok(())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Service")
            .field("channel", &self.channel)
            .field("url", &self.url)
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
