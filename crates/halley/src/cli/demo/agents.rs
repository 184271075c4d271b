//! The agents' desktops: Bayeux clients that know nothing but the broker's address and their own token.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, Transport};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use voice::message::Message;

/// Who comes how: two over WebSocket, one over long-polling, all with acknowledgements.
pub(super) const DESKS: [(&str, Transport); 3] = [
    ("15000", Transport::WebSocket),
    ("15001", Transport::WebSocket),
    ("15002", Transport::LongPolling),
];

/// One agent's desktop.
pub(super) struct Desktop {
    pub(super) user: &'static str,
    pub(super) transport: &'static str,
    client: Client,
    received: Arc<Mutex<Vec<Value>>>,
    count: watch::Receiver<usize>,
}

/// Something that an agent heard, for the terminal.
pub(super) struct Heard {
    pub(super) user: &'static str,
    pub(super) what: String,
}

impl Desktop {
    pub(super) async fn open(
        user: &'static str,
        transport: Transport,
        broker: SocketAddr,
        tell: mpsc::Sender<Heard>,
    ) -> Result<Self, client::Error> {
        let url = format!("http://{broker}/cometd");
        let builder = Client::builder(url)
            .transport(transport)
            .bearer(format!("secret-{user}"))
            .acknowledge(true);
        let (client, mut events) = builder.connect().await?;
        client.subscribe("/v2/me/*").await?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let kept = Arc::clone(&received);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let Some(what) = hear(event, &kept) else { continue };
                counted.send_replace(kept.lock().len());
                // The terminal may be gone; the desktop goes on.
                let _ = tell.send(Heard { user, what }).await;
            }
        });
        let transport = match transport {
            Transport::WebSocket => "WebSocket",
            Transport::LongPolling => "long-polling",
        };
        Ok(Self {
            user,
            transport,
            client,
            received,
            count,
        })
    }

    pub(super) fn session(&self) -> String {
        self.client.client_id().chars().take(6).chain(['…']).collect()
    }

    /// Waits until at least `messages` have arrived.
    pub(super) async fn expect(&mut self, messages: usize, patience: Duration) {
        let count = &mut self.count;
        super::patiently(patience, async {
            drop(count.wait_for(|count| *count >= messages).await)
        })
        .await;
    }

    pub(super) fn received(&self) -> Vec<Value> {
        self.received.lock().clone()
    }

    pub(super) async fn close(self) {
        let _ = self.client.disconnect().await;
    }
}

/// Keeps a message, and says in a line what happened.
fn hear(event: Event, kept: &Mutex<Vec<Value>>) -> Option<String> {
    match event {
        Event::Message { channel, data, .. } => {
            let data: Value = serde_json::from_str(data.get()).unwrap_or(Value::Null);
            let envelope = json!({ "channel": channel, "data": data });
            let line = describe(&envelope);
            kept.lock().push(envelope);
            Some(line)
        }
        Event::Connected { .. } => None,
        Event::Interrupted { reason } => Some(format!("(interrupted: {reason})")),
        Event::Gap { .. } => Some("(events were lost)".to_owned()),
        Event::SubscriptionLost { channel, error } => {
            Some(format!("(subscription to {channel} refused: {error})"))
        }
        Event::Closed { .. } => None,
    }
}

fn describe(envelope: &Value) -> String {
    let channel = envelope["channel"].as_str().unwrap_or_default();
    match serde_json::from_value::<Message>(envelope["data"].clone()) {
        Ok(message) => format!("{channel} {message}"),
        Err(_) => format!("{channel} {}", envelope["data"]),
    }
}
