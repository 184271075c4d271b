//! The protocol's behaviour as text: every file in `transcripts/` is played against the sessions of a small server.
//!
//! * `#` a comment; the first line is the sentence that the file shows
//! * `>` a body from a client: `> […]` and `a> […]` are HTTP exchanges, `ws1> […]` is a frame of the WebSocket `ws1`
//! * `<` what is said since then: `a< […]` the whole response, `ws1< […]` one frame, `s1< dormant` what became of a session
//! * `+30s` lets time pass
//! * `!` what happens outside, see `server/outside.rs`
//!
//! Bodies are compared as JSON: the order of keys is free, everything else is exact. What is said and not expected is an
//! error. A carrier is polled after each message, and after an event or a timeout only if the session asked for that.

#[path = "transcripts/server/mod.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::value::RawValue;
use server::{Said, Server};

#[test]
fn every_transcript_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut played = 0;
    let mut failures = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of transcripts") {
        let path = entry.expect("an entry of the folder").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name == "server" {
            continue;
        }
        assert!(
            name.ends_with(".txt"),
            "{name} is not a transcript and would never be played"
        );
        let text = fs::read_to_string(&path).expect("a readable transcript");
        played += 1;
        let result = catch_unwind(AssertUnwindSafe(|| play(&name, &text)));
        failures.extend(
            result
                .unwrap_or_else(|_| Err(format!("{name}: panicked, see above")))
                .err(),
        );
    }
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} of {played} transcripts fail\n\n{}\n",
        failures.len(),
        failures.join("\n\n")
    );
}

/// What the file expects after a step, with the number of the line.
type Expected<'a> = Vec<(usize, &'a str, &'a str)>;

fn play(name: &str, text: &str) -> Result<(), String> {
    if !text.starts_with("# ") {
        return Err(format!(
            "{name}:1: the first line is the sentence that the file shows"
        ));
    }
    let mut server = Server::default();
    let mut expected = Expected::new();
    for (place, line) in text.lines().enumerate() {
        let at = |problem: String| format!("{name}:{}: {problem}", place + 1);
        if let Some((who, what)) = parse_expected(line) {
            expected.push((place + 1, who, what));
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        check(name, server.take_said(), std::mem::take(&mut expected))?;
        server.line = place + 1;
        if let Some(duration) = line.strip_prefix('+') {
            server.pass(server::duration(duration).map_err(at)?);
        } else if let Some(event) = line.strip_prefix("! ") {
            server.happen(event).map_err(at)?;
        } else if let Some((carrier, body)) = line.split_once("> ").filter(|(name, _)| is_name(name)) {
            server.receive(carrier, body);
        } else {
            return Err(at(format!("not a line of a transcript: {line}")));
        }
    }
    check(name, server.take_said(), expected)
}

fn parse_expected(line: &str) -> Option<(&str, &str)> {
    line.split_once("< ").filter(|(name, _)| is_name(name))
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Each carrier has said exactly what is expected of it, in that order.
fn check(file: &str, said: Vec<Said>, expected: Expected<'_>) -> Result<(), String> {
    let mut said: BTreeMap<String, Vec<Said>> = said.into_iter().fold(BTreeMap::new(), |mut by_who, said| {
        by_who.entry(said.who.clone()).or_insert_with(Vec::new).push(said);
        by_who
    });
    for (line, who, what) in expected {
        let of_carrier = said.get_mut(who).filter(|said| !said.is_empty());
        let got = of_carrier.map_or_else(|| "nothing".to_owned(), |said| said.remove(0).what);
        if canonical(&got) != canonical(what) {
            return Err(format!("{file}:{line}:\n  - {who}< {what}\n  + {who}< {got}"));
        }
    }
    match said.into_values().flatten().next() {
        None => Ok(()),
        Some(said) => Err(format!(
            "{file}:{}: not expected\n  + {}< {}",
            said.line, said.who, said.what
        )),
    }
}

/// Keys in order, scalars as they were written; what is not JSON as it is.
fn canonical(text: &str) -> String {
    let all = |texts: Vec<String>| texts.join(",");
    if let Ok(object) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text) {
        let fields = object
            .iter()
            .map(|(key, value)| format!("{key:?}:{}", canonical(value.get())));
        format!("{{{}}}", all(fields.collect()))
    } else if let Ok(array) = serde_json::from_str::<Vec<Box<RawValue>>>(text) {
        format!(
            "[{}]",
            all(array.iter().map(|element| canonical(element.get())).collect())
        )
    } else {
        text.trim().to_owned()
    }
}
