//! HTTP/1.1 that means two things, or never ends.

use crate::it::Expected::{Status, StatusOrEnd};
use crate::it::{Case, public};

const HANDSHAKE: &str = r#"[{"channel":"/meta/handshake"}]"#;

/// What a request that is hidden in another one begins with.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";

/// What may be said to a request that cannot be understood.
const REFUSED: &[u16] = &[400, 405, 408, 411, 413, 414, 431, 501, 505];

fn head(lines: &[&str], body: &str) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("POST /cometd HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret-15000\r\n{lines}\r\n{body}")
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// T22: where one request ends and the next begins.
pub(crate) fn smuggling() -> Vec<Case> {
    let length = format!("Content-Length: {}", HANDSHAKE.len());
    let plain = length.as_str();
    let te = "Transfer-Encoding: chunked";
    let whole = chunked(HANDSHAKE);
    let mut cases = Vec::new();
    let mut case = |name: &str, text: String, expected| cases.push(public(name, text, expected));
    // What comes behind an answer to both is not taken for a request.
    case(
        "both, the length is longer",
        head(&["Content-Length: 500", te], &whole),
        StatusOrEnd(&[200, 400]),
    );
    case(
        "both, a request is hidden behind the chunks",
        head(&["Content-Length: 6", te], &format!("0\r\n\r\n{HIDDEN}")),
        StatusOrEnd(REFUSED),
    );
    case(
        "both, the other way round",
        head(&[te, "Content-Length: 6"], &format!("0\r\n\r\n{HIDDEN}")),
        StatusOrEnd(REFUSED),
    );
    for (name, lines) in [
        ("two lengths that differ", vec![plain, "Content-Length: 5"]),
        ("two lengths in one line", vec!["Content-Length: 5, 6"]),
        ("a length with a plus", vec!["Content-Length: +31"]),
        ("a length with a minus", vec!["Content-Length: -1"]),
        ("a length in hexadecimal", vec!["Content-Length: 0x1f"]),
        ("a length with a point", vec!["Content-Length: 31.0"]),
        ("a length with an exponent", vec!["Content-Length: 3e1"]),
        ("a length that is empty", vec!["Content-Length: "]),
        ("a length of letters", vec!["Content-Length: abc"]),
        (
            "a length of 20 digits",
            vec!["Content-Length: 99999999999999999999"],
        ),
        ("a length of 2^64", vec!["Content-Length: 18446744073709551616"]),
        ("a length with a vertical tab", vec!["Content-Length: \x0b31"]),
        ("a length with a semicolon", vec!["Content-Length: 31;x"]),
        ("a length in other digits", vec!["Content-Length: \u{661}\u{662}"]),
        (
            "a length with a space before the colon",
            vec!["Content-Length : 31"],
        ),
        (
            "chunked with a space before the colon",
            vec!["Transfer-Encoding : chunked"],
        ),
        (
            "chunked with a tab before the colon",
            vec!["Transfer-Encoding\t: chunked"],
        ),
        (
            "chunked that is not last",
            vec!["Transfer-Encoding: chunked, identity"],
        ),
        ("identity", vec!["Transfer-Encoding: identity"]),
        ("xchunked", vec!["Transfer-Encoding: xchunked"]),
        (
            "chunked with a vertical tab",
            vec!["Transfer-Encoding: \x0bchunked"],
        ),
        ("chunked in quotes", vec!["Transfer-Encoding: \"chunked\""]),
        ("gzip alone", vec!["Transfer-Encoding: gzip"]),
        ("an encoding that is empty", vec!["Transfer-Encoding: "]),
        ("a folded header", vec!["X: a", " Content-Length: 31"]),
        ("a folded encoding", vec!["Transfer-Encoding:", " chunked"]),
        ("a header that begins with a space", vec![" X: a"]),
        ("a header without a colon", vec!["X"]),
        ("a header without a name", vec![": x"]),
        ("a header with a space in its name", vec!["X Y: a"]),
        ("a header with a NUL", vec!["X: a\0b"]),
        ("a header with a bare CR", vec!["X: a\rContent-Length: 31"]),
        ("a header with DEL", vec!["X: a\x7fb"]),
        ("a name with a control character", vec!["X\x01: a"]),
        ("a name in other letters", vec!["X\u{17f}: a"]),
    ] {
        case(name, head(&lines, HANDSHAKE), StatusOrEnd(REFUSED));
    }
    case(
        "two lengths that are alike",
        head(&[plain, plain], HANDSHAKE),
        StatusOrEnd(&[200, 400]),
    );
    case(
        "a length with zeros",
        head(&["Content-Length: 00031"], HANDSHAKE),
        StatusOrEnd(&[200, 400]),
    );
    case(
        "chunked in capitals",
        head(&["TRANSFER-ENCODING: CHUNKED"], &whole),
        StatusOrEnd(&[200, 400]),
    );
    case(
        "gzip and chunked",
        head(&["Transfer-Encoding: gzip, chunked"], &whole),
        StatusOrEnd(&[200, 400, 501]),
    );
    case("chunked twice", head(&[te, te], &whole), StatusOrEnd(&[200, 400]));
    case(
        "chunked twice in one line",
        head(&["Transfer-Encoding: chunked, chunked"], &whole),
        StatusOrEnd(&[200, 400]),
    );
    let nobody = "POST /cometd HTTP/1.1\nHost: h\nContent-Length: 2\n\n[]".to_owned();
    case("lines that end with LF", nobody, StatusOrEnd(&[400]));
    for (name, body) in [
        ("a chunk of +5", "+5\r\n[[[[[\r\n0\r\n\r\n".to_owned()),
        ("a chunk of -1", "-1\r\n[\r\n0\r\n\r\n".to_owned()),
        ("a chunk of 0x5", "0x5\r\n[[[[[\r\n0\r\n\r\n".to_owned()),
        (
            "a chunk of 17 digits",
            "fffffffffffffffff\r\n[\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "a chunk of 2^64-1",
            "ffffffffffffffff\r\n[\r\n0\r\n\r\n".to_owned(),
        ),
        ("a chunk of g", "g\r\n[\r\n0\r\n\r\n".to_owned()),
        ("a chunk without a size", "\r\n[\r\n0\r\n\r\n".to_owned()),
        (
            "a chunk with a space before its size",
            " 1\r\n[\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "a chunk that is longer than its size",
            "1\r\n[[[\r\n0\r\n\r\n".to_owned(),
        ),
        ("a chunk without its end", "1\r\n[0\r\n\r\n".to_owned()),
        ("a chunk whose line ends with LF", "1\n[\r\n0\r\n\r\n".to_owned()),
        ("a chunk extension with CR", "1;a\rb\r\n[\r\n0\r\n\r\n".to_owned()),
        ("a chunk extension with LF", "1;a\nb\r\n[\r\n0\r\n\r\n".to_owned()),
        ("a last chunk of 00x", "1\r\n[\r\n00x\r\n\r\n".to_owned()),
        (
            "trailers that are no headers",
            format!("1\r\n[\r\n0\r\n{}\r\n", "\0\0\r\n"),
        ),
    ] {
        case(name, head(&[te], &body), StatusOrEnd(REFUSED));
    }
    for (name, line) in [
        ("a request line with two spaces", "POST  /cometd HTTP/1.1"),
        ("a request line with tabs", "POST\t/cometd\tHTTP/1.1"),
        ("a request line without a version", "POST /cometd"),
        ("HTTP/0.9", "GET /cometd"),
        ("HTTP/1.2", "POST /cometd HTTP/1.2"),
        ("HTTP/2.0 in a line", "POST /cometd HTTP/2.0"),
        ("HTTP/3.0", "POST /cometd HTTP/3.0"),
        ("http in small letters", "POST /cometd http/1.1"),
        ("a version of letters", "POST /cometd HTTP/a.b"),
        ("a space in the path", "POST /come td HTTP/1.1"),
        ("a NUL in the path", "POST /cometd\0 HTTP/1.1"),
        ("a control character in the path", "POST /cometd\x01 HTTP/1.1"),
        ("a method of brackets", "P[]T /cometd HTTP/1.1"),
        ("no method", " /cometd HTTP/1.1"),
        ("a path without a slash", "POST cometd HTTP/1.1"),
        ("an authority", "POST h:80 HTTP/1.1"),
        ("CONNECT", "CONNECT h:80 HTTP/1.1"),
        ("nothing but noise", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03"),
    ] {
        let text = format!("{line}\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        case(name, text, StatusOrEnd(&[400, 404, 405, 414, 501, 505]));
    }
    for (name, line, allowed) in [
        (
            "a path in other letters",
            "POST /cometd/\u{e4} HTTP/1.1",
            &[400, 404][..],
        ),
        ("a path with %00", "POST /cometd/%00 HTTP/1.1", &[400, 404]),
        (
            "a path with dots",
            "POST /cometd/../../etc/passwd HTTP/1.1",
            &[400, 404],
        ),
        (
            "a path with encoded dots",
            "POST /%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
            &[400, 404],
        ),
        (
            "an absolute URI of another host",
            "POST http://evil/cometd HTTP/1.1",
            &[400, 403, 404],
        ),
        ("an asterisk", "OPTIONS * HTTP/1.1", &[400, 404]),
        ("TRACE", "TRACE /cometd HTTP/1.1", &[400, 404, 405]),
        (
            "a method that nobody knows",
            "FROBNICATE /cometd HTTP/1.1",
            &[400, 404, 405],
        ),
        ("a method of 10,000 letters", "X", &[400, 404, 405, 414, 431]),
    ] {
        let line = line.replace('X', &"X".repeat(if line == "X" { 10_000 } else { 1 }));
        let line = if line.len() > 9_999 {
            format!("{line} /cometd HTTP/1.1")
        } else {
            line
        };
        case(
            name,
            format!("{line}\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
            StatusOrEnd(allowed),
        );
    }
    for (name, hosts) in [
        ("two hosts", "Host: a\r\nHost: b\r\n"),
        ("a host with a path", "Host: h/../x\r\n"),
        ("a host of other letters", "Host: \u{e4}\r\n"),
        ("a host with an at", "Host: a@b\r\n"),
    ] {
        let text = format!("POST /cometd HTTP/1.1\r\n{hosts}Content-Length: 2\r\n\r\n[]");
        case(name, text, StatusOrEnd(&[400]));
    }
    for (name, line) in [
        ("an expectation of nonsense", "Expect: nonsense"),
        (
            "an upgrade to h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        ),
        (
            "an upgrade to nonsense",
            "Connection: Upgrade\r\nUpgrade: nonsense",
        ),
        (
            "hop-by-hop headers that hide others",
            "Connection: Content-Length, Authorization",
        ),
        ("a body that says it is packed", "Content-Encoding: gzip"),
        (
            "a forwarded host",
            "X-Forwarded-Host: evil\r\nX-Original-URL: /metrics\r\nX-Rewrite-URL: /metrics",
        ),
        ("another method", "X-HTTP-Method-Override: DELETE"),
    ] {
        case(name, head(&[line, plain], HANDSHAKE), Status(&[200, 400, 417]));
    }
    cases
}

/// T23: too much of everything.
pub(crate) fn endless() -> Vec<Case> {
    let te = "Transfer-Encoding: chunked";
    let mut cases = Vec::new();
    let mut case = |name: &str, text: String, expected| cases.push(public(name, text, expected));
    let many = |count: usize| {
        (0..count)
            .map(|number| format!("X-{number}: x\r\n"))
            .collect::<String>()
    };
    let head_only = |lines: &str| format!("POST /cometd HTTP/1.1\r\nHost: h\r\n{lines}");
    for (name, count) in [
        ("101 headers", 101),
        ("1,000 headers", 1_000),
        ("100,000 headers", 100_000),
    ] {
        case(
            name,
            head_only(&format!("{}\r\n", many(count))),
            StatusOrEnd(&[431]),
        );
    }
    for (name, size) in [("a header of 20 KiB", 20 << 10), ("a header of 1 MiB", 1 << 20)] {
        let line = format!("X: {}\r\n\r\n", "x".repeat(size));
        case(name, head_only(&line), StatusOrEnd(&[431]));
        let line = format!("{}: x\r\n\r\n", "x".repeat(size));
        case(
            &format!("{name}, its name"),
            head_only(&line),
            StatusOrEnd(&[400, 431]),
        );
    }
    case(
        "headers without an end",
        head_only(&"X: x\r\n".repeat(500_000)),
        StatusOrEnd(&[431]),
    );
    case(
        "one header without an end",
        head_only(&format!("X: {}", "x".repeat(4 << 20))),
        StatusOrEnd(&[431]),
    );
    case(
        "empty lines without an end",
        "\r\n".repeat(500_000),
        StatusOrEnd(&[400, 431]),
    );
    for (name, size) in [
        ("a path of 20 KiB", 20 << 10),
        ("a path of 70 KiB", 70 << 10),
        ("a path of 1 MiB", 1 << 20),
    ] {
        let text = format!("POST /cometd/{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(size));
        case(name, text, StatusOrEnd(&[414, 431]));
    }
    let cookies: String = (0..90)
        .map(|number| format!("Cookie: a{number}={}\r\n", "x".repeat(150)))
        .collect();
    case(
        "90 cookies",
        head_only(&format!("{cookies}Content-Length: 2\r\n\r\n[]")),
        Status(&[400, 431]),
    );
    let body = format!("{HANDSHAKE}{}", " ".repeat(100));
    let one_by_one: String = body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    case(
        "a body byte by byte",
        head(&[te], &format!("{one_by_one}0\r\n\r\n")),
        Status(&[200]),
    );
    case(
        "a body of 1 MiB",
        head(&[te], &chunked(&" ".repeat(1 << 20))),
        StatusOrEnd(&[413]),
    );
    case(
        "a body of 8 MiB byte by byte",
        head(&[te], &"1\r\n \r\n".repeat(1 << 20)),
        StatusOrEnd(&[400, 413]),
    );
    case(
        "a body that is said to be 1 TiB",
        head(&["Content-Length: 1099511627776"], ""),
        Status(&[413]),
    );
    let extension = format!("1;{}\r\n[\r\n0\r\n\r\n", "x".repeat(200 << 10));
    case(
        "a chunk extension of 200 KiB",
        head(&[te], &extension),
        StatusOrEnd(&[400, 413]),
    );
    let extensions = format!(
        "{}0\r\n\r\n",
        format!("1;{}\r\n \r\n", "x".repeat(100)).repeat(5_000)
    );
    case(
        "5,000 chunk extensions",
        head(&[te], &extensions),
        StatusOrEnd(&[400, 413]),
    );
    let zeros = format!("{}1\r\n[\r\n0\r\n\r\n", "0".repeat(200_000));
    case(
        "a chunk size of 200,000 zeros",
        head(&[te], &zeros),
        StatusOrEnd(&[400, 413]),
    );
    let trailers = format!("2\r\n[]\r\n0\r\n{}\r\n", many(5_000));
    case("5,000 trailers", head(&[te], &trailers), StatusOrEnd(&[400, 431]));
    let trailer = format!("2\r\n[]\r\n0\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    case(
        "a trailer of 1 MiB",
        head(&[te], &trailer),
        StatusOrEnd(&[400, 431]),
    );
    // A stream of zeros that unpacks to much: nothing unpacks it.
    let packed = "\x1f\u{8b}\x08\0\0\0\0\0\0\x03".repeat(1_000);
    let length = format!("Content-Length: {}", packed.len());
    case(
        "a packed body",
        head(&["Content-Encoding: gzip", &length], &packed),
        Status(&[400]),
    );
    cases
}
