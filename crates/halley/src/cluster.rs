//! What this node does for the others that share its log: lets go of sessions that they take up, heeds what was revoked there,
//! ends sessions that an operator ends there, and says what it has.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bayeux::{ClientId, Direct};
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::auth::Revocations;
use crate::census::Census;
use crate::http::Shutdown;
use crate::log::{Answer, Asked, Opened, Question};
use crate::sessions::{PublicId, Sessions};

/// How often it is looked whether the log can be reached.
const LOOK: Duration = Duration::from_millis(250);

/// Records that are read at once to see whether sessions are still here.
const AT_ONCE: usize = 64;

/// What a node knows of itself.
pub struct Cluster {
    /// The log, its records, and who shares them.
    pub storage: Opened,
    /// What it has.
    pub sessions: Arc<Sessions>,
    /// What does not count any more.
    pub revocations: Arc<Revocations>,
    /// How much that is.
    pub census: Arc<Census>,
}

impl Cluster {
    /// Serves the others until shutdown. Nobody can ask when nobody shares the log.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        if self.storage.nodes.me().is_none() {
            return;
        }
        let mut asked = self.storage.nodes.listen();
        let mut lost = self.storage.sessions.lost();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_away = false;
        loop {
            tokio::select! {
                Some(asked) = asked.recv() => self.serve(asked),
                Some(client_id) = lost.recv() => {
                    let sessions = Arc::clone(&self.sessions);
                    tokio::spawn(async move { sessions.handle_lost(&client_id).await });
                }
                _ = looks.tick() => {
                    let is_away = self.storage.log.away().is_some();
                    if was_away && !is_away {
                        tokio::spawn(Arc::clone(&self).come_back());
                    }
                    was_away = is_away;
                }
                () = shutdown.wait() => break,
            }
        }
        // On the way out sessions are still taken up elsewhere, until this process has ended.
        self.serve_on(asked).await;
    }

    async fn serve_on(&self, mut asked: mpsc::Receiver<Asked>) {
        while let Some(asked) = asked.recv().await {
            self.serve(asked);
        }
    }

    fn serve(&self, asked: Asked) {
        let Asked {
            from,
            question,
            answer,
        } = asked;
        debug!(%from, ?question, "asked");
        let said = match question {
            Question::LetGo(client_id) => return self.let_go_of(&client_id, answer),
            Question::Direct(client_id, frame) => {
                let message = Direct::parse(&frame.0);
                Answer::Here(message.is_some_and(|message| self.sessions.take_forwarded(&client_id, message)))
            }
            Question::Revoke(revocation) => {
                let what = revocation.what.clone();
                self.revocations.learn(revocation);
                Answer::Ended(self.sessions.revoke(&what))
            }
            Question::Pardon(what) => {
                self.revocations.unlearn(&what);
                Answer::Done
            }
            Question::EndSession(id) => {
                let ended = PublicId::parse(&id).is_some_and(|id| self.sessions.disconnect_here(id));
                Answer::Ended(usize::from(ended))
            }
            Question::EndUser(tenant, user) => {
                Answer::Ended(self.sessions.disconnect_user_here(&tenant, &user))
            }
            Question::User(tenant, user) => Answer::Sessions(self.census.of_user(&tenant, &user)),
            Question::Counts => Answer::Counts(self.census.counts()),
        };
        // Whoever has asked may have given up: what it wanted is done all the same.
        let _ = answer.send(said);
    }

    fn let_go_of(&self, client_id: &ClientId, answer: oneshot::Sender<Answer>) {
        let Some(written) = self.sessions.let_go_of(client_id) else {
            let _ = answer.send(Answer::Done);
            return;
        };
        tokio::spawn(async move {
            if let Err(error) = written.await {
                // It goes on from what was last written, then.
                debug!(%error, "a session that is taken up elsewhere was not written down");
            }
            let _ = answer.send(Answer::Done);
        });
    }

    /// While the log was away others may have taken sessions of this node, and revoked what it did not hear of.
    async fn come_back(self: Arc<Self>) {
        if let Err(error) = self.revocations.reload().await {
            warn!(%error, "revocations were not read again");
        }
        for revocation in self.revocations.list() {
            self.sessions.revoke(&revocation.what);
        }
        let started = SystemTime::now();
        let all = self.sessions.all();
        let count = all.len();
        let mut looking = futures::stream::iter(all)
            .map(|handle| {
                let sessions = Arc::clone(&self.sessions);
                async move {
                    let at = sessions.whereabouts(handle.client_id()).await;
                    (handle, at)
                }
            })
            .buffer_unordered(AT_ONCE);
        let mut gone = 0;
        while let Some((handle, at)) = looking.next().await {
            match at {
                Ok(Some(_)) => {
                    gone += 1;
                    self.sessions.lose(&handle, None);
                }
                Ok(None) => {}
                // Whatever is written next finds out.
                Err(error) => debug!(%error, "a record was not read"),
            }
        }
        let took = started.elapsed().unwrap_or_default();
        info!(
            sessions = count,
            gone,
            ?took,
            "the log is back; sessions that others have taken are let go"
        );
    }
}
