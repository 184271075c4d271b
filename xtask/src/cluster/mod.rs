//! `cargo xtask cluster-figures`: what an event and a delivery cost on nodes that share a log, beside one node with a log of its own.
//!
//! `halley bench` publishes to all nodes in turn, has sessions at all of them, and accounts for every event; it reads the CPU of
//! the nodes and, apart, that of the nats-servers. Everything shares the processors of this machine.

mod load;
mod place;
mod table;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::peers::page;
use crate::run::Outcome;
use crate::say;
use crate::steps::{install, is_there, root, succeed};

use load::Load;
use place::Place;

/// What is measured.
pub(crate) struct Figures {
    /// Every setup, if there is none.
    pub(crate) setups: Vec<String>,
    /// Shows the results of earlier runs too.
    pub(crate) keep: bool,
    /// Short, to see that it runs; no document is written.
    pub(crate) quick: bool,
}

/// Nodes, and where their log is.
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) nodes: usize,
    /// Each has everything; none for a folder.
    pub(crate) servers: usize,
}

/// Every setup, as the document has them.
pub(crate) const ALL: &[Setup] = &[
    Setup {
        name: "file",
        what: "one node, `file:`",
        nodes: 1,
        servers: 0,
    },
    Setup {
        name: "nats-1",
        what: "one node, one nats-server",
        nodes: 1,
        servers: 1,
    },
    Setup {
        name: "nats-2",
        what: "two nodes, one nats-server",
        nodes: 2,
        servers: 1,
    },
    Setup {
        name: "nats-3",
        what: "three nodes, one nats-server",
        nodes: 3,
        servers: 1,
    },
    Setup {
        name: "copies-1",
        what: "one node, three nats-servers, three copies",
        nodes: 1,
        servers: 3,
    },
    Setup {
        name: "copies-3",
        what: "three nodes, three nats-servers, three copies",
        nodes: 3,
        servers: 3,
    },
];

const DOCUMENT: &str = "docs/cluster.md";
const MARK: &str = "cargo xtask cluster-figures";

/// The names of all setups.
pub(crate) fn names() -> Vec<&'static str> {
    ALL.iter().map(|setup| setup.name).collect()
}

/// Measures, and writes the table into the document. True if every event was accounted for.
pub(crate) fn measure(figures: &Figures) -> bool {
    let folder = root().join("target/cluster");
    let results = folder.join(if figures.quick {
        "quick.jsonl"
    } else {
        "results.jsonl"
    });
    if let Err(error) = prepare(&folder, &results, figures.keep) {
        say::line(format_args!("cannot write to {}: {error}", folder.display()));
        return false;
    }
    if let Err(why) = ready() {
        say::line(why);
        return false;
    }
    let wanted =
        |setup: &&Setup| figures.setups.is_empty() || figures.setups.iter().any(|name| name == setup.name);
    let mut complete = true;
    for setup in ALL.iter().filter(wanted) {
        for load in load::ALL {
            say::heading(format_args!("{}: {}", setup.what, load.what));
            match one(setup, load, figures.quick, &folder) {
                Ok(line) => append(&results, &line),
                Err(why) => {
                    complete = false;
                    say::line(format_args!("no figure: {why}"));
                }
            }
        }
    }
    let text = table::of(&table::read(&results));
    say::heading(&text);
    (figures.quick || page::write(DOCUMENT, MARK, &text)) && complete
}

fn prepare(folder: &Path, results: &Path, keep: bool) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    if !keep && results.exists() {
        fs::remove_file(results)?;
    }
    Ok(())
}

fn ready() -> Result<(), String> {
    let built = succeed(
        Command::new("cargo")
            .args(["build", "--release", "-p", "halley"])
            .current_dir(root()),
    );
    if built != Outcome::Passed {
        return Err("halley does not build".to_owned());
    }
    if is_there(place::NATS_SERVER) {
        return Ok(());
    }
    install(
        &["nats-server"],
        "there is no nats-server; install it, of version 2.9 or newer",
    )
}

/// One setup under one load: at the rate at which costs are compared, then faster and faster.
fn one(setup: &Setup, load: &Load, quick: bool, folder: &Path) -> Result<Value, String> {
    let place = Place::start(setup, folder)?;
    let seconds = if quick { 1 } else { 10 };
    let mut line = load.run(&place, load.rate, seconds)?.figures()?;
    line["setup"] = setup.name.into();
    line["load"] = load.name.into();
    if !quick {
        line["highest"] = load.highest(&place)?.into();
    }
    Ok(line)
}

fn append(results: &Path, line: &Value) {
    say::line(line);
    let file = OpenOptions::new().create(true).append(true).open(results);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
        say::line(format_args!("a result is lost: {error}"));
    }
}
