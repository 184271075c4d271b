//! What is published: one request after the other, as many as the window allows or as are due.
use crate::{
    cfg::{Cfg, Proto, Pub},
    net,
    sub::{flat, State, Sub},
    wire, Gen, SECOND,
};
use std::io::Write;

/// Tokens from here on are publishers'.
pub const PUBLISHER: u64 = 1 << 40;

/// A publishing connection. Requests are pipelined; the window bounds them.
pub struct Publisher {
    sub: Sub, // socket, buffers, and the whole protocol where it is Bayeux over websocket
    cfg: Cfg, // its own view: proto and path are the publisher's
    token: u64,
    ready: bool,
    answered: u64,
    pub refused: u64,
}

impl Gen {
    pub fn start_publisher(&mut self) {
        let mut cfg = self.c.clone();
        cfg.addr = cfg.pub_addr;
        cfg.path = cfg.pub_path.clone();
        cfg.proto = Proto::BayeuxWs;
        let conns = match self.c.publ {
            Pub::HttpJson | Pub::HttpRaw => self.c.pub_conns as u64,
            _ => 1, // one carries as much as many
        };
        for i in 0..conns {
            let fd = net::connect_to(cfg.addr, 0).unwrap_or_else(|e| panic!("publisher: {e}"));
            self.ep.add(fd, PUBLISHER + i, true);
            self.p.push(Publisher {
                sub: Sub::new(fd, u32::MAX, true, net::now()),
                cfg: cfg.clone(),
                token: PUBLISHER + i,
                ready: false,
                answered: 0,
                refused: 0,
            });
        }
        let end = net::now() + 10 * SECOND;
        while !self.p.iter().all(|p| p.ready) {
            self.step(10_000_000);
            assert!(net::now() < end, "the publisher did not get ready: {:?}", self.errors);
        }
    }

    pub fn on_publisher(&mut self, i: usize) {
        let mut p = std::mem::take(&mut self.p);
        let r = self.publisher_io(&mut p[i]);
        self.p = p;
        if let Err(e) = r {
            eprintln!("publisher: {e}");
            std::process::exit(1);
        }
    }

    fn publisher_io(&mut self, p: &mut Publisher) -> Result<(), String> {
        if p.sub.state == State::Connecting {
            match self.c.publ {
                Pub::BayeuxWs => p.sub.connected(&p.cfg, ""),
                Pub::Mqtt => {
                    wire::mqtt_connect(&mut p.sub.tx, &format!("lg{}-pub", self.t.run));
                    p.sub.state = State::Handshaking;
                }
                Pub::Nats => p.sub.state = State::Handshaking,
                _ => {
                    p.sub.state = State::Ready;
                    p.ready = true;
                }
            }
        } else {
            loop {
                let n = match net::read(p.sub.fd, &mut self.buf) {
                    Ok(Some(0)) => return Err("closed by the server".into()),
                    Ok(Some(n)) => n,
                    Ok(None) => break,
                    Err(e) => return Err(e.to_string()),
                };
                p.sub.rx.extend_from_slice(&self.buf[..n]);
                let rx = std::mem::take(&mut p.sub.rx);
                let used = self.publisher_bytes(p, &rx)?;
                p.sub.rx = rx[used..].to_vec();
                if n < self.buf.len() {
                    break;
                }
            }
        }
        Self::flush(&self.ep, &mut p.sub, p.token).map_err(|e| e.to_string())
    }

    fn publisher_bytes(&mut self, p: &mut Publisher, b: &[u8]) -> Result<usize, String> {
        let mut at = 0;
        match self.c.publ {
            Pub::BayeuxWs => {
                at = p.sub.bytes(&p.cfg, &mut self.t, b, 0)?;
                p.ready = p.sub.state == State::Ready;
                (p.answered, p.refused) = (p.sub.acks + p.sub.refusals, p.sub.refusals);
            }
            Pub::HttpJson | Pub::HttpRaw => {
                while let Some(r) = wire::http_response(&b[at..])? {
                    at += r.len;
                    p.answered += 1;
                    p.refused += (r.status >= 300) as u64;
                }
            }
            Pub::Nats => {
                while let Some(eol) = memchr::memmem::find(&b[at..], b"\r\n") {
                    let line = &b[at..at + eol];
                    at += eol + 2;
                    if line.starts_with(b"INFO ") {
                        p.sub.tx.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"lg\",\"version\":\"1\"}\r\nPING\r\n");
                    } else if line == b"PING" {
                        p.sub.tx.extend_from_slice(b"PONG\r\n");
                    } else if line == b"PONG" {
                        p.ready = true;
                    } else if line.starts_with(b"-ERR") {
                        return Err(String::from_utf8_lossy(line).into());
                    }
                }
            }
            Pub::Mqtt => {
                while let Some((kind, _, len)) = wire::mqtt_packet(&b[at..]) {
                    at += len;
                    p.ready |= kind == 0x20;
                }
            }
            Pub::None => at = b.len(),
        }
        Ok(at)
    }

    /// One request with `n` events (one channel each: the only one, or random ones). A channel has one connection, or what is
    /// published later might be there first.
    fn publish(&mut self, n: usize, ts: u64) {
        if self.p.is_empty() {
            return;
        }
        let conns = self.p.len() as u64;
        self.turn = (self.turn + 1) % self.p.len();
        let mine = self.turn as u64;
        let p = &mut self.p[self.turn];
        let t = &mut self.t;
        let rng = &mut self.rng;
        let chans = t.next.len() as u64 / conns;
        let mut pick = || {
            *rng ^= *rng << 13;
            *rng ^= *rng >> 7;
            *rng ^= *rng << 17;
            (*rng % chans * conns + mine) as u32
        };
        let b = &mut self.scratch;
        b.clear();
        let out = &mut p.sub.tx;
        match self.c.publ {
            Pub::HttpJson => {
                b.push(b'[');
                for i in 0..n {
                    let ch = pick();
                    write!(b, "{}{{\"channel\":\"{}\",", if i > 0 { "," } else { "" }, t.channel_name(ch)).unwrap();
                    if p.cfg.users.is_some() {
                        write!(b, "\"user\":\"{ch}\",").unwrap();
                    }
                    b.extend_from_slice(b"\"data\":");
                    t.publish(b, ch, ts);
                    b.push(b'}');
                }
                b.push(b']');
                let (ip, port) = p.cfg.addr;
                write!(out, "POST {} HTTP/1.1\r\nHost: {ip}:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", p.cfg.path, b.len()).unwrap();
                out.extend_from_slice(b);
            }
            Pub::BayeuxWs => {
                b.push(b'[');
                for i in 0..n {
                    let (ch, id) = (pick(), p.sub.id());
                    write!(b, "{}{{\"channel\":\"{}\",\"clientId\":\"{}\",\"id\":\"{id}\",\"data\":", if i > 0 { "," } else { "" }, t.channel_name(ch), p.sub.client_id).unwrap();
                    t.publish(b, ch, ts);
                    b.push(b'}');
                }
                b.push(b']');
                wire::ws_send(&mut p.sub.tx, 1, b);
            }
            kind => {
                for _ in 0..n {
                    let ch = pick();
                    let name = flat(&t.channel_name(ch));
                    b.clear();
                    t.publish(b, ch, ts);
                    let (ip, port) = p.cfg.addr;
                    match kind {
                        Pub::HttpRaw => {
                            let path = p.cfg.path.replace("{chan}", &name);
                            write!(out, "POST {path} HTTP/1.1\r\nHost: {ip}:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", b.len()).unwrap();
                            out.extend_from_slice(b);
                        }
                        Pub::Nats => {
                            write!(out, "PUB {name} {}\r\n", b.len()).unwrap();
                            out.extend_from_slice(b);
                            out.extend_from_slice(b"\r\n");
                        }
                        _ => {
                            let topic = name.replace('.', "/");
                            wire::mqtt_send(out, 0x30, &[&(topic.len() as u16).to_be_bytes(), topic.as_bytes(), b]);
                        }
                    }
                }
            }
        }
        if let Err(e) = Self::flush(&self.ep, &mut p.sub, p.token) {
            eprintln!("publisher: {e}");
            std::process::exit(1);
        }
    }

    /// Publishes what is due; the nanoseconds until more may be.
    pub fn publish_due(&mut self, limit: u64) -> u64 {
        if !self.publishing || self.t.published >= self.c.max_messages {
            return limit;
        }
        let batch = self.c.batch.max(1) as u64;
        if self.c.rate > 0.0 {
            let period = (1e9 * batch as f64 / self.c.rate) as u64;
            let now = net::now();
            while self.next_due <= now {
                if self.t.inflight as f64 > 10.0 * self.c.rate + 1000.0 {
                    self.overrun += batch; // ten seconds behind: do not pile up more
                } else {
                    self.publish(batch as usize, self.next_due);
                }
                self.next_due += period;
            }
            return limit.min(self.next_due - now);
        }
        while self.t.inflight + batch <= self.c.window.max(batch) && self.t.published < self.c.max_messages {
            self.publish(batch as usize, net::now());
        }
        limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixStream;

    /// The body of one request with two events, as it goes over a connection.
    fn published(options: &[&str]) -> serde_json::Value {
        let given = ["--scenario=unicast", "--subs=1", "--channel=/c"];
        let c = Cfg::of(given.iter().chain(options).map(|o| o.to_string())).unwrap();
        let mut gen = Gen::new(c.clone());
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let fd = ours.into_raw_fd();
        gen.ep.add(fd, PUBLISHER, true);
        let sub = Sub::new(fd, u32::MAX, true, 0);
        gen.p.push(Publisher { sub, cfg: c, token: PUBLISHER, ready: true, answered: 0, refused: 0 });
        gen.publish(2, 5);
        net::abort(fd);
        let mut request = String::new();
        theirs.read_to_string(&mut request).unwrap();
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn events_for_users_name_them_and_share_a_channel() {
        let events = published(&["--users=X-User"]);
        for event in events.as_array().unwrap() {
            assert_eq!((event["user"].as_str(), event["channel"].as_str()), (Some("0"), Some("/c")));
        }
    }

    #[test]
    fn events_for_everyone_name_nobody_and_have_a_channel_each() {
        let events = published(&[]);
        for event in events.as_array().unwrap() {
            assert_eq!((event["user"].as_str(), event["channel"].as_str()), (None, Some("/c/0")));
        }
    }
}
