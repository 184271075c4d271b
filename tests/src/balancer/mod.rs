//! A load balancer in front of several brokers, as Debian ships it: HAProxy, or nginx with the file of deploy/cluster.

mod haproxy;
mod nginx;

pub use nginx::{configuration as nginx_configuration, question as nginx_question};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command as Question, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::broker::free_address;

/// How long it may take to listen, and to find out that a broker is there.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running balancer. Dropping it ends it.
pub struct Balancer {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where publishers do; nginx only.
    pub publishing: SocketAddr,
    program: Program,
    /// Where HAProxy says what it knows.
    said_at: PathBuf,
    _folder: TempDir,
    _child: Child,
}

/// A broker behind it.
#[derive(Debug, Clone)]
pub struct Place {
    /// What the cookie calls it.
    pub name: String,
    /// Where clients come.
    pub public: SocketAddr,
    /// Where it is asked whether it is ready.
    pub internal: SocketAddr,
}

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Asks each broker four times a second whether it is ready.
    HaProxy,
    /// Finds out when it needs one.
    Nginx,
}

/// How it chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The next one for each request: it knows nothing of sessions.
    RoundRobin,
    /// The one that a browser was sent to first, by a cookie of the balancer's own; HAProxy only.
    Cookie,
    /// The one that the brokers' own cookie names.
    Affinity,
}

/// The cookie by which brokers say where a client is, as deploy/cluster has it.
pub const AFFINITY: &str = "HALLEY_NODE";

impl Balancer {
    /// Starts it before these.
    ///
    /// # Panics
    ///
    /// If it is not installed, or does not listen.
    pub async fn before(places: &[Place], program: Program, choice: Choice) -> Balancer {
        let folder = tempfile::tempdir().expect("a folder for the balancer");
        let file = folder.path().join("balancer.conf");
        let said_at = folder.path().join("said");
        let (address, publishing) = (free_address(), free_address());
        let (configuration, mut command) = match program {
            Program::HaProxy => {
                let text = haproxy::configuration(address, places, choice, &said_at);
                (text, haproxy::command(&file))
            }
            Program::Nginx => {
                let text = nginx::configuration(address, publishing, places, folder.path());
                (text, nginx::command(&file, folder.path()))
            }
        };
        std::fs::write(&file, configuration).expect("the folder takes a file");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the balancer starts");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            assert!(
                Instant::now() < deadline,
                "{program:?} does not listen at {address}"
            );
            sleep(Duration::from_millis(10)).await;
        }
        Balancer {
            address,
            publishing,
            program,
            said_at,
            _folder: folder,
            _child: child,
        }
    }

    /// The address of the Bayeux endpoint behind it.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, crate::ENDPOINT)
    }

    /// Waits until it sends clients to the broker with this number. One that asks nobody does so at once.
    pub async fn until_it_knows(&self, number: usize) {
        match self.program {
            Program::HaProxy => {
                let deadline = Instant::now() + PATIENCE;
                while !haproxy::is_up(&self.said_at, number).await {
                    assert!(Instant::now() < deadline, "haproxy does not find broker {number}");
                    sleep(Duration::from_millis(20)).await;
                }
            }
            Program::Nginx => {}
        }
    }
}

/// A program that Debian may have installed where a user's PATH does not look.
fn find(name: &'static str) -> Command {
    let places = [name.to_owned(), format!("/usr/sbin/{name}")];
    let starts = |place: &&String| {
        let mut question = Question::new(place);
        question.arg("-v").stdout(Stdio::null()).stderr(Stdio::null());
        question.status().is_ok_and(|status| status.success())
    };
    let found = places.iter().find(starts);
    Command::new(found.unwrap_or_else(|| panic!("{name} is not installed: `cargo xtask test` installs it")))
}
