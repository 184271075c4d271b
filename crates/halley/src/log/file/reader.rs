//! Reading: pages of events, and session records. Any number of readers, none of which the writer waits for.

use std::sync::Arc;

use bayeux::{ClientId, Offset};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use super::merge::Merge;
use super::shared::Shared;
use super::{keys, sessions};
use crate::log::{Interest, Limit, LogError, Page, Revocation, SessionRecord, Wanted};

/// Reads at the same time. Each may wait for the disk; more of them only make each other slower.
const READERS: usize = 4;

#[derive(Clone)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            permits: Arc::new(Semaphore::new(READERS)),
        }
    }

    pub(super) fn page(
        &self,
        interest: Interest,
        after: Offset,
        limit: Limit,
    ) -> BoxFuture<'static, Result<Page, LogError>> {
        self.run(move |shared| page(shared, interest, after, limit))
    }

    pub(super) fn record(
        &self,
        client_id: ClientId,
    ) -> BoxFuture<'static, Result<Option<SessionRecord>, LogError>> {
        self.run(move |shared| sessions::read(&shared.sessions, &shared.db.snapshot(), &client_id))
    }

    pub(super) fn unseen_since(&self, seen: u64) -> BoxFuture<'static, Result<Vec<ClientId>, LogError>> {
        self.run(move |shared| sessions::unseen_since(&shared.sessions, seen))
    }

    pub(super) fn find(&self, wanted: Wanted) -> BoxFuture<'static, Result<Vec<ClientId>, LogError>> {
        self.run(move |shared| sessions::find(&shared.sessions, &wanted))
    }

    pub(super) fn revocations(&self) -> BoxFuture<'static, Result<Vec<Revocation>, LogError>> {
        self.run(|shared| sessions::revocations(&shared.sessions))
    }

    /// Does something that may wait for the disk, on a thread for that.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, LogError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let Self { shared, permits } = self.clone();
        async move {
            let _permit = permits
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let done = tokio::task::spawn_blocking(move || work(&shared)).await;
            done.unwrap_or_else(|error| Err(LogError::Unusable(format!("reading failed: {error}").into())))
        }
        .boxed()
    }
}

fn page(shared: &Shared, mut interest: Interest, after: Offset, limit: Limit) -> Result<Page, LogError> {
    // First the end, then the buckets: they may hold more than is asked for, but nothing is missing.
    let through = shared.tail.last();
    let buckets = shared.buckets();
    let first = buckets.first().map_or(through.next(), |bucket| bucket.first);
    let mut page = Page {
        events: Vec::new(),
        through,
        gap: (first > after.next()).then_some(first),
    };
    // Nobody has a name that could not be written.
    interest.user.take_if(|user| user.0.len() > keys::LONGEST_NAME);
    interest
        .patterns
        .retain(|pattern| pattern.as_str().len() <= keys::LONGEST_NAME);
    let mut bytes = 0;
    for (index, bucket) in buckets.iter().enumerate() {
        let is_before = buckets
            .get(index + 1)
            .is_some_and(|next| next.first <= after.next());
        if is_before || after >= through {
            continue;
        }
        let mut merge = Merge::new(&bucket.events, &interest, after, through)?;
        while let Some(event) = merge.next()? {
            let full = page.events.len() >= limit.events || bytes + event.size() > limit.bytes;
            if let (true, Some(newest)) = (full, page.events.last()) {
                page.through = newest.offset();
                return Ok(page);
            }
            bytes += event.size();
            page.events.push(event);
        }
    }
    Ok(page)
}
