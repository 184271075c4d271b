//! The writing half of a socket: whole frames in their order, from the socket's task or from whoever has something for it.
//!
//! Whoever sends never waits. Frames are put in line first and written together. What the kernel does not take is kept here, in
//! front of everything else, and the socket's task sees to it that it leaves; until it has, nothing more is taken from the
//! session. So what is kept is bounded by what one sending may bring.

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
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frame, Frames, Outgoing};
use super::road::Road;
use crate::sessions::Wire;

/// One socket's way out.
pub(super) struct SocketWire<R> {
    road: R,
    kept: Mutex<Kept>,
    /// The socket's task, when there is something for it to do.
    task: AtomicWaker,
    messages_per_frame: usize,
    deliveries: Counter,
}

#[derive(Default)]
struct Kept {
    /// What is about to be written, behind `bytes`.
    line: Line,
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
    /// A ping interval is over.
    reminded: bool,
    /// The process is going to end.
    shutting_down: bool,
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
    /// A ping interval is over.
    KeepAlive,
    /// The process is going to end.
    Shutdown,
    /// What the session was known by was revoked.
    Refused,
    /// The socket is broken.
    Failed,
}

/// Both directions as what tungstenite reads from and writes to.
pub(super) struct Io<R: Road> {
    reading: R::Reading,
    wire: Arc<SocketWire<R>>,
}

/// Frames in line: mostly one.
pub(super) type Line = SmallVec<[Frame; 1]>;

thread_local! {
    /// Frames side by side, for one write.
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Frames of up to so many bytes are copied next to each other: that costs less than the kernel's look at two pieces for each.
const COPIED: usize = 32 << 10;

/// Frames in one system call, when they are written from where they are.
const FRAMES_AT_ONCE: usize = 32;

impl<R: Road> SocketWire<R> {
    pub(super) fn new(
        (reading, road): (R::Reading, R),
        messages_per_frame: usize,
        deliveries: Counter,
    ) -> (Io<R>, Arc<Self>) {
        let wire = Arc::new(Self {
            road,
            kept: Mutex::default(),
            task: AtomicWaker::new(),
            messages_per_frame,
            deliveries,
        });
        let io = Io {
            reading,
            wire: Arc::clone(&wire),
        };
        (io, wire)
    }

    /// Asks again what the last ping asked.
    pub(super) fn ask_again(&self) {
        let mut kept = self.kept.lock();
        let again = Frame::ping(kept.asked.clone());
        kept.line.push(again);
    }

    /// Puts a message in line.
    pub(super) fn say(&self, payload: Bytes) {
        self.kept.lock().line.push(Frame::text(payload));
    }

    /// What came in is being handled, or has been: then the session is to be asked what it has.
    pub(super) fn is_handling(&self, handling: bool) {
        self.kept.lock().handling = handling;
    }

    /// A ping interval is over.
    pub(super) fn remind(&self) {
        self.kept.lock().reminded = true;
        self.task.wake();
    }

    /// The process is going to end.
    pub(super) fn remind_of_shutdown(&self) {
        self.kept.lock().shutting_down = true;
        self.task.wake();
    }

    /// Takes nothing more from the session.
    pub(super) fn close(&self) {
        self.kept.lock().closing = true;
    }

    /// Nothing more leaves.
    pub(super) fn end(&self) {
        self.road.end();
    }

    /// The next thing to do, as soon as there is one.
    pub(super) fn poll_errand(&self, context: &mut Context<'_>) -> Poll<Errand> {
        self.task.register(context.waker());
        let mut kept = self.kept.lock();
        if kept.failed {
            Poll::Ready(Errand::Failed)
        } else if !kept.bytes.is_empty() || self.road.is_waiting() {
            Poll::Ready(Errand::Flush)
        } else if std::mem::take(&mut kept.refused) {
            Poll::Ready(Errand::Refused)
        } else if std::mem::take(&mut kept.superseded) {
            Poll::Ready(Errand::Superseded)
        } else if let Some(after) = kept.read_after.take() {
            Poll::Ready(Errand::ReadLog(after))
        } else if std::mem::take(&mut kept.shutting_down) {
            Poll::Ready(Errand::Shutdown)
        } else if std::mem::take(&mut kept.reminded) {
            Poll::Ready(Errand::KeepAlive)
        } else {
            Poll::Pending
        }
    }

    /// Waits until everything that is kept has left.
    pub(super) async fn flush(&self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_flush(context)).await
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.kept.lock().write_line(&self.road);
        loop {
            if self.kept.lock().try_flush(&self.road)? {
                return Poll::Ready(Ok(()));
            }
            ready!(self.road.poll_write_ready(context))?;
        }
    }
}

impl<R: Road> Wire for SocketWire<R> {
    fn is_free(&self) -> bool {
        let kept = self.kept.lock();
        kept.bytes.is_empty() && !kept.handling && !kept.closing && !kept.failed && !self.road.is_waiting()
    }

    fn stage(&self, outputs: &mut Vec<Output>, as_a_whole: bool) {
        let events = self.frame(&mut self.kept.lock(), outputs, as_a_whole);
        self.deliveries.inc_by(events);
    }

    fn flush(&self) {
        let mut kept = self.kept.lock();
        kept.write_line(&self.road);
        let has_errand = kept.failed
            || kept.superseded
            || kept.refused
            || kept.read_after.is_some()
            || !kept.bytes.is_empty()
            || self.road.is_waiting();
        drop(kept);
        if has_errand {
            self.task.wake();
        }
    }
}

impl<R> SocketWire<R> {
    /// Makes frames of what can be sent, notes the rest, and says how many events there are.
    fn frame(&self, kept: &mut Kept, outputs: &mut Vec<Output>, as_a_whole: bool) -> u64 {
        // In one frame, or a socket that breaks between frames leaves its client with events that it cannot acknowledge.
        // What follows a handshake's reply, which announced it, is no answer to a connect.
        let in_one_frame = as_a_whole
            && outputs
                .iter()
                .any(|output| matches!(output, Output::Reply(reply) if !reply.opens_session()));
        let mut frames = if in_one_frame {
            Frames::whole(&mut kept.line)
        } else {
            Frames::of(self.messages_per_frame, &mut kept.line)
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
    /// Writes the frames that are in line.
    fn write_line(&mut self, road: &impl Road) {
        if self.line.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.line);
        let size: usize = line.iter().map(Frame::size).sum();
        if size <= COPIED {
            BYTES.with_borrow_mut(|bytes| {
                line.iter().for_each(|frame| frame.add_to(bytes));
                self.write_bytes(road, bytes);
                bytes.clear();
            });
        } else {
            for frames in line.chunks(FRAMES_AT_ONCE) {
                let mut slices = [IoSlice::new(&[]); 2 * FRAMES_AT_ONCE];
                for (place, frame) in frames.iter().enumerate() {
                    slices[2 * place] = IoSlice::new(frame.head());
                    slices[2 * place + 1] = IoSlice::new(frame.payload());
                }
                self.write_slices(road, &slices[..2 * frames.len()]);
            }
        }
    }

    /// Writes what the kernel takes and keeps the rest. A socket is asked without a look at what tokio knows of it: if it is
    /// full, its task will see to the rest, and to that.
    fn write_bytes(&mut self, road: &impl Road, bytes: &[u8]) {
        if self.failed {
            return;
        }
        let mut written = 0;
        if self.bytes.is_empty() {
            match road.send(bytes) {
                Ok(length) => written = length,
                Err(error) if is_for_later(&error) => {}
                Err(_) => self.failed = true,
            }
        }
        self.bytes.extend_from_slice(&bytes[written..]);
    }

    /// Writes what the kernel takes and keeps the rest.
    fn write_slices(&mut self, road: &impl Road, slices: &[IoSlice<'_>]) {
        if self.failed {
            return;
        }
        let mut written = 0;
        if self.bytes.is_empty() {
            match road.send_slices(slices) {
                Ok(length) => written = length,
                Err(error) if is_for_later(&error) => {}
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
    fn try_flush(&mut self, road: &impl Road) -> io::Result<bool> {
        while !self.bytes.is_empty() {
            match road.try_send(&self.bytes) {
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
        road.try_flush().inspect_err(|_| self.failed = true)
    }
}

impl<R: Road> AsyncRead for Io<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { reading, wire } = self.get_mut();
        let read = wire.road.poll_read(reading, context, buffer);
        // What came in may have to be answered below what is read here.
        if wire.road.is_waiting() {
            wire.task.wake();
        }
        read
    }
}

/// Nothing was taken, and nothing is wrong.
fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// What tungstenite writes are whole frames, since everything is taken.
impl<R: Road> AsyncWrite for Io<R> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut kept = self.wire.kept.lock();
        kept.write_line(&self.wire.road);
        kept.write_bytes(&self.wire.road, bytes);
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
