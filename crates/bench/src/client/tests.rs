use serde_json::Value;

use super::*;
use crate::settings::{Route, Users};
use crate::site::Channels;

/// A session in conversation with a server that the test plays.
struct It {
    site: Site,
    client: Client,
    out: Vec<u8>,
    heard: Vec<String>,
}

fn it(transport: Transport, acknowledges: bool) -> It {
    it_for(transport, Purpose::Listen, acknowledges)
}

fn it_for(transport: Transport, purpose: Purpose, acknowledges: bool) -> It {
    let channels = Channels {
        own: vec!["/a".to_owned()],
        everyone: Some("/b".to_owned()),
        route: Route::Channel,
    };
    let users = Users::from_templates("u{n}", Some("t{n}"));
    let site = Site::new(&"ws://127.0.0.1:1/cometd".parse().unwrap(), &users, channels);
    let client = Client::new(&site, 3, transport, purpose, acknowledges);
    let mut it = It {
        site,
        client,
        out: Vec::new(),
        heard: Vec::new(),
    };
    it.client.handle_connected(&it.site, &mut it.out);
    it
}

const UPGRADED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: B=1\r\n\r\n";

impl It {
    /// Hands bytes to it.
    fn bytes(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let heard = &mut self.heard;
        self.client
            .handle_bytes(&self.site, bytes, &mut self.out, |what| {
                heard.push(match what {
                    Heard::Events { message, client_id } => {
                        format!("{} bytes for {client_id}", message.len())
                    }
                    Heard::Published { id, refused } => format!("published {id} {refused:?}"),
                    Heard::ConnectIn(milliseconds) => format!("connect in {milliseconds}"),
                    Heard::Joined => "joined".to_owned(),
                    Heard::Back => "back".to_owned(),
                    Heard::Forgotten => "forgotten".to_owned(),
                    Heard::Kept => "kept".to_owned(),
                });
            })
    }

    /// The server says a message in the way of the transport.
    fn says(&mut self, message: &str) -> Result<usize, Broken> {
        let bytes = if self.client.transport() == Transport::LongPolling {
            let length = message.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{message}").into_bytes()
        } else {
            frame(0x81, message.as_bytes())
        };
        self.bytes(&bytes)
    }

    /// What it has said since the last look: channels of messages, `pong`, and requests by their line.
    fn said(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.out);
        if out.starts_with(b"GET") || out.starts_with(b"POST") {
            let text = String::from_utf8(out).unwrap();
            let parts = text
                .split("\r\n\r\n")
                .filter(|part| !part.is_empty())
                .map(ToOwned::to_owned);
            return parts.collect();
        }
        unmask(&out)
    }

    /// The channels of the messages that it has said.
    fn channels(&mut self) -> Vec<String> {
        let said = self.said();
        let bodies = said
            .iter()
            .filter_map(|text| serde_json::from_str::<Vec<Value>>(text).ok());
        bodies
            .flatten()
            .map(|message| message["channel"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Goes through everything until events may come.
    fn joined(mut self) -> Self {
        if self.client.transport() == Transport::WebSocket {
            self.bytes(UPGRADED).unwrap();
        }
        self.says(HANDSHAKE).unwrap();
        self.says(SUBSCRIBED).unwrap();
        self.says(CONNECTED).unwrap();
        assert!(self.client.is_live(), "{:?}", self.heard);
        self.heard.clear();
        self.out.clear();
        self
    }
}

const HANDSHAKE: &str =
    r#"[{"channel":"/meta/handshake","successful":true,"clientId":"c1","advice":{"timeout":20000}}]"#;
const SUBSCRIBED: &str =
    r#"[{"channel":"/meta/subscribe","successful":true},{"channel":"/meta/subscribe","successful":true}]"#;
const CONNECTED: &str = r#"[{"channel":"/meta/connect","successful":true,"ext":{"ack":7},"advice":{"reconnect":"retry","interval":0}}]"#;
const UNKNOWN: &str = r#"[{"channel":"/meta/connect","successful":false,"error":"402::session_unknown",
    "advice":{"reconnect":"handshake","interval":0}}]"#;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[first, 126][..], &length, payload].concat()
}

fn unmask(mut bytes: &[u8]) -> Vec<String> {
    let mut said = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            length => (usize::from(length), rest),
        };
        let (mask, rest) = rest.split_at(4);
        let payload: Vec<u8> = rest[..length]
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        let text = String::from_utf8_lossy(&payload).into_owned();
        said.push(match first {
            0x8a => format!("pong {text}"),
            0x88 => "close".to_owned(),
            _ => text,
        });
        bytes = &rest[length..];
    }
    said
}

#[test]
fn a_websocket_session_shakes_hands_subscribes_and_connects_in_this_order() {
    let mut it = it(Transport::WebSocket, false);
    assert!(it.said()[0].contains("Authorization: Bearer t3"));
    it.bytes(UPGRADED).unwrap();
    assert_eq!(it.channels(), ["/meta/handshake"]);
    it.says(HANDSHAKE).unwrap();
    assert_eq!(
        it.channels(),
        ["/meta/subscribe", "/meta/subscribe", "/meta/connect"]
    );
    it.says(SUBSCRIBED).unwrap();
    assert_eq!(it.channels(), [""; 0]);
    it.says(CONNECTED).unwrap();
    assert_eq!(it.channels(), ["/meta/connect"]);
    assert_eq!(it.heard.last().unwrap(), "joined");
    assert_eq!((it.client.client_id(), it.client.hold()), ("\"c1\"", 20_000));
}

#[test]
fn a_polling_session_has_one_request_under_way_at_a_time() {
    let mut it = it(Transport::LongPolling, false);
    assert_eq!(it.channels(), ["/meta/handshake"]);
    it.says(HANDSHAKE).unwrap();
    assert_eq!(it.channels(), ["/meta/subscribe", "/meta/subscribe"]);
    it.says(SUBSCRIBED).unwrap();
    assert_eq!(it.channels(), ["/meta/connect"]);
    it.says(CONNECTED).unwrap();
    assert_eq!(it.channels(), ["/meta/connect"]);
    assert!(it.client.is_live());
}

#[test]
fn only_the_first_connect_asks_for_an_answer_at_once() {
    let mut it = it(Transport::LongPolling, false);
    it.says(HANDSHAKE).unwrap();
    it.out.clear();
    it.says(SUBSCRIBED).unwrap();
    assert!(it.said()[1].contains(r#""advice":{"timeout":0}"#));
    it.says(CONNECTED).unwrap();
    assert!(!it.said()[1].contains("advice"));
}

#[test]
fn events_are_heard_and_a_poll_is_followed_by_the_next() {
    let mut it = it(Transport::LongPolling, true).joined();
    let body =
        r#"[{"channel":"/b","data":1},{"channel":"/meta/connect","successful":true,"ext":{"ack":12}}]"#;
    it.says(body).unwrap();
    assert_eq!(it.heard, [format!("{} bytes for \"c1\"", body.len())]);
    assert!(it.said()[1].contains(r#""ext":{"ack":12}"#));
}

#[test]
fn bytes_may_be_cut_anywhere() {
    let mut it = it(Transport::WebSocket, false).joined();
    let two = [
        frame(0x81, br#"[{"channel":"/b","data":1}]"#),
        frame(0x81, br#"[{"channel":"/b","data":22}]"#),
    ]
    .concat();
    for end in 0..two.len() {
        let taken = it.bytes(&two[..end]).unwrap();
        assert!(taken <= end && it.heard.len() <= 1, "{end}");
        it.heard.clear();
    }
    assert_eq!(it.bytes(&two), Ok(two.len()));
    assert_eq!(it.heard.len(), 2);
}

#[test]
fn a_message_in_fragments_is_heard_as_a_whole_with_a_ping_between() {
    let mut it = it(Transport::WebSocket, false).joined();
    it.bytes(&frame(0x01, br#"[{"channel":"#)).unwrap();
    it.bytes(&frame(0x89, b"12345678")).unwrap();
    it.bytes(&frame(0x80, br#""/b","data":1}]"#)).unwrap();
    assert_eq!(it.heard, ["27 bytes for \"c1\""]);
    assert_eq!(it.said(), ["pong 12345678"]);
}

#[test]
fn after_a_break_the_same_session_connects_with_its_cookie_and_number() {
    let mut it = it(Transport::WebSocket, true).joined();
    it.client.handle_broken();
    it.client.handle_connected(&it.site, &mut it.out);
    assert!(it.said()[0].contains("Cookie: B=1"));
    it.bytes(UPGRADED).unwrap();
    let said = it.said();
    assert!(
        said[0].contains(r#""clientId":"c1""#)
            && said[0].contains(r#""advice":{"timeout":0},"ext":{"ack":7}"#)
    );
    it.says(CONNECTED).unwrap();
    assert_eq!(it.heard.last().unwrap(), "back");
    assert_eq!(it.channels(), ["/meta/connect"]);
}

#[test]
fn a_session_that_the_server_has_forgotten_begins_anew() {
    let mut it = it(Transport::LongPolling, false).joined();
    it.says(UNKNOWN).unwrap();
    assert_eq!(it.heard.last().unwrap(), "forgotten");
    assert_eq!(it.channels(), ["/meta/handshake"]);
    it.says(HANDSHAKE).unwrap();
    it.says(SUBSCRIBED).unwrap();
    it.says(CONNECTED).unwrap();
    assert_eq!(it.heard.last().unwrap(), "joined");
}

#[test]
fn an_interval_is_waited_for() {
    let mut it = it(Transport::LongPolling, false).joined();
    it.says(r#"[{"channel":"/meta/connect","successful":true,"advice":{"interval":1500}}]"#)
        .unwrap();
    assert_eq!(it.heard.last().unwrap(), "connect in 1500");
    assert_eq!(it.channels(), [""; 0]);
    it.client.connect(&it.site, &mut it.out);
    assert_eq!(it.channels(), ["/meta/connect"]);
}

#[test]
fn what_another_attempt_could_mend_is_told_apart_from_what_it_could_not() {
    let refused = |reply: &str| it(Transport::LongPolling, false).says(reply).unwrap_err();
    let handshake = r#"[{"channel":"/meta/handshake","successful":false,"error":"401::unauthorized"}]"#;
    assert_eq!(
        refused(handshake),
        Broken::Refused("/meta/handshake: 401::unauthorized".to_owned())
    );
    let status = |status: &str| {
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
        it(Transport::LongPolling, false)
            .bytes(response.as_bytes())
            .unwrap_err()
    };
    assert!(matches!(status("404 Not Found"), Broken::Refused(reason) if reason == "refused: HTTP 404: no"));
    assert!(matches!(status("503 Service Unavailable"), Broken::Lost(_)));
    assert!(matches!(status("429 Too Many Requests"), Broken::Lost(_)));
}

#[test]
fn a_close_is_answered_and_says_why() {
    let mut it = it(Transport::WebSocket, false).joined();
    let close = [&1012_u16.to_be_bytes()[..], b"restart"].concat();
    let broken = it.bytes(&frame(0x88, &close)).unwrap_err();
    assert_eq!(broken.to_string(), "closed by the server with 1012 (restart)");
    assert_eq!(it.said(), ["close"]);
}

#[test]
fn a_server_that_is_no_websocket_is_refused() {
    let mut it = it(Transport::WebSocket, false);
    let broken = it
        .bytes(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        .unwrap_err();
    assert!(matches!(broken, Broken::Refused(_)), "{broken}");
}

#[test]
fn a_publisher_subscribes_to_nothing_and_hears_what_became_of_its_events() {
    let mut it = it_for(Transport::WebSocket, Purpose::Publish, false);
    it.bytes(UPGRADED).unwrap();
    it.says(HANDSHAKE).unwrap();
    it.out.clear();
    it.says(CONNECTED).unwrap();
    assert_eq!(it.heard, ["joined", "kept"]);
    assert_eq!(it.channels(), [""; 0]);
    it.heard.clear();
    it.says(r#"[{"channel":"/b","successful":true,"id":"4"},{"channel":"/b","successful":false,"id":"5","error":"403::no"}]"#)
        .unwrap();
    assert_eq!(
        it.heard,
        ["published 4 None", "published 5 Some(\"/b: 403::no\")"]
    );
}
