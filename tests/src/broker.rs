//! The binary under test: a child process with its own configuration, ports and data.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::PipeReader;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::{Connection, Transport, say};

/// The path of the Bayeux endpoint on the public listener.
pub const ENDPOINT: &str = "/cometd";

/// How long a broker may take from its start to `200` on `/readyz`, and from SIGTERM to its exit.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test chooses about the broker; the rest are the broker's own defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `session.timeout`: how long a connect is held, as `"30s"`.
    pub timeout: &'static str,
    /// `session.max_interval`: how long a session may be silent before it leaves memory.
    pub max_interval: &'static str,
    /// `session.resume_window`: how long it can then still come back.
    pub resume_window: &'static str,
    /// Keep the log in memory: faster, and nothing survives a restart.
    pub in_memory: bool,
    /// `log.url`, if it is to be neither that nor a folder of the broker's own.
    pub log: Option<String>,
    /// `shutdown.drain`: how long it takes to let clients go. At once, since most tests are about what comes afterwards.
    pub drain: &'static str,
    /// Users `15000`, `15001`, …, each with the token `secret-USER`.
    pub users: u32,
    /// `public.transports`; none for the default.
    pub transports: &'static [Transport],
    /// How many file descriptors it may have; whoever runs the tests decides if there is none.
    pub files: Option<u32>,
    /// More TOML, put at the end of the file: whole tables only.
    pub extra: String,
    /// Where its lines go.
    pub log_to: LogTo,
}

/// What is at the other end of stdout and stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTo {
    /// A file, for [`Broker::log_tail`].
    File,
    /// A pipe whose reader has gone.
    ClosedPipe,
    /// A pipe that nobody reads.
    StalledPipe,
    /// A disk without room (`/dev/full`).
    FullDisk,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            timeout: "30s",
            max_interval: "10s",
            resume_window: "1h",
            in_memory: false,
            log: None,
            drain: "0s",
            users: 2,
            transports: &[],
            files: None,
            extra: String::new(),
            log_to: LogTo::File,
        }
    }
}

impl Settings {
    /// The whole configuration file.
    fn to_toml(&self, public: SocketAddr, internal: SocketAddr, folder: &Path) -> String {
        let log = match (&self.log, self.in_memory) {
            (Some(log), _) => log.clone(),
            (None, true) => "memory:".to_owned(),
            (None, false) => format!("file:{}", folder.join("data").display()),
        };
        let transports = match self.transports {
            [] => String::new(),
            transports => {
                let names: Vec<_> = transports.iter().map(|transport| transport.name()).collect();
                format!("transports = {names:?}\n")
            }
        };
        let mut toml = format!(
            "[public]\nlisten = \"{public}\"\n{transports}\n\
             [internal]\nlisten = \"{internal}\"\n\n\
             [log]\nurl = \"{log}\"\n\n\
             [session]\ntimeout = \"{}\"\nmax_interval = \"{}\"\nresume_window = \"{}\"\n\n\
             [shutdown]\ndrain = \"{}\"\n\n\
             [auth]\nkind = \"static\"\n",
            self.timeout, self.max_interval, self.resume_window, self.drain,
        );
        for user in 15000..15000 + self.users {
            write!(
                toml,
                "[[auth.users]]\nuser = \"{user}\"\ntoken = \"secret-{user}\"\n"
            )
            .expect("a String takes everything");
        }
        toml.push('\n');
        toml.push_str(&self.extra);
        toml
    }
}

/// A running broker. Dropping it kills the process; when a test is failing, the end of its log is printed first.
pub struct Broker {
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where the voice backend and the operator connect.
    pub internal: SocketAddr,
    folder: TempDir,
    files: Option<u32>,
    log_to: LogTo,
    _unread: Option<PipeReader>,
    child: Option<Child>,
}

impl Broker {
    /// Writes the configuration, starts the binary and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If there is no binary, or it does not become ready.
    pub async fn start(settings: Settings) -> Broker {
        let folder = tempfile::Builder::new()
            .prefix("halley-test-")
            .tempdir()
            .expect("a temporary folder");
        let (public, internal) = (free_address(), free_address());
        fs::write(
            folder.path().join("halley.toml"),
            settings.to_toml(public, internal, folder.path()),
        )
        .expect("the temporary folder takes a file");
        let mut broker = Broker {
            public,
            internal,
            folder,
            files: settings.files,
            log_to: settings.log_to,
            _unread: None,
            child: None,
        };
        broker.restart().await;
        broker
    }

    /// The address of the Bayeux endpoint, as a CometD client is configured with it.
    pub fn url(&self) -> String {
        format!("http://{}{ENDPOINT}", self.public)
    }

    /// Starts the process again, on the same ports and the same data, and waits until it is ready. Returns how long
    /// that took.
    ///
    /// # Panics
    ///
    /// If it is still running, or does not become ready.
    pub async fn restart(&mut self) -> Duration {
        assert!(self.child.is_none(), "the broker is still running");
        let started = Instant::now();
        let (stdout, stderr) = self.sinks();
        let mut command = match self.files {
            None => Command::new(binary()),
            Some(files) => {
                let mut command = Command::new("sh");
                let limited = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
                command.arg("-c").arg(limited).arg(binary());
                command
            }
        };
        // The broker reads settings from such variables: those of whoever runs the tests are not meant.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HALLEY_"))
        {
            command.env_remove(name);
        }
        if let Some(filter) = std::env::var_os(SAY) {
            command.env("HALLEY_LOGGING__FILTER", filter);
        }
        let child = command
            .args(["serve", "--config"])
            .arg(self.folder.path().join("halley.toml"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
        self.wait_until_ready().await;
        started.elapsed()
    }

    /// What stdout and stderr are.
    fn sinks(&mut self) -> (Stdio, Stdio) {
        let sink: OwnedFd = match self.log_to {
            LogTo::File => {
                let path = self.log_path();
                let file = File::options().create(true).append(true).open(path);
                file.expect("the log file").into()
            }
            LogTo::FullDisk => {
                let full = File::options().write(true).open("/dev/full");
                full.expect("Linux has /dev/full").into()
            }
            LogTo::ClosedPipe | LogTo::StalledPipe => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                self._unread = Some(reader).filter(|_| self.log_to == LogTo::StalledPipe);
                writer.into()
            }
        };
        let other = sink.try_clone().expect("a second handle");
        (sink.into(), other.into())
    }

    async fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut connection = Connection::new(self.internal, Duration::from_secs(1));
        loop {
            let child = self.child.as_mut().expect("restart() has just put it there");
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                panic!("the broker ended with {status} instead of becoming ready");
            }
            let last = match connection.get("/readyz").await {
                Ok(answer) if answer.status == 200 => return,
                Ok(answer) => format!("{} {}", answer.status, answer.text()),
                Err(error) => error.to_string(),
            };
            assert!(
                Instant::now() < deadline,
                "not ready after {PATIENCE:?}: /readyz said {last}"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// `kill -9`: no destructor runs, no buffer is flushed.
    pub async fn kill9(&mut self) {
        let mut child = self.child.take().expect("the broker is running");
        child.kill().await.expect("our own child can be killed");
    }

    /// Stops the process without ending it: its connections stay open and nothing is answered.
    pub fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).expect("our own child can be signalled");
    }

    /// Lets it go on after [`Broker::pause`].
    pub fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).expect("our own child can be signalled");
    }

    /// SIGTERM, as a deploy sends it. Returns how the process ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal();
        self.ended().await
    }

    /// SIGTERM, and does not wait for what comes of it.
    pub fn signal(&self) {
        kill_process(self.pid(), Signal::TERM).expect("our own child can be signalled");
    }

    /// Waits until the process has ended by itself. Returns how.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the broker is running");
        let status = timeout(PATIENCE, child.wait())
            .await
            .expect("the broker ends in time after SIGTERM");
        let status = status.expect("a child can be waited for");
        assert!(
            status.signal().is_none(),
            "the broker died of a signal instead of leaving: {status}"
        );
        status
    }

    /// Resident memory now, in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("the broker is running");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("Linux writes VmRSS");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("VmRSS is a number of kB")
    }

    /// Processor time used since its last start, user and system, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.pid())
    }

    /// Every sample of `/metrics`, by its name with labels as written there.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let mut connection = Connection::new(self.internal, Duration::from_secs(5));
        let page = connection.get("/metrics").await.expect("/metrics answers");
        assert_eq!(page.status, 200, "/metrics said {}", page.text());
        samples(&page.text())
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).map_or(0, Iterator::count)
    }

    /// Whether its process is there.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Everything that the broker wrote on stdout and stderr since its first start.
    pub fn log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The end of it.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 40;
        let log = self.log();
        if std::env::var_os(SAY).is_some() {
            return log;
        }
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("halley.log")
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.pid().as_raw_nonzero())
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        let pid = self
            .child
            .as_ref()
            .and_then(Child::id)
            .expect("the broker is running");
        i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .expect("Linux numbers processes with a positive i32")
    }
}

/// What the broker logs when a test is looked into, as `halley=debug,info`: when it fails, all of it is shown.
const SAY: &str = "BROKER_LOG";

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(format_args!(
                "--- the broker's last lines ---\n{}\n---",
                self.log_tail()
            ));
        }
    }
}

/// The release binary: `HALLEY_BIN`, or `release/halley` in the target directory that this test was built into.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("HALLEY_BIN").map_or_else(beside_this_test, PathBuf::from);
    assert!(
        path.is_file(),
        "there is no broker at {}: build it with `cargo build --release -p halley`, or set HALLEY_BIN",
        path.display()
    );
    path
}

fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its own file");
    let target = test
        .ancestors()
        .nth(3)
        .expect("cargo puts tests into target/debug/deps");
    target.join("release/halley")
}

/// Processor time that a process has used, user and system, in seconds.
pub(crate) fn cpu_seconds(process: Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    // Fields are counted after the command name, which is in brackets and may hold anything: proc(5), 14 and 15.
    let stat = stat.expect("the process is running");
    let (_, fields) = stat
        .rsplit_once(") ")
        .expect("proc(5) writes the command in brackets");
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("clock ticks"))
        .sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// An address that nobody uses, below the ports that the kernel gives to outgoing connections: while a broker is down
/// nobody else, nor a client that keeps dialling it, can come to own its port.
pub fn free_address() -> SocketAddr {
    const FIRST: u16 = 18_000;
    const COUNT: u16 = 14_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_mul(17).wrapping_add(step)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Reads the text format of Prometheus: `name{labels} value`, comments left out.
fn samples(page: &str) -> BTreeMap<String, f64> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_every_user() {
        let settings = Settings {
            users: 2,
            in_memory: true,
            ..Settings::default()
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let toml = settings.to_toml(address, address, Path::new("/nowhere"));
        assert!(toml.contains("url = \"memory:\""), "{toml}");
        assert!(
            toml.contains("user = \"15001\"\ntoken = \"secret-15001\""),
            "{toml}"
        );
    }

    #[test]
    fn two_addresses_differ() {
        assert_ne!(free_address(), free_address());
    }

    #[test]
    fn metrics_are_read_by_name_and_labels() {
        let page = "# TYPE sessions gauge\nsessions{state=\"live\"} 3\nup 1\n# EOF\n";
        let expect = BTreeMap::from([
            ("sessions{state=\"live\"}".to_owned(), 3.0),
            ("up".to_owned(), 1.0),
        ]);
        assert_eq!(samples(page), expect);
    }
}
