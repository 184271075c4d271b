//! One thread of the generator: its sessions, its publishers, and one loop that waits for all of them.
//!
//! Everything is in one thread, without locks and without a task for each session: a delivery costs the generator one `read`
//! and its share of an `epoll_wait`, so one core of it can load one core of a server.

mod alarm;
mod board;
mod closed_loop;
mod common;
mod lane;
mod record;
mod session;
mod socket;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};
use std::{io, mem};

use mio::{Events, Token, Waker};

use alarm::Alarm;
pub(crate) use board::Board;
use closed_loop::ClosedLoop;
use common::{Common, Timer, Timers};
pub(crate) use common::{Recovered, Tally};
use lane::Lane;
pub(crate) use record::Interval;
use record::Recorder;
use session::Session;

use crate::account::{Account, Counts, Everyone, Finding, Streams};
use crate::arrivals::Arrivals;
use crate::body::Finder;
use crate::latency::Latencies;
use crate::scenario::{Act, Plan, Seat, Share};
use crate::settings::Settings;
use crate::site::Site;

/// What a thread is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// Open all sessions.
    Open,
    /// Say goodbye with all of them, and be ready to open them again.
    Close,
    /// Publish.
    Publish(Times),
    /// Nothing more will come: settle the account and end.
    Finish,
}

/// When what happens, in microseconds of the run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// The first publish.
    pub(crate) begin: u64,
    /// What is due from here on is measured.
    pub(crate) measure: u64,
    /// What is due from here on is not published.
    pub(crate) end: u64,
    /// Length of an interval.
    pub(crate) interval: u64,
}

/// What a thread tells.
#[derive(Debug)]
pub(crate) enum News {
    Interval(Interval),
    Finished(Box<Finished>),
    Failed(io::Error),
}

/// What a thread knows at its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) counts: Counts,
    pub(crate) findings: Vec<Finding>,
    pub(crate) tally: Tally,
    /// How long after it was due an event was noticed, and was sent.
    pub(crate) noticed: Latencies,
    pub(crate) sent: Latencies,
}

/// What all threads of a run have.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) number: u32,
    pub(crate) settings: Arc<Settings>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) everyone: Arc<Everyone>,
    pub(crate) began: Instant,
}

/// A thread's ends of what connects it with the others.
pub(crate) struct Lines {
    pub(crate) board: Arc<Board>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) news: Sender<News>,
    /// Given the waker that announces an order.
    pub(crate) ready: Sender<Waker>,
}

/// A thread.
pub(crate) struct Worker {
    share: Share,
    common: Common,
    sessions: Vec<Session>,
    lanes: Vec<Lane>,
    arrivals: Option<Box<dyn Arrivals>>,
    times: Times,
    alarm: Alarm,
    orders: Receiver<Order>,
    news: Sender<News>,
    /// Sessions that were begun.
    begun: usize,
    opening_since: u64,
    interval: u64,
}

const ALARM: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const LANES: usize = 1 << 40;

const MILLISECOND: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// The longest wait, so that whatever was missed is noticed.
const TURN: Duration = Duration::from_millis(100);

/// Timers of one turn: ten thousand clients that come back at once must not keep the others from being heard.
const TIMERS: usize = 64;

/// What one read may bring.
const BUFFER: usize = 256 << 10;

/// Runs a thread to its end.
pub(crate) fn run(run: &Run, share: Share, lines: Lines) {
    let news = lines.news.clone();
    let result = Worker::new(run, share, lines).and_then(Worker::run);
    let last = match result {
        Ok(finished) => News::Finished(Box::new(finished)),
        Err(error) => News::Failed(error),
    };
    // Without a listener nobody waits for it.
    let _ = news.send(last);
}

impl Worker {
    fn new(run: &Run, share: Share, lines: Lines) -> io::Result<Self> {
        let alarm = Alarm::new(ALARM)?;
        let registry = alarm.registry().try_clone()?;
        let _ = lines.ready.send(Waker::new(&registry, WAKER)?);
        let plan = Arc::clone(&run.plan);
        let settings = Arc::clone(&run.settings);
        let hears_own = !plan.channels.own.is_empty();
        let hears_all = plan.channels.everyone.is_some();
        let streams = Streams::new(plan.users, Arc::clone(&run.everyone));
        let seats: Vec<Seat> = plan
            .seats
            .iter()
            .filter(|seat| share.has(seat.user))
            .copied()
            .collect();
        let closed_loop = settings
            .in_flight
            .map(|limit| ClosedLoop::new(limit, plan.users, seats.iter().map(|seat| seat.user)));
        let common = Common {
            sites: settings
                .urls()
                .map(|url| Site::new(url, &settings.users, plan.channels.clone()))
                .collect(),
            registry,
            began: run.began,
            now: 0,
            sources: run.sources.clone(),
            account: Account::new(run.number, hears_own, hears_all, streams),
            recorder: Recorder::new(plan.groups.names().len()),
            timers: Timers::default(),
            finder: Finder::new(),
            rng: fastrand::Rng::with_seed(settings.seed.wrapping_add(100 + share.thread as u64)),
            buffer: vec![0; BUFFER].into(),
            out: Vec::new(),
            opening: 0,
            until_compared: 1,
            board: lines.board,
            struck_at: None,
            tally: Tally::default(),
            closed_loop,
            abandoned: Vec::new(),
            settings,
            plan,
        };
        Ok(Self {
            share,
            sessions: seats
                .into_iter()
                .enumerate()
                .map(|(number, seat)| Session::new(&common, seat, number % common.sites.len()))
                .collect(),
            lanes: Vec::new(),
            arrivals: None,
            times: Times::default(),
            common,
            alarm,
            orders: lines.orders,
            news: lines.news,
            begun: 0,
            opening_since: 0,
            interval: 0,
        })
    }

    fn run(mut self) -> io::Result<Finished> {
        let mut events = Events::with_capacity(1024);
        self.common.timers.set(SECOND, Timer::Watch);
        loop {
            while let Ok(order) = self.orders.try_recv() {
                match order {
                    Order::Open => self.open(),
                    Order::Close => self.close(),
                    Order::Publish(times) => self.begin(times),
                    Order::Finish => return Ok(self.finish()),
                }
            }
            self.common.now = self.common.clock();
            for _ in 0..TIMERS {
                let Some((at, timer)) = self.common.timers.due(self.common.now) else {
                    break;
                };
                self.handle_timer(at, timer);
            }
            self.open_more();
            self.publish_due();
            let wait = self.wait();
            self.alarm.wait(&mut events, wait)?;
            self.common.now = self.common.clock();
            for event in &events {
                let is_closed = event.is_read_closed() || event.is_error();
                match event.token() {
                    ALARM | WAKER => {}
                    Token(number) if number >= LANES => self.handle_lane(number - LANES, is_closed),
                    Token(number) => {
                        self.sessions[number].handle_event(&mut self.common, number, is_closed);
                    }
                }
            }
        }
    }

    fn handle_lane(&mut self, number: usize, is_closed: bool) {
        self.lanes[number].handle_event(&mut self.common, is_closed);
        if self.times.begin == 0 {
            let ready = self.lanes.iter().filter(|lane| lane.is_ready()).count();
            self.common.board.publishers.set(ready as u64);
        }
    }

    /// How long nothing is due.
    fn wait(&mut self) -> Duration {
        let due = self
            .arrivals
            .as_mut()
            .filter(|_| self.common.closed_loop.is_none());
        let due = due.map(|arrivals| self.times.begin + arrivals.peek());
        let next = due.into_iter().chain(self.common.timers.next()).min();
        let now = self.common.clock();
        next.map_or(TURN, |next| {
            Duration::from_micros(next.saturating_sub(now)).min(TURN)
        })
    }

    fn handle_timer(&mut self, at: u64, timer: Timer) {
        let common = &mut self.common;
        match timer {
            Timer::Session(number) => {
                let number = number as usize;
                self.sessions[number].handle_timer(common, number);
            }
            Timer::Lane(number) => {
                let number = number as usize;
                self.lanes[number].handle_timer(common, Token(LANES + number));
            }
            Timer::Open => self.open_next(at),
            Timer::Interval => self.end_interval(at),
            Timer::Watch => self.watch(at),
            Timer::Act(number) => self.act(number),
            Timer::Count => self.count(at),
        }
    }

    fn open(&mut self) {
        self.begun = 0;
        self.opening_since = self.common.clock();
        if self.lanes.is_empty() {
            self.open_lanes();
        }
        if self.common.settings.opening.rate.is_some() && self.common.plan.only_opens {
            self.common.timers.set(self.opening_since, Timer::Open);
        }
    }

    /// As many at a time as may be.
    fn open_more(&mut self) {
        if self.begun == self.sessions.len() || self.opening_since == 0 || self.is_paced() {
            return;
        }
        let opening = self.common.opening;
        let parallel = (self.common.settings.opening.parallel as usize).div_ceil(self.share.threads);
        let due = self.common.now;
        for _ in opening..parallel.min(opening + self.sessions.len() - self.begun) {
            self.sessions[self.begun].open(&mut self.common, self.begun, due);
            self.begun += 1;
        }
    }

    fn is_paced(&self) -> bool {
        self.common.settings.opening.rate.is_some() && self.common.plan.only_opens
    }

    /// One, and its latency counts from when it was due.
    fn open_next(&mut self, at: u64) {
        if self.begun == self.sessions.len() {
            return;
        }
        self.sessions[self.begun].open(&mut self.common, self.begun, at);
        self.begun += 1;
        let rate = self.common.settings.opening.rate.unwrap_or(1.0) / self.share.threads as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time of the run, which is positive and short"
        )]
        let next = self.opening_since + (self.begun as f64 * 1e6 / rate) as u64;
        self.common.timers.set(next, Timer::Open);
    }

    fn open_lanes(&mut self) {
        let plan = Arc::clone(&self.common.plan);
        self.arrivals = plan
            .traffic
            .arrivals(&self.share, plan.users, self.common.settings.seed);
        if self.arrivals.is_none() {
            return;
        }
        let count = (self.common.settings.publish.connections as usize).div_ceil(self.share.threads);
        for number in 0..count {
            let user = (number % plan.users as usize) as u32;
            let mut lane = Lane::new(&self.common, number, user);
            lane.open(&mut self.common, Token(LANES + number));
            self.lanes.push(lane);
        }
    }

    fn close(&mut self) {
        self.common.board.live.set(0);
        for session in &mut self.sessions {
            session.end(&mut self.common);
            session.renew(&self.common);
        }
        self.opening_since = 0;
        self.begun = 0;
        self.common.opening = 0;
    }

    fn begin(&mut self, times: Times) {
        self.times = times;
        self.common.recorder.window = times.measure..times.end;
        self.common
            .timers
            .set(times.begin + times.interval, Timer::Interval);
        for (number, (after, _)) in (0..).zip(&self.common.plan.acts) {
            let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
            self.common.timers.set(times.measure + after, Timer::Act(number));
        }
    }

    /// Publishes what is due by now.
    fn publish_due(&mut self) {
        if self.times.begin == 0 || Board::says(&self.common.board.has_published) {
            return;
        }
        self.take_due();
        for lane in &mut self.lanes {
            lane.flush(&mut self.common);
        }
        let now = self.common.now;
        let oldest = self.lanes.iter().filter_map(Lane::oldest).min();
        if oldest.is_some_and(|due| due + lane::BEHIND < now) {
            self.give_up_publishing();
        }
        if self.arrivals.is_none() && self.lanes.iter().all(Lane::is_idle) {
            self.count(now);
            Board::say(&self.common.board.has_published);
        }
    }

    /// Hands what is due to the lanes.
    fn take_due(&mut self) {
        let now = self.common.now;
        if now < self.times.begin {
            return;
        }
        let Some(arrivals) = &mut self.arrivals else {
            return;
        };
        let lanes = self.lanes.len();
        if let Some(closed_loop) = &self.common.closed_loop {
            let waiting = self.lanes.iter().map(Lane::waiting).sum();
            for _ in 0..closed_loop.room(waiting) {
                let due = arrivals.next();
                self.lanes[self.share.lane(due.stream, lanes)].push(crate::arrivals::Due { at: now, ..due });
            }
        } else {
            while self.times.begin + arrivals.peek() < self.times.end.min(now + 1) {
                let mut due = arrivals.next();
                due.at += self.times.begin;
                self.common.recorder.notice(due.at, now);
                self.lanes[self.share.lane(due.stream, lanes)].push(due);
            }
        }
        let ends = match &self.common.closed_loop {
            Some(_) => now >= self.times.end,
            None => self.times.begin + arrivals.peek() >= self.times.end,
        };
        if ends {
            self.arrivals = None;
        }
    }

    fn give_up_publishing(&mut self) {
        Board::say(&self.common.board.is_behind);
        self.arrivals = None;
        self.lanes.iter_mut().for_each(Lane::clear);
    }

    fn act(&mut self, number: u32) {
        let plan = Arc::clone(&self.common.plan);
        let (_, act) = &plan.acts[number as usize];
        self.common.struck_at.get_or_insert(self.common.now);
        for (number, session) in self.sessions.iter_mut().enumerate() {
            match act {
                Act::Cut(cut) => session.cut(&mut self.common, number, cut),
                Act::StopReading => session.stop_reading(),
                Act::ReadAgain => session.read_again(&mut self.common, number),
            }
        }
    }

    fn watch(&mut self, at: u64) {
        self.common.timers.set(at + SECOND, Timer::Watch);
        for (number, session) in self.sessions.iter_mut().enumerate() {
            session.watch(&mut self.common, number);
        }
        self.lanes
            .iter_mut()
            .for_each(|lane| lane.watch(&mut self.common));
    }

    fn end_interval(&mut self, at: u64) {
        let live = self.sessions.iter().filter(|session| session.is_live()).count() as u64;
        let interval = self.common.recorder.take(self.interval, live);
        self.common.board.delivered.add(interval.delivered);
        let _ = self.news.send(News::Interval(interval));
        self.interval += 1;
        self.common.timers.set(at + self.times.interval, Timer::Interval);
    }

    /// Says how many deliveries are due, now that everything is published.
    fn count(&mut self, at: u64) {
        let sessions = self.sessions.iter().map(Session::listener);
        let outstanding = sessions
            .map(|listener| self.common.account.outstanding(listener))
            .sum();
        self.common.board.outstanding.set(outstanding);
        self.common.timers.set(at + 20 * MILLISECOND, Timer::Count);
    }

    fn finish(mut self) -> Finished {
        let live = self.sessions.iter().filter(|session| session.is_live()).count() as u64;
        let interval = self.common.recorder.take(self.interval, live);
        let _ = self.news.send(News::Interval(interval));
        for session in &mut self.sessions {
            session.settle(&mut self.common);
        }
        for session in &mut self.sessions {
            session.end(&mut self.common);
        }
        Finished {
            counts: mem::take(&mut self.common.account.counts),
            findings: mem::take(&mut self.common.account.findings),
            tally: mem::take(&mut self.common.tally),
            noticed: self.common.recorder.noticed,
            sent: self.common.recorder.sent,
        }
    }
}
