//! Nodes and servers while they are measured.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Setup;
use crate::steps::root;

/// Where Debian puts it.
pub(super) const NATS_SERVER: &str = "/usr/sbin/nats-server";

/// How long each may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Users of the load.
pub(super) const USERS: u32 = 1_000;

/// What runs, until this is dropped.
pub(super) struct Place {
    /// End before their servers do.
    pub(super) nodes: Vec<Process>,
    pub(super) servers: Vec<Process>,
    pub(super) folder: PathBuf,
}

/// A process that answers at two ports.
pub(super) struct Process {
    child: Child,
    /// Of clients.
    pub(super) port: u16,
    /// Of publishers, and of whoever asks how it is.
    pub(super) inside: u16,
}

impl Place {
    /// Starts servers, then nodes, in folders that are empty.
    pub(super) fn start(setup: &Setup, folder: &Path) -> Result<Self, String> {
        let folder = folder.join(setup.name);
        let make = || -> std::io::Result<()> {
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&folder)
        };
        make().map_err(|error| error.to_string())?;
        let mut place = Self {
            nodes: Vec::new(),
            servers: Vec::new(),
            folder,
        };
        place.start_servers(setup.servers)?;
        let url = if setup.servers == 0 {
            format!("file:{}", place.folder.join("log").display())
        } else {
            let addresses = place
                .servers
                .iter()
                .map(|server| format!("127.0.0.1:{}", server.port));
            format!("nats://{}", addresses.collect::<Vec<_>>().join(","))
        };
        for number in 0..setup.nodes {
            let node = place.node(number, &url, setup.servers)?;
            place.nodes.push(node);
        }
        Ok(place)
    }

    fn start_servers(&mut self, count: usize) -> Result<(), String> {
        let routes: Vec<u16> = (0..count).map(|_| free_port()).collect::<Result<_, _>>()?;
        for number in 0..count {
            let (port, monitor) = (free_port()?, free_port()?);
            let store = self.folder.join(format!("store-{number}"));
            let mut text = format!(
                "server_name: s{number}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
                 jetstream {{ store_dir: {store:?}, max_file_store: 1000000000000, max_memory_store: 1000000000 }}\n"
            );
            if count > 1 {
                let known = routes.iter().map(|route| format!("\"nats://127.0.0.1:{route}\""));
                let known = known.collect::<Vec<_>>().join(", ");
                text += &format!(
                    "cluster {{ name: figures, listen: \"127.0.0.1:{}\", routes: [{known}] }}\n",
                    routes[number]
                );
            }
            let file = self.folder.join(format!("nats-{number}.conf"));
            fs::write(&file, text).map_err(|error| error.to_string())?;
            let mut command = Command::new(NATS_SERVER);
            command.arg("-c").arg(&file);
            let log = self.folder.join(format!("nats-{number}.log"));
            self.servers.push(Process::start(command, &log, port, monitor)?);
        }
        self.servers
            .iter_mut()
            .try_for_each(|server| server.wait("/healthz"))
    }

    fn node(&self, number: usize, url: &str, servers: usize) -> Result<Process, String> {
        let (port, inside) = (free_port()?, free_port()?);
        let name = format!("node-{number}");
        let mut command = Command::new(root().join("target/release/halley"));
        command
            .args(["serve", "--log", url, "--config"])
            .arg(users(&self.folder)?)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--internal", &format!("127.0.0.1:{inside}")])
            .env("HALLEY_NATS__NODE", &name)
            .env("HALLEY_NATS__REPLICAS", servers.max(1).to_string())
            .env("HALLEY_LOG__RETENTION_BYTES", "2 GiB")
            .env("HALLEY_SHUTDOWN__DRAIN", "0s");
        let mut node = Process::start(command, &self.folder.join(format!("{name}.log")), port, inside)?;
        node.wait("/readyz")?;
        Ok(node)
    }
}

/// A configuration that knows the users of the load.
fn users(folder: &Path) -> Result<PathBuf, String> {
    let file = folder.join("users.toml");
    if !file.exists() {
        let output = Command::new(root().join("target/release/halley"))
            .args([
                "bench",
                "unicast",
                "--print-users",
                "--token-template",
                "secret-{number}",
            ])
            .arg(format!("--sessions={USERS}"))
            .output()
            .map_err(|error| error.to_string())?;
        fs::write(&file, output.stdout).map_err(|error| error.to_string())?;
    }
    Ok(file)
}

impl Process {
    fn start(mut command: Command, log: &Path, port: u16, inside: u16) -> Result<Self, String> {
        let output = File::create(log).map_err(|error| error.to_string())?;
        let other = output.try_clone().map_err(|error| error.to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(other)
            .spawn()
            .map_err(|error| format!("{command:?} does not start: {error}"))?;
        Ok(Self { child, port, inside })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait(&mut self, path: &str) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            if says_yes(self.inside, path).unwrap_or(false) {
                return Ok(());
            }
            sleep(Duration::from_millis(50));
        }
        Err(format!("port {} never answered 200 at {path}", self.inside))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it answers 200.
fn says_yes(port: u16, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(head.ends_with(b" 200"))
}

fn free_port() -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| error.to_string())
}
