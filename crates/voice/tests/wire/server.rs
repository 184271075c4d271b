//! The routes, and what each refusal looks like.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use voice::device_id;

use crate::api::Api;
use crate::broker::{Broker, Reply};

async fn api() -> Api {
    Api::start(&Broker::start(&[]).await).await
}

fn codes((status, body): (u16, Value)) -> (u16, u64) {
    (status, body["statusCode"].as_u64().unwrap())
}

fn remove(participant: &str) -> Value {
    json!({"operationName": "RemoveParticipantFromConference", "participant": participant})
}

#[tokio::test]
async fn an_accepted_operation_answers_status_code_0_and_nothing_else() {
    let api = api().await;
    let body = json!({"operationName": "StartContactCenterSession", "channels": ["voice"]});
    assert_eq!(
        api.post("15000", "/api/v2/me", body).await,
        (200, json!({"statusCode": 0}))
    );
}

#[tokio::test]
async fn who_gives_no_password_is_denied() {
    let answer = api()
        .await
        .send(Method::GET, "/api/v2/me", None, Bytes::new())
        .await;
    assert_eq!(
        answer,
        (403, json!({"statusCode": 20, "statusMessage": "Access denied"}))
    );
}

#[tokio::test]
async fn who_gives_a_wrong_password_is_denied() {
    let answer = api()
        .await
        .send(Method::GET, "/api/v2/me", Some(("15000", "guess")), Bytes::new())
        .await;
    assert_eq!(codes(answer), (403, 20));
}

#[tokio::test]
async fn a_body_that_is_not_json_is_invalid_input() {
    let body = Bytes::from_static(b"{\"operationName\":");
    let (status, answer) = api()
        .await
        .send(Method::POST, "/api/v2/me", Some(("15000", "secret")), body)
        .await;
    assert_eq!((status, &answer["statusCode"]), (400, &json!(10)));
    assert!(
        answer["statusMessage"]
            .as_str()
            .unwrap()
            .starts_with("The request body is not JSON"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_over_64_kib_is_too_large() {
    let body = json!({"operationName": "Ready", "padding": "x".repeat(64 * 1024)});
    assert_eq!(
        codes(api().await.post("15000", "/api/v2/me", body).await),
        (413, 10)
    );
}

#[tokio::test]
async fn an_unknown_address_is_not_found() {
    assert_eq!(codes(api().await.get("15000", "/api/v2/me/fax").await), (404, 6));
}

#[tokio::test]
async fn a_method_that_an_address_does_not_take_is_refused() {
    assert_eq!(
        codes(api().await.get("15000", "/api/v2/me/channels/voice").await),
        (405, 3)
    );
}

#[tokio::test]
async fn another_users_device_is_not_found() {
    let path = format!("/api/v2/me/devices/{}/calls", device_id("15001"));
    let body = json!({"operationName": "Dial", "destination": {"phoneNumber": "15002"}});
    assert_eq!(codes(api().await.post("15000", &path, body).await), (404, 6));
}

#[tokio::test]
async fn a_device_without_a_session_is_not_registered() {
    let (status, answer) = api().await.dial("15000", "15001").await;
    let message = "Device '15000' is not registered.";
    assert_eq!(
        (status, answer),
        (500, json!({"statusCode": 4, "statusMessage": message}))
    );
}

#[tokio::test]
async fn an_agent_lacks_the_permission_to_monitor() {
    let path = format!("/api/v2/me/devices/{}", device_id("15000"));
    let body = json!({"operationName": "ListenIn", "targetDeviceUri": device_id("15001")});
    assert_eq!(codes(api().await.post("15000", &path, body).await), (403, 5));
}

#[tokio::test]
async fn a_removal_without_a_participant_misses_a_parameter() {
    let api = api().await;
    let call = api.conference().await;
    let body = json!({"operationName": "RemoveParticipantFromConference"});
    assert_eq!(codes(api.post("15000", &call, body).await), (400, 1));
}

#[tokio::test]
async fn a_removal_of_somebody_else_is_not_valid() {
    let api = api().await;
    let call = api.conference().await;
    assert_eq!(codes(api.post("15000", &call, remove("15003")).await), (400, 2));
}

#[tokio::test]
async fn a_removal_by_who_does_not_own_the_conference_is_forbidden() {
    let api = api().await;
    let call = api.conference().await;
    assert_eq!(codes(api.post("15001", &call, remove("15002")).await), (403, 3));
}

#[tokio::test]
async fn a_removal_from_an_unknown_call_is_not_found() {
    let api = api().await;
    assert_eq!(
        codes(api.post("15000", "/api/v2/me/calls/NONE", remove("15001")).await),
        (404, 6)
    );
}

#[tokio::test]
async fn a_user_reads_itself_with_the_subresources_it_asks_for() {
    let api = api().await;
    api.log_in(&["15000", "15001"]).await;
    api.dial("15001", "15000").await;
    let (_, found) = api
        .get("15000", "/api/v2/me/?subresources=devices,calls,chats")
        .await;
    let user = &found["user"];
    let seen = (
        &user["devices"][0]["userState"]["state"],
        &user["calls"][0]["state"],
        &user["features"],
    );
    assert_eq!(seen, (&json!("NotReady"), &json!("Ringing"), &Value::Null));
}

#[tokio::test]
async fn addresses_in_messages_are_those_of_the_server() {
    let api = api().await;
    api.log_in(&["15000", "15001"]).await;
    api.dial("15000", "15001").await;
    let (_, found) = api.get("15000", "/api/v2/me/calls").await;
    let uri = format!("{}{}", api.url, api.call("15000").await);
    assert_eq!(found["calls"][0]["uri"], uri);
}

#[tokio::test]
async fn a_full_queue_refuses_operations_before_they_change_anything() {
    let broker = Broker::start(&[Reply::Hold]).await;
    let api = Api::start_with(&broker, 1).await;
    api.log_in(&["15000"]).await;
    let refused = api
        .post(
            "15000",
            "/api/v2/me/channels/voice",
            json!({"operationName": "Ready"}),
        )
        .await;
    let (_, found) = api.get("15000", "/api/v2/me/devices").await;
    assert_eq!(
        (codes(refused), &found["devices"][0]["userState"]["state"]),
        ((500, 4), &json!("NotReady"))
    );
}

#[tokio::test]
async fn a_shutdown_publishes_what_waits() {
    let broker = Broker::start(&[Reply::Hold]).await;
    let api = Api::start(&broker).await;
    api.log_in(&["15000", "15001", "15002"]).await;
    broker.requests(1).await;
    broker.release();
    let counts = api.stop().await;
    assert_eq!((counts.published, counts.waiting), (3, 0));
}
