//! What an operator would have chosen.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use halley::auth::Revocations;
use halley::log;
use halley::sessions::{Options, Overload, Room};

/// A log that keeps everything for as long as a bench runs.
pub fn log() -> log::Settings {
    log::Settings {
        retention: Duration::from_secs(3600),
        retention_bytes: 4 << 30,
        dedup_window: Duration::from_secs(900),
        min_free_bytes: 0,
        ..log::Settings::default()
    }
}

/// Sessions that come back for an hour, to whoever knows their clientId.
pub fn sessions() -> Options {
    Options {
        resume_window: Duration::from_secs(3600),
        trust_client_session: true,
        overload: Overload::default(),
        room: Room::default(),
        tells_presence: false,
    }
}

/// Nothing is revoked.
///
/// # Panics
///
/// Never: a log in memory is read at once.
pub fn revocations() -> Arc<Revocations> {
    let storage = halley::log::open("memory:", &log()).expect("a log");
    let loaded = Revocations::load(storage.sessions).now_or_never();
    Arc::new(
        loaded
            .and_then(Result::ok)
            .expect("a log in memory is read at once"),
    )
}
