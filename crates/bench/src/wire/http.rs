//! Requests and responses of HTTP/1.1.

use std::borrow::Cow;
use std::io::Write as _;

use httparse::{EMPTY_HEADER, Status};
use memchr::memmem;

use super::Malformed;

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    /// Without its chunks, if it had any.
    pub(crate) body: Cow<'a, [u8]>,
    /// `name=value` of each cookie that is set, separated as a `Cookie` header wants it. Empty if none is.
    pub(crate) cookies: String,
    /// `Sec-WebSocket-Accept`.
    pub(crate) accept: Option<&'a str>,
    /// Bytes that it took.
    pub(crate) length: usize,
}

const HEADERS: usize = 64;

/// The response at the beginning of `bytes`, or `None` if it is not whole yet.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<Response<'_>>, Malformed> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let head = match parsed.parse(bytes) {
        Ok(Status::Complete(head)) => head,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(Malformed::new(&format!("not HTTP/1.1 ({error})"), bytes)),
    };
    let status = parsed.code.unwrap_or_default();
    let mut framing = Framing::Unknown;
    let mut cookies = String::new();
    let mut accept = None;
    for header in parsed.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = value
                .parse()
                .map_err(|_| Malformed::new("Content-Length is no number", header.value))?;
            framing = Framing::Length(length);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("set-cookie") {
            add_cookie(&mut cookies, value);
        } else if header.name.eq_ignore_ascii_case("sec-websocket-accept") {
            accept = Some(value);
        }
    }
    if matches!(status, 100..200 | 204 | 304) {
        framing = Framing::Length(0);
    }
    let rest = &bytes[head..];
    let body = match framing {
        Framing::Length(length) => rest.get(..length).map(|body| (Cow::Borrowed(body), length)),
        Framing::Chunked => dechunk(rest)?.map(|(body, length)| (Cow::Owned(body), length)),
        Framing::Unknown => {
            return Err(Malformed::new(
                "a response with neither Content-Length nor chunks",
                &bytes[..head],
            ));
        }
    };
    Ok(body.map(|(body, length)| Response {
        status,
        body,
        cookies,
        accept,
        length: head + length,
    }))
}

/// How the end of a body is found.
enum Framing {
    Length(usize),
    Chunked,
    Unknown,
}

fn add_cookie(cookies: &mut String, value: &str) {
    let pair = value.split(';').next().unwrap_or_default().trim();
    if !cookies.is_empty() {
        cookies.push_str("; ");
    }
    cookies.push_str(pair);
}

/// The body of chunks and the bytes that they took, or `None` if the last is not there yet.
fn dechunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (from, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(Status::Complete((line, size))) => (at + line, usize::try_from(size).unwrap_or(usize::MAX)),
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(Malformed::new("a chunk without its size", &bytes[at..])),
        };
        if size == 0 {
            // Trailers, if there are any, end with an empty line, too.
            let Some(rest) = bytes.get(from..) else {
                return Ok(None);
            };
            if rest.starts_with(b"\r\n") {
                return Ok(Some((body, from + 2)));
            }
            return Ok(memmem::find(rest, b"\r\n\r\n").map(|end| (body, from + end + 4)));
        }
        let Some(chunk) = bytes.get(from..from.saturating_add(size)) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        at = from + size + 2;
        if bytes.len() < at {
            return Ok(None);
        }
    }
}

/// Writes a POST of JSON. `prefix` is its request line with the headers that all of them have, `headers` are more lines.
pub(crate) fn write_post(out: &mut Vec<u8>, prefix: &[u8], headers: &str, body: &[u8]) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(headers.as_bytes());
    out.extend_from_slice(b"Content-Length: ");
    write_number(out, body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// The beginning of every POST to a path.
pub(crate) fn post_prefix(path: &str, host: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n").into_bytes()
}

/// Writes a number in decimal.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    write!(out, "{number}").expect("a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nSet-Cookie: A=b; Path=/\r\nset-cookie: C=d\r\n\r\nabc";

    #[test]
    fn a_response_ends_where_its_length_says() {
        let two = [PLAIN, PLAIN].concat();
        let response = response(&two).unwrap().unwrap();
        assert_eq!(
            (response.status, &*response.body, response.length),
            (200, &b"abc"[..], PLAIN.len())
        );
    }

    #[test]
    fn cookies_come_as_a_cookie_header_wants_them() {
        assert_eq!(response(PLAIN).unwrap().unwrap().cookies, "A=b; C=d");
    }

    #[test]
    fn a_response_that_is_not_whole_is_none_wherever_it_is_cut() {
        for end in 0..PLAIN.len() {
            assert_eq!(response(&PLAIN[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn chunks_are_one_body_wherever_they_are_cut() {
        let chunked: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        for end in 0..chunked.len() {
            assert_eq!(response(&chunked[..end]), Ok(None), "{end}");
        }
        let both = [chunked, PLAIN].concat();
        let response = response(&both).unwrap().unwrap();
        assert_eq!((&*response.body, response.length), (&b"abcde"[..], chunked.len()));
    }

    #[test]
    fn trailers_belong_to_the_response() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\nHTTP";
        assert_eq!(response(chunked).unwrap().unwrap().length, chunked.len() - 4);
    }

    #[test]
    fn an_upgrade_has_no_body() {
        let upgrade = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x=\r\n\r\n\x81\x02[]";
        let response = response(upgrade).unwrap().unwrap();
        assert_eq!(
            (response.accept, response.length),
            (Some("x="), upgrade.len() - 4)
        );
    }

    #[test]
    fn what_is_no_response_is_refused() {
        assert!(response(b"SSH-2.0-OpenSSH\r\n").is_err());
        assert!(response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_post_says_how_long_its_body_is() {
        let mut out = Vec::new();
        write_post(&mut out, &post_prefix("/cometd", "h:1"), "X: y\r\n", b"[]");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /cometd HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\nX: y\r\nContent-Length: 2\r\n\r\n[]"
        );
    }
}
