//! The other nodes, over the servers that all share.
//!
//! | subject | |
//! |---|---|
//! | `<name>.nodes.<node>` | what a node is asked, with who asks; it replies with its answer |
//! | `<name>.beat` | twice a second: this node is there; or that it goes |
//!
//! Who has not been heard for two seconds is gone. Time without a connection is nobody's silence.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{Message, Request, Subject, Subscriber};
use bytes::Bytes;
use futures::future::{self, BoxFuture};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use super::Core;
use super::connect::is_connected;
use crate::log::{Answer, Asked, LogError, NodeId, Nodes, Question};

/// How long a node has to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const BEAT: Duration = Duration::from_millis(500);
/// Beats that are missed by whoever is gone.
const MISSED: u8 = 4;
/// Questions that wait for this node. Who finds no room is not answered.
const ROOM: usize = 256;

/// The nodes of this log.
pub(super) struct Peers(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    /// Those that are there, and how many beats each has missed.
    missed_by_node: Mutex<HashMap<NodeId, u8>>,
    listener: Mutex<Option<mpsc::Sender<Asked>>>,
    /// Everyone who is there has been heard: this node has been here for longer than a beat.
    knows_all: watch::Sender<bool>,
    /// It has said that it goes.
    goes: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct Asking {
    from: NodeId,
    question: Question,
}

#[derive(Serialize, Deserialize)]
struct Beat {
    node: NodeId,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    goes: bool,
}

impl Peers {
    /// Says that this node is there, and listens to the others.
    pub(super) async fn open(core: Arc<Core>) -> Result<Arc<Self>, LogError> {
        let subscribe = async |subject: String| {
            core.client.subscribe(subject).await.map_err(|error| {
                LogError::Unusable(format!("cannot listen to the other nodes: {error}").into())
            })
        };
        let questions = subscribe(core.names.node(&core.me.0)).await?;
        let beats = subscribe(core.names.beat()).await?;
        let inner = Arc::new(Inner {
            core: core.clone(),
            missed_by_node: Mutex::default(),
            listener: Mutex::default(),
            knows_all: watch::Sender::new(false),
            goes: AtomicBool::new(false),
        });
        core.runtime.spawn(inner.clone().answer(questions));
        core.runtime.spawn(inner.clone().hear(beats));
        core.runtime.spawn(inner.clone().beat());
        Ok(Arc::new(Self(inner)))
    }

    /// Says that this node goes, before its thread ends.
    pub(super) fn farewell(&self) -> impl Future<Output = ()> + Send + use<> {
        let inner = self.0.clone();
        async move { inner.say_goodbye().await }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let inner = self.0.clone();
        self.0.core.spawn(async move { inner.say_goodbye().await });
    }
}

impl Nodes for Peers {
    fn me(&self) -> Option<&NodeId> {
        Some(&self.0.core.me)
    }

    fn ask(&self, node: &NodeId, question: Question) -> BoxFuture<'static, Option<Answer>> {
        let (inner, node) = (self.0.clone(), node.clone());
        self.0
            .begin(async move { inner.ask(&node, &question).await })
            .map(Option::flatten)
            .boxed()
    }

    fn ask_all(&self, question: Question) -> BoxFuture<'static, Vec<(NodeId, Option<Answer>)>> {
        let inner = self.0.clone();
        let asked = self.0.begin(async move {
            // Its sender lives as long as this.
            let _ = inner.knows_all.subscribe().wait_for(|knows| *knows).await;
            let nodes: Vec<NodeId> = inner.missed_by_node.lock().keys().cloned().collect();
            let answers = nodes.into_iter().map(|node| {
                let (inner, question) = (inner.clone(), &question);
                async move {
                    let answer = inner.ask(&node, question).await;
                    (node, answer)
                }
            });
            future::join_all(answers).await
        });
        asked.map(Option::unwrap_or_default).boxed()
    }

    fn listen(&self) -> mpsc::Receiver<Asked> {
        let (sender, receiver) = mpsc::channel(ROOM);
        *self.0.listener.lock() = Some(sender);
        receiver
    }
}

impl Inner {
    /// Begins work now; `None` when the thread ends in the middle.
    fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        let (sender, answer) = oneshot::channel();
        self.core.runtime.spawn(async move {
            // Nobody may be waiting any more.
            let _ = sender.send(work.await);
        });
        async { answer.await.ok() }.boxed()
    }

    async fn ask(&self, node: &NodeId, question: &Question) -> Option<Answer> {
        if !is_connected(&self.core.client) {
            return None;
        }
        let asking = Asking {
            from: self.core.me.clone(),
            question: question.clone(),
        };
        let request = Request::new().payload(encode(&asking)?).timeout(None);
        let asked = self
            .core
            .client
            .send_request(self.core.names.node(&node.0), request);
        match tokio::time::timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(message)) => decode(&message.payload),
            // At once when nobody has that name.
            Ok(Err(error)) => {
                debug!(%node, %error, "a node is not there");
                None
            }
            Err(_) => {
                debug!(%node, "a node does not answer");
                None
            }
        }
    }

    async fn answer(self: Arc<Self>, mut questions: Subscriber) {
        while let Some(message) = questions.next().await {
            let Some(reply) = message.reply.clone() else {
                continue;
            };
            let Some(answer) = self.hand_over(&message) else {
                continue;
            };
            let inner = self.clone();
            self.core.spawn(async move { inner.reply(reply, answer).await });
        }
    }

    /// Gives a question to whoever listens. Who asks hears nothing if nobody does.
    fn hand_over(&self, message: &Message) -> Option<oneshot::Receiver<Answer>> {
        let Asking { from, question } = decode(&message.payload)?;
        let (sender, answer) = oneshot::channel();
        let asked = Asked {
            from,
            question,
            answer: sender,
        };
        let listener = self.listener.lock();
        match listener.as_ref()?.try_send(asked) {
            Ok(()) => Some(answer),
            Err(error) => {
                warn!(%error, "a question of another node is not answered");
                None
            }
        }
    }

    async fn reply(&self, to: Subject, answer: oneshot::Receiver<Answer>) {
        // Nobody waits for it any longer.
        let Ok(Ok(answer)) = tokio::time::timeout(ANSWER_WITHIN, answer).await else {
            return;
        };
        if let Some(bytes) = encode(&answer) {
            let _ = self.core.client.publish(to, bytes).await;
        }
    }

    async fn hear(self: Arc<Self>, mut beats: Subscriber) {
        while let Some(message) = beats.next().await {
            let Some(Beat { node, goes }) = decode(&message.payload) else {
                continue;
            };
            if node == self.core.me {
                continue;
            }
            if goes {
                if self.missed_by_node.lock().remove(&node).is_some() {
                    info!(%node, "a node has gone");
                }
                continue;
            }
            let is_new = self.missed_by_node.lock().insert(node.clone(), 0).is_none();
            if is_new {
                info!(%node, "a node is there");
                // It need not wait for the next beat to know of this one.
                self.say(false).await;
            }
        }
    }

    async fn beat(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            if is_connected(&self.core.client) {
                self.say(false).await;
            }
            ticks.tick().await;
            if is_connected(&self.core.client) {
                self.miss();
                self.knows_all.send_replace(true);
            }
        }
    }

    fn miss(&self) {
        self.missed_by_node.lock().retain(|node, missed| {
            *missed += 1;
            let is_there = *missed <= MISSED;
            if !is_there {
                info!(%node, "a node is not heard any more");
            }
            is_there
        });
    }

    /// Tells the others that this node goes, so that nobody asks it in vain.
    async fn say_goodbye(&self) {
        if !self.goes.swap(true, Ordering::AcqRel) {
            self.say(true).await;
        }
    }

    async fn say(&self, goes: bool) {
        if goes != self.goes.load(Ordering::Acquire) {
            return;
        }
        let beat = Beat {
            node: self.core.me.clone(),
            goes,
        };
        if let Some(bytes) = encode(&beat) {
            // A connection that is gone says so elsewhere.
            let _ = self.core.client.publish(self.core.names.beat(), bytes).await;
        }
    }
}

fn encode(value: &impl Serialize) -> Option<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .inspect_err(|error| warn!(%error, "what nodes say to each other has no JSON form"))
        .ok()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| warn!(%error, "what another node says cannot be read"))
        .ok()
}
