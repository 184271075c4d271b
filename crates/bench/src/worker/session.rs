//! One session: its connection, its client, and what it has had.

use mio::Token;

use super::common::{Common, Recovered, Timer};
use super::socket::{Ends, Read, Socket, plainly};
use crate::account::{Listener, Target, Who};
use crate::body::EVERYONE;
use crate::client::{Broken, Client, Heard, Purpose};
use crate::scenario::Seat;
use crate::settings::{ComeBack, Cut};

/// One session.
pub(super) struct Session {
    seat: Seat,
    /// The number of the node that it goes to.
    node: usize,
    client: Client,
    listener: Listener,
    socket: Option<Socket>,
    life: Life,
    /// When it was begun, or was due to.
    began: u64,
    /// When the server should have said something.
    deadline: u64,
    /// It does not read.
    is_deaf: bool,
    /// Since it lost its connection, or stopped reading.
    recovery: Option<Box<Recovery>>,
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    New,
    /// On its way to its first connect's answer.
    Opening,
    Live,
    /// Without a connection, or on its way back.
    Away,
    /// Given up.
    Failed,
    /// It has said goodbye.
    Gone,
}

/// A session's way back.
struct Recovery {
    from: u64,
    attempts: u32,
    back: Option<u64>,
    /// What it must have to be up to date.
    target: Target,
}

/// What was heard in one reading that has consequences.
#[derive(Default)]
struct News {
    joined: bool,
    back: bool,
    forgotten: bool,
    connect_in: Option<u32>,
}

/// A slow session's receive buffer: what the system takes in for a client that does not read hides its slowness.
const SLOW_BUFFER: usize = 4 << 10;

/// How much longer than it is held a connect may take.
const SLACK: u64 = 10_000_000;

/// One delivery in this many is compared as a whole.
const COMPARE_ONE_IN: u32 = 500;

impl Session {
    pub(super) fn new(common: &Common, seat: Seat, node: usize) -> Self {
        let Seat {
            user,
            transport,
            acknowledges,
            ..
        } = seat;
        Self {
            seat,
            node,
            client: Client::new(
                &common.sites[node],
                user,
                transport,
                Purpose::Listen,
                acknowledges,
            ),
            listener: Listener::new(user),
            socket: None,
            life: Life::New,
            began: 0,
            deadline: u64::MAX,
            is_deaf: false,
            recovery: None,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.life == Life::Live
    }

    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Begins; `due` is when it should have.
    pub(super) fn open(&mut self, common: &mut Common, number: usize, due: u64) {
        self.life = Life::Opening;
        common.opening += 1;
        self.began = due;
        self.connect(common, number);
    }

    /// Begins anew, as if it had never been.
    pub(super) fn renew(&mut self, common: &Common) {
        *self = Self::new(common, self.seat, self.node);
    }

    /// Something happened on the connection; `is_closed` when the peer has ended it.
    pub(super) fn handle_event(&mut self, common: &mut Common, number: usize, is_closed: bool) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        let was_up = socket.is_up();
        match socket.comes_up() {
            Ok(true) => {
                common.out.clear();
                self.client
                    .handle_connected(&common.sites[self.node], &mut common.out);
                self.send(common, number);
            }
            Ok(false) if !was_up => return,
            Ok(false) => {}
            Err(error) => return self.lose(common, number, &Broken::Lost(plainly(&error))),
        }
        if let Some(socket) = &mut self.socket
            && let Err(error) = socket.flush()
        {
            return self.lose(common, number, &Broken::Lost(plainly(&error)));
        }
        if !self.is_deaf {
            self.read(common, number, is_closed);
        }
    }

    /// What was set is due: the next connect, or another attempt to come back.
    pub(super) fn handle_timer(&mut self, common: &mut Common, number: usize) {
        match self.life {
            Life::Away if self.socket.is_none() => self.connect(common, number),
            Life::Live if self.socket.is_some() => {
                common.out.clear();
                self.client.connect(&common.sites[self.node], &mut common.out);
                self.send(common, number);
            }
            Life::New | Life::Opening | Life::Live | Life::Away | Life::Failed | Life::Gone => {}
        }
    }

    /// Looks whether the server is late.
    pub(super) fn watch(&mut self, common: &mut Common, number: usize) {
        if self.deadline > common.now || self.is_deaf || self.socket.is_none() {
            return;
        }
        let reason = format!("no answer in time while {}", self.client.doing());
        self.lose(common, number, &Broken::Lost(reason));
    }

    /// Loses its connection, if that is what acts concern.
    pub(super) fn cut(&mut self, common: &mut Common, number: usize, cut: &Cut) {
        if !self.seat.is_struck || self.life != Life::Live {
            return;
        }
        let Some(socket) = self.socket.take() else {
            return;
        };
        match cut {
            Cut::Reset => socket.reset(),
            Cut::Close => socket.close(),
            Cut::Silent => common.abandoned.push(socket.abandon(&common.registry)),
            Cut::By(_) => {
                // The server's doing: it is noticed like everything else that the server does.
                self.socket = Some(socket);
                return;
            }
        }
        common.tally.cut += 1;
        self.go_away(common, number);
    }

    /// Stops reading.
    pub(super) fn stop_reading(&mut self) {
        self.is_deaf = self.seat.is_struck && self.life == Life::Live;
    }

    /// Reads again, from here on.
    pub(super) fn read_again(&mut self, common: &mut Common, number: usize) {
        if std::mem::take(&mut self.is_deaf) {
            self.deadline = common.now + SLACK;
            self.recovery = Some(Box::new(Recovery {
                from: common.now,
                attempts: 0,
                back: Some(common.now),
                target: common.account.target(&self.listener),
            }));
            // Whatever happened meanwhile had its event then.
            self.handle_event(common, number, true);
        }
    }

    /// Says goodbye and ends the connection.
    pub(super) fn end(&mut self, common: &mut Common) {
        if let Some(mut socket) = self.socket.take() {
            if self.client.is_live() {
                common.out.clear();
                self.client.disconnect(&common.sites[self.node], &mut common.out);
                // Whether it arrives is the server's business: the session would be forgotten in time as well.
                let _ = socket.send(&common.out);
            }
            // In order, since an RST would overtake what was said last.
            socket.close();
        }
        self.life = Life::Gone;
    }

    /// Nothing more will come.
    pub(super) fn settle(&mut self, common: &mut Common) {
        if !matches!(self.life, Life::New | Life::Gone) {
            let who = Who {
                client_id: self.client.client_id(),
                transport: self.client.transport().name(),
            };
            common.account.settle(&self.listener, who);
            common.tally.never_back += u64::from(self.recovery.is_some());
        }
    }

    fn connect(&mut self, common: &mut Common, number: usize) {
        let ends = Ends {
            from: common.source(number),
            to: common.sites[self.node].socket,
            receive_buffer: self.has_small_buffer(common).then_some(SLOW_BUFFER),
        };
        self.deadline = common.now + patience(common);
        match Socket::open(ends, &common.registry, Token(number)) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => self.lose(common, number, &Broken::Lost(plainly(&error))),
        }
    }

    fn has_small_buffer(&self, common: &Common) -> bool {
        use crate::scenario::Act;
        self.seat.is_struck && common.plan.acts.iter().any(|(_, act)| *act == Act::StopReading)
    }

    fn send(&mut self, common: &mut Common, number: usize) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        if let Err(error) = socket.send(&common.out) {
            self.lose(common, number, &Broken::Lost(plainly(&error)));
        }
    }

    /// Reads everything that is there. A short read is the end of it, but for a peer that has ended the connection.
    fn read(&mut self, common: &mut Common, number: usize, is_closed: bool) {
        loop {
            let Some(socket) = &mut self.socket else {
                return;
            };
            let (count, more) = match socket.read(&mut common.buffer) {
                Ok(Read::Full(count)) => (count, true),
                Ok(Read::Last(count)) => (count, false),
                Ok(Read::Nothing) => return,
                Ok(Read::End) => {
                    return self.lose(common, number, &Broken::Lost("closed by the server".to_owned()));
                }
                Err(error) => return self.lose(common, number, &Broken::Lost(plainly(&error))),
            };
            common.now = common.clock();
            common.out.clear();
            let (result, news) = self.hear(common, count);
            if !common.out.is_empty() {
                self.send(common, number);
                if self.socket.is_none() {
                    return;
                }
            }
            match result {
                Ok(()) => {
                    let wait = if self.client.is_live() {
                        u64::from(self.client.hold()) * 1_000 + SLACK
                    } else {
                        patience(common)
                    };
                    self.deadline = common.now + wait;
                }
                Err(broken) => return self.lose(common, number, &broken),
            }
            self.take_note(common, number, &news);
            if !more && !is_closed {
                return;
            }
        }
    }

    /// Hands to the client what was read.
    fn hear(&mut self, common: &mut Common, count: usize) -> (Result<(), Broken>, News) {
        let Common {
            sites,
            buffer,
            out,
            account,
            recorder,
            finder,
            plan,
            struck_at,
            until_compared,
            closed_loop,
            now,
            ..
        } = common;
        let Self {
            client,
            listener,
            socket,
            seat,
            node,
            ..
        } = self;
        let site = &sites[*node];
        let mut news = News::default();
        let Some(socket) = socket else {
            return (Ok(()), news);
        };
        let transport = client.transport().name();
        let result = socket.take(&buffer[..count], |bytes| {
            client.handle_bytes(site, bytes, out, |heard| match heard {
                Heard::Events { message, client_id } => {
                    let who = Who { client_id, transport };
                    for mark in finder.marks(message) {
                        let Some(mark) = mark else {
                            account.hear_corrupt(listener, None, who);
                            continue;
                        };
                        if !account.hear(listener, &mark, who) {
                            continue;
                        }
                        let is_after = struck_at.is_some_and(|at| mark.due >= at);
                        let group = plan.groups.index(seat.group, mark.stream == EVERYONE, is_after);
                        recorder.deliver(group, mark.due, *now, plan.bodies.size(mark.body));
                        if let Some(closed_loop) = closed_loop {
                            closed_loop.deliver(mark.stream, mark.number);
                        }
                        *until_compared = until_compared.checked_sub(1).unwrap_or(COMPARE_ONE_IN - 1);
                        if *until_compared == 0 {
                            account.counts.compared += 1;
                            let channels = site.channels();
                            let on = |channel| match (&channels.everyone, mark.stream) {
                                (Some(everyone), EVERYONE) => everyone.clone(),
                                (Some(_) | None, _) => channels.own(channel, seat.user),
                            };
                            if !plan.bodies.is_intact(message, &mark, on) {
                                account.hear_corrupt(listener, Some(&mark), who);
                            }
                        }
                    }
                }
                Heard::Joined => news.joined = true,
                Heard::Back => news.back = true,
                Heard::Forgotten => news.forgotten = true,
                Heard::ConnectIn(milliseconds) => news.connect_in = Some(milliseconds),
                Heard::Kept | Heard::Published { .. } => {}
            })
        });
        (result, news)
    }

    fn take_note(&mut self, common: &mut Common, number: usize, news: &News) {
        if let Some(milliseconds) = news.connect_in {
            let at = common.now + u64::from(milliseconds) * 1_000;
            common.timers.set(at, Timer::Session(index(number)));
        }
        if news.forgotten {
            common.tally.forgotten += 1;
        }
        if news.joined && self.life == Life::Opening {
            self.life = Life::Live;
            common.opening -= 1;
            common.board.live.add(1);
            crate::latency::record(&mut common.tally.opened, self.began, common.now);
        } else if (news.joined || news.back) && self.life == Life::Away {
            self.life = Life::Live;
            common.board.live.add(1);
            let target = common.account.target(&self.listener);
            if let Some(recovery) = &mut self.recovery {
                recovery.back = Some(common.now);
                recovery.target = target;
            }
        }
        self.recover(common);
    }

    /// Looks whether it is back and has everything.
    fn recover(&mut self, common: &mut Common) {
        let Some(recovery) = &self.recovery else {
            return;
        };
        if let Some(back) = recovery.back
            && recovery.target.is_reached_by(&self.listener)
        {
            common.tally.recoveries.push(Recovered {
                back: back.saturating_sub(recovery.from),
                complete: common.now.saturating_sub(recovery.from),
            });
            self.recovery = None;
        }
    }

    /// The connection is no use any more.
    fn lose(&mut self, common: &mut Common, number: usize, broken: &Broken) {
        if let Some(socket) = self.socket.take() {
            socket.reset();
        }
        match (self.life, broken) {
            (Life::Opening, _) | (_, Broken::Refused(_)) => {
                self.fail(common, &broken.to_string());
            }
            (Life::Live | Life::Away, Broken::Lost(reason)) => {
                common.tally.broken += 1;
                common.tally.fail(reason);
                self.go_away(common, number);
            }
            (Life::New | Life::Failed | Life::Gone, _) => {}
        }
    }

    fn fail(&mut self, common: &mut Common, reason: &str) {
        match self.life {
            Life::Live => common.board.live.set(common.board.live.get().saturating_sub(1)),
            Life::Opening => common.opening -= 1,
            Life::New | Life::Away | Life::Failed | Life::Gone => {}
        }
        self.life = Life::Failed;
        self.client.handle_broken();
        common.board.failed.add(1);
        common.tally.fail(reason);
    }

    /// Comes back when a client of its kind would.
    fn go_away(&mut self, common: &mut Common, number: usize) {
        if self.life == Life::Live {
            common.board.live.set(common.board.live.get().saturating_sub(1));
        }
        self.life = Life::Away;
        self.client.handle_broken();
        self.is_deaf = false;
        self.listener.may_repeat = !self.seat.acknowledges;
        let from = common
            .struck_at
            .filter(|_| self.seat.is_struck)
            .unwrap_or(common.now);
        let recovery = self.recovery.get_or_insert_with(|| {
            Box::new(Recovery {
                from,
                attempts: 0,
                back: None,
                target: Target::default(),
            })
        });
        recovery.back = None;
        recovery.attempts += 1;
        let pause = pause(
            common.settings.storm.come_back,
            recovery.attempts,
            &mut common.rng,
        );
        common
            .timers
            .set(common.now + pause, Timer::Session(index(number)));
    }
}

/// Until the next attempt to come back, in microseconds.
fn pause(come_back: ComeBack, attempt: u32, rng: &mut fastrand::Rng) -> u64 {
    match (come_back, attempt) {
        (ComeBack::Cometd, attempt) => u64::from(attempt) * 1_000_000,
        (ComeBack::AtOnce, 1) => 0,
        (ComeBack::AtOnce, _) => 5_000_000,
        (ComeBack::Within(seconds), _) => rng.u64(..=u64::from(seconds) * 1_000_000),
    }
}

fn patience(common: &Common) -> u64 {
    u64::try_from(common.settings.opening.patience.as_micros()).unwrap_or(u64::MAX)
}

fn index(number: usize) -> u32 {
    u32::try_from(number).expect("there are below ten million sessions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cometd_comes_back_after_one_three_six_and_ten_seconds() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut at = 0;
        let moments: Vec<u64> = (1..=4)
            .map(|attempt| {
                at += pause(ComeBack::Cometd, attempt, &mut rng) / 1_000_000;
                at
            })
            .collect();
        assert_eq!(moments, [1, 3, 6, 10]);
    }

    #[test]
    fn others_come_back_at_once_or_at_some_moment() {
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(pause(ComeBack::AtOnce, 1, &mut rng), 0);
        assert_eq!(pause(ComeBack::AtOnce, 2, &mut rng), 5_000_000);
        let some: Vec<u64> = (0..100)
            .map(|_| pause(ComeBack::Within(10), 1, &mut rng))
            .collect();
        assert!(some.iter().max() > Some(&8_000_000) && some.iter().min() < Some(&2_000_000));
    }
}
