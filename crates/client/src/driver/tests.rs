//! The task with a server in memory and a clock that moves only when nothing else does.

use std::task::{Context, Poll};

use super::*;
use crate::builder::Builder;
use crate::event::Events;
use crate::handle::Client;
use crate::reply::decode;
use crate::request::{CONNECT, MessageId, Request};

/// A server in memory: it accepts the session, then answers what the test tells it to.
struct Memory {
    reports: mpsc::UnboundedReceiver<String>,
    answers: mpsc::UnboundedSender<String>,
    connects: mpsc::UnboundedSender<(Instant, MessageId)>,
    polls: watch::Sender<usize>,
}

struct Server {
    answers: mpsc::UnboundedSender<String>,
    connects: mpsc::UnboundedReceiver<(Instant, MessageId)>,
    reports_read: watch::Receiver<usize>,
}

impl Transport for Memory {
    const CONNECTION_TYPE: &'static str = "memory";

    fn send(&mut self, batch: Vec<Request>) {
        for request in batch {
            let (channel, id) = (&request.channel, request.id);
            if channel == CONNECT {
                let _ = self.connects.send((now(), id));
            }
            if channel != CONNECT || id == 2 {
                let answer =
                    format!(r#"[{{"channel":"{channel}","id":"{id}","successful":true,"clientId":"a"}}]"#);
                let _ = self.answers.send(answer);
            }
        }
    }

    fn abandon(&mut self, _: MessageId) {}

    fn poll_report(&mut self, context: &mut Context<'_>) -> Poll<Report> {
        match self.reports.poll_recv(context) {
            Poll::Ready(Some(text)) => {
                self.polls.send_modify(|count| *count += 1);
                Poll::Ready(Report::Received(decode(text.as_bytes()).unwrap()))
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    async fn close(&mut self) {}
}

async fn connected(event_buffer: usize) -> (Client, Events, Server) {
    let (answers, reports) = mpsc::unbounded_channel();
    let (connects_sender, connects) = mpsc::unbounded_channel();
    let (polls, reports_read) = watch::channel(0);
    let transport = Memory {
        reports,
        answers: answers.clone(),
        connects: connects_sender,
        polls,
    };
    let builder = Builder::new("memory".to_owned()).event_buffer(event_buffer);
    let (client, events) = builder.run(transport).await.unwrap();
    (
        client,
        events,
        Server {
            answers,
            connects,
            reports_read,
        },
    )
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_connect_is_repeated_after_timeout_network_delay_and_backoff() {
    let (_client, _events, mut server) = connected(8).await;
    let _first = server.connects.recv().await.unwrap();
    let (held, _) = server.connects.recv().await.unwrap();
    let (repeated, _) = server.connects.recv().await.unwrap();
    assert_eq!((repeated - held).as_secs(), 60 + 10 + 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_events_are_not_read_stops_reading() {
    let (_client, _events, server) = connected(1).await;
    for _ in 0..100 {
        server
            .answers
            .send(r#"[{"channel":"/a","data":1}]"#.to_owned())
            .unwrap();
    }
    // The clock stands still until no task has anything left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The handshake, the first connect, and the message for which there was no room any more.
    assert_eq!(*server.reports_read.borrow(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_events_are_read_again_goes_on_where_it_stopped() {
    let (_client, mut events, server) = connected(1).await;
    for number in 0..100 {
        server
            .answers
            .send(format!(r#"[{{"channel":"/a","data":{number}}}]"#))
            .unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 100 {
        if let Some(Event::Message { data, .. }) = events.next().await {
            seen.push(data.get().parse::<u32>().unwrap());
        }
    }
    assert!(seen.into_iter().eq(0..100));
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_ends_even_if_no_event_is_read() {
    let (client, _events, server) = connected(1).await;
    for _ in 0..100 {
        server
            .answers
            .send(r#"[{"channel":"/a","data":1}]"#.to_owned())
            .unwrap();
    }
    assert!(client.disconnect().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_when_handle_and_events_are_dropped() {
    let (client, events, server) = connected(1).await;
    drop((client, events));
    let Server { mut connects, .. } = server;
    while connects.recv().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_call_after_the_end_fails_even_if_no_event_is_read() {
    let (client, _events, _server) = connected(1).await;
    client.disconnect().await.unwrap();
    assert!(matches!(client.disconnect().await, Err(Error::Closed)));
}
