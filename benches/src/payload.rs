//! What is sent in benches: events of the size that a call model has, and bodies as stock clients write them.

use std::sync::Arc;

use bayeux::{ChannelName, Delivery, Offset};
use serde_json::value::RawValue;

/// Where events are published.
pub const CHANNEL: &str = "/v2/me/calls";

/// A connect that acknowledges, as cometd 9 writes it.
pub const CONNECT: &str = r#"[{"id":"7","channel":"/meta/connect","connectionType":"websocket","clientId":"ud47vl6jr8d960sxvk5qkxixzq","ext":{"ack":41}}]"#;

/// The channel of [`CHANNEL`].
pub fn channel() -> ChannelName {
    ChannelName::parse(CHANNEL).expect("a channel")
}

/// The data of an event: 1 KB of JSON.
pub fn data() -> Box<RawValue> {
    RawValue::from_string(format!("{{\"state\":\"{}\"}}", "x".repeat(970))).expect("JSON")
}

/// An event as its receivers get it.
pub fn event(offset: Offset, data: &RawValue) -> Arc<Delivery> {
    Arc::new(Delivery::encode(offset, channel(), data))
}

/// What a client says at its start in one body: ten messages, eight of them subscribes.
pub fn batch() -> String {
    let subscribes = (0..8).map(|number| {
        format!(r#"{{"id":"{number}","channel":"/meta/subscribe","clientId":"ud47vl6jr8d960sxvk5qkxixzq","subscription":"/v2/me/topic-{number}"}}"#)
    });
    let publish = r#"{"id":"8","channel":"/chat/room","clientId":"ud47vl6jr8d960sxvk5qkxixzq","data":{"text":"good morning","to":["15000","15001"]}}"#;
    let messages: Vec<_> = subscribes.chain([publish.to_owned()]).collect();
    format!("[{},{}", messages.join(","), &CONNECT[1..])
}
