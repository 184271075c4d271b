//! What the application asks for.

use std::collections::BTreeSet;

use super::It;
use crate::session::Call;

#[test]
fn a_refused_call_says_what_was_refused_and_why() {
    let mut it = It::connected();
    it.call(Call::Subscribe(vec!["/x".into()]));
    it.drain();
    it.answer("/meta/subscribe", r#","successful":false,"error":"403::no""#);
    it.expect(&["answer: /x refused: 403::no"]);
}

#[test]
fn several_channels_are_subscribed_with_one_message() {
    let mut it = It::connected();
    it.call(Call::Subscribe(vec!["/x".into(), "/y".into()]));
    it.expect(&[r#"subscribe a ["/x", "/y"]"#]);
}

#[test]
fn an_unsubscribed_channel_is_not_subscribed_again() {
    let mut it = It::subscribed();
    it.call(Call::Unsubscribe(vec!["/one".into()]));
    it.drain();
    it.answer("/meta/unsubscribe", r#","successful":true"#);
    assert_eq!(it.session.subscriptions, BTreeSet::from(["/two".to_owned()]));
}

#[test]
fn a_call_without_a_connection_fails_at_once() {
    let mut it = It::connected();
    it.session.handle_broken(it.now, "cut");
    it.drain();
    it.publish();
    it.expect(&["answer: not connected"]);
}

#[test]
fn an_unanswered_call_fails_after_the_network_delay() {
    let mut it = It::connected();
    it.publish();
    it.after(10);
    it.expect(&["/a a", "abandon", "answer: no answer from /a within 10s"]);
}

#[test]
fn a_disconnect_ends_with_its_answer() {
    let mut it = It::connected();
    it.call(Call::Disconnect);
    it.expect(&["disconnect a"]);
    it.answer("/meta/disconnect", r#","successful":true"#);
    it.expect(&["answer ok", "closed by client"]);
}

#[test]
fn a_held_connect_released_by_the_disconnect_is_not_the_servers_end() {
    let mut it = It::connected();
    it.call(Call::Disconnect);
    it.drain();
    it.connect_succeeds(r#","advice":{"reconnect":"none"}"#);
    it.expect(&[]);
}

#[test]
fn a_disconnect_without_an_answer_ends_all_the_same() {
    let mut it = It::connected();
    it.call(Call::Disconnect);
    it.drain();
    it.after(10);
    it.expect(&[
        "abandon",
        "answer: no answer from /meta/disconnect within 10s",
        "closed by client",
    ]);
}

#[test]
fn a_disconnect_while_interrupted_ends_at_once() {
    let mut it = It::connected();
    it.session.handle_broken(it.now, "cut");
    it.drain();
    it.call(Call::Disconnect);
    it.expect(&["answer ok", "closed by client"]);
}

#[test]
fn the_end_of_a_session_ends_its_calls() {
    let mut it = It::connected();
    it.publish();
    it.drain();
    it.receive(r#"{"channel":"/meta/disconnect","successful":true}"#);
    it.expect(&["answer: closed", "closed by server: None"]);
}

#[test]
fn a_call_of_a_session_that_is_replaced_fails() {
    let mut it = It::connected();
    it.publish();
    it.drain();
    it.session_is_unknown();
    let unknown = "402::session_unknown";
    it.expect(&[
        &format!("answer: connection failed: {unknown}"),
        &format!("interrupted: {unknown}"),
        "handshake",
    ]);
}
