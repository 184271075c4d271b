//! Keeping a session: connects, acknowledgements, advice, failures.

use super::It;
use crate::session::Call;

#[test]
fn the_first_connect_asks_for_an_answer_at_once() {
    let mut it = It::new(false);
    it.drain();
    it.handshake_succeeds("a", "");
    it.expect(&["connect a timeout=0"]);
}

#[test]
fn the_second_connect_may_be_held() {
    let mut it = It::new(false);
    it.drain();
    it.handshake_succeeds("a", "");
    it.drain();
    it.connect_succeeds("");
    it.expect(&["connected a resumed=false", "connect a"]);
}

#[test]
fn a_refused_first_connect_fails_the_client() {
    let mut it = It::new(false);
    it.drain();
    it.handshake_succeeds("a", "");
    it.drain();
    it.session_is_unknown();
    it.expect(&["failed: /meta/connect refused: 402::session_unknown"]);
}

#[test]
fn acknowledge_is_used_once_the_server_confirms_it() {
    let mut it = It::new(true);
    it.expect(&["handshake ack=true"]);
    it.handshake_succeeds("a", r#","ext":{"ack":{"enabled":true}}"#);
    it.expect(&["connect a timeout=0 ack=0"]);
}

#[test]
fn acknowledge_is_not_used_with_a_server_that_does_not_confirm_it() {
    let mut it = It::new(true);
    it.drain();
    it.handshake_succeeds("a", "");
    it.expect(&["connect a timeout=0"]);
}

fn acknowledging(number: u64) -> It {
    let mut it = It::new(true);
    it.drain();
    it.handshake_succeeds("a", r#","ext":{"ack":true}"#);
    it.drain();
    it.connect_succeeds(&format!(r#","ext":{{"ack":{number}}}"#));
    it
}

#[test]
fn a_connect_acknowledges_the_last_number_received() {
    acknowledging(7).expect(&["connected a resumed=false", "connect a ack=7"]);
}

#[test]
fn the_number_is_kept_through_a_network_failure() {
    let mut it = acknowledging(7);
    it.drain();
    it.session.handle_broken(it.now, "cut");
    it.after(1);
    it.expect(&["interrupted: connection failed: cut", "connect a timeout=0 ack=7"]);
}

#[test]
fn a_new_session_acknowledges_from_the_beginning() {
    let mut it = acknowledging(7);
    it.drain();
    it.session_is_unknown();
    it.drain();
    it.handshake_succeeds("b", r#","ext":{"ack":true}"#);
    it.expect(&["connect b timeout=0 ack=0"]);
}

#[test]
fn an_interval_delays_the_next_connect() {
    let mut it = It::connected();
    it.connect_succeeds(r#","advice":{"interval":3000}"#);
    it.after(2);
    it.expect(&[]);
    it.after(1);
    it.expect(&["connect a"]);
}

#[test]
fn a_connect_may_take_the_advised_timeout_and_the_network_delay() {
    let mut it = It::connected();
    it.connect_succeeds(r#","advice":{"timeout":30000}"#);
    it.drain();
    it.after(39);
    it.expect(&[]);
}

#[test]
fn an_unanswered_connect_is_given_up_and_repeated() {
    let mut it = It::connected();
    it.connect_succeeds(r#","advice":{"timeout":30000}"#);
    it.drain();
    it.after(41);
    let interrupted = "interrupted: no answer from /meta/connect within 40s";
    it.expect(&["abandon", interrupted, "connect a timeout=0"]);
}

#[test]
fn the_late_answer_to_a_connect_that_was_given_up_is_ignored() {
    let mut it = It::connected();
    let late = it.sent.clone();
    it.after(71);
    it.drain();
    it.sent = late;
    it.connect_succeeds("");
    it.expect(&[]);
}

#[test]
fn the_same_session_goes_on_after_a_network_failure() {
    let mut it = It::connected();
    it.session.handle_broken(it.now, "cut");
    it.after(1);
    it.drain();
    it.connect_succeeds("");
    it.expect(&["connected a resumed=true", "connect a"]);
}

#[test]
fn each_failure_in_a_row_waits_longer() {
    let mut it = It::connected();
    it.session.handle_broken(it.now, "cut");
    it.after(1);
    it.drain();
    it.session.handle_broken(it.now, "cut");
    it.after(1);
    it.expect(&[]);
    it.after(1);
    it.expect(&["connect a timeout=0"]);
}

#[test]
fn a_held_connect_that_is_answered_ends_the_row_of_failures() {
    let mut it = It::connected();
    for _ in 0..2 {
        it.session.handle_broken(it.now, "cut");
        it.after(1);
        it.drain();
        it.connect_succeeds("");
        it.drain();
        it.connect_succeeds("");
        it.drain();
    }
    assert_eq!(it.session.failures, 0);
}

#[test]
fn a_socket_that_breaks_between_two_connects_is_a_failure() {
    let mut it = It::connected();
    it.connect_succeeds(r#","advice":{"interval":5000}"#);
    it.session.handle_broken(it.now, "cut");
    it.expect(&["interrupted: connection failed: cut"]);
}

#[test]
fn the_loss_of_another_request_does_not_interrupt_the_session() {
    let mut it = It::connected();
    let id = it.publish();
    it.session.handle_lost(it.now, &[id], "HTTP 503");
    it.expect(&["/a a", "answer: connection failed: HTTP 503"]);
}

#[test]
fn reconnect_none_ends_the_session() {
    let mut it = It::connected();
    it.answer(
        "/meta/connect",
        r#","successful":true,"advice":{"reconnect":"none"}"#,
    );
    it.expect(&["closed by server: None"]);
}

#[test]
fn a_disconnect_that_nobody_asked_for_ends_the_session() {
    let mut it = It::connected();
    it.receive(r#"{"channel":"/meta/disconnect","successful":true}"#);
    it.expect(&["closed by server: None"]);
}

#[test]
fn advice_in_a_published_message_is_ignored() {
    let mut it = It::connected();
    it.receive(r#"{"channel":"/a","data":1,"advice":{"reconnect":"none"}}"#);
    it.expect(&["message /a 1"]);
}

#[test]
fn an_unrecovered_connect_reports_a_gap() {
    let mut it = It::connected();
    it.connect_succeeds(r#","ext":{"recovered":false,"first":42}"#);
    it.expect(&["gap Some(42)", "connect a"]);
}

#[test]
fn while_nothing_is_read_a_connect_is_not_given_up() {
    let mut it = It::connected();
    it.session.handle_stalled(it.now, true);
    it.after(1000);
    it.expect(&[]);
}

#[test]
fn after_a_stall_the_connect_has_its_whole_time_again() {
    let mut it = It::connected();
    it.session.handle_stalled(it.now, true);
    it.after(1000);
    it.session.handle_stalled(it.now, false);
    it.after(69);
    it.expect(&[]);
}

#[test]
fn a_call_that_expires_in_a_stall_takes_no_connect_with_it() {
    let mut it = It::connected();
    it.session.handle_stalled(it.now, true);
    it.after(100);
    it.call(Call::Unsubscribe(vec!["/a".into()]));
    it.after(10);
    it.expect(&["unsubscribe a /a", "answer: no answer from /a within 10s"]);
}
