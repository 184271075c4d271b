//! The stream of the events: made when it is not there, and looked over when it is. What is there is never changed: it may be in
//! use by nodes that are set up in another way.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use sha2::{Digest, Sha256};

use super::super::{Epoch, LogError, Settings};
use super::passing::{is_passing, may_yet_be_made};
use super::subjects::Names;

/// Finds the stream or makes it.
pub(super) async fn events(
    jetstream: &Context,
    names: &Names,
    settings: &Settings,
) -> Result<Info, LogError> {
    let wanted = wanted(names, settings);
    let info = match jetstream.get_stream(&wanted.name).await {
        Ok(stream) => stream.cached_info().clone(),
        Err(error) if is_not_there(&error) => create(jetstream, &wanted).await?,
        Err(error) => return Err(cannot_read(&wanted.name, &error)),
    };
    let (wrong, odd) = differences(&info.config, &wanted);
    if !wrong.is_empty() {
        let wrong = wrong.join("; ");
        return Err(LogError::Unusable(
            format!(
                "the stream {} is not what this node is set up for: {wrong}",
                wanted.name
            )
            .into(),
        ));
    }
    for odd in odd {
        tracing::warn!(
            stream = wanted.name,
            "the stream is not what this node is set up for: {odd}"
        );
    }
    Ok(info)
}

/// What may be sent here may be larger than what the servers take. That is no reason not to start: a publish may be many events, and
/// the ones that are too large are refused.
pub(super) fn compare_sizes(max_payload: usize, largest: usize) {
    if let Some(why) = too_small(max_payload, largest) {
        tracing::warn!("{why}");
    }
}

fn too_small(max_payload: usize, largest: usize) -> Option<String> {
    (max_payload < largest + BESIDE_DATA).then(|| {
        format!(
            "the NATS servers take messages of {max_payload} bytes (their max_payload), and limits.publish_body and \
             limits.request_body let events of up to {largest} bytes in: those that are too large are answered 413"
        )
    })
}

/// What an operator should know of how events are kept.
pub(super) fn describe(client: &Client, info: &Info) -> Vec<String> {
    let server = client.server_info();
    let version = &server.version;
    let sync = if is_before_2_10(version) {
        "this version syncs its files every two minutes: only copies on other servers survive a loss of power before that"
    } else {
        "files are synced as sync_interval of the servers says, every two minutes if it says nothing"
    };
    let copies = match info.config.num_replicas {
        0 | 1 => "one copy, on one server".to_owned(),
        copies => format!("{copies} copies, and a 201 when most of them have it"),
    };
    vec![
        format!("log: stream {} of NATS JetStream; {copies}", info.config.name),
        format!("log: connected to {} ({version}); {sync}", server.server_name),
    ]
}

/// Identifies the stream for as long as its sequences mean the same: one that is made anew is another.
pub(super) fn epoch(info: &Info) -> Epoch {
    let mut hash = Sha256::new();
    hash.update(info.config.name.as_bytes());
    hash.update(info.created.unix_timestamp_nanos().to_be_bytes());
    let mut text = String::with_capacity(32);
    for byte in &hash.finalize()[..16] {
        text.push_str(&format!("{byte:02x}"));
    }
    Epoch(text.into())
}

/// How long a stream that was just made is looked at.
const SETTLED_AFTER: Duration = Duration::from_millis(300);

/// What a message has beside the data of its event: its id, and a few short headers.
const BESIDE_DATA: usize = 4096;

fn wanted(names: &Names, settings: &Settings) -> Config {
    Config {
        name: names.events_stream(),
        description: Some("events of Halley, see docs/cluster.md".to_owned()),
        subjects: vec![names.all_events()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: settings.shared.replicas,
        max_age: settings.retention,
        max_bytes: i64::try_from(settings.retention_bytes).unwrap_or(i64::MAX),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        duplicate_window: settings.dedup_window,
        allow_direct: true,
        ..Config::default()
    }
}

async fn create(jetstream: &Context, wanted: &Config) -> Result<Info, LogError> {
    let name = &wanted.name;
    match jetstream.create_stream(wanted.clone()).await {
        Ok(stream) => {
            tracing::info!(stream = name, "made the stream of the events");
            let info = stream.cached_info().clone();
            if wanted.num_replicas > 1 {
                settled(jetstream, name, info).await
            } else {
                Ok(info)
            }
        }
        // Another node that starts at the same time was first, and may be set up in another way.
        Err(error) if is_in_use(&error) => {
            let stream = jetstream.get_stream(name).await;
            let stream = stream.map_err(|error| cannot_read(name, &error))?;
            Ok(stream.cached_info().clone())
        }
        Err(error) => {
            let why = cannot(name, "made", &explain_create(&error, wanted));
            Err(if may_yet_be_made(&error) {
                LogError::Away(why)
            } else {
                LogError::Unusable(why)
            })
        }
    }
}

/// Servers that share a stream which two nodes make at once may make it twice, and the second one stays.
async fn settled(jetstream: &Context, name: &str, mut info: Info) -> Result<Info, LogError> {
    loop {
        tokio::time::sleep(SETTLED_AFTER).await;
        let stream = jetstream.get_stream(name).await;
        let now = stream
            .map_err(|error| cannot_read(name, &error))?
            .cached_info()
            .clone();
        if now.created == info.created {
            return Ok(now);
        }
        info = now;
    }
}

/// What is wrong, and what is only odd, each with what to do.
fn differences(there: &Config, wanted: &Config) -> (Vec<String>, Vec<String>) {
    let (mut wrong, mut odd) = (Vec::new(), Vec::new());
    let name = &there.name;
    if there.num_replicas.max(1) != wanted.num_replicas {
        let (there, wanted) = (there.num_replicas, wanted.num_replicas);
        wrong.push(format!(
            "it has {there} replicas, and nats.replicas is {wanted} (`nats stream edit {name} --replicas={wanted}`, or set \
             nats.replicas to {there})"
        ));
    }
    if there.storage != wanted.storage {
        wrong.push("it is kept in memory (delete it, or take another nats.name)".to_owned());
    }
    if there.subjects != wanted.subjects {
        let (there, wanted) = (there.subjects.join(" "), wanted.subjects.join(" "));
        wrong.push(format!("its subjects are {there} instead of {wanted}"));
    }
    if there.retention != wanted.retention || there.no_ack || there.sealed {
        wrong.push("it is no stream for events: retention by limits, acknowledged, not sealed".to_owned());
    }
    if there.duplicate_window < wanted.duplicate_window {
        let (there, wanted) = (
            there.duplicate_window.as_secs(),
            wanted.duplicate_window.as_secs(),
        );
        wrong.push(format!(
            "it knows repeated ids for {there} s, and log.dedup_window is {wanted} s (`nats stream edit {name} \
             --dupe-window={wanted}s`)"
        ));
    }
    if there.discard != wanted.discard {
        odd.push("it refuses new events when it is full, instead of dropping the oldest".to_owned());
    }
    if there.max_age != wanted.max_age {
        let (there, wanted) = (there.max_age.as_secs(), wanted.max_age.as_secs());
        odd.push(format!(
            "it keeps events for {there} s (0: for ever), and log.retention is {wanted} s"
        ));
    }
    if there.max_bytes != wanted.max_bytes {
        let (there, wanted) = (there.max_bytes, wanted.max_bytes);
        odd.push(format!(
            "it keeps {there} bytes, and log.retention_bytes is {wanted}"
        ));
    }
    if there.max_messages > 0 || there.max_messages_per_subject > 0 {
        odd.push("it has a limit on the number of events".to_owned());
    }
    (wrong, odd)
}

fn is_not_there(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn is_in_use(error: &CreateStreamError) -> bool {
    matches!(error.kind(), CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST)
}

fn explain_get(error: &GetStreamError) -> String {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => explain(&error),
        GetStreamErrorKind::Request => format!(
            "{error} (do the servers have JetStream, with a quorum, and may this account use its API?)"
        ),
        GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => error.to_string(),
    }
}

fn explain_create(error: &CreateStreamError, wanted: &Config) -> String {
    let CreateStreamErrorKind::JetStream(error) = error.kind() else {
        return error.to_string();
    };
    if error.error_code() == ErrorCode::STORAGE_RESOURCES_EXCEEDED {
        let bytes = wanted.max_bytes;
        return format!(
            "a stream reserves what it may take, and the servers have less than log.retention_bytes ({bytes}) left"
        );
    }
    explain(&error)
}

fn explain(error: &async_nats::jetstream::Error) -> String {
    let code = error.error_code();
    let why =
        if code == ErrorCode::JETSTREAM_NOT_ENABLED || code == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT {
            " (JetStream must be turned on, for this account too)"
        } else if code == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED || code == ErrorCode::CLUSTER_NO_PEERS {
            " (a single server needs nats.replicas = 1)"
        } else {
            ""
        };
    format!("{error}{why}")
}

fn cannot_read(stream: &str, error: &GetStreamError) -> LogError {
    let why = cannot(stream, "read", &explain_get(error));
    if is_passing(error) {
        LogError::Away(why)
    } else {
        LogError::Unusable(why)
    }
}

fn cannot(stream: &str, what: &str, why: &str) -> Arc<str> {
    format!("the stream {stream} cannot be {what} in NATS: {why}").into()
}

fn is_before_2_10(version: &str) -> bool {
    let mut numbers = version
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(u32::MAX));
    (
        numbers.next().unwrap_or(u32::MAX),
        numbers.next().unwrap_or(u32::MAX),
    ) < (2, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(is_before_2_10("2.9.10") && !is_before_2_10("2.10.1") && !is_before_2_10("3.0.0"));
        assert!(!is_before_2_10("?"), "what is not known is not claimed");
    }

    #[test]
    fn servers_that_take_less_than_is_let_in_are_spoken_of() {
        assert_eq!(too_small(1 << 20, 256 << 10), None);
        let why = too_small(64 << 10, 256 << 10).expect("it is too small");
        assert!(
            why.contains("65536") && why.contains("262144") && why.contains("max_payload"),
            "{why}"
        );
    }

    #[test]
    fn a_stream_as_it_is_made_has_no_differences() {
        let wanted = wanted(&Names::new("halley"), &Settings::default());
        assert_eq!(differences(&wanted, &wanted), (Vec::new(), Vec::new()));
    }
}
