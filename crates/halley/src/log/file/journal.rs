//! Looks through the journals before fjall does.
//!
//! A crash may leave part of a commit at the end of the newest journal, with zeros or old bytes between, since the file
//! is made larger in advance. fjall cuts that off when it happens to look like an end, and refuses to start when it
//! looks like damage; and it takes some damage in the middle for an end. So the decision is made here, by checksum:
//!
//! - the newest journal is cut behind its last whole commit, and what is cut off is kept beside it;
//! - in an older one, everything up to the zeros at its end must be whole, or the log is damaged;
//! - no checksum covers the sequence numbers, and of two values the one with the greater number wins: they must rise.
//!
//! Whether what was cut off had been acknowledged is for the [witness](super::witness) to say.
//!
//! Format 3 of fjall's journal, little-endian: `1`, number of items (u32), sequence number (u64); items; `3`, XXH3 of
//! the items (u64), a magic word. An item is `2`, type (u8), compression (u8), keyspace (u64), length of the key (u16),
//! of the value (u32) and of the value as stored (u32), key, value; or `4`, keyspace (u64) for one that was cleared.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::catalogue::damaged;
use crate::log::LogError;

const VERSION: &[u8] = b"FJL\x03";
const MAGIC: &[u8] = b"FJL\x03";
const CHUNK: usize = 64 * 1024;

/// Makes the journals in a folder such that they can be opened, or says why not. Nobody else may have them open.
pub(super) fn mend(folder: &Path) -> Result<(), LogError> {
    // Another version has another format: fjall refuses it itself.
    if fs::read(folder.join("version")).ok().as_deref() != Some(VERSION) {
        return Ok(());
    }
    let failed = |error: io::Error| {
        LogError::Unusable(format!("cannot read the journal in {folder:?}: {error}").into())
    };
    let mut journals = journals(folder).map_err(failed)?;
    let newest = journals.pop();
    for journal in &journals {
        let found = look_through(journal).map_err(failed)?;
        if found.rest > 0 {
            return Err(damaged(&format!(
                "{journal:?} is not whole at byte {}",
                found.whole
            )));
        }
    }
    if let Some(journal) = newest {
        let found = look_through(&journal).map_err(failed)?;
        if found.rest > 0 {
            cut(&journal, &found).map_err(failed)?;
        }
    }
    Ok(())
}

/// The journals, oldest first.
fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let (Some(number), true) = (
            number,
            path.extension().is_some_and(|extension| extension == "jnl"),
        ) {
            numbered.push((number, path));
        }
    }
    numbered.sort_unstable();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// What a journal has: bytes of whole commits, and after them bytes up to the last that is not zero.
struct Found {
    whole: u64,
    rest: u64,
}

fn look_through(journal: &Path) -> io::Result<Found> {
    let mut reader = Reader {
        file: BufReader::with_capacity(CHUNK, File::open(journal)?),
        place: 0,
    };
    let (mut whole, mut last) = (0, None);
    while let Some(sequence) = reader.commit()? {
        if last.is_some_and(|last| sequence <= last) {
            let text = format!("sequence numbers do not rise at byte {whole}");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        last = Some(sequence);
        whole = reader.place;
    }
    let mut file = reader.file;
    file.seek(SeekFrom::Start(whole))?;
    let (mut rest, mut place) = (0, 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok(Found { whole, rest });
        }
        if let Some(last) = chunk[..length].iter().rposition(|byte| *byte != 0) {
            rest = place + last as u64 + 1;
        }
        place += length as u64;
    }
}

fn cut(journal: &Path, found: &Found) -> io::Result<()> {
    let kept = journal.with_extension(format!("cut-at-{}", found.whole));
    tracing::warn!(
        ?journal,
        bytes = found.rest,
        ?kept,
        "cutting off a commit that a crash has left unfinished"
    );
    let mut file = OpenOptions::new().read(true).write(true).open(journal)?;
    file.seek(SeekFrom::Start(found.whole))?;
    let mut copy = File::create(&kept)?;
    io::copy(&mut (&mut file).take(found.rest), &mut copy)?;
    copy.sync_all()?;
    file.set_len(found.whole)?;
    file.sync_all()
}

struct Reader {
    file: BufReader<File>,
    place: u64,
}

impl Reader {
    /// Reads a commit: its sequence number, if it is whole.
    fn commit(&mut self) -> io::Result<Option<u64>> {
        match self.checked_commit() {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            outcome => outcome,
        }
    }

    fn checked_commit(&mut self) -> io::Result<Option<u64>> {
        let [tag] = self.take()?;
        let count = u32::from_le_bytes(self.take()?);
        let sequence = u64::from_le_bytes(self.take()?);
        if tag != 1 {
            return Ok(None);
        }
        let mut sum = Xxh3::new();
        for _ in 0..count {
            if !self.item(&mut sum)? {
                return Ok(None);
            }
        }
        let [tag, expected @ .., a, b, c, d] = self.take::<13>()?;
        let is_whole = tag == 3 && u64::from_le_bytes(expected) == sum.digest() && [a, b, c, d] == *MAGIC;
        Ok(is_whole.then_some(sequence))
    }

    fn item(&mut self, sum: &mut Xxh3) -> io::Result<bool> {
        let [tag] = self.take()?;
        sum.update(&[tag]);
        match tag {
            2 => {
                let head = self.take::<20>()?;
                sum.update(&head);
                let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = head;
                let length =
                    u64::from(u16::from_le_bytes([k0, k1])) + u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
                self.sum(length, sum)?;
                Ok(true)
            }
            4 => {
                sum.update(&self.take::<8>()?);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.place += N as u64;
        Ok(bytes)
    }

    fn sum(&mut self, mut length: u64, sum: &mut Xxh3) -> io::Result<()> {
        let mut chunk = [0; 4096];
        while length > 0 {
            let part = &mut chunk[..usize::try_from(length).map_or(4096, |length| length.min(4096))];
            self.file.read_exact(part)?;
            sum.update(part);
            self.place += part.len() as u64;
            length -= part.len() as u64;
        }
        Ok(())
    }
}
