//! Request bodies: bounded in size and time, then JSON.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::answer::Failure;
use crate::call::{Refusal, StatusCode};

/// Reads a whole body and parses it.
pub(super) async fn read_json(body: Incoming) -> Result<Value, Failure> {
    let collected = tokio::time::timeout(WITHIN, Limited::new(body, MOST).collect()).await;
    let bytes = match collected {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Failure::TooLarge),
        Ok(Err(error)) => return Err(malformed(&format!("The request body cannot be read: {error}"))),
        Err(_) => return Err(Failure::TooSlow),
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| malformed(&format!("The request body is not JSON: {error}.")))
}

fn malformed(message: &str) -> Failure {
    Refusal::new(StatusCode::InvalidInput, message).into()
}

/// The largest request body, in bytes.
const MOST: usize = 64 * 1024;

/// How long a body may take.
const WITHIN: Duration = Duration::from_secs(10);
