//! What every kind of log promises, as sentences that run over every line of [`halley::log::ALL`].
//!
//! A new kind needs a line in [`it::Place`]: where a test finds one, and whether it survives a restart.

mod appending;
mod damage;
mod following;
mod it;
mod model;
mod nodes;
mod presence;
mod reading;
mod retention;
mod sessions;
mod sharing;
