//! What readers, publishers and the follower of a log on NATS share.

use std::sync::Arc;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, Stream};
use bayeux::Offset;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::super::tail::Tail;
use super::super::{Appended, Bounds, LogError};
use super::Core;
use super::message::Form;
use super::recent::Recent;

pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    /// The stream of the events.
    pub(super) stream: Stream<()>,
    /// What it was when this node came.
    pub(super) origin: Info,
    pub(super) form: Form,
    pub(super) tail: Tail,
    pub(super) recent: RwLock<Recent>,
    /// The last offset that the follower has handed over.
    pub(super) reached: watch::Sender<Offset>,
    kept: Mutex<Kept>,
    stopped: watch::Sender<Option<LogError>>,
}

/// What the servers said last.
#[derive(Clone, Copy)]
struct Kept {
    first: Offset,
    bytes: u64,
}

impl Shared {
    /// The log after `begin`, as far as this node knows it.
    pub(super) fn new(core: Arc<Core>, stream: Stream<()>, origin: Info, form: Form, begin: Offset) -> Self {
        Self {
            tail: Tail::new(begin),
            recent: RwLock::new(Recent::new(begin, core.settings.shared.recent_bytes)),
            reached: watch::Sender::new(begin),
            kept: Mutex::new(Kept::of(&origin)),
            stopped: watch::Sender::new(None),
            core,
            stream,
            origin,
            form,
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        let last = self.tail.last();
        let first = self.kept.lock().first.min(last.next());
        Bounds { first, last }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.kept.lock().bytes
    }

    /// Makes events known on this node that the stream has, everything up to `last`, and waits for a follower that is slow.
    pub(super) async fn arrived(&self, events: Vec<Appended>, last: Offset) {
        self.remember(&events);
        let follower = self.tail.advance(last);
        if let Some(follower) = follower.filter(|_| !events.is_empty()) {
            follower.hand_over_async(events).await;
        }
        self.reached.send_replace(last);
    }

    fn remember(&self, events: &[Appended]) {
        let mut recent = self.recent.write();
        for event in events {
            recent.push(event);
        }
    }

    /// Asks the servers how far back the stream goes, and whether it still is the one.
    pub(super) async fn refresh(&self) -> Result<Info, LogError> {
        match self.core.jetstream.get_stream(&self.origin.config.name).await {
            Ok(stream) => {
                let info = stream.cached_info().clone();
                if info.created != self.origin.created {
                    self.stop("another stream has taken the place of the one that this node began with");
                }
                *self.kept.lock() = Kept::of(&info);
                // One server of several still answers, when nobody can write.
                let is_led = info
                    .cluster
                    .as_ref()
                    .is_none_or(|cluster| cluster.leader.is_some());
                self.core.presence.stream_answers(is_led);
                if is_led {
                    Ok(info)
                } else {
                    Err(LogError::Away(
                        "the stream has no leader: most of its servers are away".into(),
                    ))
                }
            }
            Err(error) => {
                self.core.presence.stream_answers(false);
                let error = match error.kind() {
                    GetStreamErrorKind::JetStream(error) => error.to_string(),
                    GetStreamErrorKind::Request
                    | GetStreamErrorKind::EmptyName
                    | GetStreamErrorKind::InvalidStreamName => error.to_string(),
                };
                Err(LogError::Away(error.into()))
            }
        }
    }

    /// Asks the servers for the newest event, and waits until it has arrived here.
    pub(super) async fn catch_up(&self) -> Result<(), LogError> {
        let within = self.core.settings.shared.answer_within;
        let events = self.core.names.all_events();
        let newest = self.stream.get_last_raw_message_by_subject(&events);
        let newest = match tokio::time::timeout(within, newest).await {
            Ok(Ok(message)) => Offset(message.sequence),
            Ok(Err(error)) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(()),
            Ok(Err(error)) => return Err(LogError::Away(error.to_string().into())),
            Err(_) => return Err(LogError::Away("the newest event was not said in time".into())),
        };
        let mut reached = self.reached.subscribe();
        let arrived = reached.wait_for(|reached| *reached >= newest);
        match tokio::time::timeout(within, arrived).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(super::ended()),
            Err(_) => Err(LogError::Away(
                "the newest event has not arrived here in time".into(),
            )),
        }
    }

    /// What this node has told its clients is not true any more: it must begin anew.
    pub(super) fn stop(&self, why: &str) {
        self.stopped.send_replace(Some(LogError::Stopped(why.into())));
    }

    pub(super) fn stopped(&self) -> BoxFuture<'static, LogError> {
        let mut stopped = self.stopped.subscribe();
        async move {
            loop {
                if let Some(error) = stopped.borrow_and_update().clone() {
                    return error;
                }
                if stopped.changed().await.is_err() {
                    return super::ended();
                }
            }
        }
        .boxed()
    }
}

impl Kept {
    fn of(info: &Info) -> Self {
        let state = &info.state;
        let first = if state.messages == 0 {
            state.last_sequence + 1
        } else {
            state.first_sequence
        };
        Self {
            first: Offset(first),
            bytes: state.bytes,
        }
    }
}
