//! Which stock client, and how it is set up: the same for one in Node and one in a page.

use std::path::PathBuf;
use std::time::Duration;

/// Which npm release of CometD's JavaScript client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 9.0.0, the newest.
    V9,
    /// 8.0.11.
    V8,
    /// 7.0.19.
    V7,
    /// 5.0.23.
    V5,
    /// 4.0.9.
    V4,
    /// 3.1.14, the last of the line that old pages still load.
    V3,
}

/// How the client talks to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `websocket`.
    WebSocket,
    /// `long-polling`.
    LongPolling,
    /// `callback-polling`: scripts, so only in a page.
    CallbackPolling,
}

/// CometD's own extensions of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// Acknowledges what arrived.
    Ack,
    /// Carries bytes.
    Binary,
    /// Keeps the session while a page is loaded again: only in a page.
    Reload,
    /// Learns how far the broker's clock is from the client's.
    TimeSync,
}

/// Where the client shows its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenIn {
    /// As HTTP Basic credentials: a page cannot do that over a WebSocket.
    Header,
    /// As `ext.token` of its handshake.
    Handshake,
    /// As `ext.token` of every message.
    Message,
}

/// One client, before it is started.
#[derive(Debug, Clone)]
pub struct Client {
    /// The npm release; in a page it is always the newest.
    pub version: Version,
    /// The transports that it has; the first that works is taken.
    pub transports: Vec<Transport>,
    /// The address of the Bayeux endpoint.
    pub url: String,
    /// Who it is; the token is `secret-USER`.
    pub user: String,
    /// Where it says so.
    pub token_in: TokenIn,
    /// The extensions that it registers.
    pub extensions: Vec<Extension>,
    /// `maxNetworkDelay`: how much later than promised an answer may come before the client gives a connection up.
    pub network_delay: Duration,
    /// `backoffIncrement`: how long it waits after the first failure.
    pub backoff: Duration,
    /// How long the application works on each event, without doing anything else.
    pub busy: Duration,
    /// How far the clock of its machine is ahead.
    pub clock_ahead: Duration,
    /// The file with the certificate of whom it trusts beside those whom everybody trusts.
    pub trusts: Option<PathBuf>,
}

impl Client {
    /// A client that reconnects quickly, 100 ms after a failure, and is as patient as all are by default.
    pub fn new(version: Version, transport: Transport, url: impl Into<String>, user: &str) -> Client {
        Client {
            version,
            transports: vec![transport],
            url: url.into(),
            user: user.to_owned(),
            token_in: TokenIn::Header,
            extensions: Vec::new(),
            network_delay: Duration::from_secs(10),
            backoff: Duration::from_millis(100),
            busy: Duration::ZERO,
            clock_ahead: Duration::ZERO,
            trusts: None,
        }
    }

    /// The same client with CometD's acknowledge extension.
    pub fn with_ack(self) -> Client {
        self.with(&[Extension::Ack])
    }

    /// The same client with these extensions as well.
    pub fn with(mut self, extensions: &[Extension]) -> Client {
        self.extensions.extend(extensions);
        self
    }

    /// Whether it acknowledges what arrived.
    pub fn acknowledges(&self) -> bool {
        self.extensions.contains(&Extension::Ack)
    }

    /// Who it is and how it connects, for messages to a person.
    pub(crate) fn name(&self) -> String {
        format!(
            "{} over {} ({:?})",
            self.user,
            self.transport_names(),
            self.version
        )
    }

    /// What `driver.mjs` is told, as arguments or as the query of a page.
    pub(crate) fn options(&self) -> Vec<(&'static str, String)> {
        let extensions: Vec<_> = self.extensions.iter().map(|extension| extension.name()).collect();
        vec![
            ("url", self.url.clone()),
            ("transports", self.transport_names()),
            ("user", self.user.clone()),
            ("token", format!("secret-{}", self.user)),
            ("token-in", self.token_in.name().to_owned()),
            ("extensions", extensions.join(",")),
            ("network-delay", self.network_delay.as_millis().to_string()),
            ("backoff", self.backoff.as_millis().to_string()),
            ("busy", self.busy.as_millis().to_string()),
            ("clock-ahead", self.clock_ahead.as_millis().to_string()),
        ]
    }

    fn transport_names(&self) -> String {
        let names: Vec<_> = self.transports.iter().map(|transport| transport.name()).collect();
        names.join(",")
    }
}

impl Version {
    /// The major version.
    pub(crate) fn number(self) -> &'static str {
        match self {
            Version::V9 => "9",
            Version::V8 => "8",
            Version::V7 => "7",
            Version::V5 => "5",
            Version::V4 => "4",
            Version::V3 => "3",
        }
    }
}

impl Transport {
    /// The name in `supportedConnectionTypes`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::LongPolling => "long-polling",
            Transport::CallbackPolling => "callback-polling",
        }
    }
}

impl Extension {
    fn name(self) -> &'static str {
        match self {
            Extension::Ack => "ack",
            Extension::Binary => "binary",
            Extension::Reload => "reload",
            Extension::TimeSync => "timesync",
        }
    }
}

impl TokenIn {
    fn name(self) -> &'static str {
        match self {
            TokenIn::Header => "header",
            TokenIn::Handshake => "handshake",
            TokenIn::Message => "message",
        }
    }
}
