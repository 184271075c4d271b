//! Upgrades and frames that mean no good; what the protocol says of each kind is in `autobahn.rs`.

use crate::it::Expected::{Close, End, Frames, Status, StatusOrEnd};
use crate::it::{Case, frames, public};
use crate::wire::{BINARY, CONTINUATION, FIN, PING, PONG, TEXT, all, bare, close, frame, head, ping, text};

const MESSAGE: &[u8] = br#"[{"channel":"/hostile/x","data":1}]"#;

fn reply() -> Vec<u8> {
    b"402::session_unknown*".to_vec()
}

/// T31: what is no frame, no end, or no message.
pub(crate) fn floods() -> Vec<Case> {
    let endless = |payload: &[u8], count| {
        let mut bytes = frame(TEXT, payload);
        bytes.extend(frame(CONTINUATION, payload).repeat(count));
        bytes
    };
    let lied = |length: u64| [head(FIN | TEXT, length, true), vec![0; 64]].concat();
    let spoken = |bytes: Vec<u8>| [bytes, text(MESSAGE), close(1000)].concat();
    vec![
        frames("a frame without a mask", bare(FIN | TEXT, MESSAGE), Close(1002)),
        frames("a ping without a mask", bare(FIN | PING, b"x"), Close(1002)),
        frames(
            "a mask of zeros",
            {
                let mut bytes = head(FIN | TEXT, MESSAGE.len() as u64, true);
                bytes.extend([0; 4]);
                bytes.extend(MESSAGE);
                spoken(bytes)
            },
            Frames(vec![reply(), reply()], 1000),
        ),
        frames("a length of 2^63", lied(1 << 63), Close(1009)),
        frames("a length of 2^64-1", lied(u64::MAX), Close(1009)),
        frames("a length of 1 TiB", lied(1 << 40), Close(1009)),
        frames("a length of 64 KiB and one", lied((64 << 10) + 1), Close(1009)),
        frames(
            "a binary length of 1 TiB",
            [head(FIN | BINARY, 1 << 40, true), vec![0; 64]].concat(),
            Close(1009),
        ),
        frames(
            "a frame over the limit",
            text(&[b' '; (64 << 10) + 1]),
            Close(1009),
        ),
        frames(
            "fragments over the limit",
            endless(&[b' '; 1000], 70),
            Close(1009),
        ),
        frames(
            "50,000 empty fragments",
            [endless(b"", 50_000), frame(FIN | CONTINUATION, b""), close(1000)].concat(),
            Frames(Vec::new(), 1000),
        ),
        frames(
            "empty fragments around a message",
            [
                frame(TEXT, b""),
                frame(CONTINUATION, b"").repeat(1000),
                frame(CONTINUATION, MESSAGE),
                frame(FIN | CONTINUATION, b""),
                close(1000),
            ]
            .concat(),
            Frames(vec![reply()], 1000),
        ),
        frames("1,100 pings", all(vec![ping(b"x"); 1_100]), Close(1008)),
        frames(
            "100,000 pings of 125 bytes",
            all(vec![ping(&[b'x'; 125]); 100_000]),
            End,
        ),
        frames(
            "1,100 pongs",
            all(vec![frame(FIN | PONG, b"x"); 1_100]),
            Close(1008),
        ),
        frames("1,100 empty messages", all(vec![text(b""); 1_100]), Close(1008)),
        frames(
            "1,100 messages of newlines",
            all(vec![text(b"\n\n\n"); 1_100]),
            Close(1008),
        ),
        frames(
            "1,100 binary messages",
            all(vec![frame(FIN | BINARY, b"x"); 1_100]),
            Close(1008),
        ),
        frames(
            "900 pings and then a message",
            spoken(all(vec![ping(b""); 900])),
            Frames([vec![Vec::new(); 900], vec![reply()]].concat(), 1000),
        ),
        frames(
            "a frame that is not finished",
            head(FIN | TEXT, 100, true),
            Close(1009),
        )
        .unfinished(),
        frames("noise", (0..=255_u8).cycle().take(10_000).collect(), Close(1002)),
        frames("HTTP", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), Close(1002)),
        frames(
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            Close(1002),
        ),
        frames(
            "64 messages in a frame",
            [
                text(format!("[{}]", vec!["{}"; 64].join(",")).as_bytes()),
                close(1000),
            ]
            .concat(),
            Frames(vec![b"400::channel_missing*".to_vec()], 1000),
        ),
        frames(
            "65 messages in a frame",
            text(format!("[{}]", vec!["{}"; 65].join(",")).as_bytes()),
            Close(1007),
        ),
        frames(
            "an object for an array",
            [text(br#"{"channel":"/hostile/x"}"#), close(1000)].concat(),
            Frames(vec![reply()], 1000),
        ),
    ]
}

impl Case {
    /// What is not finished is waited for, until the other side has had enough: here it goes away.
    fn unfinished(self) -> Self {
        let mut bytes = head(FIN | TEXT, 100, true);
        bytes.extend(b"half");
        // The rest never comes; a second frame begins in the middle of the first one.
        bytes.extend(vec![0xff; 200]);
        frames(self.name, bytes, Close(1007))
    }
}

fn upgrade(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET /cometd HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret-15000\r\n{lines}\r\n")
}

/// T32, T33: what an upgrade may say.
pub(crate) fn upgrades() -> Vec<Case> {
    let (connection, websocket) = ("Connection: Upgrade", "Upgrade: websocket");
    let (version, key) = (
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    );
    let mut cases = Vec::new();
    let mut case = |name: &str, text: String, expected| cases.push(public(name, text, expected));
    for (name, lines) in [
        ("an upgrade without a version", vec![connection, websocket, key]),
        (
            "an upgrade of version 8",
            vec![connection, websocket, key, "Sec-WebSocket-Version: 8"],
        ),
        (
            "an upgrade of version 0",
            vec![connection, websocket, key, "Sec-WebSocket-Version: 0"],
        ),
        (
            "an upgrade of version 13, 8",
            vec![connection, websocket, key, "Sec-WebSocket-Version: 13, 8"],
        ),
        (
            "an upgrade of version 13.0",
            vec![connection, websocket, key, "Sec-WebSocket-Version: 13.0"],
        ),
        (
            "an upgrade of a version in letters",
            vec![connection, websocket, key, "Sec-WebSocket-Version: x"],
        ),
    ] {
        case(name, upgrade(&lines), Status(&[426]));
    }
    for (name, lines) in [
        ("an upgrade without a key", vec![connection, websocket, version]),
        (
            "an upgrade with an empty key",
            vec![connection, websocket, version, "Sec-WebSocket-Key: "],
        ),
        (
            "an upgrade with a short key",
            vec![connection, websocket, version, "Sec-WebSocket-Key: dGhl"],
        ),
        (
            "an upgrade with a long key",
            vec![
                connection,
                websocket,
                version,
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXRoZSBzYW1wbGU=",
            ],
        ),
        (
            "an upgrade with a key of noise",
            vec![
                connection,
                websocket,
                version,
                "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==",
            ],
        ),
        ("an upgrade without Connection", vec![websocket, version, key]),
        (
            "an upgrade with another Connection",
            vec!["Connection: keep-alive", websocket, version, key],
        ),
    ] {
        case(name, upgrade(&lines), Status(&[400]));
    }
    for (name, lines) in [
        (
            "an upgrade to something else",
            vec![connection, "Upgrade: websocketx", version, key],
        ),
        (
            "an upgrade to two things",
            vec![connection, "Upgrade: h2c, websocket", version, key],
        ),
    ] {
        case(name, upgrade(&lines), Status(&[400, 405]));
    }
    let extensions = |value: &str| format!("Sec-WebSocket-Extensions: {value}");
    for (name, value) in [
        (
            "an offer of permessage-deflate",
            "permessage-deflate; client_max_window_bits".to_owned(),
        ),
        ("1,000 offers", vec!["permessage-deflate"; 700].join(",")),
        (
            "an offer of a window of 0 bits",
            "permessage-deflate; server_max_window_bits=0".to_owned(),
        ),
        (
            "an offer of 10,000 quotes",
            format!("a; b=\"{}\"", "\\\"".repeat(5_000)),
        ),
        (
            "an offer of 10,000 semicolons",
            format!("a{}", ";".repeat(10_000)),
        ),
        ("an offer of 10,000 spaces", format!("a{}b", " ".repeat(10_000))),
        ("an offer of nonsense", "\"\"\"".to_owned()),
    ] {
        let lines = [connection, websocket, version, key, &extensions(&value)];
        case(name, upgrade(&lines), Status(&[101]));
    }
    let long = extensions(&"x".repeat(20 << 10));
    case(
        "an offer of 20 KiB",
        upgrade(&[connection, websocket, version, key, &long]),
        StatusOrEnd(&[431]),
    );
    for (name, line) in [
        (
            "a protocol that nobody speaks",
            "Sec-WebSocket-Protocol: chat, superchat",
        ),
        ("10,000 protocols", "Sec-WebSocket-Protocol: a,b,c,d,e,f"),
        (
            "a draft's keys",
            "Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00",
        ),
        ("a connection that also stays", "Connection: keep-alive"),
    ] {
        case(
            name,
            upgrade(&[connection, websocket, version, key, line]),
            Status(&[101]),
        );
    }
    let posted =
        upgrade(&[connection, websocket, version, key, "Content-Length: 0"]).replacen("GET", "POST", 1);
    case("an upgrade by POST", posted, Status(&[400]));
    let old = upgrade(&[connection, websocket, version, key]).replacen("HTTP/1.1", "HTTP/1.0", 1);
    case(
        "an upgrade over HTTP/1.0",
        old,
        StatusOrEnd(&[400, 405, 426, 505]),
    );
    // Packed bytes, as if it had been agreed on.
    for (name, first) in [
        ("a packed text", FIN | 0x40 | TEXT),
        ("packed bytes", FIN | 0x40 | BINARY),
        ("a packed ping", FIN | 0x40 | PING),
    ] {
        let packed = [
            0xaa, 0x56, 0x4a, 0xce, 0x48, 0xcc, 0xcb, 0x4b, 0xcd, 0x51, 0xb2, 0x52,
        ];
        cases.push(frames(name, frame(first, &packed), Close(1002)));
    }
    cases
}
