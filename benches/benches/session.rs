//! What does one event cost a session, from dispatch's hand-over to the reply that carries it?

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bayeux::codec::{self, Body};
use bayeux::{
    Answer, Carrier, CarrierKind, ChannelName, ChannelPattern, ClientId, Delivery, LogEnds, Offset, Output,
    Rights, Routes, Session, Settings,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::value::RawValue;

struct NoRoutes;

impl Routes for NoRoutes {
    fn add(&mut self, _: &ChannelPattern) -> LogEnds {
        self.ends()
    }

    fn remove(&mut self, _: &ChannelPattern) {}

    fn ends(&self) -> LogEnds {
        LogEnds {
            first: Offset(1),
            last: Offset::START,
        }
    }
}

/// A session that speaks over one carrier kind, with the clock standing still unless moved.
struct Client {
    session: Session,
    now: Instant,
    carriers: u64,
    kind: CarrierKind,
}

impl Client {
    fn connected(kind: CarrierKind, handshake: &str) -> Self {
        let (settings, now) = (Arc::new(Settings::default()), Instant::now());
        let ends = LogEnds {
            first: Offset(1),
            last: Offset::START,
        };
        let messages = codec::decode(handshake.as_bytes(), &settings.limits).expect("a body");
        let handshake = messages
            .into_iter()
            .next()
            .expect("one message")
            .expect("a good one");
        let (session, _) = Session::open(
            ClientId::new("bench"),
            Arc::clone(&settings),
            Rights::default(),
            ends,
            now,
            &handshake,
        );
        let mut client = Self {
            session,
            now,
            carriers: 0,
            kind,
        };
        client
            .send(r#"[{"channel":"/meta/subscribe","clientId":"bench","subscription":"/v2/me/*","id":"1"}]"#);
        client.send(r#"[{"channel":"/meta/connect","clientId":"bench","id":"2"}]"#);
        client
    }

    /// Sends a body and returns the bytes of what comes back at once.
    fn send(&mut self, body: &str) -> usize {
        if self.kind == CarrierKind::Exchange || self.carriers == 0 {
            self.carriers += 1;
        }
        let mut out = Body::default();
        for message in codec::decode(body.as_bytes(), &Settings::default().limits).expect("a body") {
            let message = message.expect("a good message");
            let carrier = self.carrier();
            match self
                .session
                .handle_message(self.now, carrier, true, &message, &mut NoRoutes)
            {
                Answer::Reply(reply) | Answer::Service(_, reply) => out.reply(&reply),
                Answer::Publish(publish) => out.reply(&publish.reply),
                Answer::Held => {}
            }
        }
        self.drain(&mut out);
        out.finish().len()
    }

    fn drain(&mut self, out: &mut Body) {
        while let Some(output) = self.session.poll_output(self.now, self.carrier()) {
            match output {
                Output::Event(event) => out.event(&event),
                Output::Direct(message) => out.direct(&message),
                Output::Reply(reply) => out.reply(&reply),
                Output::Ping(offset) => self.session.handle_pong(self.now, self.carrier(), offset),
                Output::ReadLog(_) | Output::Superseded | Output::Refused => {}
            }
        }
    }

    fn carrier(&self) -> Carrier {
        Carrier {
            id: self.carriers,
            kind: self.kind,
        }
    }
}

fn event(offset: u64, data: &RawValue) -> Arc<Delivery> {
    Arc::new(Delivery::encode(
        Offset(offset),
        ChannelName::parse("/v2/me/calls").expect("a channel"),
        data,
    ))
}

fn one_event(criterion: &mut Criterion) {
    let data = RawValue::from_string(format!("{{\"state\":\"{}\"}}", "x".repeat(970))).expect("JSON");
    let mut group = criterion.benchmark_group("one event of 1 KB");
    group.throughput(Throughput::Elements(1));

    group.bench_function("encoded", |bencher| bencher.iter(|| event(black_box(7), &data)));

    let mut socket = Client::connected(CarrierKind::Socket, r#"{"channel":"/meta/handshake"}"#);
    let mut offset = 0;
    group.bench_function("pushed to a socket", |bencher| {
        bencher.iter(|| {
            offset += 1;
            socket.now += Duration::from_millis(10);
            socket.session.handle_event(&event(offset, &data));
            let mut out = Body::default();
            socket.drain(&mut out);
            out.finish()
        });
    });

    let mut exchange = Client::connected(CarrierKind::Exchange, r#"{"channel":"/meta/handshake"}"#);
    offset = 0;
    group.bench_function("with a long-poll connect and its reply", |bencher| {
        bencher.iter(|| {
            exchange.send(r#"[{"channel":"/meta/connect","clientId":"bench","connectionType":"long-polling","id":"7"}]"#);
            offset += 1;
            exchange.session.handle_event(&event(offset, &data));
            let mut out = Body::default();
            exchange.drain(&mut out);
            out.finish()
        });
    });
    group.finish();
}

fn one_body(criterion: &mut Criterion) {
    let connect = r#"[{"id":"7","channel":"/meta/connect","connectionType":"websocket","clientId":"ud47vl6jr8d960sxvk5qkxixzq","ext":{"ack":41}}]"#;
    let limits = Settings::default().limits;
    criterion.bench_function("parse a connect with an acknowledgement", |bencher| {
        bencher.iter(|| {
            codec::decode(black_box(connect.as_bytes()), &limits)
                .expect("a body")
                .len()
        });
    });
}

criterion_group!(benches, one_event, one_body);
criterion_main!(benches);
