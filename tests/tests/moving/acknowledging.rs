//! A client acknowledges at one node what another one has sent.

use serde_json::{Value, json};

use crate::nodes::{HELD, Nodes, acknowledging, connect, data, successful};

/// Its connect is answered with this number, no event and no gap.
#[track_caller]
fn expect_nothing_but(number: u64, answer: &[Value]) {
    assert_eq!(successful(answer), [true], "{answer:?}");
    assert_eq!(answer.len(), 1, "{answer:?}");
    assert_eq!(answer[0]["ext"], json!({ "ack": number }), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_has_sent_that_took_the_session_unheard_is_acknowledged_where_it_was() {
    let nodes = Nodes::start().await;
    let mut client = acknowledging(&nodes.a).await;
    nodes.steal(&client).await;
    nodes.a.publish_to(None, "/a", "1").await;
    // The third node has sent it.
    expect_nothing_but(1, &connect(&mut client, 1).await);
    assert_eq!(nodes.a.metric("halley_sessions_adopted_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_before_has_sent_without_knowing_that_it_had_lost_the_session_is_acknowledged() {
    let nodes = Nodes::start().await;
    let mut client = acknowledging(&nodes.a).await;
    nodes.take(&client).await;
    expect_nothing_but(0, &connect(&mut client, 0).await);
    nodes.a.publish_to(None, "/a", "1").await;
    expect_nothing_but(1, &connect(&mut client, 1).await);
    nodes.a.publish_to(None, "/a", "2").await;
    let answer = connect(&mut client, 1).await;
    assert_eq!(data(&answer), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_has_sent_before_this_node_was_connected_to_is_no_gap() {
    let nodes = Nodes::start().await;
    let mut client = acknowledging(&nodes.a).await;
    nodes.take(&client).await;
    nodes.a.publish_to(None, "/a", "1").await;
    client.subscribe(json!("/b")).await;
    // Its numbers begin anew, since the third node may go on and does not know of `/b`.
    expect_nothing_but((1 << 45) + 1, &connect(&mut client, 1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_has_sent_is_not_acknowledged() {
    let nodes = Nodes::start().await;
    let mut client = acknowledging(&nodes.a).await;
    nodes.take(&client).await;
    connect(&mut client, 0).await;
    nodes.a.publish_to(None, "/a", "1").await;
    let answer = connect(&mut client, 2).await;
    assert_eq!(answer[0]["error"], "400:ext.ack:field_invalid");
    assert_eq!(data(&connect(&mut client, 0).await), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_from_where_a_subscription_was_not_known_does_not_pass_over_its_events() {
    let nodes = Nodes::start().await;
    let mut client = acknowledging(&nodes.a).await;
    let mut there = client.also_at(&nodes.b);
    let waiting = json!([{ "channel": "/meta/connect", "clientId": "$id", "connectionType": "long-polling",
        "advice": { "timeout": 2000 }, "ext": { "ack": 0 } }])
    .to_string();
    let (answer, ()) = tokio::join!(client.say(&waiting), async {
        nodes.a.wait_for(HELD, 1.0).await;
        nodes.steal(&there).await;
        there.subscribe(json!("/b")).await;
        nodes.b.publish_to(None, "/b", "1").await;
    });
    // It does not know yet that it has lost the session, nor that somebody listens to what has come.
    expect_nothing_but(1, &answer);
    assert_eq!(data(&connect(&mut there, 1).await), [1]);
}
