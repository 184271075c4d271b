//! What an application holds.

use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::builder::Builder;
use crate::driver::Asked;
use crate::error::Error;
use crate::session::Call;

/// A connected Bayeux client. Clones are handles of the same session.
///
/// Every call waits for the server's answer. While there is no connection calls fail at once with
/// [`Error::NotConnected`]; nothing is sent later behind the caller's back.
///
/// The client ends when [`Client::disconnect`] is called, when the server ends the session, or when
/// all handles and the [`Events`](crate::Events) are dropped (without a word to the server, as when a
/// browser tab is killed).
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) calls: mpsc::Sender<Asked>,
    pub(crate) client_id: watch::Receiver<String>,
}

impl Client {
    /// Begins a client for the Bayeux endpoint at `url` (`http://…` or `ws://…`).
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// The id of the present session, or of the last one while the client is making another.
    pub fn client_id(&self) -> String {
        self.client_id.borrow().clone()
    }

    /// Subscribes to one channel or pattern. The client keeps it through new sessions.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the channel and the server's error, or what the network did.
    pub async fn subscribe(&self, channel: &str) -> Result<(), Error> {
        self.call(Call::Subscribe(vec![channel.to_owned()])).await
    }

    /// Subscribes to several channels with one message.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`]. A server may have granted some of the channels all the same; the
    /// client does not keep those.
    pub async fn subscribe_all<C: AsRef<str>>(&self, channels: &[C]) -> Result<(), Error> {
        self.call(Call::Subscribe(
            channels
                .iter()
                .map(|channel| channel.as_ref().to_owned())
                .collect(),
        ))
        .await
    }

    /// Ends the subscription to a channel or pattern.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub async fn unsubscribe(&self, channel: &str) -> Result<(), Error> {
        self.call(Call::Unsubscribe(vec![channel.to_owned()])).await
    }

    /// Publishes `data` and waits until the server has taken it.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if `data` has no JSON form; else as [`Client::subscribe`].
    pub async fn publish(&self, channel: &str, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        let data = to_raw_value(data)?;
        self.call(Call::Publish {
            channel: channel.to_owned(),
            data,
        })
        .await
    }

    /// Says goodbye to the server and ends the client. What arrived before can still be read from
    /// the events, as far as there was room for it.
    ///
    /// # Errors
    ///
    /// [`Error::Unanswered`] if the server did not answer in time, [`Error::Closed`] if the client
    /// had ended before. The client is closed in any case.
    pub async fn disconnect(&self) -> Result<(), Error> {
        self.call(Call::Disconnect).await
    }

    async fn call(&self, call: Call) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.calls.send((call, answer)).await.map_err(|_| Error::Closed)?;
        answered.await.unwrap_or(Err(Error::Closed))
    }
}
