//! One batch at a time, until the broker has it or refuses it, or its time is up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::event::{self, Event};
use super::report::Report;
use super::{Config, State};
use crate::http::{Answer, Connection, NoAnswer};

pub(super) struct Delivery {
    config: Config,
    connection: Connection,
    state: Arc<State>,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Published,
    /// The broker cannot now, or did not answer.
    Again,
    /// Something in the batch is wrong.
    BadContent,
    /// The publisher itself is not welcome, or is at the wrong door.
    BadSender,
}

impl Delivery {
    pub(super) fn new(config: Config, connection: Connection, state: Arc<State>) -> Self {
        Delivery {
            config,
            connection,
            state,
        }
    }

    /// Returns when the fate of every event of the batch is decided.
    pub(super) async fn deliver(&mut self, batch: &[Event]) {
        let Err(refused) = self.attempt(batch).await else {
            return;
        };
        if batch.len() == 1 || verdict(refused.status) == Verdict::BadSender {
            return self.decide(refuse(batch, &refused));
        }
        for event in batch.chunks(1) {
            if let Err(refused) = self.attempt(event).await {
                self.decide(refuse(event, &refused));
            }
        }
    }

    /// Tries until the events are published or expired; an answer that refuses them is left to the caller.
    async fn attempt(&mut self, events: &[Event]) -> Result<(), Answer> {
        let body = event::batch(events);
        let mut backoff = Backoff::new(self.config.first_pause, self.config.longest_pause);
        let deadline = Instant::now() + self.config.give_up_after;
        loop {
            let outcome = self.post(body.clone()).await;
            let (cause, asked) = match outcome {
                Ok(answer) => match verdict(answer.status) {
                    Verdict::Published => {
                        self.decide(published(events, &answer.body));
                        return Ok(());
                    }
                    Verdict::Again => (format!("status {}", answer.status.as_u16()), answer.retry_after),
                    Verdict::BadContent | Verdict::BadSender => return Err(answer),
                },
                Err(no_answer) => (no_answer.to_string(), None),
            };
            let after = backoff.pause(asked);
            if Instant::now() + after >= deadline {
                self.decide(Report::Expired {
                    events: events.len() as u64,
                });
                return Ok(());
            }
            self.report(&Report::Retried {
                events: events.len() as u64,
                cause,
                after,
            });
            tokio::time::sleep(after).await;
        }
    }

    async fn post(&mut self, body: Bytes) -> Result<Answer, NoAnswer> {
        self.connection.ask(Method::POST, "/api/v1/events", body).await
    }

    /// Reports the end of some events, which thereby wait no longer.
    fn decide(&self, report: Report) {
        let events = match &report {
            Report::Published { events, .. }
            | Report::Refused { events, .. }
            | Report::Expired { events } => *events,
            Report::Retried { .. } => 0,
        };
        self.state.waiting.fetch_sub(events as usize, Ordering::Relaxed);
        self.report(&report);
    }

    fn report(&self, report: &Report) {
        self.state.counters.add(report);
        self.config.observer.hear(report);
    }
}

fn verdict(status: StatusCode) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Published,
        408 | 425 | 429 | 500..=599 => Verdict::Again,
        400 | 413 | 422 => Verdict::BadContent,
        _ => Verdict::BadSender,
    }
}

/// The status alone is the promise; the body only says what was known before.
fn published(events: &[Event], body: &[u8]) -> Report {
    #[derive(Deserialize)]
    struct Position {
        #[serde(default)]
        duplicate: bool,
    }
    let positions: Vec<Position> = serde_json::from_slice(body).unwrap_or_default();
    let duplicates = positions.iter().filter(|position| position.duplicate).count();
    Report::Published {
        events: events.len() as u64,
        duplicates: duplicates as u64,
    }
}

fn refuse(events: &[Event], answer: &Answer) -> Report {
    let reason = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
    Report::Refused {
        events: events.len() as u64,
        status: answer.status.as_u16(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts<const N: usize>(statuses: [u16; N]) -> [Verdict; N] {
        statuses.map(|status| verdict(StatusCode::from_u16(status).unwrap()))
    }

    #[test]
    fn a_broker_that_cannot_now_is_asked_again() {
        assert_eq!(verdicts([408, 425, 429, 500, 502, 503, 504]), [Verdict::Again; 7]);
    }

    #[test]
    fn a_complaint_about_the_content_is_told_from_one_about_the_sender() {
        assert_eq!(verdicts([400, 401]), [Verdict::BadContent, Verdict::BadSender]);
    }
}
