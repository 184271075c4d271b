//! Remembers, outside of the database, how far it was durable.
//!
//! The journal is cut at the first entry that cannot be read, as it must be: a crash leaves half a commit at its end.
//! But damage further ahead looks the same, and cutting there would lose events that publishers were told are stored.
//! So the last durable offset is also in a file of its own, written after each sync and never synced itself. It may
//! lag behind after a power failure and then proves less, but it is never ahead: if the database ends before it,
//! acknowledged events are missing, and that is said instead of going on without them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bayeux::Offset;

use super::catalogue::damaged;
use crate::log::LogError;

const NAME: &str = "last-durable";

pub(super) struct Witness {
    file: File,
    path: PathBuf,
}

impl Witness {
    pub(super) fn open(folder: &Path) -> Result<Self, LogError> {
        let path = folder.join(NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file =
            file.map_err(|error| LogError::Unusable(format!("cannot open {path:?}: {error}").into()))?;
        Ok(Self { file, path })
    }

    /// Refuses a database that ends before what was acknowledged.
    pub(super) fn check(&self, last: Offset) -> Result<(), LogError> {
        let mut bytes = [0; size_of::<u64>()];
        let seen = match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Offset(u64::from_be_bytes(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Offset::START,
            Err(error) => {
                return Err(LogError::Unusable(
                    format!("cannot read {:?}: {error}", self.path).into(),
                ));
            }
        };
        if last >= seen {
            return Ok(());
        }
        Err(damaged(&format!(
            "it ends with offset {last}, but {seen} was acknowledged; restore it, or remove {:?} to go on without them",
            self.path
        )))
    }

    /// Everything up to `last` is durable.
    pub(super) fn record(&self, last: Offset) -> io::Result<()> {
        self.file.write_all_at(&last.0.to_be_bytes(), 0)
    }
}
