//! A stock npm CometD client in a Node process of its own, driven over stdin and stdout.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};

use crate::{Application, Client, Seen, say};

/// A running client. Dropping it kills the process; when a test is failing, what it logged is printed first.
pub struct Node {
    application: Application,
    log: NamedTempFile,
    _child: Child,
}

impl Client {
    /// Starts it in Node; it handshakes at once. `None`, with the reason printed, where Node or its packages are missing.
    pub fn start(&self) -> Option<Node> {
        let folder = js_folder();
        if !folder.join("node_modules/cometd").is_dir() {
            say("skipped: no npm packages; run `npm ci` in tests/js");
            return None;
        }
        let log = NamedTempFile::with_prefix("halley-test-node-").expect("a temporary file");
        let started = self
            .command(&folder, log.reopen().expect("a second handle of the log file"))
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                say(format_args!("skipped: node does not start: {error}"));
                return None;
            }
        };
        let (tell, seen) = watch::channel(Seen::default());
        tokio::spawn(listen(child.stdout.take().expect("stdout is piped"), tell));
        let (send, commands) = mpsc::unbounded_channel();
        tokio::spawn(pass_on(commands, child.stdin.take().expect("stdin is piped")));
        let application = Application::new(self.name(), seen, move |command| {
            // A client that has ended takes no more commands: whoever waits for their effect hears of it.
            let _ = send.send(command);
        });
        Some(Node {
            application,
            log,
            _child: child,
        })
    }

    fn command(&self, folder: &Path, log: File) -> Command {
        let mut command = Command::new("node");
        command.arg(folder.join("cometd-client.mjs"));
        command.args(["--version", self.version.number()]);
        for (name, value) in self.options() {
            command.arg(format!("--{name}={value}"));
        }
        if let Some(file) = &self.trusts {
            command.env("NODE_EXTRA_CA_CERTS", file);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        command
    }
}

impl Node {
    /// Stops the whole process for a while, as a sleeping laptop does, and waits until it runs again.
    pub async fn sleep(&self, length: Duration) {
        let pauses = self.seen().pauses;
        self.send(json!({ "do": "pause", "ms": length.as_millis() as u64 }));
        self.until_within(length + Application::PATIENCE, "its waking", |seen| {
            seen.pauses > pauses
        })
        .await;
    }
}

impl Deref for Node {
    type Target = Application;

    fn deref(&self) -> &Application {
        &self.application
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
            say(format_args!(
                "--- {}: {}\n{log}---",
                self.name(),
                self.seen().summary()
            ));
        }
    }
}

async fn listen(stdout: ChildStdout, tell: watch::Sender<Seen>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tell.send_modify(|seen| match serde_json::from_str(&line) {
            Ok(line) => seen.note(line),
            Err(error) => seen.errors.push(format!("{error} in the client's line {line}")),
        });
    }
    tell.send_modify(|seen| seen.ended = true);
}

async fn pass_on(mut commands: mpsc::UnboundedReceiver<Value>, mut stdin: ChildStdin) {
    while let Some(command) = commands.recv().await {
        if stdin.write_all(format!("{command}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Where the npm packages are, and the scripts that run them.
pub(crate) fn js_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("js")
}
