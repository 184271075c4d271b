//! A session that goes from one node to another while something is under way, step by step: two brokers run in this process, and
//! a third node is the test, which takes sessions without a word and does not answer.

mod acknowledging;
mod answering;
#[expect(
    dead_code,
    reason = "shared with the tests of services, which need more of it"
)]
#[path = "../services/backend.rs"]
mod backend;
#[expect(
    dead_code,
    reason = "shared with the tests of bad input, which need more of it"
)]
#[path = "../bad_input/it.rs"]
mod it;
mod nodes;
mod writing;
