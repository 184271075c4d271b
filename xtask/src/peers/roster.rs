//! Who is compared: a line in [`ALL`] for each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::scenario::Transport;
use super::server::{self, Ports};
use super::{build, built};
use crate::run::Outcome;
use crate::steps::{install, is_there, root, succeed};

/// One server.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Makes that it can be started, or says why it cannot.
    pub(crate) install: fn() -> Result<(), String>,
    /// How it is started, in a folder of its own that is empty.
    pub(crate) start: fn(&Path, &Ports) -> Result<Command, String>,
    /// What the generator has to know to speak with it, if it has such a transport.
    pub(crate) wires: fn(Transport) -> Option<&'static [&'static str]>,
    /// Variables of its environment with which it believes what the header [`USER`] says, if it knows users.
    pub(crate) users: &'static [(&'static str, &'static str)],
    /// It has the acknowledge extension.
    pub(crate) acknowledges: bool,
    /// Seconds until a compiler at run time has seen enough.
    pub(crate) warmup: Option<u32>,
    /// How its version is asked for.
    pub(crate) version: fn() -> Option<String>,
}

/// Where the generator says as whom it subscribes.
pub(crate) const USER: &str = "X-Halley-User";

/// Every peer. Ours is first, and the yardsticks are last.
pub(crate) const ALL: &[Peer] = &[
    Peer {
        name: "halley",
        what: "this project, with its durable log",
        install: || passed(cargo(&["build", "--release", "-p", "halley"])),
        start: |folder, ports| {
            let mut command = server::on_processor(0, root().join("target/release/halley"));
            command
                .args(["serve", "--listen", &format!("127.0.0.1:{}", ports.clients)])
                .args(["--internal", &format!("127.0.0.1:{}", ports.publishers)])
                .arg(format!("--log=file:{}", folder.join("log").display()));
            Ok(command)
        },
        wires: |transport| {
            Some(match transport {
                Transport::WebSocket => &[
                    "--proto=bayeux-ws",
                    "--pub=http-json",
                    "--pub-addr=127.0.0.1:{publishers}",
                    "--pub-path=/api/v1/events",
                ],
                Transport::LongPolling => &[
                    "--proto=bayeux-lp",
                    "--pub=http-json",
                    "--pub-addr=127.0.0.1:{publishers}",
                    "--pub-path=/api/v1/events",
                ],
            })
        },
        users: &[
            ("HALLEY_AUTH__KIND", "proxy-headers"),
            ("HALLEY_PROXY_HEADERS__PEERS", r#"["127.0.0.0/8"]"#),
        ],
        acknowledges: true,
        warmup: None,
        version: || Some(env!("CARGO_PKG_VERSION").to_owned()),
    },
    Peer {
        name: "faye",
        what: "Faye 1.4, Bayeux on Node, memory only",
        install: || npm("faye"),
        start: |_, ports| node("faye", ports),
        wires: |transport| {
            Some(match transport {
                Transport::WebSocket => &["--proto=bayeux-ws", "--pub=http-json"],
                Transport::LongPolling => &["--proto=bayeux-lp", "--pub=http-json"],
            })
        },
        users: &[],
        acknowledges: false,
        warmup: Some(3),
        version: || npm_version("faye", "faye"),
    },
    Peer {
        name: "cometd-nodejs",
        what: "cometd-nodejs-server 1.2, long-polling only, memory only",
        install: || npm("nodejs-cometd"),
        start: |_, ports| node("nodejs-cometd", ports),
        wires: |transport| match transport {
            Transport::WebSocket => None,
            Transport::LongPolling => Some(&["--proto=bayeux-lp", "--pub=http-json"]),
        },
        users: &[],
        acknowledges: false,
        warmup: Some(3),
        version: || npm_version("nodejs-cometd", "cometd-nodejs-server"),
    },
    Peer {
        name: "axum-cometd",
        what: "axum-cometd 0.9, long-polling only, memory only",
        install: || {
            if build("axum-cometd", "a server around the crate axum-cometd") {
                Ok(())
            } else {
                Err("it does not build".to_owned())
            }
        },
        start: |_, ports| {
            let mut command = server::on_processor(0, built("peer-axum-cometd"));
            command.arg(ports.clients.to_string());
            Ok(command)
        },
        wires: |transport| match transport {
            Transport::WebSocket => None,
            Transport::LongPolling => Some(&["--proto=bayeux-lp", "--pub=http-json"]),
        },
        users: &[],
        acknowledges: false,
        warmup: None,
        version: || Some("0.9.4".to_owned()),
    },
    Peer {
        name: "nginx-nchan",
        what: "nginx with nchan, no Bayeux: no sessions, no acknowledgement, memory only",
        install: || debian("/usr/sbin/nginx", &["nginx-light", "libnginx-mod-nchan"]),
        start: |folder, ports| {
            let written = configure(
                "nginx-nchan/nginx.conf",
                folder,
                "nginx.conf",
                &[("8105", ports.clients)],
            )?;
            fs::create_dir_all(folder.join("tmp")).map_err(|error| error.to_string())?;
            let mut command = server::on_processor(0, PathBuf::from("/usr/sbin/nginx"));
            command.arg("-p").arg(folder).arg("-c").arg(written);
            Ok(command)
        },
        wires: |transport| {
            Some(match transport {
                Transport::WebSocket => &["--proto=raw-ws", "--pub=http-raw"],
                Transport::LongPolling => &["--proto=raw-lp", "--pub=http-raw"],
            })
        },
        users: &[],
        acknowledges: false,
        warmup: None,
        version: || debian_version("libnginx-mod-nchan"),
    },
    Peer {
        name: "nats",
        what: "nats-server over WebSocket, no Bayeux, memory only",
        install: || debian("/usr/sbin/nats-server", &["nats-server"]),
        start: |folder, ports| {
            let ports = [("8106", ports.publishers), ("8116", ports.clients)];
            let written = configure("nats/nats.conf", folder, "nats.conf", &ports)?;
            let mut command = server::on_processor(0, PathBuf::from("/usr/sbin/nats-server"));
            command.arg("-c").arg(written);
            Ok(command)
        },
        wires: |transport| match transport {
            Transport::WebSocket => Some(&[
                "--proto=nats-ws",
                "--pub=nats",
                "--pub-addr=127.0.0.1:{publishers}",
            ]),
            Transport::LongPolling => None,
        },
        users: &[],
        acknowledges: false,
        warmup: None,
        version: || debian_version("nats-server"),
    },
    Peer {
        name: "mosquitto",
        what: "mosquitto, MQTT over WebSocket, no Bayeux, memory only",
        install: || debian("/usr/sbin/mosquitto", &["mosquitto"]),
        start: |folder, ports| {
            let ports = [("8107", ports.publishers), ("8117", ports.clients)];
            let written = configure("mosquitto/mosquitto.conf", folder, "mosquitto.conf", &ports)?;
            let mut command = server::on_processor(0, PathBuf::from("/usr/sbin/mosquitto"));
            command.arg("-c").arg(written);
            Ok(command)
        },
        wires: |transport| match transport {
            Transport::WebSocket => Some(&[
                "--proto=mqtt-ws",
                "--pub=mqtt",
                "--pub-addr=127.0.0.1:{publishers}",
            ]),
            Transport::LongPolling => None,
        },
        users: &[],
        acknowledges: false,
        warmup: None,
        version: || debian_version("mosquitto"),
    },
    Peer {
        name: "limit-send",
        what: "the bare system calls: one send for each delivery",
        install: limit,
        start: |_, ports| bare("send", ports),
        wires: raw,
        users: &[],
        acknowledges: false,
        warmup: None,
        version: || None,
    },
    Peer {
        name: "limit-batch",
        what: "the bare system calls: one send for everything that waits",
        install: limit,
        start: |_, ports| bare("batch", ports),
        wires: |transport| match transport {
            Transport::WebSocket => raw(transport),
            Transport::LongPolling => None,
        },
        users: &[],
        acknowledges: false,
        warmup: None,
        version: || None,
    },
];

fn raw(transport: Transport) -> Option<&'static [&'static str]> {
    Some(match transport {
        Transport::WebSocket => &["--proto=raw-ws", "--pub=http-raw"],
        Transport::LongPolling => &["--proto=raw-lp", "--pub=http-raw"],
    })
}

fn limit() -> Result<(), String> {
    if built("fanout-limit").exists() || build("fanout-limit", "the yardstick") {
        Ok(())
    } else {
        Err("it does not build".to_owned())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the type of Peer::start")]
fn bare(mode: &str, ports: &Ports) -> Result<Command, String> {
    let mut command = server::on_processor(0, built("fanout-limit"));
    command.arg(ports.clients.to_string()).arg(mode);
    Ok(command)
}

fn cargo(arguments: &[&str]) -> Outcome {
    succeed(Command::new("cargo").args(arguments).current_dir(root()))
}

fn passed(outcome: Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Passed => Ok(()),
        Outcome::Failed(why) | Outcome::Skipped(why) => Err(why),
    }
}

fn folder(name: &str) -> PathBuf {
    root().join("benches/peers").join(name)
}

fn npm(name: &str) -> Result<(), String> {
    if !is_there("npm") {
        return Err("there is no npm; install Debian's packages nodejs and npm".to_owned());
    }
    if folder(name).join("node_modules").exists() {
        return Ok(());
    }
    passed(succeed(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(folder(name)),
    ))
}

#[expect(clippy::unnecessary_wraps, reason = "the type of Peer::start")]
fn node(name: &str, ports: &Ports) -> Result<Command, String> {
    let mut command = server::on_processor(0, PathBuf::from("node"));
    command
        .arg(folder(name).join("server.js"))
        .arg(ports.clients.to_string());
    Ok(command)
}

fn npm_version(name: &str, package: &str) -> Option<String> {
    let manifest = folder(name)
        .join("node_modules")
        .join(package)
        .join("package.json");
    let manifest: serde_json::Value = serde_json::from_str(&fs::read_to_string(manifest).ok()?).ok()?;
    Some(manifest["version"].as_str()?.to_owned())
}

fn debian(program: &str, packages: &[&str]) -> Result<(), String> {
    if Path::new(program).exists() {
        return Ok(());
    }
    install(packages, &format!("install Debian's {}", packages.join(" and ")))
}

fn debian_version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f=${Version}", package])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes a configuration of `benches/peers` with the ports of this run.
fn configure(from: &str, folder: &Path, name: &str, ports: &[(&str, u16)]) -> Result<PathBuf, String> {
    let template = fs::read_to_string(self::folder(from)).map_err(|error| error.to_string())?;
    let text = ports.iter().fold(template, |text, (known, port)| {
        text.replace(known, &port.to_string())
    });
    let written = folder.join(name);
    fs::write(&written, text).map_err(|error| error.to_string())?;
    Ok(written)
}
