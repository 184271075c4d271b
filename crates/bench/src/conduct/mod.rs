//! The phases of a run: open all sessions, publish, measure, wait for what is due, settle the account.

mod record;
mod verdict;

use std::io;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::body::RUNS;
use crate::crew::{Crew, Sums};
use crate::limits;
use crate::machine::Machine;
use crate::process::{Processes, Usage, own_cpu};
use crate::progress::Progress;
use crate::report::{Repeat, Report};
use crate::scenario::{Act, Plan};
use crate::settings::{Cut, Settings, SettingsError};
use crate::worker::{Order, Run, Times};

use record::{Record, Sample};

/// What a run is told besides its settings.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// The command line, for the report; whoever gives it leaves credentials out.
    pub command: String,
    /// The version of the generator.
    pub version: String,
    /// Show nothing while it runs.
    pub quiet: bool,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub enum BenchError {
    /// What is asked for cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The server does not let everyone in.
    #[error("{failed} of {sessions} sessions could not be set up{reasons}")]
    Setup {
        /// How many.
        failed: u64,
        /// Of how many.
        sessions: u64,
        /// Why.
        reasons: String,
    },
    /// Nobody can publish.
    #[error("{ready} of {publishers} publishers are ready to publish to {url}{reasons}")]
    Publishers {
        /// How many are.
        ready: u64,
        /// Of how many.
        publishers: u64,
        /// Where.
        url: String,
        /// Why.
        reasons: String,
    },
    /// The machine failed.
    #[error("the generator failed: {0}")]
    Io(#[from] io::Error),
}

/// Runs a load test.
pub fn run(settings: Settings, manner: &Manner) -> Result<Report, BenchError> {
    settings.check()?;
    let plan = Arc::new((settings.scenario.plan)(&settings));
    check_acts(&settings, &plan)?;
    let publishers = u64::from(settings.publish.connections);
    let sessions = plan.seats.len() as u64;
    // A silent cut leaves the old connection open.
    let connections = if settings.storm.cut == Cut::Silent {
        2 * sessions
    } else {
        sessions
    };
    limits::allow_files(connections + publishers)?;
    let sources = limits::sources(&settings, connections)?;
    let settings = Arc::new(settings);
    let run = Run {
        number: fastrand::u32(..RUNS),
        settings: Arc::clone(&settings),
        plan: Arc::clone(&plan),
        sources,
        everyone: Arc::default(),
        began: Instant::now(),
    };
    let repeat = Repeat {
        command: manner.command.clone(),
        started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        version: manner.version.clone(),
        machine: Machine::here(),
        settings: serde_json::to_value(&*settings).unwrap_or_default(),
    };
    let server = Processes::new(&settings.pids);
    if !settings.pids.is_empty() && server.usage().is_none() {
        return Err(SettingsError(
            "--pid: there is no such process here, or /proc does not show it".to_owned(),
        )
        .into());
    }
    let beside = Processes::new(&settings.beside);
    if !settings.beside.is_empty() && beside.usage().is_none() {
        return Err(SettingsError(
            "--beside: there is no such process here, or /proc does not show it".to_owned(),
        )
        .into());
    }
    let mut record = Record::new(&settings, &plan);
    record.server_name = server.name();
    let conductor = Conductor {
        crew: Crew::start(&run, &plan)?,
        record,
        progress: Progress::new(manner.quiet),
        server,
        beside,
        run,
    };
    conductor.conduct(repeat)
}

fn check_acts(settings: &Settings, plan: &Plan) -> Result<(), SettingsError> {
    match plan.acts.iter().map(|(after, _)| *after).max() {
        Some(last) if last >= settings.duration => Err(SettingsError(format!(
            "--duration {:?} is too short: something is going to happen to sessions after {last:?}",
            settings.duration
        ))),
        Some(_) | None => Ok(()),
    }
}

struct Conductor {
    crew: Crew,
    record: Record,
    progress: Progress,
    server: Processes,
    beside: Processes,
    run: Run,
}

/// How often what the threads show is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// From the order to publish to the first event.
const LEAD: Duration = Duration::from_millis(100);

/// How long duplicates may take that nobody waits for.
const AFTERMATH: Duration = Duration::from_millis(300);

/// Between two cycles: for the server to notice that everyone has gone.
const BREATH: Duration = Duration::from_millis(500);

impl Conductor {
    fn conduct(mut self, repeat: Repeat) -> Result<Report, BenchError> {
        self.record.before = self.server.usage();
        let cycles = if self.run.plan.only_opens {
            self.run.settings.opening.cycles
        } else {
            1
        };
        for cycle in 0..cycles {
            if cycle > 0 {
                self.crew.order(Order::Close)?;
                self.listen(BREATH)?;
            }
            if let Err(error) = self.open() {
                return Err(self.explain(error));
            }
        }
        if !self.run.plan.only_opens {
            if let Err(error) = self.await_publishers() {
                return Err(self.explain(error));
            }
            self.publish()?;
            self.drain()?;
        }
        self.progress.end();
        let Self { crew, mut record, .. } = self;
        record.is_behind = crew.sums().is_behind;
        let mut intervals = Vec::new();
        let finished = crew.finish(|interval| intervals.push(interval))?;
        intervals.into_iter().for_each(|interval| record.take(interval));
        finished.into_iter().for_each(|finished| record.end(finished));
        Ok(record.report(&self.run.settings, &self.run.plan, repeat))
    }

    /// Opens all sessions.
    fn open(&mut self) -> Result<(), BenchError> {
        let sessions = self.run.plan.seats.len() as u64;
        let before = self.server.usage();
        let began = Instant::now();
        self.progress.begin("connecting", sessions);
        self.crew.order(Order::Open)?;
        let sums = loop {
            self.listen(LOOK)?;
            let sums = self.crew.sums();
            self.progress.set(sums.live, failures(&sums));
            if sums.live + sums.failed >= sessions {
                break sums;
            }
        };
        if sums.failed > 0 {
            return Err(BenchError::Setup {
                failed: sums.failed,
                sessions,
                reasons: String::new(),
            });
        }
        let cpu = (self.server.usage().zip(before)).map(|(after, before)| after.cpu - before.cpu);
        self.record.opened(began.elapsed(), cpu);
        Ok(())
    }

    fn await_publishers(&mut self) -> Result<(), BenchError> {
        let settings = Arc::clone(&self.run.settings);
        if self.run.plan.traffic.rate() == 0.0 {
            return Ok(());
        }
        let needed = self.record.publishers;
        let until = Instant::now() + settings.opening.patience;
        loop {
            let ready = self.crew.sums().publishers;
            if ready >= needed {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(BenchError::Publishers {
                    ready,
                    publishers: needed,
                    url: settings.publish_address().to_string(),
                    reasons: String::new(),
                });
            }
            self.listen(LOOK)?;
        }
    }

    /// Publishes, and reads the server's costs at the end of each interval.
    fn publish(&mut self) -> Result<(), BenchError> {
        let settings = Arc::clone(&self.run.settings);
        let interval = self.record.interval;
        self.record.sessions = self.server.usage();
        let begin = self.clock() + LEAD;
        let measure = begin + self.record.warm_up;
        let end = measure + settings.duration;
        self.crew.order(Order::Publish(Times {
            begin: micros(begin),
            measure: micros(measure),
            end: micros(end),
            interval: micros(interval),
        }))?;
        let mut strikes = self.commands(measure);
        let mut next = begin;
        self.progress.begin_time("publishing", end - begin);
        while next <= end {
            let now = self.clock();
            if now >= next {
                self.record.sample(Sample {
                    server: self.server.usage(),
                    beside: self.beside.usage(),
                    own: own_cpu(),
                });
                next += interval;
                continue;
            }
            for strike in &mut strikes {
                strike.run_if_due(now)?;
            }
            self.listen((next - now).min(LOOK))?;
            let sums = self.crew.sums();
            let message = format!("{}, {}", self.record.latest(), failures(&sums));
            let message = message.trim_end_matches(", ").to_owned();
            self.progress
                .set_time(self.clock().saturating_sub(begin), message);
            if sums.is_behind {
                break;
            }
        }
        for strike in strikes {
            self.record.failures.extend(strike.end());
        }
        Ok(())
    }

    /// Shell commands that are run meanwhile.
    fn commands(&self, measure: Duration) -> Vec<Strike> {
        let acts = self.run.plan.acts.iter();
        acts.filter_map(|(after, act)| match act {
            Act::Cut(Cut::By(command)) => Some(Strike {
                at: measure + *after,
                command: command.clone(),
                child: None,
            }),
            Act::Cut(Cut::Reset | Cut::Close | Cut::Silent) | Act::StopReading | Act::ReadAgain => None,
        })
        .collect()
    }

    /// Waits until everyone has everything, or nothing has come for too long.
    fn drain(&mut self) -> Result<(), BenchError> {
        let sessions = self.run.plan.seats.len() as u64;
        let patience = self.run.settings.drain;
        let mut last = Sums::default();
        let mut since = Instant::now();
        self.progress.begin_time("draining", patience);
        while since.elapsed() < patience {
            self.listen(LOOK)?;
            let sums = self.crew.sums();
            if sums.has_published && sums.outstanding == 0 && sums.live + sums.failed >= sessions {
                break;
            }
            if sums != last {
                (last, since) = (sums, Instant::now());
            }
            let message = format!("{} deliveries are due", sums.outstanding);
            self.progress.set_time(since.elapsed(), message);
        }
        self.listen(AFTERMATH)?;
        Ok(())
    }

    /// Ends the threads for the sake of what they know.
    fn explain(self, error: BenchError) -> BenchError {
        self.progress.end();
        let Ok(finished) = self.crew.finish(drop) else {
            return error;
        };
        let mut failures: Vec<(String, u64)> = finished
            .into_iter()
            .flat_map(|finished| finished.tally.failures)
            .collect();
        failures.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let lines = failures
            .iter()
            .take(5)
            .map(|(reason, count)| format!("\n  {count} × {reason}"));
        let why = lines.collect::<String>();
        match error {
            BenchError::Setup { failed, sessions, .. } => BenchError::Setup {
                failed,
                sessions,
                reasons: why,
            },
            BenchError::Publishers {
                ready,
                publishers,
                url,
                ..
            } => BenchError::Publishers {
                ready,
                publishers,
                url,
                reasons: why,
            },
            BenchError::Settings(_) | BenchError::Io(_) => error,
        }
    }

    fn listen(&mut self, time: Duration) -> io::Result<()> {
        let record = &mut self.record;
        self.crew.listen(time, |interval| record.take(interval))
    }

    fn clock(&self) -> Duration {
        self.run.began.elapsed()
    }
}

/// A shell command at its time.
struct Strike {
    at: Duration,
    command: String,
    child: Option<Child>,
}

impl Strike {
    fn run_if_due(&mut self, now: Duration) -> io::Result<()> {
        if self.child.is_none() && now >= self.at {
            self.child = Some(Command::new("sh").args(["-c", &self.command]).spawn()?);
        }
        Ok(())
    }

    /// Why it failed, if it did.
    fn end(self) -> Option<(String, u64)> {
        let status = self.child?.wait();
        match status {
            Ok(status) if status.success() => None,
            Ok(status) => Some((format!("{}: {status}", self.command), 1)),
            Err(error) => Some((format!("{}: {error}", self.command), 1)),
        }
    }
}

fn failures(sums: &Sums) -> String {
    match sums.failed {
        0 => String::new(),
        failed => format!("{failed} failed"),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What one reading has more than another.
fn difference(later: Usage, earlier: Usage) -> Usage {
    Usage {
        cpu: later.cpu - earlier.cpu,
        system: later.system - earlier.system,
        rss: later.rss,
    }
}
