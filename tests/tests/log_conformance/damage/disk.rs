//! A disk that is full, on a small file system of its own where that can be had.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use bayeux::{ClientId, Offset, Snapshot};
use halley::event::Tenant;
use halley::log::{self, LogError, Opened, SessionRecord, Settings};
use tempfile::TempDir;

use crate::it::{everyone, file, settings};

const MIB: u64 = 1 << 20;

/// A file system in memory. It is unmounted when this is dropped.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn mount(size: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path());
        let mounted = mount
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: mounting a small file system needs root"
            );
        }
        mounted.then_some(Self { folder })
    }

    fn open(&self, min_free_bytes: u64) -> Opened {
        let settings = Settings {
            min_free_bytes,
            ..settings()
        };
        log::open(&format!("file:{}", self.log().display()), &settings).expect("the log opens")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Takes so much space that `left` bytes are free.
    fn fill(&self, left: u64) -> PathBuf {
        let state = rustix::fs::statvfs(self.folder.path()).expect("the file system");
        let path = self.folder.path().join("ballast");
        let ballast = state.f_bavail * state.f_frsize - left;
        fs::write(&path, vec![1; usize::try_from(ballast).expect("a small disk")])
            .expect("room for the ballast");
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_events_are_refused_and_session_records_are_not() {
    let it = file(Settings {
        min_free_bytes: u64::MAX,
        ..settings()
    });
    let refused = it.log().append(vec![everyone("/a", "1")]).await;
    assert!(
        matches!(&refused, Err(LogError::Full(why)) if why.contains(&u64::MAX.to_string())),
        "{refused:?}"
    );
    assert_eq!(it.bounds(), (1, 0));
    let id = ClientId::new("abc");
    it.sessions()
        .checkpoint(&id, Offset(1), SystemTime::now())
        .await
        .expect("still stored");
    it.sessions().remove(&id).await.expect("still stored");
    it.log().retain(SystemTime::now()).await.expect("still works");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_takes_events_again_when_space_returns() {
    let Some(disk) = Disk::mount(128 * MIB) else {
        return;
    };
    let Opened { log, sessions, .. } = disk.open(32 * MIB);
    log.append(vec![everyone("/a", "1")])
        .await
        .expect("there is space");
    let ballast = disk.fill(16 * MIB);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let refused = log.append(vec![everyone("/a", "2")]).await;
    assert!(matches!(refused, Err(LogError::Full(_))), "{refused:?}");
    sessions
        .checkpoint(&ClientId::new("abc"), Offset(1), SystemTime::now())
        .await
        .expect("stored");
    fs::remove_file(ballast).expect("removed");
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(
        log.append(vec![everyone("/a", "3")]).await.expect("stored")[0].offset,
        Offset(2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_stops_the_log_and_loses_nothing() {
    let Some(disk) = Disk::mount(128 * MIB) else {
        return;
    };
    let opened = disk.open(0);
    let ballast = disk.fill(4 * MIB);
    let stopped = opened.log.stopped();
    let (acknowledged, error) = write_until_it_fails(&opened).await;
    assert!(matches!(error, LogError::Stopped(_)), "{error}");
    tokio::time::timeout(Duration::from_secs(5), stopped)
        .await
        .expect("everyone is told");
    assert_eq!(opened.log.bounds().last, acknowledged);
    fs::remove_file(ballast).expect("removed");
    let refused = opened.log.append(vec![everyone("/a", "1")]).await;
    assert!(
        matches!(refused, Err(LogError::Stopped(_))),
        "it does not heal by itself"
    );
    drop(opened);
    assert!(last_after_restart(&disk.log()) >= acknowledged);
}

/// Writes until the disk is full. Events are refused a little before, when the next one would not fit; session records
/// are not, and so it is one of them that fails.
async fn write_until_it_fails(opened: &Opened) -> (Offset, LogError) {
    let data = format!("\"{}\"", "x".repeat(10_000));
    let mut last = Offset::START;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        match opened.log.append(vec![everyone("/a", &data)]).await {
            Ok(positions) => last = positions[0].offset,
            Err(LogError::Full(_)) => {}
            Err(error) => return (last, error),
        }
        let large = Snapshot {
            subscriptions: Vec::new(),
            cursor: last,
            extensions: vec![data.as_str().into()],
            replays: 0,
            ..Snapshot::default()
        };
        if let Err(error) = opened.sessions.put(record(opened, large)).await {
            return (last, error);
        }
    }
    panic!("the disk never became full")
}

fn record(opened: &Opened, state: Snapshot) -> SessionRecord {
    SessionRecord {
        client_id: ClientId::new("abc"),
        user: None,
        roles: [].into(),
        tenant: Tenant::default(),
        token: None,
        browser: None,
        epoch: opened.log.epoch().clone(),
        state,
        seen: SystemTime::now(),
        node: None,
        fence: 0,
    }
}

fn last_after_restart(folder: &Path) -> Offset {
    let opened = log::open(&format!("file:{}", folder.display()), &settings()).expect("the log opens");
    opened.log.bounds().last
}
