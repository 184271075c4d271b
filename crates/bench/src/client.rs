//! One Bayeux session of the generator: bytes in, bytes out, and what was heard. It has no socket and no clock, and keeps as
//! little as a session can: tens of thousands of them share a thread.
//!
//! It behaves as cometd.js does: the first connect, and the first after a break, asks to be answered at once; a session
//! that the server has forgotten shakes hands again.

use thiserror::Error;

use crate::site::Site;
use crate::wire::bayeux::{self, Connect, Reconnect, Reply, Transport};
use crate::wire::{Malformed, excerpt, http, websocket};

/// A session, between its connections too.
#[derive(Debug)]
pub(crate) struct Client {
    /// Who it is: an index into the users of the [`Site`].
    user: u32,
    transport: Transport,
    purpose: Purpose,
    acknowledges: bool,
    stage: Stage,
    /// Lines that its requests have: credentials, and the cookies that it was given.
    headers: Box<str>,
    /// As JSON; empty without a session.
    client_id: Box<str>,
    acknowledged: u64,
    ids: u64,
    /// What the last advice said, in milliseconds.
    interval: u32,
    hold: u32,
    /// Subscribes that were not answered yet.
    unanswered: u16,
    /// The first connect was answered.
    connected: bool,
    /// The beginning of a message that comes in several frames.
    fragments: Vec<u8>,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It subscribes, and always has a connect under way.
    Listen,
    /// It publishes, and connects only now and then, to be kept.
    Publish,
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// A message or a response in which there may be events.
    Events {
        /// All of it.
        message: &'a [u8],
        /// Whose it is, as JSON.
        client_id: &'a str,
    },
    /// The session is subscribed and connected: for the first time, or anew after [`Heard::Forgotten`].
    Joined,
    /// The session goes on after a break.
    Back,
    /// The server does not know the session any more; hands are being shaken again.
    Forgotten,
    /// [`Client::connect`] is due after so many milliseconds.
    ConnectIn(u32),
    /// A connect was answered that is not followed by another at once.
    Kept,
    /// A publish was answered.
    Published {
        /// Its id.
        id: u64,
        /// Why it was refused, if it was.
        refused: Option<String>,
    },
}

/// Why a connection is no use any more.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Another one may do better.
    #[error("{0}")]
    Lost(String),
    /// Another one would be told the same.
    #[error("{0}")]
    Refused(String),
}

impl From<Malformed> for Broken {
    fn from(malformed: Malformed) -> Self {
        Self::Lost(malformed.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No connection.
    Down,
    /// A WebSocket was asked for.
    Upgrading,
    Handshaking,
    /// Subscribing, and connecting for the first time.
    Joining,
    /// Connecting again after a break.
    Returning,
    Live,
}

/// How long a connect is held by a server that does not say.
const HOLD: u32 = 60_000;

impl Client {
    /// A session that does not exist yet.
    pub(crate) fn new(
        site: &Site,
        user: u32,
        transport: Transport,
        purpose: Purpose,
        acknowledges: bool,
    ) -> Self {
        Self {
            user,
            transport,
            purpose,
            acknowledges,
            stage: Stage::Down,
            headers: site.headers(user).into(),
            client_id: Box::default(),
            acknowledged: 0,
            ids: 0,
            interval: 0,
            hold: HOLD,
            unanswered: 0,
            connected: false,
            fragments: Vec::new(),
        }
    }

    /// The clientId, as JSON; empty without a session.
    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    /// How long a held connect may go unanswered, in milliseconds.
    pub(crate) fn hold(&self) -> u32 {
        self.hold
    }

    /// Whether a session is there that can go on, or is going on.
    pub(crate) fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// What it does, for an error text.
    pub(crate) fn doing(&self) -> &'static str {
        match self.stage {
            Stage::Down => "opening a connection",
            Stage::Upgrading => "upgrading to a WebSocket",
            Stage::Handshaking => "shaking hands",
            Stage::Joining => "subscribing and connecting for the first time",
            Stage::Returning => "connecting again after a break",
            Stage::Live => "waiting for events",
        }
    }

    /// A connection is there: says the first words.
    pub(crate) fn handle_connected(&mut self, site: &Site, out: &mut Vec<u8>) {
        match self.transport {
            Transport::WebSocket => {
                websocket::write_upgrade(out, &site.path, &site.host, &self.headers);
                self.stage = Stage::Upgrading;
            }
            Transport::LongPolling => self.introduce(site, out),
        }
    }

    /// The connection is gone.
    pub(crate) fn handle_broken(&mut self) {
        self.stage = Stage::Down;
        self.fragments = Vec::new();
    }

    /// Takes what it can of the bytes that came, and returns how many that were.
    pub(crate) fn handle_bytes(
        &mut self,
        site: &Site,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut hear: impl FnMut(Heard<'_>),
    ) -> Result<usize, Broken> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let speaks_http = self.transport == Transport::LongPolling || self.stage == Stage::Upgrading;
            let taken = if speaks_http {
                self.handle_response(site, rest, out, &mut hear)?
            } else {
                self.handle_frame(site, rest, out, &mut hear)?
            };
            match taken {
                0 => break,
                taken => at += taken,
            }
        }
        Ok(at)
    }

    /// Connects: when [`Heard::ConnectIn`] says so, or to keep the session of a publisher.
    pub(crate) fn connect(&mut self, site: &Site, out: &mut Vec<u8>) {
        let mut message = Vec::with_capacity(160);
        let connect = Connect {
            id: self.next_id(),
            client_id: &self.client_id,
            transport: self.transport,
            at_once: self.stage != Stage::Live || self.purpose == Purpose::Publish,
            acknowledged: self.acknowledges.then_some(self.acknowledged),
        };
        connect.write(&mut message);
        self.say(site, out, &message);
    }

    /// Says goodbye.
    pub(crate) fn disconnect(&mut self, site: &Site, out: &mut Vec<u8>) {
        let mut message = Vec::new();
        let id = self.next_id();
        bayeux::write_disconnect(&mut message, id, &self.client_id);
        self.say(site, out, &message);
    }

    /// Says a message in the way of the transport.
    pub(crate) fn say(&self, site: &Site, out: &mut Vec<u8>, message: &[u8]) {
        match self.transport {
            Transport::WebSocket => websocket::write_text(out, message),
            Transport::LongPolling => http::write_post(out, &site.post_prefix, &self.headers, message),
        }
    }

    /// An id that no message of this session had.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Goes on with its session, or begins one.
    fn introduce(&mut self, site: &Site, out: &mut Vec<u8>) {
        if self.client_id.is_empty() {
            self.shake_hands(site, out);
        } else {
            self.stage = Stage::Returning;
            self.connect(site, out);
        }
    }

    fn shake_hands(&mut self, site: &Site, out: &mut Vec<u8>) {
        self.client_id = Box::default();
        self.acknowledged = 0;
        self.connected = false;
        self.stage = Stage::Handshaking;
        let mut message = Vec::with_capacity(256);
        let ext = site.handshake_ext(self.user);
        let id = self.next_id();
        bayeux::write_handshake(&mut message, id, self.transport, self.acknowledges, &ext);
        self.say(site, out, &message);
    }

    fn handle_response(
        &mut self,
        site: &Site,
        bytes: &[u8],
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<usize, Broken> {
        let Some(response) = http::response(bytes)? else {
            return Ok(0);
        };
        if !response.cookies.is_empty() {
            self.headers = format!("{}Cookie: {}\r\n", site.headers(self.user), response.cookies).into();
        }
        if self.stage == Stage::Upgrading {
            if response.status != 101 || !websocket::accepts(response.accept) {
                return Err(refused("no WebSocket", &response));
            }
            self.introduce(site, out);
        } else if response.status >= 400 {
            return Err(refused("refused", &response));
        } else {
            self.handle_message(site, &response.body, out, hear)?;
        }
        Ok(response.length)
    }

    fn handle_frame(
        &mut self,
        site: &Site,
        bytes: &[u8],
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<usize, Broken> {
        let Some(frame) = websocket::frame(bytes)? else {
            return Ok(0);
        };
        match frame.kind {
            websocket::Kind::Ping => websocket::write_pong(out, frame.payload),
            websocket::Kind::Pong => {}
            websocket::Kind::Close => {
                websocket::write_close(out);
                return Err(Broken::Lost(closed(frame.payload)));
            }
            websocket::Kind::Data if frame.is_last && self.fragments.is_empty() => {
                self.handle_message(site, frame.payload, out, hear)?;
            }
            websocket::Kind::Data => {
                self.fragments.extend_from_slice(frame.payload);
                if frame.is_last {
                    let whole = std::mem::take(&mut self.fragments);
                    self.handle_message(site, &whole, out, hear)?;
                }
            }
        }
        Ok(frame.length)
    }

    fn handle_message(
        &mut self,
        site: &Site,
        body: &[u8],
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), Broken> {
        if self.purpose == Purpose::Listen {
            hear(Heard::Events {
                message: body,
                client_id: &self.client_id,
            });
            // A socket brings events alone, mostly; a response that answers no connect would never be followed by another.
            if self.transport == Transport::WebSocket && !bayeux::has_replies(body) {
                return Ok(());
            }
        }
        for reply in bayeux::replies(body)? {
            self.handle_reply(site, &reply, out, hear)?;
        }
        Ok(())
    }

    fn handle_reply(
        &mut self,
        site: &Site,
        reply: &Reply<'_>,
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), Broken> {
        if let Some(advice) = &reply.advice {
            self.interval = advice.interval().unwrap_or(self.interval);
            self.hold = advice.timeout().unwrap_or(self.hold);
        }
        match &*reply.channel {
            "/meta/handshake" if self.stage == Stage::Handshaking => {
                self.handle_handshake(site, reply, out)?;
            }
            "/meta/subscribe" if self.stage == Stage::Joining => {
                self.handle_subscribe(site, reply, out)?;
                self.join(site, out, hear);
            }
            "/meta/connect" => self.handle_connect(site, reply, out, hear)?,
            channel if channel.starts_with("/meta/") => {}
            _ if self.purpose == Purpose::Publish && reply.successful.is_some() => {
                hear(Heard::Published {
                    id: reply.id().unwrap_or_default(),
                    refused: (!reply.is_successful()).then(|| reply.reason()),
                });
                if reply.advice.and_then(|advice| advice.reconnect) == Some(Reconnect::Handshake) {
                    hear(Heard::Forgotten);
                    self.shake_hands(site, out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_handshake(&mut self, site: &Site, reply: &Reply<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
        let Some(client_id) = reply.client_id.as_ref().filter(|_| reply.is_successful()) else {
            return Err(Broken::Refused(reply.reason()));
        };
        self.client_id = serde_json::Value::from(&**client_id).to_string().into();
        self.stage = Stage::Joining;
        let channels = match self.purpose {
            Purpose::Listen => site.subscriptions(self.user),
            Purpose::Publish => Vec::new(),
        };
        self.unanswered = u16::try_from(channels.len()).unwrap_or(u16::MAX);
        if !channels.is_empty() {
            let mut message = Vec::with_capacity(256);
            bayeux::write_subscribes(&mut message, self.ids + 1, &self.client_id, &channels);
            self.ids += channels.len() as u64;
            self.say(site, out, &message);
        }
        // Over HTTP one request is under way on a connection at a time.
        if channels.is_empty() || self.transport == Transport::WebSocket {
            self.connect(site, out);
        }
        Ok(())
    }

    fn handle_subscribe(&mut self, site: &Site, reply: &Reply<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
        if !reply.is_successful() {
            return Err(Broken::Refused(reply.reason()));
        }
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 && self.transport == Transport::LongPolling {
            self.connect(site, out);
        }
        Ok(())
    }

    fn handle_connect(
        &mut self,
        site: &Site,
        reply: &Reply<'_>,
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), Broken> {
        if !reply.is_successful() {
            return self.handle_refused_connect(site, reply, out, hear);
        }
        if let Some(number) = reply.acknowledge() {
            self.acknowledged = number;
        }
        match self.stage {
            Stage::Joining => {
                self.connected = true;
                self.join(site, out, hear);
            }
            Stage::Returning => {
                self.stage = Stage::Live;
                hear(Heard::Back);
                self.connect_again(site, out, hear);
            }
            Stage::Live => self.connect_again(site, out, hear),
            Stage::Down | Stage::Upgrading | Stage::Handshaking => {}
        }
        Ok(())
    }

    fn handle_refused_connect(
        &mut self,
        site: &Site,
        reply: &Reply<'_>,
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), Broken> {
        match reply.advice.and_then(|advice| advice.reconnect) {
            Some(Reconnect::Handshake) => {
                hear(Heard::Forgotten);
                self.shake_hands(site, out);
                Ok(())
            }
            Some(Reconnect::None) => Err(Broken::Refused(reply.reason())),
            Some(Reconnect::Retry) | None => Err(Broken::Lost(reply.reason())),
        }
    }

    /// Everything that a new session needs was answered.
    fn join(&mut self, site: &Site, out: &mut Vec<u8>, hear: &mut impl FnMut(Heard<'_>)) {
        if self.stage == Stage::Joining && self.unanswered == 0 && self.connected {
            self.stage = Stage::Live;
            hear(Heard::Joined);
            self.connect_again(site, out, hear);
        }
    }

    fn connect_again(&mut self, site: &Site, out: &mut Vec<u8>, hear: &mut impl FnMut(Heard<'_>)) {
        match (self.purpose, self.interval) {
            (Purpose::Publish, _) => hear(Heard::Kept),
            (Purpose::Listen, 0) => self.connect(site, out),
            (Purpose::Listen, interval) => hear(Heard::ConnectIn(interval)),
        }
    }
}

fn refused(what: &str, response: &http::Response<'_>) -> Broken {
    let reason = format!("{what}: HTTP {}: {}", response.status, excerpt(&response.body));
    // What the server says of itself may pass; what it says of us stays.
    if (400..500).contains(&response.status) && !matches!(response.status, 408 | 429) {
        Broken::Refused(reason)
    } else {
        Broken::Lost(reason)
    }
}

fn closed(payload: &[u8]) -> String {
    match payload.split_first_chunk() {
        Some((code, [])) => format!("closed by the server with {}", u16::from_be_bytes(*code)),
        Some((code, reason)) => format!(
            "closed by the server with {} ({})",
            u16::from_be_bytes(*code),
            excerpt(reason)
        ),
        None => "closed by the server".to_owned(),
    }
}

#[cfg(test)]
mod tests;
