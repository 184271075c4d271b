//! haproxy in front of several brokers, as Debian ships it: each request goes to the next one, whoever it is from.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::broker::free_address;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running balancer. Dropping it ends it.
pub struct Balancer {
    /// Where clients connect.
    pub address: SocketAddr,
    _folder: TempDir,
    _child: Child,
}

/// How it chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The next one for each request: it knows nothing of sessions.
    RoundRobin,
    /// The one that a browser was sent to first, by a cookie of the balancer's own.
    Cookie,
}

impl Balancer {
    /// Starts it before these, which are asked four times a second whether they are ready: the first of each pair is where
    /// clients come, the second where it is asked.
    ///
    /// # Panics
    ///
    /// If haproxy is not installed, or does not listen.
    pub async fn before(brokers: &[(SocketAddr, SocketAddr)], choice: Choice) -> Balancer {
        let folder = tempfile::tempdir().expect("a folder for haproxy");
        let file = folder.path().join("haproxy.cfg");
        let address = free_address();
        std::fs::write(&file, configuration(address, brokers, choice)).expect("the folder takes a file");
        let child = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("haproxy starts: `cargo xtask test` installs it");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < deadline, "haproxy does not listen at {address}");
            sleep(Duration::from_millis(20)).await;
        }
        Balancer {
            address,
            _folder: folder,
            _child: child,
        }
    }

    /// The address of the Bayeux endpoint behind it.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, crate::ENDPOINT)
    }
}

fn configuration(address: SocketAddr, brokers: &[(SocketAddr, SocketAddr)], choice: Choice) -> String {
    let mut text = format!(
        "global\n  maxconn 4000\n\
         defaults\n  mode http\n  option redispatch 1\n  retries 3\n\
         \x20 timeout connect 1s\n  timeout client 90s\n  timeout server 90s\n  timeout tunnel 1h\n\
         frontend clients\n  bind {address}\n  default_backend brokers\n\
         backend brokers\n  balance roundrobin\n  option httpchk GET /readyz\n"
    );
    if choice == Choice::Cookie {
        text.push_str("  cookie NODE insert indirect nocache httponly\n");
    }
    for (number, (public, internal)) in brokers.iter().enumerate() {
        let cookie = match choice {
            Choice::Cookie => format!(" cookie n{number}"),
            Choice::RoundRobin => String::new(),
        };
        writeln!(
            text,
            "  server n{number} {public} check addr {} port {} inter 250ms fall 2 rise 1{cookie}",
            internal.ip(),
            internal.port()
        )
        .expect("a text takes everything");
    }
    text
}
