//! The client's side of WebSocket (RFC 6455), without extensions.

use super::Malformed;

/// A whole frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The last one of its message.
    pub(crate) is_last: bool,
    pub(crate) kind: Kind,
    pub(crate) payload: &'a [u8],
    /// Bytes that it took, its header among them.
    pub(crate) length: usize,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text or binary, or more of either.
    Data,
    Close,
    Ping,
    Pong,
}

/// The key of every upgrade and what it must be answered (RFC 6455, section 1.3): it guards against caches, not against
/// servers, so one for all connections will do.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One for all frames: it guards against proxies that take payload for requests, and there is none on the way.
const MASK: [u8; 4] = [0x9a, 0x1f, 0x53, 0xc6];

/// The frame at the beginning of `bytes`, or `None` if it is not whole yet.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(Malformed::new(
            "a frame with reserved bits, or masked by a server",
            &bytes[..2],
        ));
    }
    let kind = match first & 0x0f {
        0..=2 => Kind::Data,
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        code => return Err(Malformed(format!("a frame with the unknown opcode {code}"))),
    };
    let (header, length): (usize, usize) = match second & 0x7f {
        126 => match rest.first_chunk() {
            Some(length) => (4, usize::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (
                10,
                usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX),
            ),
            None => return Ok(None),
        },
        length => (2, usize::from(length)),
    };
    let payload = bytes.get(header..header.saturating_add(length));
    Ok(payload.map(|payload| Frame {
        is_last: first & 0x80 != 0,
        kind,
        payload,
        length: header + length,
    }))
}

/// Writes a request to become a WebSocket; `headers` are more lines.
pub(crate) fn write_upgrade(out: &mut Vec<u8>, path: &str, host: &str, headers: &str) {
    out.extend_from_slice(
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
        )
        .as_bytes(),
    );
}

/// Whether this is the answer to [`write_upgrade`].
pub(crate) fn accepts(accept: Option<&str>) -> bool {
    accept == Some(ACCEPT)
}

/// Writes a text message.
pub(crate) fn write_text(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, 0x81, payload);
}

/// Writes the answer to a ping.
pub(crate) fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, 0x8a, payload);
}

/// Writes a close with status 1000.
pub(crate) fn write_close(out: &mut Vec<u8>) {
    write_frame(out, 0x88, &1000_u16.to_be_bytes());
}

fn write_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => out.push(0x80 | length),
        (_, Ok(length)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let masked = payload
        .iter()
        .zip(MASK.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    out.extend(masked);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(u8::try_from(length).unwrap()),
            length => {
                bytes.push(126);
                bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        [bytes, payload.to_vec()].concat()
    }

    #[test]
    fn a_frame_is_none_until_it_is_whole() {
        for length in [0, 125, 126, 300] {
            let bytes = sent(0x81, &vec![b'x'; length]);
            for end in 0..bytes.len() {
                assert_eq!(frame(&bytes[..end]), Ok(None), "{length}: {end}");
            }
            let frame = frame(&bytes).unwrap().unwrap();
            assert_eq!((frame.payload.len(), frame.length), (length, bytes.len()));
        }
    }

    #[test]
    fn the_longest_form_of_a_length_is_read() {
        let mut bytes = vec![0x82, 127];
        bytes.extend_from_slice(&70_000_u64.to_be_bytes());
        bytes.resize(bytes.len() + 70_000, 1);
        assert_eq!(frame(&bytes).unwrap().unwrap().payload.len(), 70_000);
    }

    #[test]
    fn kinds_and_last_frames_are_told_apart() {
        for (first, kind, is_last) in [
            (0x01, Kind::Data, false),
            (0x80, Kind::Data, true),
            (0x89, Kind::Ping, true),
            (0x88, Kind::Close, true),
        ] {
            let bytes = sent(first, b"x");
            let frame = frame(&bytes).unwrap().unwrap();
            assert_eq!((frame.kind, frame.is_last), (kind, is_last), "{first:x}");
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        for bytes in [[0xc1, 0x00], [0x81, 0x80], [0x83, 0x00]] {
            assert!(frame(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_written_is_masked_and_says_its_length() {
        for length in [5, 126, 70_000] {
            let payload = vec![7; length];
            let mut bytes = Vec::new();
            write_text(&mut bytes, &payload);
            assert_eq!(bytes[1] & 0x80, 0x80);
            // Without its mask it is what a server would send.
            let at = bytes.len() - length;
            let unmasked: Vec<u8> = (bytes[at..].iter().zip(MASK.iter().cycle()))
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            let mut plain = [&bytes[..at - 4], &unmasked].concat();
            plain[1] &= 0x7f;
            assert_eq!(frame(&plain).unwrap().unwrap().payload, payload);
        }
    }
}
