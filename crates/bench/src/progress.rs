//! What a person sees while a run goes on. Without a terminal, nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that moves.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Nothing is shown when `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        Self {
            bar: ProgressBar::with_draw_target(None, target),
        }
    }

    /// Begins something that has so many parts.
    pub(crate) fn begin(&self, what: &'static str, parts: u64) {
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        self.show(what, parts, style);
    }

    /// Begins something that takes so long.
    pub(crate) fn begin_time(&self, what: &'static str, time: Duration) {
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {percent:>3} % {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        self.show(what, millis(time), style);
    }

    fn show(&self, what: &'static str, parts: u64, style: ProgressStyle) {
        self.bar.set_style(style.progress_chars("=> "));
        self.bar.set_prefix(what);
        self.bar.set_message("");
        self.bar.set_length(parts);
        self.bar.set_position(0);
    }

    /// How far it is.
    pub(crate) fn set(&self, parts: u64, message: String) {
        self.bar.set_position(parts);
        self.bar.set_message(message);
    }

    /// How far it is, in time.
    pub(crate) fn set_time(&self, time: Duration, message: String) {
        self.set(millis(time), message);
    }

    /// Nothing is shown any more.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
