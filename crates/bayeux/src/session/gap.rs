//! A part of the log that is lost for a session: its client is told with a connect reply, until one is known to have arrived.

use serde_json::Value;

use super::Session;
use crate::{Carrier, CarrierKind, LogEnds, Offset, Reply};

/// What is lost, and how far its client is from knowing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    /// The first offset that is still there.
    first: Offset,
    /// A read of the log after this offset finds the gap again.
    found_after: Option<Offset>,
    told: Option<Told>,
}

/// The reply that told of it.
#[derive(Debug, Clone, Copy)]
struct Told {
    carrier: Carrier,
    /// Its number, for an acknowledgement.
    number: Offset,
}

impl Gap {
    /// The offsets of the session are not of this log, or beyond its end.
    pub(super) fn of_another_log(first: Offset) -> Self {
        Self {
            first,
            found_after: None,
            told: None,
        }
    }
}

impl Session {
    /// The client has seen events that this log does not have: it is told so, and goes on from the end.
    pub(crate) fn lost(&mut self, ends: LogEnds) {
        if self.gap.is_none() {
            self.gap = Some(Gap::of_another_log(ends.first));
            self.window.skip_to(ends.last);
        }
    }

    /// The client is to be told of a gap.
    pub fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// The client was told of a gap with a reply of this number; nobody knows yet whether it arrived.
    pub(crate) fn told_of_gap_with(&self) -> Option<Offset> {
        self.gap.and_then(|gap| gap.told).map(|told| told.number)
    }

    /// The reply that told of the gap has arrived.
    pub(crate) fn knows_of_gap(&mut self) {
        self.gap = None;
    }

    pub(super) fn read_found_gap(&mut self, first: Offset, after: Offset) {
        let found_after = match self.gap {
            Some(gap) => gap.found_after.map(|earlier| earlier.min(after)),
            None => Some(after),
        };
        self.gap = Some(Gap {
            first,
            found_after,
            told: None,
        });
    }

    pub(super) fn has_untold_gap(&self) -> bool {
        self.gap.is_some_and(|gap| gap.told.is_none())
    }

    pub(super) fn tell_of_gap(&mut self, carrier: Carrier, reply: &mut Reply) {
        let number = self.window.sent();
        if let Some(gap) = self.gap.as_mut().filter(|gap| gap.told.is_none()) {
            reply.ext.insert("recovered".into(), Value::Bool(false));
            reply.ext.insert("first".into(), gap.first.0.into());
            gap.told = Some(Told { carrier, number });
        }
    }

    /// A connect came: either it shows that the reply which told of the gap arrived, or the next one tells of it again. An
    /// acknowledgement has shown it already.
    pub(super) fn account_gap(&mut self, carrier: Carrier, reply_lost: bool) {
        let Some(told) = self.gap.and_then(|gap| gap.told) else {
            return;
        };
        let arrived = !reply_lost
            && !self.agreed.acknowledges()
            && (told.carrier.kind == CarrierKind::Exchange || told.carrier == carrier);
        if arrived {
            self.gap = None;
        } else if let Some(gap) = &mut self.gap {
            gap.told = None;
        }
    }

    /// Where to go on from after a restart: before a gap that its client may not know of.
    pub(super) fn cursor(&self) -> Offset {
        let proven = self.window.proven();
        let found_after = self.gap.and_then(|gap| gap.found_after);
        found_after.map_or(proven, |after| after.min(proven))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::codec::{self, Body};
    use crate::{ChannelPattern, ClientId, Output, Rights, Routes, Settings, Snapshot};

    struct Nowhere;

    impl Routes for Nowhere {
        fn add(&mut self, _: &ChannelPattern) -> LogEnds {
            self.ends()
        }
        fn remove(&mut self, _: &ChannelPattern) {}
        fn ends(&self) -> LogEnds {
            LogEnds {
                first: Offset(1),
                last: Offset(50),
            }
        }
    }

    /// A session whose record is of another log; this one has no events yet.
    #[expect(clippy::disallowed_methods, reason = "any moment will do: no time passes")]
    fn resumed(extensions: &[&str]) -> (Session, Instant) {
        let snapshot = Snapshot {
            subscriptions: Vec::new(),
            cursor: Offset(1000),
            extensions: extensions.iter().map(|name| (*name).into()).collect(),
            replays: 0,
            carried: Offset::START,
            contested: false,
            ..Snapshot::default()
        };
        let ends = LogEnds {
            first: Offset(1),
            last: Offset(50),
        };
        let now = Instant::now();
        let session = Session::resume(
            ClientId::new("s"),
            Arc::new(Settings::default()),
            Rights::default(),
            snapshot,
            ends,
            false,
            now,
        );
        (session, now)
    }

    fn connect((session, now): &mut (Session, Instant), id: u64, ext: &str) -> String {
        let carrier = Carrier {
            id,
            kind: CarrierKind::Exchange,
        };
        let body = format!(r#"{{"channel":"/meta/connect","clientId":"s","advice":{{"timeout":0}}{ext}}}"#);
        let message = codec::decode(body.as_bytes(), &session.settings.limits.clone())
            .unwrap()
            .remove(0)
            .unwrap();
        if let crate::Answer::Reply(reply) =
            session.handle_message(*now, carrier, true, &message, &mut Nowhere)
        {
            panic!("refused: {:?}", reply.error());
        }
        session.handle_progress(Offset(50));
        let mut body = Body::default();
        while let Some(output) = session.poll_output(*now, carrier) {
            match output {
                Output::Reply(reply) => body.reply(&reply),
                Output::ReadLog(after) => session.handle_read(
                    carrier,
                    crate::PageRead {
                        after,
                        events: Vec::new(),
                        through: Offset(50),
                        gap: None,
                    },
                ),
                Output::Event(_)
                | Output::Direct(_)
                | Output::Ping(_)
                | Output::Superseded
                | Output::Refused => {}
            }
        }
        String::from_utf8(body.finish()).unwrap()
    }

    #[test]
    fn an_acknowledging_client_that_lost_the_reply_is_told_of_the_gap_again() {
        let mut it = resumed(&["ack"]);
        for id in 1..4 {
            let reply = connect(&mut it, id, r#","ext":{"ack":1000}"#);
            assert!(reply.contains(r#""recovered":false"#), "{reply}");
        }
        let reply = connect(&mut it, 4, r#","ext":{"ack":35184372088882}"#);
        assert!(!reply.contains("recovered"), "{reply}");
    }

    #[test]
    fn a_number_of_another_log_does_not_confirm_the_gap_when_a_reply_of_this_one_ends_at_the_same_offset() {
        let mut it = resumed(&["ack"]);
        for id in 1..4 {
            let reply = connect(&mut it, id, r#","ext":{"ack":50}"#);
            assert!(reply.contains(r#""recovered":false"#), "{reply}");
        }
    }

    #[test]
    fn that_numbers_count_anew_is_written_down_before_a_reply_says_one() {
        let (mut session, _) = resumed(&["ack"]);
        assert!(session.take_record_change());
        assert_eq!(session.snapshot().replays, 1);
    }

    #[test]
    fn a_plain_client_that_recovers_is_told_of_the_gap_again() {
        let mut it = resumed(&[]);
        for id in 1..4 {
            let reply = connect(&mut it, id, "");
            assert!(reply.contains(r#""recovered":false"#), "{reply}");
        }
    }
}
