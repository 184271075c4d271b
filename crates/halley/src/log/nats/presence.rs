//! Which users are present, in the bucket of what all nodes keep once: `present.<tenant>.<user>`, encoded as in subjects.
//!
//! The revision of an entry is the sequence of its message, so it goes on when an entry was removed.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use futures::future::BoxFuture;
use tracing::warn;

use super::Core;
use super::bucket::Bucket;
use super::subjects::{decode, token};
use crate::event::{Tenant, UserId, Whose};
use crate::log::{Attendance, LogError, PresenceStore, Present, Revision};

const PRESENT: &str = "present";

pub(super) struct Entries {
    core: Arc<Core>,
    bucket: Arc<Bucket>,
}

impl Entries {
    pub(super) async fn open(core: Arc<Core>) -> Result<Arc<dyn PresenceStore>, LogError> {
        let bucket = Bucket::open(core.clone(), &core.names.meta_bucket(), Duration::ZERO).await?;
        Ok(Arc::new(Self {
            core,
            bucket: Arc::new(bucket),
        }))
    }
}

impl PresenceStore for Entries {
    fn look(&self, whose: &Whose) -> BoxFuture<'static, Result<Option<(Revision, Attendance)>, LogError>> {
        let (bucket, key) = (self.bucket.clone(), key(whose));
        self.core.ask(async move {
            let Some(value) = bucket.read(&key).await? else {
                return Ok(None);
            };
            Ok(Some((value.revision, parse(&value.data)?)))
        })
    }

    fn write(
        &self,
        whose: &Whose,
        attendance: &Attendance,
        over: Revision,
    ) -> BoxFuture<'static, Result<Option<Revision>, LogError>> {
        let (bucket, key) = (self.bucket.clone(), key(whose));
        let json = serde_json::to_vec(attendance)
            .map_err(|error| LogError::Unusable(format!("an entry has no JSON form: {error}").into()));
        self.core
            .ask(async move { bucket.write(&key, HeaderMap::new(), json?.into(), over).await })
    }

    fn remove(&self, _: &Whose, over: Revision) -> BoxFuture<'static, Result<bool, LogError>> {
        let bucket = self.bucket.clone();
        self.core.ask(async move { bucket.delete(over).await })
    }

    fn all(&self) -> BoxFuture<'static, Result<Vec<Present>, LogError>> {
        let bucket = self.bucket.clone();
        self.core.ask(async move {
            let mut all: Vec<Present> = Vec::new();
            let each = |message: &async_nats::jetstream::Message| {
                let whose = bucket.key(message).and_then(read_key);
                let revision = message.info().map(|info| info.stream_sequence);
                match (whose, revision, parse(&message.payload)) {
                    (Some(whose), Ok(revision), Ok(attendance)) => all.push((whose, revision, attendance)),
                    _ => warn!(subject = %message.subject, "who is present cannot be read"),
                }
            };
            bucket.scan(&format!("{PRESENT}.*.*"), false, each).await?;
            // One that changes meanwhile comes twice: the later counts.
            all.sort_by(|one, other| (&one.0, other.1).cmp(&(&other.0, one.1)));
            all.dedup_by(|later, first| later.0 == first.0);
            Ok(all)
        })
    }
}

fn key(whose: &Whose) -> String {
    format!("{PRESENT}.{}.{}", token(&whose.tenant.0), token(&whose.user.0))
}

fn read_key(key: &str) -> Option<Whose> {
    let mut tokens = key.split('.').skip(1);
    Some(Whose {
        tenant: Tenant(decode(tokens.next()?)?.into()),
        user: UserId(decode(tokens.next()?)?.into()),
    })
}

fn parse(json: &[u8]) -> Result<Attendance, LogError> {
    serde_json::from_slice(json)
        .map_err(|error| LogError::Unusable(format!("who is present is not said: {error}").into()))
}
