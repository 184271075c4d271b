//! Stock clients without the acknowledge extension, as most in the field are: whatever breaks, every event that was
//! answered `201` arrives at least once and in order, in the session that was there from the beginning. What comes
//! twice is the end of what was sent, sent again; each test prints how much that was.

use halley_tests::{Client, Fault, Transport, Version, with_each_client_and_fault};

with_each_client_and_fault!(at_least_once);

async fn at_least_once(fault: Fault, version: Version, transport: Transport) {
    let client = Client::new(version, transport, "", "15000");
    let Some(outcome) = fault.survive(client).await else {
        return;
    };
    if fault == Fault::Stall || (fault == Fault::Deploy && transport == Transport::WebSocket) {
        // Nothing broke, or the broker heard that everything had arrived: no reason to send anything again.
        outcome.report.expect_exactly_once();
    }
    outcome.report.expect_at_least_once();
    outcome.expect_short_resends();
    outcome.expect_one_session();
}
