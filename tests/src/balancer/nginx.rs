//! nginx, with the file of deploy/cluster.

use std::net::SocketAddr;
use std::path::Path;

use tokio::process::Command;

use super::{Place, find};

pub(super) fn command(file: &Path, folder: &Path) -> Command {
    let mut command = find("nginx");
    // One process, which ends at once and leaves none behind.
    command.args(["-g", "daemon off; master_process off;", "-p"]);
    command.arg(folder).arg("-c").arg(file);
    command
}

/// Asks whether it takes a file.
pub fn question(file: &Path, folder: &Path) -> Command {
    let mut command = find("nginx");
    command.arg("-t").arg("-p").arg(folder).arg("-c").arg(file);
    command
}

/// The file with these addresses: `publishing` for those who publish.
pub fn configuration(clients: SocketAddr, publishing: SocketAddr, places: &[Place], folder: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/cluster/nginx.conf");
    let text = std::fs::read_to_string(path).expect("the file of deploy/cluster");
    let folder = folder.display();
    let mut text = replaced(&text, "listen 8080;", &format!("listen {clients};"));
    text = replaced(&text, "listen 9090;", &format!("listen {publishing};"));
    // As many as whoever runs the tests may have, in a folder of the test.
    text = replaced(&text, "worker_rlimit_nofile 262144;", "");
    text = replaced(&text, "worker_connections 65536;", "worker_connections 512;");
    text = replaced(
        &text,
        "error_log /dev/stderr warn;",
        &format!("error_log {folder}/error.log warn;\npid {folder}/pid;"),
    );
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = kinds.map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"));
    text = replaced(&text, "http {\n", &format!("http {{\n{}", folders.concat()));
    for (number, place) in (1..).zip(places) {
        text = replaced(&text, &format!("halley-{number}:8080"), &place.public.to_string());
        text = replaced(
            &text,
            &format!("halley-{number}:9090"),
            &place.internal.to_string(),
        );
        text = replaced(
            &text,
            &format!("    halley-{number} at"),
            &format!("    {} at", place.name),
        );
    }
    text
}

/// It must be there: a test that replaces nothing would run something else.
#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "there is no {from:?} in nginx.conf");
    text.replace(from, to)
}
