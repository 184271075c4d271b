//! An engine that is there and not ready yet, as servers that are about to choose a leader: a node that starts then waits for it.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::LogError;

/// How long an engine may take to be ready, for each thing that is asked of it.
const WITHIN: Duration = Duration::from_secs(30);
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Does what the engine of a log may not be ready for, until it is. `work` may be begun any number of times.
pub(crate) async fn patiently<T>(mut work: impl AsyncFnMut() -> Result<T, LogError>) -> Result<T, LogError> {
    let deadline = Instant::now() + WITHIN;
    let mut has_spoken = false;
    loop {
        match work().await {
            Err(error @ (LogError::Away(_) | LogError::Unanswered(_))) if Instant::now() < deadline => {
                if !has_spoken {
                    warn!("waiting for the log, {} s at most: {error}", WITHIN.as_secs());
                    has_spoken = true;
                }
            }
            Err(LogError::Away(why) | LogError::Unanswered(why)) => return Err(LogError::Unusable(why)),
            done => return done,
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
