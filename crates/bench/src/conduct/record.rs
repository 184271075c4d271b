//! What the phases bring, until it is a report.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{difference, verdict};
use crate::account::{Counts, Finding};
use crate::latency::{self, Latencies};
use crate::process::Usage;
use crate::report::{
    Connections, FORMAT, Failure, Generator, Group, Latency, Load, Moment, Percentiles, Recovery, Repeat,
    Report, Server, Setup,
};
use crate::scenario::{Plan, Traffic};
use crate::settings::Settings;
use crate::worker::{Finished, Interval, Recovered, Tally};

/// What the phases bring.
pub(super) struct Record {
    pub(super) interval: Duration,
    /// As long as was asked for, in whole intervals.
    pub(super) warm_up: Duration,
    /// Connections that publish.
    pub(super) publishers: u64,
    /// The server's cost before the first session, and with all of them there.
    pub(super) before: Option<Usage>,
    pub(super) sessions: Option<Usage>,
    /// Publishing was stopped, since the server is too far behind.
    pub(super) is_behind: bool,
    pub(super) failures: Vec<(String, u64)>,
    groups: Vec<Latencies>,
    intervals: BTreeMap<u64, Sum>,
    /// Costs at the beginning of each interval.
    samples: Vec<Sample>,
    openings: Vec<(Duration, Option<f64>)>,
    counts: Counts,
    findings: Vec<Finding>,
    tally: Tally,
    noticed: Latencies,
    sent: Latencies,
    /// Whose process it is.
    pub(super) server_name: Option<String>,
}

/// Costs until now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) server: Option<Usage>,
    /// Of what the server works with.
    pub(super) beside: Option<Usage>,
    /// The generator's.
    pub(super) own: Duration,
}

/// What all threads saw in an interval.
struct Sum {
    latencies: Latencies,
    delivered: u64,
    delivered_bytes: u64,
    published: u64,
    live: u64,
}

/// Short runs are looked at more closely.
const SHORT: Duration = Duration::from_secs(10);

impl Record {
    pub(super) fn new(settings: &Settings, plan: &Plan) -> Self {
        let interval = if settings.duration < SHORT {
            Duration::from_millis(100)
        } else {
            Duration::from_secs(1)
        };
        let warm_up = settings.warm_up.as_millis().div_ceil(interval.as_millis());
        let by_thread = u64::from(settings.publish.connections).div_ceil(settings.threads as u64);
        let publishing = (0..settings.threads).filter(|thread| {
            let share = plan.share(*thread, settings.threads);
            plan.traffic.arrivals(&share, plan.users, settings.seed).is_some()
        });
        Self {
            interval,
            warm_up: interval * u32::try_from(warm_up).unwrap_or(u32::MAX),
            publishers: by_thread * publishing.count() as u64,
            before: None,
            sessions: None,
            is_behind: false,
            failures: Vec::new(),
            groups: vec![latency::none(); plan.groups.names().len()],
            intervals: BTreeMap::new(),
            samples: Vec::new(),
            openings: Vec::new(),
            counts: Counts::default(),
            findings: Vec::new(),
            tally: Tally::default(),
            noticed: latency::none(),
            sent: latency::none(),
            server_name: None,
        }
    }

    /// All sessions were opened.
    pub(super) fn opened(&mut self, took: Duration, cpu: Option<f64>) {
        self.openings.push((took, cpu));
    }

    /// An interval begins, or the last one ends.
    pub(super) fn sample(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// A thread's interval has ended.
    pub(super) fn take(&mut self, interval: Interval) {
        let sum = self.intervals.entry(interval.number).or_insert_with(|| Sum {
            latencies: latency::none(),
            delivered: 0,
            delivered_bytes: 0,
            published: 0,
            live: 0,
        });
        sum.delivered += interval.delivered;
        sum.delivered_bytes += interval.delivered_bytes;
        sum.published += interval.published;
        sum.live += interval.live;
        for (group, latencies) in &interval.latencies {
            latency::add(&mut sum.latencies, latencies);
            latency::add(&mut self.groups[*group], latencies);
        }
    }

    /// A thread has ended.
    pub(super) fn end(&mut self, finished: Finished) {
        self.counts.add(&finished.counts);
        self.findings.extend(finished.findings);
        latency::add(&mut self.noticed, &finished.noticed);
        latency::add(&mut self.sent, &finished.sent);
        let Tally {
            opened,
            broken,
            cut,
            forgotten,
            recoveries,
            never_back,
            failures,
            refused,
            uncertain,
            accepted,
            published_again,
        } = finished.tally;
        let tally = &mut self.tally;
        latency::add(&mut tally.opened, &opened);
        tally.broken += broken;
        tally.cut += cut;
        tally.forgotten += forgotten;
        tally.recoveries.extend(recoveries);
        tally.never_back += never_back;
        tally.refused += refused;
        tally.uncertain += uncertain;
        tally.accepted += accepted;
        tally.published_again += published_again;
        for (reason, count) in failures {
            *tally.failures.entry(reason).or_default() += count;
        }
    }

    /// The last interval in words.
    pub(super) fn latest(&self) -> String {
        let Some((_, sum)) = self.intervals.last_key_value() else {
            return String::new();
        };
        let seconds = self.interval.as_secs_f64();
        format!(
            "{:.0} events/s, {:.0} deliveries/s, p99 {:.1} ms",
            sum.published as f64 / seconds,
            sum.delivered as f64 / seconds,
            sum.latencies.value_at_quantile(0.99) as f64 / 1e3
        )
    }

    pub(super) fn report(mut self, settings: &Settings, plan: &Plan, repeat: Repeat) -> Report {
        let setup = self.setup(plan);
        let load = self.load(settings, plan);
        let latency = self.latency(plan);
        let recovery = recovery(&self.tally.recoveries);
        let server = self.server(plan, &load);
        let generator = self.generator(settings, &load);
        let timeline = self.timeline();
        for (reason, count) in std::mem::take(&mut self.failures) {
            *self.tally.failures.entry(reason).or_default() += count;
        }
        for finding in &mut self.findings {
            if let Ok(number) = finding.user.parse() {
                finding.user = settings.users.name(number);
            }
        }
        let connections = Connections {
            broken: self.tally.broken,
            cut: self.tally.cut,
            forgotten: self.tally.forgotten,
            never_back: self.tally.never_back,
        };
        Report {
            format: FORMAT,
            scenario: settings.scenario.name,
            about: settings.scenario.about,
            verdict: verdict::judge(&self.counts, &load, &connections, self.is_behind),
            notes: verdict::notes(&generator, &latency),
            setup,
            load,
            accounting: self.counts,
            findings: self.findings,
            latency,
            connections,
            recovery,
            server,
            generator,
            timeline,
            failures: (self.tally.failures.into_iter())
                .map(|(reason, count)| Failure { reason, count })
                .collect(),
            repeat,
        }
    }

    fn setup(&self, plan: &Plan) -> Setup {
        let sessions = plan.seats.len() as u64;
        let seconds = median(self.openings.iter().map(|(took, _)| took.as_secs_f64())).unwrap_or_default();
        let cpu = median(self.openings.iter().filter_map(|(_, cpu)| *cpu));
        Setup {
            sessions,
            seconds,
            per_second: ratio(sessions as f64, seconds),
            time: Percentiles::of(&self.tally.opened),
            server_cpu_ms_per_session: cpu.map(|cpu| ratio(cpu * 1e3, sessions as f64)),
            cycles: self.openings.len(),
        }
    }

    fn load(&self, settings: &Settings, plan: &Plan) -> Load {
        let measured = self.measured();
        let seconds = measured.len() as f64 * self.interval.as_secs_f64();
        let sum = |count: fn(&Sum) -> u64| measured.iter().map(|sum| count(sum)).sum::<u64>();
        let deliveries = sum(|sum| sum.delivered);
        let is_closed = settings.in_flight.is_some() && !matches!(plan.traffic, Traffic::None);
        Load {
            kind: if is_closed { "closed" } else { "open" },
            rate: plan.traffic.rate(),
            seconds,
            published: self.intervals.values().map(|sum| sum.published).sum(),
            accepted: self.tally.accepted,
            refused: self.tally.refused,
            uncertain: self.tally.uncertain,
            published_again: self.tally.published_again,
            published_per_second: ratio(sum(|sum| sum.published) as f64, seconds),
            deliveries,
            deliveries_per_second: ratio(deliveries as f64, seconds),
            megabytes_per_second: ratio(sum(|sum| sum.delivered_bytes) as f64 / 1e6, seconds),
        }
    }

    fn latency(&self, plan: &Plan) -> Latency {
        let names = plan.groups.names();
        let mut all = latency::none();
        let mut groups = Vec::new();
        for ((name, counts), latencies) in names.into_iter().zip(&self.groups) {
            if latencies.is_empty() {
                continue;
            }
            if counts {
                latency::add(&mut all, latencies);
            }
            groups.push(Group::of(name, latencies));
        }
        Latency {
            all: Group::of("all".to_owned(), &all),
            groups,
        }
    }

    fn server(&self, plan: &Plan, load: &Load) -> Option<Server> {
        let before = self.before?;
        let sessions = self.sessions.unwrap_or(before);
        let readings = self.measured_samples();
        let spent = |of: fn(&Sample) -> Option<Usage>| {
            let (first, last) = (of(readings.first()?)?, of(readings.last()?)?);
            Some(difference(last, first))
        };
        let usage = spent(|sample| sample.server);
        let peak = self
            .samples
            .iter()
            .filter_map(|sample| sample.server.map(|usage| usage.rss))
            .max();
        let end = usage.map_or(sessions.rss, |usage| usage.rss);
        let cpu = usage.map(|usage| usage.cpu);
        // Where nothing is published, time may pass until memory is what it stays at.
        let settled = if load.rate > 0.0 { sessions.rss } else { end };
        Some(Server {
            name: self.server_name.clone(),
            cpu_seconds: cpu,
            cpu_seconds_per_million: cpu.and_then(|cpu| per_million(cpu, load.deliveries)),
            cores: cpu.map(|cpu| ratio(cpu, load.seconds)),
            beside_cpu_seconds: spent(|sample| sample.beside).map(|usage| usage.cpu),
            system_share: usage.map(|usage| ratio(usage.system, usage.cpu)),
            rss_before_kib: before.rss,
            rss_sessions_kib: sessions.rss,
            rss_peak_kib: peak.unwrap_or_default().max(sessions.rss),
            rss_end_kib: end,
            kib_per_session: (settled.checked_sub(before.rss))
                .map(|added| ratio(added as f64, plan.seats.len() as f64)),
        })
    }

    fn generator(&self, settings: &Settings, load: &Load) -> Generator {
        let readings = self.measured_samples();
        let ends = readings.first().zip(readings.last());
        let cpu = ends.map(|(first, last)| last.own.saturating_sub(first.own).as_secs_f64());
        Generator {
            threads: settings.threads,
            cpu_seconds: cpu,
            cpu_seconds_per_million: cpu.and_then(|cpu| per_million(cpu, load.deliveries)),
            cores: cpu.map(|cpu| ratio(cpu, load.seconds)),
            late: Percentiles::of(&self.noticed),
            sent_late: Percentiles::of(&self.sent),
        }
    }

    fn timeline(&self) -> Vec<Moment> {
        let seconds = self.interval.as_secs_f64();
        let warm = self.warm_intervals() as u64;
        let end = self.end_interval() as u64;
        self.intervals
            .iter()
            .map(|(number, sum)| {
                let at =
                    |quantile| (!sum.latencies.is_empty()).then(|| sum.latencies.value_at_quantile(quantile));
                let usage = |number: u64| self.samples.get(usize::try_from(number).ok()?)?.server;
                let (from, to) = (usage(*number), usage(number + 1));
                Moment {
                    second: (number + 1) as f64 * seconds,
                    phase: match *number {
                        number if number < warm => "warm-up",
                        number if number < end => "measured",
                        _ => "drain",
                    },
                    published_per_second: sum.published as f64 / seconds,
                    deliveries_per_second: sum.delivered as f64 / seconds,
                    p50: at(0.5),
                    p99: at(0.99),
                    max: at(1.0),
                    live: sum.live,
                    server_cores: from.zip(to).map(|(from, to)| difference(to, from).cpu / seconds),
                    server_rss_kib: to.map(|to| to.rss),
                }
            })
            .collect()
    }

    fn warm_intervals(&self) -> usize {
        usize::try_from(self.warm_up.as_millis() / self.interval.as_millis()).unwrap_or(usize::MAX)
    }

    /// The interval after the last measured one: as many as there are readings of.
    fn end_interval(&self) -> usize {
        self.samples.len().saturating_sub(1)
    }

    fn measured(&self) -> Vec<&Sum> {
        let range =
            self.warm_intervals() as u64..(self.end_interval() as u64).max(self.warm_intervals() as u64);
        self.intervals.range(range).map(|(_, sum)| sum).collect()
    }

    fn measured_samples(&self) -> &[Sample] {
        self.samples.get(self.warm_intervals()..).unwrap_or_default()
    }
}

fn recovery(recoveries: &[Recovered]) -> Option<Recovery> {
    if recoveries.is_empty() {
        return None;
    }
    let mut back = latency::none();
    let mut complete = latency::none();
    for recovered in recoveries {
        latency::record(&mut back, 0, recovered.back);
        latency::record(&mut complete, 0, recovered.complete);
    }
    let mut seconds: Vec<f64> = recoveries
        .iter()
        .map(|recovered| recovered.complete as f64 / 1e6)
        .collect();
    seconds.sort_by(f64::total_cmp);
    let count = seconds.len();
    // A hundred points show any curve.
    let step = count.div_ceil(100);
    let mut curve = vec![(0.0, 0.0)];
    let points = (0..count).filter(|place| place % step == 0 || *place + 1 == count);
    curve.extend(points.map(|place| (seconds[place], (place + 1) as f64 / count as f64)));
    Some(Recovery {
        sessions: count as u64,
        back: Percentiles::of(&back),
        complete: Percentiles::of(&complete),
        curve,
    })
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => None,
        (count, middle) if count % 2 == 1 => Some(values[middle]),
        (_, middle) => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn per_million(cpu: f64, deliveries: u64) -> Option<f64> {
    (deliveries > 0).then(|| cpu / deliveries as f64 * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn a_recovery_says_when_everyone_had_everything() {
        let recovered = |number: u64| Recovered {
            back: number * 1_000,
            complete: number * 10_000,
        };
        let recoveries: Vec<_> = (1..=1_000).map(recovered).collect();
        let recovery = recovery(&recoveries).unwrap();
        assert_eq!(recovery.sessions, 1_000);
        // To three digits, as everything that is recorded.
        assert!(
            (4_990_000..5_010_000).contains(&recovery.complete.p50),
            "{recovery:?}"
        );
        assert_eq!(recovery.curve.last(), Some(&(10.0, 1.0)));
        assert!(recovery.curve.len() < 110);
    }
}
