//! Each file is read by whoever reads it in earnest, and what one names the others have.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use halley::config::{Config, bytes};
use halley_tests::{Place, nginx_configuration, nginx_question};
use yaml_rust2::{Yaml, YamlLoader};

use crate::it::{Certificates, NKEY, folder, free_port, haproxy, nats, nats_server, nats_set_up, read};

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

/// What any node is told by its file and its name.
fn a_node() -> Config {
    node([("HALLEY_NATS__NODE".to_owned(), "halley-1".to_owned())])
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

#[tokio::test]
async fn nginx_takes_its_file_without_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let [clients, publishing]: [SocketAddr; 2] = [free(), free()];
    let nodes = Compose::read().named("halley-");
    let places: Vec<Place> = nodes
        .into_iter()
        .map(|name| Place {
            name,
            public: free(),
            internal: free(),
        })
        .collect();
    let text = nginx_configuration(clients, publishing, &places, folder.path());
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, text).expect("a file");
    let checked = nginx_question(&file, folder.path()).output().await;
    let checked = checked.expect("nginx starts");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && !said.contains("[warn]"), "{said}");
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn each_proxy_knows_every_node_and_no_other() {
    let nodes = Compose::read().named("halley-");
    let mut expected = each(&nodes, 8080);
    expected.extend(each(&nodes, 9090));
    for file in ["haproxy.cfg", "nginx.conf"] {
        assert_eq!(places(&read(file), "halley-"), expected, "{file}");
    }
}

#[test]
fn each_proxy_goes_by_the_cookie_that_nodes_set_and_by_their_names() {
    let name = a_node().nats.affinity_cookie;
    assert!(!name.is_empty());
    let (haproxy, nginx) = (read("haproxy.cfg"), read("nginx.conf"));
    assert!(
        haproxy
            .lines()
            .any(|line| line.trim() == format!("cookie {name}"))
    );
    assert!(nginx.contains(&format!("map $cookie_{name} $nodes {{")));
    for node in Compose::read().named("halley-") {
        let server = format!("server {node} {node}:8080 cookie {node} ");
        assert!(haproxy.contains(&server), "{server}");
        let way = format!("    {node} at-{node};\n");
        assert!(nginx.contains(&way), "{way}");
        let (_, upstream) = nginx
            .split_once(&format!("upstream at-{node} {{"))
            .expect("an upstream for each node");
        let first = upstream.lines().find(|line| line.contains("server "));
        let first = first.expect("it has servers").trim();
        assert!(first.starts_with(&format!("server {node}:8080 ")), "{first}");
    }
}

#[test]
fn nginx_waits_for_longer_than_a_connect_is_held_and_takes_what_nodes_take() {
    let config = a_node();
    let proxy = read("nginx.conf");
    let value = |name: &str| {
        let mut lines = proxy.lines().map(str::trim);
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_suffix(';'));
        line.unwrap_or_else(|| panic!("there is no {name}"))
            .trim()
            .to_owned()
    };
    for name in ["proxy_read_timeout", "proxy_send_timeout", "keepalive_timeout"] {
        let seconds = value(name);
        let seconds: u64 = seconds.trim_end_matches('s').parse().expect("seconds");
        assert!(
            seconds > config.session.timeout.0.as_secs() + 10,
            "{name} {seconds}s"
        );
    }
    assert_eq!(value("client_max_body_size"), "1m");
    for limit in [config.limits.request_body, config.limits.publish_body] {
        assert!(bytes(limit) <= 1 << 20, "{limit}");
    }
}

#[test]
fn the_proxy_asks_for_health_where_nodes_answer() {
    let config = a_node();
    assert_eq!(config.public.listen.port(), 8080);
    assert_eq!(config.internal.listen.port(), 9090);
    let proxy = read("haproxy.cfg");
    let clients = proxy.lines().filter(|line| line.contains(":8080 cookie"));
    assert!(clients.clone().count() == 3 && clients.clone().all(|line| line.ends_with("port 9090")));
}

#[test]
fn the_proxy_waits_for_longer_than_a_connect_is_held() {
    let config = a_node();
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
    let config = a_node();
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

/// Where a container reads what is mounted there from this folder.
fn mounted(compose: &Compose, service: &str) -> Vec<(String, String)> {
    texts(&compose.service(service, "volumes"))
        .iter()
        .filter_map(|volume| volume.strip_prefix("./"))
        .map(|volume| {
            let mut parts = volume.split(':');
            let mut part = || parts.next().expect("a part").to_owned();
            let (from, to) = (part(), part());
            assert_eq!(part(), "ro", "{service}: {volume}");
            (from, to)
        })
        .collect()
}

#[test]
fn each_program_reads_the_file_that_is_mounted_for_it() {
    let compose = Compose::read();
    for service in compose.services() {
        let mounted = mounted(&compose, &service);
        let (from, to) = mounted.first().expect("its file");
        assert!(folder().join(from).is_file(), "{service}: {from}");
        let command = compose.service(&service, "command");
        let told = if command.is_badvalue() {
            // Where the image of HAProxy looks for it.
            "/usr/local/etc/haproxy/haproxy.cfg".to_owned()
        } else {
            let command = texts(&command);
            let flag = command.iter().position(|word| word == "--config");
            command[flag.expect("it is told a file") + 1].clone()
        };
        assert_eq!(*to, told, "{service}");
    }
}

#[test]
fn a_port_that_is_published_is_listened_at() {
    let compose = Compose::read();
    let listens = read("haproxy.cfg");
    let ports = texts(&compose.service("proxy", "ports"));
    assert_eq!(ports.len(), 2);
    for port in ports {
        let inside = port.rsplit(':').next().expect("a port");
        assert!(listens.contains(&format!("\n  bind :{inside}\n")), "{port}");
    }
    for service in compose.services().iter().filter(|service| *service != "proxy") {
        assert!(compose.service(service, "ports").is_badvalue(), "{service}");
    }
}

#[test]
fn the_health_check_asks_where_a_server_answers() {
    let compose = Compose::read();
    let listens = nats();
    for server in compose.named("nats-") {
        let test = texts(&compose.service(&server, "healthcheck")["test"]);
        let url = test.last().expect("an address");
        let place = url
            .strip_prefix("http://")
            .and_then(|url| url.strip_suffix("/healthz"));
        let place = place.unwrap_or_else(|| panic!("{url}"));
        assert!(listens.contains(&format!("\nhttp: \"{place}\"\n")), "{url}");
    }
}

#[test]
fn every_variable_of_a_file_is_given_and_no_other() {
    let compose = Compose::read();
    let code = nats();
    let code = code.lines().filter(|line| !line.trim().starts_with('#'));
    let wanted: BTreeSet<String> = code
        .flat_map(|line| line.split_whitespace())
        .filter_map(|word| word.strip_prefix('$'))
        .filter(|word| !word.contains('.'))
        .map(ToOwned::to_owned)
        .collect();
    for server in compose.named("nats-") {
        assert_eq!(keys(&compose.service(&server, "environment")), wanted, "{server}");
    }
}

#[test]
fn services_wait_for_services_and_are_on_networks_that_are_there() {
    let compose = Compose::read();
    let known = keys(&compose.0["networks"]);
    for service in compose.services() {
        let waits = compose.service(&service, "depends_on");
        let waits = if waits.is_badvalue() {
            BTreeSet::new()
        } else if waits.is_array() {
            texts(&waits).into_iter().collect()
        } else {
            keys(&waits)
        };
        assert!(waits.is_subset(&compose.services()), "{service}: {waits:?}");
        let networks: BTreeSet<String> = texts(&compose.service(&service, "networks"))
            .into_iter()
            .collect();
        assert!(networks.is_subset(&known), "{service}: {networks:?}");
    }
}

#[test]
fn the_image_is_built_of_what_is_here_and_listens_where_nodes_do() {
    let root = folder().join("../..");
    let compose = Compose::read();
    let text = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let dockerfile = text("deploy/Dockerfile");
    let manifest: toml::Table = text("Cargo.toml").parse().expect("it is TOML");
    let package = &manifest["workspace"]["package"];
    let [version, compiler] =
        ["version", "rust-version"].map(|key| package[key].as_str().expect("a version"));
    let line = |word: &str| -> Vec<&str> {
        let mut lines = dockerfile.lines();
        let line = lines.find_map(|line| line.strip_prefix(word));
        let line = line.unwrap_or_else(|| panic!("there is no {word}"));
        line.split_whitespace().collect()
    };
    let base = line("FROM rust:")[0];
    assert!(
        base.starts_with(&format!("{compiler}-")),
        "{base}, and {compiler} is needed"
    );
    let config = a_node();
    let ports = [config.public.listen.port(), config.internal.listen.port()].map(|port| port.to_string());
    assert_eq!(line("EXPOSE "), ports);
    // Who reads the seed of the nodes is who runs them.
    let user = line("USER ")[0].split(':').next().expect("a user");
    assert!(read("compose.yaml").contains(&format!("readable for the user {user}")));
    for node in compose.named("halley-") {
        let image = compose.service(&node, "image");
        assert_eq!(image.as_str(), Some(&*format!("halley:{version}")));
        let build = compose.service(&node, "build");
        let context = folder().join(build["context"].as_str().expect("a folder"));
        let file = build["dockerfile"].as_str().expect("a file");
        assert!(context.join(file).is_file() && context.join("Cargo.lock").is_file());
    }
}
