//! Cases, the broker that they are thrown at, and what must be true of it afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use halley_tests::{Broker, Settings, say};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// One thing that is thrown at the broker, and what must come of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) thrown: Thrown,
    pub(crate) expected: Expected,
}

/// What is thrown, each on a connection of its own.
pub(crate) enum Thrown {
    /// Bytes at the listener for clients.
    Public(Vec<u8>),
    /// Bytes at the listener for publishers.
    Internal(Vec<u8>),
    /// Messages of a client that has a session, for which `$id` stands.
    Messages(String),
    /// Bytes behind the upgrade to a WebSocket, in so many pieces.
    Frames(Vec<Vec<u8>>),
}

/// What must come of it.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// Exactly one response, with one of these statuses.
    Status(&'static [u16]),
    /// The same, or the connection ends without a word.
    StatusOrEnd(&'static [u16]),
    /// A response with a JSON body: nothing of a server's own failure.
    Answer,
    /// The first reply has this in it.
    Reply(&'static str),
    /// The socket is closed with this code; before that frames may come.
    Close(u16),
    /// Frames with these payloads come, and the socket is closed with this code in answer to our close.
    Frames(Vec<Vec<u8>>, u16),
    /// The connection ends.
    End,
    /// HTTP/2: the connection ends, perhaps with one of these errors; nothing is answered with a server's failure.
    Goaway(&'static [u32]),
    /// HTTP/2: a stream is ended with one of these errors, or the connection as above.
    Reset(&'static [u32]),
    /// HTTP/2: the connection goes on.
    Stays,
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Until a connection has nothing more to say.
const QUIET: Duration = Duration::from_millis(60);

pub(crate) fn public(name: impl Into<String>, bytes: impl AsRef<[u8]>, expected: Expected) -> Case {
    Case {
        name: name.into(),
        thrown: Thrown::Public(bytes.as_ref().to_vec()),
        expected,
    }
}

/// A POST of messages by somebody without a session.
pub(crate) fn post(name: impl Into<String>, body: impl AsRef<[u8]>, expected: Expected) -> Case {
    public(name, request("/cometd", body.as_ref()), expected)
}

/// A publish.
pub(crate) fn publish(name: impl Into<String>, body: impl AsRef<[u8]>, expected: Expected) -> Case {
    Case {
        name: name.into(),
        thrown: Thrown::Internal(request("/api/v1/events", body.as_ref())),
        expected,
    }
}

/// Messages of somebody with a session.
pub(crate) fn messages(name: impl Into<String>, body: impl Into<String>, expected: Expected) -> Case {
    Case {
        name: name.into(),
        thrown: Thrown::Messages(body.into()),
        expected,
    }
}

pub(crate) fn frames(name: impl Into<String>, bytes: Vec<u8>, expected: Expected) -> Case {
    pieces(name, vec![bytes], expected)
}

pub(crate) fn pieces(name: impl Into<String>, pieces: Vec<Vec<u8>>, expected: Expected) -> Case {
    Case {
        name: name.into(),
        thrown: Thrown::Frames(pieces),
        expected,
    }
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret-15000\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

const UPGRADE: &str = "GET /cometd HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret-15000\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Throws every case, twice, and then looks what has become of the broker: it is there, nothing of it panicked, no answer said
/// where in the source it was made, and it holds no more memory than after the first time.
pub(crate) async fn throw(cases: Vec<Case>) {
    throw_at(Settings::default(), cases).await;
}

pub(crate) async fn throw_at(settings: Settings, cases: Vec<Case>) {
    let settings = Settings {
        in_memory: true,
        // That it slows down who has no session again and again has tests of its own.
        extra: format!(
            "[unknown_sessions]\nfree_repeats = {max}\nrefuse_after = {max}\n{}",
            settings.extra,
            max = u32::MAX
        ),
        ..settings
    };
    let mut broker = Broker::start(settings).await;
    let files = broker.descriptors();
    let mut wrong = pass(&mut broker, &cases).await;
    let before = rest(&broker, files).await;
    wrong.extend(pass(&mut broker, &cases).await);
    let after = rest(&broker, files).await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(broker.is_running(), "the broker is gone");
    let log = broker.log();
    for word in ["panicked", "backtrace", "RUST_BACKTRACE"] {
        assert!(!log.contains(word), "{word} in its log");
    }
    say(format_args!(
        "{} cases: {before} KiB became {after} KiB",
        cases.len()
    ));
    assert!(after <= before + before / 10, "{before} KiB became {after} KiB");
}

/// KiB of the broker once it has no more files than these: all connections are gone, and who served them.
async fn rest(broker: &Broker, files: usize) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    while broker.descriptors() > files {
        assert!(Instant::now() < deadline, "connections stay");
        sleep(Duration::from_millis(5)).await;
    }
    broker.rss_kib()
}

async fn pass(broker: &mut Broker, cases: &[Case]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let outcome = timeout(2 * PATIENCE, run(broker, case)).await;
        let outcome = outcome.unwrap_or_else(|_| Err("no end of it".to_owned()));
        if let Err(reason) = outcome {
            wrong.push(format!("{}: {:?}, but {reason}", case.name, case.expected));
        }
        if !broker.is_running() {
            wrong.push(format!("{}: the broker is gone", case.name));
            break;
        }
    }
    wrong
}

async fn run(broker: &Broker, case: &Case) -> Result<(), String> {
    match &case.thrown {
        Thrown::Public(bytes) => expect_http(broker.public, bytes, &case.expected).await,
        Thrown::Internal(bytes) => expect_http(broker.internal, bytes, &case.expected).await,
        Thrown::Messages(messages) => {
            let id = open_session(broker.public).await?;
            let body = messages.replace("$id", &id);
            expect_http(
                broker.public,
                &request("/cometd", body.as_bytes()),
                &case.expected,
            )
            .await
        }
        Thrown::Frames(pieces) => expect_frames(broker.public, pieces, &case.expected).await,
    }
}

async fn open_session(address: SocketAddr) -> Result<String, String> {
    let handshake = request(
        "/cometd",
        br#"[{"channel":"/meta/handshake","ext":{"ack":true}}]"#,
    );
    let answer = exchange(address, &handshake, true).await;
    let (_, id) = answer
        .split_once("\"clientId\":\"")
        .ok_or_else(|| format!("no session: {answer}"))?;
    Ok(id.split('"').next().unwrap_or_default().to_owned())
}

async fn expect_http(address: SocketAddr, bytes: &[u8], expected: &Expected) -> Result<(), String> {
    if matches!(
        expected,
        Expected::Goaway(_) | Expected::Reset(_) | Expected::Stays
    ) {
        return expect_http2(address, bytes, expected).await;
    }
    let is_one_answer = matches!(expected, Expected::Answer | Expected::Reply(_));
    let said = exchange(address, bytes, is_one_answer).await;
    let statuses = statuses(&said);
    if let Some(status) = statuses.iter().find(|status| **status >= 500) {
        return Err(format!("{status}: {said}"));
    }
    for trace in ["panicked", ".rs:", "stack backtrace", "/src/"] {
        if said.contains(trace) {
            return Err(format!("{trace} is in {said}"));
        }
    }
    let is_right = match expected {
        Expected::Status(allowed) => matches!(statuses[..], [status] if allowed.contains(&status)),
        Expected::StatusOrEnd(allowed) => match statuses[..] {
            [] => true,
            [status] => allowed.contains(&status),
            _ => false,
        },
        Expected::Answer => matches!(statuses[..], [200 | 400 | 413]) && said.contains("\r\n\r\n[{"),
        Expected::Reply(text) => said.contains(text),
        Expected::End => true,
        Expected::Close(_)
        | Expected::Frames(..)
        | Expected::Goaway(_)
        | Expected::Reset(_)
        | Expected::Stays => false,
    };
    is_right
        .then_some(())
        .ok_or_else(|| format!("{statuses:?}: {said}"))
}

/// Everything that comes until the connection ends, or nothing more does; with `is_one_answer` until the first response is whole.
async fn exchange(address: SocketAddr, bytes: &[u8], is_one_answer: bool) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the broker listens");
    // Whoever refuses need not read all of it.
    let _ = timeout(PATIENCE, stream.write_all(bytes)).await;
    let mut said = Vec::new();
    let mut wait = PATIENCE;
    loop {
        match timeout(wait, stream.read_buf(&mut said)).await {
            Ok(Ok(0) | Err(_)) | Err(_) => break,
            Ok(Ok(_)) if is_one_answer && is_whole(&said) => break,
            Ok(Ok(_)) => wait = QUIET,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn is_whole(said: &[u8]) -> bool {
    let text = String::from_utf8_lossy(said);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}

fn statuses(said: &str) -> Vec<u16> {
    let heads = said.split("HTTP/1.").skip(1);
    let status = |head: &str| head.split(' ').nth(1).and_then(|status| status.parse().ok());
    heads.filter_map(status).filter(|status| *status != 100).collect()
}

/// A ping of HTTP/2, and its answer.
const H2_PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0question";
const H2_PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0question";

/// Sends frames of HTTP/2 and then a ping: whoever answers it goes on.
async fn expect_http2(address: SocketAddr, bytes: &[u8], expected: &Expected) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.expect("the broker listens");
    let (mut reading, mut writing) = stream.split();
    let mut said = Vec::new();
    let write = async {
        let _ = timeout(PATIENCE, writing.write_all(bytes)).await;
        let _ = writing.write_all(H2_PING).await;
    };
    let read = async {
        loop {
            match timeout(PATIENCE, reading.read_buf(&mut said)).await {
                Ok(Ok(0) | Err(_)) => break true,
                Ok(Ok(_)) if said.windows(H2_PONG.len()).any(|window| window == H2_PONG) => break false,
                Ok(Ok(_)) => {}
                Err(_) => break false,
            }
        }
    };
    let ((), has_ended) = tokio::join!(write, read);
    let errors = h2_errors(&said);
    let of_kind = |kind: u8| {
        errors
            .iter()
            .filter(move |(found, _)| *found == kind)
            .map(|(_, error)| *error)
    };
    let (goaway, resets) = (of_kind(7).next_back(), of_kind(3).collect::<Vec<u32>>());
    let ends_with = |allowed: &[u32]| has_ended && goaway.is_none_or(|error| allowed.contains(&error));
    let is_right = match expected {
        // Whoever is cut off while it still sends may not see why.
        Expected::Goaway(allowed) => ends_with(allowed),
        Expected::Reset(allowed) => resets.iter().any(|error| allowed.contains(error)) || ends_with(allowed),
        // Whoever says goodbye in order is answered in kind.
        Expected::Stays => !has_ended && goaway.is_none_or(|error| error == 0),
        Expected::Status(_)
        | Expected::StatusOrEnd(_)
        | Expected::Answer
        | Expected::Reply(_)
        | Expected::Close(_)
        | Expected::Frames(..)
        | Expected::End => false,
    };
    is_right
        .then_some(())
        .ok_or_else(|| format!("ended: {has_ended}, GOAWAY {goaway:?}, resets {resets:?}"))
}

/// The errors of RST_STREAM (3) and GOAWAY (7).
fn h2_errors(mut bytes: &[u8]) -> Vec<(u8, u32)> {
    let mut errors = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some(payload) = rest.get(..length) else { break };
        let at = match kind {
            3 => payload.first_chunk(),
            7 => payload.get(4..).and_then(|rest| rest.first_chunk()),
            _ => None,
        };
        errors.extend(at.map(|error: &[u8; 4]| (*kind, u32::from_be_bytes(*error))));
        bytes = &rest[length..];
    }
    errors
}

/// A frame of a server.
struct Frame {
    opcode: u8,
    payload: Vec<u8>,
}

async fn expect_frames(address: SocketAddr, pieces: &[Vec<u8>], expected: &Expected) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.expect("the broker listens");
    stream
        .write_all(UPGRADE.as_bytes())
        .await
        .expect("an upgrade leaves");
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_buf(&mut said)).await;
        if !matches!(read, Ok(Ok(1..))) {
            return Err(format!("no upgrade: {}", String::from_utf8_lossy(&said)));
        }
    }
    said.clear();
    stream.set_nodelay(true).expect("an option");
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 && pieces.len() < 40 {
            sleep(Duration::from_millis(2)).await;
        }
        if stream.write_all(piece).await.is_err() {
            break;
        }
    }
    loop {
        match timeout(PATIENCE, stream.read_buf(&mut said)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => {
                if let [.., last] = &read_frames(&said)[..]
                    && last.opcode == 8
                {
                    break;
                }
            }
            Err(_) => {
                return Err(format!(
                    "it stays open, and said {:?}",
                    shown(&read_frames(&said))
                ));
            }
        }
    }
    let frames = read_frames(&said);
    let close = frames.iter().find(|frame| frame.opcode == 8);
    let code = close.and_then(|close| Some(u16::from_be_bytes(*close.payload.first_chunk()?)));
    let is_right = match expected {
        Expected::Close(expected) => code == Some(*expected),
        Expected::Frames(payloads, expected) => {
            let others = frames.iter().filter(|frame| frame.opcode != 8);
            let came: Vec<&Vec<u8>> = others.map(|frame| &frame.payload).collect();
            let is_alike = |(came, expected): (&&Vec<u8>, &Vec<u8>)| match expected.strip_suffix(b"*") {
                Some(part) => came.windows(part.len().max(1)).any(|window| window == part),
                None => *came == expected,
            };
            // Zero is a close without a code.
            code.unwrap_or(0) == *expected
                && close.is_some()
                && came.len() == payloads.len()
                && came.iter().zip(payloads).all(is_alike)
        }
        Expected::End => true,
        Expected::Status(_)
        | Expected::StatusOrEnd(_)
        | Expected::Answer
        | Expected::Reply(_)
        | Expected::Goaway(_)
        | Expected::Reset(_)
        | Expected::Stays => false,
    };
    is_right
        .then_some(())
        .ok_or_else(|| format!("{code:?} after {:?}", shown(&frames)))
}

fn shown(frames: &[Frame]) -> Vec<String> {
    let shown = |frame: &Frame| {
        let text: String = String::from_utf8_lossy(&frame.payload)
            .chars()
            .take(120)
            .collect();
        format!("{}: {text}", frame.opcode)
    };
    frames.iter().map(shown).collect()
}

fn read_frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match second & 0x7f {
            126 if rest.len() >= 2 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            length @ ..126 => (usize::from(length), rest),
            // Nothing that is answered here is longer.
            _ => break,
        };
        if rest.len() < length {
            break;
        }
        frames.push(Frame {
            opcode: first & 15,
            payload: rest[..length].to_vec(),
        });
        bytes = &rest[length..];
    }
    frames
}
