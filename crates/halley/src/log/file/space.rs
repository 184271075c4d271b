//! Free space on the disk, asked for seldom enough to cost nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::log::LogError;

/// An answer of the file system is good for this long …
const GOOD_FOR: Duration = Duration::from_millis(100);
/// … or until this much was written.
const GOOD_FOR_BYTES: u64 = 8 << 20;

pub(super) struct Space {
    path: PathBuf,
    min: u64,
    answer: Option<Answer>,
}

struct Answer {
    when: Instant,
    free: u64,
    written: u64,
}

impl Space {
    pub(super) fn new(path: PathBuf, min: u64) -> Self {
        Self {
            path,
            min,
            answer: None,
        }
    }

    /// Whether `bytes` more may be written.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> Result<(), LogError> {
        let answer = match &mut self.answer {
            Some(answer) if answer.is_good(now) => answer,
            stale => stale.insert(Answer {
                when: now,
                free: free(&self.path)?,
                written: 0,
            }),
        };
        let free = answer.free.saturating_sub(answer.written);
        if free < self.min.saturating_add(bytes) {
            let min = self.min;
            return Err(LogError::Full(
                format!("the disk has {free} bytes left, less than the {min} that are kept free").into(),
            ));
        }
        answer.written += bytes;
        Ok(())
    }
}

impl Answer {
    fn is_good(&self, now: Instant) -> bool {
        now.duration_since(self.when) < GOOD_FOR && self.written < GOOD_FOR_BYTES
    }
}

fn free(path: &PathBuf) -> Result<u64, LogError> {
    let state = rustix::fs::statvfs(path).map_err(|error| {
        LogError::Unusable(format!("cannot tell the free space of {path:?}: {error}").into())
    })?;
    Ok(state.f_bavail.saturating_mul(state.f_frsize))
}
