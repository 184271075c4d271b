//! CometD 9 in pages of a real browser, which has opinions of its own: on origins, cookies, reloads and connections.

use std::cell::Cell;
use std::fmt::Display;
use std::time::Duration;

use halley_tests::{
    Application, Broker, Client, ENDPOINT, Extension, Front, Ledger, Page, Profile, Proxy, Publisher, Report,
    Service, Settings, TokenIn, Transport, Upgrades, Version, checks,
};
use tokio::time::{Instant, sleep};

const CALLS: &str = "/v2/me/calls";
const USER: &str = "15000";

/// Where the page comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// The origin of the broker.
    SameOrigin,
    /// Another port of its host.
    CrossOrigin,
}

/// A browser, the web server that its pages come from, and a broker.
struct Scene {
    broker: Broker,
    front: Front,
    profile: Profile,
    client: Client,
}

impl Scene {
    /// `None` where there is no browser. Callback-polling is only spoken where it is asked for.
    async fn new(from: From, transport: Transport, settings: Settings) -> Option<Scene> {
        let profile = Profile::new()?;
        let front = Front::start().await;
        let settings = match transport {
            Transport::WebSocket | Transport::LongPolling => settings,
            Transport::CallbackPolling => Settings {
                transports: &[Transport::CallbackPolling],
                ..settings
            },
        };
        let broker = Broker::start(match from {
            From::SameOrigin => settings,
            From::CrossOrigin => listing(front.address, settings),
        })
        .await;
        let address = match from {
            From::SameOrigin => {
                front.stand_before(broker.public);
                front.address
            }
            From::CrossOrigin => broker.public,
        };
        Some(Scene {
            client: client(transport, address),
            broker,
            front,
            profile,
        })
    }

    /// A page with the client, as `change` would have it.
    fn open(&self, change: impl FnOnce(Client) -> Client) -> Page {
        self.profile
            .open(self.front.address, &change(self.client.clone()))
    }

    /// Waits until the broker knows that the page has received everything.
    async fn until_acknowledged(&self, page: &Page, events: usize) {
        page.until("its acknowledgement", |seen| seen.acknowledged >= events)
            .await;
        if self.client.transports == [Transport::WebSocket] {
            // Messages on a socket are handled in their order.
            let published = page.seen().published.len();
            page.publish("/chat/order", serde_json::json!({}));
            page.until("the reply", |seen| seen.published.len() > published)
                .await;
        } else {
            let held = "halley_connections{transport=\"long-polling\"}";
            self.until_metric(held, 1.0).await;
        }
    }

    async fn until_metric(&self, name: &str, value: f64) {
        let deadline = Instant::now() + Application::PATIENCE;
        loop {
            let now = self.broker.metrics().await.get(name).copied();
            if now == Some(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is {now:?}, not {value}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A client for a broker at this address. A page cannot set the headers of a WebSocket, so it shows its token in the
/// handshake; from then on its session is found by the cookie.
fn client(transport: Transport, broker: impl Display) -> Client {
    Client {
        token_in: TokenIn::Handshake,
        ..Client::new(Version::V9, transport, format!("http://{broker}{ENDPOINT}"), USER)
    }
}

/// The same with pages of this origin let in.
fn listing(origin: impl Display, settings: Settings) -> Settings {
    let extra = format!(
        "[cors]\nallowed_origins = [\"http://{origin}\"]\n{}",
        settings.extra
    );
    Settings { extra, ..settings }
}

/// Publishes one event after another while something else happens.
async fn publishing_during<T>(publisher: &mut Publisher, something: impl Future<Output = T>) -> T {
    let over = Cell::new(false);
    let publishing = async {
        while !over.get() {
            publisher.publish(USER, CALLS).await;
            sleep(Duration::from_millis(3)).await;
        }
    };
    let something = async {
        let result = something.await;
        over.set(true);
        result
    };
    tokio::join!(publishing, something).1
}

async fn publish(publisher: &mut Publisher, count: usize) {
    for _ in 0..count {
        publisher.publish(USER, CALLS).await;
    }
}

async fn report(publisher: &Publisher, page: &Page) -> Report {
    let published = publisher.numbers().count();
    let seen = page.until_received(Application::PATIENCE, published).await;
    Ledger::new(publisher.numbers(), seen.numbers()).report()
}

/// Makes a module of tests for each place that a page can come from and each transport.
macro_rules! with_each_origin_and_transport {
    ($($module:ident: $from:ident, $transport:ident;)*) => {
        $(mod $module {
            use super::*;

            async fn scene(settings: Settings) -> Option<Scene> {
                Scene::new(From::$from, Transport::$transport, settings).await
            }

            #[tokio::test]
            async fn acknowledged_events_arrive_once_in_order() {
                let Some(scene) = scene(Settings::default()).await else { return };
                super::acknowledged_events_arrive_once_in_order(&scene).await;
            }

            #[tokio::test]
            async fn a_batch_is_answered_and_handled_in_its_order() {
                let Some(scene) = scene(Settings::default()).await else { return };
                let page = scene.open(|client| client);
                checks::a_batch_is_answered_and_handled_in_its_order(&page).await;
            }

            #[tokio::test]
            async fn bytes_from_page_to_page_arrive_as_they_were() {
                let Some(scene) = scene(Settings::default()).await else { return };
                let sender = scene.open(with_bytes);
                // Two handshakes at the same time are given a cookie each, and the browser keeps one of them.
                sender.until("the connection", |seen| seen.connected).await;
                let receiver = scene.open(with_bytes);
                checks::bytes_arrive_as_they_were(&sender, &receiver).await;
            }

            #[tokio::test]
            async fn a_service_answers_calls() {
                let service = Service::start().await;
                let Some(scene) = scene(service.settings()).await else { return };
                let page = scene.open(|client| client);
                checks::a_service_answers_calls(&page).await;
            }

            #[tokio::test]
            async fn a_page_with_a_wrong_clock_learns_the_time() {
                let Some(scene) = scene(checks::short_holds()).await else { return };
                let page = scene.open(checks::with_wrong_clock);
                checks::the_time_is_learnt(&page).await;
            }
        })*
    };
}

with_each_origin_and_transport! {
    same_origin_over_websocket: SameOrigin, WebSocket;
    same_origin_over_long_polling: SameOrigin, LongPolling;
    same_origin_over_callback_polling: SameOrigin, CallbackPolling;
    cross_origin_over_websocket: CrossOrigin, WebSocket;
    cross_origin_over_long_polling: CrossOrigin, LongPolling;
    cross_origin_over_callback_polling: CrossOrigin, CallbackPolling;
}

fn with_bytes(client: Client) -> Client {
    client.with(&[Extension::Binary])
}

async fn acknowledged_events_arrive_once_in_order(scene: &Scene) {
    let page = scene.open(Client::with_ack);
    page.subscribe(CALLS).await;
    let mut publisher = Publisher::new(scene.broker.internal, "page");
    publish(&mut publisher, 200).await;
    report(&publisher, &page).await.expect_exactly_once();
    page.disconnect().await;
    let seen = page.seen();
    assert_eq!(
        (seen.sessions.len(), seen.refused, seen.errors),
        (1, vec![], vec![]),
        "one session, no errors"
    );
}

/// Makes a test for each of two transports, in a page of the broker's origin.
macro_rules! with_each_transport {
    ($($test:ident;)*) => {
        mod websocket {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Transport::WebSocket).await;
            })*
        }

        mod long_polling {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Transport::LongPolling).await;
            })*
        }
    };
}

with_each_transport! {
    two_tabs_of_a_browser_both_get_everything;
    a_reloaded_page_goes_on_with_its_session;
    a_page_that_loads_for_longer_than_max_interval_goes_on_with_its_session;
    a_reload_amid_a_stream_loses_nothing;
    a_reload_loses_nothing_that_a_busy_page_had_not_come_to;
    an_acknowledged_stream_is_sent_again_at_most_once_by_a_reload;
    connections_are_cut_and_nothing_is_lost;
    connections_are_cut_and_acknowledged_events_arrive_once;
}

async fn two_tabs_of_a_browser_both_get_everything(transport: Transport) {
    let Some(scene) = Scene::new(From::SameOrigin, transport, Settings::default()).await else {
        return;
    };
    let one = scene.open(Client::with_ack);
    one.subscribe(CALLS).await;
    let other = scene.open(Client::with_ack);
    other.subscribe(CALLS).await;
    let mut publisher = Publisher::new(scene.broker.internal, "tabs");
    publish(&mut publisher, 100).await;
    for tab in [&one, &other] {
        report(&publisher, tab).await.expect_exactly_once();
    }
    assert_ne!(
        one.seen().sessions,
        other.seen().sessions,
        "two tabs, two sessions"
    );
    assert_eq!(scene.front.browsers().len(), 1, "one browser, one cookie");
}

async fn a_reloaded_page_goes_on_with_its_session(transport: Transport) {
    reload_slowly(transport, Settings::default(), async |_| {}).await;
}

async fn a_page_that_loads_for_longer_than_max_interval_goes_on_with_its_session(transport: Transport) {
    let settings = Settings {
        max_interval: "1s",
        ..Settings::default()
    };
    reload_slowly(transport, settings, async |scene| {
        // It left memory.
        scene.until_metric("halley_sessions", 0.0).await;
    })
    .await;
}

/// Reloads a page, and publishes while neither the old one nor the new one is there.
async fn reload_slowly(transport: Transport, settings: Settings, meanwhile: impl AsyncFn(&Scene)) {
    let Some(scene) = Scene::new(From::SameOrigin, transport, settings).await else {
        return;
    };
    let page = scene.open(|client| client.with(&[Extension::Ack, Extension::Reload]));
    page.subscribe(CALLS).await;
    let mut publisher = Publisher::new(scene.broker.internal, "reload");
    publish(&mut publisher, 50).await;
    scene.until_acknowledged(&page, 50).await;

    scene.front.hold_pages();
    let between = async {
        scene.front.until_pages_asked(2).await;
        publish(&mut publisher, 50).await;
        meanwhile(&scene).await;
        scene.front.release_pages();
    };
    tokio::join!(page.reload(), between);
    // Applications subscribe when they start. The session has not forgotten: that begins nothing anew.
    page.subscribe(CALLS).await;
    publish(&mut publisher, 50).await;

    report(&publisher, &page).await.expect_exactly_once();
    let seen = page.seen();
    assert_eq!(seen.sessions.len(), 1, "no new session: {}", seen.summary());
    assert_eq!(seen.restored, seen.sessions, "the reload extension kept it");
    assert_eq!(seen.errors, Vec::<String>::new());
}

async fn a_reload_amid_a_stream_loses_nothing(transport: Transport) {
    let client = |client: Client| client.with(&[Extension::Reload]);
    reload_amid_a_stream(transport, client)
        .await
        .expect_at_least_once();
}

/// A browser answers pings, and acknowledges to TCP, for a page that has not seen what came before.
async fn a_reload_loses_nothing_that_a_busy_page_had_not_come_to(transport: Transport) {
    const EVENTS: u64 = 300;
    let Some(scene) = Scene::new(From::SameOrigin, transport, Settings::default()).await else {
        return;
    };
    let page = scene.open(|client| Client {
        busy: Duration::from_millis(10),
        ..client.with(&[Extension::Reload])
    });
    page.subscribe(CALLS).await;
    let mut publisher = Publisher::new(scene.broker.internal, "busy");
    publisher.publish_batch(USER, CALLS, EVENTS, 0).await;
    page.until("some of them", |seen| seen.messages.len() > 20).await;
    page.reload().await;
    report(&publisher, &page).await.expect_at_least_once();
    assert_eq!(page.seen().sessions.len(), 1, "{}", page.seen().summary());
}

async fn an_acknowledged_stream_is_sent_again_at_most_once_by_a_reload(transport: Transport) {
    // The old page could no longer say what it had received last.
    let client = |client: Client| client.with(&[Extension::Ack, Extension::Reload]);
    let report = reload_amid_a_stream(transport, client).await;
    report.expect_at_least_once();
    assert!(report.resends <= RELOADS, "{report}");
}

const RELOADS: usize = 3;

async fn reload_amid_a_stream(transport: Transport, change: impl FnOnce(Client) -> Client) -> Report {
    let Some(scene) = Scene::new(From::SameOrigin, transport, Settings::default()).await else {
        return Report::default();
    };
    let page = scene.open(change);
    page.subscribe(CALLS).await;
    let mut publisher = Publisher::new(scene.broker.internal, "stream");
    publishing_during(&mut publisher, async {
        for _ in 0..RELOADS {
            until_next_event(&page).await;
            page.reload().await;
        }
        until_next_event(&page).await;
    })
    .await;
    let report = report(&publisher, &page).await;
    assert_eq!(page.seen().sessions.len(), 1, "{}", page.seen().summary());
    report
}

async fn until_next_event(page: &Page) {
    let received = page.seen().messages.len();
    page.until("the next event", |seen| seen.messages.len() > received)
        .await;
}

async fn connections_are_cut_and_nothing_is_lost(transport: Transport) {
    cut_connections(transport, |client| client)
        .await
        .expect_at_least_once();
}

async fn connections_are_cut_and_acknowledged_events_arrive_once(transport: Transport) {
    cut_connections(transport, Client::with_ack)
        .await
        .expect_exactly_once();
}

async fn cut_connections(transport: Transport, change: impl FnOnce(Client) -> Client) -> Report {
    let Some(scene) = Scene::new(From::SameOrigin, transport, Settings::default()).await else {
        return Report::default();
    };
    let network = Proxy::start(scene.front.address).await;
    let page = scene
        .profile
        .open(network.address, &change(client(transport, network.address)));
    page.subscribe(CALLS).await;
    let mut publisher = Publisher::new(scene.broker.internal, "cut");
    publishing_during(&mut publisher, async {
        for _ in 0..3 {
            until_next_event(&page).await;
            let connections = network.connections();
            network.reset();
            network.until_connections(connections + 1).await;
        }
        until_next_event(&page).await;
    })
    .await;
    let report = report(&publisher, &page).await;
    let seen = page.seen();
    assert_eq!(seen.sessions.len(), 1, "{}", seen.summary());
    assert_eq!(seen.transport.as_deref(), Some(transport.name()));
    report
}

#[tokio::test]
async fn a_client_whose_websocket_is_refused_falls_back() {
    fall_back(Upgrades::Refuse).await;
}

#[tokio::test]
async fn a_client_behind_a_proxy_without_websockets_falls_back() {
    fall_back(Upgrades::Forget).await;
}

async fn fall_back(upgrades: Upgrades) {
    let Some(scene) = Scene::new(From::SameOrigin, Transport::WebSocket, Settings::default()).await else {
        return;
    };
    scene.front.set_upgrades(upgrades);
    let page = scene.open(|client| Client {
        transports: vec![Transport::WebSocket, Transport::LongPolling],
        ..client.with_ack()
    });
    page.subscribe(CALLS).await;
    let mut publisher = Publisher::new(scene.broker.internal, "fallback");
    publish(&mut publisher, 50).await;
    report(&publisher, &page).await.expect_exactly_once();
    let seen = page.seen();
    assert_eq!(seen.transport.as_deref(), Some("long-polling"));
    assert_eq!(
        (seen.refused.len(), seen.sessions.len()),
        (1, 1),
        "the WebSocket was tried once: {}",
        seen.summary()
    );
}

#[tokio::test]
async fn a_page_of_an_origin_that_is_not_listed_gets_nothing() {
    let Some(profile) = Profile::new() else { return };
    let front = Front::start().await;
    let broker = Broker::start(listing("127.0.0.1:1", Settings::default())).await;
    for transport in [Transport::WebSocket, Transport::LongPolling] {
        let page = profile.open(front.address, &client(transport, broker.public));
        let seen = page.until("a refusal", |seen| !seen.refused.is_empty()).await;
        assert_eq!(seen.sessions, Vec::<String>::new());
    }
    assert_eq!(
        broker.metrics().await["halley_sessions"],
        0.0,
        "none was opened either"
    );
}

#[tokio::test]
async fn a_page_of_another_site_is_known_by_its_credentials() {
    // The browser sends no cookie, but asks before it sends the Authorization header, and for each path again.
    let client = |client| Client {
        token_in: TokenIn::Header,
        ..client
    };
    other_site(Transport::LongPolling, client).await;
}

#[tokio::test]
async fn a_page_of_another_site_is_known_by_its_messages() {
    let client = |client| Client {
        token_in: TokenIn::Message,
        ..client
    };
    other_site(Transport::WebSocket, client).await;
    other_site(Transport::LongPolling, client).await;
}

/// A page at `localhost` with a broker at `127.0.0.1`, and connections that are cut.
async fn other_site(transport: Transport, change: impl FnOnce(Client) -> Client) {
    let Some(profile) = Profile::new() else { return };
    let front = Front::start().await;
    let origin = format!("localhost:{}", front.address.port());
    let broker = Broker::start(listing(&origin, Settings::default())).await;
    let network = Proxy::start(broker.public).await;
    let client = change(client(transport, network.address)).with_ack();
    let page = profile.open(&origin, &client);
    page.subscribe(CALLS).await;
    let mut publisher = Publisher::new(broker.internal, "site");
    publish(&mut publisher, 20).await;
    network.reset();
    publish(&mut publisher, 20).await;
    report(&publisher, &page).await.expect_exactly_once();
    assert_eq!(page.seen().sessions.len(), 1, "{}", page.seen().summary());
}
