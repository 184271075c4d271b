//! Every event accounted for: what each session should have had, what it had, and what is wrong with that.

mod position;
mod streams;

use serde::Serialize;

use crate::body::{self, EVERYONE, Mark};

use position::Arrival;
pub(crate) use position::Position;
pub(crate) use streams::{Everyone, Streams};

/// What one session listens to, and what it has had of it.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    pub(crate) user: u32,
    own: Position,
    all: Position,
    /// It lost its connection and does not acknowledge: until something new comes, it may be told again what it has had.
    pub(crate) may_repeat: bool,
}

impl Listener {
    pub(crate) fn new(user: u32) -> Self {
        Self {
            user,
            ..Self::default()
        }
    }
}

/// What can be wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// It was accepted and never came.
    Lost,
    /// It came more than once.
    Duplicated,
    /// It came after one that was published later.
    OutOfOrder,
    /// It belongs to somebody else, or was never published.
    Foreign,
    /// It is not what was published.
    Corrupt,
    /// It came although its publisher was told that it was refused.
    Refused,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Lost,
        Self::Duplicated,
        Self::OutOfOrder,
        Self::Foreign,
        Self::Corrupt,
        Self::Refused,
    ];

    /// In words, for one event or many.
    pub fn words(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::OutOfOrder => "out of order",
            Self::Foreign => "foreign",
            Self::Corrupt => "corrupt",
            Self::Refused => "delivered although refused",
        }
    }
}

/// Something wrong with one event at one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub wrong: Wrong,
    /// Whose event it is, and its number among theirs: `17#4`, `everyone#0`.
    pub event: String,
    /// The user whose session it is: an index, until the report gives it its name.
    pub user: String,
    /// The session's clientId.
    pub session: String,
    /// `websocket` or `long-polling`.
    pub transport: &'static str,
}

/// How often what happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Deliveries that were due: each event once to each session that listens to it.
    pub expected: u64,
    /// Events that came for the first time.
    pub delivered: u64,
    /// Accepted and never delivered.
    pub lost: u64,
    /// Delivered more than once.
    pub duplicated: u64,
    /// Overtaken by a later one.
    pub out_of_order: u64,
    /// Delivered to somebody else, or never published.
    pub foreign: u64,
    /// Changed on the way; one delivery in 500 is compared.
    pub corrupt: u64,
    /// Delivered although the publish was refused.
    pub refused: u64,
    /// Delivered again after a break to a session that does not acknowledge, which it must expect.
    pub repeated: u64,
    /// Deliveries that were compared as a whole.
    pub compared: u64,
}

impl Counts {
    /// How often this was wrong.
    pub fn of(&self, wrong: Wrong) -> u64 {
        match wrong {
            Wrong::Lost => self.lost,
            Wrong::Duplicated => self.duplicated,
            Wrong::OutOfOrder => self.out_of_order,
            Wrong::Foreign => self.foreign,
            Wrong::Corrupt => self.corrupt,
            Wrong::Refused => self.refused,
        }
    }

    fn slot(&mut self, wrong: Wrong) -> &mut u64 {
        match wrong {
            Wrong::Lost => &mut self.lost,
            Wrong::Duplicated => &mut self.duplicated,
            Wrong::OutOfOrder => &mut self.out_of_order,
            Wrong::Foreign => &mut self.foreign,
            Wrong::Corrupt => &mut self.corrupt,
            Wrong::Refused => &mut self.refused,
        }
    }

    /// Adds what another thread has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.repeated += other.repeated;
        self.compared += other.compared;
        for wrong in Wrong::ALL {
            *self.slot(wrong) += other.of(wrong);
        }
    }
}

/// Who a session is, for findings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    /// As JSON.
    pub(crate) client_id: &'a str,
    pub(crate) transport: &'static str,
}

/// The account of one thread's sessions.
#[derive(Debug)]
pub(crate) struct Account {
    run: u32,
    /// Whether sessions listen to events of their own, and to those for everyone.
    hears_own: bool,
    hears_all: bool,
    pub(crate) streams: Streams,
    pub(crate) counts: Counts,
    pub(crate) findings: Vec<Finding>,
}

/// Findings of one kind that a thread keeps; more are counted only.
const FINDINGS: u64 = 50;

impl Account {
    pub(crate) fn new(run: u32, hears_own: bool, hears_all: bool, streams: Streams) -> Self {
        Self {
            run,
            hears_own,
            hears_all,
            streams,
            counts: Counts::default(),
            findings: Vec::new(),
        }
    }

    /// The number of the run.
    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    /// An event came to a session. Whether it is new there.
    pub(crate) fn hear(&mut self, listener: &mut Listener, mark: &Mark, who: Who<'_>) -> bool {
        let position = match mark.stream {
            _ if mark.run != self.run => None,
            EVERYONE if self.hears_all => Some(&mut listener.all),
            user if user == listener.user && self.hears_own => Some(&mut listener.own),
            _ => None,
        };
        let position = position.filter(|_| mark.number < self.streams.published(mark.stream));
        let Some(position) = position else {
            self.note(Wrong::Foreign, mark.event(), listener.user, who);
            return false;
        };
        match position.take(mark.number) {
            Arrival::New => listener.may_repeat = false,
            Arrival::Late => self.note(Wrong::OutOfOrder, mark.event(), listener.user, who),
            Arrival::Again if listener.may_repeat => {
                self.counts.repeated += 1;
                return false;
            }
            Arrival::Again => {
                self.note(Wrong::Duplicated, mark.event(), listener.user, who);
                return false;
            }
        }
        self.counts.delivered += 1;
        true
    }

    /// Something came that says it is an event and cannot be read, or is not what was published.
    pub(crate) fn hear_corrupt(&mut self, listener: &Listener, mark: Option<&Mark>, who: Who<'_>) {
        let event = mark.map_or_else(|| "unreadable".to_owned(), Mark::event);
        self.note(Wrong::Corrupt, event, listener.user, who);
    }

    /// How many deliveries a session still waits for, without those of which nobody knows whether they will come.
    pub(crate) fn outstanding(&self, listener: &Listener) -> u64 {
        self.heard(listener)
            .map(|(stream, position)| {
                let missing = position.count_missing_below(self.streams.published(stream));
                let excused = self.streams.with(stream, |stream| {
                    let excused = stream.refused.iter().chain(&stream.uncertain);
                    excused.filter(|number| !position.has(**number)).count() as u64
                });
                missing - excused
            })
            .sum()
    }

    /// Where the streams of a session stand now: what it must have to be up to date.
    pub(crate) fn target(&self, listener: &Listener) -> Target {
        Target {
            own: if self.hears_own {
                self.streams.published(listener.user)
            } else {
                0
            },
            all: if self.hears_all {
                self.streams.published(EVERYONE)
            } else {
                0
            },
        }
    }

    /// Nothing more will come: what is missing is lost.
    pub(crate) fn settle(&mut self, listener: &Listener, who: Who<'_>) {
        let mut wrong = Vec::new();
        for (number, position) in self.heard(listener) {
            let end = self.streams.published(number);
            let (excused, refused) = self.streams.with(number, |stream| {
                let excused: Vec<u64> = stream.refused.iter().chain(&stream.uncertain).copied().collect();
                (excused, stream.refused.clone())
            });
            let lost = position
                .missing_below(end)
                .filter(|missing| !excused.contains(missing));
            wrong.extend(lost.map(|missing| (Wrong::Lost, number, missing)));
            let ghosts = refused.into_iter().filter(|refused| position.has(*refused));
            wrong.extend(ghosts.map(|refused| (Wrong::Refused, number, refused)));
            let came = excused.iter().filter(|number| position.has(**number)).count();
            self.counts.expected += end - (excused.len() - came) as u64;
        }
        for (kind, stream, number) in wrong {
            self.note(kind, body::event(stream, number), listener.user, who);
        }
    }

    fn heard<'a>(&self, listener: &'a Listener) -> impl Iterator<Item = (u32, &'a Position)> + use<'a> {
        let own = self.hears_own.then_some((listener.user, &listener.own));
        let all = self.hears_all.then_some((EVERYONE, &listener.all));
        own.into_iter().chain(all)
    }

    fn note(&mut self, wrong: Wrong, event: String, user: u32, who: Who<'_>) {
        let count = self.counts.slot(wrong);
        *count += 1;
        if *count <= FINDINGS {
            self.findings.push(Finding {
                wrong,
                event,
                user: user.to_string(),
                session: who.client_id.trim_matches('"').to_owned(),
                transport: who.transport,
            });
        }
    }
}

/// How far a session must have come to be up to date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Target {
    own: u64,
    all: u64,
}

impl Target {
    /// Whether it has.
    pub(crate) fn is_reached_by(self, listener: &Listener) -> bool {
        listener.own.has_all_below(self.own) && listener.all.has_all_below(self.all)
    }
}

#[cfg(test)]
mod tests;
