//! Stock clients without the acknowledge extension, as most in the field are: whatever breaks, every event that was
//! answered `201` arrives at least once and in order, in the session that was there from the beginning. What comes
//! twice is the end of what was sent, sent again; each test prints how much that was.

use halley_tests::{Client, Fault, Transport, Version};

/// Makes a module of tests for each client and transport.
macro_rules! with_each_client {
    ($($module:ident: $version:ident, $transport:ident;)*) => {
        $(mod $module {
            use super::*;

            async fn check(fault: Fault) {
                at_least_once(fault, Version::$version, Transport::$transport).await;
            }

            #[tokio::test]
            async fn the_broker_is_killed() {
                check(Fault::Kill).await;
            }

            #[tokio::test]
            async fn the_broker_is_replaced() {
                check(Fault::Deploy).await;
            }

            #[tokio::test]
            async fn connections_are_reset() {
                check(Fault::Reset).await;
            }

            #[tokio::test]
            async fn the_network_swallows_everything() {
                check(Fault::BlackHole).await;
            }

            #[tokio::test]
            async fn the_network_stalls() {
                check(Fault::Stall).await;
            }

            #[tokio::test]
            async fn the_client_sleeps() {
                check(Fault::Sleep).await;
            }
        })*
    };
}

with_each_client! {
    cometd_9_over_websocket: V9, WebSocket;
    cometd_9_over_long_polling: V9, LongPolling;
    cometd_3_over_websocket: V3, WebSocket;
    cometd_3_over_long_polling: V3, LongPolling;
}

async fn at_least_once(fault: Fault, version: Version, transport: Transport) {
    let client = Client::new(version, transport, "", "15000");
    let Some(outcome) = fault.survive(client).await else {
        return;
    };
    if fault == Fault::Stall {
        // Nothing broke, so there is no reason to send anything again.
        outcome.report.expect_exactly_once();
    }
    outcome.report.expect_at_least_once();
    outcome.expect_short_resends();
    outcome.expect_one_session();
}
