//! Who is told to be present: by one node, and by several that share a log, to a client that has subscribed.

#[expect(
    dead_code,
    reason = "shared with the tests of bad input, which need more of it"
)]
#[path = "../bad_input/it.rs"]
mod it;

mod one_node;
mod several_nodes;
mod watcher;
