//! Making sessions: the first, and the next when the server forgot it.

use std::collections::BTreeSet;

use super::It;

#[test]
fn the_first_request_is_a_handshake() {
    It::new(false).expect(&["handshake"]);
}

#[test]
fn a_refused_first_handshake_fails_the_client() {
    let mut it = It::new(false);
    it.drain();
    it.answer(
        "/meta/handshake",
        r#","successful":false,"error":"403::handshake_denied""#,
    );
    it.expect(&["failed: /meta/handshake refused: 403::handshake_denied"]);
}

#[test]
fn a_server_without_our_connection_type_fails_the_client() {
    let mut it = It::new(false);
    it.drain();
    it.handshake_succeeds("a", r#","supportedConnectionTypes":["long-polling"]"#);
    let words = "websocket is not among the server's connection types: long-polling";
    it.expect(&[&format!("failed: /meta/handshake refused: {words}")]);
}

#[test]
fn a_first_handshake_without_an_answer_fails_the_client() {
    let mut it = It::new(false);
    it.drain();
    it.after(10);
    it.expect(&["abandon", "failed: no answer from /meta/handshake within 10s"]);
}

#[test]
fn an_unknown_session_is_replaced_at_once() {
    let mut it = It::connected();
    it.session_is_unknown();
    it.expect(&["interrupted: 402::session_unknown", "handshake"]);
}

#[test]
fn a_new_session_subscribes_to_everything_before_it_connects() {
    let mut it = It::subscribed();
    it.session_is_unknown();
    it.drain();
    it.handshake_succeeds("b", "");
    it.expect(&["subscribe b /one + subscribe b /two"]);
}

#[test]
fn a_new_session_is_announced_when_it_is_subscribed_and_connected() {
    let mut it = It::subscribed();
    it.session_is_unknown();
    it.drain();
    it.handshake_succeeds("b", "");
    it.drain();
    it.answer("/meta/subscribe", r#","successful":true"#);
    it.expect(&[]);
    it.answer("/meta/subscribe", r#","successful":true"#);
    it.expect(&["connect b timeout=0"]);
    it.connect_succeeds("");
    it.expect(&["connected b resumed=false", "connect b"]);
}

#[test]
fn a_subscription_that_the_new_session_is_refused_is_told_and_forgotten() {
    let mut it = It::subscribed();
    it.session_is_unknown();
    it.drain();
    it.handshake_succeeds("b", "");
    it.drain();
    it.answer("/meta/subscribe", r#","successful":false,"error":"403::no""#);
    it.expect(&["lost /one: 403::no"]);
    assert_eq!(it.session.subscriptions, BTreeSet::from(["/two".to_owned()]));
}

#[test]
fn subscribing_again_is_repeated_after_a_network_failure() {
    let mut it = It::subscribed();
    it.session_is_unknown();
    it.drain();
    it.handshake_succeeds("b", "");
    it.drain();
    it.session.handle_broken(it.now, "cut");
    it.after(2);
    it.expect(&["subscribe b /one + subscribe b /two"]);
}

#[test]
fn a_server_that_forgets_every_session_is_met_with_growing_pauses() {
    let mut it = It::connected();
    for pause in 0..4 {
        it.session_is_unknown();
        it.drain();
        let next = it.session.poll_timeout().filter(|_| pause > 0).unwrap_or(it.now);
        assert_eq!((next - it.now).as_secs(), pause);
        it.after(pause);
        it.drain();
        it.handshake_succeeds("b", "");
        it.drain();
        it.connect_succeeds("");
        it.drain();
    }
}
