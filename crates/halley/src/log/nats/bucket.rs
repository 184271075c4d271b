//! A key-value bucket on the servers, as far as this log uses one.
//!
//! It is a stream that keeps one message for each key (`$KV.<bucket>.<key>`), so `nats kv` shows it. Every read is answered by
//! the leader of the stream and sees every write that was answered. What is deleted leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType};
use async_nats::jetstream::{ErrorCode, Message};
use async_nats::{HeaderMap, Request, RequestErrorKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::{debug, warn};

use super::Core;
use super::connect::is_connected;
use super::passing::{is_passing, may_yet_be_made};
use crate::log::LogError;

/// The revision of a key that has no value.
pub(super) const NOTHING: u64 = 0;

/// How often servers are asked again that have nobody to answer, as while a leader is elected.
const AGAIN: usize = 3;
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Ids that a write may try.
const IDS: u32 = 4;
/// How often it is looked for a write that the servers know, and how long after each other.
const LOOKS: u32 = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Messages that are asked for at once when all are read.
const BATCH: usize = 500;

/// One bucket.
pub(super) struct Bucket {
    core: Arc<Core>,
    stream: String,
    prefix: String,
}

/// A value and the message that it is.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) revision: u64,
    pub(super) data: Vec<u8>,
}

/// What became of a value that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Published {
    /// It is there, as this revision.
    As(u64),
    /// The revision that it was to be over is another one.
    Refused,
    /// One with its id came before.
    Known,
}

impl Published {
    fn revision(self) -> Option<u64> {
        match self {
            Self::As(revision) => Some(revision),
            Self::Refused | Self::Known => None,
        }
    }
}

impl Bucket {
    /// Makes it, or verifies the one that is there. Nothing that is there is changed.
    pub(super) async fn open(core: Arc<Core>, name: &str, max_age: Duration) -> Result<Self, LogError> {
        let bucket = Self {
            stream: format!("KV_{name}"),
            prefix: format!("$KV.{name}."),
            core,
        };
        let wanted = stream::Config {
            name: bucket.stream.clone(),
            subjects: vec![format!("{}>", bucket.prefix)],
            max_messages_per_subject: 1,
            max_bytes: -1,
            max_messages: -1,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: bucket.core.settings.shared.replicas,
            max_age,
            ..stream::Config::default()
        };
        let cannot = |why: &dyn std::fmt::Display| -> Arc<str> {
            format!("the bucket {name} on NATS cannot be used: {why}").into()
        };
        let jetstream = &bucket.core.jetstream;
        let there = match jetstream.get_stream(&bucket.stream).await {
            Ok(there) => there,
            Err(error) if is_passing(&error) => return Err(LogError::Away(cannot(&error))),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(code) if code.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    // Another node may have made it in between: then this one is told what is there.
                    match jetstream.create_stream(wanted.clone()).await {
                        Ok(made) => made,
                        Err(error) if may_yet_be_made(&error) => {
                            return Err(LogError::Away(cannot(&error)));
                        }
                        Err(error) => return Err(LogError::Unusable(cannot(&error))),
                    }
                }
                GetStreamErrorKind::EmptyName
                | GetStreamErrorKind::Request
                | GetStreamErrorKind::InvalidStreamName
                | GetStreamErrorKind::JetStream(_) => return Err(LogError::Unusable(cannot(&error))),
            },
        };
        verify(&wanted, &there.cached_info().config).map_err(|why| LogError::Unusable(cannot(&why)))?;
        Ok(bucket)
    }

    /// The value of a key.
    pub(super) async fn read(&self, key: &str) -> Result<Option<Value>, LogError> {
        let wanted = json!({ "last_by_subj": format!("{}{key}", self.prefix) });
        let answer: Response<Got> = self.ask("STREAM.MSG.GET", &wanted).await?;
        match answer {
            Response::Ok(Got { message }) => {
                let data = STANDARD.decode(message.data).map_err(|error| {
                    LogError::Unusable(format!("NATS sends what is no base64: {error}").into())
                })?;
                Ok(Some(Value {
                    revision: message.seq,
                    data,
                }))
            }
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Response::Err { error } => Err(refused(&error)),
        }
    }

    /// Writes the value of a key if its revision is still `over`, and says which one it is then. `None` if it is another.
    ///
    /// Servers before 2.10 compare when a write comes, and not with the writes that their copies are still being told of: of two at
    /// once both would count. So each also has the revision as its id, and of two with one id the servers take one.
    ///
    /// A server that leads since a moment may not show yet what it knows, and one that has lost what it had may know an id whose
    /// write is nowhere. So what is known is waited for, and when the revision is still there after that, the next id is taken, by
    /// everybody who comes to it.
    pub(super) async fn write(
        &self,
        key: &str,
        mut headers: HeaderMap,
        data: Bytes,
        over: u64,
    ) -> Result<Option<u64>, LogError> {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, over.to_string());
        if over == NOTHING {
            return Ok(self.publish(key, headers, data).await?.revision());
        }
        for attempt in 0..IDS {
            headers.insert(NATS_MESSAGE_ID, format!("{over}.{attempt}"));
            let published = self.publish(key, headers.clone(), data.clone()).await?;
            if published != Published::Known {
                return Ok(published.revision());
            }
            if !self.stays(key, over).await? {
                return Ok(None);
            }
            debug!(
                bucket = self.stream,
                over, attempt, "a write is known and is not there"
            );
        }
        Err(LogError::Away("a value cannot be written".into()))
    }

    /// Whether a revision is there, and still is when everything that is under way has come.
    async fn stays(&self, key: &str, revision: u64) -> Result<bool, LogError> {
        for _ in 0..LOOKS {
            let there = self.read(key).await?.map(|value| value.revision);
            if there != Some(revision) {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(true)
    }

    /// Writes the value of a key, whatever it is now.
    pub(super) async fn overwrite(&self, key: &str, data: Bytes) -> Result<(), LogError> {
        self.publish(key, HeaderMap::new(), data).await?;
        Ok(())
    }

    /// Deletes a revision. `false` if it is not there any more.
    pub(super) async fn delete(&self, revision: u64) -> Result<bool, LogError> {
        // To write over its bytes would cost a block of the disk.
        let wanted = json!({ "seq": revision, "no_erase": true });
        let answer: Response<Done> = self.ask("STREAM.MSG.DELETE", &wanted).await?;
        match answer {
            Response::Ok(Done { success }) => Ok(success),
            Response::Err { error } => match error.error_code() {
                ErrorCode::STREAM_MESSAGE_DELETE_FAILED | ErrorCode::SEQUENCE_NOT_FOUND => Ok(false),
                _ => Err(refused(&error)),
            },
        }
    }

    /// Forgets a key, if it has a value.
    pub(super) async fn forget(&self, key: &str) -> Result<(), LogError> {
        let wanted = json!({ "filter": format!("{}{key}", self.prefix) });
        match self.ask("STREAM.PURGE", &wanted).await? {
            Response::Ok(Done { .. }) => Ok(()),
            Response::Err { error } => Err(refused(&error)),
        }
    }

    /// How many keys there are.
    pub(super) async fn count(&self) -> Result<u64, LogError> {
        match self.ask("STREAM.INFO", &json!({})).await? {
            Response::Ok(Info { state }) => Ok(state.messages),
            Response::Err { error } => Err(refused(&error)),
        }
    }

    /// Every value of the keys that match a pattern of NATS, in the order in which they were written. One that changes meanwhile
    /// may come twice.
    pub(super) async fn scan(
        &self,
        keys: &str,
        headers_only: bool,
        mut each: impl FnMut(&Message) + Send,
    ) -> Result<(), LogError> {
        self.connected()?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::None,
            filter_subject: format!("{}{keys}", self.prefix),
            headers_only,
            inactive_threshold: Duration::from_secs(30),
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = self
            .core
            .jetstream
            .create_consumer_on_stream(config, &self.stream)
            .await
            .map_err(|error| unread(&error))?;
        let mut left = consumer.cached_info().num_pending;
        while left > 0 {
            let mut messages = consumer
                .fetch()
                .max_messages(BATCH)
                .messages()
                .await
                .map_err(|error| unread(&error))?;
            let mut came = 0;
            while let Some(message) = self.in_time(messages.next()).await? {
                let message = message.map_err(|error| unread(&error))?;
                left = message.info().map_err(|error| unread(&error))?.pending;
                came += 1;
                each(&message);
            }
            if came < BATCH {
                break;
            }
        }
        let name = consumer.cached_info().name.clone();
        // If this fails, the servers forget it by themselves.
        let _ = self
            .core
            .jetstream
            .delete_consumer_from_stream(&name, &self.stream)
            .await;
        Ok(())
    }

    /// The key of a message of this bucket.
    pub(super) fn key<'a>(&self, message: &'a Message) -> Option<&'a str> {
        message.subject.as_str().strip_prefix(&self.prefix)
    }

    async fn publish(&self, key: &str, headers: HeaderMap, data: Bytes) -> Result<Published, LogError> {
        let subject = format!("{}{key}", self.prefix);
        let answer: Response<PublishAck> = self.request(subject, headers, data).await?;
        match answer {
            Response::Ok(ack) if ack.duplicate => Ok(Published::Known),
            Response::Ok(ack) => Ok(Published::As(ack.sequence)),
            Response::Err { error } => match error.error_code() {
                // Another one is being written at the moment.
                ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT => Ok(Published::Known),
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                    Ok(Published::Refused)
                }
                ErrorCode::STREAM_STORE_FAILED => Err(unread(&error)),
                _ => Err(refused(&error)),
            },
        }
    }

    async fn ask<T: DeserializeOwned>(&self, what: &str, wanted: &serde_json::Value) -> Result<T, LogError> {
        let subject = format!("$JS.API.{what}.{}", self.stream);
        self.request(subject, HeaderMap::new(), wanted.to_string().into())
            .await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        subject: String,
        headers: HeaderMap,
        data: Bytes,
    ) -> Result<T, LogError> {
        for _ in 0..=AGAIN {
            self.connected()?;
            let mut request = Request::new().payload(data.clone()).timeout(None);
            if !headers.is_empty() {
                request = request.headers(headers.clone());
            }
            let error = match self
                .in_time(self.core.client.send_request(subject.clone(), request))
                .await?
            {
                Ok(message) => {
                    return serde_json::from_slice(&message.payload).map_err(|error| unread(&error));
                }
                Err(error) => error,
            };
            match error.kind() {
                RequestErrorKind::NoResponders => tokio::time::sleep(AGAIN_AFTER).await,
                RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                    return Err(LogError::Unusable(error.to_string().into()));
                }
                RequestErrorKind::TimedOut | RequestErrorKind::Other => return Err(unread(&error)),
            }
        }
        Err(LogError::Away(
            format!("no server answers for {}", self.stream).into(),
        ))
    }

    fn connected(&self) -> Result<(), LogError> {
        if is_connected(&self.core.client) {
            Ok(())
        } else {
            Err(LogError::Away("there is no connection to NATS".into()))
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, LogError> {
        let within = self.core.settings.shared.answer_within;
        tokio::time::timeout(within, work).await.map_err(|_| {
            LogError::Unanswered(format!("{} within {} ms", self.stream, within.as_millis()).into())
        })
    }
}

fn verify(wanted: &stream::Config, there: &stream::Config) -> Result<(), String> {
    if there.max_messages_per_subject != 1 || there.deny_delete || there.storage != StorageType::File {
        return Err(
            "it is not one of Halley's: it must keep one value for each key, in files, and allow deletion"
                .to_owned(),
        );
    }
    let name = &wanted.name;
    if there.num_replicas < wanted.num_replicas {
        let (has, wants) = (there.num_replicas, wanted.num_replicas);
        warn!(
            "the stream {name} has {has} replicas and not {wants}: `nats stream edit {name} --replicas {wants}` makes them"
        );
    }
    let shorter = !there.max_age.is_zero() && (wanted.max_age.is_zero() || there.max_age < wanted.max_age);
    if shorter {
        let (has, wants) = (there.max_age.as_secs(), wanted.max_age.as_secs());
        warn!(
            "the stream {name} forgets after {has} s and not {wants}: `nats stream edit {name} --max-age {wants}s` changes that"
        );
    }
    Ok(())
}

fn refused(error: &async_nats::jetstream::Error) -> LogError {
    LogError::Away(error.to_string().into())
}

fn unread(error: &dyn std::fmt::Display) -> LogError {
    LogError::Unanswered(error.to_string().into())
}

#[derive(Deserialize)]
struct Got {
    message: Raw,
}

#[derive(Deserialize)]
struct Raw {
    seq: u64,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct Done {
    success: bool,
}

#[derive(Deserialize)]
struct Info {
    state: Count,
}

#[derive(Deserialize)]
struct Count {
    messages: u64,
}
