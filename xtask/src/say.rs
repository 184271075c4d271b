//! The one place that writes to the terminal.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// Writes one line. On stderr, in order with what the commands write there; that nobody reads it is no failure.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes one line that stands out where there is a terminal to show it.
pub(crate) fn heading(text: impl Display) {
    if std::io::stderr().is_terminal() {
        line(format_args!("\n\x1b[1m{text}\x1b[0m"))
    } else {
        line(format_args!("\n{text}"))
    }
}
