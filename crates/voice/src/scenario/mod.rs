//! One conference from log-in to hang-up: the script, and what each agent's stream must then show.
//!
//! ```text
//! 15000, 15001, 15002 log in and become ready
//! 15000 dials 15001; 15001 answers
//! 15000 consults 15002 for a conference; 15002 answers
//! 15000 completes the conference, removes 15001 from it, and hangs up
//! ```

mod expected;
mod play;
mod script;

pub use expected::{Expected, Mismatch, check, expected};
pub use play::{PlayError, play};
pub use script::{Step, steps};

/// The agents of the scenario, in the order in which they log in.
pub const USERS: [&str; 3] = ["15000", "15001", "15002"];
