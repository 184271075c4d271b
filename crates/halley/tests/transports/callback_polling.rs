//! callback-polling: what a page gets, and who counts as asking.

use std::time::Duration;

use halley::app::App;
use halley::config::Config;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::it::{Answer, Line, ask, broker, broker_for_users, post, publish};

/// For what must not happen.
const A_MOMENT: Duration = Duration::from_millis(300);

const AUTHORIZATION: &str = "Authorization: Bearer secret-15000";

fn listed(config: &mut Config) {
    config.public.transports = ["websocket", "long-polling", "callback-polling"]
        .map(ToOwned::to_owned)
        .to_vec();
}

fn url(bodies: &[&Value]) -> String {
    let messages = bodies
        .iter()
        .map(|body| utf8_percent_encode(&body.to_string(), NON_ALPHANUMERIC).to_string());
    let messages: Vec<String> = messages.collect();
    format!("/cometd?jsonp=cb.1&message={}", messages.join("&message="))
}

async fn get(app: &App, headers: &[&str], body: Value) -> Answer {
    ask(app, "GET", &url(&[&body]), headers, "").await
}

/// The messages that the page's function is given.
#[track_caller]
fn given(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let messages = answer
        .body
        .strip_prefix("cb.1(")
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or_else(|| panic!("no call: {answer:?}"));
    serde_json::from_str(messages).expect("messages")
}

fn connect(id: &str) -> Value {
    json!([{ "channel": "/meta/connect", "clientId": id }])
}

fn client_id(messages: &Value) -> String {
    messages[0]["clientId"].as_str().expect("a clientId").to_owned()
}

/// Shakes hands, subscribes to `/a` and connects for the first time.
async fn session(app: &App) -> String {
    let id = client_id(&given(
        &get(app, &[], json!([{ "channel": "/meta/handshake" }])).await,
    ));
    let subscribe = json!({ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" });
    let replies = given(&ask(app, "GET", &url(&[&subscribe, &connect(&id)]), &[], "").await);
    assert_eq!(replies[0]["subscription"], "/a");
    assert_eq!(replies[1]["channel"], "/meta/connect");
    id
}

/// A connect that is held.
async fn hold(app: &App, id: &str) -> Line {
    let mut line = Line::open(app).await;
    line.send("GET", &url(&[&connect(id)]), &[], "").await;
    sleep(A_MOMENT).await;
    line
}

#[tokio::test]
async fn events_arrive_as_a_script_with_the_reply_to_a_held_connect() {
    let app = broker(listed).await;
    let id = session(&app).await;
    let mut held = hold(&app, &id).await;
    publish(&app, "/a", json!("\u{2028}")).await;
    let answer = held.receive().await;
    assert_eq!(
        answer.body,
        r#"cb.1([{"channel":"/a","data":"\u2028"},{"channel":"/meta/connect","successful":true}])"#
    );
    for (name, value) in [
        ("content-type", "text/javascript;charset=UTF-8"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
}

#[tokio::test]
async fn it_is_not_spoken_unless_it_is_listed() {
    let app = broker(|_| {}).await;
    let handshake = json!([{ "channel": "/meta/handshake" }]);
    let answer = get(&app, &[], handshake.clone()).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    let app = broker(listed).await;
    let named = given(&get(&app, &[], handshake).await)[0]["supportedConnectionTypes"].clone();
    assert_eq!(named, json!(["websocket", "long-polling", "callback-polling"]));
}

#[tokio::test]
async fn what_is_no_jsonp_is_answered_400_and_says_why() {
    let app = broker(listed).await;
    for (path, words) in [
        ("/cometd", "parameter jsonp is missing"),
        ("/cometd?jsonp=alert(1)&message=[]", "parameter jsonp is no name"),
        ("/cometd?jsonp=f", "parameter message is missing"),
        ("/cometd?jsonp=f&message=%5B", "not JSON"),
        ("/cometd?jsonp=f&message=%FF", "not JSON"),
    ] {
        let answer = ask(&app, "GET", path, &[], "").await;
        assert!(
            answer.status == 400 && answer.body.contains(words),
            "{path}: {answer:?}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn the_parameter_and_the_length_of_a_name_can_be_chosen() {
    let app = broker(|config| {
        listed(config);
        config.callback_polling.parameter = "callback".to_owned();
        config.callback_polling.callback_max_length = 3;
    })
    .await;
    let answer = ask(&app, "GET", "/cometd?callback=abc&message={}", &[], "").await;
    assert!(answer.body.starts_with("abc([{"), "{answer:?}");
    for path in ["/cometd?callback=abcd&message={}", "/cometd?jsonp=abc&message={}"] {
        assert_eq!(ask(&app, "GET", path, &[], "").await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn messages_and_the_url_have_limits() {
    let app = broker(|config| {
        listed(config);
        config.limits.request_body = bytesize::ByteSize::b(100);
    })
    .await;
    let message = json!([{ "channel": "/a", "data": "x".repeat(50) }]);
    let (once, twice) = (url(&[&message]), url(&[&message, &message]));
    assert_eq!(ask(&app, "GET", &once, &[], "").await.status, 200);
    assert_eq!(ask(&app, "GET", &twice, &[], "").await.status, 413);
    let long = format!("/cometd?jsonp=f&message={}", "x".repeat(20 << 10));
    assert_eq!(ask(&app, "GET", &long, &[], "").await.status, 431);
}

#[tokio::test]
async fn cookies_do_not_open_a_session_and_none_is_set() {
    let app = broker(listed).await;
    let shaken = post(&app, &json!([{ "channel": "/meta/handshake" }])).await;
    let id = client_id(&shaken.json());
    let cookie = shaken.header("set-cookie").expect("a cookie");
    let cookie = format!("Cookie: {}", cookie.split(';').next().expect("a cookie"));
    let by_script = get(&app, &[&cookie], connect(&id)).await;
    assert_eq!(given(&by_script)[0]["error"], "402::session_unknown");
    let by_post = ask(&app, "POST", "/cometd", &[&cookie], &connect(&id).to_string()).await;
    assert_eq!(by_post.json()[0]["successful"], true);
    for headers in [&[][..], &[cookie.as_str()]] {
        let shaken = get(&app, headers, json!([{ "channel": "/meta/handshake" }])).await;
        assert_eq!(given(&shaken)[0]["successful"], true);
        assert_eq!(shaken.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn headers_do_not_say_who_is_asking_and_ext_does() {
    let app = broker_for_users(listed).await;
    let handshake = json!([{ "channel": "/meta/handshake" }]);
    let by_header = get(&app, &[AUTHORIZATION], handshake.clone()).await;
    assert_eq!(given(&by_header)[0]["error"], "403::handshake_denied");
    let with_token = json!([{ "channel": "/meta/handshake", "ext": { "token": "secret-15000" } }]);
    assert_eq!(given(&get(&app, &[], with_token).await)[0]["successful"], true);

    let shaken = ask(&app, "POST", "/cometd", &[AUTHORIZATION], &handshake.to_string()).await;
    let id = client_id(&shaken.json());
    let by_header = get(&app, &[AUTHORIZATION], connect(&id)).await;
    assert_eq!(given(&by_header)[0]["error"], "402::session_unknown");
    let ext = json!({ "token": "secret-15000" });
    let by_ext = json!([{ "channel": "/meta/connect", "clientId": id, "ext": ext }]);
    assert_eq!(given(&get(&app, &[], by_ext).await)[0]["successful"], true);
}

#[tokio::test]
async fn a_session_opened_here_is_found_by_its_client_id_and_not_by_another_user() {
    let app = broker_for_users(listed).await;
    let handshake = json!([{ "channel": "/meta/handshake", "ext": { "token": "secret-15000" } }]);
    let id = client_id(&given(&get(&app, &[], handshake).await));
    let alone = get(&app, &[], connect(&id)).await;
    assert_eq!(given(&alone)[0]["successful"], true);
    let subscribe = json!([{ "channel": "/meta/subscribe", "clientId": id, "subscription": "/a" }]);
    let by_post = post(&app, &subscribe).await;
    assert_eq!(
        by_post.json()[0]["successful"],
        true,
        "it may change its transport"
    );
    for token in ["secret-15001", "wrong"] {
        let ext = json!({ "token": token });
        let foreign = json!([{ "channel": "/meta/connect", "clientId": id, "ext": ext }]);
        let answer = get(&app, &[], foreign).await;
        assert_eq!(given(&answer)[0]["error"], "402::session_unknown", "{token}");
    }
}

#[tokio::test]
async fn a_connect_that_a_newer_one_replaced_is_given_no_messages() {
    let app = broker(listed).await;
    let id = session(&app).await;
    let mut old = hold(&app, &id).await;
    let mut new = hold(&app, &id).await;
    assert_eq!(given(&old.receive().await), json!([]));
    publish(&app, "/a", json!(1)).await;
    assert_eq!(given(&new.receive().await)[0]["data"], 1);
}

#[tokio::test]
async fn an_abandoned_connect_swallows_nothing() {
    let app = broker(listed).await;
    let id = session(&app).await;
    drop(hold(&app, &id).await);
    publish(&app, "/a", json!(1)).await;
    let next = get(&app, &[], connect(&id)).await;
    assert_eq!(given(&next)[0]["data"], 1);
}

#[tokio::test]
async fn a_recovery_gets_the_last_answer_again_and_a_plain_connect_proves_it() {
    let app = broker(listed).await;
    let id = session(&app).await;
    publish(&app, "/a", json!(1)).await;
    assert_eq!(given(&get(&app, &[], connect(&id)).await)[0]["data"], 1);
    let recovery = json!([{ "channel": "/meta/connect", "clientId": id, "advice": { "timeout": 0 } }]);
    assert_eq!(given(&get(&app, &[], recovery.clone()).await)[0]["data"], 1);
    let mut proof = hold(&app, &id).await;
    publish(&app, "/a", json!(2)).await;
    assert_eq!(given(&proof.receive().await)[0]["data"], 2);
    let again = given(&get(&app, &[], recovery).await);
    assert_eq!(again[0]["data"], 2, "only what came after the proof: {again}");
}

#[tokio::test]
async fn a_held_connect_is_answered_when_the_broker_ends() {
    let app = broker(listed).await;
    let id = session(&app).await;
    let mut held = hold(&app, &id).await;
    let ending = tokio::spawn(app.shut_down());
    assert_eq!(given(&held.receive().await)[0]["successful"], true);
    ending.await.expect("the end");
}
