//! What can go wrong while events are published, and the account afterwards.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    Application, Broker, Client, ENDPOINT, Ledger, Node, Proxy, Publisher, Report, Seen, Settings, say,
};

/// The channel that everything is published to.
const CHANNEL: &str = "/v2/me/calls";

/// One event every so often, before, during and after each fault.
const PUBLISHING: Duration = Duration::from_millis(3);

/// How much earlier than a fault the last proof of what arrived may be: the broker asks a WebSocket for it once a second,
/// stores it once a second, and a second is for a machine under load.
const PROOF: Duration = Duration::from_secs(3);

/// How much later than promised an answer may come before the client gives a connection up.
const NETWORK_DELAY: Duration = Duration::from_secs(1);

/// Less than the client waits for an answer.
const STALL: Duration = Duration::from_millis(500);

/// More than `max_interval`, and than the client waits for an answer.
const SLEEP: Duration = Duration::from_secs(4);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The broker gets `kill -9` and starts again on the same data.
    Kill,
    /// The broker is told to leave, as a deploy does, and the next one starts on the same data.
    Deploy,
    /// Every connection is reset.
    Reset,
    /// Nothing passes until the client gives up; what was in flight then never arrives.
    BlackHole,
    /// Nothing passes for less time than the client waits; then everything in flight arrives.
    Stall,
    /// The client's process sleeps for longer than `max_interval`, and longer than it waits for answers itself.
    Sleep,
}

/// What came of it.
pub struct Outcome {
    /// Published against received.
    pub report: Report,
    /// All that the client told.
    pub seen: Seen,
    what: String,
    /// How many events one resend may repeat.
    resend_limit: usize,
    /// Kept until the expectations are met: they print their logs when a test fails.
    _logs: (Node, Broker),
}

impl Fault {
    /// How often it strikes in one test.
    fn times(self) -> u32 {
        match self {
            Fault::Kill | Fault::Reset => 10,
            Fault::Deploy => 2,
            Fault::BlackHole | Fault::Stall | Fault::Sleep => 3,
        }
    }

    /// How long all goes well before the nth strike.
    fn calm(self, nth: u32) -> Duration {
        match self {
            // In turn a broker that lives long enough to store what was proven, and one that does not.
            Fault::Kill if nth.is_multiple_of(2) => Duration::from_millis(1500),
            Fault::Sleep => Duration::from_secs(1),
            Fault::Kill | Fault::Deploy | Fault::Reset | Fault::BlackHole | Fault::Stall => {
                Duration::from_millis(300)
            }
        }
    }

    /// How long events are published without the client being able to answer.
    fn outage(self) -> Duration {
        match self {
            Fault::Kill | Fault::Deploy | Fault::Reset => Duration::ZERO,
            Fault::Stall => STALL,
            // The client waits for the timeout, which is a second, and its network delay.
            Fault::BlackHole => Duration::from_secs(1) + NETWORK_DELAY,
            Fault::Sleep => SLEEP,
        }
    }

    fn settings(self) -> Settings {
        match self {
            Fault::Kill | Fault::Reset => Settings {
                timeout: "5s",
                ..Settings::default()
            },
            Fault::Deploy => Settings {
                timeout: "5s",
                drain: "1s",
                ..Settings::default()
            },
            Fault::BlackHole | Fault::Stall => Settings {
                timeout: "1s",
                ..Settings::default()
            },
            Fault::Sleep => Settings {
                timeout: "1s",
                max_interval: "2s",
                ..Settings::default()
            },
        }
    }

    /// Strikes once, and waits until the client receives again.
    async fn strike(self, broker: &mut Broker, proxy: &Proxy, client: &Node) {
        let interruptions = client.seen().interruptions;
        match self {
            Fault::Kill => {
                broker.kill9().await;
                broker.restart().await;
                client
                    .until("its noticing", |seen| seen.interruptions > interruptions)
                    .await;
            }
            Fault::Deploy => {
                let status = broker.terminate().await;
                assert!(status.success(), "told to leave, the broker ended with {status}");
                broker.restart().await;
            }
            Fault::Reset => {
                let connections = proxy.connections();
                proxy.reset();
                // Not an interruption each time: between two connects a client opens the next connection unasked.
                proxy.until_connections(connections + 1).await;
            }
            Fault::BlackHole => {
                proxy.black_hole();
                client
                    .until("its giving up", |seen| seen.interruptions > interruptions)
                    .await;
                proxy.reset();
                proxy.heal();
            }
            Fault::Stall => {
                proxy.black_hole();
                sleep(STALL).await;
                proxy.heal();
            }
            // Whether it finds its connection broken when it wakes is the broker's and the network's choice.
            Fault::Sleep => client.sleep(SLEEP).await,
        }
        let received = client.seen().messages.len();
        client
            .until("the next event", |seen| {
                seen.connected && seen.messages.len() > received
            })
            .await;
    }

    /// Publishes to one client while the fault strikes again and again, then counts. `None` where there is no Node.
    pub async fn survive(self, client: Client) -> Option<Outcome> {
        let mut broker = Broker::start(self.settings()).await;
        let proxy = Proxy::start(broker.public).await;
        let client = Client {
            url: format!("http://{}{ENDPOINT}", proxy.address),
            network_delay: NETWORK_DELAY,
            ..client
        };
        let acknowledging = if client.acknowledges() {
            "acknowledging"
        } else {
            "plain"
        };
        let client = client.start()?;
        client.subscribe(CHANNEL).await;

        let mut publisher = Publisher::new(broker.internal, "fault");
        let started = Instant::now();
        let over = Cell::new(false);
        let publishing = async {
            while !over.get() {
                publisher.publish("15000", CHANNEL).await;
                sleep(PUBLISHING).await;
            }
        };
        let breaking = async {
            for nth in 0..self.times() {
                sleep(self.calm(nth)).await;
                self.strike(&mut broker, &proxy, &client).await;
            }
            sleep(self.calm(1)).await;
            over.set(true);
        };
        tokio::join!(publishing, breaking);
        let rate = publisher.accepted().len() as f64 / started.elapsed().as_secs_f64();
        let resend_limit = (rate * (PROOF + self.outage()).as_secs_f64()) as usize;

        let seen = client
            .until_received(Application::PATIENCE, publisher.accepted().len())
            .await;
        let report = Ledger::new(publisher.numbers(), seen.numbers()).report();
        let what = format!("{self:?} x {}, {acknowledging} {}", self.times(), client.name());
        let retries = publisher.retries();
        say(format_args!(
            "{what}: {report}; {} interruptions, {retries} publishes sent again",
            seen.interruptions
        ));
        let logs = (client, broker);
        Some(Outcome {
            report,
            seen,
            what,
            resend_limit,
            _logs: logs,
        })
    }
}

impl Outcome {
    /// Panics if one resend repeated more than what was not yet proven to have arrived.
    #[track_caller]
    pub fn expect_short_resends(&self) {
        let (longest, limit) = (self.report.longest_resend, self.resend_limit);
        assert!(
            longest <= limit,
            "expected resends of at most {limit}, one had {longest}: {self}"
        );
    }

    /// Panics if the client had to handshake again, or was refused anything.
    #[track_caller]
    pub fn expect_one_session(&self) {
        let kept =
            self.seen.sessions.len() == 1 && self.seen.refused.is_empty() && self.seen.errors.is_empty();
        assert!(kept, "expected one session throughout: {self}");
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.report, self.seen.summary())
    }
}

/// Makes a test of every fault for every stock client and transport. `$check` is an `async fn(Fault, Version, Transport)`;
/// a test is then named like `cometd_9_over_websocket::the_broker_is_killed`.
#[macro_export]
macro_rules! with_each_client_and_fault {
    ($check:ident) => {
        $crate::with_each_client_and_fault! {
            $check;
            cometd_9_over_websocket: V9, WebSocket;
            cometd_9_over_long_polling: V9, LongPolling;
            cometd_3_over_websocket: V3, WebSocket;
            cometd_3_over_long_polling: V3, LongPolling;
        }
    };
    ($check:ident; $($module:ident: $version:ident, $transport:ident;)*) => {
        $(mod $module {
            use $crate::{Fault, Transport, Version};

            async fn check(fault: Fault) {
                super::$check(fault, Version::$version, Transport::$transport).await;
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
