//! The network between a client and the broker.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How long a client may take to connect.
const PATIENCE: Duration = Duration::from_secs(20);

/// A TCP proxy that a test can break and heal. Dropping it closes everything.
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    state: watch::Sender<State>,
    counts: Arc<Counts>,
    listening: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    /// Connections of an earlier era are reset.
    era: u64,
    flowing: bool,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    bytes: AtomicU64,
}

impl Proxy {
    /// Listens on a port of its own and forwards to `broker`.
    pub async fn start(broker: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port for the proxy");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (state, watching) = watch::channel(State {
            era: 0,
            flowing: true,
        });
        let counts = Arc::new(Counts::default());
        let listening = tokio::spawn(listen(listener, broker, watching, Arc::clone(&counts)));
        Proxy {
            address,
            state,
            counts,
            listening,
        }
    }

    /// Resets every connection on both sides (RST), as a restarted router does. New ones pass.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.era += 1);
    }

    /// Swallows everything: connections stay open, new ones are accepted, not a byte passes and no end is seen.
    pub fn black_hole(&self) {
        self.state.send_modify(|state| state.flowing = false);
    }

    /// Lets everything pass again, what was in flight included.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.flowing = true);
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Waits until so many connections have been accepted.
    ///
    /// # Panics
    ///
    /// If that does not happen in time.
    pub async fn until_connections(&self, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.connections() < count {
            assert!(
                Instant::now() < deadline,
                "{} connections, not {count}, in {PATIENCE:?}",
                self.connections()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Bytes forwarded so far, both ways together.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.reset();
    }
}

async fn listen(
    listener: TcpListener,
    broker: SocketAddr,
    state: watch::Receiver<State>,
    counts: Arc<Counts>,
) {
    while let Ok((client, _)) = listener.accept().await {
        counts.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(forward(client, broker, state.clone(), Arc::clone(&counts)));
    }
}

async fn forward(
    mut client: TcpStream,
    broker: SocketAddr,
    mut state: watch::Receiver<State>,
    counts: Arc<Counts>,
) {
    let era = state.borrow().era;
    if passes(&mut state, era).await.is_err() {
        return reset(&client);
    }
    let Ok(mut server) = TcpStream::connect(broker).await else {
        return reset(&client);
    };
    // Neither end is delayed by us; a socket that refuses the option is about to fail anyway.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = copy(from_client, to_server, state.clone(), era, &counts);
    let down = copy(from_server, to_client, state, era, &counts);
    if tokio::try_join!(up, down).is_err() {
        reset(&client);
        reset(&server);
    }
}

/// The connection is to be reset on both sides.
struct Cut;

/// Copies one way until the end, and passes the end on.
async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<State>,
    era: u64,
    counts: &Counts,
) -> Result<(), Cut> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = tokio::select! {
            biased;
            changed = state.changed() => {
                changed.map_err(|_| Cut)?;
                passes(&mut state, era).await?;
                continue;
            }
            read = from.read(&mut buffer) => read.map_err(|_| Cut)?,
        };
        if length == 0 {
            return to.shutdown().await.map_err(|_| Cut);
        }
        tokio::select! {
            biased;
            () = ended(&mut state, era) => return Err(Cut),
            written = to.write_all(&buffer[..length]) => written.map_err(|_| Cut)?,
        }
        counts.bytes.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Waits while the network swallows everything.
async fn passes(state: &mut watch::Receiver<State>, era: u64) -> Result<(), Cut> {
    let open = state
        .wait_for(|state| state.flowing || state.era != era)
        .await
        .map_err(|_| Cut)?;
    if open.era == era { Ok(()) } else { Err(Cut) }
}

async fn ended(state: &mut watch::Receiver<State>, era: u64) {
    // An error means that the proxy is gone, which ends the connection as well.
    let _ = state.wait_for(|state| state.era != era).await;
}

/// Makes the coming close an RST: what is unsent is thrown away, and the peer hears of it at once.
fn reset(stream: &TcpStream) {
    // A socket that was reset from the other side refuses the option, and needs it no more.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::time::timeout;

    use super::*;

    /// How long the network may take to have an effect.
    const SOON: Duration = Duration::from_secs(5);

    /// A server that sends everything back.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn exchange(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        let mut answer = [0; 4];
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn it_forwards_and_counts() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address)
            .await
            .expect("the proxy listens");
        assert_eq!(&exchange(&mut stream).await.expect("an echo"), b"ping");
        assert_eq!(proxy.connections(), 1);
        assert!(proxy.bytes() >= 4, "{}", proxy.bytes());
    }

    #[tokio::test]
    async fn reset_is_seen_at_once_and_new_connections_pass() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address)
            .await
            .expect("the proxy listens");
        exchange(&mut stream).await.expect("an echo");
        proxy.reset();
        let error = timeout(SOON, stream.read_u8())
            .await
            .expect("soon")
            .expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let mut stream = TcpStream::connect(proxy.address)
            .await
            .expect("the proxy listens");
        exchange(&mut stream).await.expect("an echo");
    }

    #[tokio::test]
    async fn a_black_hole_swallows_and_a_healed_network_delivers() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address)
            .await
            .expect("the proxy listens");
        exchange(&mut stream).await.expect("an echo");
        proxy.black_hole();
        let mut other = TcpStream::connect(proxy.address)
            .await
            .expect("accepted all the same");
        for stream in [&mut stream, &mut other] {
            stream.write_all(b"ping").await.expect("the kernel takes it");
            let silence = timeout(Duration::from_millis(100), stream.read_u8()).await;
            assert!(silence.is_err(), "not a byte: {silence:?}");
        }
        proxy.heal();
        for stream in [&mut stream, &mut other] {
            let mut answer = [0; 4];
            timeout(SOON, stream.read_exact(&mut answer))
                .await
                .expect("soon")
                .expect("delivered");
        }
    }

    #[tokio::test]
    async fn a_reset_ends_what_is_black_holed() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address)
            .await
            .expect("the proxy listens");
        exchange(&mut stream).await.expect("an echo");
        proxy.black_hole();
        stream.write_all(b"ping").await.expect("the kernel takes it");
        proxy.reset();
        timeout(SOON, stream.read_u8())
            .await
            .expect("soon")
            .expect_err("reset");
    }
}
