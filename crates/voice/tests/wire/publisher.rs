//! Notifications on their way to a broker that fails.

use std::time::Duration;

use tokio::sync::mpsc;
use voice::message::{CALLS, ErrorMessage, Message, Notification};
use voice::publisher::{Config, Observer, Publisher, Report, Running};

use crate::broker::{Broker, Reply, id};

/// A publisher that pauses for a millisecond only, and the reports of it.
fn start(broker: &Broker, give_up_after: Duration) -> (Publisher, Running, mpsc::UnboundedReceiver<Report>) {
    let (reports, heard) = mpsc::unbounded_channel();
    let config = Config {
        broker: broker.url.clone(),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(1),
        give_up_after,
        observer: Observer::new(move |report| {
            let _ = reports.send(report.clone());
        }),
        ..Config::default()
    };
    let (publisher, running) = Publisher::start(config).unwrap();
    (publisher, running, heard)
}

const PATIENT: Duration = Duration::from_secs(60);

fn push(publisher: &mut Publisher, count: usize) {
    for number in 0..count {
        let error = ErrorMessage {
            error_message: Some(number.to_string()),
            ..ErrorMessage::default()
        };
        let message = Message::Error(Box::new(error));
        publisher.push(&Notification {
            user: "15000".into(),
            channel: CALLS,
            message,
        });
    }
}

#[tokio::test]
async fn a_repeated_attempt_has_the_same_ids_in_the_same_order() {
    let broker = Broker::start(&[Reply::Status(503), Reply::Drop, Reply::Status(429)]).await;
    let (mut publisher, _running, _) = start(&broker, PATIENT);
    push(&mut publisher, 3);
    let requests = broker.requests(4).await;
    assert_eq!(requests, vec![requests[0].clone(); 4]);
}

#[tokio::test]
async fn events_arrive_in_the_order_in_which_they_were_pushed() {
    let broker = Broker::start(&[Reply::Drop, Reply::Status(500)]).await;
    let (mut publisher, _running, _) = start(&broker, PATIENT);
    push(&mut publisher, 200);
    let events = broker.events(200).await;
    let numbers: Vec<String> = events
        .iter()
        .map(|event| event["data"]["errorMessage"].as_str().unwrap().into())
        .collect();
    assert_eq!(
        numbers,
        Vec::from_iter((0..200).map(|number: usize| number.to_string()))
    );
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_published_once() {
    let broker = Broker::start(&[Reply::KeepAndDrop]).await;
    let (mut publisher, running, _) = start(&broker, PATIENT);
    push(&mut publisher, 2);
    let counts = running.close(PATIENT).await;
    assert_eq!(
        (broker.events(2).await.len(), counts.published, counts.duplicates),
        (2, 2, 2)
    );
}

#[tokio::test]
async fn what_waits_goes_with_the_next_request() {
    let broker = Broker::start(&[Reply::Hold]).await;
    let (mut publisher, running, _) = start(&broker, PATIENT);
    push(&mut publisher, 1);
    broker.requests(1).await;
    push(&mut publisher, 5);
    broker.release();
    running.close(PATIENT).await;
    let sizes: Vec<usize> = broker.requests(2).await.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 5]);
}

#[tokio::test]
async fn a_request_has_at_most_64_events() {
    let broker = Broker::start(&[]).await;
    let (mut publisher, running, _) = start(&broker, PATIENT);
    push(&mut publisher, 130);
    running.close(PATIENT).await;
    let sizes: Vec<usize> = broker.requests(3).await.iter().map(Vec::len).collect();
    assert_eq!(sizes, [64, 64, 2]);
}

#[tokio::test]
async fn all_requests_share_a_connection() {
    let broker = Broker::start(&[]).await;
    let (mut publisher, running, _) = start(&broker, PATIENT);
    push(&mut publisher, 130);
    running.close(PATIENT).await;
    assert_eq!(broker.connections(), 1);
}

#[tokio::test]
async fn one_bad_event_does_not_take_its_neighbours_with_it() {
    use Reply::Status;
    // The batch of three, then the first alone, then the bad one alone; the third is accepted.
    let broker = Broker::start(&[Status(400), Status(503), Status(400)]).await;
    let (mut publisher, running, _) = start(&broker, PATIENT);
    push(&mut publisher, 3);
    let counts = running.close(PATIENT).await;
    assert_eq!((counts.published, counts.refused), (2, 1));
}

#[tokio::test]
async fn a_publisher_that_is_not_welcome_asks_once() {
    let broker = Broker::start(&[Reply::Status(401)]).await;
    let (mut publisher, running, _) = start(&broker, PATIENT);
    push(&mut publisher, 3);
    let counts = running.close(PATIENT).await;
    assert_eq!((broker.requests(1).await.len(), counts.refused), (1, 3));
}

#[tokio::test]
async fn what_cannot_be_published_in_time_is_given_up_and_counted() {
    let broker = Broker::start(&[Reply::Status(503)]).await;
    let (mut publisher, _running, mut heard) = start(&broker, Duration::ZERO);
    push(&mut publisher, 3);
    assert_eq!(heard.recv().await, Some(Report::Expired { events: 3 }));
}

#[tokio::test]
async fn a_pause_that_the_broker_asks_for_is_kept() {
    let broker = Broker::start(&[Reply::RetryAfter(7)]).await;
    let (mut publisher, _running, mut heard) = start(&broker, PATIENT);
    push(&mut publisher, 1);
    let expected = Report::Retried {
        events: 1,
        cause: "status 503".into(),
        after: Duration::from_secs(7),
    };
    assert_eq!(heard.recv().await, Some(expected));
}

#[tokio::test]
async fn two_starts_have_different_ids() {
    let broker = Broker::start(&[]).await;
    for _ in 0..2 {
        let (mut publisher, running, _) = start(&broker, PATIENT);
        push(&mut publisher, 1);
        running.close(PATIENT).await;
    }
    let events = broker.events(2).await;
    assert_ne!(id(&events[0]), id(&events[1]));
}
