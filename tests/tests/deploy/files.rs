//! Each file is read by whoever reads it in earnest, and what one names the others have.

use std::collections::BTreeSet;
use std::process::Command;

use halley::config::Config;
use yaml_rust2::{Yaml, YamlLoader};

use crate::it::{Certificates, NKEY, haproxy, nats, nats_server, nats_set_up, read};

/// Services, with what `<<` brings to them, and the rest of the file.
struct Compose(Yaml);

impl Compose {
    fn read() -> Self {
        let documents = YamlLoader::load_from_str(&read("compose.yaml")).expect("it is YAML");
        assert_eq!(documents.len(), 1);
        Self(documents[0].clone())
    }

    fn services(&self) -> BTreeSet<String> {
        keys(&self.0["services"])
    }

    fn service(&self, name: &str, key: &str) -> Yaml {
        let service = &self.0["services"][name];
        let own = &service[key];
        if own.is_badvalue() {
            service["<<"][key].clone()
        } else {
            own.clone()
        }
    }

    fn named(&self, prefix: &str) -> Vec<String> {
        let services = self.services();
        services
            .into_iter()
            .filter(|name| name.starts_with(prefix))
            .collect()
    }
}

fn keys(table: &Yaml) -> BTreeSet<String> {
    let table = table.as_hash().expect("a table");
    table
        .keys()
        .map(|key| key.as_str().expect("a name").to_owned())
        .collect()
}

fn texts(list: &Yaml) -> Vec<String> {
    let list = list.as_vec().expect("a list");
    list.iter()
        .map(|item| item.as_str().expect("a text").to_owned())
        .collect()
}

/// The words of a file that look like `NAME:PORT` with one of these names.
fn places(text: &str, prefix: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || "-:.".contains(char)));
    words
        .map(|word| word.trim_start_matches("nats:"))
        .filter(|word| word.starts_with(prefix) && word.contains(':'))
        .map(ToOwned::to_owned)
        .collect()
}

fn each(names: &[String], port: u16) -> BTreeSet<String> {
    names.iter().map(|name| format!("{name}:{port}")).collect()
}

#[test]
fn a_node_takes_its_file_and_the_variables_of_compose() {
    let compose = Compose::read();
    for node in compose.named("halley-") {
        let environment = compose.service(&node, "environment");
        let variables = keys(&environment).into_iter().map(|name| {
            let value = environment[name.as_str()].as_str().expect("a text");
            (name, substituted(value))
        });
        let config = self::node(variables);
        let keys = format!("{:?}", config.internal.keys);
        assert!(keys.contains("backend"), "the internal listener is open: {keys}");
    }
}

/// What a node is told by its file and these variables.
fn node(variables: impl IntoIterator<Item = (String, String)>) -> Config {
    let certificates = Certificates::new();
    let file = certificates.folder.path().join("halley.toml");
    std::fs::write(&file, certificates.put_into(&read("halley.toml"))).expect("a file");
    Config::load(Some(&file), variables).unwrap_or_else(|error| panic!("{error}"))
}

/// As compose does with `${NAME:?why}`: here every variable is a digest.
fn substituted(value: &str) -> String {
    match (value.find("${"), value.find('}')) {
        (Some(begin), Some(_)) => {
            let end = begin + value[begin..].find('}').expect("it ends");
            format!("{}{}{}", &value[..begin], "0a".repeat(32), &value[end + 1..])
        }
        (None, _) | (_, None) => value.to_owned(),
    }
}

#[test]
fn nats_server_takes_its_file() {
    let certificates = Certificates::new();
    let configuration = nats_set_up(&nats(), 0, &certificates);
    let file = certificates.folder.path().join("nats.conf");
    std::fs::write(&file, configuration).expect("a file");
    let checked = Command::new(nats_server())
        .arg("-t")
        .arg("-c")
        .arg(&file)
        .output();
    let checked = checked.expect("nats-server starts");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}

#[test]
fn haproxy_takes_its_file_without_a_warning() {
    let text = read("haproxy.cfg").replace(" halley-", " 127.0.0.");
    // "server halley-1 halley-1:8080" has become two words of loopback.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("a file");
    let checked = Command::new(haproxy())
        .args(["-c", "-f"])
        .arg(file.path())
        .output();
    let checked = checked.expect("haproxy starts");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && !said.contains("WARNING"), "{said}");
}

#[test]
fn the_proxy_knows_every_node_and_no_other() {
    let nodes = Compose::read().named("halley-");
    let mut expected = each(&nodes, 8080);
    expected.extend(each(&nodes, 9090));
    assert_eq!(places(&read("haproxy.cfg"), "halley-"), expected);
}

#[test]
fn the_proxy_asks_for_health_where_nodes_answer() {
    let config = node([]);
    assert_eq!(config.public.listen.port(), 8080);
    assert_eq!(config.internal.listen.port(), 9090);
    let proxy = read("haproxy.cfg");
    let clients = proxy.lines().filter(|line| line.contains(":8080 cookie"));
    assert!(clients.clone().count() == 3 && clients.clone().all(|line| line.ends_with("port 9090")));
}

#[test]
fn the_proxy_waits_for_longer_than_a_connect_is_held() {
    let config = node([]);
    let proxy = read("haproxy.cfg");
    for name in ["client", "server", "tunnel", "http-keep-alive"] {
        let setting = format!("timeout {name} ");
        let line = proxy.lines().find_map(|line| line.trim().strip_prefix(&setting));
        let seconds = line.and_then(|line| line.strip_suffix('s')).expect("seconds");
        let seconds: u64 = seconds.parse().expect("a number");
        assert!(
            seconds > config.session.timeout.0.as_secs() + 10,
            "timeout {name} {seconds}s"
        );
    }
}

#[test]
fn nodes_and_servers_know_every_server_and_no_other() {
    let servers = Compose::read().named("nats-");
    assert_eq!(servers.len(), 3);
    assert_eq!(places(&read("halley.toml"), "nats-"), each(&servers, 4222));
    assert_eq!(places(&nats(), "nats-"), each(&servers, 6222));
}

#[test]
fn each_server_has_its_own_name_and_its_own_files() {
    let compose = Compose::read();
    for server in compose.named("nats-") {
        let environment = compose.service(&server, "environment");
        assert_eq!(environment["NATS_NAME"].as_str(), Some(&*server));
        assert!(keys(&environment).contains("HALLEY_NKEY"));
        let volumes = texts(&compose.service(&server, "volumes"));
        assert!(volumes.contains(&format!("{server}:/data")), "{volumes:?}");
        assert!(keys(&compose.0["volumes"]).contains(&server));
    }
}

#[test]
fn what_is_below_run_secrets_is_given_to_whoever_reads_it() {
    let compose = Compose::read();
    for (prefix, file) in [("halley-", read("halley.toml")), ("nats-", nats())] {
        let wanted: BTreeSet<&str> = file
            .split("/run/secrets/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(!wanted.is_empty());
        for service in compose.named(prefix) {
            let given = texts(&compose.service(&service, "secrets"));
            let given: BTreeSet<&str> = given.iter().map(String::as_str).collect();
            assert_eq!(given, wanted, "{service}");
        }
        let known = keys(&compose.0["secrets"]);
        assert!(wanted.iter().all(|secret| known.contains(*secret)));
    }
}

#[test]
fn nobody_but_nodes_and_servers_is_on_the_network_of_the_log() {
    let compose = Compose::read();
    let networks = |service: &str| texts(&compose.service(service, "networks"));
    for service in compose.services() {
        let is_on_it = networks(&service).contains(&"log".to_owned());
        assert_eq!(is_on_it, service != "proxy", "{service}");
    }
    for server in compose.named("nats-") {
        assert_eq!(networks(&server), ["log"], "{server}");
    }
}

#[test]
fn containers_have_the_time_that_a_drain_takes() {
    let config = node([]);
    let compose = Compose::read();
    for node in compose.named("halley-") {
        let grace = compose.service(&node, "stop_grace_period");
        let seconds = grace
            .as_str()
            .and_then(|text| text.strip_suffix('s'))
            .expect("seconds");
        let seconds: u64 = seconds.parse().expect("a number");
        assert!(
            seconds > config.shutdown.drain.0.as_secs() + 10,
            "{node}: {seconds} s"
        );
    }
}

#[test]
fn images_have_a_version_and_no_host() {
    let compose = Compose::read();
    for service in compose.services() {
        let image = compose.service(&service, "image");
        let (name, version) = image
            .as_str()
            .expect("a text")
            .split_once(':')
            .expect("a version");
        assert!(!name.contains(['/', '.']) && version != "latest", "{image:?}");
    }
}

#[test]
fn the_servers_let_nobody_in_without_a_key() {
    let code: String = nats()
        .lines()
        .filter(|line| !line.trim().starts_with('#'))
        .collect();
    for word in [
        "no_auth_user",
        "websocket",
        "leafnodes",
        "mqtt",
        "gateway",
        "\"$JS.API.>\"",
        "\">\"",
    ] {
        assert!(!code.contains(word), "{word}");
    }
    assert_eq!(code.matches("nkey:").count(), 1);
    assert!(NKEY.starts_with('U'));
}
