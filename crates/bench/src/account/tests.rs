use super::*;

const WHO: Who<'_> = Who {
    client_id: "\"session\"",
    transport: "websocket",
};

/// An account of two users, with `own` and `all` published for user 0 and for everyone.
struct Books {
    account: Account,
    listener: Listener,
}

fn books(own: u64, all: u64) -> Books {
    let mut streams = Streams::new(2, std::sync::Arc::default());
    for _ in 0..own {
        streams.publish(0);
    }
    for _ in 0..all {
        streams.publish(EVERYONE);
    }
    Books {
        account: Account::new(1, true, true, streams),
        listener: Listener::default(),
    }
}

fn mark(stream: u32, number: u64) -> Mark {
    Mark {
        run: 1,
        body: 0,
        stream,
        number,
        due: 0,
    }
}

impl Books {
    fn hear(&mut self, stream: u32, numbers: &[u64]) {
        for number in numbers {
            self.account.hear(&mut self.listener, &mark(stream, *number), WHO);
        }
    }

    /// What is found at the end, as `lost 0#2`.
    #[track_caller]
    fn expect(mut self, expected: &[&str]) {
        self.account.settle(&self.listener, WHO);
        let findings = (self.account.findings.iter())
            .map(|finding| format!("{} {}", finding.wrong.words(), finding.event))
            .collect::<Vec<_>>();
        assert_eq!(findings, expected);
        let counted: u64 = Wrong::ALL
            .iter()
            .map(|wrong| self.account.counts.of(*wrong))
            .sum();
        assert_eq!(counted, expected.len() as u64);
    }
}

#[test]
fn every_event_once_and_in_order_is_nothing_to_find() {
    let mut books = books(3, 1);
    books.hear(0, &[0, 1]);
    books.hear(EVERYONE, &[0]);
    books.hear(0, &[2]);
    assert_eq!(books.account.counts.delivered, 4);
    books.expect(&[]);
}

#[test]
fn a_lost_event_is_found_in_the_middle_and_at_the_end() {
    let mut books = books(4, 1);
    books.hear(0, &[0, 2]);
    books.expect(&["lost 0#1", "lost 0#3", "lost everyone#0"]);
}

#[test]
fn a_duplicate_is_found() {
    let mut books = books(2, 0);
    books.hear(0, &[0, 1, 0]);
    books.expect(&["duplicated 0#0"]);
}

#[test]
fn a_reordered_event_is_found_and_is_not_lost() {
    let mut books = books(3, 0);
    books.hear(0, &[0, 2, 1]);
    assert_eq!(books.account.counts.delivered, 3);
    books.expect(&["out of order 0#1"]);
}

#[test]
fn the_event_of_another_user_is_foreign() {
    let mut books = books(0, 0);
    books.account.streams.publish(1);
    books.hear(1, &[0]);
    books.expect(&["foreign 1#0"]);
}

#[test]
fn an_event_of_another_run_or_one_that_was_never_published_is_foreign() {
    let mut books = books(1, 0);
    books.hear(0, &[0, 1]);
    let stranger = Mark { run: 2, ..mark(0, 0) };
    books.account.hear(&mut books.listener, &stranger, WHO);
    books.expect(&["foreign 0#1", "foreign 0#0"]);
}

#[test]
fn an_unreadable_event_is_corrupt() {
    let mut books = books(0, 0);
    books.account.hear_corrupt(&books.listener, None, WHO);
    books.expect(&["corrupt unreadable"]);
}

#[test]
fn a_finding_says_whose_session_it_was() {
    let mut books = books(1, 0);
    books.account.settle(&books.listener, WHO);
    let finding = books.account.findings.remove(0);
    assert_eq!((&*finding.user, &*finding.session), ("0", "session"));
}

#[test]
fn after_a_break_a_plain_session_may_be_told_again_until_something_new_comes() {
    let mut books = books(3, 0);
    books.hear(0, &[0, 1]);
    books.listener.may_repeat = true;
    books.hear(0, &[0, 1, 2]);
    assert_eq!(books.account.counts.repeated, 2);
    books.hear(0, &[1]);
    books.expect(&["duplicated 0#1"]);
}

#[test]
fn a_refused_event_need_not_come_and_must_not() {
    let mut books = books(3, 0);
    books
        .account
        .streams
        .with_mut(0, |stream| stream.refused = vec![0, 1]);
    books.hear(0, &[1]);
    assert_eq!(books.account.outstanding(&books.listener), 1);
    books.expect(&["lost 0#2", "delivered although refused 0#1"]);
}

#[test]
fn an_uncertain_event_may_come_or_not() {
    let mut books = books(2, 0);
    books
        .account
        .streams
        .with_mut(0, |stream| stream.uncertain = vec![0, 1]);
    books.hear(0, &[1]);
    assert_eq!(books.account.outstanding(&books.listener), 0);
    books.account.settle(&books.listener, WHO);
    assert_eq!(books.account.counts.expected, 1);
    let Books { account, .. } = books;
    assert_eq!(account.findings, []);
}

#[test]
fn a_target_is_reached_when_nothing_before_it_is_missing() {
    let mut books = books(2, 1);
    let target = books.account.target(&books.listener);
    books.hear(0, &[0, 1]);
    assert!(!target.is_reached_by(&books.listener));
    books.account.streams.publish(0);
    books.hear(EVERYONE, &[0]);
    assert!(target.is_reached_by(&books.listener));
}

#[test]
fn more_findings_than_anybody_reads_are_counted_only() {
    let mut books = books(100, 0);
    books.account.settle(&books.listener, WHO);
    assert_eq!(books.account.counts.lost, 100);
    assert_eq!(books.account.findings.len() as u64, FINDINGS);
    books.listener = Listener::default();
}
