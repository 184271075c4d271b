//! What a server's processes cost, as /proc knows it.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A reading.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Usage {
    /// Seconds of CPU since its start.
    pub(crate) cpu: f64,
    /// The part of them that the kernel had.
    pub(crate) system: f64,
    /// Resident memory, in KiB.
    pub(crate) rss: u64,
}

/// Processes and, with each, those that it has started.
#[derive(Debug, Clone)]
pub(crate) struct Processes(Vec<u32>);

impl Processes {
    pub(crate) fn new(pids: &[u32]) -> Self {
        let mut all = Vec::new();
        pids.iter().for_each(|pid| add_family(*pid, &mut all));
        Self(all)
    }

    /// What all of them cost; `None` when there are none, or one has ended.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let readings = self.0.iter().map(|pid| read(*pid)).collect::<Option<Vec<_>>>()?;
        (!readings.is_empty()).then(|| {
            readings.iter().fold(Usage::default(), |sum, reading| Usage {
                cpu: sum.cpu + reading.cpu,
                system: sum.system + reading.system,
                rss: sum.rss + reading.rss,
            })
        })
    }

    /// What the first is called.
    pub(crate) fn name(&self) -> Option<String> {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.0.first()?)).ok()?;
        Some(name.trim().to_owned())
    }
}

fn add_family(pid: u32, all: &mut Vec<u32>) {
    if all.contains(&pid) {
        return;
    }
    all.push(pid);
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        children.for_each(|child| add_family(child, all));
    }
}

fn read(pid: u32) -> Option<Usage> {
    let (user, system) = ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let rss = rss(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?;
    let second = rustix::param::clock_ticks_per_second() as f64;
    Some(Usage {
        cpu: (user + system) as f64 / second,
        system: system as f64 / second,
        rss,
    })
}

/// `utime` and `stime`, the 14th and 15th field (proc_pid_stat(5)); the second may have blanks and brackets.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// CPU of this process.
pub(crate) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_whatever_the_name_is() {
        let stat = "12 (a b) c) S 1 12 12 0 -1 4194304 100 0 0 0 345 67 0 0 20 0 3 0 1 2 3";
        assert_eq!(ticks(stat), Some((345, 67)));
    }

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(rss("Name:\tx\nVmRSS:\t    2048 kB\nThreads: 1\n"), Some(2048));
    }

    #[test]
    fn this_process_costs_something_and_one_that_is_not_there_nothing() {
        let own = Processes::new(&[std::process::id()]).usage().unwrap();
        assert!(own.rss > 100, "{own:?}");
        assert_eq!(Processes::new(&[u32::MAX]).usage(), None);
        assert_eq!(Processes::new(&[]).usage(), None);
    }
}
