//! The scenario from end to end: HTTP operations in, events out.

use voice::scenario::{self, PlayError, USERS};

use crate::api::{Api, agents};
use crate::broker::{Broker, Reply};

/// Plays the scenario until the broker has everything.
async fn played(replies: &[Reply]) -> Broker {
    let broker = Broker::start(replies).await;
    let api = Api::start(&broker).await;
    scenario::play(&api.url, &agents(), |_| {}).await.unwrap();
    api.stop().await;
    broker
}

#[tokio::test]
async fn every_stream_shows_exactly_what_it_must() {
    let broker = played(&[]).await;
    for user in USERS {
        scenario::check(user, &broker.stream(user)).unwrap_or_else(|mismatch| panic!("{mismatch}"));
    }
}

#[tokio::test]
async fn nobody_else_is_told_anything() {
    let broker = played(&[]).await;
    let all: usize = USERS.iter().map(|user| scenario::expected(user).len()).sum();
    assert_eq!(broker.events(all).await.len(), all);
}

#[tokio::test]
async fn a_broker_that_fails_meanwhile_changes_nothing() {
    use Reply::{Drop, KeepAndDrop, Status};
    let broker = played(&[Status(503), Drop, KeepAndDrop, Status(429)]).await;
    for user in USERS {
        scenario::check(user, &broker.stream(user)).unwrap_or_else(|mismatch| panic!("{mismatch}"));
    }
}

#[tokio::test]
async fn a_stream_of_another_user_does_not_pass() {
    let broker = played(&[]).await;
    let mismatch = scenario::check("15002", &broker.stream("15001")).unwrap_err();
    assert!(
        mismatch.to_string().contains("another user's device"),
        "{mismatch}"
    );
}

#[tokio::test]
async fn the_scenario_can_be_played_again() {
    let broker = Broker::start(&[]).await;
    let api = Api::start(&broker).await;
    for _ in 0..2 {
        scenario::play(&api.url, &agents(), |_| {}).await.unwrap();
    }
}

#[tokio::test]
async fn each_step_is_announced() {
    let broker = Broker::start(&[]).await;
    let api = Api::start(&broker).await;
    let mut announced = Vec::new();
    scenario::play(&api.url, &agents(), |step| announced.push(step.to_string()))
        .await
        .unwrap();
    assert_eq!(announced.len(), scenario::steps().len());
}

#[tokio::test]
async fn an_agent_that_is_missing_is_named() {
    let broker = Broker::start(&[]).await;
    let api = Api::start(&broker).await;
    let stopped = scenario::play(&api.url, &agents()[..2], |_| {}).await;
    assert!(matches!(stopped, Err(PlayError::NoAgent("15002"))));
}
