//! The command as a person types it: its exit status, and the files that it writes.

use std::process::{Command, Output};

use serde_json::Value;

use crate::stub::{self, Fault};

fn halley(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_halley"))
        .arg("bench")
        .args(arguments)
        .output()
        .expect("the binary runs")
}

fn bench(fault: Fault, more: &[&str]) -> Output {
    let addr = stub::start(fault);
    let (url, publish) = (format!("http://{addr}/cometd"), format!("http://{addr}/publish"));
    let mut arguments = vec![
        "fan-out",
        "--url",
        &url,
        "--publish-url",
        &publish,
        "--publishers",
        "1",
    ];
    arguments.extend(
        "--long-polling 1 --sessions 2 --rate 20 --duration 500ms --warm-up 0s --drain 500ms".split(' '),
    );
    arguments.extend(more);
    halley(&arguments)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_ends_with_0_when_every_event_is_accounted_for() {
    let output = bench(Fault::None, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("verdict"), "{output:?}");
}

#[test]
fn it_ends_with_1_and_names_what_was_lost_or_duplicated() {
    for (fault, words) in [
        // Which of the two sessions is opened first is left to the scheduler.
        (Fault::Lose, "event everyone#2 at user bench-0, session session-"),
        (Fault::Duplicate, "2 deliveries duplicated"),
    ] {
        let output = bench(fault, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stdout).contains(words), "{}", text(&output.stdout));
    }
}

#[test]
fn it_ends_with_2_for_what_cannot_be_and_with_69_for_a_server_that_is_not_there() {
    let output = halley(&["unicast", "--url", "ws://127.0.0.1:9/"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("--token-template"), "{output:?}");
    let output = halley(&["fan-out", "--url", "ws://127.0.0.1:9/", "--sessions", "1"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
}

#[test]
fn the_json_and_the_page_say_the_same_and_keep_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let (json, html) = (folder.path().join("r.json"), folder.path().join("r.html"));
    let files = [json.to_str().unwrap(), html.to_str().unwrap()];
    let output = bench(
        Fault::None,
        &[
            "--json",
            files[0],
            "--html",
            files[1],
            "--token-template",
            "secret-{n}",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json = std::fs::read_to_string(json).expect("the JSON is there");
    let page = std::fs::read_to_string(html).expect("the page is there");
    assert!(!json.contains("secret") && !page.contains("secret"));
    let value: Value = serde_json::from_str(&json).expect("it is JSON");
    let (_, data) = page.split_once("id=report>").expect("the page has the data");
    let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).expect("it is JSON, too");
    assert_eq!(data, value);
    assert_eq!(value["repeat"]["settings"]["scenario"], "fan-out");
    let command = value["repeat"]["command"].as_str().expect("the command is there");
    assert!(
        command.starts_with("halley bench fan-out --url http://"),
        "{command}"
    );
}

#[test]
fn the_users_that_it_prints_are_a_configuration() {
    let output = halley(&[
        "contact-centre",
        "--agents",
        "15",
        "--token-template",
        "t{n}",
        "--print-users",
    ]);
    let config = halley::config::Config::parse(&text(&output.stdout), "printed").expect("a configuration");
    assert_eq!(config.auth.users.len(), 22);
    assert_eq!(
        (&*config.auth.users[21].user, &*config.auth.users[21].token),
        ("bench-21", "t21")
    );
}
