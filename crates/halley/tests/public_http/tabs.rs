//! Several sessions of one browser (the cases of CometD's `MultipleClientSessionsTest`, and more).

use std::time::Duration;

use halley::app::App;
use halley::config::{Config, Span};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::it::{Answer, HELD, Line, broker, connect, handshake, post, post_to, publish, wait_for};

/// Where so many sessions of a browser may be held over HTTP/1.1.
async fn limited(most: i32, adjust: impl FnOnce(&mut Config)) -> App {
    broker(|config| {
        config.session.max_sessions_per_browser = most;
        adjust(config);
    })
    .await
}

/// One browser; each of its requests comes on a connection of its own.
struct Browser<'a> {
    app: &'a App,
    cookie: String,
}

impl<'a> Browser<'a> {
    async fn new(app: &'a App) -> Self {
        let shaken = post(app, &[], &handshake()).await;
        let (cookie, _) = shaken.header("set-cookie").split_once(';').expect("a cookie");
        Self {
            app,
            cookie: cookie.to_owned(),
        }
    }

    fn headers(&self) -> [(&str, &str); 1] {
        [("cookie", &self.cookie)]
    }

    /// A session that has connected once and listens to `/a`.
    async fn tab(&self) -> String {
        let shaken = post(self.app, &self.headers(), &handshake()).await;
        let id = shaken.json()[0]["clientId"]
            .as_str()
            .expect("a clientId")
            .to_owned();
        let subscribe = json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" });
        let replies = post(self.app, &self.headers(), &json!([subscribe, connect(&id)])).await;
        assert_eq!(replies.json()[1]["successful"], true);
        id
    }

    async fn tabs(&self, number: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..number {
            ids.push(self.tab().await);
        }
        ids
    }

    /// A connect whose answer is expected at once.
    async fn connect(&self, id: &str) -> Value {
        let answer = post(self.app, &self.headers(), &json!([connect(id)])).await;
        answer.json()
    }

    /// A connect that is held; `held` says how many are then.
    async fn hold(&self, id: &str, held: u64) -> JoinHandle<Answer> {
        let (addr, cookie, body) = (self.app.public_addr(), self.cookie.clone(), json!([connect(id)]));
        let task = tokio::spawn(async move { post_to(addr, &[("cookie", &cookie)], &body).await });
        wait_for(self.app, HELD, held).await;
        // A moment for one that is not held after all.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!task.is_finished(), "it was not held");
        task
    }
}

#[track_caller]
fn expect_crowded(replies: &Value) {
    let reply = replies.as_array().expect("an array").last().expect("a reply");
    let advice = json!({ "multiple-clients": true, "interval": 2000, "reconnect": "retry" });
    assert_eq!(reply["advice"], advice, "{replies}");
    assert_eq!(reply["successful"], true);
}

#[tokio::test]
async fn of_two_tabs_where_one_may_wait_the_second_is_told_to_come_back() {
    let app = limited(1, |_| {}).await;
    let browser = Browser::new(&app).await;
    let ids = browser.tabs(2).await;
    let _held = browser.hold(&ids[0], 1).await;
    expect_crowded(&browser.connect(&ids[1]).await);
}

#[tokio::test]
async fn as_many_tabs_as_allowed_may_wait() {
    let app = limited(2, |_| {}).await;
    let browser = Browser::new(&app).await;
    let ids = browser.tabs(3).await;
    let _held = (browser.hold(&ids[0], 1).await, browser.hold(&ids[1], 2).await);
    expect_crowded(&browser.connect(&ids[2]).await);
}

#[tokio::test]
async fn without_a_bound_every_tab_may_wait() {
    let app = limited(-1, |_| {}).await;
    let browser = Browser::new(&app).await;
    let ids = browser.tabs(10).await;
    for (id, held) in ids.iter().zip(1..) {
        browser.hold(id, held).await;
    }
}

#[tokio::test]
async fn by_default_two_of_a_browsers_six_connections_stay_free() {
    let app = broker(|_| {}).await;
    let browser = Browser::new(&app).await;
    let ids = browser.tabs(5).await;
    for (id, held) in ids[..4].iter().zip(1..) {
        browser.hold(id, held).await;
    }
    expect_crowded(&browser.connect(&ids[4]).await);
}

#[tokio::test]
async fn where_none_may_wait_none_is_held_and_none_is_sent_away() {
    let app = limited(0, |_| {}).await;
    let browser = Browser::new(&app).await;
    let id = browser.tab().await;
    expect_crowded(&browser.connect(&id).await);
    expect_crowded(&browser.connect(&id).await);
}

#[tokio::test]
async fn without_an_interval_the_second_tab_is_sent_away() {
    let app = limited(1, |config| {
        config.session.multi_session_interval = Span(Duration::ZERO);
    })
    .await;
    let browser = Browser::new(&app).await;
    let ids = browser.tabs(2).await;
    let _held = browser.hold(&ids[0], 1).await;
    let replies = browser.connect(&ids[1]).await;
    assert_eq!(
        replies,
        json!([{
            "channel": "/meta/connect",
            "advice": { "multiple-clients": true, "reconnect": "none" },
            "successful": false,
        }])
    );
}

#[tokio::test]
async fn a_tab_that_is_gone_makes_room_for_one_other() {
    let app = limited(2, |_| {}).await;
    let browser = Browser::new(&app).await;
    let ids = browser.tabs(4).await;
    let gone = browser.hold(&ids[0], 1).await;
    let _stays = browser.hold(&ids[1], 2).await;
    gone.abort();
    wait_for(&app, HELD, 1).await;
    let _comes = browser.hold(&ids[2], 2).await;
    expect_crowded(&browser.connect(&ids[3]).await);
}

#[tokio::test]
async fn a_tab_that_is_answered_makes_room_for_another() {
    let app = limited(1, |_| {}).await;
    let browser = Browser::new(&app).await;
    let ids = browser.tabs(2).await;
    let held = browser.hold(&ids[0], 1).await;
    publish(&app, "/a", json!(1)).await;
    assert_eq!(held.await.expect("no panic").json()[0]["data"], 1);
    assert_eq!(browser.connect(&ids[1]).await[0]["data"], 1);
    let _held = browser.hold(&ids[1], 1).await;
}

#[tokio::test]
async fn two_connects_of_one_session_count_once() {
    let app = limited(1, |_| {}).await;
    let browser = Browser::new(&app).await;
    let ids = browser.tabs(2).await;
    let first = browser.hold(&ids[0], 1).await;
    let (addr, cookie, body) = (
        app.public_addr(),
        browser.cookie.clone(),
        json!([connect(&ids[0])]),
    );
    let second = tokio::spawn(async move { post_to(addr, &[("cookie", &cookie)], &body).await });
    assert_eq!(first.await.expect("no panic").status(), 500, "it was overtaken");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished(), "it is held in its place");
    // The one that is over gave up only its own.
    expect_crowded(&browser.connect(&ids[1]).await);
    second.abort();
    wait_for(&app, HELD, 0).await;
    let _held = browser.hold(&ids[1], 1).await;
}

#[tokio::test]
async fn a_crowded_tab_still_gets_its_events() {
    let app = limited(1, |_| {}).await;
    let browser = Browser::new(&app).await;
    let ids = browser.tabs(2).await;
    let held = browser.hold(&ids[0], 1).await;
    expect_crowded(&browser.connect(&ids[1]).await);
    publish(&app, "/a", json!(1)).await;
    held.await.expect("no panic");
    let _held = browser.hold(&ids[0], 1).await;
    let replies = browser.connect(&ids[1]).await;
    assert_eq!(replies[0]["data"], 1, "what waits needs no place");
    assert_eq!(
        replies[1]["advice"]["interval"], 0,
        "and the interval is taken back"
    );
}

#[tokio::test]
async fn browsers_and_clients_without_cookies_do_not_crowd_each_other() {
    let app = limited(1, |config| config.session.trust_client_session = true).await;
    let (one, other) = (Browser::new(&app).await, Browser::new(&app).await);
    let (first, second) = (one.tab().await, other.tab().await);
    let _held = (one.hold(&first, 1).await, other.hold(&second, 2).await);
    for held in [3, 4] {
        let id = other.tab().await;
        let addr = app.public_addr();
        tokio::spawn(async move { post_to(addr, &[], &json!([connect(&id)])).await });
        wait_for(&app, HELD, held).await;
    }
}

#[tokio::test]
async fn over_http2_another_bound_holds() {
    for (most, is_held) in [(-1, true), (1, false)] {
        let app = limited(1, |config| {
            config.session.http2_max_sessions_per_browser = most;
        })
        .await;
        let browser = Browser::new(&app).await;
        let ids = browser.tabs(2).await;
        let line = Line::open(&app).await;
        let first = tokio::spawn(line.post(&browser.headers(), &json!([connect(&ids[0])])));
        wait_for(&app, HELD, 1).await;
        let second = tokio::spawn(line.post(&browser.headers(), &json!([connect(&ids[1])])));
        if is_held {
            wait_for(&app, HELD, 2).await;
        } else {
            expect_crowded(&second.await.expect("no panic").json());
        }
        assert!(!first.is_finished());
    }
}
