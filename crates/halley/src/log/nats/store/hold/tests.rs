use std::time::Duration;

use bayeux::{ClientId, Snapshot};

use super::*;
use crate::event::Tenant;
use crate::log::Epoch;

/// A record of a node; its user says which one it is.
fn record(name: &str, node: &str, cursor: u64) -> SessionRecord {
    SessionRecord {
        client_id: ClientId::new("abc"),
        tenant: Tenant::default(),
        user: Some(name.into()),
        roles: Arc::default(),
        token: None,
        browser: None,
        epoch: Epoch("e".into()),
        state: Snapshot {
            subscriptions: Vec::new(),
            cursor: Offset(cursor),
            extensions: Vec::new(),
            replays: 0,
            ..Snapshot::default()
        },
        seen: at(0),
        node: (!node.is_empty()).then(|| NodeId(node.into())),
        fence: 0,
    }
}

fn holder(node: &str, fence: u64) -> Holder {
    Holder {
        node: Some(NodeId(node.into())),
        fence,
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn found(revision: Revision, record: SessionRecord) -> Outcome {
    Outcome::Read(Some((revision, Arc::new(record))))
}

fn unanswered() -> Outcome {
    Outcome::Failed(LogError::Unanswered("late".into()))
}

fn away() -> Outcome {
    Outcome::Failed(LogError::Away("gone".into()))
}

/// The hold of the node `me`, with short words for what comes in and goes out.
struct It(Hold<&'static str>);

impl It {
    fn new() -> Self {
        Self(Hold::new(NodeId("me".into())))
    }

    /// The record is written, as revision 1.
    fn holding() -> Self {
        let mut it = Self::new();
        it.put("a", 5, "begin");
        it.then("write a 5 over 0", Outcome::Written(1));
        it.answers("begin: done");
        it
    }

    fn put(&mut self, name: &str, cursor: u64, waiting: &'static str) {
        self.0.put(record(name, "", cursor), waiting);
    }

    fn mark(&mut self, cursor: u64, waiting: &'static str) {
        self.0.checkpoint(Offset(cursor), at(cursor), waiting);
    }

    #[track_caller]
    fn does(&mut self, expected: &str) {
        let step = match self.0.poll_step() {
            None => "nothing".to_owned(),
            Some(Step::Read) => "read".to_owned(),
            Some(Step::ReadLater) => "read later".to_owned(),
            Some(Step::Write(record, revision)) => {
                assert_eq!(record.node, Some(NodeId("me".into())), "in whose name");
                format!("write {} over {revision}", short(&record))
            }
            Some(Step::Delete(revision)) => format!("delete {revision}"),
        };
        assert_eq!(step, expected);
    }

    #[track_caller]
    fn then(&mut self, expected: &str, outcome: Outcome) {
        self.does(expected);
        self.0.handle_outcome(outcome);
    }

    #[track_caller]
    fn answers(&mut self, expected: &str) {
        let mut answers = Vec::new();
        while let Some((waiting, answer)) = self.0.poll_answer() {
            let answer = match answer {
                Ok(None) => "done".to_owned(),
                Ok(Some(record)) => short(&record),
                Err(LogError::Taken) => "taken".to_owned(),
                Err(LogError::Away(_)) => "away".to_owned(),
                Err(LogError::Unanswered(_)) => "unanswered".to_owned(),
                Err(error) => panic!("{error}"),
            };
            answers.push(format!("{waiting}: {answer}"));
        }
        if self.0.poll_lost() {
            answers.push("lost".to_owned());
        }
        assert_eq!(answers.join(", "), expected);
    }
}

fn short(record: &SessionRecord) -> String {
    format!(
        "{} {}",
        record.user.as_deref().unwrap_or_default(),
        record.state.cursor.0
    )
}

#[test]
fn a_write_is_done_over_the_revision_of_the_one_before() {
    let mut it = It::holding();
    it.put("b", 1, "put");
    it.then("write b 1 over 1", Outcome::Written(7));
    it.mark(9, "mark");
    it.then("write b 9 over 7", Outcome::Written(8));
    it.0.remove("remove");
    it.then("delete 8", Outcome::Deleted);
    it.does("nothing");
    it.answers("put: done, mark: done, remove: done");
    assert!(it.0.is_empty());
}

#[test]
fn one_thing_is_done_at_a_time_and_nobody_is_answered_before() {
    let mut it = It::holding();
    it.put("b", 1, "one");
    it.does("write b 1 over 1");
    it.put("c", 1, "two");
    it.does("nothing");
    it.answers("");
    it.0.handle_outcome(Outcome::Written(2));
    it.answers("one: done");
    it.does("write c 1 over 2");
}

#[test]
fn writes_that_wait_are_written_as_one() {
    let mut it = It::holding();
    it.mark(6, "begun");
    it.does("write a 6 over 1");
    it.mark(8, "one");
    it.mark(7, "two");
    it.0.handle_outcome(Outcome::Written(2));
    it.does("write a 8 over 2");
    it.0.remove("three");
    it.mark(99, "four");
    it.put("b", 1, "five");
    it.mark(3, "six");
    it.0.handle_outcome(Outcome::Written(3));
    it.then("write b 3 over 3", Outcome::Written(4));
    it.answers("begun: done, one: done, two: done, three: done, four: done, five: done, six: done");
}

#[test]
fn a_read_sees_what_was_called_before_and_nothing_that_is_called_later() {
    let mut it = It::holding();
    it.put("b", 1, "put");
    it.0.get("get");
    it.0.remove("remove");
    it.then("write b 1 over 1", Outcome::Written(2));
    it.then("read", found(2, record("b", "me", 1)));
    it.does("delete 2");
    it.answers("put: done, get: b 1");
}

#[test]
fn a_cursor_never_moves_back() {
    let mut it = It::holding();
    it.mark(3, "mark");
    it.does("write a 5 over 1");
}

#[test]
fn a_checkpoint_of_nothing_does_nothing() {
    let mut it = It::new();
    it.mark(3, "mark");
    it.then("read", Outcome::Read(None));
    it.does("nothing");
    it.answers("mark: done");
    assert!(it.0.is_empty());
}

#[test]
fn a_record_that_is_not_in_memory_is_read_before_it_is_changed() {
    let mut it = It::new();
    it.mark(9, "mark");
    it.then("read", found(4, record("a", "me", 5)));
    it.then("write a 9 over 4", Outcome::Written(5));
    it.answers("mark: done");
}

#[test]
fn a_record_of_nobody_is_this_nodes_when_it_writes_it() {
    let mut it = It::new();
    it.mark(9, "mark");
    it.then("read", found(4, record("a", "", 5)));
    it.does("write a 9 over 4");
}

#[test]
fn what_another_node_has_taken_is_not_written_and_everyone_who_waits_hears_it() {
    let mut it = It::holding();
    it.put("b", 1, "put");
    it.does("write b 1 over 1");
    it.mark(9, "mark");
    it.0.get("get");
    it.0.remove("remove");
    it.0.handle_outcome(Outcome::Refused);
    it.then("read", found(2, record("a", "other", 5)));
    it.answers("put: taken, lost");
    it.then("read", found(2, record("a", "other", 5)));
    it.does("nothing");
    it.answers("mark: taken, get: a 5, remove: taken");
}

#[test]
fn after_it_was_taken_nothing_is_written_until_it_is_given_up() {
    let mut it = It::holding();
    it.put("b", 1, "put");
    it.then("write b 1 over 1", Outcome::Refused);
    it.then("read", found(2, record("a", "other", 5)));
    it.put("c", 1, "again");
    it.does("nothing");
    it.answers("put: taken, again: taken, lost");
    it.0.release();
    it.does("nothing");
    assert!(it.0.is_empty());
}

#[test]
fn what_another_node_has_removed_is_taken_too() {
    let mut it = It::holding();
    it.mark(9, "mark");
    it.then("write a 9 over 1", Outcome::Refused);
    it.then("read", Outcome::Read(None));
    it.does("nothing");
    it.answers("mark: taken, lost");
}

#[test]
fn whoever_removes_what_is_gone_already_is_done() {
    let mut it = It::holding();
    it.0.remove("remove");
    it.then("delete 1", Outcome::Refused);
    it.then("read", Outcome::Read(None));
    it.does("nothing");
    it.answers("remove: done");
    assert!(it.0.is_empty());
}

#[test]
fn a_session_that_this_node_never_had_is_not_lost() {
    let mut it = It::new();
    it.put("b", 1, "put");
    it.then("write b 1 over 0", Outcome::Refused);
    it.then("read", found(2, record("a", "other", 5)));
    it.does("nothing");
    it.answers("put: taken");
    assert!(it.0.is_empty());
}

#[test]
fn a_session_that_another_node_is_seen_to_have_is_lost() {
    let mut it = It::holding();
    it.0.get("get");
    it.then("read", found(2, record("a", "other", 5)));
    it.answers("get: a 5, lost");
}

#[test]
fn what_was_read_before_this_node_wrote_says_nothing_of_who_has_the_session() {
    let mut it = It::new();
    it.0.adopt(holder("other", 0), "adopt");
    it.then("read", found(1, record("a", "other", 5)));
    it.then("write a 5 over 1", Outcome::Written(2));
    it.0.get("get");
    it.then("read", found(1, record("a", "other", 5)));
    it.answers("adopt: a 5, get: a 5");
    it.mark(6, "mark");
    it.does("write a 6 over 2");
}

#[test]
fn an_adopted_record_is_this_nodes() {
    for node in ["other", ""] {
        let mut it = It::new();
        it.0.adopt(holder("other", 0), "adopt");
        it.then("read", found(3, record("a", node, 5)));
        it.then("write a 5 over 3", Outcome::Written(4));
        it.mark(6, "mark");
        it.does("write a 6 over 4");
        it.answers("adopt: a 5");
    }
}

#[test]
fn what_names_another_node_by_now_is_not_adopted() {
    let mut it = It::new();
    it.0.adopt(holder("other", 0), "one");
    it.then("read", found(3, record("a", "third", 5)));
    it.0.adopt(holder("other", 0), "two");
    it.then("read", Outcome::Read(None));
    it.0.adopt(holder("other", 0), "three");
    it.then("read", found(3, record("a", "other", 5)));
    it.then("write a 5 over 3", Outcome::Refused);
    it.does("nothing");
    it.answers("one: done, two: done, three: done");
    assert!(it.0.is_empty());
}

#[test]
fn what_the_same_node_has_adopted_again_is_not_adopted_from_before() {
    let mut it = It::new();
    it.0.adopt(holder("other", 1), "before");
    let mut again = record("a", "other", 5);
    again.fence = 2;
    it.then("read", found(3, again.clone()));
    it.0.adopt(holder("other", 2), "since");
    it.then("read", found(3, again));
    it.then("write a 5 over 3", Outcome::Written(4));
    it.answers("before: done, since: a 5");
}

#[test]
fn what_is_written_of_an_adopted_session_has_its_fence() {
    let mut it = It::new();
    it.0.adopt(holder("other", 0), "adopt");
    it.then("read", found(3, record("a", "other", 5)));
    it.then("write a 5 over 3", Outcome::Written(4));
    it.put("b", 6, "put");
    let Some(Step::Write(record, 4)) = it.0.poll_step() else {
        panic!("it is written over what was adopted");
    };
    assert_eq!(record.fence, 1);
}

#[test]
fn a_session_that_was_taken_is_written_again_when_it_was_adopted_back() {
    let mut it = It::holding();
    it.mark(6, "mark");
    it.then("write a 6 over 1", Outcome::Refused);
    it.then("read", found(2, record("a", "other", 5)));
    it.0.adopt(holder("other", 0), "adopt");
    it.then("read", found(3, record("a", "other", 7)));
    it.then("write a 7 over 3", Outcome::Written(4));
    it.mark(8, "again");
    it.does("write a 8 over 4");
    it.answers("mark: taken, adopt: a 7, lost");
}

#[test]
fn a_write_that_arrived_without_an_answer_is_this_nodes() {
    let mut it = It::holding();
    it.put("b", 6, "put");
    it.then("write b 6 over 1", unanswered());
    it.mark(7, "mark");
    it.then("read", found(2, record("b", "me", 6)));
    it.then("write b 7 over 2", Outcome::Written(3));
    it.answers("put: unanswered, mark: done");
}

#[test]
fn a_write_that_arrives_late_is_this_nodes() {
    let mut it = It::holding();
    it.put("b", 6, "put");
    it.then("write b 6 over 1", unanswered());
    it.put("c", 1, "again");
    it.then("read", found(1, record("a", "me", 5)));
    it.then("write c 1 over 1", Outcome::Refused);
    it.then("read", found(2, record("b", "me", 6)));
    it.then("write c 1 over 2", Outcome::Written(3));
    it.answers("put: unanswered, again: done");
}

#[test]
fn a_write_that_could_not_be_sent_leaves_no_doubt() {
    let mut it = It::holding();
    it.put("b", 6, "put");
    it.then("write b 6 over 1", away());
    it.mark(7, "mark");
    it.does("write a 7 over 1");
    it.answers("put: away");
}

#[test]
fn a_failure_is_the_answer_of_one_write_and_not_of_those_that_wait() {
    let mut it = It::holding();
    it.mark(6, "one");
    it.does("write a 6 over 1");
    it.mark(7, "two");
    it.0.handle_outcome(unanswered());
    it.then("read", away());
    it.answers("one: unanswered, two: away");
}

#[test]
fn a_deletion_that_arrived_without_an_answer_is_nobody_elses() {
    let mut it = It::holding();
    it.0.remove("remove");
    it.then("delete 1", unanswered());
    it.put("b", 1, "put");
    it.then("read", Outcome::Read(None));
    it.then("write b 1 over 0", Outcome::Written(2));
    it.answers("remove: unanswered, put: done");
}

#[test]
fn nothing_that_was_sent_before_comes_after_a_deletion() {
    for is_there in [true, false] {
        let mut it = It::new();
        it.put("a", 1, "put");
        it.then("write a 1 over 0", unanswered());
        it.0.remove("remove");
        let (read, write) = if is_there {
            (found(1, record("a", "me", 1)), "write a 1 over 1")
        } else {
            (Outcome::Read(None), "write a 1 over 0")
        };
        it.then("read", read);
        it.then(write, Outcome::Written(2));
        it.then("delete 2", Outcome::Deleted);
        it.answers("put: unanswered, remove: done");
        assert!(it.0.is_empty());
    }
}

#[test]
fn a_session_whose_first_write_was_not_answered_is_written_by_the_next() {
    let mut it = It::new();
    it.put("a", 1, "put");
    it.then("write a 1 over 0", unanswered());
    it.mark(3, "mark");
    it.then("read", Outcome::Read(None));
    it.then("write a 3 over 0", Outcome::Written(2));
    it.answers("put: unanswered, mark: done");
}

#[test]
fn a_record_that_does_not_settle_is_given_up() {
    let mut it = It::holding();
    it.mark(6, "mark");
    for revision in 1..=u64::from(TRIES) {
        it.then(&format!("write a 6 over {revision}"), Outcome::Refused);
        let read = if revision == 1 { "read" } else { "read later" };
        it.then(read, found(revision + 1, record("a", "me", 5)));
    }
    it.then(&format!("write a 6 over {}", TRIES + 1), Outcome::Refused);
    it.answers("mark: away");
}

#[test]
fn a_session_that_was_swept_here_is_not_lost() {
    let mut it = It::holding();
    it.0.handle_swept(1);
    assert!(it.0.is_empty());

    let mut it = It::holding();
    it.put("b", 1, "put");
    it.does("write b 1 over 1");
    it.0.handle_swept(1);
    it.0.handle_outcome(Outcome::Refused);
    it.then("read", Outcome::Read(None));
    it.then("write b 1 over 0", Outcome::Written(3));
    it.answers("put: done");
}

#[test]
fn whoever_waits_for_all_hears_when_what_was_called_before_is_done() {
    let mut it = It::holding();
    it.mark(6, "mark");
    it.0.settle("all");
    it.does("write a 6 over 1");
    it.answers("");
    it.0.handle_outcome(Outcome::Written(2));
    it.does("nothing");
    it.answers("mark: done, all: done");
}

/// Revision 7 is known, a write over it was not answered, and another one waits.
fn in_doubt() -> It {
    let mut it = It::new();
    it.put("a", 5, "begin");
    it.then("write a 5 over 0", Outcome::Written(7));
    it.put("b", 1, "one");
    it.then("write b 1 over 7", unanswered());
    it.answers("begin: done, one: unanswered");
    it.put("c", 2, "two");
    it
}

#[test]
fn a_read_that_is_older_than_what_is_known_says_nothing_and_is_done_again() {
    let mut it = in_doubt();
    it.then("read", found(3, record("x", "other", 0)));
    it.then("read", found(7, record("a", "me", 5)));
    it.then("write c 2 over 7", Outcome::Written(8));
    it.answers("two: done");
}

#[test]
fn reads_that_stay_older_are_given_up_and_lose_nothing() {
    let mut it = in_doubt();
    for read in ["read", "read"] {
        it.then(read, found(3, record("x", "other", 0)));
    }
    for _ in 1..TRIES {
        it.then("read later", found(3, record("x", "other", 0)));
    }
    it.answers("two: away");
    it.put("d", 3, "three");
    it.then("read", found(7, record("a", "me", 5)));
    it.then("write d 3 over 7", Outcome::Written(8));
    it.answers("three: done");
}
