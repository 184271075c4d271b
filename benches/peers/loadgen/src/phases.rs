//! The phases of a run, and what each of them cost.
use crate::{net, procfs, stats::Hist, sub::State, Gen, SECOND};
use serde_json::{json, Value};
use std::time::Duration;

#[derive(Clone, Copy)]
pub struct Snap {
    pub at: u64,
    pub cpu: f64,
    us: (f64, f64),
    own: f64,
    machine: (f64, f64),
    delivered: u64,
    published: u64,
}

impl Gen {
    /// All subscribers connected and subscribed: seconds taken, server CPU seconds.
    pub fn setup(&mut self) -> (f64, f64) {
        let (t0, c0) = (net::now(), self.cpu());
        let limit = t0 + 180 * SECOND;
        while self.ready + self.dead < self.c.subs && net::now() < limit {
            while self.subs.len() < self.c.subs && self.subs.len() - self.ready - self.dead < self.c.setup_parallel {
                self.start_sub();
            }
            self.step(SECOND / 10);
        }
        let took = (net::now() - t0) as f64 / 1e9;
        (took, self.cpu() - c0)
    }

    pub fn teardown(&mut self) {
        for s in &mut self.subs {
            if s.state != State::Dead {
                net::abort(s.fd);
                s.state = State::Dead;
            }
        }
        self.subs.clear();
        self.timers.clear();
        self.ready = 0;
        self.t.live = 0;
    }

    fn cpu(&self) -> f64 {
        self.pids.iter().map(|p| procfs::cpu(*p)).sum::<Duration>().as_secs_f64()
    }

    pub fn rss(&self) -> u64 {
        self.pids.iter().map(|p| procfs::rss(*p)).sum()
    }

    pub fn snap(&self) -> Snap {
        let us = self.pids.iter().map(|p| procfs::user_sys(*p)).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        Snap {
            at: net::now(),
            cpu: self.cpu(),
            us,
            own: procfs::cpu(std::process::id() as i32).as_secs_f64(),
            machine: procfs::machine(),
            delivered: self.t.delivered,
            published: self.t.published,
        }
    }

    pub fn measure(&mut self, seconds: f64) -> Value {
        self.t.latency.clear();
        self.t.complete.clear();
        let a = self.snap();
        self.run_for(seconds);
        let b = self.snap();
        let dt = (b.at - a.at) as f64 / 1e9;
        let (n, cpu, own) = ((b.delivered - a.delivered) as f64, b.cpu - a.cpu, b.own - a.own);
        let (u, s) = (b.us.0 - a.us.0, b.us.1 - a.us.1);
        let others = (b.machine.0 - a.machine.0 - cpu - own).max(0.0);
        let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
        let q = |h: &Hist, q: f64| us(h.quantile(q));
        let (l, f) = (&self.t.latency, &self.t.complete);
        json!({
            "seconds": dt, "deliveries_s": n / dt, "published_s": (b.published - a.published) as f64 / dt,
            "server_cpu_s_per_1m": cpu / n * 1e6, "server_core_use": cpu / dt, "server_sys_share": s / (u + s).max(1e-9),
            "loadgen_core_use": own / dt, "others_core_use": others / dt, "steal": (b.machine.1 - a.machine.1) / dt,
            "lat_us": { "p50": q(l, 0.5), "p99": q(l, 0.99), "p999": q(l, 0.999), "max": us(l.max) },
            "last_subscriber_us": { "p50": q(f, 0.5), "p99": q(f, 0.99), "max": us(f.max) },
        })
    }
}

pub fn fmt(v: &Value) -> String {
    let f = |k: &str| v[k].as_f64().unwrap_or(f64::NAN);
    format!(
        "{:>9.0} deliveries/s  {:>8.3} server CPU s/1M  server {:.2} core ({:.0}% sys)  loadgen {:.2}  others {:.2}  steal {:.2}  lat us p50 {} p99 {} p99.9 {} max {}  last-sub p50 {} p99 {}",
        f("deliveries_s"), f("server_cpu_s_per_1m"), f("server_core_use"), 100.0 * f("server_sys_share"),
        f("loadgen_core_use"), f("others_core_use"), f("steal"),
        v["lat_us"]["p50"], v["lat_us"]["p99"], v["lat_us"]["p999"], v["lat_us"]["max"],
        v["last_subscriber_us"]["p50"], v["last_subscriber_us"]["p99"],
    )
}
