//! What the nodes keep once for all: the secret of the cookies, revocations, and who sweeps.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tracing::warn;

use super::Core;
use super::bucket::{Bucket, NOTHING};
use crate::log::{LogError, NodeId, Revocation, Revoked, random_secret};

const SECRET: &str = "secret";
const SWEEP: &str = "sweep";
const REVOKED: &str = "revoked";

/// A node that has swept is given this long before another does.
const TURN: u64 = 50;
/// Nobody has swept for this long: the servers were away, or every node was.
const BREAK: u64 = 600;

pub(super) struct Meta {
    core: Arc<Core>,
    bucket: Arc<Bucket>,
    secret: Bytes,
    /// Resolves when what was called last is done.
    last: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Meta {
    pub(super) async fn open(core: Arc<Core>) -> Result<Self, LogError> {
        let bucket = Bucket::open(core.clone(), &core.names.meta_bucket(), Duration::ZERO).await?;
        let secret = secret(&bucket).await?;
        Ok(Self {
            core,
            bucket: Arc::new(bucket),
            secret,
            last: Mutex::default(),
        })
    }

    pub(super) fn secret(&self) -> Bytes {
        self.secret.clone()
    }

    pub(super) fn revoke(&self, revocation: &Revocation) -> BoxFuture<'static, Result<(), LogError>> {
        let written = key(&revocation.what).and_then(|key| Ok((key, json(revocation)?)));
        let bucket = self.bucket.clone();
        self.in_order(async move {
            let (key, data) = written?;
            bucket.overwrite(&key, data).await
        })
    }

    pub(super) fn pardon(&self, what: &Revoked) -> BoxFuture<'static, Result<(), LogError>> {
        let key = key(what);
        let bucket = self.bucket.clone();
        self.in_order(async move { bucket.forget(&key?).await })
    }

    pub(super) fn revocations(&self) -> BoxFuture<'static, Result<Vec<Revocation>, LogError>> {
        let bucket = self.bucket.clone();
        self.in_order(async move {
            let mut found: Vec<Revocation> = Vec::new();
            let mut damaged = None;
            let every = format!("{REVOKED}.*");
            let each = |message: &async_nats::jetstream::Message| match serde_json::from_slice::<Revocation>(
                &message.payload,
            ) {
                Ok(revocation) => {
                    found.retain(|known| known.what != revocation.what);
                    found.push(revocation);
                }
                Err(error) => damaged = Some(error),
            };
            bucket.scan(&every, false, each).await?;
            match damaged {
                // Not to heed one would let somebody in.
                Some(error) => Err(LogError::Unusable(
                    format!("a revocation is none: {error}").into(),
                )),
                None => Ok(found),
            }
        })
    }

    /// Whether it is this node's turn to sweep.
    pub(super) async fn may_sweep(&self) -> Result<bool, LogError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let there = self.bucket.read(SWEEP).await?;
        let revision = there.as_ref().map_or(NOTHING, |value| value.revision);
        let turn = there.and_then(|value| {
            serde_json::from_slice(&value.data)
                .inspect_err(|error| warn!(%error, "it is not known who sweeps"))
                .ok()
        });
        let Some(turn) = Turn::take(turn, &self.core.me, now, self.core.settings.records_for) else {
            return Ok(false);
        };
        let written = self
            .bucket
            .write(SWEEP, HeaderMap::new(), json(&turn)?, revision)
            .await?;
        Ok(written.is_some() && now >= turn.not_before)
    }

    /// Does one thing after the other, in the order in which they were called.
    fn in_order<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, LogError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (done, this) = oneshot::channel::<()>();
        let before = self.last.lock().replace(this);
        self.core.ask(async move {
            if let Some(before) = before {
                // It is done when its sender is gone.
                let _ = before.await;
            }
            let result = work.await;
            drop(done);
            result
        })
    }
}

/// Who sweeps, as all nodes know it. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Turn {
    node: NodeId,
    at: u64,
    /// Until then nobody sweeps: whoever has a session that could not be refreshed while the servers were away does it first.
    not_before: u64,
}

impl Turn {
    /// What is to be written before a node sweeps. `None`: it is another's turn.
    fn take(last: Option<Self>, me: &NodeId, now: u64, records_for: Duration) -> Option<Self> {
        let not_before = match &last {
            None => 0,
            Some(last) if last.node != *me && now < last.at + TURN => return None,
            // Sessions say once in a quarter of this time that they live.
            Some(last) if now > last.at + BREAK => now + records_for.as_secs() / 4 + 60,
            Some(last) => last.not_before,
        };
        Some(Self {
            node: me.clone(),
            at: now,
            not_before,
        })
    }
}

/// The secret, which whoever comes first makes.
async fn secret(bucket: &Bucket) -> Result<Bytes, LogError> {
    for _ in 0..3 {
        let secret: Bytes = match bucket.read(SECRET).await? {
            Some(value) => value.data.into(),
            None => {
                let made = random_secret()?;
                let written = bucket
                    .write(SECRET, HeaderMap::new(), made.clone(), NOTHING)
                    .await?;
                if written.is_none() {
                    continue;
                }
                made
            }
        };
        if secret.len() != 32 {
            let why = format!("the secret in the bucket has {} bytes and not 32", secret.len());
            return Err(LogError::Unusable(why.into()));
        }
        return Ok(secret);
    }
    Err(LogError::Unusable(
        "the secret in the bucket comes and goes".into(),
    ))
}

/// What is revoked may be a name that people gave.
fn key(what: &Revoked) -> Result<String, LogError> {
    Ok(format!("{REVOKED}.{}", hash(&json(what)?)))
}

/// The SHA-256 of something, in hexadecimal.
pub(super) fn hash(of: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(of) {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
    text
}

fn json(value: &impl Serialize) -> Result<Bytes, LogError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| LogError::Unusable(format!("it has no JSON form: {error}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId(name.into())
    }

    fn turn(name: &str, at: u64, not_before: u64) -> Turn {
        Turn {
            node: node(name),
            at,
            not_before,
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[track_caller]
    fn takes(last: Option<Turn>, now: u64, expected: Option<Turn>) {
        assert_eq!(Turn::take(last, &node("me"), now, HOUR), expected);
    }

    #[test]
    fn whoever_comes_first_sweeps() {
        takes(None, 1000, Some(turn("me", 1000, 0)));
    }

    #[test]
    fn one_node_sweeps_at_a_time() {
        takes(Some(turn("other", 1000, 0)), 1049, None);
        takes(Some(turn("other", 1000, 0)), 1050, Some(turn("me", 1050, 0)));
        takes(Some(turn("me", 1000, 0)), 1001, Some(turn("me", 1001, 0)));
    }

    #[test]
    fn after_a_break_sessions_have_time_to_say_that_they_live() {
        takes(Some(turn("other", 1000, 0)), 1601, Some(turn("me", 1601, 2561)));
        takes(Some(turn("me", 1601, 2561)), 1661, Some(turn("me", 1661, 2561)));
    }

    #[test]
    fn a_hash_is_the_one_that_everyone_knows() {
        assert_eq!(
            hash(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
