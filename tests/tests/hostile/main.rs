//! Hundreds of things that nobody should send. The broker stays up, blames whoever sent them and nobody else, says nothing of its
//! insides, and keeps nothing of them.
//!
//! Each case has a name and says what must come of it; `it.rs` throws them. The broker is a binary of its own, so what is seen of
//! its log and memory is all of it.

mod autobahn;
mod http;
mod http2;
mod it;
mod json;
mod messages;
mod sockets;
mod wire;

use std::collections::BTreeSet;

use it::{Case, throw};

#[tokio::test]
async fn t22_a_request_that_means_two_things_is_refused_and_hides_no_other() {
    throw(http::smuggling()).await;
}

#[tokio::test]
async fn t23_headers_chunks_and_bodies_without_an_end_are_cut_off() {
    throw(http::endless()).await;
}

#[tokio::test]
async fn t20_json_bombs_over_http_are_answered_in_json() {
    throw(json::posted()).await;
}

#[tokio::test]
async fn t20_json_bombs_over_a_websocket_close_it_or_are_answered() {
    throw(json::framed()).await;
}

#[tokio::test]
async fn t20_json_bombs_of_publishers_are_refused_or_stored_as_they_are() {
    throw(json::published()).await;
}

#[tokio::test]
async fn t21_a_small_body_cannot_ask_for_a_large_answer() {
    throw(messages::batches()).await;
}

#[tokio::test]
async fn t27_a_number_that_was_never_given_out_acknowledges_nothing() {
    throw(messages::acknowledgements()).await;
}

#[tokio::test]
async fn t28_advice_of_a_client_neither_pins_nor_spins_anything() {
    throw(messages::advice()).await;
}

#[tokio::test]
async fn t9_fields_of_wrong_types_fail_their_message() {
    throw(messages::types()).await;
}

#[tokio::test]
async fn t31_frames_that_are_none_or_have_no_end_close_their_socket() {
    throw(sockets::floods()).await;
}

#[tokio::test]
async fn t31_the_cases_of_autobahn_are_answered_or_closed_as_rfc_6455_says() {
    throw(autobahn::cases()).await;
}

#[tokio::test]
async fn t32_t33_no_compression_is_agreed_on_and_an_upgrade_has_to_be_one() {
    throw(sockets::upgrades()).await;
}

#[tokio::test]
async fn t41_resets_continuations_and_empty_frames_of_http2_end_their_connection() {
    throw(http2::cases()).await;
}

fn all() -> Vec<Case> {
    [
        http::smuggling(),
        http::endless(),
        json::posted(),
        json::framed(),
        json::published(),
        messages::batches(),
        messages::acknowledgements(),
        messages::advice(),
        messages::types(),
        sockets::floods(),
        sockets::upgrades(),
        autobahn::cases(),
        http2::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn there_are_hundreds_of_cases_and_each_has_a_name_of_its_own() {
    let cases = all();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "some share a name");
    assert!(cases.len() >= 800, "only {} cases", cases.len());
}
