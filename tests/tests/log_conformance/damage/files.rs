//! Files that are not as they were left.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use halley::log::{LogError, Opened};

use crate::it::{It, anybody, everyone, file, offsets, settings};

/// A closed log of ten commits, its newest journal, and where the last commit begins and ends in it.
struct Closed {
    it: It,
    journal: PathBuf,
    bytes: Vec<u8>,
    nine: usize,
    ten: usize,
}

async fn closed() -> Closed {
    let mut it = file(settings());
    let journal = newest_journal(it.path());
    for n in 0..9 {
        it.append([everyone("/a", &format!("\"event {n}\""))]).await;
    }
    it.close();
    let nine = end(&fs::read(&journal).expect("the journal"));
    let witness = fs::read(it.path().join("last-durable")).expect("the witness");
    it.restart();
    let journal = newest_journal(it.path());
    it.append([everyone("/a", "\"the last one\"")]).await;
    it.close();
    let bytes = fs::read(&journal).expect("the journal");
    let ten = end(&bytes);
    // As it is when a crash comes before the tenth was acknowledged.
    fs::write(it.path().join("last-durable"), witness).expect("written");
    Closed {
        it,
        journal,
        bytes,
        nine,
        ten,
    }
}

fn newest_journal(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder)
        .expect("the folder")
        .map(|file| file.expect("a file").path());
    files
        .filter(|path| path.extension().is_some_and(|is| is == "jnl"))
        .max()
        .expect("a journal")
}

/// Where the zeros begin that a journal is filled up with.
fn end(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

impl Closed {
    fn open_with(&self, bytes: &[u8]) -> Result<Opened, LogError> {
        fs::write(&self.journal, bytes).expect("written");
        self.it.try_open()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_commit_at_the_end_is_cut_off_and_the_rest_is_there() {
    let mut closed = closed().await;
    for cut in (closed.nine..closed.ten).step_by(7) {
        for zeros in [false, true] {
            let mut bytes = closed.bytes[..cut].to_vec();
            bytes.resize(if zeros { closed.bytes.len() } else { cut }, 0);
            drop(closed.open_with(&bytes).expect("the log opens"));
            closed.it.restart();
            assert_eq!(closed.it.bounds(), (1, 9), "cut at {cut}");
            let read = closed.it.read(anybody(&["/a"]), 0).await;
            assert_eq!(offsets(&read.events), (1..=9).collect::<Vec<_>>());
            closed.it.close();
        }
    }
    closed.it.restart();
    assert_eq!(closed.it.append([everyone("/a", "1")]).await, [10]);
    closed.it.restart();
    assert_eq!(closed.it.bounds(), (1, 10));
}

/// Damage is found by checksum, or by what is missing; in no case does the log go on as if nothing had happened.
#[tokio::test(flavor = "multi_thread")]
async fn damage_before_the_end_is_never_passed_over_in_silence() {
    let closed = closed().await;
    for place in (0..closed.nine).step_by(7) {
        let mut bytes = closed.bytes.clone();
        bytes[place] ^= 0x55;
        match closed.open_with(&bytes) {
            Err(LogError::Unusable(_)) => {}
            Err(error) => panic!("byte {place}: {error}"),
            Ok(opened) => assert_eq!(opened.log.bounds().last.0, 10, "byte {place} is not damage"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_ends_before_what_was_acknowledged_stops_the_start() {
    let mut it = file(settings());
    it.append([everyone("/a", "1"), everyone("/a", "2")]).await;
    it.append([everyone("/a", "3")]).await;
    it.close();
    let journal = newest_journal(it.path());
    let bytes = fs::read(&journal).expect("the journal");
    fs::write(&journal, &bytes[..end(&bytes) - 3]).expect("written");
    let Err(error) = it.try_open() else {
        panic!("an acknowledged event is missing")
    };
    assert!(
        error
            .to_string()
            .contains("ends with offset 2, but 3 was acknowledged"),
        "{error}"
    );
    fs::remove_file(it.path().join("last-durable")).expect("removed");
    it.restart();
    assert_eq!(it.bounds(), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_no_log_is_refused() {
    let it = file(settings());
    let other = tempfile::NamedTempFile::new().expect("a file");
    let url = format!("file:{}", other.path().display());
    assert!(matches!(
        halley::log::open(&url, &it.settings),
        Err(LogError::Unusable(_))
    ));
    assert!(matches!(
        halley::log::open("file:", &it.settings),
        Err(LogError::Unusable(_))
    ));
    assert!(matches!(
        halley::log::open("tape:", &it.settings),
        Err(LogError::Unusable(_))
    ));
}

/// What looks like the end of a crash may be the middle of a commit of the process that has the log open.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_leaves_the_files_of_the_first_alone() {
    let it = file(settings());
    it.append([everyone("/a", "1")]).await;
    let journal = newest_journal(it.path());
    let end = end(&fs::read(&journal).expect("the journal")) as u64;
    let half_a_commit = fs::OpenOptions::new()
        .write(true)
        .open(&journal)
        .expect("the journal");
    half_a_commit.write_all_at(&[1; 100], end).expect("written");
    let length = half_a_commit.metadata().expect("the journal").len();
    assert!(it.try_open().is_err());
    assert_eq!(half_a_commit.metadata().expect("the journal").len(), length);
    assert_eq!(it.append([everyone("/a", "2")]).await, [2]);
}
