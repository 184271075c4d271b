//! The threads of the generator, as one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::Waker;

use crate::scenario::Plan;
use crate::worker::{self, Board, Finished, Interval, Lines, News, Order, Run};

/// All threads.
pub(crate) struct Crew {
    members: Vec<Member>,
    news: Receiver<News>,
    finished: Vec<Finished>,
}

struct Member {
    board: Arc<Board>,
    orders: Sender<Order>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// Sums of what all boards show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) live: u64,
    pub(crate) failed: u64,
    pub(crate) publishers: u64,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) outstanding: u64,
    pub(crate) has_published: bool,
    pub(crate) is_behind: bool,
}

impl Crew {
    /// Starts them.
    pub(crate) fn start(run: &Run, plan: &Plan) -> io::Result<Self> {
        let (tell, news) = mpsc::channel();
        let threads = run.settings.threads;
        let members = (0..threads)
            .map(|number| {
                let (orders, receive) = mpsc::channel();
                let (ready, waker) = mpsc::channel();
                let board = Arc::new(Board::default());
                let lines = Lines {
                    board: Arc::clone(&board),
                    orders: receive,
                    news: tell.clone(),
                    ready,
                };
                let (run, share) = (run.clone(), plan.share(number, threads));
                let thread = thread::Builder::new()
                    .name(format!("bench-{number}"))
                    .spawn(move || worker::run(&run, share, lines))?;
                let waker = waker
                    .recv()
                    .map_err(|_| io::Error::other("a thread of the generator did not start"))?;
                Ok(Member {
                    board,
                    orders,
                    waker,
                    thread: Some(thread),
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            members,
            news,
            finished: Vec::new(),
        })
    }

    /// Tells all of them.
    pub(crate) fn order(&self, order: Order) -> io::Result<()> {
        for member in &self.members {
            // A thread that has ended says why by its news.
            let _ = member.orders.send(order);
            member.waker.wake()?;
        }
        Ok(())
    }

    /// What they show.
    pub(crate) fn sums(&self) -> Sums {
        let all = |flag: fn(&Board) -> &AtomicBool| {
            self.members.iter().all(|member| Board::says(flag(&member.board)))
        };
        let any = |flag: fn(&Board) -> &AtomicBool| {
            self.members.iter().any(|member| Board::says(flag(&member.board)))
        };
        // Before the numbers: what is outstanding counts only once everything is published.
        let has_published = all(|board| &board.has_published);
        let sums = Sums {
            has_published,
            is_behind: any(|board| &board.is_behind),
            ..Sums::default()
        };
        self.members
            .iter()
            .map(|member| &member.board)
            .fold(sums, |sums, board| Sums {
                live: sums.live + board.live.get(),
                failed: sums.failed + board.failed.get(),
                publishers: sums.publishers + board.publishers.get(),
                published: sums.published + board.published.get(),
                delivered: sums.delivered + board.delivered.get(),
                outstanding: sums.outstanding + board.outstanding.get(),
                ..sums
            })
    }

    /// Waits, and hands on the intervals that end meanwhile.
    pub(crate) fn listen(&mut self, time: Duration, mut each: impl FnMut(Interval)) -> io::Result<()> {
        let until = std::time::Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            match self.news.recv_timeout(left) {
                Ok(News::Interval(interval)) => each(interval),
                Ok(News::Finished(finished)) => self.finished.push(*finished),
                Ok(News::Failed(error)) => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Ends all of them.
    pub(crate) fn finish(mut self, mut each: impl FnMut(Interval)) -> io::Result<Vec<Finished>> {
        self.order(Order::Finish)?;
        let count = self.members.len();
        while self.finished.len() < count {
            match self.news.recv() {
                Ok(News::Interval(interval)) => each(interval),
                Ok(News::Finished(finished)) => self.finished.push(*finished),
                Ok(News::Failed(error)) => return Err(error),
                Err(_) => return Err(io::Error::other("a thread of the generator ended early")),
            }
        }
        for member in &mut self.members {
            if let Some(thread) = member.thread.take() {
                thread
                    .join()
                    .map_err(|_| io::Error::other("a thread of the generator panicked"))?;
            }
        }
        Ok(self.finished)
    }
}
