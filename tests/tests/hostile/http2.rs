//! HTTP/2, frame by frame (RFC 9113): what makes a server work, or remember, without end.

use crate::it::Expected::{Goaway, Reset, Stays};
use crate::it::{Case, Expected, public};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Any error of the connection that blames the client.
const BLAMED: &[u32] = &[
    PROTOCOL_ERROR,
    FLOW_CONTROL_ERROR,
    STREAM_CLOSED,
    FRAME_SIZE_ERROR,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
];

/// POST /cometd on h, over http, as HPACK writes it.
const REQUEST: &[u8] = b"\x83\x86\x04\x07/cometd\x01\x01h";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn case(name: &str, frames: Vec<u8>, expected: Expected) -> Case {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, b""));
    bytes.extend(frames);
    public(format!("HTTP/2: {name}"), bytes, expected)
}

/// The numbers of so many streams.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, REQUEST)
}

fn whole(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, REQUEST)
}

fn with_headers(headers: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[REQUEST, headers].concat())
}

/// T41.
pub(crate) fn cases() -> Vec<Case> {
    let reset = |stream: u32, error: u32| frame(RST_STREAM, 0, stream, &error.to_be_bytes());
    let rapid = |count| {
        streams(count)
            .flat_map(|stream| [open(stream), reset(stream, CANCEL)].concat())
            .collect()
    };
    let cancelled = |count| {
        streams(count)
            .flat_map(|stream| [whole(stream), reset(stream, CANCEL)].concat())
            .collect()
    };
    let begun = frame(HEADERS, 0, 1, REQUEST);
    let continued =
        |payload: &[u8], count| [begun.clone(), frame(CONTINUATION, 0, 1, payload).repeat(count)].concat();
    let large_header = [&b"\x00\x01x\x7f\x81\x7f"[..], &[b'x'; 16_000]].concat();
    let window = |stream, increment: u32| frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    let setting = |name: u16, value: u32| {
        frame(
            SETTINGS,
            0,
            0,
            &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat(),
        )
    };
    // A header that is remembered, and then named again and again, each time for one byte.
    let bomb = [&b"\x40\x01x\x7f\x81\x1e"[..], &[b'x'; 4_000], &[0xbe; 10_000]].concat();
    vec![
        case(
            "rapid reset of 1,000 requests",
            rapid(1_000),
            Goaway(&[ENHANCE_YOUR_CALM]),
        ),
        case(
            "rapid reset of 20,000 requests",
            rapid(20_000),
            Goaway(&[ENHANCE_YOUR_CALM]),
        ),
        case(
            "rapid reset of 20,000 whole requests",
            cancelled(20_000),
            Goaway(&[ENHANCE_YOUR_CALM]),
        ),
        case(
            "a CONTINUATION flood of empty frames",
            continued(b"", 100_000),
            Goaway(BLAMED),
        ),
        case(
            "a CONTINUATION flood of headers",
            continued(&large_header[..16_000], 500),
            Goaway(BLAMED),
        ),
        case(
            "a CONTINUATION without headers",
            frame(CONTINUATION, END_HEADERS, 1, REQUEST),
            Goaway(BLAMED),
        ),
        case(
            "another frame among CONTINUATIONs",
            [begun.clone(), frame(PING, 0, 0, b"12345678")].concat(),
            Goaway(BLAMED),
        ),
        case(
            "a CONTINUATION of another stream",
            [begun, frame(CONTINUATION, END_HEADERS, 3, b"")].concat(),
            Goaway(BLAMED),
        ),
        case(
            "100,000 empty DATA frames",
            [open(1), frame(DATA, 0, 1, b"").repeat(100_000)].concat(),
            Goaway(BLAMED),
        ),
        case(
            "100,000 padded DATA frames without data",
            [open(1), frame(DATA, 8, 1, b"\x03\0\0\0").repeat(100_000)].concat(),
            Reset(BLAMED),
        ),
        case("headers that unpack to 40 MB", with_headers(&bomb), Reset(BLAMED)),
        case(
            "a table of 1 GiB",
            with_headers(b"\x3f\xe1\xff\xff\xff\x03"),
            Goaway(BLAMED),
        ),
        case(
            "a header that nobody remembers",
            with_headers(b"\xff\xff\x7f"),
            Goaway(BLAMED),
        ),
        case("header zero", with_headers(b"\x80"), Goaway(BLAMED)),
        case(
            "a header that is cut",
            with_headers(b"\x00\x7f\xff"),
            Goaway(BLAMED),
        ),
        case(
            "a number without an end",
            with_headers(&[0xff; 1_000]),
            Goaway(BLAMED),
        ),
        case(
            "Huffman that is none",
            with_headers(b"\x00\x84\xff\xff\xff\xff\x01x"),
            Goaway(BLAMED),
        ),
        case(
            "a header in capitals",
            with_headers(b"\x00\x01X\x01x"),
            Reset(BLAMED),
        ),
        case(
            "a connection header",
            with_headers(b"\x00\x0aconnection\x05close"),
            Reset(BLAMED),
        ),
        case(
            "an encoding of HTTP/1.1",
            with_headers(b"\x00\x11transfer-encoding\x07chunked"),
            Reset(BLAMED),
        ),
        case("two methods", with_headers(b"\x82"), Reset(BLAMED)),
        case(
            "a pseudo header that nobody knows",
            with_headers(b"\x00\x02:x\x01x"),
            Reset(BLAMED),
        ),
        case(
            "a value with a newline",
            with_headers(b"\x00\x01x\x03a\x0db"),
            Reset(BLAMED),
        ),
        case(
            "no method at all",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x86\x84"),
            Reset(BLAMED),
        ),
        case(
            "1,000 requests at once",
            streams(1_000).flat_map(open).collect(),
            Reset(&[REFUSED_STREAM, PROTOCOL_ERROR, ENHANCE_YOUR_CALM]),
        ),
        case("a stream of the server's", whole(2), Goaway(BLAMED)),
        case("stream zero", whole(0), Goaway(BLAMED)),
        case(
            "streams that go backwards",
            [whole(5), whole(3)].concat(),
            Goaway(BLAMED),
        ),
        case("headers twice", [open(1), open(1)].concat(), Reset(BLAMED)),
        case(
            "a push",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[b"\0\0\0\x02", REQUEST].concat()),
            Goaway(BLAMED),
        ),
        case("data without a stream", frame(DATA, 0, 0, b"x"), Goaway(BLAMED)),
        case(
            "data of a stream that was never opened",
            frame(DATA, 0, 7, b"x"),
            Goaway(BLAMED),
        ),
        case(
            "padding that is longer than its frame",
            [open(1), frame(DATA, 8, 1, b"\xffx")].concat(),
            Goaway(BLAMED),
        ),
        case(
            "a reset of a stream that was never opened",
            reset(9, CANCEL),
            Goaway(BLAMED),
        ),
        case("a reset of the connection", reset(0, CANCEL), Goaway(BLAMED)),
        case(
            "a reset of three bytes",
            frame(RST_STREAM, 0, 1, b"\0\0\0"),
            Goaway(BLAMED),
        ),
        case("a window of zero more", window(0, 0), Goaway(BLAMED)),
        case(
            "a window of 2^31",
            [window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)].concat(),
            Goaway(BLAMED),
        ),
        case(
            "a window of three bytes",
            frame(WINDOW_UPDATE, 0, 0, b"\0\0\0"),
            Goaway(BLAMED),
        ),
        case(
            "a frame of 17 KiB",
            [open(1), frame(DATA, 0, 1, &[b'x'; 17 << 10])].concat(),
            Goaway(BLAMED),
        ),
        case(
            "more data than the window",
            [open(1), frame(DATA, 0, 1, &[b' '; 16 << 10]).repeat(40)].concat(),
            Reset(&[FLOW_CONTROL_ERROR, CANCEL, 0, STREAM_CLOSED]),
        ),
        case(
            "a window of settings that is too large",
            setting(4, u32::MAX),
            Goaway(BLAMED),
        ),
        case(
            "a frame size of settings that is too small",
            setting(5, 1),
            Goaway(BLAMED),
        ),
        case("push that is neither on nor off", setting(2, 7), Goaway(BLAMED)),
        case(
            "settings of five bytes",
            frame(SETTINGS, 0, 0, b"\0\0\0\0\0"),
            Goaway(BLAMED),
        ),
        case("settings of a stream", frame(SETTINGS, 0, 1, b""), Goaway(BLAMED)),
        case(
            "settings that are acknowledged with something",
            frame(SETTINGS, 1, 0, b"\0\x03\0\0\0\0"),
            Goaway(BLAMED),
        ),
        case(
            "10,000 settings",
            frame(SETTINGS, 0, 0, b"").repeat(10_000),
            Stays,
        ),
        case(
            "10,000 pings",
            frame(PING, 0, 0, b"12345678").repeat(10_000),
            Stays,
        ),
        case(
            "a ping of seven bytes",
            frame(PING, 0, 0, b"1234567"),
            Goaway(BLAMED),
        ),
        case(
            "a ping of a stream",
            frame(PING, 0, 1, b"12345678"),
            Goaway(BLAMED),
        ),
        case(
            "a stream that waits for itself",
            frame(PRIORITY, 0, 1, b"\0\0\0\x01\x10"),
            Reset(BLAMED),
        ),
        case(
            "10,000 priorities",
            streams(10_000)
                .flat_map(|stream| frame(PRIORITY, 0, stream, b"\0\0\0\0\x10"))
                .collect(),
            Stays,
        ),
        case(
            "frames that nobody knows",
            frame(0xfa, 0xff, 0, b"whatever").repeat(1_000),
            Stays,
        ),
        case(
            "a goodbye of four bytes",
            frame(GOAWAY, 0, 0, b"\0\0\0\0"),
            Goaway(BLAMED),
        ),
        case(
            "HTTP/1.1 behind the preface",
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            Goaway(BLAMED),
        ),
    ]
}
