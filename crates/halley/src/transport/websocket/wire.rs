//! The writing half of a socket: whole frames in their order, from the socket's task or from whoever has something for it.
//!
//! Whoever sends writes at once and never waits. What the kernel does not take is kept here, in front of everything else, and
//! the socket's task sees to it that it leaves; until it has, nothing more is taken from the session. So what is kept is
//! bounded by what one sending may bring.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bayeux::{Offset, Output};
use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::frames::{Frame, Frames, Outgoing};
use crate::sessions::Wire;

/// One socket's way out.
pub(super) struct SocketWire {
    half: OwnedWriteHalf,
    kept: Mutex<Kept>,
    /// The socket's task, when there is something for it to do.
    task: AtomicWaker,
    messages_per_frame: usize,
    deliveries: Counter,
}

#[derive(Default)]
struct Kept {
    /// What the kernel has not taken.
    bytes: Vec<u8>,
    /// What the last ping carried: the eight bytes of an offset, or nothing. A keep-alive ping carries it again, since a peer may
    /// answer only the newest of several pings.
    asked: Bytes,
    read_after: Option<Offset>,
    superseded: bool,
    /// What the session was known by was revoked.
    refused: bool,
    /// What came in is being handled: whoever speaks hears the replies before anything else.
    handling: bool,
    /// Nothing more is taken from the session: a close frame is the last one.
    closing: bool,
    failed: bool,
}

/// What the socket's task has to do.
#[derive(Debug)]
pub(super) enum Errand {
    /// Wait until the kernel takes what is kept.
    Flush,
    /// Read the log after this offset.
    ReadLog(Offset),
    /// A newer carrier has taken over.
    Superseded,
    /// What the session was known by was revoked.
    Refused,
    /// The socket is broken.
    Failed,
}

/// Both halves as what tungstenite reads from and writes to.
pub(super) struct Io {
    half: OwnedReadHalf,
    wire: Arc<SocketWire>,
}

thread_local! {
    /// Room for the frames of one sending.
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// Frames in one system call.
const FRAMES_AT_ONCE: usize = 32;

impl SocketWire {
    pub(super) fn split(
        stream: TcpStream,
        messages_per_frame: usize,
        deliveries: Counter,
    ) -> (Io, Arc<Self>) {
        let (read, write) = stream.into_split();
        let wire = Arc::new(Self {
            half: write,
            kept: Mutex::default(),
            task: AtomicWaker::new(),
            messages_per_frame,
            deliveries,
        });
        let io = Io {
            half: read,
            wire: Arc::clone(&wire),
        };
        (io, wire)
    }

    /// What the last ping carried.
    pub(super) fn asked(&self) -> Bytes {
        self.kept.lock().asked.clone()
    }

    /// What came in is being handled, or has been: then the session is to be asked what it has.
    pub(super) fn is_handling(&self, handling: bool) {
        self.kept.lock().handling = handling;
    }

    /// Takes nothing more from the session.
    pub(super) fn close(&self) {
        self.kept.lock().closing = true;
    }

    /// The next thing to do, as soon as there is one.
    pub(super) fn poll_errand(&self, context: &mut Context<'_>) -> Poll<Errand> {
        self.task.register(context.waker());
        let mut kept = self.kept.lock();
        if kept.failed {
            Poll::Ready(Errand::Failed)
        } else if !kept.bytes.is_empty() {
            Poll::Ready(Errand::Flush)
        } else if std::mem::take(&mut kept.refused) {
            Poll::Ready(Errand::Refused)
        } else if std::mem::take(&mut kept.superseded) {
            Poll::Ready(Errand::Superseded)
        } else if let Some(after) = kept.read_after.take() {
            Poll::Ready(Errand::ReadLog(after))
        } else {
            Poll::Pending
        }
    }

    /// Waits until everything that is kept has left.
    pub(super) async fn flush(&self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_flush(context)).await
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.kept.lock().try_flush(&self.half)? {
                return Poll::Ready(Ok(()));
            }
            ready!(self.half.as_ref().poll_write_ready(context))?;
        }
    }
}

impl Wire for SocketWire {
    fn is_free(&self) -> bool {
        let kept = self.kept.lock();
        kept.bytes.is_empty() && !kept.handling && !kept.closing && !kept.failed
    }

    fn send(&self, outputs: &mut Vec<Output>, as_a_whole: bool) {
        let mut kept = self.kept.lock();
        FRAMES.with_borrow_mut(|done| {
            let events = self.frame(&mut kept, outputs, as_a_whole, done);
            kept.write(&self.half, done);
            done.clear();
            self.deliveries.inc_by(events);
        });
        let has_errand = kept.failed
            || kept.superseded
            || kept.refused
            || kept.read_after.is_some()
            || !kept.bytes.is_empty();
        drop(kept);
        if has_errand {
            self.task.wake();
        }
    }
}

impl SocketWire {
    /// Makes frames of what can be sent, notes the rest, and says how many events there are.
    fn frame(
        &self,
        kept: &mut Kept,
        outputs: &mut Vec<Output>,
        as_a_whole: bool,
        done: &mut Vec<Frame>,
    ) -> u64 {
        // In one frame, or a socket that breaks between frames leaves its client with events that it cannot acknowledge.
        // What follows a handshake's reply, which announced it, is no answer to a connect.
        let in_one_frame = as_a_whole
            && outputs
                .iter()
                .any(|output| matches!(output, Output::Reply(reply) if !reply.opens_session()));
        let mut frames = if in_one_frame {
            Frames::whole(done)
        } else {
            Frames::of(self.messages_per_frame, done)
        };
        let mut events = 0;
        for output in outputs.drain(..) {
            match output {
                Output::Event(event) => {
                    events += 1;
                    frames.message(Outgoing::Event(event));
                }
                Output::Direct(message) => frames.message(Outgoing::Direct(message)),
                Output::Reply(reply) => {
                    if !in_one_frame {
                        frames.end_frame();
                    }
                    frames.reply(&reply);
                }
                Output::Ping(offset) => {
                    kept.asked = Bytes::copy_from_slice(&offset.0.to_be_bytes());
                    frames.ping(kept.asked.clone());
                }
                Output::ReadLog(after) => kept.read_after = Some(after),
                Output::Superseded => kept.superseded = true,
                Output::Refused => kept.refused = true,
            }
        }
        frames.end_frame();
        events
    }
}

impl Kept {
    fn write(&mut self, half: &OwnedWriteHalf, frames: &[Frame]) {
        for frames in frames.chunks(FRAMES_AT_ONCE) {
            let mut slices = [IoSlice::new(&[]); 2 * FRAMES_AT_ONCE];
            for (place, frame) in frames.iter().enumerate() {
                slices[2 * place] = IoSlice::new(frame.head());
                slices[2 * place + 1] = IoSlice::new(frame.payload());
            }
            self.write_slices(half, &slices[..2 * frames.len()]);
        }
    }

    /// Writes what the kernel takes and keeps the rest.
    fn write_slices(&mut self, half: &OwnedWriteHalf, slices: &[IoSlice<'_>]) {
        if self.failed {
            return;
        }
        let mut written = 0;
        if self.bytes.is_empty() {
            match half.try_write_vectored(slices) {
                Ok(length) => written = length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.failed = true,
            }
        }
        for slice in slices {
            let taken = written.min(slice.len());
            written -= taken;
            self.bytes.extend_from_slice(&slice[taken..]);
        }
    }

    /// Whether nothing is kept any more.
    fn try_flush(&mut self, half: &OwnedWriteHalf) -> io::Result<bool> {
        while !self.bytes.is_empty() {
            match half.try_write(&self.bytes) {
                Ok(length) => drop(self.bytes.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
            }
        }
        // A socket that was blocked once need not keep the room for it.
        self.bytes = Vec::new();
        Ok(true)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_read(context, buffer)
    }
}

/// What tungstenite writes are whole frames, since everything is taken.
impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut kept = self.wire.kept.lock();
        kept.write_slices(&self.wire.half, &[IoSlice::new(bytes)]);
        if kept.failed {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_flush(context)
    }
}
