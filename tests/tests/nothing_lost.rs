//! Stock clients with CometD's acknowledge extension: whatever breaks, every event that was answered `201` arrives
//! exactly once, in order, in the session that was there from the beginning.

use halley_tests::{Client, Fault, Transport, Version, with_each_client_and_fault};

with_each_client_and_fault!(exactly_once);

async fn exactly_once(fault: Fault, version: Version, transport: Transport) {
    let client = Client::new(version, transport, "", "15000").with_ack();
    let Some(outcome) = fault.survive(client).await else {
        return;
    };
    outcome.report.expect_exactly_once();
    outcome.expect_one_session();
}
