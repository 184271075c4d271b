//! JSON that is too deep, too long, or not what it seems; through each of the three doors.

use crate::it::Expected::{Answer, Close, Frames, Status};
use crate::it::{Case, Expected, frames, post, publish};
use crate::wire::{close, text};

/// Whether a body may be taken, as far as its text is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Refused as a whole.
    Refused,
    /// Its messages are looked at.
    Read,
}

/// T20: texts in the place of a message's data, or of the whole body.
fn bodies() -> Vec<(String, Vec<u8>, Fate)> {
    use Fate::{Read, Refused};
    let mut bodies = Vec::new();
    let mut whole = |name: &str, body: &[u8], fate| bodies.push((name.to_owned(), body.to_vec(), fate));
    whole("arrays without an end", "[".repeat(60_000).as_bytes(), Refused);
    whole(
        "objects without an end",
        r#"{"a":"#.repeat(9_000).as_bytes(),
        Refused,
    );
    let nested = |open: &str, close: &str, count| format!("{}{}", open.repeat(count), close.repeat(count));
    whole(
        "30,000 nested arrays",
        nested("[", "]", 30_000).as_bytes(),
        Refused,
    );
    whole(
        "9,000 nested objects",
        format!("{}1{}", r#"{"a":"#.repeat(9_000), "}".repeat(9_000)).as_bytes(),
        Refused,
    );
    whole("arrays that are closed too often", b"[]]]]]]]", Refused);
    whole("a bracket that another closes", b"[}", Refused);
    whole("a byte order mark", "\u{feff}[]".as_bytes(), Refused);
    whole("UTF-16", &[0xff, 0xfe, b'[', 0, b']', 0], Refused);
    whole("UTF-16 the other way", &[0xfe, 0xff, 0, b'[', 0, b']'], Refused);
    whole("UTF-32", &[0, 0, 0, b'[', 0, 0, 0, b']'], Refused);
    whole("a NUL", b"[\0]", Refused);
    whole("nothing but NULs", &[0; 4096], Refused);
    whole("nothing but newlines", &b"\n".repeat(60_000), Refused);
    whole("nothing but commas", &b",".repeat(60_000), Refused);
    whole(
        "an array of commas",
        format!("[{}]", ",".repeat(60_000)).as_bytes(),
        Refused,
    );
    whole("a comma at the end", br#"[{"channel":"/a"},]"#, Refused);
    whole("a comment", br#"[/* */{"channel":"/a"}]"#, Refused);
    whole("single quotes", br"[{'channel':'/a'}]", Refused);
    whole("names without quotes", br#"[{channel:"/a"}]"#, Refused);
    whole("a text without an end", br#"[{"channel":"/a"#, Refused);
    whole("an escape that is none", br#"[{"channel":"\x"}]"#, Refused);
    whole("a newline in a text", b"[{\"channel\":\"/a\n\"}]", Refused);
    whole("NaN", br#"[{"channel":"/a","data":NaN}]"#, Refused);
    whole("infinity", br#"[{"channel":"/a","data":-Infinity}]"#, Refused);
    whole(
        "a number with a zero before it",
        br#"[{"channel":"/a","data":01}]"#,
        Refused,
    );
    whole(
        "a number with a plus",
        br#"[{"channel":"/a","data":+1}]"#,
        Refused,
    );
    whole(
        "a number in hexadecimal",
        br#"[{"channel":"/a","data":0x1}]"#,
        Refused,
    );
    whole("two values", b"[][]", Refused);
    whole("a text", br#""/meta/handshake""#, Refused);
    whole("a number", b"1e308", Refused);
    whole("null", b"null", Refused);
    whole("a form", b"message=%5B%5D&jsonp=x", Refused);
    whole(
        "XML",
        br#"<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>"#,
        Refused,
    );
    whole("an overlong slash", b"[{\"channel\":\"\xc0\xaf\"}]", Refused);
    whole(
        "a surrogate in UTF-8",
        b"[{\"channel\":\"/a\",\"data\":\"\xed\xa0\x80\"}]",
        Refused,
    );
    whole(
        "a character that is cut",
        b"[{\"channel\":\"/a\",\"data\":\"\xe2\x82\"}]",
        Refused,
    );
    let mut data = |name: &str, data: &str, fate| {
        bodies.push((
            name.to_owned(),
            format!(r#"[{{"channel":"/hostile/x","data":{data}}}]"#).into_bytes(),
            fate,
        ));
    };
    data("data of 33 arrays", &nested("[", "]", 33), Refused);
    data("data of 32 arrays", &nested("[", "]", 32), Read);
    data(
        "data of 33 objects",
        &format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33)),
        Refused,
    );
    data("a number of 20,000 digits", &"9".repeat(20_000), Read);
    data(
        "a fraction of 20,000 digits",
        &format!("0.{}", "9".repeat(20_000)),
        Read,
    );
    data(
        "an exponent of 10,000 digits",
        &format!("1e{}", "9".repeat(10_000)),
        Read,
    );
    data(
        "5,000 names",
        &format!(
            "{{{}\"z\":1}}",
            (0..5_000).map(|n| format!("\"{n}\":1,")).collect::<String>()
        ),
        Read,
    );
    data(
        "one name 5,000 times",
        &format!("{{{}\"a\":1}}", "\"a\":1,".repeat(5_000)),
        Read,
    );
    data(
        "a name of 50,000 bytes",
        &format!("{{\"{}\":1}}", "x".repeat(50_000)),
        Read,
    );
    data("a lone surrogate", r#""\ud800""#, Read);
    data("surrogates the wrong way round", r#""\udc00\ud800""#, Read);
    data("9,000 escapes", &format!("\"{}\"", "\\u0000".repeat(9_000)), Read);
    data(
        "__proto__",
        r#"{"__proto__":{"isAdmin":true},"constructor":{"prototype":{}}}"#,
        Read,
    );
    data(
        "a class of Java",
        r#"{"class":"java.lang.Runtime","@type":"java.net.URL"}"#,
        Read,
    );
    data(
        "20,000 empty arrays",
        &format!("[{}[]]", "[],".repeat(20_000)),
        Read,
    );
    data("20,000 numbers", &format!("[{}1]", "1,".repeat(20_000)), Read);
    data(
        "spaces",
        &format!("{}1{}", " ".repeat(30_000), " ".repeat(30_000)),
        Read,
    );
    bodies
}

/// Over HTTP every body is answered by JSON, and only what is no body of messages as a whole by 400.
pub(crate) fn posted() -> Vec<Case> {
    let case = |(name, body, fate): (String, Vec<u8>, Fate)| {
        let expected = if fate == Fate::Read {
            Answer
        } else {
            Status(&[400])
        };
        post(format!("posted: {name}"), body, expected)
    };
    bodies().into_iter().map(case).collect()
}

/// A socket is closed for it: 1007, also when the library sees first that it is no UTF-8.
pub(crate) fn framed() -> Vec<Case> {
    let case = |(name, body, fate): (String, Vec<u8>, Fate)| {
        let is_blank = body.trim_ascii().is_empty();
        let mut bytes = text(&body);
        bytes.extend(close(1000));
        let expected = match fate {
            Fate::Refused if is_blank => Frames(Vec::new(), 1000),
            Fate::Refused => Close(1007),
            Fate::Read => Frames(vec![b"402::session_unknown*".to_vec()], 1000),
        };
        frames(format!("framed: {name}"), bytes, expected)
    };
    bodies().into_iter().map(case).collect()
}

/// Publishers are told where.
pub(crate) fn published() -> Vec<Case> {
    let case = |(name, body, fate): (String, Vec<u8>, Fate)| {
        let expected: Expected = if fate == Fate::Read {
            Status(&[201])
        } else {
            Status(&[400])
        };
        publish(format!("published: {name}"), body, expected)
    };
    let mut cases: Vec<Case> = bodies().into_iter().map(case).collect();
    for (name, event) in [
        (
            "a user of 5 KB",
            format!(r#"{{"channel":"/a","data":1,"user":"{}"}}"#, "x".repeat(5_000)),
        ),
        (
            "a user with a NUL",
            r#"{"channel":"/a","data":1,"user":"a\u0000b"}"#.to_owned(),
        ),
        (
            "a channel of the protocol",
            r#"{"channel":"/meta/connect","data":1}"#.to_owned(),
        ),
        (
            "a channel with dots",
            r#"{"channel":"/a/../b?","data":1}"#.to_owned(),
        ),
        (
            "a wildcard of another broker",
            r#"{"channel":"/a/>","data":1}"#.to_owned(),
        ),
        (
            "an id of 5 KB",
            format!(r#"{{"channel":"/a","data":1,"id":"{}"}}"#, "x".repeat(5_000)),
        ),
        (
            "forged fields",
            r#"{"channel":"/a","data":1,"advice":{},"successful":true}"#.to_owned(),
        ),
    ] {
        cases.push(publish(format!("published: {name}"), event, Status(&[400])));
    }
    let many = vec![r#"{"channel":"/a","data":1}"#; 8_000].join(",");
    cases.push(publish(
        "published: 8,000 events",
        format!("[{many}]"),
        Status(&[400]),
    ));
    cases.push(publish("published: 1 MiB", "x".repeat(1 << 20), Status(&[413])));
    cases
}
