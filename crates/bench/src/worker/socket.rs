//! A connection that never waits.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Type};

/// A connection, with what could not be read or written yet.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// The beginning of something that is not whole.
    unread: Vec<u8>,
    unsent: Vec<u8>,
    is_up: bool,
}

/// What reading brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes, and more may be there.
    Full(usize),
    /// Bytes, and no more are there.
    Last(usize),
    /// Nothing is there.
    Nothing,
    /// The peer has closed.
    End,
}

/// Where a connection comes from and goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) from: Option<IpAddr>,
    pub(crate) to: SocketAddr,
    /// Bytes that the system may keep unread; its default if there is none.
    pub(crate) receive_buffer: Option<usize>,
}

impl Socket {
    /// Begins to open a connection; an event with `token` says when something happens.
    pub(crate) fn open(ends: Ends, registry: &Registry, token: Token) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(ends.to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(size) = ends.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        if let Some(from) = ends.from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        match socket.connect(&ends.to.into()) {
            Err(error) if !is_under_way(&error) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            unsent: Vec::new(),
            is_up: false,
        })
    }

    /// After an event: whether the connection has just come up.
    pub(crate) fn comes_up(&mut self) -> io::Result<bool> {
        if self.is_up {
            return Ok(false);
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        // There is no event of its own for it: without a peer it is still under way.
        self.is_up = self.stream.peer_addr().is_ok();
        Ok(self.is_up)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.is_up
    }

    /// Reads once.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => Ok(Read::End),
                // Less than there was room for is all that there is: asking again would cost another system call.
                Ok(count) if count < buffer.len() => Ok(Read::Last(count)),
                Ok(count) => Ok(Read::Full(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Read::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Writes what it can; the rest leaves when there is room.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return self.flush();
        }
        let written = self.write(bytes)?;
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Writes what has waited.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        let written = self.write(&unsent)?;
        if written < unsent.len() {
            self.unsent = unsent[written..].to_vec();
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Hands bytes that were just read, after those that were left over before, to `take`, which says how many it is done with.
    pub(crate) fn take<E>(
        &mut self,
        bytes: &[u8],
        take: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        if self.unread.is_empty() {
            let taken = take(bytes)?;
            self.unread.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let taken = take(&unread)?;
        if taken < unread.len() {
            unread.drain(..taken);
            self.unread = unread;
        }
        Ok(())
    }

    /// Ends the connection without leaving a trace in the system's tables: the peer gets an RST.
    pub(crate) fn reset(self) {
        // Without it, ports would be used up by connections that nobody needs.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Ends the connection in order: the peer gets a FIN.
    pub(crate) fn close(self) {
        drop(self.stream);
    }

    /// Keeps the connection open for nobody.
    pub(crate) fn abandon(mut self, registry: &Registry) -> TcpStream {
        let _ = registry.deregister(&mut self.stream);
        self.stream
    }
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error())
}

/// An error of the system without its number, so that equal ones are counted together.
pub(super) fn plainly(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        return "no port is left: more source addresses are needed (--source)".to_owned();
    }
    error.kind().to_string()
}
