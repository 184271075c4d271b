//! Session records as the writer sees them.
//!
//! | key | value |
//! |---|---|
//! | `r`, client id | the record as JSON |
//! | `m`, client id | its mark: newest cursor, and when it was last seen, in nanoseconds (2 × u64) |
//! | `v`, what is revoked as JSON | the revocation as JSON |
//! | `p`, tenant, 0, user | the revision of who is present (u64), and the entry as JSON |
//! | `n` | the number of records (u64) |
//!
//! A record is written seldom and is large; its mark moves about once a second. There is a mark exactly when there is
//! a record, so the mark alone answers whether there is one.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bayeux::{ClientId, Offset};
use fjall::{Keyspace, OwnedWriteBatch, Snapshot};

use super::catalogue::damaged;
use super::{keys, unusable};
use crate::event::{Tenant, UserId, Whose};
use crate::log::{Attendance, LogError, Present, Revision, Revocation, Revoked, SessionRecord, Wanted};

pub(super) const NAME: &str = "sessions";
const RECORD: u8 = b'r';
const MARK: u8 = b'm';
const REVOCATION: u8 = b'v';
const PRESENCE: u8 = b'p';
const COUNT: &[u8] = b"n";

/// What of a record moves often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) cursor: Offset,
    /// Nanoseconds since 1970.
    pub(super) seen: u64,
}

/// The records, with what the commit that is being built changes.
pub(super) struct Sessions {
    records: Keyspace,
    pending: HashMap<ClientId, Option<Mark>>,
    recent: Recent,
    count: u64,
}

/// Marks that were written lately. Most marks are written again soon, and a look at the old one first would cost as much as
/// writing an event.
#[derive(Default)]
struct Recent {
    marks: HashMap<ClientId, Mark>,
    /// Those of the time before: given up when `marks` is full.
    older: HashMap<ClientId, Mark>,
}

/// Marks in each half of [`Recent`]: a few megabytes.
const RECENT: usize = 1 << 16;

impl Recent {
    fn get(&self, client_id: &ClientId) -> Option<Mark> {
        self.marks
            .get(client_id)
            .or_else(|| self.older.get(client_id))
            .copied()
    }

    fn put(&mut self, client_id: ClientId, mark: Mark) {
        if self.marks.len() == RECENT {
            self.older = std::mem::take(&mut self.marks);
        }
        self.marks.insert(client_id, mark);
    }

    fn forget(&mut self, client_id: &ClientId) {
        self.marks.remove(client_id);
        self.older.remove(client_id);
    }
}

impl Sessions {
    pub(super) fn open(records: Keyspace) -> Result<Self, LogError> {
        let count = match records.get(COUNT).map_err(unusable)? {
            Some(value) => keys::number(&value).ok_or_else(|| damaged("the number of sessions is none"))?,
            None => 0,
        };
        Ok(Self {
            records,
            pending: HashMap::new(),
            recent: Recent::default(),
            count,
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn put(&mut self, batch: &mut OwnedWriteBatch, record: Encoded) -> fjall::Result<()> {
        let Encoded {
            client_id,
            mark,
            json,
        } = record;
        if self.mark(&client_id)?.is_none() {
            self.set_count(batch, self.count + 1);
        }
        batch.insert(&self.records, key(RECORD, &client_id), json);
        self.set_mark(batch, client_id, mark);
        Ok(())
    }

    pub(super) fn checkpoint(
        &mut self,
        batch: &mut OwnedWriteBatch,
        client_id: ClientId,
        mark: Mark,
    ) -> fjall::Result<()> {
        if let Some(old) = self.mark(&client_id)? {
            let cursor = mark.cursor.max(old.cursor);
            self.set_mark(
                batch,
                client_id,
                Mark {
                    cursor,
                    seen: mark.seen,
                },
            );
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, batch: &mut OwnedWriteBatch, client_id: ClientId) -> fjall::Result<bool> {
        let is_there = self.mark(&client_id)?.is_some();
        if is_there {
            batch.remove(&self.records, key(RECORD, &client_id));
            batch.remove(&self.records, key(MARK, &client_id));
            self.set_count(batch, self.count.saturating_sub(1));
            self.pending.insert(client_id, None);
        }
        Ok(is_there)
    }

    /// Removes those of `candidates` that are still not seen since. Whoever was seen meanwhile stays.
    pub(super) fn sweep(
        &mut self,
        batch: &mut OwnedWriteBatch,
        candidates: Vec<ClientId>,
        seen: u64,
    ) -> fjall::Result<usize> {
        let mut removed = 0;
        for client_id in candidates {
            if self.mark(&client_id)?.is_some_and(|mark| mark.seen < seen) {
                removed += usize::from(self.remove(batch, client_id)?);
            }
        }
        Ok(removed)
    }

    /// A revocation, or who is present.
    pub(super) fn keep(&self, batch: &mut OwnedWriteBatch, key: Vec<u8>, value: Vec<u8>) {
        batch.insert(&self.records, key, value);
    }

    pub(super) fn drop(&self, batch: &mut OwnedWriteBatch, key: Vec<u8>) {
        batch.remove(&self.records, key);
    }

    /// The commit is in the database.
    pub(super) fn committed(&mut self) {
        for (client_id, mark) in self.pending.drain() {
            match mark {
                Some(mark) => self.recent.put(client_id, mark),
                None => self.recent.forget(&client_id),
            }
        }
    }

    fn mark(&self, client_id: &ClientId) -> fjall::Result<Option<Mark>> {
        if let Some(mark) = self.pending.get(client_id) {
            return Ok(*mark);
        }
        if let Some(mark) = self.recent.get(client_id) {
            return Ok(Some(mark));
        }
        Ok(self
            .records
            .get(key(MARK, client_id))?
            .and_then(|value| Mark::decode(&value)))
    }

    fn set_mark(&mut self, batch: &mut OwnedWriteBatch, client_id: ClientId, mark: Mark) {
        batch.insert(&self.records, key(MARK, &client_id), mark.encode());
        self.pending.insert(client_id, Some(mark));
    }

    fn set_count(&mut self, batch: &mut OwnedWriteBatch, count: u64) {
        self.count = count;
        batch.insert(&self.records, COUNT, count.to_be_bytes());
    }
}

/// A record on its way to the writer.
pub(super) struct Encoded {
    client_id: ClientId,
    mark: Mark,
    json: Vec<u8>,
}

impl Encoded {
    pub(super) fn new(record: &SessionRecord) -> Result<Self, LogError> {
        let mut json = serde_json::to_vec(record).map_err(|error| {
            LogError::Unusable(format!("a session record has no JSON form: {error}").into())
        })?;
        // It stays in memory until it is in a table.
        json.shrink_to_fit();
        let mark = Mark {
            cursor: record.state.cursor,
            seen: nanos(record.seen),
        };
        Ok(Self {
            client_id: record.client_id.clone(),
            mark,
            json,
        })
    }
}

impl Mark {
    fn encode(self) -> Vec<u8> {
        keys::pair(self.cursor.0, self.seen)
    }

    fn decode(value: &[u8]) -> Option<Self> {
        keys::split_pair(value).map(|(cursor, seen)| Self {
            cursor: Offset(cursor),
            seen,
        })
    }
}

/// Reads a record with its newest mark.
pub(super) fn read(
    records: &Keyspace,
    snapshot: &Snapshot,
    client_id: &ClientId,
) -> Result<Option<SessionRecord>, LogError> {
    use fjall::Readable;
    let mark = snapshot.get(records, key(MARK, client_id)).map_err(unusable)?;
    let Some(mark) = mark.as_deref().and_then(Mark::decode) else {
        return Ok(None);
    };
    let Some(json) = snapshot.get(records, key(RECORD, client_id)).map_err(unusable)? else {
        return Ok(None);
    };
    let mut record = decode(&json)?;
    record.state.cursor = mark.cursor;
    record.seen = UNIX_EPOCH + Duration::from_nanos(mark.seen);
    Ok(Some(record))
}

/// The sessions that were last seen before `seen`.
pub(super) fn unseen_since(records: &Keyspace, seen: u64) -> Result<Vec<ClientId>, LogError> {
    let mut found = Vec::new();
    for entry in records.prefix([MARK]) {
        let (key, value) = entry.into_inner().map_err(unusable)?;
        let id = key.get(1..).and_then(|id| std::str::from_utf8(id).ok());
        let (Some(id), Some(mark)) = (id, Mark::decode(&value)) else {
            return Err(damaged("a session's mark is none"));
        };
        if mark.seen < seen {
            found.push(ClientId::new(id));
        }
    }
    Ok(found)
}

/// The sessions whose records are wanted.
pub(super) fn find(records: &Keyspace, wanted: &Wanted) -> Result<Vec<ClientId>, LogError> {
    let mut found = Vec::new();
    for entry in records.prefix([RECORD]) {
        let (_, json) = entry.into_inner().map_err(unusable)?;
        let record = decode(&json)?;
        if wanted(&record) {
            found.push(record.client_id);
        }
    }
    Ok(found)
}

/// Every revocation.
pub(super) fn revocations(records: &Keyspace) -> Result<Vec<Revocation>, LogError> {
    let mut found = Vec::new();
    for entry in records.prefix([REVOCATION]) {
        let (_, json) = entry.into_inner().map_err(unusable)?;
        let revocation = serde_json::from_slice(&json)
            .map_err(|error| damaged(&format!("a revocation is none: {error}")))?;
        found.push(revocation);
    }
    Ok(found)
}

/// Everyone who is present.
pub(super) fn presence(records: &Keyspace) -> Result<Vec<Present>, LogError> {
    let mut found = Vec::new();
    for entry in records.prefix([PRESENCE]) {
        let (key, value) = entry.into_inner().map_err(unusable)?;
        found.push(decode_presence(&key, &value).ok_or_else(|| damaged("who is present is not said"))?);
    }
    Ok(found)
}

fn decode_presence(key: &[u8], value: &[u8]) -> Option<Present> {
    let name = std::str::from_utf8(key.get(1..)?).ok()?;
    let (tenant, user) = name.split_once('\0')?;
    let (revision, json) = value.split_first_chunk()?;
    let whose = Whose {
        tenant: Tenant(tenant.into()),
        user: UserId(user.into()),
    };
    let attendance = serde_json::from_slice(json).ok()?;
    Some((whose, u64::from_be_bytes(*revision), attendance))
}

/// Neither a tenant nor a user has a control character.
pub(super) fn presence_key(whose: &Whose) -> Vec<u8> {
    let (tenant, user) = (whose.tenant.0.as_bytes(), whose.user.0.as_bytes());
    [&[PRESENCE], tenant, &[0], user].concat()
}

pub(super) fn encode_presence(revision: Revision, attendance: &Attendance) -> Result<Vec<u8>, LogError> {
    let json = serde_json::to_vec(attendance).map_err(|error| no_form(&error))?;
    Ok([&revision.to_be_bytes(), json.as_slice()].concat())
}

pub(super) fn encode_revocation(revocation: &Revocation) -> Result<(Vec<u8>, Vec<u8>), LogError> {
    let key = revocation_key(&revocation.what)?;
    Ok((
        key,
        serde_json::to_vec(revocation).map_err(|error| no_form(&error))?,
    ))
}

pub(super) fn revocation_key(what: &Revoked) -> Result<Vec<u8>, LogError> {
    let name = serde_json::to_vec(what).map_err(|error| no_form(&error))?;
    Ok([&[REVOCATION], name.as_slice()].concat())
}

fn no_form(error: &serde_json::Error) -> LogError {
    LogError::Unusable(format!("a record has no JSON form: {error}").into())
}

fn decode(json: &[u8]) -> Result<SessionRecord, LogError> {
    serde_json::from_slice(json).map_err(|error| damaged(&format!("a session record is none: {error}")))
}

pub(super) fn nanos(time: SystemTime) -> u64 {
    let nanos = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn key(kind: u8, client_id: &ClientId) -> Vec<u8> {
    [&[kind], client_id.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::file::tuning;

    #[test]
    fn of_marks_that_were_written_lately_the_newest_counts_and_one_that_was_removed_does_not() {
        let mark = |cursor| Mark {
            cursor: Offset(cursor),
            seen: cursor,
        };
        let (one, other) = (ClientId::new("one"), ClientId::new("other"));
        let mut recent = Recent::default();
        recent.put(one.clone(), mark(1));
        recent.put(other.clone(), mark(1));
        recent.older = std::mem::take(&mut recent.marks);
        recent.put(one.clone(), mark(2));
        recent.forget(&other);
        assert_eq!((recent.get(&one), recent.get(&other)), (Some(mark(2)), None));
    }

    #[test]
    fn who_was_seen_while_a_sweep_searched_stays() {
        let folder = tempfile::tempdir().unwrap();
        let db = tuning::open(folder.path()).unwrap();
        let mut sessions = Sessions::open(db.keyspace(NAME, tuning::small).unwrap()).unwrap();
        let mut batch = db.batch();
        for (id, seen) in [("old", 1), ("woken", 9)] {
            let mark = Mark {
                cursor: Offset(1),
                seen,
            };
            let record = Encoded {
                client_id: ClientId::new(id),
                mark,
                json: b"{}".to_vec(),
            };
            sessions.put(&mut batch, record).unwrap();
        }
        // The search found both; one of them came back before the writer got to it.
        let found = vec![ClientId::new("old"), ClientId::new("woken")];
        assert_eq!(sessions.sweep(&mut batch, found, 5).unwrap(), 1);
        assert_eq!(sessions.count(), 1);
        assert!(sessions.mark(&ClientId::new("woken")).unwrap().is_some());
    }
}
