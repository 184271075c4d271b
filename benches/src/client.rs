//! One session of the protocol core with its carrier, without a server around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::codec::{self, Body};
use bayeux::{
    Answer, Carrier, CarrierKind, ChannelPattern, ClientId, Delivery, LogEnds, Message, Offset, Output,
    Rights, Routes, Session, Settings,
};

/// A session that speaks over one carrier kind, and listens to the channel of [`crate::payload`]. The clock stands still
/// unless moved.
pub struct Client {
    session: Session,
    now: Instant,
    settings: Arc<Settings>,
    carrier: Carrier,
    /// How far what it got has come.
    seen: Offset,
    connects: u64,
}

struct NoRoutes;

const ENDS: LogEnds = LogEnds {
    first: Offset(1),
    last: Offset::START,
};

impl Routes for NoRoutes {
    fn add(&mut self, _: &ChannelPattern) -> LogEnds {
        ENDS
    }

    fn remove(&mut self, _: &ChannelPattern) {}

    fn ends(&self) -> LogEnds {
        ENDS
    }
}

impl Client {
    /// Over a WebSocket, without the acknowledge extension: events are pushed.
    pub fn on_a_socket() -> Self {
        Self::connected(CarrierKind::Socket, r#"{"channel":"/meta/handshake"}"#)
    }

    /// Over a WebSocket, acknowledging: events come with the replies to connects.
    pub fn acknowledging() -> Self {
        let handshake = r#"{"channel":"/meta/handshake","ext":{"ack":true}}"#;
        Self::connected(CarrierKind::Socket, handshake)
    }

    /// Over long-polling.
    pub fn polling() -> Self {
        Self::connected(CarrierKind::Exchange, r#"{"channel":"/meta/handshake"}"#)
    }

    fn connected(kind: CarrierKind, handshake: &str) -> Self {
        let (settings, now) = (Arc::new(Settings::default()), Instant::now());
        let messages = decode(handshake, &settings);
        let (session, _) = Session::open(
            ClientId::new("bench"),
            Arc::clone(&settings),
            Rights::default(),
            ENDS,
            now,
            &messages[0],
        );
        let mut client = Self {
            session,
            now,
            settings,
            carrier: Carrier { id: 1, kind },
            seen: Offset::START,
            connects: 0,
        };
        client
            .send(r#"[{"channel":"/meta/subscribe","clientId":"bench","subscription":"/v2/me/*","id":"1"}]"#);
        client.send(r#"[{"channel":"/meta/connect","clientId":"bench","id":"0","advice":{"timeout":0}}]"#);
        client
    }

    /// Sends a connect that is held until there is something. Its id is a new one, or it would be taken for one that a browser
    /// repeats.
    pub fn connect(&mut self) {
        self.connects += 1;
        let id = self.connects;
        let connect = if self.carrier.kind == CarrierKind::Exchange {
            format!(
                r#"[{{"channel":"/meta/connect","clientId":"bench","connectionType":"long-polling","id":"{id}"}}]"#
            )
        } else {
            let seen = self.seen;
            format!(
                r#"[{{"channel":"/meta/connect","clientId":"bench","connectionType":"websocket","id":"{id}","ext":{{"ack":{seen}}}}}]"#
            )
        };
        self.send(&connect);
    }

    /// Takes an event from dispatch and returns what leaves because of it. Pings are answered at once.
    pub fn deliver(&mut self, event: &Arc<Delivery>) -> Vec<u8> {
        self.session.handle_event(event);
        self.seen = event.offset();
        let mut out = Body::default();
        self.drain(&mut out);
        out.finish()
    }

    /// Lets time pass.
    pub fn after(&mut self, time: Duration) {
        self.now += time;
    }

    fn send(&mut self, body: &str) {
        if self.carrier.kind == CarrierKind::Exchange {
            self.carrier.id += 1;
        }
        let mut out = Body::default();
        let settings = Arc::clone(&self.settings);
        for message in decode(body, &settings) {
            match self
                .session
                .handle_message(self.now, self.carrier, true, &message, &mut NoRoutes)
            {
                Answer::Reply(reply) | Answer::Service(_, reply) => out.reply(&reply),
                Answer::Publish(publish) => out.reply(&publish.reply),
                Answer::Held => {}
            }
        }
        self.drain(&mut out);
    }

    fn drain(&mut self, out: &mut Body) {
        while let Some(output) = self.session.poll_output(self.now, self.carrier) {
            match output {
                Output::Event(event) => out.event(&event),
                Output::Direct(message) => out.direct(&message),
                Output::Reply(reply) => out.reply(&reply),
                Output::Ping(offset) => self.session.handle_pong(self.now, self.carrier, offset),
                Output::ReadLog(_) | Output::Superseded | Output::Refused => {}
            }
        }
    }
}

fn decode<'a>(body: &'a str, settings: &Settings) -> Vec<Message<'a>> {
    let messages = codec::decode(body.as_bytes(), &settings.limits).expect("a body");
    messages
        .into_iter()
        .map(|message| message.expect("a good message"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload;

    /// What leaves with the second event, as the channels of its messages.
    fn channels(mut client: Client, connects: bool) -> Vec<String> {
        let mut body = Vec::new();
        for offset in [1, 2] {
            if connects {
                client.connect();
            }
            body = client.deliver(&payload::event(Offset(offset), &payload::data()));
        }
        let messages: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("JSON");
        messages
            .iter()
            .map(|message| message["channel"].as_str().expect("a channel").to_owned())
            .collect()
    }

    #[test]
    fn an_event_is_pushed_to_a_socket_by_itself() {
        assert_eq!(channels(Client::on_a_socket(), false), ["/v2/me/calls"]);
    }

    #[test]
    fn the_reply_to_a_connect_that_acknowledges_brings_one_event() {
        assert_eq!(
            channels(Client::acknowledging(), true),
            ["/v2/me/calls", "/meta/connect"]
        );
    }

    #[test]
    fn the_reply_to_a_long_poll_brings_one_event() {
        assert_eq!(
            channels(Client::polling(), true),
            ["/v2/me/calls", "/meta/connect"]
        );
    }
}
