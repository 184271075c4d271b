//! A publisher in a process of its own, so that it can be killed and deceived.
//!
//! The process is this test program again, told to run [`a_publisher`] only.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use bayeux::Offset;
use halley::log::{self, Limit, Settings};

use crate::it::{anybody, everyone, file, offsets, settings};

const FOLDER: &str = "HALLEY_TEST_FOLDER";
const FAIL_SYNC: &str = "HALLEY_TEST_FAIL_SYNC";
const ROUNDS: u64 = 8;

/// Not a test: what the child process does. It appends without end and says what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a child process of other tests"]
async fn a_publisher() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    // Small buckets and large events, so that a kill also hits the change of buckets, tables and journals.
    let opened = log::open(&format!("file:{folder}"), &small_buckets()).expect("the log opens");
    let data = format!("\"{}\"", "x".repeat(4000));
    let mut out = std::io::stdout();
    for n in 0.. {
        let outcome = opened
            .log
            .append((0..=n % 20).map(|_| everyone("/a", &data)).collect())
            .await;
        let said = match outcome {
            Ok(positions) => writeln!(out, "ok {}", positions[positions.len() - 1].offset),
            Err(error) => writeln!(out, "error {error}"),
        };
        if said.is_err() {
            return;
        }
    }
}

fn small_buckets() -> Settings {
    Settings {
        retention_bytes: 16 << 20,
        ..settings()
    }
}

struct Publisher {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Publisher {
    fn start(folder: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([
            "--exact",
            "damage::child::a_publisher",
            "--ignored",
            "--nocapture",
        ]);
        command
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        prepare(&mut command);
        let mut process = command.spawn().expect("this program starts again");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { process, lines }
    }

    /// The next line that begins with a word, without it.
    fn said(&mut self, word: &str) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once(word)?;
            Some(rest.trim().to_owned())
        })
    }

    /// Kills it without a warning, and returns the last offset that it was told.
    fn kill(mut self) -> u64 {
        self.process.kill().expect("killed");
        let last = std::iter::from_fn(|| self.said("ok "))
            .filter_map(|offset| offset.parse().ok())
            .last();
        self.process.wait().expect("it ended");
        last.unwrap_or(0)
    }
}

/// Everything is there, in order, up to at least what was acknowledged.
async fn check(folder: &Path, acknowledged: u64) {
    let opened = log::open(&format!("file:{}", folder.display()), &small_buckets()).expect("the log opens");
    let last = opened.log.bounds().last.0;
    assert!(
        last >= acknowledged,
        "{acknowledged} was acknowledged, {last} is the last"
    );
    let limit = Limit {
        events: usize::MAX,
        bytes: usize::MAX,
    };
    let page = opened
        .log
        .read(&anybody(&["/a"]), Offset(0), limit)
        .await
        .expect("the log can be read");
    assert_eq!(offsets(&page.events), (1..=last).collect::<Vec<_>>());
    assert!(page.events.iter().all(|event| event.size() > 4000));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut publisher = Publisher::start(folder.path(), |_| {});
        publisher.said("ok ").expect("it publishes");
        // Another moment of the commit in every round.
        tokio::time::sleep(Duration::from_micros(170_000 + 37_411 * round)).await;
        acknowledged = publisher.kill().max(acknowledged);
        check(folder.path(), acknowledged).await;
    }
    assert!(acknowledged > 100, "the publisher was at work");
}

/// Makes `fdatasync` and `fsync` fail with EIO as soon as a file is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) { const char *path = getenv("HALLEY_TEST_FAIL_SYNC"); return path && access(path, F_OK) == 0; }
#define SYNC(name) int name(int fd) { \
    if (fails()) { errno = EIO; return -1; } \
    return ((int (*)(int)) dlsym(RTLD_NEXT, #name))(fd); }
SYNC(fdatasync)
SYNC(fsync)
"#;

/// A library for `LD_PRELOAD`, if there is a C compiler.
fn build_shim(folder: &Path) -> Option<std::path::PathBuf> {
    let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&source, SHIM).ok()?;
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_never_acknowledged_and_never_repeated() {
    let (folder, tools) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let Some(shim) = build_shim(tools.path()) else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: there is no C compiler to build the library that fails to sync"
        );
        return;
    };
    let trigger = tools.path().join("fail");
    let mut publisher = Publisher::start(folder.path(), |command| {
        command.env("LD_PRELOAD", &shim).env(FAIL_SYNC, &trigger);
    });
    publisher.said("ok ").expect("it publishes");
    std::fs::write(&trigger, "").expect("the disk fails from here");
    let error = publisher.said("error").expect("it hears of it");
    assert!(error.contains("the log has stopped"), "{error}");
    std::fs::remove_file(&trigger).expect("the disk works again");
    for _ in 0..100 {
        let line = publisher.lines.next().expect("it goes on trying").expect("text");
        assert!(
            line.starts_with("error "),
            "nothing is accepted until a restart: {line}"
        );
    }
    let acknowledged = publisher.kill();
    assert_eq!(acknowledged, 0, "nothing is accepted until a restart");
    let it = file(settings());
    drop(it);
    check(folder.path(), 1).await;
}
