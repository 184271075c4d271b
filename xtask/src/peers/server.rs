//! One server while it is measured.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::roster::Peer;

/// How long a server may take to open its port, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// nginx opens its port before it has its worker.
const SETTLING: Duration = Duration::from_millis(700);

/// Where a server listens.
pub(crate) struct Ports {
    pub(crate) clients: u16,
    pub(crate) publishers: u16,
}

impl Ports {
    /// Two ports that nobody has.
    fn free() -> std::io::Result<Self> {
        let listeners = [
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
        ];
        Ok(Self {
            clients: listeners[0].local_addr()?.port(),
            publishers: listeners[1].local_addr()?.port(),
        })
    }

    /// Puts the ports in their places.
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{clients}", &self.clients.to_string())
            .replace("{publishers}", &self.publishers.to_string())
    }
}

/// A server that runs, and ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) ports: Ports,
}

impl Server {
    /// Starts a peer in a folder of its own, and waits until clients can come. It knows users if it is to.
    pub(crate) fn start(peer: &Peer, with_users: bool, folder: &Path) -> Result<Self, String> {
        let own = folder.join(peer.name);
        let log = folder.join(format!("{}.log", peer.name));
        let prepared = || -> std::io::Result<(Ports, File)> {
            if own.exists() {
                fs::remove_dir_all(&own)?;
            }
            fs::create_dir_all(&own)?;
            Ok((Ports::free()?, File::create(&log)?))
        };
        let (ports, output) = prepared().map_err(|error| error.to_string())?;
        let users = if with_users { peer.users } else { &[] };
        let child = (peer.start)(&own, &ports)?
            .envs(users.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", peer.name))?;
        let mut server = Self { child, ports };
        if server.opens_its_port() {
            sleep(SETTLING);
            Ok(server)
        } else {
            Err(format!(
                "{} does not listen; {} may say why",
                peer.name,
                log.display()
            ))
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn opens_its_port(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.clients)).is_ok() {
                return true;
            }
            sleep(Duration::from_millis(50));
        }
        false
    }
}

impl Drop for Server {
    /// Asks it to end, so that it ends its own children, and insists if it does not.
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program on one processor, with as many open files as it may have. Its process is the program's: no shell stays between.
pub(crate) fn on_processor(number: u32, program: PathBuf) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("ulimit -Hn 1000000 2>/dev/null; ulimit -Sn $(ulimit -Hn); exec taskset -c \"$0\" \"$@\"")
        .arg(number.to_string())
        .arg(program);
    command
}
