//! The cases of the Autobahn test suite, by their numbers: sections 1 to 7 and 10.
//!
//! That suite wants an echo; a broker answers messages. So a payload is put into the data of a message of somebody without a session,
//! which is answered by one frame with `402`, and everything else is as in the suite: a valid sequence is answered and the close
//! that follows it is acknowledged; an invalid one is closed with the code that RFC 6455 wants.
//!
//! Not applicable: 9 (speed and sizes above the largest message, which 1.1.8 and `sockets.rs` bound), 12 and 13 (compression is not
//! negotiated, see `upgrades`), 1.2 as an echo (binary messages are taken and mean nothing), and the pictures of 7.5 beyond the code.

use crate::it::Expected::{Close, Frames};
use crate::it::{Case, Expected, frames, pieces};
use crate::wire::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close, frame, ping, text};

const BEFORE: &[u8] = br#"[{"channel":"/hostile/x","data":""#;
const AFTER: &[u8] = br#""}]"#;

/// A message with this payload as its data.
fn message(payload: &[u8]) -> Vec<u8> {
    [BEFORE, payload, AFTER].concat()
}

/// A message of this size.
fn sized(size: usize) -> Vec<u8> {
    message(&vec![b'*'; size - BEFORE.len() - AFTER.len()])
}

/// What a message is answered with.
fn reply() -> Vec<u8> {
    b"402::session_unknown*".to_vec()
}

/// So many messages are answered, and then the close.
fn answered(count: usize) -> Expected {
    Frames(vec![reply(); count], 1000)
}

fn pongs(payloads: &[&[u8]]) -> Expected {
    Frames(payloads.iter().map(|payload| payload.to_vec()).collect(), 1000)
}

fn octets(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

fn chops(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

/// A message in frames of so many bytes.
fn fragmented(message: &[u8], size: usize) -> Vec<u8> {
    let last = message.len().div_ceil(size) - 1;
    let fragments = message.chunks(size).enumerate().map(|(number, part)| {
        let opcode = if number == 0 { TEXT } else { CONTINUATION };
        frame(opcode | if number == last { FIN } else { 0 }, part)
    });
    fragments.flatten().collect()
}

/// With the close that ends a case.
fn ended(bytes: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    bytes.into_iter().flatten().chain(close(1000)).collect()
}

pub(crate) fn cases() -> Vec<Case> {
    [
        framing(),
        pings(),
        reserved_bits(),
        opcodes(),
        fragments(),
        utf8(),
        closes(),
        rest(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn framing() -> Vec<Case> {
    let sizes = [125, 126, 127, 128, 65_535, 65_536];
    let mut cases = vec![
        frames("1.1.1", ended([text(b"")]), answered(0)),
        frames("1.2.1", ended([frame(FIN | BINARY, b"")]), answered(0)),
        pieces("1.1.8", chops(&ended([text(&sized(65_536))]), 997), answered(1)),
        pieces(
            "1.2.8",
            chops(&ended([frame(FIN | BINARY, &[0xfe; 65_536])]), 997),
            answered(0),
        ),
    ];
    for (number, size) in sizes.into_iter().enumerate() {
        let number = number + 2;
        cases.push(frames(
            format!("1.1.{number}"),
            ended([text(&sized(size))]),
            answered(1),
        ));
        let bytes = frame(FIN | BINARY, &vec![0xfe; size]);
        cases.push(frames(format!("1.2.{number}"), ended([bytes]), answered(0)));
    }
    cases
}

fn pings() -> Vec<Case> {
    let binary = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    let long = [0xfe; 125];
    let ten: Vec<Vec<u8>> = (0..10)
        .map(|number| format!("payload-{number}").into_bytes())
        .collect();
    let ten_pings: Vec<Vec<u8>> = ten.iter().map(|payload| ping(payload)).collect();
    let ten_pongs = Frames(ten, 1000);
    vec![
        frames("2.1", ended([ping(b"")]), pongs(&[b""])),
        frames("2.2", ended([ping(b"Hello, world!")]), pongs(&[b"Hello, world!"])),
        frames("2.3", ended([ping(&binary)]), pongs(&[&binary])),
        frames("2.4", ended([ping(&long)]), pongs(&[&long])),
        frames("2.5", ping(&[0xfe; 126]), Close(1002)),
        pieces("2.6", octets(&ended([ping(&long)])), pongs(&[&long])),
        frames("2.7", ended([frame(FIN | PONG, b"")]), answered(0)),
        frames(
            "2.8",
            ended([frame(FIN | PONG, b"unsolicited pong payload")]),
            answered(0),
        ),
        frames(
            "2.9",
            ended([frame(FIN | PONG, b"unsolicited"), ping(b"ping")]),
            pongs(&[b"ping"]),
        ),
        frames("2.10", ended(ten_pings.clone()), ten_pongs.clone()),
        pieces("2.11", octets(&ended(ten_pings)), ten_pongs),
    ]
}

fn reserved_bits() -> Vec<Case> {
    let hello = message(b"Hello");
    let with = |bits: u8, opcode: u8, payload: &[u8]| frame(FIN | (bits << 4) | opcode, payload);
    let behind = |bits: u8| [text(&hello), with(bits, TEXT, &hello), ping(b"")].concat();
    vec![
        frames("3.1", with(4, TEXT, &hello), Close(1002)),
        frames("3.2", behind(2), Frames(vec![reply()], 1002)),
        frames("3.3", behind(1), Frames(vec![reply()], 1002)),
        pieces("3.4", octets(&behind(6)), Frames(vec![reply()], 1002)),
        frames("3.5", with(5, BINARY, &hello), Close(1002)),
        frames("3.6", with(3, PING, b"Hello"), Close(1002)),
        frames("3.7", with(7, CLOSE, &1000_u16.to_be_bytes()), Close(1002)),
    ]
}

fn opcodes() -> Vec<Case> {
    let hello = message(b"Hello");
    let mut cases = Vec::new();
    for (section, first) in [(1, 3), (2, 11)] {
        for number in 1..=5 {
            let opcode = FIN | (first + number - 1);
            let name = format!("4.{section}.{number}");
            // As in the suite: alone without and with a payload, then behind a message.
            let case = match number {
                1 => frames(name, frame(opcode, b""), Close(1002)),
                2 => frames(name, frame(opcode, b"reserved opcode payload"), Close(1002)),
                3 => frames(
                    name,
                    [text(&hello), frame(opcode, b""), ping(b"")].concat(),
                    Frames(vec![reply()], 1002),
                ),
                4 => frames(
                    name,
                    [text(&hello), frame(opcode, b"payload"), ping(b"")].concat(),
                    Frames(vec![reply()], 1002),
                ),
                _ => pieces(
                    name,
                    octets(&[text(&hello), frame(opcode, b"payload"), ping(b"")].concat()),
                    Frames(vec![reply()], 1002),
                ),
            };
            cases.push(case);
        }
    }
    cases
}

fn fragments() -> Vec<Case> {
    let hello = message(b"fragment1fragment2");
    let (first, second) = hello.split_at(20);
    let start = || frame(TEXT, first);
    let end = || frame(FIN | CONTINUATION, second);
    let between = || ping(b"ping payload");
    let whole = [start(), end()];
    let pinged = [start(), between(), end()];
    let ping_then_reply = Frames(vec![b"ping payload".to_vec(), reply()], 1000);
    let stray = |is_last: bool| {
        frame(
            CONTINUATION | if is_last { FIN } else { 0 },
            b"non-continuation payload",
        )
    };
    let five: Vec<Vec<u8>> = {
        let parts: Vec<&[u8]> = hello.chunks(hello.len().div_ceil(5)).collect();
        let last = parts.len() - 1;
        let fragment = |(number, part): (usize, &&[u8])| {
            let opcode = if number == 0 { TEXT } else { CONTINUATION };
            frame(opcode | if number == last { FIN } else { 0 }, part)
        };
        parts.iter().enumerate().map(fragment).collect()
    };
    let pinged_five = || {
        let mut frames = five.clone();
        frames.insert(2, ping(b"pongme 1!"));
        frames.insert(5, ping(b"pongme 2!"));
        frames
    };
    let pongs_and_reply = Frames(vec![b"pongme 1!".to_vec(), b"pongme 2!".to_vec(), reply()], 1000);
    vec![
        frames(
            "5.1",
            [frame(PING, b"fragment1"), frame(FIN | CONTINUATION, b"fragment2")].concat(),
            Close(1002),
        ),
        frames(
            "5.2",
            [frame(PONG, b"fragment1"), frame(FIN | CONTINUATION, b"fragment2")].concat(),
            Close(1002),
        ),
        frames("5.3", ended(whole.clone()), answered(1)),
        pieces("5.4", chops(&ended(whole.clone()), 7), answered(1)),
        pieces("5.5", octets(&ended(whole.clone())), answered(1)),
        frames("5.6", ended(pinged.clone()), ping_then_reply.clone()),
        pieces("5.7", chops(&ended(pinged.clone()), 7), ping_then_reply.clone()),
        pieces("5.8", octets(&ended(pinged)), ping_then_reply),
        frames("5.9", [stray(true), text(&hello)].concat(), Close(1002)),
        pieces(
            "5.10",
            chops(&[stray(true), text(&hello)].concat(), 7),
            Close(1002),
        ),
        pieces("5.11", octets(&[stray(true), text(&hello)].concat()), Close(1002)),
        frames("5.12", [stray(false), text(&hello)].concat(), Close(1002)),
        pieces(
            "5.13",
            chops(&[stray(false), text(&hello)].concat(), 7),
            Close(1002),
        ),
        pieces(
            "5.14",
            octets(&[stray(false), text(&hello)].concat()),
            Close(1002),
        ),
        frames(
            "5.15",
            [start(), end(), stray(false), text(&hello)].concat(),
            Frames(vec![reply()], 1002),
        ),
        frames(
            "5.16",
            [stray(false), text(&hello), stray(false), text(&hello)].concat(),
            Close(1002),
        ),
        frames(
            "5.17",
            [stray(true), text(&hello), stray(true), text(&hello)].concat(),
            Close(1002),
        ),
        frames("5.18", [start(), frame(TEXT, second)].concat(), Close(1002)),
        frames("5.19", ended(pinged_five()), pongs_and_reply.clone()),
        pieces(
            "5.20",
            pinged_five().into_iter().chain([close(1000)]).collect(),
            pongs_and_reply,
        ),
    ]
}

/// Each with whether it is a text.
type Payloads = Vec<(Vec<u8>, bool)>;

/// Payloads that are UTF-8 or not, each in one frame.
fn utf8() -> Vec<Case> {
    let mut cases = vec![
        frames("6.1.1", ended([text(b"")]), answered(0)),
        frames(
            "6.1.2",
            ended([
                frame(TEXT, b""),
                frame(CONTINUATION, b""),
                frame(FIN | CONTINUATION, b""),
            ]),
            answered(0),
        ),
        frames(
            "6.1.3",
            ended([
                frame(TEXT, b""),
                frame(CONTINUATION, &message(b"middle")),
                frame(FIN | CONTINUATION, b""),
            ]),
            answered(1),
        ),
    ];
    let good = message("Hello-µ@ßöäüàá-UTF-8!!".as_bytes());
    let greek = message("κόσμε".as_bytes());
    let cut = good.iter().position(|byte| *byte >= 0x80).unwrap_or_default();
    let (before, after) = good.split_at(cut);
    cases.extend([
        frames("6.2.1", ended([text(&good)]), answered(1)),
        frames(
            "6.2.2",
            ended([frame(TEXT, before), frame(FIN | CONTINUATION, after)]),
            answered(1),
        ),
        frames("6.2.3", ended([fragmented(&good, 1)]), answered(1)),
        frames("6.2.4", ended([fragmented(&greek, 1)]), answered(1)),
    ]);
    let mut bad = "κόσμε".as_bytes().to_vec();
    bad.extend([0xed, 0xa0, 0x80]);
    bad.extend(b"edited");
    let bad = message(&bad);
    let wrong = bad.iter().position(|byte| *byte == 0xed).unwrap_or_default();
    cases.extend([
        frames("6.3.1", text(&bad), Close(1007)),
        frames("6.3.2", fragmented(&bad, 1), Close(1007)),
        // It is noticed before the message is whole: its last fragment never comes.
        frames(
            "6.4.1",
            [frame(TEXT, &bad[..wrong]), frame(CONTINUATION, &bad[wrong..])].concat(),
            Close(1007),
        ),
        frames(
            "6.4.2",
            [
                frame(TEXT, &bad[..wrong + 2]),
                frame(CONTINUATION, &bad[wrong + 2..]),
            ]
            .concat(),
            Close(1007),
        ),
        pieces("6.4.3", chops(&text(&bad), wrong), Close(1007)),
        pieces("6.4.4", octets(&text(&bad)), Close(1007)),
    ]);
    let mut groups: Vec<(u32, Payloads)> = Vec::new();
    let mut group = |number: u32, payloads: Payloads| groups.push((number, payloads));
    let good = |all: &[&[u8]]| all.iter().map(|bytes| (bytes.to_vec(), true)).collect::<Vec<_>>();
    let bad = |all: &[&[u8]]| {
        all.iter()
            .map(|bytes| (bytes.to_vec(), false))
            .collect::<Vec<_>>()
    };
    group(
        5,
        good(&[
            "κόσμε".as_bytes(),
            "Κόσμε".as_bytes(),
            "日本語".as_bytes(),
            "𝄞".as_bytes(),
            "é".as_bytes(),
        ]),
    );
    let kosme = "κόσμε".as_bytes();
    group(
        6,
        (1..=kosme.len())
            .map(|end| (kosme[..end].to_vec(), std::str::from_utf8(&kosme[..end]).is_ok()))
            .collect(),
    );
    // NUL is UTF-8 and no character of a JSON text, so 6.7.1 is refused for that.
    group(
        7,
        vec![
            (vec![0], false),
            (vec![0xc2, 0x80], true),
            (vec![0xe0, 0xa0, 0x80], true),
            (vec![0xf0, 0x90, 0x80, 0x80], true),
        ],
    );
    group(8, bad(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]));
    group(
        9,
        good(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
    );
    group(
        10,
        bad(&[
            b"\xf7\xbf\xbf\xbf",
            b"\xfb\xbf\xbf\xbf\xbf",
            b"\xfd\xbf\xbf\xbf\xbf\xbf",
        ]),
    );
    group(
        11,
        [
            good(&[
                b"\xed\x9f\xbf",
                b"\xee\x80\x80",
                b"\xef\xbf\xbd",
                b"\xf4\x8f\xbf\xbf",
            ]),
            bad(&[b"\xf4\x90\x80\x80"]),
        ]
        .concat(),
    );
    let alternating: Vec<u8> = [0x80, 0xbf].into_iter().cycle().take(7).collect();
    let mut stray: Vec<(Vec<u8>, bool)> = vec![(vec![0x80], false), (vec![0xbf], false)];
    stray.extend((2..=6).map(|length| (alternating[..length].to_vec(), false)));
    stray.push(((0x80..=0xbf).collect(), false));
    group(12, stray);
    let lonely = |range: std::ops::RangeInclusive<u8>| {
        (range.flat_map(|byte| [byte, b' ']).collect::<Vec<u8>>(), false)
    };
    group(
        13,
        vec![
            lonely(0xc0..=0xdf),
            lonely(0xe0..=0xef),
            lonely(0xf0..=0xf7),
            lonely(0xf8..=0xfb),
            lonely(0xfc..=0xfd),
        ],
    );
    let incomplete: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    group(14, bad(&incomplete));
    group(15, vec![(incomplete.concat(), false)]);
    group(16, bad(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]));
    group(
        17,
        bad(&[
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
        ]),
    );
    group(
        18,
        bad(&[
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf8\x87\xbf\xbf\xbf",
            b"\xfc\x83\xbf\xbf\xbf\xbf",
        ]),
    );
    group(
        19,
        bad(&[
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xf0\x80\x80\x80",
            b"\xf8\x80\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80\x80",
        ]),
    );
    group(
        20,
        bad(&[
            b"\xed\xa0\x80",
            b"\xed\xad\xbf",
            b"\xed\xae\x80",
            b"\xed\xaf\xbf",
            b"\xed\xb0\x80",
            b"\xed\xbe\x80",
            b"\xed\xbf\xbf",
        ]),
    );
    let high: [&[u8]; 4] = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"];
    let pairs = high
        .iter()
        .flat_map(|high| [&b"\xed\xb0\x80"[..], b"\xed\xbf\xbf"].map(|low| ([high, low].concat(), false)));
    group(21, pairs.collect());
    let text_of = |code: u32| {
        char::from_u32(code)
            .map(String::from)
            .unwrap_or_default()
            .into_bytes()
    };
    let last_two = (0..=16_u32).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    group(22, last_two.map(|code| (text_of(code), true)).collect());
    group(23, (0xfff9..=0xffff).map(|code| (text_of(code), true)).collect());
    for (number, payloads) in groups {
        for (place, (payload, is_good)) in payloads.into_iter().enumerate() {
            let name = format!("6.{number}.{}", place + 1);
            let bytes = text(&message(&payload));
            cases.push(if is_good {
                frames(name, ended([bytes]), answered(1))
            } else {
                frames(name, bytes, Close(1007))
            });
        }
    }
    cases
}

fn closes() -> Vec<Case> {
    let hello = message(b"Hello World!");
    let closing = |payload: &[u8]| frame(FIN | CLOSE, payload);
    let reason = |length: usize| [&1000_u16.to_be_bytes()[..], &vec![b'*'; length]].concat();
    let (first, second) = hello.split_at(10);
    let mut cases = vec![
        frames("7.1.1", ended([text(&hello)]), answered(1)),
        frames("7.1.2", [close(1000), close(1000)].concat(), answered(0)),
        frames("7.1.3", [close(1000), ping(b"")].concat(), answered(0)),
        frames("7.1.4", [close(1000), text(&hello)].concat(), answered(0)),
        frames(
            "7.1.5",
            [frame(TEXT, first), close(1000), frame(FIN | CONTINUATION, second)].concat(),
            answered(0),
        ),
        frames(
            "7.1.6",
            [text(&sized(65_536)), text(&hello), close(1000), ping(b"")].concat(),
            answered(2),
        ),
        frames("7.3.1", closing(b""), Frames(Vec::new(), 0)),
        frames("7.3.2", closing(b"a"), Close(1002)),
        frames("7.3.3", close(1000), answered(0)),
        frames("7.3.4", closing(b"\x03\xe8Hello!"), answered(0)),
        frames("7.3.5", closing(&reason(123)), answered(0)),
        frames("7.3.6", closing(&reason(124)), Close(1002)),
        frames(
            "7.5.1",
            closing(b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"),
            Close(1007),
        ),
    ];
    for (number, code) in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ]
    .into_iter()
    .enumerate()
    {
        cases.push(frames(
            format!("7.7.{}", number + 1),
            close(code),
            Frames(Vec::new(), code),
        ));
    }
    for (number, code) in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]
        .into_iter()
        .enumerate()
    {
        cases.push(frames(format!("7.9.{}", number + 1), close(code), Close(1002)));
    }
    for (number, code) in [5000, 65_535].into_iter().enumerate() {
        cases.push(frames(format!("7.13.{}", number + 1), close(code), Close(1002)));
    }
    cases
}

fn rest() -> Vec<Case> {
    vec![frames(
        "10.1.1",
        ended([fragmented(&sized(65_536), 1_300)]),
        answered(1),
    )]
}
