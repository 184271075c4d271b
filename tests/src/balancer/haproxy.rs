//! HAProxy.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::{AFFINITY, Choice, Place, find};

/// What `srv_op_state` of a server is that clients are sent to.
const RUNNING: &str = "2";

pub(super) fn command(file: &Path) -> Command {
    let mut command = find("haproxy");
    command.args(["-db", "-f"]).arg(file);
    command
}

pub(super) fn configuration(address: SocketAddr, places: &[Place], choice: Choice, said_at: &Path) -> String {
    let mut text = format!(
        "global\n  maxconn 4000\n  stats socket {} mode 600 level user\n\
         defaults\n  mode http\n  option redispatch 1\n  retries 3\n\
         \x20 timeout connect 1s\n  timeout client 90s\n  timeout server 90s\n  timeout tunnel 1h\n\
         frontend clients\n  bind {address}\n  default_backend brokers\n\
         backend brokers\n  balance roundrobin\n  option httpchk GET /readyz\n",
        said_at.display()
    );
    text.push_str(&match choice {
        Choice::RoundRobin => String::new(),
        Choice::Cookie => "  cookie OWN insert indirect nocache httponly\n".to_owned(),
        Choice::Affinity => format!("  cookie {AFFINITY}\n"),
    });
    for (number, place) in places.iter().enumerate() {
        let cookie = match choice {
            Choice::Cookie | Choice::Affinity => format!(" cookie {}", place.name),
            Choice::RoundRobin => String::new(),
        };
        writeln!(
            text,
            "  server n{number} {} check addr {} port {} inter 250ms fall 2 rise 1{cookie}",
            place.public,
            place.internal.ip(),
            place.internal.port()
        )
        .expect("a text takes everything");
    }
    text
}

/// Whether it sends clients there, as its stats socket says (HAProxy's management guide, "show servers state").
pub(super) async fn is_up(said_at: &Path, number: usize) -> bool {
    let name = format!("n{number}");
    let asked = async {
        let mut socket = UnixStream::connect(said_at).await?;
        socket.write_all(b"show servers state brokers\n").await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = asked.await.unwrap_or_default();
    answer.lines().any(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        fields.get(3) == Some(&&*name) && fields.get(5) == Some(&RUNNING)
    })
}
