//! What is published: bodies of given sizes, each with a mark that says which event it is and when it was due.
//!
//! The mark is a text of fixed length, found without parsing whatever a server makes of the JSON around it.

use memchr::memmem;
use serde_json::Value;

/// Which event it is: `halley-bench:RRRRRRRR.BBBB.SSSSSSSS.NNNNNNNNNN.TTTTTTTTTTTT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Which run published it.
    pub(crate) run: u32,
    /// Which of the [`Bodies`] it has.
    pub(crate) body: u16,
    /// Whose it is: a user, or [`EVERYONE`].
    pub(crate) stream: u32,
    /// Its place in that stream, from 0.
    pub(crate) number: u64,
    /// When it was due, in microseconds of the run.
    pub(crate) due: u64,
}

/// The stream of events for everyone.
pub(crate) const EVERYONE: u32 = 99_999_999;

/// One more than the largest run.
pub(crate) const RUNS: u32 = 100_000_000;

const PREFIX: &[u8] = b"halley-bench:";
const LENGTH: usize = PREFIX.len() + 8 + 1 + 4 + 1 + 8 + 1 + 10 + 1 + 12;

impl Mark {
    /// The event in words: how findings name it.
    pub(crate) fn event(&self) -> String {
        event(self.stream, self.number)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFIX);
        write_digits(out, 8, self.run.into());
        out.push(b'.');
        write_digits(out, 4, self.body.into());
        out.push(b'.');
        write_digits(out, 8, self.stream.into());
        out.push(b'.');
        write_digits(out, 10, self.number);
        out.push(b'.');
        write_digits(out, 12, self.due);
    }

    /// `digits` is what follows the prefix.
    fn read(digits: &[u8]) -> Option<Self> {
        let (run, rest) = read_digits(digits, 8)?;
        let (body, rest) = read_digits(dot(rest)?, 4)?;
        let (stream, rest) = read_digits(dot(rest)?, 8)?;
        let (number, rest) = read_digits(dot(rest)?, 10)?;
        let (due, _) = read_digits(dot(rest)?, 12)?;
        Some(Self {
            run: u32::try_from(run).ok()?,
            body: u16::try_from(body).ok()?,
            stream: u32::try_from(stream).ok()?,
            number,
            due,
        })
    }
}

/// An event in words: `17#4` is the fifth of user 17, `everyone#0` the first for everyone.
pub(crate) fn event(stream: u32, number: u64) -> String {
    if stream == EVERYONE {
        format!("everyone#{number}")
    } else {
        format!("{stream}#{number}")
    }
}

fn write_digits(out: &mut Vec<u8>, count: usize, mut value: u64) {
    let from = out.len();
    out.resize(from + count, b'0');
    for digit in out[from..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn read_digits(bytes: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(count)?;
    let mut value = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some((value, rest))
}

fn dot(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(b".")
}

/// Finds marks.
pub(crate) struct Finder(memmem::Finder<'static>);

impl Finder {
    pub(crate) fn new() -> Self {
        Self(memmem::Finder::new(PREFIX))
    }

    /// The marks of a message, in their order; `None` is a mark that cannot be read.
    pub(crate) fn marks<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Option<Mark>> + 'a {
        let mut at = 0;
        std::iter::from_fn(move || {
            let found = self.0.find(&bytes[at..])?;
            let digits = at + found + PREFIX.len();
            at = digits;
            Some(Mark::read(&bytes[digits..]))
        })
    }
}

/// One kind of body, ready but for its mark.
#[derive(Debug, Clone)]
struct Body {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// All of it but the mark.
    value: Value,
    /// Which of the user's channels it is published to.
    channel: u8,
}

/// Everything that is published, by its size.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bodies(Vec<Body>);

impl Bodies {
    /// The smallest size.
    pub(crate) const SMALLEST: usize = LENGTH + 24;

    /// A body of so many bytes, for one of the channels that events are published to.
    pub(crate) fn add(&mut self, size: usize, channel: u8) -> u16 {
        let number = u16::try_from(self.0.len()).expect("there are few sizes");
        self.0.push(Body::new(size, channel));
        number
    }

    /// Which channel a body is published to.
    pub(crate) fn channel(&self, body: u16) -> u8 {
        self.0[usize::from(body)].channel
    }

    /// Writes the body that the mark names, with the mark.
    pub(crate) fn write(&self, out: &mut Vec<u8>, mark: &Mark) {
        let body = &self.0[usize::from(mark.body)];
        out.extend_from_slice(&body.head);
        mark.write(out);
        out.extend_from_slice(&body.tail);
    }

    /// Bytes of a body.
    pub(crate) fn size(&self, body: u16) -> usize {
        let body = &self.0[usize::from(body)];
        body.head.len() + LENGTH + body.tail.len()
    }

    /// Whether the event of this mark is in `message` as it was published, on the right channel.
    pub(crate) fn is_intact(&self, message: &[u8], mark: &Mark, on: impl Fn(u8) -> String) -> bool {
        let Some(body) = self.0.get(usize::from(mark.body)) else {
            return false;
        };
        let mut expected = Vec::with_capacity(LENGTH);
        mark.write(&mut expected);
        let expected = String::from_utf8_lossy(&expected);
        let Ok(parsed) = serde_json::from_slice::<Value>(message) else {
            return false;
        };
        let alone = std::slice::from_ref(&parsed);
        let messages = parsed.as_array().map_or(alone, Vec::as_slice);
        let Some(event) = (messages.iter()).find(|event| event["data"]["bench"] == *expected) else {
            return false;
        };
        let mut data = event["data"].clone();
        data.as_object_mut().map(|data| data.remove("bench"));
        event["channel"] == on(body.channel) && data == body.value
    }
}

impl Body {
    fn new(size: usize, channel: u8) -> Self {
        // Like a notification of a voice API where there is room for one.
        const LIKE_A_CALL: &str = r#","messageType":"CallStateChangeMessage","notificationType":"StatusChange","call":{"id":"01RCC3N118B1V0SL8O7GK2LAES00000O","state":"Established","deviceUri":"http://localhost:8080/api/v2/devices/2a3fbd03","participants":[{"e164Number":"","formattedPhoneNumber":"15001","phoneNumber":"15001","digits":"15001"}],"dnis":"15001","callType":"Internal","capabilities":["UpdateUserData","SendDtmf","InitiateConference","Hold","SingleStepTransfer","InitiateTransfer","AttachUserData","DeleteUserDataPair","SingleStepConference","DeleteUserData","Hangup"],"duration":"43","mute":"Off","supervisorListeningIn":false,"monitoredUserMuted":false},"phoneNumber":"15000""#;
        const PAD: &str = r#","pad":""#;
        const END: &str = r#""}"#;
        let head = br#"{"bench":""#.to_vec();
        let fixed = head.len() + LENGTH + 1 + PAD.len() + END.len();
        let like_a_call = if size >= fixed + LIKE_A_CALL.len() {
            LIKE_A_CALL
        } else {
            ""
        };
        let pad = "0123456789abcdef"
            .chars()
            .cycle()
            .take(size.saturating_sub(fixed + like_a_call.len()))
            .collect::<String>();
        let tail = format!("\"{like_a_call}{PAD}{pad}{END}").into_bytes();
        let whole = [&head[..], &tail].concat();
        let mut value: Value = serde_json::from_slice(&whole).expect("it is JSON");
        value.as_object_mut().map(|value| value.remove("bench"));
        Self {
            head,
            tail,
            value,
            channel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark {
        run: 12_345_678,
        body: 0,
        stream: 17,
        number: 9_876_543_210,
        due: 123_456_789,
    };

    fn bodies(size: usize) -> Bodies {
        let mut bodies = Bodies::default();
        bodies.add(size, 1);
        bodies
    }

    fn message(bodies: &Bodies) -> Vec<u8> {
        let mut out = br#"[{"channel":"/a/1","data":"#.to_vec();
        bodies.write(&mut out, &MARK);
        out.extend_from_slice(b"}]");
        out
    }

    #[test]
    fn a_body_has_its_size_and_is_json() {
        for size in [Bodies::SMALLEST, 200, 990, 1_700, 8_192] {
            let bodies = bodies(size);
            let mut out = Vec::new();
            bodies.write(&mut out, &MARK);
            assert_eq!((out.len(), bodies.size(0)), (size, size));
            serde_json::from_slice::<Value>(&out).unwrap();
        }
    }

    #[test]
    fn marks_are_found_and_read() {
        let two = [message(&bodies(200)), message(&bodies(990))].concat();
        let marks: Vec<_> = Finder::new().marks(&two).collect();
        assert_eq!(marks, [Some(MARK), Some(MARK)]);
    }

    #[test]
    fn a_mark_that_is_damaged_or_cut_off_is_no_mark() {
        let text = String::from_utf8(message(&bodies(200))).unwrap();
        let damaged = text.replace("00000017", "000000x7");
        let marks: Vec<_> = Finder::new().marks(damaged.as_bytes()).collect();
        assert_eq!(marks, [None]);
        let end = text.find("00000017").unwrap();
        assert_eq!(
            Finder::new().marks(&text.as_bytes()[..end]).collect::<Vec<_>>(),
            [None]
        );
    }

    #[test]
    fn a_body_is_intact_whatever_the_order_of_its_members() {
        let bodies = bodies(990);
        let value: Value = serde_json::from_slice(&message(&bodies)).unwrap();
        // serde_json sorts members, unlike what was written.
        let sorted = value.to_string().into_bytes();
        assert_ne!(sorted, message(&bodies));
        assert!(bodies.is_intact(&sorted, &MARK, |channel| format!("/a/{channel}")));
    }

    #[test]
    fn a_changed_body_or_another_channel_is_noticed() {
        let bodies = bodies(990);
        let text = String::from_utf8(message(&bodies)).unwrap();
        let changed = text.replace("Established", "Held");
        assert!(!bodies.is_intact(changed.as_bytes(), &MARK, |_| "/a/1".into()));
        assert!(!bodies.is_intact(text.as_bytes(), &MARK, |_| "/b".into()));
    }
}
