//! What the log knows of itself: its format, its identity, and which keyspaces are its buckets.
//!
//! | key | value |
//! |---|---|
//! | `format` | the version of everything here, u32 |
//! | `epoch`, `secret` | made with the log, never changed |
//! | `events`, `0`, first offset (u64) | when this bucket of events was begun, milliseconds |
//! | `ids`, `0`, number (u64) | when this bucket of event ids was begun, milliseconds |
//!
//! An entry is written in the commit that puts something into its bucket for the first time, after the keyspace was
//! made; and removed in a commit before the keyspace is deleted. So an entry without a keyspace is damage, and a
//! keyspace without an entry is what a crash left between the two.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};

use super::{keys, tuning, unusable};
use crate::log::{Epoch, LogError, random_epoch, random_secret};

/// The version that this code writes, and the newest that it reads.
const FORMAT: u32 = 2;
const NAME: &str = "log";

/// A kind of bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Events,
    Ids,
}

pub(super) struct Catalogue {
    entries: Keyspace,
    pub(super) epoch: Epoch,
    pub(super) secret: Bytes,
}

/// A bucket as it was found.
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) created: SystemTime,
    pub(super) keyspace: Keyspace,
}

impl Catalogue {
    /// Reads the identity of the log, or gives it one if it is new.
    pub(super) fn open(db: &Database) -> Result<Self, LogError> {
        let is_new = db.keyspace_count() == 0;
        let entries = db.keyspace(NAME, tuning::small).map_err(unusable)?;
        let Some(format) = entries.get("format").map_err(unusable)? else {
            let empty = is_new || (db.keyspace_count() == 1 && entries.is_empty().map_err(unusable)?);
            return if empty {
                Self::create(db, entries)
            } else {
                Err(damaged("it has no format version"))
            };
        };
        match format[..].try_into().map(u32::from_be_bytes) {
            Ok(FORMAT) => {}
            Ok(newer) if newer > FORMAT => {
                let text = format!(
                    "the log has format {newer}, and this version knows {FORMAT}: a newer one wrote it"
                );
                return Err(LogError::Unusable(text.into()));
            }
            Ok(older) if older > 0 => {
                let text = format!(
                    "the log has format {older}, and this version knows {FORMAT}: a version before the first release wrote \
                     it. Move the folder away and start anew"
                );
                return Err(LogError::Unusable(text.into()));
            }
            Ok(_) | Err(_) => return Err(damaged("its format version is none")),
        }
        let text = |key| -> Result<Bytes, LogError> {
            let value = entries.get(key).map_err(unusable)?;
            value
                .map(Bytes::from)
                .ok_or_else(|| damaged(&format!("it has no {key}")))
        };
        let epoch = String::from_utf8(text("epoch")?.into()).map_err(|_| damaged("its epoch is no text"))?;
        let secret = text("secret")?;
        Ok(Self {
            entries,
            epoch: Epoch(epoch.into()),
            secret,
        })
    }

    fn create(db: &Database, entries: Keyspace) -> Result<Self, LogError> {
        let (epoch, secret) = (random_epoch()?, random_secret()?);
        let mut batch = db.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&entries, "format", FORMAT.to_be_bytes());
        batch.insert(&entries, "epoch", epoch.0.as_bytes());
        batch.insert(&entries, "secret", secret.clone());
        batch.commit().map_err(unusable)?;
        Ok(Self {
            entries,
            epoch,
            secret,
        })
    }

    /// The buckets of one kind, oldest first. Deletes the keyspaces that a crash left behind after they were struck out.
    ///
    /// A keyspace that was made and never entered stays and is used for the bucket of that number. It must not be
    /// deleted: it is the newest of all, and fjall 3.1 would give its number to the next one after a restart, and then
    /// find the marks of the deletion on it.
    pub(super) fn buckets(&self, db: &Database, kind: Kind) -> Result<Vec<Found>, LogError> {
        let mut buckets = Vec::new();
        for entry in self.entries.prefix(kind.prefix()) {
            let (key, value) = entry.into_inner().map_err(unusable)?;
            let (Some(number), Some(millis)) = (key.last_chunk().copied(), keys::number(&value)) else {
                return Err(damaged("an entry of its catalogue is none"));
            };
            let number = u64::from_be_bytes(number);
            let name = kind.keyspace(number);
            if !db.keyspace_exists(&name) {
                return Err(damaged(&format!("{name} is missing")));
            }
            let keyspace = db.keyspace(&name, || kind.options()).map_err(unusable)?;
            buckets.push(Found {
                number,
                created: UNIX_EPOCH + Duration::from_millis(millis),
                keyspace,
            });
        }
        let newest = buckets.last().map_or(0, |bucket| bucket.number);
        for name in db.list_keyspace_names() {
            let number = name
                .strip_prefix(kind.stem())
                .and_then(|number| number.parse::<u64>().ok());
            let is_entered = buckets.iter().any(|bucket| Some(bucket.number) == number);
            if number.is_some_and(|number| number < newest) && !is_entered {
                tracing::info!(keyspace = &*name, "deleting a bucket that was struck out");
                let keyspace = db.keyspace(&name, || kind.options()).map_err(unusable)?;
                db.delete_keyspace(keyspace).map_err(unusable)?;
            }
        }
        Ok(buckets)
    }

    /// Makes a keyspace and enters it.
    pub(super) fn begin(
        &self,
        db: &Database,
        batch: &mut OwnedWriteBatch,
        kind: Kind,
        number: u64,
        created: SystemTime,
    ) -> fjall::Result<Keyspace> {
        let keyspace = db.keyspace(&kind.keyspace(number), || kind.options())?;
        let millis = created.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        batch.insert(&self.entries, kind.entry(number), millis.to_be_bytes());
        Ok(keyspace)
    }

    /// Strikes out a bucket. Its keyspace may be deleted when this is committed.
    pub(super) fn strike(&self, batch: &mut OwnedWriteBatch, kind: Kind, number: u64) {
        batch.remove(&self.entries, kind.entry(number));
    }
}

impl Kind {
    fn stem(self) -> &'static str {
        match self {
            Self::Events => "events-",
            Self::Ids => "ids-",
        }
    }

    fn keyspace(self, number: u64) -> String {
        format!("{}{number}", self.stem())
    }

    fn options(self) -> fjall::KeyspaceCreateOptions {
        match self {
            Self::Events => tuning::events(),
            Self::Ids => tuning::small(),
        }
    }

    fn prefix(self) -> Vec<u8> {
        let name = self.stem().trim_end_matches('-');
        [name.as_bytes(), &[0]].concat()
    }

    fn entry(self, number: u64) -> Vec<u8> {
        [&self.prefix()[..], &number.to_be_bytes()].concat()
    }
}

pub(super) fn damaged(what: &str) -> LogError {
    LogError::Unusable(Arc::from(format!("the log is damaged: {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let db = tuning::open(folder.path()).unwrap();
        let catalogue = Catalogue::open(&db).unwrap();
        catalogue
            .entries
            .insert("format", (FORMAT + 1).to_be_bytes())
            .unwrap();
        let Err(error) = Catalogue::open(&db) else {
            panic!("it was opened")
        };
        assert!(error.to_string().contains("a newer one wrote it"), "{error}");
    }

    #[test]
    fn a_bucket_that_was_struck_out_is_deleted_and_one_that_was_not_entered_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let db = tuning::open(folder.path()).unwrap();
        let catalogue = Catalogue::open(&db).unwrap();
        let mut batch = db.batch();
        for number in 1..=2 {
            catalogue
                .begin(&db, &mut batch, Kind::Ids, number, UNIX_EPOCH)
                .unwrap();
        }
        catalogue.strike(&mut batch, Kind::Ids, 1);
        batch.commit().unwrap();
        catalogue
            .begin(&db, &mut db.batch(), Kind::Ids, 3, UNIX_EPOCH)
            .unwrap();
        let numbers = catalogue
            .buckets(&db, Kind::Ids)
            .unwrap()
            .into_iter()
            .map(|found| found.number);
        assert_eq!(numbers.collect::<Vec<_>>(), [2]);
        assert!(!db.keyspace_exists("ids-1") && db.keyspace_exists("ids-3"));
    }

    #[test]
    fn a_bucket_that_is_missing_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let db = tuning::open(folder.path()).unwrap();
        let catalogue = Catalogue::open(&db).unwrap();
        let mut batch = db.batch();
        let keyspace = catalogue
            .begin(&db, &mut batch, Kind::Events, 1, UNIX_EPOCH)
            .unwrap();
        batch.commit().unwrap();
        db.delete_keyspace(keyspace).unwrap();
        assert!(catalogue.buckets(&db, Kind::Events).is_err());
    }
}
