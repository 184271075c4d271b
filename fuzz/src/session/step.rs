//! What can happen, and how it is read from bytes.

use arbitrary::{Arbitrary, Result, Unstructured};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An event for the client's channels, or near them.
    Publish {
        /// Which of [`super::words::CHANNELS`].
        channel: usize,
        /// How large.
        size: usize,
        /// Which of [`super::words::LAZY`].
        lazy: usize,
    },
    /// The log goes on with as many events as that.
    Dispatch(usize),
    /// On what the client has, or on a new exchange or socket.
    Connect {
        /// A new one is a socket.
        socket: bool,
        /// What the client says that it has.
        claim: Claim,
        /// Which of [`super::words::ADVICE`].
        advice: usize,
        /// Another message follows in the same body.
        batch: bool,
    },
    /// Over the socket if there is one.
    Subscribe(usize),
    /// The same, and older events are wanted.
    Replay {
        /// Which of [`super::words::PATTERNS`].
        pattern: usize,
        /// From where on.
        from: From,
    },
    /// As the first message of a new socket.
    SubscribeOnNewSocket(usize),
    /// Over the socket if there is one.
    Unsubscribe(usize),
    /// Some other message, good or bad.
    Say(Words),
    /// The network brings the client what the server has sent.
    Arrive(usize),
    /// The client loses what it waits on. The server hears of it, if it does, at `Notice`.
    Break,
    /// The server finds that a client has gone.
    Notice {
        /// Of those that have gone.
        which: usize,
        /// It sees that its last reply was not written.
        write_failed: bool,
    },
    /// A read of the log comes back.
    Read {
        /// Of those that are under way.
        which: usize,
    },
    /// Milliseconds.
    Pass(u64),
    /// A pong that nobody asked for, or that comes before what it proves: so much below the end of the log.
    Pong(u64),
    /// The server closes the socket, and the client answers.
    Close,
    /// The server answers what it holds.
    Release,
    /// The process ends in good order, and another one takes over.
    Restart,
    /// The process is killed.
    Crash,
    /// The log loses its oldest events.
    Retain(u64),
    /// The process is killed and the log is lost with it. Another one begins, so much behind what the old one ended with.
    LoseLog(u64),
    /// Goodbye, and a new handshake.
    Leave,
    /// The server is overloaded from now on, and asks clients to wait so many milliseconds; with 0 it is not any more.
    Busy(u64),
    /// Too many connects of the client's browser are held.
    Crowd,
    /// The page closes its socket; perhaps before it has come to what its browser has received.
    Reload {
        /// It has come to nothing that it does not say it has.
        forgets: bool,
    },
    /// A message to a service.
    Call,
    /// A service answers a call, or has nothing to say.
    Answer {
        /// Which of the calls that are under way.
        which: usize,
        /// How long the answer is; 0 is none.
        size: usize,
    },
    /// The server ends the session.
    Expel,
    /// The connection under an exchange breaks, and the client's browser sends its connect again: nobody else knows.
    Repeat,
}

/// What a connect says of what arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The truth.
    Honest,
    /// So much more or less than the truth; a plain client says that it has what it lost.
    Off(i64),
    /// Which of [`super::words::ACKS`].
    Odd(usize),
}

/// From where in the log a subscription wants events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Only new ones.
    Now,
    /// All that there are.
    Start,
    /// Those after an offset: so much after the beginning of the log.
    AfterFirst(u64),
    /// So much before its end.
    BeforeLast(u64),
    /// So much after its end.
    BeyondLast(u64),
}

/// A message that is no connect, field by field: which of the lists in [`super::words`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// The channel.
    pub channel: usize,
    /// The clientId.
    pub client: usize,
    /// The subscription, and up to three of its patterns.
    pub subscription: (usize, [usize; 3]),
    /// The id.
    pub id: usize,
    /// The ext.
    pub ext: usize,
    /// The advice.
    pub advice: usize,
    /// The data.
    pub data: usize,
}

/// How a kind of step is read, and how many of the values of a byte stand for it.
type Kind = (u8, fn(&mut Unstructured<'_>) -> Result<Step>);

/// Every kind but a publish, which has the values that are left. New ones come last: inputs from before them keep their
/// meaning.
const KINDS: [Kind; 28] = [
    (32, |u| Ok(Step::Dispatch(1 + pick(u)? % 6))),
    (32, connect),
    // The plain connect is the one that leads furthest.
    (8, |u| {
        Ok(Step::Connect {
            socket: u.arbitrary()?,
            claim: Claim::Honest,
            advice: 0,
            batch: false,
        })
    }),
    (32, |u| Ok(Step::Arrive(1 + pick(u)? % 6))),
    (20, |u| Ok(Step::Read { which: pick(u)? })),
    (10, |u| pass(u).map(Step::Pass)),
    (8, |_| Ok(Step::Break)),
    (10, |u| {
        Ok(Step::Notice {
            which: pick(u)?,
            write_failed: u.arbitrary()?,
        })
    }),
    (8, |u| Ok(Step::Subscribe(pick(u)?))),
    (5, |u| Ok(Step::SubscribeOnNewSocket(pick(u)?))),
    (7, |u| Ok(Step::Unsubscribe(pick(u)?))),
    (8, |u| {
        Ok(Step::Replay {
            pattern: pick(u)?,
            from: from(u)?,
        })
    }),
    (10, |u| words(u).map(Step::Say)),
    (5, |u| Ok(Step::Pong(pick(u)? as u64))),
    (3, |_| Ok(Step::Close)),
    (3, |_| Ok(Step::Release)),
    (3, |_| Ok(Step::Restart)),
    (3, |_| Ok(Step::Crash)),
    (5, |u| Ok(Step::Retain(1 + pick(u)? as u64 % 6))),
    (3, |u| Ok(Step::LoseLog(pick(u)? as u64))),
    (3, |_| Ok(Step::Leave)),
    (3, |u| Ok(Step::Busy([0, 1000][pick(u)? % 2]))),
    (2, |_| Ok(Step::Crowd)),
    (4, |u| {
        Ok(Step::Reload {
            forgets: u.arbitrary()?,
        })
    }),
    (5, |_| Ok(Step::Call)),
    (4, |u| {
        Ok(Step::Answer {
            which: pick(u)?,
            size: pick(u)?,
        })
    }),
    (2, |_| Ok(Step::Expel)),
    (3, |_| Ok(Step::Repeat)),
];

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        // What is shrunk becomes a publish.
        let mut place = u8::MAX - u.arbitrary::<u8>()?;
        for (values, read) in KINDS {
            match place.checked_sub(values) {
                None => return read(u),
                Some(left) => place = left,
            }
        }
        publish(u)
    }
}

fn publish(u: &mut Unstructured<'_>) -> Result<Step> {
    Ok(Step::Publish {
        channel: pick(u)?,
        size: pick(u)?,
        lazy: pick(u)?,
    })
}

/// An index, of which the receiver takes what it needs.
fn pick(u: &mut Unstructured<'_>) -> Result<usize> {
    u.arbitrary::<u8>().map(usize::from)
}

fn connect(u: &mut Unstructured<'_>) -> Result<Step> {
    // Eight in ten are what a stock client says.
    let oddness = u.arbitrary::<u8>()?;
    Ok(Step::Connect {
        socket: u.arbitrary()?,
        claim: match oddness % 20 {
            0 => Claim::Off(u.arbitrary::<i8>()?.into()),
            1 => Claim::Odd(pick(u)?),
            _ => Claim::Honest,
        },
        advice: if oddness / 20 % 4 == 0 { pick(u)? } else { 0 },
        batch: oddness >= 240,
    })
}

fn from(u: &mut Unstructured<'_>) -> Result<From> {
    let [kind, distance] = u.arbitrary::<[u8; 2]>()?;
    Ok(match kind % 8 {
        0 => From::Now,
        1 | 2 => From::Start,
        3 => From::AfterFirst(distance.into()),
        4 => From::BeyondLast(1 + u64::from(distance)),
        _ => From::BeforeLast(u64::from(distance % 16)),
    })
}

/// Anything from a moment to longer than all that a session waits for.
fn pass(u: &mut Unstructured<'_>) -> Result<u64> {
    let [scale, steps] = u.arbitrary::<[u8; 2]>()?;
    Ok([1, 10, 100, 1000][usize::from(scale % 4)] * u64::from(steps))
}

fn words(u: &mut Unstructured<'_>) -> Result<Words> {
    Ok(Words {
        channel: pick(u)?,
        client: pick(u)?,
        subscription: (pick(u)?, [pick(u)?, pick(u)?, pick(u)?]),
        id: pick(u)?,
        ext: pick(u)?,
        advice: pick(u)?,
        data: pick(u)?,
    })
}
