//! What ARCHITECTURE.md says about the sources, checked over the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use halley::config::Limits;

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests is a folder of the workspace")
        .to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file below a folder but those of tests, with its path from the workspace.
fn sources(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = format!("{folder}/{}", file_name(&path));
        if name.ends_with("/tests") || name.ends_with("/tests.rs") {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&name));
        } else if name.ends_with(".rs") {
            found.push(name);
        }
    }
    found.sort();
    found
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .expect("an entry has a name")
        .to_string_lossy()
        .into_owned()
}

/// A file without its comments and without its tests, which stand at its foot.
fn code(path: &str) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

const CRATES: [&str; 6] = ["bayeux", "bench", "routing", "halley", "client", "voice"];

#[test]
fn only_main_reads_the_environment() {
    for source in CRATES
        .iter()
        .flat_map(|name| sources(&format!("crates/{name}/src")))
    {
        let code = code(&source);
        let reads = ["std::env", "env::var", "env::args", "env::vars"]
            .iter()
            .any(|word| code.contains(word));
        assert_eq!(reads, source == "crates/halley/src/main.rs", "{source}");
    }
}

/// The modules of the server, each with those that it knows.
fn modules() -> BTreeMap<String, BTreeSet<String>> {
    let mut known_by: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources("crates/halley/src") {
        let inner = source.trim_start_matches("crates/halley/src/");
        let module = inner.split(['/', '.']).next().unwrap_or_default();
        let code = code(&source);
        assert!(
            !code.contains("crate::{"),
            "{source}: one `use` a module, so that this test can read them"
        );
        let known = code.split("crate::").skip(1).map(|rest| {
            rest.split(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric())
                .next()
                .unwrap_or_default()
                .to_owned()
        });
        known_by.entry(module.to_owned()).or_default().extend(known);
    }
    for (module, known) in &mut known_by {
        known.remove(module);
    }
    known_by
}

#[track_caller]
fn expect_known_only_by(module: &str, expected: &[&str]) {
    let modules = modules();
    assert!(modules.contains_key(module), "there is no {module}");
    let knowing: Vec<&str> = modules
        .iter()
        .filter(|(_, known)| known.contains(module))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(knowing, expected, "who knows {module}");
}

#[test]
fn only_app_knows_every_part() {
    expect_known_only_by("dispatch", &["app"]);
    expect_known_only_by("transport", &["app"]);
    expect_known_only_by("api", &["app"]);
    expect_known_only_by("ingest", &["api", "app"]);
    expect_known_only_by("services", &["app", "transport"]);
    expect_known_only_by("cluster", &["app"]);
    expect_known_only_by("presence", &["app"]);
    expect_known_only_by("census", &["api", "app", "cluster"]);
    expect_known_only_by(
        "sessions",
        &[
            "api",
            "app",
            "census",
            "cluster",
            "dispatch",
            "presence",
            "transport",
        ],
    );
    expect_known_only_by("app", &["cli"]);
    expect_known_only_by("cli", &[]);
}

#[test]
fn no_two_modules_of_the_server_know_each_other_however_indirectly() {
    let mut left = modules();
    while !left.is_empty() {
        // Those that know only what was taken away before.
        let free: Vec<String> = left
            .iter()
            .filter(|(_, known)| !known.iter().any(|name| left.contains_key(name)))
            .map(|(name, _)| name.clone())
            .collect();
        assert!(!free.is_empty(), "a circle among {left:?}");
        free.iter().for_each(|name| drop(left.remove(name)));
    }
}

/// Every package of the lock file with those that it depends on, those for its tests too.
fn lock_file() -> BTreeMap<String, BTreeSet<String>> {
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in read("Cargo.lock").split("[[package]]").skip(1) {
        let name = package
            .lines()
            .find_map(|line| line.strip_prefix("name = \""))
            .expect("a package has a name");
        let dependencies = package
            .lines()
            .filter_map(|line| line.strip_prefix(" \""))
            .filter_map(|line| line.split(['"', ' ']).next());
        packages
            .entry(name.trim_end_matches('"').to_owned())
            .or_default()
            .extend(dependencies.map(ToOwned::to_owned));
    }
    packages
}

/// Everything that a package depends on.
fn closure(package: &str) -> BTreeSet<String> {
    let packages = lock_file();
    let mut found = BTreeSet::new();
    let mut left = vec![package.to_owned()];
    while let Some(name) = left.pop() {
        let dependencies = packages
            .get(&name)
            .unwrap_or_else(|| panic!("{name} is not in Cargo.lock"));
        let new = dependencies
            .iter()
            .filter(|dependency| found.insert((*dependency).clone()));
        left.extend(new.cloned());
    }
    found
}

const IO: [&str; 6] = ["tokio", "hyper", "mio", "socket2", "async-io", "smol"];

#[test]
fn the_protocol_and_routing_depend_on_nothing_that_does_io() {
    for package in ["bayeux", "routing"] {
        let closure = closure(package);
        let found: Vec<_> = IO.iter().filter(|name| closure.contains(**name)).collect();
        assert!(found.is_empty(), "{package} depends on {found:?}");
    }
    assert!(
        closure("halley").contains("mio"),
        "otherwise this test could not see it"
    );
}

/// The sections of a Cargo.toml or clippy.toml: each line, trimmed, under its heading.
fn section(text: &str, heading: &str) -> Vec<String> {
    text.lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    for (name, allowed) in [
        ("bayeux", &[][..]),
        ("routing", &["bayeux"]),
        ("bench", &[]),
        ("client", &[]),
        ("voice", &[]),
        ("halley", &["bayeux", "bench", "client", "routing", "voice"]),
    ] {
        let closure = closure(name);
        let known: Vec<&str> = closure
            .iter()
            .map(String::as_str)
            .filter(|known| CRATES.contains(known) || known.starts_with("halley"))
            .collect();
        assert_eq!(known, allowed, "what {name} depends on");
    }
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    let lints = read("Cargo.toml");
    for lint in [
        "unsafe_code = \"forbid\"",
        "unwrap_used = \"deny\"",
        "await_holding_lock = \"deny\"",
        "await_holding_invalid_type = \"deny\"",
        "print_stdout = \"deny\"",
    ] {
        assert!(lints.contains(lint), "Cargo.toml does not say {lint}");
    }
    let crates = CRATES.map(|name| format!("crates/{name}"));
    let others = ["tests", "benches", "fuzz", "xtask"].map(ToOwned::to_owned);
    for member in crates.iter().chain(&others) {
        let manifest = read(format!("{member}/Cargo.toml"));
        assert_eq!(
            section(&manifest, "[lints]").first().map(String::as_str),
            Some("workspace = true"),
            "{member}"
        );
    }
}

#[test]
fn clippy_keeps_the_clock_and_io_out_of_the_protocol_and_routing() {
    let bayeux = read("crates/bayeux/clippy.toml");
    for path in [
        "std::time::Instant::now",
        "std::time::SystemTime::now",
        "std::thread::sleep",
        "std::net::TcpStream",
        "std::fs::File",
    ] {
        assert!(bayeux.contains(&format!("path = \"{path}\"")), "bayeux: {path}");
    }
    let routing = read("crates/routing/clippy.toml");
    for path in ["std::time::Instant::now", "std::time::SystemTime::now"] {
        assert!(routing.contains(&format!("path = \"{path}\"")), "routing: {path}");
    }
}

#[test]
fn clippy_keeps_the_guards_of_maps_out_of_awaits() {
    for file in ["clippy.toml", "crates/routing/clippy.toml"] {
        let clippy = read(file);
        for guard in ["Ref", "RefMut"] {
            let path = format!("path = \"dashmap::mapref::one::{guard}\"");
            assert!(clippy.contains(&path), "{file}: {path}");
        }
    }
}

#[test]
fn dispatch_awaits_nothing_but_the_log() {
    let code = code("crates/halley/src/dispatch.rs");
    // Its own steps, the log, and turns of others, which end by themselves.
    let known = [
        "followed.batches.recv()",
        "yield_now()",
        "dispatch.hand_out(batch, &followed.batches)",
        "dispatch.send()",
        "self.hand_over(&event, next)",
        "self.send()",
    ];
    for line in code.lines().filter(|line| line.contains(".await")) {
        let (awaited, _) = line.split_once(".await").expect("it awaits");
        assert!(
            known.iter().any(|known| awaited.ends_with(known)),
            "dispatch.rs awaits something: {}",
            line.trim()
        );
    }
    for word in ["spawn", "block_on", "sleep", "select!"] {
        assert!(!code.contains(word), "dispatch.rs has {word}");
    }
}

/// Every file or folder beside `mod.rs` is a kind with its line in `ALL`, but for those that the kinds share.
#[track_caller]
fn expect_a_line_for_every_kind(folder: &str, shared: &[&str]) {
    let module = code(&format!("{folder}/mod.rs"));
    let (_, all) = module.split_once("pub const ALL: ").expect("there is an ALL");
    let (all, _) = all.split_once("];").expect("it ends");
    let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
    let mut kinds = 0;
    for entry in entries {
        let file = file_name(&entry.expect("a readable folder").path());
        let name = file.trim_end_matches(".rs");
        if name == "mod" || shared.contains(&name) {
            continue;
        }
        let lines = all.matches(&format!("{name}::")).count();
        assert_eq!(lines, 1, "{folder}: lines of {name} in ALL");
        kinds += 1;
    }
    assert_eq!(
        all.matches("::").count(),
        kinds,
        "{folder}: a line in ALL and its file"
    );
}

#[test]
fn every_transport_is_a_file_and_a_line() {
    expect_a_line_for_every_kind("crates/halley/src/transport", &["exchange", "polling", "unknown"]);
}

#[test]
fn every_extension_is_a_file_and_a_line() {
    expect_a_line_for_every_kind("crates/bayeux/src/extension", &[]);
}

#[test]
fn every_log_is_a_file_and_a_line() {
    expect_a_line_for_every_kind(
        "crates/halley/src/log",
        &["nodes", "patience", "presence", "retention", "tail"],
    );
}

#[test]
fn every_authenticator_is_a_file_and_a_line() {
    expect_a_line_for_every_kind(
        "crates/halley/src/auth",
        &["affinity", "cookie", "credentials", "revocations"],
    );
}

#[test]
fn every_scenario_of_the_load_test_is_a_file_and_a_line() {
    expect_a_line_for_every_kind("crates/bench/src/scenario", &["plan"]);
}

/// The load test is for any server: what it measures with must not be what it measures.
#[test]
fn the_load_test_is_started_by_one_file_of_the_command_line() {
    let knowing: Vec<String> = sources("crates/halley/src")
        .into_iter()
        .filter(|source| {
            let code = code(source);
            code.contains("use bench::") || code.contains(" bench::run(settings")
        })
        .collect();
    assert_eq!(knowing, ["crates/halley/src/cli/bench.rs"]);
}

#[test]
fn every_limit_is_documented() {
    let documented = section(&read("deploy/halley.toml"), "[limits]");
    let limits = serde_json::to_value(Limits::default()).expect("limits are JSON");
    let limits = limits.as_object().expect("limits have names");
    assert!(limits.len() >= 17, "{limits:?}");
    for name in limits.keys() {
        let line = format!("{name} = ");
        assert!(
            documented.iter().any(|documented| documented.starts_with(&line)),
            "deploy/halley.toml says nothing of limits.{name}"
        );
    }
}
