//! What happens outside of the protocol: the lines that begin with `!`.

use std::sync::Arc;
use std::time::Duration;

use bayeux::{
    Access, Activity, CallResult, ChannelName, ChannelPattern, Delivery, Offset, ReplayId, Rights, Rule,
    Rules, StaleReplay, Traits,
};
use serde_json::value::RawValue;

use super::Server;

impl Server {
    /// What a line that begins with `!` says.
    pub(crate) fn happen(&mut self, event: &str) -> Result<(), String> {
        let words: Vec<&str> = event.split_whitespace().collect();
        match words[..] {
            // Events from the backend.
            ["publish", channel, ..] => {
                let channel = channel_name(channel)?;
                let traits = self.settings.rules.traits(&channel, true);
                self.publish(channel.clone(), json_after(event, channel.as_str())?, &traits);
            }
            // In no hurry, whatever the rules say; and to one user, which the rules do not slow down.
            ["publish-lazy", channel, ..] => {
                let traits = Traits {
                    lazy: Some(self.settings.max_lazy_timeout),
                    ..Traits::default()
                };
                self.publish(channel_name(channel)?, json_after(event, channel)?, &traits);
            }
            ["deliver", channel, ..] => {
                let channel = channel_name(channel)?;
                let traits = self.settings.rules.traits(&channel, false);
                self.publish(channel.clone(), json_after(event, channel.as_str())?, &traits);
            }
            // An event that is handed over again, or that the router did not hand over.
            ["again", offset] => {
                let place = number::<usize>(offset)? - 1;
                let event = self.log.get(place).cloned().ok_or("no such event")?;
                self.dispatch(&event);
            }
            ["missed", id, channel, ..] => {
                let data = json_after(event, channel)?;
                let end = self.end().next();
                self.log
                    .push(Arc::new(Delivery::encode(end, channel_name(channel)?, &data)));
                self.sessions
                    .get_mut(id)
                    .ok_or("no such session")?
                    .handle_missed(end);
                self.drain(id);
            }
            ["release", id] => {
                self.sessions
                    .get_mut(id)
                    .ok_or("no such session")?
                    .handle_release();
                self.drain(id);
            }
            // The server ends a session.
            ["disconnect", id] => {
                let (now, end) = (self.now, self.end());
                let session = self.sessions.get_mut(id).ok_or("no such session")?;
                if session.handle_server_disconnect(now, end) {
                    self.drain(id);
                }
                self.write_down();
            }
            // The client has shown what is good for so long, with these roles; or that does not count any more.
            ["credentials", id, time, ref roles @ ..] => {
                let (now, until) = (self.now, self.now + duration(time)?);
                let rights = Rights {
                    named: true,
                    roles: roles.iter().map(|role| (*role).into()).collect(),
                };
                let session = self.sessions.get_mut(id).ok_or("no such session")?;
                if session.handle_credentials(now, Some(until), rights) {
                    self.drain(id);
                }
            }
            ["revoke", id] => {
                let session = self.sessions.get_mut(id).ok_or("no such session")?;
                if session.handle_revocation() {
                    self.drain(id);
                }
            }
            // A service answers the n-th call, or says that it failed, or has nothing to say.
            ["answer", number, ..] => self.answered(number, Some((true, json_after(event, number)?)))?,
            ["fail", number, ..] => self.answered(number, Some((false, json_after(event, number)?)))?,
            ["silence", number] => self.answered(number, None)?,
            ["busy", id, interval] => {
                let interval = duration(interval)?;
                self.sessions
                    .get_mut(id)
                    .ok_or("no such session")?
                    .handle_busy(interval);
            }
            // Too many connects of the same browser are held: the one on this carrier cannot be.
            ["crowded", name, interval] => self.crowd(name, duration(interval)?).ok_or("no such carrier")?,
            // A client that has shaken hands, subscribed and connected: `! client s1 [ack] [ws1] /foo …`
            ["client", id, ref rest @ ..] => return self.greet(id, rest),
            // A carrier is gone; a response did not reach its client; a client closes its socket, or answers the broker's close;
            // a socket answers its oldest ping.
            ["lost", name] => self.lose(name).ok_or("no such carrier")?,
            ["reply-lost", id] => self
                .sessions
                .get_mut(id)
                .ok_or("no such session")?
                .handle_reply_lost(),
            ["closed", name] => self.closed(name).ok_or("no such carrier")?,
            ["close-answered", name] => self.close_answered(name).ok_or("no such carrier")?,
            ["pong", name] => self.pong(name, None).ok_or("no ping to answer")?,
            ["pong", name, offset] => self
                .pong(name, Some(Offset(number(offset)?)))
                .ok_or("no such carrier")?,
            // The broker ends and starts again: in peace, or with what was last written down.
            ["restart"] => {
                self.sessions
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
                    .iter()
                    .for_each(|id| self.put_to_rest(id));
                self.carriers.clear();
            }
            // Another node takes a session up; what is said from here on comes to that one.
            ["moves", id] => self.move_on(id).ok_or("no such session")?,
            // From here on it counts that other nodes share the log, and may have told a client what this one did not.
            ["others"] => self.is_shared = true,
            ["crash"] => {
                self.sessions.clear();
                self.routes.clear();
                self.carriers.clear();
            }
            // The log: retention, a lost tail, another log in its place, a disk that fails, reads that take their time.
            ["retain", first] => self.first = number(first)?,
            ["truncate", last] => self.log.truncate(number(last)?),
            ["other-log"] => {
                self.epoch += 1;
                self.log.clear();
            }
            ["log", "fails"] => self.broken = true,
            ["reads", "wait"] => self.stalled = Some(Vec::new()),
            ["reads", "go", "on"] => {
                for (id, name, after) in self.stalled.take().unwrap_or_default() {
                    self.read(&id, &name, after);
                    self.drain(&id);
                }
            }
            // What is told, and the configuration of the sessions to come.
            ["deny", "handshakes"] => self.denies = true,
            ["show", "checkpoints"] => self.shows_checkpoints = true,
            ["set", key, value] => self.set(key, value)?,
            // Who shakes hands from here on, and what holds for which channels: `! rule /a/** publish=agent,* lazy=5s`
            ["user", ref roles @ ..] => {
                self.rights = Rights {
                    named: true,
                    roles: roles.iter().map(|role| (*role).into()).collect(),
                };
            }
            ["nobody"] => self.rights = Rights::default(),
            ["rule", pattern, ref says @ ..] => self.rule(pattern, says)?,
            _ => return Err(format!("nothing that happens: {event}")),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let settings = &mut self.settings;
        let limits = &mut settings.limits;
        match key {
            "timeout" => settings.timeout = duration(value)?,
            "interval" => settings.interval = duration(value)?,
            "impatient_interval" => settings.impatient_interval = duration(value)?,
            "expiry_warning" => settings.expiry_warning = duration(value)?,
            "server_owned" => return self.rule(value, &["publish="]),
            "handshake_reconnect" => settings.handshake_reconnect = value == "true",
            "atomic_subscriptions" => settings.atomic_subscriptions = value == "true",
            "meta_connect_deliver_only" => settings.meta_connect_deliver_only = value == "true",
            "broadcast_to_publisher" => settings.broadcast_to_publisher = value == "true",
            "timestamps" => settings.timestamps = value == "true",
            "messages_during_handshake" => settings.messages_during_handshake = value == "true",
            "subscribed" => settings
                .subscribed
                .push(ChannelPattern::parse(value).map_err(|e| e.to_string())?),
            "services" => settings
                .services
                .push(ChannelPattern::parse(value).map_err(|e| e.to_string())?),
            "direct_messages" => limits.direct_messages = number(value)?,
            "direct_bytes" => limits.direct_bytes = number(value)?,
            "activity" => {
                settings.activity = match value {
                    "client" => Activity::Client,
                    "client-server" => Activity::ClientServer,
                    _ => return Err(format!("no activity: {value}")),
                }
            }
            "max_inactivity" => settings.max_inactivity = duration(value)?,
            "replay" => settings.replay = value == "true",
            "stale_replay" => {
                settings.stale_replay = match value {
                    "earliest" => StaleReplay::Earliest,
                    "latest" => StaleReplay::Latest,
                    "error" => StaleReplay::Error,
                    _ => return Err(format!("no way with stale replays: {value}")),
                }
            }
            "messages" => limits.messages = number(value)?,
            "subscriptions" => limits.subscriptions = number(value)?,
            "queue_events" => limits.queue_events = number(value)?,
            "queue_bytes" => limits.queue_bytes = number(value)?,
            "answer_bytes" => limits.answer_bytes = number(value)?,
            "page" => self.page = number(value)?,
            _ => return Err(format!("no setting: {key}")),
        }
        Ok(())
    }

    fn rule(&mut self, pattern: &str, says: &[&str]) -> Result<(), String> {
        let mut rule = Rule::of(ChannelPattern::parse(pattern).map_err(|e| e.to_string())?);
        for says in says {
            let (key, value) = says.split_once('=').ok_or("a rule says key=value")?;
            match key {
                "private" => rule.private = Some(value == "true"),
                "publish" => rule.publish = Some(access(value)),
                "subscribe" => rule.subscribe = Some(access(value)),
                "lazy" => rule.lazy = Some(duration(value)?),
                "echo" => rule.echo = Some(value == "true"),
                "largest_message" => rule.largest_message = Some(number(value)?),
                "replay_id" if value == "data" => rule.replay_id = Some(ReplayId::Data),
                "replay_id" => rule.replay_id = Some(ReplayId::Ext),
                _ => return Err(format!("no rule says {key}")),
            }
        }
        self.rules.push(rule);
        self.settings.rules = Arc::new(Rules::new(self.rules.clone()));
        Ok(())
    }

    fn greet(&mut self, id: &str, options: &[&str]) -> Result<(), String> {
        let ack = options.contains(&"ack");
        let socket = options
            .iter()
            .find(|option| option.starts_with("ws"))
            .unwrap_or(&"");
        let (asked, ack) = if ack {
            (r#","ext":{"ack":true}"#, r#","ext":{"ack":0}"#)
        } else {
            ("", "")
        };
        self.receive(socket, &format!(r#"{{"channel":"/meta/handshake"{asked}}}"#));
        for channel in options.iter().filter(|option| option.starts_with('/')) {
            self.receive(
                socket,
                &format!(r#"{{"channel":"/meta/subscribe","clientId":"{id}","subscription":"{channel}"}}"#),
            );
        }
        self.receive(
            socket,
            &format!(r#"{{"channel":"/meta/connect","clientId":"{id}"{ack}}}"#),
        );
        let refused = self
            .take_said()
            .into_iter()
            .find(|said| !said.what.contains(r#""successful":true"#));
        refused.map_or(Ok(()), |said| Err(said.what))
    }

    fn answered(&mut self, place: &str, result: Option<(bool, Box<RawValue>)>) -> Result<(), String> {
        let place = number::<usize>(place)? - 1;
        let asked = self.calls.get(place).ok_or("no such call")?;
        let result = result.map(|(successful, data)| CallResult { successful, data });
        let session = self.sessions.get_mut(&asked.session);
        let session = session.ok_or("no such session")?;
        let handover = match result {
            Some(result) if asked.is_elsewhere => {
                let message = session.direct_of(self.now, &asked.call, &result);
                session.handle_forwarded(message)
            }
            result => session.handle_direct(self.now, &asked.call, result),
        };
        if handover.wakes() {
            let id = asked.session.clone();
            self.drain(&id);
        }
        Ok(())
    }

    fn crowd(&mut self, name: &str, interval: Duration) -> Option<()> {
        let carrier = self.carriers.get(name)?.carrier;
        for id in self.sessions.keys().cloned().collect::<Vec<_>>() {
            let session = self.sessions.get_mut(&id).expect("a session in memory");
            session.handle_crowded(carrier, interval);
            self.drain(&id);
        }
        Some(())
    }

    fn lose(&mut self, name: &str) -> Option<()> {
        let open = self.carriers.remove(name)?;
        for session in self.sessions.values_mut() {
            session.handle_carrier_lost(self.now, open.carrier);
        }
        Some(())
    }

    fn closed(&mut self, name: &str) -> Option<()> {
        let open = self.carriers.remove(name)?;
        let mut roused = Vec::new();
        for (id, session) in &mut self.sessions {
            if session.handle_close(self.now, open.carrier) {
                roused.push(id.clone());
            }
            if session.take_record_change() {
                self.records.insert(id.clone(), (session.snapshot(), self.epoch));
            }
        }
        roused.iter().for_each(|id| self.drain(id));
        Some(())
    }

    fn close_answered(&mut self, name: &str) -> Option<()> {
        let carrier = self.carriers.get(name)?.carrier;
        self.sessions
            .values_mut()
            .for_each(|session| session.handle_close_answered(self.now, carrier));
        Some(())
    }

    /// Answers the oldest ping, or none.
    fn pong(&mut self, name: &str, unasked: Option<Offset>) -> Option<()> {
        let open = self.carriers.get_mut(name)?;
        let offset = unasked.or_else(|| open.pings.pop_front())?;
        let carrier = open.carrier;
        for id in self.sessions.keys().cloned().collect::<Vec<_>>() {
            let session = self.sessions.get_mut(&id).expect("a session in memory");
            session.handle_pong(self.now, carrier, offset);
            self.drain(&id);
        }
        Some(())
    }
}

fn access(roles: &str) -> Access {
    if roles == "*" {
        return Access::Anyone;
    }
    let roles = roles.split(',').filter(|role| !role.is_empty());
    Access::Roles(roles.map(Into::into).collect())
}

/// `30s` or `50ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(milliseconds), _) => number(milliseconds).map(Duration::from_millis),
        (None, Some(seconds)) => number(seconds).map(Duration::from_secs),
        (None, None) => Err(format!("neither seconds nor milliseconds: {text}")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

fn channel_name(text: &str) -> Result<ChannelName, String> {
    ChannelName::parse(text).map_err(|error| error.to_string())
}

/// What follows a word, as the JSON that it is.
fn json_after(line: &str, word: &str) -> Result<Box<RawValue>, String> {
    let (_, json) = line.split_once(&format!(" {word} ")).ok_or("no data")?;
    serde_json::from_str(json).map_err(|error| error.to_string())
}
