//! What Halley says about itself: lines on stderr, written by a thread of their own. When stderr is slow, full or gone, lines are
//! dropped and counted; nobody waits for it, and nothing ends because of it.
//!
//! A line is one line whatever is in it, in either format: control characters are written as escapes.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};

/// Lines that wait to be written: a few megabytes.
const LINES: usize = 8192;

/// Bytes of what comes from outside that are repeated in a line.
const SHOWN: usize = 256;

/// How long the end waits for what is left to be written.
const GOODBYE: Duration = Duration::from_secs(2);

/// Lines that could not be written. There is one log in a process.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// Lines for which there was no room.
static UNQUEUED: OnceLock<ErrorCounter> = OnceLock::new();

/// Writes what is left when it is dropped.
pub struct Log(Option<WorkerGuard>);

/// Begins to log. There is one log in a process, so this is for its `main`.
pub fn start(logging: &Logging) -> Log {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES)
        .finish(Sink(io::stderr()));
    let _ = UNQUEUED.set(writer.error_counter());
    let filter = EnvFilter::try_new(&logging.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Lines(writer.clone()))
        .with_ansi(false)
        // They would be printed to stderr by a macro that panics when it is gone.
        .log_internal_errors(false);
    match logging.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Log(Some(guard))
}

/// Lines that were dropped since the start.
pub fn dropped() -> u64 {
    let unqueued = UNQUEUED.get().map_or(0, ErrorCounter::dropped_lines);
    UNWRITTEN.load(Ordering::Relaxed) + unqueued as u64
}

impl Drop for Log {
    fn drop(&mut self) {
        // The guard prints when lines wait that nobody takes: that panics when stdout is gone, and may never end.
        let guard = self.0.take();
        without_waiting_for_ever(move || drop(guard));
    }
}

/// Says why the process ends, to whoever started it.
pub fn say_last(text: String) {
    // When stderr is gone there is nobody to tell; the exit code says it all the same.
    without_waiting_for_ever(move || drop(io::stderr().write_all(text.as_bytes())));
}

fn without_waiting_for_ever(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || {
        work();
        let _ = done.send(());
    });
    if thread.is_ok() {
        // It also ends when the work panics.
        let _ = wait.recv_timeout(GOODBYE);
    }
}

/// What comes from outside, as it is shown in a line: no more of it than somebody needs to recognise it.
pub struct Shown<T>(pub T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = Start {
            text: String::new(),
            is_all: true,
        };
        let _ = write!(shown, "{}", self.0);
        formatter.write_str(&shown.text)?;
        if shown.is_all {
            Ok(())
        } else {
            formatter.write_str("…")
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shown<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Shown(format_args!("{:?}", self.0)), formatter)
    }
}

/// The first [`SHOWN`] bytes of what is written.
struct Start {
    text: String,
    is_all: bool,
}

impl fmt::Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let taken = text.floor_char_boundary(SHOWN - self.text.len());
        self.text.push_str(&text[..taken]);
        self.is_all = taken == text.len();
        // Whoever writes need not go on.
        if self.is_all { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Takes lines, and makes one of each.
struct Lines(NonBlocking);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0
            .write_all(one_line(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// With an escape for each control character but the end of the line. It is the one that JSON has, so that JSON stays JSON.
fn one_line(line: &str) -> Cow<'_, str> {
    let (text, end) = match line.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (line, ""),
    };
    if !text.contains(breaks_a_line) {
        return line.into();
    }
    let mut escaped = String::with_capacity(line.len() + 32);
    for character in text.chars() {
        if breaks_a_line(character) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped.push_str(end);
    escaped.into()
}

/// Control characters, and what some viewers take for the end of a line.
fn breaks_a_line(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Counts what cannot be written, and goes on.
struct Sink<W>(W);

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.write_all(line).is_err() {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Each line has left already.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t34_a_line_is_one_line_whatever_is_in_it() {
        assert_eq!(
            one_line("INFO a=\r\nINFO b=\x1b[2J\x07\u{7f}\u{9b}2J\u{2028}é\n"),
            "INFO a=\\u000d\\u000aINFO b=\\u001b[2J\\u0007\\u007f\\u009b2J\\u2028é\n"
        );
        assert!(matches!(one_line("INFO é\n"), Cow::Borrowed("INFO é\n")));
    }

    #[test]
    fn t34_a_line_of_json_stays_json_with_the_same_text() {
        let text = "a\u{7f}\u{9b}\u{2028}b";
        let line = format!("{}\n", serde_json::json!({ "message": text }));
        let escaped = one_line(&line);
        assert!(!escaped.trim_end().contains(breaks_a_line), "{escaped:?}");
        let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read["message"], text);
    }

    #[test]
    fn t34_no_more_than_256_bytes_of_what_comes_from_outside_are_shown() {
        assert_eq!(Shown("abc").to_string(), "abc");
        assert_eq!(Shown("x".repeat(256)).to_string(), "x".repeat(256));
        let long = Shown(format_args!("{}{}", "x".repeat(255), "é".repeat(1000))).to_string();
        assert_eq!(long, format!("{}…", "x".repeat(255)));
        assert_eq!(
            format!("{:?}", Shown("a\n".repeat(1000))).len(),
            256 + '…'.len_utf8()
        );
    }

    #[test]
    fn t36_what_cannot_be_written_is_counted_and_no_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let before = dropped();
        let mut sink = Sink(Gone);
        sink.write_all(b"INFO\n").unwrap();
        sink.flush().unwrap();
        assert_eq!(dropped(), before + 1);
    }
}
