//! The broker goes on when what it says about itself cannot be written.

use std::time::Duration;

use halley_tests::{Broker, Connection, LogTo, Publisher, Settings};
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
