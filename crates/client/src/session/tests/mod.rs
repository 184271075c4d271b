//! The session as a table of what happens and what follows: time and replies are plain values.

mod calls;
mod connect;
mod handshake;

use std::time::{Duration, Instant};

use serde_json::value::to_raw_value;

use super::*;
use crate::reply::decode;
use crate::request::{Acknowledge, Subscription};

/// A session, its clock, and the last requests on each channel.
struct It {
    session: Session,
    now: Instant,
    sent: Vec<(String, MessageId)>,
}

impl It {
    fn new(acknowledge: bool) -> It {
        let settings = Settings {
            connection_type: "websocket",
            acknowledge,
            ext_token: None,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            network_delay: Duration::from_secs(10),
        };
        let mut it = It {
            session: Session::new(settings),
            now: Instant::now(),
            sent: Vec::new(),
        };
        it.session.handle_start(it.now);
        it
    }

    /// A session that holds its second connect.
    fn connected() -> It {
        let mut it = It::new(false);
        it.drain();
        it.handshake_succeeds("a", "");
        it.drain();
        it.connect_succeeds("");
        it.drain();
        it
    }

    /// The same, subscribed to two channels.
    fn subscribed() -> It {
        let mut it = It::connected();
        let id = it.call(Call::Subscribe(vec!["/one".into(), "/two".into()]));
        it.receive(&format!(
            r#"{{"channel":"/meta/subscribe","id":"{id}","successful":true}}"#
        ));
        it.drain();
        it
    }

    fn receive(&mut self, message: &str) {
        for incoming in decode(format!("[{message}]").as_bytes()).unwrap() {
            self.session.handle_incoming(self.now, incoming);
        }
    }

    /// The server answers the request on this channel; `rest` is more JSON fields, beginning with a
    /// comma.
    fn answer(&mut self, channel: &str, rest: &str) {
        let position = self.sent.iter().position(|(sent, _)| sent == channel);
        let (_, id) = self.sent.remove(position.expect("such a request was sent"));
        self.receive(&format!(r#"{{"channel":"{channel}","id":"{id}"{rest}}}"#));
    }

    fn handshake_succeeds(&mut self, client_id: &str, rest: &str) {
        self.answer(
            "/meta/handshake",
            &format!(r#","successful":true,"clientId":"{client_id}"{rest}"#),
        );
    }

    fn connect_succeeds(&mut self, rest: &str) {
        self.answer("/meta/connect", &format!(r#","successful":true{rest}"#));
    }

    fn session_is_unknown(&mut self) {
        self.answer(
            "/meta/connect",
            r#","successful":false,"error":"402::session_unknown""#,
        );
    }

    fn call(&mut self, call: Call) -> MessageId {
        self.session.handle_call(self.now, call)
    }

    fn publish(&mut self) -> MessageId {
        self.call(Call::Publish {
            channel: "/a".into(),
            data: to_raw_value(&1).unwrap(),
        })
    }

    /// Lets time pass, with a timeout whenever the session wants one.
    fn after(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(next) = self.session.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.session.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn drain(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.session.poll_output())
            .collect::<Vec<_>>()
            .iter()
            .map(|it| self.say(it))
            .collect()
    }

    fn expect(&mut self, outputs: &[&str]) {
        assert_eq!(self.drain(), outputs);
    }

    fn say(&mut self, output: &Output) -> String {
        match output {
            Output::Send(batch) => {
                self.sent
                    .retain(|(sent, _)| batch.iter().all(|request| request.channel != *sent));
                self.sent
                    .extend(batch.iter().map(|request| (request.channel.clone(), request.id)));
                batch.iter().map(say_request).collect::<Vec<_>>().join(" + ")
            }
            Output::Abandon(_) => "abandon".into(),
            Output::Emit(event) => say_event(event),
            Output::Answer(_, Ok(())) => "answer ok".into(),
            Output::Answer(_, Err(error)) => format!("answer: {error}"),
            Output::Failed(error) => format!("failed: {error}"),
            Output::Closed(CloseReason::ByClient) => "closed by client".into(),
            Output::Closed(CloseReason::ByServer { error }) => format!("closed by server: {error:?}"),
        }
    }
}

fn say_request(request: &Request) -> String {
    let mut words = request.channel.trim_start_matches("/meta/").to_owned();
    if let Some(client_id) = &request.client_id {
        words += &format!(" {client_id}");
    }
    match &request.subscription {
        Some(Subscription::One(channel)) => words += &format!(" {channel}"),
        Some(Subscription::Several(channels)) => words += &format!(" {channels:?}"),
        None => {}
    }
    if let Some(advice) = &request.advice {
        words += &format!(" timeout={}", advice.timeout);
    }
    match &request.ext.ack {
        Some(Acknowledge::Wanted(wanted)) => words += &format!(" ack={wanted}"),
        Some(Acknowledge::Received(number)) => words += &format!(" ack={number}"),
        None => {}
    }
    words
}

fn say_event(event: &Event) -> String {
    match event {
        Event::Message { channel, data, .. } => format!("message {channel} {data}"),
        Event::Connected { client_id, resumed } => format!("connected {client_id} resumed={resumed}"),
        Event::Interrupted { reason } => format!("interrupted: {reason}"),
        Event::Gap { first } => format!("gap {first:?}"),
        Event::SubscriptionLost { channel, error } => format!("lost {channel}: {error}"),
        Event::Closed { .. } => "closed".into(),
    }
}
