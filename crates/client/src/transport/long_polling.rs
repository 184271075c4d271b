//! Two HTTP connections: one for the connect that the server holds, one for all other requests.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::cookies::Cookies;
use super::http::{Line, Outcome, Post};
use super::{Endpoint, Report, Transport};
use crate::reply::decode;
use crate::request::{CONNECT, MessageId, Request, encode};

/// The `long-polling` connection type. A batch is one POST.
pub(crate) struct LongPolling {
    connects: Line,
    others: Line,
    cookies: Cookies,
    reports: VecDeque<Report>,
}

impl LongPolling {
    /// Answers above `max_message_size` bytes count as failures.
    pub(crate) fn new(endpoint: Endpoint, max_message_size: usize) -> LongPolling {
        LongPolling {
            connects: Line::new(endpoint.clone(), max_message_size),
            others: Line::new(endpoint, max_message_size),
            cookies: Cookies::default(),
            reports: VecDeque::new(),
        }
    }

    fn report(&mut self, outcome: Outcome) {
        let Outcome { ids, result } = outcome;
        let reason = match result.map(|body| decode(&body)) {
            Ok(Ok(messages)) => {
                self.reports.push_back(Report::Received(messages));
                "the response holds no answer".to_owned()
            }
            Ok(Err(error)) => format!("not a Bayeux message: {error}"),
            Err(reason) => reason,
        };
        // The exchange is over: what it did not answer will not be answered.
        self.reports.push_back(Report::Lost { ids, reason });
    }
}

impl Transport for LongPolling {
    const CONNECTION_TYPE: &'static str = "long-polling";

    fn send(&mut self, batch: Vec<Request>) {
        let line = if batch.iter().any(|request| request.channel == CONNECT) {
            &mut self.connects
        } else {
            &mut self.others
        };
        let ids = batch.iter().map(|request| request.id).collect();
        line.send(Post {
            ids,
            body: encode(&batch).into(),
        });
    }

    fn abandon(&mut self, id: MessageId) {
        self.connects.abandon(id);
        self.others.abandon(id);
    }

    fn poll_report(&mut self, context: &mut Context<'_>) -> Poll<Report> {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return Poll::Ready(report);
            }
            let mut idle = true;
            for connects in [true, false] {
                let line = if connects {
                    &mut self.connects
                } else {
                    &mut self.others
                };
                if let Poll::Ready(outcome) = line.poll(&mut self.cookies, context) {
                    self.report(outcome);
                    idle = false;
                }
            }
            if idle {
                return Poll::Pending;
            }
        }
    }

    /// HTTP has no goodbye.
    async fn close(&mut self) {}
}
