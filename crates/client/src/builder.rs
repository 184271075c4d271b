//! What an application chooses before a client exists.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;

use crate::backoff::{Backoff, LONGEST_WAIT};
use crate::driver::Driver;
use crate::error::Error;
use crate::event::Events;
use crate::handle::Client;
use crate::session::{Session, Settings};
use crate::transport::{self, Endpoint, LongPolling, WebSocket};

/// How a client talks to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// One socket for everything.
    #[default]
    WebSocket,
    /// HTTP requests, one of which the server holds until it has something to say.
    LongPolling,
}

/// The settings of a client. Made by [`Client::builder`].
#[derive(Clone)]
pub struct Builder {
    url: String,
    transport: Transport,
    authorization: Option<String>,
    ext_token: Option<String>,
    acknowledge: bool,
    backoff: Backoff,
    network_delay: Duration,
    max_message_size: usize,
    event_buffer: usize,
}

impl Builder {
    pub(crate) fn new(url: String) -> Builder {
        Builder {
            url,
            transport: Transport::default(),
            authorization: None,
            ext_token: None,
            acknowledge: false,
            backoff: Backoff::default(),
            network_delay: Duration::from_secs(10),
            max_message_size: 1024 * 1024,
            event_buffer: 256,
        }
    }

    /// Default: [`Transport::WebSocket`].
    pub fn transport(mut self, transport: Transport) -> Builder {
        self.transport = transport;
        self
    }

    /// Sends `Authorization: Bearer …` with every HTTP request and with the WebSocket upgrade.
    pub fn bearer(mut self, token: impl AsRef<str>) -> Builder {
        self.authorization = Some(format!("Bearer {}", token.as_ref()));
        self
    }

    /// Sends `Authorization: Basic …` with every HTTP request and with the WebSocket upgrade.
    pub fn basic(mut self, user: impl AsRef<str>, password: impl AsRef<str>) -> Builder {
        let credentials = STANDARD.encode(format!("{}:{}", user.as_ref(), password.as_ref()));
        self.authorization = Some(format!("Basic {credentials}"));
        self
    }

    /// Sends `ext.token` in every handshake and connect, as a browser does that cannot set headers
    /// on a WebSocket.
    pub fn ext_token(mut self, token: impl Into<String>) -> Builder {
        self.ext_token = Some(token.into());
        self
    }

    /// Asks for the acknowledge extension of CometD. Used only if the server confirms it. Default: no.
    pub fn acknowledge(mut self, acknowledge: bool) -> Builder {
        self.acknowledge = acknowledge;
        self
    }

    /// The pause after a failure, and by how much it grows with each further failure in a row, up to
    /// a limit. Default: one second, up to a minute. Less than a millisecond counts as one.
    pub fn backoff(mut self, increment: Duration, limit: Duration) -> Builder {
        self.backoff = Backoff::new(increment, limit);
        self
    }

    /// How long an answer may be late, for a connect beyond the time that the server holds it.
    /// Default: ten seconds.
    pub fn network_delay(mut self, delay: Duration) -> Builder {
        self.network_delay = delay.min(LONGEST_WAIT);
        self
    }

    /// The largest WebSocket message or HTTP response to accept, in bytes. Default: 1 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Builder {
        self.max_message_size = bytes;
        self
    }

    /// How many events may wait to be read before the client stops reading the network. Default: 256.
    pub fn event_buffer(mut self, events: usize) -> Builder {
        self.event_buffer = events;
        self
    }

    /// Makes a session and waits for its first connect.
    ///
    /// # Errors
    ///
    /// Whatever fails here is reported and not tried again: whether an unreachable server is worth
    /// waiting for is the caller's choice. Later failures are repaired and told as events.
    pub async fn connect(self) -> Result<(Client, Events), Error> {
        let authorization = self.authorization.as_deref().map(authorization).transpose()?;
        let endpoint = Endpoint::parse(&self.url, authorization)?;
        match self.transport {
            Transport::WebSocket => self.run(WebSocket::new(endpoint, self.max_message_size)).await,
            Transport::LongPolling => self.run(LongPolling::new(endpoint, self.max_message_size)).await,
        }
    }

    /// The same over any transport.
    pub(crate) async fn run<T>(&self, transport: T) -> Result<(Client, Events), Error>
    where
        T: transport::Transport + 'static,
    {
        let session = Session::new(self.settings(T::CONNECTION_TYPE));
        let (driver, ends) = Driver::new(session, transport, self.event_buffer);
        let client = Client {
            calls: ends.calls,
            client_id: ends.client_id,
        };
        let events = Events {
            receiver: ends.events,
        };
        tokio::spawn(driver.run());
        ends.established.await.unwrap_or(Err(Error::Closed))?;
        Ok((client, events))
    }

    fn settings(&self, connection_type: &'static str) -> Settings {
        Settings {
            connection_type,
            acknowledge: self.acknowledge,
            ext_token: self.ext_token.clone(),
            backoff: self.backoff,
            network_delay: self.network_delay,
        }
    }
}

fn authorization(credentials: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(credentials).map_err(|_| Error::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}
