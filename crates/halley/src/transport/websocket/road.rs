//! What a socket's bytes travel by: TCP, or TLS on it.
//!
//! Each is compiled for itself, so that TCP does not pay for TLS.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustls::ServerConnection;
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::wire::SocketWire;
use crate::http::Secured;

/// A way for bytes, in both directions. Nothing here waits.
pub(super) trait Road: Send + Sync + Sized + 'static {
    /// What only whoever reads needs.
    type Reading: Send + Unpin;

    /// Sends what can be sent, without a look at what tokio knows of the socket.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// The same, from several places.
    fn send_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends what can be sent; if that is nothing, [`Road::poll_write_ready`] says when there is room.
    fn try_send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether something was taken that has not left yet.
    fn is_waiting(&self) -> bool;

    /// Whether everything that was taken has left, after another try.
    fn try_flush(&self) -> io::Result<bool>;

    /// When there is room again.
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes what has come in.
    fn poll_read(
        &self,
        reading: &mut Self::Reading,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;

    /// Says that nothing more leaves, if that can still be said.
    fn end(&self);

    /// Those of a mixed crowd that travel like this.
    fn of(crowd: &mut Crowd) -> &mut Vec<Weak<SocketWire<Self>>>;
}

/// A socket that can be told to go.
pub trait Leaving: Send + Sync {
    /// It is closed with 1012, and its peer comes again.
    fn leave(&self);
}

impl<R: Road> Leaving for SocketWire<R> {
    fn leave(&self) {
        self.remind_of_shutdown();
    }
}

/// Sockets of each kind.
#[derive(Default)]
pub(super) struct Crowd {
    plain: Vec<Weak<SocketWire<Plain>>>,
    sealed: Vec<Weak<SocketWire<Sealed>>>,
}

impl Crowd {
    pub(super) const fn new() -> Self {
        Self {
            plain: Vec::new(),
            sealed: Vec::new(),
        }
    }

    pub(super) fn add<R: Road>(&mut self, wire: &Arc<SocketWire<R>>) {
        R::of(self).push(Arc::downgrade(wire));
    }

    /// Reminds each that a ping interval is over, and forgets those that are gone. `slack` is room that may stay.
    pub(super) fn remind(&mut self, slack: usize) {
        remind(&mut self.plain, slack);
        remind(&mut self.sealed, slack);
    }

    /// Each of them.
    pub(super) fn all(&self, sockets: &mut Vec<Weak<dyn Leaving>>) {
        let plain = self
            .plain
            .iter()
            .map(|socket| Weak::clone(socket) as Weak<dyn Leaving>);
        sockets.extend(plain);
        let sealed = self
            .sealed
            .iter()
            .map(|socket| Weak::clone(socket) as Weak<dyn Leaving>);
        sockets.extend(sealed);
    }

    pub(super) fn remind_of_shutdown(&self) {
        let plain = self.plain.iter().filter_map(Weak::upgrade);
        plain.for_each(|socket| socket.remind_of_shutdown());
        let sealed = self.sealed.iter().filter_map(Weak::upgrade);
        sealed.for_each(|socket| socket.remind_of_shutdown());
    }
}

fn remind<R: Road>(sockets: &mut Vec<Weak<SocketWire<R>>>, slack: usize) {
    sockets.retain(|socket| socket.upgrade().inspect(|socket| socket.remind()).is_some());
    if sockets.capacity() > 2 * sockets.len() + slack {
        sockets.shrink_to_fit();
    }
}

/// TCP alone.
pub(super) struct Plain(OwnedWriteHalf);

impl Plain {
    pub(super) fn of(stream: TcpStream) -> (OwnedReadHalf, Self) {
        let (read, write) = stream.into_split();
        (read, Self(write))
    }
}

impl Road for Plain {
    type Reading = OwnedReadHalf;

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self.0.as_ref()).send(bytes)
    }

    fn send_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn is_waiting(&self) -> bool {
        false
    }

    fn try_flush(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_ref().poll_write_ready(context)
    }

    fn poll_read(
        &self,
        reading: &mut OwnedReadHalf,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(reading).poll_read(context, buffer)
    }

    fn end(&self) {
        let _ = SockRef::from(self.0.as_ref()).shutdown(Shutdown::Write);
    }

    fn of(crowd: &mut Crowd) -> &mut Vec<Weak<SocketWire<Self>>> {
        &mut crowd.plain
    }
}

/// TLS on TCP. It is written to by whoever has something, like TCP: what leaves is sealed and sent under one lock, so records
/// stay in their order. A socket that takes nothing has at most what one write brought waiting sealed, and takes no more before
/// that has left.
pub(super) struct Sealed {
    stream: TcpStream,
    tls: Mutex<ServerConnection>,
}

impl Sealed {
    pub(super) fn of(secured: Secured) -> Self {
        let (stream, tls) = secured.into_inner();
        Self {
            stream,
            tls: Mutex::new(tls),
        }
    }

    /// Whether nothing sealed waits any more.
    fn send_sealed(&self, tls: &mut ServerConnection) -> io::Result<bool> {
        while tls.wants_write() {
            match tls.write_tls(&mut Tcp(&self.stream)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Has all of `length` bytes sealed and sent, or as many as there is room for.
    fn seal(
        &self,
        length: usize,
        mut take: impl FnMut(&mut rustls::Writer<'_>, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut tls = self.tls.lock();
        let mut taken = 0;
        while self.send_sealed(&mut tls)? && taken < length {
            taken += take(&mut tls.writer(), taken)?;
        }
        if taken == 0 && length > 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }
}

impl Road for Sealed {
    type Reading = ();

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.seal(bytes.len(), |writer, taken| writer.write(&bytes[taken..]))
    }

    fn send_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        let mut slices: SmallVec<[IoSlice<'_>; 64]> = slices.into();
        let mut rest = &mut slices[..];
        self.seal(length, |writer, _| {
            let taken = writer.write_vectored(rest)?;
            IoSlice::advance_slices(&mut rest, taken);
            Ok(taken)
        })
    }

    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }

    fn is_waiting(&self) -> bool {
        self.tls.lock().wants_write()
    }

    fn try_flush(&self) -> io::Result<bool> {
        self.send_sealed(&mut self.tls.lock())
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(context)
    }

    fn poll_read(
        &self,
        (): &mut (),
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut tls = self.tls.lock();
            match tls.reader().read(buffer.initialize_unfilled()) {
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match tls.read_tls(&mut Tcp(&self.stream)) {
                // Also of nothing: then the reader says next what that means.
                Ok(_) => {
                    let processed = tls.process_new_packets();
                    // An alert, or new keys: mostly there is nothing.
                    self.send_sealed(&mut tls)?;
                    processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    drop(tls);
                    ready!(self.stream.poll_read_ready(context))?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn end(&self) {
        let mut tls = self.tls.lock();
        tls.send_close_notify();
        let _ = tls.write_tls(&mut Tcp(&self.stream));
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
    }

    fn of(crowd: &mut Crowd) -> &mut Vec<Weak<SocketWire<Self>>> {
        &mut crowd.sealed
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        let Self { stream, tls } = self;
        let tls = tls.get_mut();
        tls.send_close_notify();
        // As far as there is room: the peer knows from the close frame that this is the end.
        let _ = tls.write_tls(&mut Tcp(stream));
    }
}

/// A socket as rustls reads from and writes to it.
struct Tcp<'a>(&'a TcpStream);

impl Read for Tcp<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Tcp<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
