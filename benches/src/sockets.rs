//! Real TCP connections on the loopback interface, with nobody who reads them.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use halley::sessions::Wire;
use halley::transport::socket_wire;
use tokio::runtime::{Builder, Runtime};

/// Some connections, the server's end of each as a way out for a session.
pub struct Sockets {
    wires: Vec<Arc<dyn Wire>>,
    peers: Vec<TcpStream>,
    /// What tokio's half of a socket belongs to.
    _runtime: Runtime,
}

impl Sockets {
    /// So many connections, each message in a frame of its own.
    pub fn open(count: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_io().build();
        let runtime = runtime.expect("a runtime");
        let entered = runtime.enter();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (peers, wires) = (0..count)
            .map(|_| {
                let peer = TcpStream::connect(address).expect("a connection");
                let (stream, _) = listener.accept().expect("a connection");
                stream
                    .set_nonblocking(true)
                    .expect("a socket that does not block");
                let stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
                (peer, socket_wire(stream, 1))
            })
            .unzip();
        drop(entered);
        Self {
            wires,
            peers,
            _runtime: runtime,
        }
    }

    /// The server's ends.
    pub fn wires(&self) -> Vec<Arc<dyn Wire>> {
        self.wires.clone()
    }

    /// Takes `length` bytes from each connection and says how many were there at once, of all together.
    pub fn read(&mut self, length: usize) -> usize {
        let mut bytes = vec![0; length];
        let mut read = 0;
        for peer in &mut self.peers {
            peer.set_nonblocking(true).expect("a socket that does not block");
            read += peer.read(&mut bytes).unwrap_or(0);
        }
        read
    }
}
