//! Servers that are there and have not agreed on a leader yet, as when all of them have just been started: a node that starts then
//! waits for them.

use std::error::Error;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError,
    RequestErrorKind,
};
use tokio::time::Instant;
use tracing::warn;

use super::super::LogError;

/// How long servers may take, for each thing that is asked of them.
const WITHIN: Duration = Duration::from_secs(30);
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Does what servers may not be ready for, until they are. `work` may be begun any number of times.
pub(super) async fn patiently<T>(mut work: impl AsyncFnMut() -> Result<T, LogError>) -> Result<T, LogError> {
    let deadline = Instant::now() + WITHIN;
    let mut has_spoken = false;
    loop {
        match work().await {
            Err(error @ (LogError::Away(_) | LogError::Unanswered(_))) if Instant::now() < deadline => {
                if !has_spoken {
                    warn!(
                        "waiting for the NATS servers, {} s at most: {error}",
                        WITHIN.as_secs()
                    );
                    has_spoken = true;
                }
            }
            Err(LogError::Away(why) | LogError::Unanswered(why)) => return Err(LogError::Unusable(why)),
            done => return done,
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Whether a server that was asked for a stream may answer otherwise soon.
pub(super) fn is_passing(error: &GetStreamError) -> bool {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE,
        GetStreamErrorKind::Request => error
            .source()
            .and_then(|source| source.downcast_ref::<RequestError>())
            .is_some_and(|error| error.kind() == RequestErrorKind::TimedOut),
        GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => false,
    }
}

/// The same of one that was to make it. It may have.
pub(super) fn is_passing_for_now(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::TimedOut => true,
        CreateStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE,
        CreateStreamErrorKind::EmptyStreamName
        | CreateStreamErrorKind::InvalidStreamName
        | CreateStreamErrorKind::DomainAndExternalSet
        | CreateStreamErrorKind::JetStreamUnavailable
        | CreateStreamErrorKind::Response
        | CreateStreamErrorKind::NotFound
        | CreateStreamErrorKind::ResponseParse => false,
    }
}
