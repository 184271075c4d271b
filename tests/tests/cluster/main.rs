//! Several nodes on one log, behind a balancer that knows nothing of sessions: whatever breaks, every event that was answered 201
//! arrives exactly once at clients that acknowledge, in the session that was there from the beginning.
//!
//! `HALLEY_CLUSTER=full` takes minutes where CI takes seconds.

mod away;
mod balanced;
mod it;
mod killed;
mod operators;
mod presence;
mod quorum;
mod races;
