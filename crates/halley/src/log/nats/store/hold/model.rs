//! Two nodes, one bucket, and servers that answer late or never: what must hold whatever the order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bayeux::{ClientId, Snapshot};
use proptest::prelude::*;

use super::*;
use crate::event::Tenant;
use crate::log::Epoch;

#[derive(Debug, Clone)]
enum Event {
    Put,
    Checkpoint(u64),
    Remove,
    Get,
    /// From the other node, from itself, or from nobody that there is.
    Adopt(u8),
    Release,
    /// The servers get what the node does.
    Do(Fate),
    /// Something comes that was on its way.
    Arrive,
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    /// It is done, but nobody hears of it.
    Unheard,
    /// It never gets there.
    LostOnTheWay,
    /// It gets there when nobody waits any more.
    Late,
    /// The servers are known to be away.
    Away,
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        12 => Just(Fate::Answered),
        2 => Just(Fate::Unheard),
        1 => Just(Fate::LostOnTheWay),
        2 => Just(Fate::Late),
        1 => Just(Fate::Away),
    ];
    prop_oneof![
        3 => Just(Event::Put),
        4 => (0..20_u64).prop_map(Event::Checkpoint),
        1 => Just(Event::Remove),
        2 => Just(Event::Get),
        2 => (0..3_u8).prop_map(Event::Adopt),
        1 => Just(Event::Release),
        16 => fate.prop_map(Event::Do),
        2 => Just(Event::Arrive),
    ]
}

/// What a call waits for: its number, and of which put it makes part.
#[derive(Debug, Clone, Copy)]
struct Call {
    kind: Kind,
    number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Checkpoint(Offset),
    Remove,
    Get,
    Adopt,
}

/// The servers: one subject of a bucket, and what is under way to it.
#[derive(Debug, Default)]
struct Servers {
    there: Option<(Revision, Arc<SessionRecord>)>,
    last: Revision,
    /// Writes of each node that come late, in their order.
    late: [VecDeque<(Arc<SessionRecord>, Revision)>; 2],
    late_deletions: Vec<Revision>,
    /// The furthest cursor of each put, by its number.
    cursors: BTreeMap<u64, Offset>,
    /// Every put that was ever there, and whose.
    was_there: Vec<(Option<NodeId>, u64)>,
    /// The newest checkpoint that was ever there, by its number.
    marked: u64,
}

impl Servers {
    fn write(&mut self, record: &Arc<SessionRecord>, over: Revision) -> Outcome {
        let now = self.there.as_ref().map_or(NOTHING, |(revision, _)| *revision);
        if now != over {
            return Outcome::Refused;
        }
        if let Some((_, before)) = &self.there
            && before.node != record.node
        {
            let mut adopted = SessionRecord::clone(before);
            adopted.node = record.node.clone();
            adopted.fence += 1;
            assert_eq!(**record, adopted, "a record changes hands as it is");
        }
        let put = put_of(record);
        let cursor = self.cursors.entry(put).or_insert(record.state.cursor);
        assert!(record.state.cursor >= *cursor, "a cursor has moved back");
        *cursor = record.state.cursor;
        self.was_there.push((record.node.clone(), put));
        self.marked = self.marked.max(number_of(record));
        self.last += 1;
        self.there = Some((self.last, record.clone()));
        Outcome::Written(self.last)
    }

    fn delete(&mut self, revision: Revision) -> Outcome {
        if self.there.as_ref().is_some_and(|(now, _)| *now == revision) {
            self.there = None;
            Outcome::Deleted
        } else {
            Outcome::Refused
        }
    }

    /// Writes of one node arrive in their order.
    fn catch_up(&mut self, node: usize) {
        while let Some((record, over)) = self.late[node].pop_front() {
            self.write(&record, over);
        }
    }
}

/// The number of the put that a record began with.
fn put_of(record: &SessionRecord) -> u64 {
    record.state.replays.into()
}

/// The number of the put or checkpoint that a record was written for.
fn number_of(record: &SessionRecord) -> u64 {
    let since = record.seen.duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a time of this test").as_secs()
}

fn time(number: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(number)
}

#[derive(Debug)]
struct Node {
    hold: Hold<Call>,
    /// It was found to have lost the session, and has not adopted it or given it up since.
    taken: bool,
    /// The step that it was given.
    step: Option<Step>,
    open: usize,
}

struct Model {
    servers: Servers,
    nodes: [Node; 2],
    numbers: u64,
    /// The call that was answered last, and whether it worked.
    done: (u64, bool),
}

fn name(node: usize) -> NodeId {
    NodeId(format!("node-{node}").into())
}

impl Model {
    fn new() -> Self {
        let node = |index| Node {
            hold: Hold::new(name(index)),
            taken: false,
            step: None,
            open: 0,
        };
        Self {
            servers: Servers::default(),
            nodes: [node(0), node(1)],
            numbers: 0,
            done: (0, false),
        }
    }

    fn record(&self) -> SessionRecord {
        SessionRecord {
            client_id: ClientId::new("abc"),
            tenant: Tenant::default(),
            user: None,
            roles: Arc::default(),
            token: None,
            browser: None,
            epoch: Epoch("e".into()),
            state: Snapshot {
                subscriptions: Vec::new(),
                cursor: Offset(5),
                extensions: Vec::new(),
                replays: u8::try_from(self.numbers).expect("a test has few events"),
                ..Snapshot::default()
            },
            seen: time(self.numbers),
            node: None,
            fence: 0,
        }
    }

    fn play(&mut self, index: usize, event: &Event) {
        self.numbers += 1;
        let number = self.numbers;
        let call = |kind| Call { kind, number };
        let record = self.record();
        let node = &mut self.nodes[index];
        match event {
            Event::Put => node.hold.put(record, call(Kind::Put)),
            Event::Checkpoint(cursor) => {
                let cursor = Offset(*cursor);
                node.hold
                    .checkpoint(cursor, time(number), call(Kind::Checkpoint(cursor)));
            }
            Event::Remove => node.hold.remove(call(Kind::Remove)),
            Event::Get => node.hold.get(call(Kind::Get)),
            Event::Adopt(from) => {
                let node_of = match from {
                    0 => Some(name(1 - index)),
                    1 => Some(name(index)),
                    _ => None,
                };
                let there = self.servers.there.as_ref();
                let from = Holder {
                    node: node_of,
                    // As whoever asks has read it; one in four has read it long ago.
                    fence: there
                        .map_or(0, |(_, record)| record.fence)
                        .saturating_sub(u64::from(number.is_multiple_of(4))),
                };
                node.hold.adopt(from, call(Kind::Adopt));
            }
            Event::Release => node.hold.release(),
            Event::Do(fate) => {
                self.step(index, *fate);
                return;
            }
            Event::Arrive => {
                self.arrive(index);
                return;
            }
        }
        if !matches!(event, Event::Release) {
            self.nodes[index].open += 1;
        }
        self.drain(index);
    }

    fn arrive(&mut self, index: usize) {
        if let Some((record, over)) = self.servers.late[index].pop_front() {
            self.servers.write(&record, over);
        } else if let Some(revision) = self.servers.late_deletions.pop() {
            self.servers.delete(revision);
        }
    }

    fn step(&mut self, index: usize, fate: Fate) {
        let Some(step) = self.nodes[index].step.take() else {
            return;
        };
        let unanswered = Outcome::Failed(LogError::Unanswered("".into()));
        let outcome = match fate {
            Fate::Answered => self.perform(index, &step),
            Fate::Unheard => {
                self.perform(index, &step);
                unanswered
            }
            Fate::LostOnTheWay => unanswered,
            Fate::Late => {
                match step {
                    Step::Read | Step::ReadLater => {}
                    Step::Write(record, over) => self.servers.late[index].push_back((record, over)),
                    Step::Delete(revision) => self.servers.late_deletions.push(revision),
                }
                unanswered
            }
            Fate::Away => Outcome::Failed(LogError::Away("".into())),
        };
        let node = &mut self.nodes[index];
        node.hold.handle_outcome(outcome);
        node.taken |= node.hold.poll_lost();
        self.drain(index);
    }

    fn perform(&mut self, index: usize, step: &Step) -> Outcome {
        match step {
            Step::Read | Step::ReadLater => Outcome::Read(self.servers.there.clone()),
            Step::Write(record, over) => {
                assert!(!self.nodes[index].is_barred(), "nothing is written after `Taken`");
                self.servers.catch_up(index);
                self.servers.write(record, *over)
            }
            Step::Delete(revision) => {
                assert!(!self.nodes[index].is_barred(), "nothing is deleted after `Taken`");
                self.servers.delete(*revision)
            }
        }
    }

    fn drain(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.step.is_none() {
            let before = node.releases();
            node.step = node.hold.poll_step();
            if node.releases() < before {
                node.taken = false;
                // Of what is given up in doubt nothing is known: here it has arrived by then.
                self.servers.catch_up(index);
            }
        }
        while let Some((call, answer)) = node.hold.poll_answer() {
            node.open -= 1;
            let is_ok = answer.is_ok();
            match (call.kind, answer) {
                (Kind::Put, Ok(_)) => {
                    let me = Some(name(index));
                    let mut puts = self.servers.was_there.iter();
                    let later = puts.any(|(node, put)| *node == me && *put >= call.number);
                    let merged = later || self.servers.there.is_none();
                    assert!(merged, "a put was answered that is not written: {call:?}");
                }
                (Kind::Checkpoint(cursor), Ok(_)) => {
                    if let Some((_, record)) = &self.servers.there {
                        let is_newer = put_of(record) > call.number;
                        let is_there = record.state.cursor >= cursor && self.servers.marked >= call.number;
                        assert!(
                            is_newer || is_there,
                            "a checkpoint was answered that is not written"
                        );
                    }
                }
                (Kind::Adopt, Ok(Some(record))) => {
                    assert_eq!(record.node, Some(name(index)));
                    node.taken = false;
                }
                (Kind::Remove | Kind::Get | Kind::Adopt, Ok(_)) | (_, Err(_)) => {}
            }
            self.done = (call.number, is_ok);
        }
    }

    /// The servers are well again, and everything that is under way arrives.
    fn settle(&mut self) {
        for _ in 0..1000 {
            for index in 0..2 {
                self.step(index, Fate::Answered);
            }
            if self.nodes.iter().all(|node| node.step.is_none()) {
                break;
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            assert_eq!((node.open, &node.step), (0, &None), "node {index} is stuck");
        }
    }
}

impl Node {
    fn releases(&self) -> usize {
        let queue = self.hold.queue.iter();
        queue.filter(|entry| matches!(entry, Entry::Release)).count()
    }

    /// It may adopt all the same.
    fn is_barred(&self) -> bool {
        self.taken && !matches!(self.hold.queue.front(), Some(Entry::Adopt(..)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_servers_have_what_was_answered(
        events in prop::collection::vec((0..2_usize, event()), 1..80),
        last in 0..2_usize,
        removes in any::<bool>(),
    ) {
        let mut model = Model::new();
        for (index, event) in &events {
            model.play(*index, event);
        }
        model.settle();
        model.servers.catch_up(1 - last);
        // The last word counts, however late the rest comes.
        model.play(last, if removes { &Event::Remove } else { &Event::Put });
        model.settle();
        for _ in 0..events.len() {
            model.arrive(last);
        }
        if model.done == (model.numbers, true) {
            let there = model.servers.there.as_ref().map(|(_, record)| put_of(record));
            prop_assert_eq!(there, (!removes).then_some(model.numbers));
        }
    }
}
