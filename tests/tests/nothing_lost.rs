//! Stock clients with CometD's acknowledge extension: whatever breaks, every event that was answered `201` arrives
//! exactly once, in order, in the session that was there from the beginning.

use halley_tests::{Client, Fault, Transport, Version};

/// Makes a module of tests for each client and transport.
macro_rules! with_each_client {
    ($($module:ident: $version:ident, $transport:ident;)*) => {
        $(mod $module {
            use super::*;

            async fn check(fault: Fault) {
                exactly_once(fault, Version::$version, Transport::$transport).await;
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

async fn exactly_once(fault: Fault, version: Version, transport: Transport) {
    let client = Client::new(version, transport, "", "15000").with_ack();
    let Some(outcome) = fault.survive(client).await else {
        return;
    };
    outcome.report.expect_exactly_once();
    outcome.expect_one_session();
}
