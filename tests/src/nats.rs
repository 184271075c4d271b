//! A real nats-server on loopback, which can be killed, paused and started again at the same place.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::Connection;
use crate::broker::{cpu_seconds, free_address};

/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_secs(20);

/// One server, with JetStream in a folder of its own. It ends when it is dropped, and with the process of the test.
pub struct Nats {
    /// Where clients find it.
    port: u16,
    /// Where its monitoring answers, if it does.
    monitor: Option<u16>,
    configuration: String,
    folder: TempDir,
    running: Option<Running>,
}

/// The process, and the shell that ends it and removes its folder when nobody holds its input any more: even a test that is
/// killed leaves nothing behind.
struct Running {
    shell: Child,
    server: Pid,
}

/// How a server is set up beside its address and its folder.
#[derive(Debug, Clone, Default)]
pub struct NatsSettings {
    /// Without it the server passes messages on and keeps none.
    pub without_jetstream: bool,
    /// The port of its monitoring, if it is to have one.
    pub monitor: Option<u16>,
    /// Lines for the configuration file.
    pub extra: String,
}

/// Servers that share everything: three, or one alone.
pub struct NatsCluster {
    /// Each of them.
    pub servers: Vec<Nats>,
}

impl Nats {
    /// Starts one and waits until it answers.
    pub fn start() -> Nats {
        Self::start_with(&NatsSettings::default())
    }

    /// Starts one that is set up in another way.
    pub fn start_with(settings: &NatsSettings) -> Nats {
        let mut nats = Self::prepare(free_port(), settings);
        nats.restart();
        nats
    }

    /// One that is set up by a whole file, for [`NatsCluster::of`]: it listens at this port of loopback, is monitored at the other,
    /// and keeps everything in this folder, since the file says so.
    pub fn set_up(port: u16, monitor: u16, folder: TempDir, configuration: String) -> Nats {
        Nats {
            port,
            monitor: Some(monitor),
            configuration,
            folder,
            running: None,
        }
    }

    fn prepare(port: u16, settings: &NatsSettings) -> Nats {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let mut configuration = format!("listen: \"127.0.0.1:{port}\"\n{}\n", settings.extra);
        if let Some(monitor) = settings.monitor {
            writeln!(configuration, "http: \"127.0.0.1:{monitor}\"").expect("a text takes everything");
        }
        if !settings.without_jetstream {
            // A stream reserves what it may take at most: the tests make many, and all of them stay small.
            let store = folder.path().join("store");
            writeln!(
                configuration,
                "jetstream {{ store_dir: {store:?}, max_file_store: 1000000000000000, max_memory_store: 1000000000 }}"
            )
            .expect("a text takes everything");
        }
        Nats {
            port,
            monitor: settings.monitor,
            configuration,
            folder,
            running: None,
        }
    }

    /// What `log.url` is to be.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its address, as `HOST:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The end of what it said, for the message of a test that fails.
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends it at once, as a loss of power would end the process. Its folder stays.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Stops it without ending it: connections stay open and nothing is answered. A thread that is running stops a moment after the
    /// signal, and may answer meanwhile: that is waited for.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let running = self.running.as_ref().expect("the server is running");
        let deadline = Instant::now() + START;
        while !is_stopped(running.server) {
            assert!(Instant::now() < deadline, "nats-server does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on after [`Nats::pause`].
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again with the same port and folder, and waits until it answers.
    pub fn restart(&mut self) {
        self.begin();
        self.wait();
    }

    /// Whether its process is there.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Processor time used since its last start, user and system, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.running.as_ref().expect("the server is running").server)
    }

    /// Waits until its JetStream is there, with a leader, and has caught up with the others.
    pub async fn until_healthy(&self) {
        let deadline = Instant::now() + START;
        while let Err(why) = self.monitored("/healthz").await {
            assert!(
                Instant::now() < deadline,
                "nats-server is not healthy: {why}\n{}",
                self.said()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What its monitoring says there, if that is a success.
    async fn monitored(&self, path: &str) -> Result<Value, String> {
        let port = self.monitor.expect("it is monitored");
        let mut connection = Connection::new((Ipv4Addr::LOCALHOST, port).into(), Duration::from_secs(2));
        let answer = connection.get(path).await.map_err(|error| error.to_string())?;
        if answer.status == 200 {
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
        } else {
            Err(format!("{} {}", answer.status, answer.text()))
        }
    }

    fn begin(&mut self) {
        self.running = None;
        let file = self.folder.path().join("nats.conf");
        std::fs::write(&file, &self.configuration).expect("the folder can be written");
        self.running = Some(Running::start(&file, &self.log()));
    }

    fn wait(&self) {
        let deadline = Instant::now() + START;
        while !answers(self.port) {
            assert!(
                Instant::now() < deadline,
                "nats-server does not answer at port {}:\n{}",
                self.port,
                self.said()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("the server is running");
        kill_process(running.server, signal).expect("our own process can be signalled");
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("nats.log")
    }
}

impl NatsCluster {
    /// One server.
    pub fn alone() -> NatsCluster {
        NatsCluster {
            servers: vec![Nats::start()],
        }
    }

    /// Starts three servers and waits until each of them answers. [`Nats::until_healthy`] waits until they have agreed on a leader.
    pub fn three() -> NatsCluster {
        let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let servers = (0..3).map(|n| {
            let mut extra = format!(
                "server_name: {}\ncluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [",
                name(n),
                routes[n]
            );
            for route in &routes {
                write!(extra, "\"nats://127.0.0.1:{route}\", ").expect("a text takes everything");
            }
            extra.push_str("] }");
            let settings = NatsSettings {
                extra,
                monitor: Some(free_port()),
                ..NatsSettings::default()
            };
            Nats::prepare(free_port(), &settings)
        });
        Self::of(servers.collect())
    }

    /// Starts servers that know each other, and waits until each of them answers.
    pub fn of(servers: Vec<Nats>) -> NatsCluster {
        let mut cluster = NatsCluster { servers };
        for server in &mut cluster.servers {
            server.begin();
        }
        for server in &cluster.servers {
            server.wait();
        }
        cluster
    }

    /// What `log.url` is to be.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.servers.iter().map(Nats::address).collect();
        format!("nats://{}", addresses.join(","))
    }

    /// The number of the one that leads a stream, as soon as there is one.
    pub async fn leader(&self, stream: &str) -> usize {
        let deadline = Instant::now() + START;
        loop {
            for server in self.servers.iter().filter(|server| server.is_running()) {
                let known = server.monitored("/jsz?accounts=true&streams=true").await;
                let led_by = known.ok().and_then(|known| leader(&known, stream));
                let led_by = led_by.and_then(|led_by| (0..self.servers.len()).find(|n| name(*n) == led_by));
                if let Some(number) = led_by.filter(|number| self.servers[*number].is_running()) {
                    return number;
                }
            }
            assert!(Instant::now() < deadline, "nobody leads {stream}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What a server of [`NatsCluster::three`] is called.
fn name(number: usize) -> String {
    format!("n{number}")
}

/// Who leads a stream, as `/jsz` has it.
fn leader(known: &Value, stream: &str) -> Option<String> {
    let accounts = known["account_details"].as_array()?;
    let streams = accounts
        .iter()
        .filter_map(|account| account["stream_detail"].as_array());
    let found = streams.flatten().find(|detail| detail["name"] == stream)?;
    Some(found["cluster"]["leader"].as_str()?.to_owned())
}

impl Running {
    fn start(configuration: &Path, log: &Path) -> Running {
        const GUARD: &str =
            r#""$1" -c "$2" >>"$3" 2>&1 & echo $!; read _ || { kill -9 $!; rm -rf "${2%/*}"; }"#;
        let mut shell = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .args([&program(), configuration, log])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let mut output = BufReader::new(shell.stdout.take().expect("it is piped"));
        output.read_line(&mut line).expect("the shell says its child");
        let number = line.trim().parse().expect("the number of a process");
        Running {
            shell,
            server: Pid::from_raw(number).expect("the number of a process"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killed here and not by the shell, which does not get to it while the server is stopped.
        let _ = kill_process(self.server, Signal::KILL);
        // A line says that the folder is still wanted.
        let _ = self.shell.stdin.take().map(|mut input| input.write_all(b"\n"));
        let _ = self.shell.wait();
    }
}

/// `NATS_SERVER`, or the one that is installed. Debian installs it where a user's PATH may not look.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("NATS_SERVER") {
        return program.into();
    }
    let is_there = |program: &&str| {
        let mut command = Command::new(program);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = ["nats-server", "/usr/sbin/nats-server"]
        .into_iter()
        .find(is_there);
    found
        .expect("nats-server is not installed; cargo xtask test installs it")
        .into()
}

fn free_port() -> u16 {
    free_address().port()
}

/// Whether all threads of a process are stopped.
fn is_stopped(process: Pid) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
    tasks.expect("the process is running").flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // proc(5): the state follows the command name, which is in brackets and may hold anything.
        stat.rsplit_once(") ")
            .is_none_or(|(_, fields)| fields.starts_with('T'))
    })
}

/// It says who it is, takes us in, and answers a ping.
fn answers(port: u16) -> bool {
    let greet = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting)?;
        stream.flush()?;
        Ok(&greeting == b"INFO ")
    };
    greet().unwrap_or(false)
}
