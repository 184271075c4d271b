//! Stock npm CometD clients in pages of a headless Chromium.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::node::js_folder;
use crate::seen::Line;
use crate::{Application, Client, Seen, say};

/// Where Debian puts it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// What a freshly installed browser is: no cookies, nothing stored. Dropping it closes its pages.
pub struct Profile {
    browser: &'static Browser,
    number: u64,
}

/// A page with a running client. When a test is failing, what it logged is printed.
pub struct Page {
    application: Application,
    browser: &'static Browser,
    number: u64,
}

/// One Chromium for all tests of a process: starting it takes longer than most of them. It ends with the process, which
/// closes its stdin.
struct Browser {
    stdin: Mutex<ChildStdin>,
    pages: Arc<Mutex<Pages>>,
    next: AtomicU64,
    log: File,
}

type Pages = HashMap<u64, watch::Sender<Seen>>;

/// A line that `browser.mjs` writes.
#[derive(Deserialize)]
struct OfPage {
    page: u64,
    #[serde(flatten)]
    line: Line,
}

/// What `report.mjs` says of a file that Chromium has opened. `None`, with the reason printed, where that is not possible.
pub fn read_page(file: &Path) -> Option<Vec<u8>> {
    if let Err(reason) = is_possible() {
        say(format_args!("skipped: {reason}"));
        return None;
    }
    let output = Command::new("node")
        .arg(js_folder().join("report.mjs"))
        .arg(CHROMIUM)
        .arg(file)
        .output()
        .expect("node starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "report.mjs failed: {complaint}");
    Some(output.stdout)
}

fn is_possible() -> Result<(), String> {
    if !js_folder().join("node_modules/playwright-core").is_dir() {
        return Err("no npm packages; run `npm ci` in tests/js".to_owned());
    }
    if !Path::new(CHROMIUM).exists() {
        return Err(format!("there is no {CHROMIUM}"));
    }
    Ok(())
}

impl Profile {
    /// A fresh one. `None`, with the reason printed, where Chromium, Node or the npm packages are missing.
    pub fn new() -> Option<Profile> {
        static BROWSER: LazyLock<Result<Browser, String>> = LazyLock::new(Browser::start);
        match &*BROWSER {
            Ok(browser) => Some(Profile {
                browser,
                number: browser.number(),
            }),
            Err(reason) => {
                say(format_args!("skipped: {reason}"));
                None
            }
        }
    }

    /// Opens a page of the web server at `origin`, as `127.0.0.1:8080`, with this client, which handshakes at once.
    pub fn open(&self, origin: impl Display, client: &Client) -> Page {
        let (browser, number) = (self.browser, self.browser.number());
        let (tell, seen) = watch::channel(Seen::default());
        browser.pages.lock().insert(number, tell);
        let options: HashMap<_, _> = client.options().into_iter().collect();
        browser.send(json!({
            "page": number,
            "open": format!("http://{origin}/page.html"),
            "profile": self.number,
            "options": options,
        }));
        let name = format!("{} in page {number}", client.name());
        let application = Application::new(name, seen, move |mut command| {
            command["page"] = json!(number);
            browser.send(command);
        });
        Page {
            application,
            browser,
            number,
        }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.browser.send(json!({ "close": self.number }));
    }
}

impl Page {
    /// Loads the page again, as a person does, and waits until it is there.
    pub async fn reload(&self) {
        let loads = self.seen().loads;
        self.send(json!({ "do": "reload" }));
        self.until("the page", |seen| seen.loads > loads).await;
    }
}

impl Deref for Page {
    type Target = Application;

    fn deref(&self) -> &Application {
        &self.application
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.browser.log_of(self.number);
            say(format_args!(
                "--- {}: {}\n{log}---",
                self.name(),
                self.seen().summary()
            ));
        }
    }
}

impl Browser {
    fn start() -> Result<Browser, String> {
        let folder = js_folder();
        is_possible()?;
        let log = tempfile::tempfile().expect("a temporary file");
        let child = Command::new("node")
            .arg(folder.join("browser.mjs"))
            .arg(CHROMIUM)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().expect("a second handle of the log file"))
            .spawn();
        let mut child = child.map_err(|error| format!("node does not start: {error}"))?;
        let stdin = Mutex::new(child.stdin.take().expect("stdin is piped"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let pages = Arc::<Mutex<Pages>>::default();
        // A thread, since each test has a runtime that ends with it.
        let listening = Arc::clone(&pages);
        std::thread::spawn(move || listen(stdout, &listening));
        Ok(Browser {
            stdin,
            pages,
            next: AtomicU64::new(1),
            log,
        })
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn send(&self, command: Value) {
        // A browser that has ended takes no more commands: whoever waits for their effect hears of it.
        let _ = self.stdin.lock().write_all(format!("{command}\n").as_bytes());
    }

    /// What a page logged, and what is about the whole browser.
    fn log_of(&self, page: u64) -> String {
        let length = self.log.metadata().map_or(0, |metadata| metadata.len());
        let mut log = vec![0; length as usize];
        // Not by reading on: the position in the file belongs to the process that writes it.
        let _ = self.log.read_exact_at(&mut log, 0);
        let others = |line: &&str| {
            line.strip_prefix("page ")
                .and_then(|line| line.split_once(':'))
                .is_some_and(|(number, _)| number != page.to_string())
        };
        let log = String::from_utf8_lossy(&log);
        log.lines()
            .filter(|line| !others(line))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

fn listen(stdout: ChildStdout, pages: &Mutex<Pages>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        match serde_json::from_str::<OfPage>(&line) {
            Ok(OfPage { page, line }) => {
                if let Some(tell) = pages.lock().get(&page) {
                    tell.send_modify(|seen| seen.note(line));
                }
            }
            Err(error) => each(pages, |seen| {
                seen.errors.push(format!("{error} in the browser's line {line}"));
            }),
        }
    }
    each(pages, |seen| seen.ended = true);
}

fn each(pages: &Mutex<Pages>, change: impl Fn(&mut Seen)) {
    pages.lock().values().for_each(|tell| tell.send_modify(&change));
}
