//! What an application must see of the less common features, wherever its client runs.

use std::time::Duration;

use serde_json::json;

use crate::{Application, Binary, Client, Clock, Extension, Ledger, Settings};

/// What clients may publish to.
const ROOM: &str = "/chat/room";

/// How far a wrong clock is ahead.
const AHEAD: Duration = Duration::from_secs(3600);

/// How long connects are held where time is measured, in milliseconds. Mistaken for time on the way, it would show as half
/// of it.
const HOLD: i64 = 2000;

/// A subscription and publishes in one of the client's batches.
pub async fn a_batch_is_answered_and_handled_in_its_order(client: &Application) {
    client.batch(ROOM, (1..=3).map(|number| json!({ "seq": number })));
    // What was published before the subscription would be missing, a repeated message too many.
    let seen = client.until_received(Application::PATIENCE, 3).await;
    Ledger::new(1..=3, seen.numbers()).report().expect_exactly_once();
    let answered = client
        .until("the replies", |seen| {
            seen.subscribed.len() == 1 && seen.published.len() == 3
        })
        .await;
    assert_eq!(answered.errors, Vec::<String>::new());
}

/// Bytes between two clients with [`Extension::Binary`].
pub async fn bytes_arrive_as_they_were(sender: &Application, receiver: &Application) {
    // Every byte, and every remainder of the encoding's groups of four.
    let every_byte: String = (0..=255).map(|byte| format!("{byte:02x}")).collect();
    let sent = ["", "00", "00ff", "ff00ff", "deadbeef", "0000000001", &every_byte];
    receiver.subscribe(ROOM).await;
    for (number, hex) in sent.iter().enumerate() {
        sender.publish_binary(ROOM, hex, json!({ "file": number }));
    }
    let seen = receiver
        .until("the bytes", |seen| seen.binaries.len() == sent.len())
        .await;
    let expected = sent.iter().enumerate().map(|(number, hex)| Binary {
        channel: ROOM.to_owned(),
        hex: (*hex).to_owned(),
        meta: json!({ "file": number }),
        last: true,
    });
    assert_eq!(seen.binaries, expected.collect::<Vec<_>>());
}

/// Calls to the [`Service`](crate::Service), and to one that is not there.
pub async fn a_service_answers_calls(client: &Application) {
    let question = json!({ "text": "hi", "numbers": [1, 2.50, null] });
    client.call("desk/echo", question.clone(), Application::PATIENCE);
    client.call("desk/refuse", json!({}), Application::PATIENCE);
    // The broker takes it, and nobody answers: the client's own patience ends it.
    client.call("elsewhere", json!({}), Duration::from_millis(300));
    let seen = client.until("three answers", |seen| seen.calls.len() == 3).await;
    let answer = |target: &str| {
        let answers = seen.calls.iter().filter(|call| call.target == target);
        let [answer] = answers.collect::<Vec<_>>()[..] else {
            panic!("one answer of {target}: {:?}", seen.calls);
        };
        (&answer.result, &answer.data)
    };
    let echo = json!({ "user": "15000", "asked": question });
    assert_eq!(answer("desk/echo"), (&Ok(echo), &None));
    let (result, data) = answer("desk/refuse");
    let data = data.as_ref().expect("a refusal says why");
    assert!(result.is_err(), "{result:?}");
    assert_eq!((&data["status"], &data["title"]), (&json!(409), &json!("Taken")));
    assert_eq!(answer("elsewhere"), (&Err("406::timeout".to_owned()), &None));
}

/// The broker that [`the_time_is_learnt`] needs.
pub fn short_holds() -> Settings {
    Settings {
        timeout: "2s",
        ..Settings::default()
    }
}

/// The client that [`the_time_is_learnt`] needs: CometD's timesync extension on a machine an hour ahead.
pub fn with_wrong_clock(client: Client) -> Client {
    Client {
        clock_ahead: AHEAD,
        ..client.with(&[Extension::TimeSync])
    }
}

/// The client knows the broker's clock, also after a connect that was held.
pub async fn the_time_is_learnt(client: &Application) {
    // The first connect is answered at once.
    let seen = client
        .until("a held connect", |seen| seen.clocks.len() == 2)
        .await;
    for Clock { lag, offset } in seen.clocks {
        let wrong_by = offset + AHEAD.as_millis() as i64;
        assert!(
            (0..HOLD / 5).contains(&lag),
            "a lag of {lag} ms, with connects held for {HOLD} ms"
        );
        assert!(wrong_by.abs() < HOLD / 5, "wrong by {wrong_by} ms");
    }
}
