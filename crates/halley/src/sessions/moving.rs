//! Sessions that nodes take from each other, where several share the records.
//!
//! A session is in the memory of one node at a time, and its record names that node. Whoever is asked for a session that is
//! elsewhere asks that node to let go, which writes down how far it has come before it answers. Then the record is made to name
//! the new node, if it is still as it was read. From then on whatever the old one writes fails, so a node that did not answer,
//! or was gone, and comes back finds out that it has lost the session, and lets go too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bayeux::{Carrier, CarrierKind, ClientId, Message, Target};
use futures::future::BoxFuture;
use tracing::debug;

use super::Sessions;
use super::handle::{Handle, Stage};
use crate::log::{LogError, NodeId, Question, SessionRecord};

impl Sessions {
    /// Makes a session this node's that its record gives to nobody or to another node. `None` when the record has changed
    /// meanwhile: whoever wants it reads it again.
    pub(super) async fn adopt(&self, record: SessionRecord) -> Result<Option<SessionRecord>, LogError> {
        let Some(me) = self.nodes.me() else {
            return Ok(Some(record));
        };
        let elsewhere = record.node.clone().filter(|node| node != me);
        let mut has_parted = true;
        if let Some(node) = &elsewhere {
            // Whatever it answers: if it does not, its writes fail from now on. What it says to the client does not.
            let question = Question::LetGo(record.client_id.clone());
            let answer = self.nodes.ask(node, question).await;
            debug!(client = ?record.client_id, %node, answered = answer.is_some(), "asked for a session");
            has_parted = answer.is_some();
        }
        let mut adopted = self.store.adopt(&record.client_id, record.holder()).await?;
        if let Some(record) = adopted.as_mut().filter(|_| elsewhere.is_some()) {
            self.metrics.adoptions.inc();
            record.state.contested |= !has_parted;
        }
        // What its client has had from there must be known here, or it would be taken for events of another log.
        self.log.catch_up().await?;
        Ok(adopted)
    }

    /// Another node takes up a session. Resolves when its record says how far it has come; at once when it is not here.
    pub fn let_go_of(
        self: &Arc<Self>,
        client_id: &ClientId,
    ) -> Option<BoxFuture<'static, Result<(), LogError>>> {
        // Whoever reads the record to wake it here has to look again.
        self.departures_of(client_id).fetch_add(1, Ordering::AcqRel);
        let handle = self.in_memory(client_id.as_str())?;
        self.part_with(&handle, None)
    }

    /// A session is another node's: this one was found to have lost it. Nothing is said of that on `spared`, by which something is
    /// being asked that will be answered from where the session is.
    pub fn lose(self: &Arc<Self>, handle: &Arc<Handle>, spared: Option<Carrier>) {
        if let Some(written) = self.part_with(handle, spared) {
            // It fails, as what was written before.
            drop(written);
            debug!(session = %handle.public_id, "lost to another node");
        }
    }

    /// The store has found that this node has lost a session, which it may have again by now.
    pub async fn handle_lost(self: &Arc<Self>, client_id: &ClientId) {
        let Some(handle) = self.in_memory(client_id.as_str()) else {
            return;
        };
        let record = self.store.get(client_id).await;
        let is_back = matches!(record, Ok(Some(record)) if record.node.is_some() && record.node.as_ref() == self.nodes.me());
        if !is_back {
            self.lose(&handle, None);
        }
    }

    /// Whether a message says what its client cannot know from this node ([`bayeux::Session::is_ahead`]). Where nobody shares the
    /// log it can know it from nowhere.
    pub fn is_ahead(&self, handle: &Handle, message: &Message<'_>) -> bool {
        self.nodes.me().is_some()
            && message.target == Target::Connect
            && handle.state.lock().session.is_ahead(message)
    }

    /// A client knows more than this node: it is looked where its session is. Afterwards that has left, or it takes what another
    /// node may have sent, which is no more than the log has.
    pub async fn look_elsewhere(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        carrier: Carrier,
    ) -> Result<(), LogError> {
        self.log.catch_up().await?;
        if self.whereabouts(&handle.client_id).await?.is_some() {
            self.lose(handle, Some(carrier));
            return Ok(());
        }
        let last = self.log.bounds().last;
        handle.state.lock().session.handle_promised_elsewhere(last);
        Ok(())
    }

    /// All sessions that are here, to see whether they still are this node's.
    pub fn all(&self) -> Vec<Arc<Handle>> {
        self.by_id.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// The node that a session is on by its record, if that is another one.
    pub async fn whereabouts(&self, client_id: &ClientId) -> Result<Option<NodeId>, LogError> {
        let Some(me) = self.nodes.me() else {
            return Ok(None);
        };
        let record = self.store.get(client_id).await?;
        Ok(record.and_then(|record| record.node).filter(|node| node != me))
    }

    /// `None` when it has left before.
    fn part_with(
        self: &Arc<Self>,
        handle: &Arc<Handle>,
        spared: Option<Carrier>,
    ) -> Option<BoxFuture<'static, Result<(), LogError>>> {
        let mut state = handle.state.lock();
        if state.stage != Stage::Here {
            return None;
        }
        if let Some(spared) = spared {
            state.wires.remove(spared);
        }
        self.note_progress(&mut state);
        let parting = state.session.part(Instant::now());
        let answers = state.session.take_directs();
        let written = self.put(handle, &mut state);
        state.parting = parting.filter(|(carrier, _)| carrier.kind == CarrierKind::Exchange);
        self.leave(handle, &mut state, Stage::Elsewhere);
        let waiting = self.rouse(handle, &mut state);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
        self.metrics.departures.inc();
        debug!(session = %handle.public_id, "another node takes it");
        self.forward(handle.client_id(), answers);
        Some(written)
    }
}

impl Handle {
    /// Whether its session goes on at another node.
    pub fn is_elsewhere(&self) -> bool {
        self.state.lock().stage == Stage::Elsewhere
    }
}
