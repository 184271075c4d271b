//! The broker goes on when what it says about itself cannot be written.

use std::time::Duration;

use bytes::Bytes;
use halley_tests::{Broker, Connection, LogTo, Publisher, Settings};
use hyper::Request;
use tokio::time::{Instant, sleep};

const DROPPED: &str = "halley_log_lines_dropped_total";

async fn broker(log_to: LogTo, format: &str) -> Broker {
    Broker::start(Settings {
        in_memory: true,
        extra: format!("[logging]\nformat = \"{format}\"\nfilter = \"debug\"\n"),
        log_to,
        ..Settings::default()
    })
    .await
}

/// At this level each of them is a line.
const HANDSHAKE: &str = r#"[{"channel":"/meta/handshake","version":"1.0","ext":{"token":"secret-15000"}}]"#;

/// Works, and counts what it could not say: `most` handshakes are more than there is room for.
async fn goes_on(mut broker: Broker, most: usize) {
    let mut publisher = Publisher::new(broker.internal, "sinks");
    let mut client = Connection::new(broker.public, Duration::from_secs(5));
    for _ in 0..most {
        let answer = client.post("/cometd", HANDSHAKE.into()).await;
        assert_eq!(answer.expect("an answer").status, 200);
    }
    publisher.publish("15000", "/v2/me/calls").await;
    assert_eq!(publisher.numbers().count(), 1);
    let deadline = Instant::now() + Duration::from_secs(20);
    while broker.metrics().await.get(DROPPED).copied().unwrap_or(0.0) < 50.0 {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            broker.metrics().await.get(DROPPED)
        );
        sleep(Duration::from_millis(10)).await;
    }
    let status = broker.terminate().await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn t36_it_goes_on_when_stdout_and_stderr_are_closed() {
    for format in ["text", "json"] {
        goes_on(broker(LogTo::ClosedPipe, format).await, 100).await;
    }
}

#[tokio::test]
async fn t36_it_goes_on_when_the_disk_of_its_log_is_full() {
    for format in ["text", "json"] {
        goes_on(broker(LogTo::FullDisk, format).await, 100).await;
    }
}

#[tokio::test]
async fn t36_it_goes_on_when_nobody_reads_its_log() {
    for format in ["text", "json"] {
        goes_on(broker(LogTo::StalledPipe, format).await, 9_500).await;
    }
}

#[tokio::test]
async fn t34_what_an_operator_names_does_not_break_out_of_its_line() {
    for format in ["text", "json"] {
        let mut broker = broker(LogTo::File, format).await;
        let mut operator = Connection::new(broker.internal, Duration::from_secs(5));
        let path = format!(
            "/api/v1/users/a%0D%0AINFO%20forged%1B%5B31m{}/sessions",
            "x".repeat(1000)
        );
        operator
            .send(Request::delete(&path), Bytes::new())
            .await
            .expect("an answer");
        assert!(broker.terminate().await.success());
        let log = broker.log_tail();
        let line = log.lines().find(|line| line.contains("forged"));
        let line = line.unwrap_or_else(|| panic!("it is not said: {log}"));
        assert!(line.contains("an operator ended"), "{line}");
        assert!(!line.contains('\u{1b}') && line.len() < 700, "{line}");
        if format == "json" {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        }
    }
}
