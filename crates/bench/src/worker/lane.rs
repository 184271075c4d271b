//! One publisher: a connection with one request under way. What belongs to one user always takes the same lane, so its order
//! is certain; what is due while a request is under way waits, and its latency counts from when it was due.

use std::collections::VecDeque;

use mio::Token;

use super::common::{Common, Timer};
use super::socket::{Ends, Read, Socket, plainly};
use crate::arrivals::Due;
use crate::body::{EVERYONE, Mark};
use crate::client::{Broken, Client, Heard, Purpose};
use crate::settings::{Publisher, Route};
use crate::site::Site;
use crate::wire::bayeux::Transport;
use crate::wire::{excerpt, http};

/// One publisher.
pub(super) struct Lane {
    number: usize,
    site: Site,
    talk: Talk,
    socket: Option<Socket>,
    /// It can publish.
    is_ready: bool,
    /// A request is under way.
    is_busy: bool,
    waiting: VecDeque<Due>,
    /// What the request under way has, and what of it is not answered yet.
    under_way: Vec<Sent>,
    unanswered: usize,
    /// What must be published again, before anything else.
    again: Vec<Sent>,
    deadline: u64,
    /// When a session that publishes connects again.
    keep_at: u64,
    body: Vec<u8>,
}

/// How a lane speaks.
enum Talk {
    /// POST of events.
    Post,
    /// A session that publishes on channels.
    Bayeux(Box<Client>),
}

/// An event that was published.
#[derive(Debug, Clone, Copy)]
struct Sent {
    mark: Mark,
    /// The id of its Bayeux message.
    id: u64,
}

/// Bytes of a request: servers have limits.
const REQUEST: usize = 200 << 10;

/// Microseconds until another connection is tried, and until a session that publishes connects again to be kept.
const AGAIN: u64 = 500_000;
const KEEP: u64 = 4_000_000;

/// Publishing is stopped when something has waited for longer than this.
pub(super) const BEHIND: u64 = 30_000_000;

impl Lane {
    /// Lane `number`, which speaks for user `user` if publishers say who they are.
    pub(super) fn new(common: &Common, number: usize, user: u32) -> Self {
        let settings = &common.settings;
        let address = settings.publish_address_of(number);
        let site = Site::new(&address, &settings.users, common.plan.channels.clone());
        let talk = match settings.publish.by {
            Publisher::Halley => Talk::Post,
            Publisher::Bayeux => {
                let transport = if address.is_websocket() {
                    Transport::WebSocket
                } else {
                    Transport::LongPolling
                };
                Talk::Bayeux(Box::new(Client::new(
                    &site,
                    user,
                    transport,
                    Purpose::Publish,
                    false,
                )))
            }
        };
        Self {
            number,
            site,
            talk,
            socket: None,
            is_ready: false,
            is_busy: false,
            waiting: VecDeque::new(),
            under_way: Vec::new(),
            unanswered: 0,
            again: Vec::new(),
            deadline: u64::MAX,
            keep_at: 0,
            body: Vec::new(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty() && self.again.is_empty()
    }

    /// How much waits.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the first of what waits was due.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.waiting.front().map(|due| due.at)
    }

    /// Gives up on what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// An event is due.
    pub(super) fn push(&mut self, due: Due) {
        self.waiting.push_back(due);
    }

    /// Opens the connection.
    pub(super) fn open(&mut self, common: &mut Common, token: Token) {
        let ends = Ends {
            from: None,
            to: self.site.socket,
            receive_buffer: None,
        };
        match Socket::open(ends, &common.registry, token) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => self.lose(common, &Broken::Lost(plainly(&error))),
        }
        self.deadline = common.now + patience(common);
    }

    /// Something happened on the connection; `is_closed` when the peer has ended it.
    pub(super) fn handle_event(&mut self, common: &mut Common, is_closed: bool) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        let was_up = socket.is_up();
        match socket.comes_up() {
            Ok(true) => {
                self.come_up(common);
            }
            Ok(false) if !was_up => return,
            Ok(false) => {}
            Err(error) => return self.lose(common, &Broken::Lost(plainly(&error))),
        }
        self.read(common, is_closed);
        self.flush(common);
    }

    /// Another attempt to connect, or time to be kept.
    pub(super) fn handle_timer(&mut self, common: &mut Common, token: Token) {
        match (&self.socket, &self.talk) {
            (None, _) => self.open(common, token),
            (Some(_), Talk::Post) => {}
            // One of an earlier connection.
            (Some(_), Talk::Bayeux(_)) if common.now < self.keep_at => {}
            (Some(_), Talk::Bayeux(_)) if self.is_busy || !self.is_ready => self.keep_later(common),
            (Some(_), Talk::Bayeux(_)) => self.keep(common),
        }
    }

    /// Looks whether the server is late.
    pub(super) fn watch(&mut self, common: &mut Common) {
        if self.deadline <= common.now && self.socket.is_some() && (self.is_busy || !self.is_ready) {
            self.lose(
                common,
                &Broken::Lost("a publisher was not answered in time".to_owned()),
            );
        }
    }

    /// Publishes what waits, if no request is under way.
    pub(super) fn flush(&mut self, common: &mut Common) {
        if !self.is_ready || self.is_busy || (self.again.is_empty() && self.waiting.is_empty()) {
            return;
        }
        self.collect(common);
        self.unanswered = self.under_way.len();
        self.is_busy = true;
        self.deadline = common.now + patience(common);
        self.write_body(common);
        common.out.clear();
        match &self.talk {
            Talk::Post => http::write_post(&mut common.out, &self.site.post_prefix, "", &self.body),
            Talk::Bayeux(client) => client.say(&self.site, &mut common.out, &self.body),
        }
        self.send(common);
    }

    /// Takes what the next request has.
    fn collect(&mut self, common: &mut Common) {
        let now = common.clock();
        let batch = common.settings.publish.batch;
        if !self.again.is_empty() {
            let count = self.again.len().min(batch);
            self.under_way.extend(self.again.drain(..count));
            common.tally.published_again += count as u64;
            return;
        }
        let mut bytes = 0;
        while self.under_way.len() < batch {
            let Some(due) = self.waiting.front() else { break };
            bytes += common.plan.bodies.size(due.body) + 200;
            if bytes > REQUEST && !self.under_way.is_empty() {
                break;
            }
            let mark = Mark {
                run: common.account.run(),
                body: due.body,
                stream: due.stream,
                number: common.account.streams.publish(due.stream),
                due: due.at,
            };
            common.recorder.publish(due.at, now);
            common.board.published.add(1);
            if let Some(closed_loop) = &mut common.closed_loop {
                closed_loop.publish(mark.stream, mark.number);
            }
            self.waiting.pop_front();
            self.under_way.push(Sent { mark, id: 0 });
        }
    }

    /// Writes the messages under way.
    fn write_body(&mut self, common: &Common) {
        self.body.clear();
        let is_array = self.under_way.len() > 1 || matches!(self.talk, Talk::Bayeux(_));
        if is_array {
            self.body.push(b'[');
        }
        for (place, sent) in self.under_way.iter_mut().enumerate() {
            if place > 0 {
                self.body.push(b',');
            }
            write_event(&mut self.body, common, &self.site, &mut self.talk, sent);
        }
        if is_array {
            self.body.push(b']');
        }
    }

    fn come_up(&mut self, common: &mut Common) {
        match &mut self.talk {
            Talk::Post => self.is_ready = true,
            Talk::Bayeux(client) => {
                common.out.clear();
                client.handle_connected(&self.site, &mut common.out);
                self.send(common);
            }
        }
    }

    fn keep(&mut self, common: &mut Common) {
        let Talk::Bayeux(client) = &mut self.talk else {
            return;
        };
        common.out.clear();
        client.connect(&self.site, &mut common.out);
        self.is_busy = true;
        self.deadline = common.now + patience(common);
        self.send(common);
    }

    fn keep_later(&mut self, common: &mut Common) {
        self.keep_at = common.now + KEEP;
        common.timers.set(self.keep_at, self.timer());
    }

    fn timer(&self) -> Timer {
        Timer::Lane(u32::try_from(self.number).expect("there are few publishers"))
    }

    fn send(&mut self, common: &mut Common) {
        if let Some(socket) = &mut self.socket
            && let Err(error) = socket.send(&common.out)
        {
            self.lose(common, &Broken::Lost(plainly(&error)));
        }
    }

    fn read(&mut self, common: &mut Common, is_closed: bool) {
        loop {
            let Some(socket) = &mut self.socket else {
                return;
            };
            if let Err(error) = socket.flush() {
                return self.lose(common, &Broken::Lost(plainly(&error)));
            }
            let (count, more) = match socket.read(&mut common.buffer) {
                Ok(Read::Full(count)) => (count, true),
                Ok(Read::Last(count)) => (count, is_closed),
                Ok(Read::Nothing) => return,
                Ok(Read::End) => return self.lose(common, &Broken::Lost("closed by the server".to_owned())),
                Err(error) => return self.lose(common, &Broken::Lost(plainly(&error))),
            };
            common.now = common.clock();
            common.out.clear();
            let result = self.hear(common, count);
            if !common.out.is_empty() {
                self.send(common);
                if self.socket.is_none() {
                    return;
                }
            }
            if let Err(broken) = result {
                return self.lose(common, &broken);
            }
            if !more {
                return;
            }
        }
    }

    fn hear(&mut self, common: &mut Common, count: usize) -> Result<(), Broken> {
        let Some(mut socket) = self.socket.take() else {
            return Ok(());
        };
        let bytes = std::mem::take(&mut common.buffer);
        let result = socket.take(&bytes[..count], |bytes| self.handle_bytes(common, bytes));
        common.buffer = bytes;
        self.socket = Some(socket);
        result
    }

    fn handle_bytes(&mut self, common: &mut Common, bytes: &[u8]) -> Result<usize, Broken> {
        match &mut self.talk {
            Talk::Post => self.handle_responses(common, bytes),
            Talk::Bayeux(client) => {
                let mut heard = Vec::new();
                let taken = client.handle_bytes(&self.site, bytes, &mut common.out, |what| match what {
                    Heard::Joined | Heard::Back => heard.push(News::Ready),
                    Heard::Kept => heard.push(News::Kept),
                    Heard::Forgotten => heard.push(News::Forgotten),
                    Heard::Published { id, refused } => heard.push(News::Published(id, refused)),
                    Heard::Events { .. } | Heard::ConnectIn(_) => {}
                })?;
                heard.into_iter().for_each(|news| self.handle_news(common, news));
                Ok(taken)
            }
        }
    }

    fn handle_responses(&mut self, common: &mut Common, bytes: &[u8]) -> Result<usize, Broken> {
        let mut at = 0;
        while let Some(response) = http::response(&bytes[at..])? {
            at += response.length;
            let reason = format!(
                "publishing: HTTP {}: {}",
                response.status,
                excerpt(&response.body)
            );
            match response.status {
                200..300 => self.under_way.drain(..).for_each(|_| common.tally.accepted += 1),
                500.. => {
                    common.tally.fail(&reason);
                    self.doubt(common);
                    // At once would be too soon for what ails the server.
                    self.is_ready = false;
                    return Err(Broken::Lost(reason));
                }
                _ => {
                    common.tally.fail(&reason);
                    let refused = std::mem::take(&mut self.under_way);
                    refused.iter().for_each(|sent| refuse(common, sent));
                }
            }
            self.is_busy = false;
        }
        Ok(at)
    }

    fn handle_news(&mut self, common: &mut Common, news: News) {
        match news {
            News::Ready => {
                self.is_ready = true;
                self.is_busy = false;
            }
            News::Kept => {
                // Over HTTP it was under way by itself; over a WebSocket a publish may be, too.
                self.is_busy = !self.under_way.is_empty();
                self.keep_later(common);
            }
            News::Forgotten => {
                common.tally.forgotten += 1;
                self.is_ready = false;
            }
            News::Published(id, refused) => {
                let Some(place) = self.under_way.iter().position(|sent| sent.id == id) else {
                    return;
                };
                let sent = self.under_way.swap_remove(place);
                match refused {
                    None => common.tally.accepted += 1,
                    Some(reason) => {
                        common.tally.fail(&format!("publishing: {reason}"));
                        refuse(common, &sent);
                    }
                }
                self.is_busy = !self.under_way.is_empty();
            }
        }
    }

    fn lose(&mut self, common: &mut Common, broken: &Broken) {
        if let Some(socket) = self.socket.take() {
            socket.reset();
        }
        if let Talk::Bayeux(client) = &mut self.talk {
            client.handle_broken();
        }
        common.tally.fail(&format!("a publisher: {broken}"));
        self.doubt(common);
        self.is_ready = false;
        self.is_busy = false;
        common.timers.set(common.now + AGAIN, self.timer());
    }

    /// Nobody knows whether what is under way was accepted. With ids it is published again, without it is left at that.
    fn doubt(&mut self, common: &mut Common) {
        if common.settings.publish.ids && matches!(self.talk, Talk::Post) {
            let under_way = std::mem::take(&mut self.under_way);
            self.again.splice(0..0, under_way);
            return;
        }
        for sent in self.under_way.drain(..) {
            common.tally.uncertain += 1;
            let Mark { stream, number, .. } = sent.mark;
            common
                .account
                .streams
                .with_mut(stream, |stream| stream.uncertain.push(number));
            give_up(common, &sent);
        }
    }
}

/// What a session that publishes has heard.
enum News {
    Ready,
    Kept,
    Forgotten,
    Published(u64, Option<String>),
}

fn refuse(common: &mut Common, sent: &Sent) {
    common.tally.refused += 1;
    let Mark { stream, number, .. } = sent.mark;
    common
        .account
        .streams
        .with_mut(stream, |stream| stream.refused.push(number));
    give_up(common, sent);
}

fn give_up(common: &mut Common, sent: &Sent) {
    if let Some(closed_loop) = &mut common.closed_loop {
        closed_loop.give_up(sent.mark.stream, sent.mark.number);
    }
}

fn write_event(out: &mut Vec<u8>, common: &Common, site: &Site, talk: &mut Talk, sent: &mut Sent) {
    let mark = &sent.mark;
    let channels = site.channels();
    let channel = match (&channels.everyone, mark.stream) {
        (Some(everyone), EVERYONE) => everyone.clone(),
        (Some(_) | None, user) => channels.own(common.plan.bodies.channel(mark.body), user),
    };
    out.extend_from_slice(b"{\"channel\":\"");
    out.extend_from_slice(channel.as_bytes());
    out.push(b'"');
    match talk {
        Talk::Post => {
            if channels.route == Route::User && mark.stream != EVERYONE {
                let name = serde_json::Value::from(site.users().name(mark.stream)).to_string();
                out.extend_from_slice(b",\"user\":");
                out.extend_from_slice(name.as_bytes());
            }
            if common.settings.publish.ids {
                let id = format!(",\"id\":\"bench-{}-{}-{}\"", mark.run, mark.stream, mark.number);
                out.extend_from_slice(id.as_bytes());
            }
        }
        Talk::Bayeux(client) => {
            sent.id = client.next_id();
            let rest = format!(",\"clientId\":{},\"id\":\"{}\"", client.client_id(), sent.id);
            out.extend_from_slice(rest.as_bytes());
        }
    }
    out.extend_from_slice(b",\"data\":");
    common.plan.bodies.write(out, mark);
    out.push(b'}');
}

fn patience(common: &Common) -> u64 {
    u64::try_from(common.settings.opening.patience.as_micros()).unwrap_or(u64::MAX)
}
