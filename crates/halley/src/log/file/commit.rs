//! One commit while it is built: what it writes, and who waits for it.

use bayeux::{ChannelName, Delivery, Draft, Marks, Offset};
use bytes::Bytes;
use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};
use tokio::sync::oneshot;

use super::keys::{self, Prefix};
use crate::event::{Audience, Event, Tenant, wall_clock};
use crate::log::{Appended, LogError, Position};

/// A commit takes no more commands when it has this many …
const MOST_COMMANDS: usize = 4096;
/// … or this many events …
const MOST_EVENTS: usize = 4096;
/// … or this many bytes of them.
const MOST_BYTES: u64 = 4 << 20;

/// Where an answer goes.
pub(super) type AnswerTo<T> = oneshot::Sender<Result<T, LogError>>;

pub(super) struct Commit {
    pub(super) batch: OwnedWriteBatch,
    /// The events, in order.
    pub(super) added: Vec<Appended>,
    /// What they take.
    pub(super) bytes: u64,
    /// Writes of sessions among the commands.
    pub(super) session_writes: u64,
    /// Buckets that get no more entries.
    pub(super) closed: Vec<Keyspace>,
    /// Buckets that were struck out.
    pub(super) gone: Vec<Keyspace>,
    answers: Vec<Answer>,
}

enum Answer {
    Positions(AnswerTo<Vec<Position>>, Vec<Position>),
    Number(AnswerTo<usize>, usize),
    Done(AnswerTo<()>),
}

impl Commit {
    pub(super) fn new(db: &Database) -> Self {
        Self {
            batch: db.batch().durability(Some(PersistMode::SyncData)),
            added: Vec::new(),
            bytes: 0,
            session_writes: 0,
            closed: Vec::new(),
            gone: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.answers.len() < MOST_COMMANDS && self.added.len() < MOST_EVENTS && self.bytes < MOST_BYTES
    }

    pub(super) fn answer_positions(&mut self, to: AnswerTo<Vec<Position>>, positions: Vec<Position>) {
        self.answers.push(Answer::Positions(to, positions));
    }

    pub(super) fn answer_number(&mut self, to: AnswerTo<usize>, number: usize) {
        self.answers.push(Answer::Number(to, number));
    }

    pub(super) fn answer_done(&mut self, to: AnswerTo<()>) {
        self.answers.push(Answer::Done(to));
    }

    pub(super) fn take_answers(&mut self) -> Answers {
        Answers(std::mem::take(&mut self.answers))
    }
}

/// The answers of a commit. Whoever does not wait any more is passed over: what was written stays written.
pub(super) struct Answers(Vec<Answer>);

impl Answers {
    pub(super) fn send(self, outcome: &Result<(), LogError>) {
        for answer in self.0 {
            let outcome = outcome.clone();
            match answer {
                Answer::Positions(to, positions) => drop(to.send(outcome.map(|()| positions))),
                Answer::Number(to, number) => drop(to.send(outcome.map(|()| number))),
                Answer::Done(to) => drop(to.send(outcome)),
            }
        }
    }
}

/// An event with everything but its offset, made on the publisher's thread so that the writer only copies pointers.
pub(super) struct Prepared {
    tenant: Tenant,
    audience: Audience,
    channel: ChannelName,
    marks: Marks,
    id: Option<Box<str>>,
    prefix: Prefix,
    value: Vec<u8>,
    /// Where in the value the frame begins.
    frame_at: usize,
    /// Where in the value the offset goes, if the event carries it.
    offset_at: Option<usize>,
}

impl Prepared {
    pub(super) fn new(event: Event) -> Result<Self, LogError> {
        let Event {
            tenant,
            audience,
            channel,
            data,
            id,
            traits,
        } = event;
        let user = match &audience {
            Audience::User(user) => user.0.len(),
            Audience::Everyone => 0,
        };
        if user
            .max(channel.as_str().len())
            .max(id.as_ref().map_or(0, |id| id.len()))
            > keys::LONGEST_NAME
        {
            let text = format!(
                "a user, channel or id is longer than {} bytes",
                keys::LONGEST_NAME
            );
            return Err(LogError::Unusable(text.into()));
        }
        let prefix = Prefix::of(&tenant, &audience, &channel);
        let draft = Draft::new(channel.clone(), &data, &traits, wall_clock());
        let (value, frame_at) = keys::value(&channel, draft.marks(), draft.frame());
        // An empty id cannot be a key, and says nothing.
        let id = id.filter(|id| !id.is_empty());
        Ok(Self {
            tenant,
            audience,
            channel,
            marks: draft.marks().clone(),
            id,
            prefix,
            value,
            frame_at,
            offset_at: draft.offset_at().map(|at| frame_at + at),
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.prefix.len() + self.value.len()) as u64
    }

    pub(super) fn take_id(&mut self) -> Option<Box<str>> {
        self.id.take()
    }

    /// Writes the event into its bucket.
    pub(super) fn write(mut self, commit: &mut Commit, bucket: &Keyspace, offset: Offset) {
        commit.bytes += self.bytes();
        if let Some(place) = self.offset_at {
            Draft::write_offset(&mut self.value[place..], offset);
        }
        let value = Bytes::from(self.value);
        let frame = value.slice(self.frame_at..);
        commit.batch.insert(bucket, self.prefix.into_key(offset), value);
        let delivery = Delivery::from_frame(offset, self.channel, frame, self.marks);
        commit.added.push(Appended {
            tenant: self.tenant,
            audience: self.audience,
            delivery: delivery.into(),
        });
    }
}
