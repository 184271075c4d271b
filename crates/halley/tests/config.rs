//! What an operator writes, and what Halley makes of it: the file, the variables over it, and the errors.

use std::path::PathBuf;
use std::time::Duration;

use halley::config::{Config, ConfigError, SameSite, User};

/// The documented configuration, as it is shipped.
fn documented() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/halley.toml")
}

/// What a file and variables lead to.
fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("the temporary file takes a text");
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(file.path()), variables)
}

fn set(name: &str, value: &str) -> Config {
    load("", &[(name, value)]).unwrap_or_else(|error| panic!("{name}={value}: {error}"))
}

fn complaint(text: &str, variables: &[(&str, &str)]) -> String {
    match load(text, variables) {
        Ok(config) => panic!("nothing wrong was found: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn expect_all(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

/// `section.key` of every setting of a configuration, and `section.inner.key`.
fn keys(table: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in table {
        if let toml::Value::Table(inner) = value {
            found.extend(keys(inner).into_iter().map(|key| format!("{name}.{key}")));
        } else {
            found.push(name.clone());
        }
    }
    found
}

#[test]
fn the_documented_file_says_what_the_defaults_are() {
    let file = documented();
    let text = std::fs::read_to_string(&file).expect("deploy/halley.toml is there");
    let parsed = Config::parse(&text, "deploy/halley.toml").expect("it parses");
    assert_eq!(parsed, Config::default());
    let loaded = Config::load(Some(&file), []).expect("it passes every check");
    assert_eq!(loaded, Config::default());
}

#[test]
fn every_setting_is_in_the_documented_file() {
    let text = std::fs::read_to_string(documented()).expect("deploy/halley.toml is there");
    let documented = keys(&text.parse().expect("it is TOML"));
    let mut all = keys(&toml::Table::try_from(Config::default()).expect("a configuration is TOML"));
    // A list of blocks has a test of its own: without any, there is nothing to see.
    all.retain(|key| key.contains('.'));
    let missing: Vec<_> = all.iter().filter(|key| !documented.contains(key)).collect();
    assert!(
        missing.is_empty(),
        "deploy/halley.toml says nothing of {missing:?}"
    );
}

#[test]
fn every_setting_in_the_documented_file_has_a_comment_above_it() {
    let text = std::fs::read_to_string(documented()).expect("deploy/halley.toml is there");
    let lines: Vec<&str> = text.lines().collect();
    let bare: Vec<_> = lines
        .windows(2)
        .filter(|pair| !pair[1].is_empty() && !pair[1].starts_with('#') && !pair[0].starts_with('#'))
        .map(|pair| pair[1])
        .collect();
    assert!(bare.is_empty(), "without a comment: {bare:?}");
}

#[test]
fn what_is_not_written_keeps_its_default() {
    let config = load("[session]\ntimeout = \"20s\"\n", &[]).unwrap();
    assert_eq!(config.session.timeout.0, Duration::from_secs(20));
    assert_eq!(
        config.session.max_interval,
        Config::default().session.max_interval
    );
}

#[test]
fn a_variable_wins_over_the_file() {
    let file = "[session]\ntimeout = \"20s\"\nmax_interval = \"15s\"\n";
    let config = load(file, &[("HALLEY_SESSION__TIMEOUT", "25s")]).unwrap();
    assert_eq!(config.session.timeout.0, Duration::from_secs(25));
    assert_eq!(config.session.max_interval.0, Duration::from_secs(15));
}

#[test]
fn a_variable_can_be_a_text_a_number_a_list_a_size_or_a_table() {
    assert_eq!(
        set("HALLEY_SESSION__TIMEOUT", "20s").session.timeout.0,
        Duration::from_secs(20)
    );
    assert_eq!(set("HALLEY_LIMITS__MESSAGES", "7").limits.messages, 7);
    assert_eq!(
        set("HALLEY_LIMITS__REQUEST_BODY", "1000")
            .limits
            .request_body
            .as_u64(),
        1000
    );
    assert_eq!(
        set("HALLEY_LIMITS__REQUEST_BODY", "2 KiB")
            .limits
            .request_body
            .as_u64(),
        2048
    );
    assert_eq!(
        set("HALLEY_PUBLIC__PATHS", r#"["/a", "/b"]"#).public.paths,
        ["/a", "/b"]
    );
    assert_eq!(
        set("HALLEY_PUBLIC__LISTEN", "127.0.0.1:1").public.listen.port(),
        1
    );
    assert!(
        set("HALLEY_SESSION__TRUST_CLIENT_SESSION", "true")
            .session
            .trust_client_session
    );
    assert_eq!(set("HALLEY_LOG__URL", "memory:").log.url, "memory:");
    let users = set("HALLEY_AUTH__USERS", r#"[{user = "15000", token = "secret"}]"#)
        .auth
        .users;
    assert_eq!(
        users,
        [User {
            user: "15000".to_owned(),
            token: "secret".to_owned(),
            roles: Vec::new(),
        }]
    );
}

#[test]
fn the_types_of_cloudevents_have_dots_in_the_file_and_in_a_variable() {
    let file = load("[cloudevents.channels]\n\"a.b\" = \"/a\"\n", &[]).unwrap();
    let variable = set("HALLEY_CLOUDEVENTS__CHANNELS", r#"{ "a.b" = "/a" }"#);
    for config in [file, variable] {
        assert_eq!(config.cloudevents.channels["a.b"], "/a");
    }
}

#[test]
fn a_secret_can_come_from_a_file() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "hush\n").expect("it takes a text");
    let path = file.path().display();
    let text = format!("[[auth.users]]\nuser = \"15000\"\ntoken = {{ file = \"{path}\" }}\n");
    let config = load(&text, &[]).expect("it is read");
    assert_eq!(config.auth.users[0].token, "hush");
    let text = format!(
        "[[jwt.issuers]]\nissuer = \"a\"\naudience = [\"b\"]\nkeys = [{{ algorithm = \"HS256\", secret = {{ file = \"{path}\" }} }}]"
    );
    assert_eq!(
        load(&text, &[]).expect("it is read").jwt.issuers[0].keys[0].secret,
        "hush"
    );
    let missing = "[[auth.users]]\nuser = \"15000\"\ntoken = { file = \"/nowhere/token\" }\n";
    expect_all(&complaint(missing, &[]), &["/nowhere/token"]);
}

#[test]
fn any_variable_can_be_the_path_of_a_file_that_holds_its_value() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "memory:\n").expect("it takes a text");
    let path = file.path().display().to_string();
    assert_eq!(set("HALLEY_LOG__URL_FILE", &path).log.url, "memory:");
    let complaint = complaint("", &[("HALLEY_LOG__URL_FILE", "/nowhere/url")]);
    expect_all(&complaint, &["HALLEY_LOG__URL_FILE", "/nowhere/url"]);
}

/// A configuration with every kind of secret, each of them `hush` and a number.
const SECRETS: &str = r#"
[[auth.users]]
user = "15000"
token = "hush-1"
[[jwt.issuers]]
issuer = "us"
audience = ["halley"]
keys = [{ algorithm = "HS256", secret = "hush-2" }, { algorithm = "RS256", pem = "hush-3" }]
[[services]]
channel = "/service/**"
url = "http://127.0.0.1:1/"
secret = "hush-4"
[[internal.keys]]
name = "voice"
hash = "hush-5"
[[internal.issuers]]
issuer = "us"
audience = ["halley-api"]
keys = [{ algorithm = "HS256", secret = "hush-6" }]
"#;

#[test]
fn no_secret_is_printed_with_the_configuration() {
    let config = load(SECRETS, &[]).expect("it is read");
    let printed = toml::to_string(&config).expect("it is TOML");
    for text in [printed, format!("{config:?}"), format!("{config:#?}")] {
        assert!(!text.contains("hush"), "{text}");
    }
    // The control: what is no secret is there.
    assert!(format!("{config:?}").contains("15000"));
}

#[test]
fn no_secret_is_repeated_when_something_beside_it_is_wrong() {
    for line in SECRETS.lines().filter(|line| line.contains("hush")) {
        for wrong in [
            line.replace("= \"hush", "= hush"),
            line.replace("\"hush-", "[\"hush-").replace("\" }", "\"] }"),
            format!("{line} x"),
        ] {
            let text = SECRETS.replace(line, &wrong);
            let complaint = complaint(&text, &[]);
            assert!(!complaint.contains("hush"), "{complaint}");
        }
    }
}

#[test]
fn variables_that_are_no_settings_are_left_alone() {
    // A Kubernetes service named "halley" makes up the second and the third.
    for name in [
        "HALLEY_CONFIG",
        "HALLEY_PORT",
        "HALLEY_SERVICE_HOST",
        "PATH",
        "OTHER_SESSION__TIMEOUT",
    ] {
        assert_eq!(set(name, "tcp://10.0.0.1:80"), Config::default(), "{name}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, words) in [
        (
            "HALLEY_SESION__TIMEOUT",
            "20s",
            ["unknown field `sesion`", "`session`"],
        ),
        (
            "HALLEY_SESSION__TIMEUOT",
            "20s",
            ["unknown field `timeuot`", "`timeout`"],
        ),
        (
            "HALLEY_SESSION__TIMEOUT",
            "soon",
            ["\"soon\" is no length of time", "session.timeout"],
        ),
        (
            "HALLEY_LIMITS__MESSAGES",
            "many",
            ["expected usize", "limits.messages"],
        ),
        (
            "HALLEY_SESSION__SUBSCRIBED",
            r#"["/a/*/b"]"#,
            ["/a/*/b", "only allowed as the last segment"],
        ),
    ] {
        let variables = [("HALLEY_LIMITS__HEADERS", "50"), (name, value)];
        let complaint = complaint("", &variables);
        assert!(complaint.starts_with(&format!("{name}: ")), "{complaint}");
        expect_all(&complaint, &words);
    }
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_line() {
    let complaint = complaint("[session]\ninterval = \"0s\"\ntimeuot = \"20s\"\n", &[]);
    expect_all(&complaint, &["unknown field `timeuot`", "line 3", "`timeout`"]);
    assert!(complaint.starts_with('/'), "it begins with the file: {complaint}");
    expect_all(&self::complaint("[sesion]\n", &[]), &["`sesion`", "line 1"]);
    expect_all(
        &self::complaint("[auth]\nusers = [{user = \"a\", tokn = \"b\"}]\n", &[]),
        &["`tokn`", "line 2"],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = Config::load(Some("/nowhere/halley.toml".as_ref()), []);
    let Err(error) = missing else {
        panic!("there is no such file")
    };
    expect_all(&error.to_string(), &["/nowhere/halley.toml", "No such file"]);
}

#[test]
fn what_is_no_length_of_time_is_refused() {
    for (text, words) in [
        (r#""30""#, "no length of time"),
        (r#""30 parsecs""#, "no length of time"),
        (r#""""#, "no length of time"),
        ("30", "expected a string"),
        (r#""-1s""#, "negative"),
        (r#""900000000h""#, "longer than a hundred years"),
    ] {
        let complaint = complaint(&format!("[session]\ntimeout = {text}\n"), &[]);
        expect_all(&complaint, &[words, "line 2", "timeout"]);
    }
}

#[test]
fn settings_that_cannot_work_are_refused_with_their_name() {
    for (text, name) in [
        ("[public]\npaths = [\"cometd\"]", "public.paths"),
        ("[public]\ntransports = []", "public.transports"),
        (
            "[public]\ntransports = [\"websocket\", \"websocket\"]",
            "public.transports: a transport is listed twice",
        ),
        ("[session]\ntimeout = \"90s\"", "session.timeout"),
        (
            "[session]\nimpatient_interval = \"61s\"",
            "session.impatient_interval",
        ),
        (
            "[session]\nduplicate_connect_status = 200",
            "session.duplicate_connect_status",
        ),
        (
            "[session]\nmax_sessions_per_browser = -2",
            "session.max_sessions_per_browser",
        ),
        (
            "[session]\nhttp2_max_sessions_per_browser = -2",
            "session.http2_max_sessions_per_browser",
        ),
        ("[websocket]\nping_interval = \"0s\"", "websocket.ping_interval"),
        ("[session]\nmax_inactivity = \"0s\"", "session.max_inactivity"),
        ("[session]\nactivity = \"server\"", "activity"),
        ("[websocket]\nprotocol = \"a, b\"", "websocket.protocol"),
        (
            "[callback_polling]\nparameter = \"message\"",
            "callback_polling.parameter",
        ),
        (
            "[callback_polling]\nparameter = \"\"",
            "callback_polling.parameter",
        ),
        (
            "[callback_polling]\nparameter = \"a=b\"",
            "callback_polling.parameter",
        ),
        (
            "[callback_polling]\ncallback_max_length = 0",
            "callback_polling.callback_max_length",
        ),
        (
            "[unknown_sessions]\nfirst_delay = \"6s\"",
            "unknown_sessions.first_delay",
        ),
        (
            "[unknown_sessions]\nlongest_delay = \"45s\"",
            "unknown_sessions.longest_delay",
        ),
        (
            "[unknown_sessions]\nrefuse_after = 0",
            "unknown_sessions: refuse_after",
        ),
        (
            "[unknown_sessions]\naddress_rate = 0",
            "unknown_sessions: refuse_after",
        ),
        (
            "[unknown_sessions]\nremembered = 1",
            "unknown_sessions: refuse_after",
        ),
        (
            "[http2]\nmax_concurrent_streams = 0",
            "http2.max_concurrent_streams",
        ),
        ("[http2]\nframe = \"1 KiB\"", "http2.frame"),
        ("[http2]\nframe = \"16 MiB\"", "http2.frame"),
        ("[http2]\nstream_window = \"2 GiB\"", "http2.stream_window"),
        (
            "[http2]\nconnection_window = \"1 KiB\"",
            "http2.connection_window",
        ),
        ("[http2]\nping_interval = \"0s\"", "http2.ping_interval"),
        ("[cloudevents]\nuser = \"User\"", "cloudevents.user"),
        (
            "[cloudevents]\nuser = \"\"",
            "cloudevents.user: with require_user",
        ),
        ("[cloudevents]\nchannel = \"time\"", "cloudevents.channel"),
        ("[cloudevents]\ntenant = \"data_base64\"", "cloudevents.tenant"),
        (
            "[cloudevents.channels]\n\"a.b\" = \"/a/*\"",
            "cloudevents.channels: \"/a/*\" of \"a.b\"",
        ),
        (
            "[cloudevents.channels]\n\"a.b\" = \"/service/a\"",
            "cloudevents.channels",
        ),
        ("[shutdown]\ndrain = \"2h\"", "shutdown.drain: at most 1h"),
        ("[limits]\nqueue_events = 0", "limits: queue_events"),
        ("[limits]\nconnections = 0", "limits.connections"),
        (
            "[limits]\nconnections = 4000000000000000000",
            "limits.connections",
        ),
    ] {
        expect_all(&complaint(text, &[]), &[name]);
    }
}

const SERVICE: &str = "[[services]]\nchannel = \"/service/**\"\nurl = \"http://127.0.0.1:8000/\"\n";

#[test]
fn the_documented_service_has_every_setting_with_its_default() {
    let text = std::fs::read_to_string(documented()).expect("deploy/halley.toml is there");
    let example: String = text
        .lines()
        .skip_while(|line| line.trim() != "#     [[services]]")
        .map_while(|line| line.strip_prefix("#     "))
        .map(|line| format!("{line}\n"))
        .collect();
    let documented = toml::Table::try_from(load(&example, &[]).expect("the example works")).expect("TOML");
    let keys = |table: &toml::Table| -> Vec<String> {
        let service = table["services"][0].as_table().expect("a service");
        service.keys().cloned().collect()
    };
    assert_eq!(
        keys(&example.parse().expect("TOML")).len(),
        keys(&documented).len(),
        "{example}"
    );
    let written = &load(&example, &[]).unwrap().services[0];
    let default = &load(SERVICE, &[]).unwrap().services[0];
    assert_eq!(written.url, default.url);
    assert_eq!(
        (written.timeout, written.concurrency, written.queue),
        (default.timeout, default.concurrency, default.queue)
    );
}

#[test]
fn a_service_that_cannot_work_is_refused_with_its_channel() {
    let replaced = |old: &str, new: &str| {
        assert!(SERVICE.contains(old));
        complaint(&SERVICE.replace(old, new), &[])
    };
    for (old, new, words) in [
        ("http://", "https://", "over http only"),
        ("http://127", "ftp://127", "does not begin with http://"),
        ("http://127.0.0.1:8000/", "/ask", "does not begin with http://"),
        ("http://127.0.0.1:8000/", "http://a b/", "invalid uri character"),
        (
            "http://127",
            "http://user:pass@127",
            "credentials do not belong in it",
        ),
        ("/service/**", "/services/**", "begins with /service/"),
        ("url", "concurrency = 0\nurl", "concurrency: from 1"),
        ("url", "queue = 1000001\nurl", "queue: up to 1,000,000"),
        ("url", "timeout = \"0s\"\nurl", "timeout: longer than nothing"),
    ] {
        let complaint = replaced(old, new);
        expect_all(&complaint, &["services: /service", words]);
        assert!(!complaint.contains("pass"), "{complaint}");
    }
    let twice = format!("{SERVICE}{SERVICE}");
    expect_all(
        &complaint(&twice, &[]),
        &["services: /service/**", "another service"],
    );
    expect_all(
        &replaced("/service/**", "/service/*/a"),
        &["only allowed as the last segment"],
    );
}

#[test]
fn a_variable_for_a_list_of_blocks_is_an_error_that_names_it() {
    let complaint = complaint(SERVICE, &[("HALLEY_SERVICES__URL", "http://127.0.0.1:9000/")]);
    expect_all(&complaint, &["HALLEY_SERVICES__URL: ", "expected a sequence"]);
}

#[test]
fn a_session_has_room_for_one_answer_of_a_service() {
    let small = "[limits]\nservice_answer = \"256 KiB\"\n";
    expect_all(
        &complaint(small, &[]),
        &["limits.direct_bytes", "limits.service_answer"],
    );
    expect_all(
        &complaint("[limits]\ndirect_messages = 0\n", &[]),
        &["limits.direct_messages"],
    );
}

#[test]
fn a_signing_secret_is_never_printed() {
    let text = format!("{SERVICE}secret = \"hush\"\n");
    let config = load(&text, &[]).unwrap();
    assert_eq!(config.services[0].secret, "hush");
    let toml = toml::to_string(&config).expect("a configuration is TOML");
    let printed = format!("{config:?}{config:#?}{toml}");
    assert!(
        printed.contains("/service/**") && !printed.contains("hush"),
        "{printed}"
    );
    for line in [
        "secret = \"hush",
        "secret = hush",
        "secret = [\"hush\"]",
        "secrets = \"hush\"",
    ] {
        let complaint = complaint(&format!("{SERVICE}{line}\n"), &[]);
        assert!(!complaint.contains("hush"), "{complaint}");
        expect_all(&complaint, &["line 4"]);
    }
}

#[test]
fn a_cookie_that_browsers_would_refuse_or_misread_is_refused_with_the_reason() {
    for (text, key, reason) in [
        ("name = \"\"", "name", "letters, digits"),
        ("name = \"a b\"", "name", "letters, digits"),
        ("name = \"a=b\"", "name", "letters, digits"),
        ("domain = \"a.example; Path=/x\"", "domain", "host name"),
        ("domain = \"https://a.example\"", "domain", "host name"),
        ("domain = \".a.example\"", "domain", "host name"),
        ("domain = \"a.example:8080\"", "domain", "host name"),
        ("path = \"cometd\"", "path", "slash"),
        ("path = \"/a; Secure\"", "path", "semicolon"),
        ("path = \"/a\\r\\nX: y\"", "path", "no space"),
        ("max_age = \"1500ms\"", "max_age", "whole seconds"),
        ("same_site = \"none\"", "same_site", "set browser_cookie.secure"),
        ("partitioned = true", "partitioned", "set browser_cookie.secure"),
        ("name = \"__secure-B\"", "name", "__Secure-"),
        ("name = \"__Host-B\"", "name", "__Host-"),
        (
            "secure = true\nname = \"__Host-B\"\ndomain = \"a.example\"",
            "name",
            "__Host-",
        ),
        (
            "secure = true\nname = \"__Host-B\"\npath = \"/cometd\"",
            "name",
            "__Host-",
        ),
    ] {
        let complaint = complaint(&format!("[browser_cookie]\n{text}\n"), &[]);
        expect_all(&complaint, &[&format!("browser_cookie.{key}: "), reason]);
    }
}

#[test]
fn an_affinity_cookie_that_could_not_tell_nodes_or_cookies_apart_is_refused() {
    for (text, key, reason) in [
        (
            "[nats]\naffinity_cookie = \"NODE\"\n",
            "node",
            "no other node has",
        ),
        (
            "[nats]\naffinity_cookie = \"a b\"\nnode = \"halley-1\"\n",
            "affinity_cookie",
            "header's name",
        ),
        (
            "[nats]\naffinity_cookie = \"__Host-NODE\"\nnode = \"halley-1\"\n",
            "affinity_cookie",
            "__Host-",
        ),
        (
            "[nats]\naffinity_cookie = \"BAYEUX_BROWSER\"\nnode = \"halley-1\"\n",
            "affinity_cookie",
            "another cookie",
        ),
        (
            "[auth]\ncookie = \"TOKEN\"\n[nats]\naffinity_cookie = \"TOKEN\"\nnode = \"halley-1\"\n",
            "affinity_cookie",
            "another cookie",
        ),
    ] {
        let complaint = complaint(text, &[]);
        expect_all(&complaint, &[&format!("nats.{key}: "), reason]);
    }
}

#[test]
fn origins_and_headers_that_could_never_match_are_refused() {
    for (text, words) in [
        ("allowed_origins = [\"*\"]", "\"*\" is no origin"),
        ("allowed_origins = [\"https://*.example.com\"]", "is no origin"),
        ("allowed_origins = [\"https://example.com/\"]", "is no origin"),
        ("allowed_origins = [\"example.com\"]", "is no origin"),
        ("allowed_origins = [\"null\"]", "is no origin"),
        (
            "allowed_headers = [\"x-a, x-b\"]",
            "cors.allowed_headers: names of headers",
        ),
        (
            "exposed_headers = [\"x-a\\r\\n\"]",
            "cors.exposed_headers: names of headers",
        ),
    ] {
        let complaint = complaint(&format!("[cors]\n{text}\n"), &[]);
        expect_all(&complaint, &[words]);
    }
    let listed = set("HALLEY_CORS__ALLOWED_ORIGINS", r#"["https://Example.com:443"]"#);
    assert_eq!(listed.cors.allowed_origins[0].to_string(), "https://example.com");
}

#[test]
fn a_cookie_for_pages_of_other_sites_can_be_configured() {
    let text =
        "[browser_cookie]\nname = \"__Host-B\"\nsecure = true\nsame_site = \"none\"\npartitioned = true\n";
    let cookie = load(text, &[]).unwrap().browser_cookie;
    assert_eq!(cookie.same_site, SameSite::None);
    assert!(cookie.secure && cookie.partitioned);
}

const WITH_A_TOKEN: &str = "[auth]\nkind = \"static\"\n[[auth.users]]\nuser = \"15000\"\ntoken = \"hush\"\n";

#[test]
fn a_token_is_never_printed() {
    let config = load(WITH_A_TOKEN, &[]).unwrap();
    assert_eq!(config.auth.users[0].token, "hush");
    let printed = format!(
        "{config:?}{config:#?}{}",
        toml::to_string(&config).expect("a configuration is TOML")
    );
    assert!(
        printed.contains("15000") && !printed.contains("hush"),
        "{printed}"
    );
}

#[test]
fn a_token_is_not_in_the_error_about_its_line() {
    for line in [
        "token = \"hush",
        "token = hush",
        "token = 0xhush",
        "token = \"hush\" \"",
        "token = [\"hush\"]",
        "tokens = \"hush\"",
    ] {
        let text = WITH_A_TOKEN.replace("token = \"hush\"", line);
        let complaint = complaint(&text, &[]);
        assert!(!complaint.contains("hush"), "{complaint}");
        expect_all(&complaint, &["line 5"]);
    }
    let number = WITH_A_TOKEN.replace("\"hush\"", "4711");
    assert!(!complaint(&number, &[]).contains("4711"));
    let variable = ("HALLEY_AUTH__USERS", "[{user = \"15000\", token = 4711}]");
    let complaint = complaint("", &[variable]);
    assert!(!complaint.contains("4711"), "{complaint}");
    expect_all(&complaint, &["HALLEY_AUTH__USERS", "a token is a text"]);
}

#[test]
fn a_rule_of_a_channel_says_what_it_names_and_leaves_the_rest() {
    let file = r#"
        [[channels.rules]]
        pattern = "/v2/users"
        private = true
        subscribe = ["supervisor"]
        lazy = "2s"
        echo = false
        largest_message = "8 KiB"
        replay_id = "data.event.replayId"
        retention = "1h"
    "#;
    let rules = load(file, &[]).unwrap().protocol().rules;
    let channel = bayeux::ChannelName::parse("/v2/users").unwrap();
    assert_eq!(rules.largest_message(&channel), Some(8192));
    assert_eq!(rules.retention(&channel), Some(Duration::from_secs(3600)));
    assert_eq!(rules.echo(&channel), Some(false));
    assert_eq!(rules.may_publish(&named(&[]), &channel), Ok(()));
    assert!(rules.may_subscribe(&named(&["agent"]), &channel).is_err());
    assert_eq!(rules.may_subscribe(&named(&["supervisor"]), &channel), Ok(()));
}

fn named(roles: &[&str]) -> bayeux::Rights {
    bayeux::Rights {
        named: true,
        roles: roles.iter().map(|role| (*role).into()).collect(),
    }
}

#[test]
fn a_star_among_the_roles_is_everyone() {
    let file = "[[channels.rules]]\npattern = \"/v2/**\"\npublish = [\"*\"]\n";
    let rules = load(file, &[]).unwrap().protocol().rules;
    let channel = bayeux::ChannelName::parse("/v2/me").unwrap();
    assert_eq!(rules.may_publish(&bayeux::Rights::default(), &channel), Ok(()));
}

#[test]
fn a_rule_with_an_unknown_word_is_refused_with_its_line() {
    let file = "[[channels.rules]]\npattern = \"/a\"\nlasy = \"2s\"\n";
    let error = load(file, &[]).unwrap_err().to_string();
    assert!(error.contains("lasy") && error.contains("line 3"), "{error}");
}

#[test]
fn a_rule_cannot_keep_events_longer_than_the_log() {
    let file = "[[channels.rules]]\npattern = \"/a\"\nretention = \"25h\"\n";
    let error = load(file, &[]).unwrap_err().to_string();
    assert!(error.contains("/a") && error.contains("log.retention"), "{error}");
}

#[test]
fn a_rate_without_a_burst_is_refused() {
    expect_all(
        &complaint("[limits]\nhandshake_burst = 0\n", &[]),
        &[
            "limits.handshake_burst",
            "at least 1",
            "handshakes_per_address = 0",
        ],
    );
    assert!(load("[limits]\nhandshake_burst = 0\nhandshakes_per_address = 0\n", &[]).is_ok());
}

#[test]
fn a_rate_of_publishes_that_takes_no_whole_publish_is_refused() {
    let rate = "[limits]\npublishes_per_publisher = 10\n";
    expect_all(
        &complaint(&format!("{rate}publish_burst = 511\n"), &[]),
        &["limits.publish_burst", "limits.publish_events"],
    );
    assert!(load(&format!("{rate}publish_burst = 512\n"), &[]).is_ok());
}

#[test]
fn a_network_that_is_none_is_refused_with_an_example() {
    for key in ["exempt_networks", "trusted_proxies"] {
        expect_all(
            &complaint(&format!("[limits]\n{key} = [\"10.0.0.0/33\"]\n"), &[]),
            &[key, "10.0.0.0/33", "10.0.0.0/8"],
        );
    }
}

#[test]
fn a_variable_reaches_a_section_in_a_section() {
    let variables = [
        ("HALLEY_PUBLIC__TLS__CERTIFICATE", "/etc/halley/tls.crt"),
        ("HALLEY_PUBLIC__TLS__KEY", "/etc/halley/tls.key"),
        ("HALLEY_PUBLIC__TLS__HANDSHAKES", "7"),
    ];
    let tls = load("", &variables).unwrap().public.tls;
    assert!(tls.is_on());
    assert_eq!(tls.key, "/etc/halley/tls.key");
    assert_eq!(tls.handshakes, 7);
    let complaint = complaint("", &[("HALLEY_INTERNAL__TLS__HANDSHAKES", "many")]);
    expect_all(&complaint, &["HALLEY_INTERNAL__TLS__HANDSHAKES", "handshakes"]);
}

#[test]
fn what_cannot_be_of_tls_is_refused_with_its_place_and_what_to_do() {
    let pair = "certificate = \"c\"\nkey = \"k\"\n";
    for (text, words) in [
        ("certificate = \"c\"".to_owned(), ["tls.key", "come together"]),
        ("key = \"k\"".to_owned(), ["tls.key", "come together"]),
        (
            "client_certificates = \"required\"\nclient_ca = \"a\"".to_owned(),
            ["tls.client_certificates", "set certificate and key"],
        ),
        (
            format!("{pair}client_certificates = \"optional\""),
            ["tls.client_ca", "comes together"],
        ),
        (
            format!("{pair}client_ca = \"a\""),
            ["tls.client_ca", "comes together"],
        ),
        (
            format!("{pair}client_certificates = \"maybe\""),
            ["client_certificates", "optional"],
        ),
        (format!("{pair}min_version = \"1.1\""), ["min_version", "1.2"]),
        (
            format!("{pair}handshake_timeout = \"0s\""),
            ["tls.handshake_timeout", "longer"],
        ),
        (format!("{pair}handshakes = 0"), ["tls.handshakes", "from 1"]),
        (
            format!("{pair}reload_interval = \"0s\""),
            ["tls.reload_interval", "longer"],
        ),
    ] {
        for section in ["public", "internal"] {
            expect_all(&complaint(&format!("[{section}.tls]\n{text}\n"), &[]), &words);
        }
    }
}

#[test]
fn over_tls_a_cookie_is_secure_without_being_told() {
    let cookie = "[browser_cookie]\nsame_site = \"none\"\n";
    expect_all(&complaint(cookie, &[]), &["browser_cookie.same_site", "secure"]);
    let tls = "[public.tls]\ncertificate = \"c\"\nkey = \"k\"\n";
    load(&format!("{cookie}{tls}"), &[]).unwrap();
}

#[test]
fn presence_is_told_where_no_client_could_say_it() {
    let config = set("HALLEY_PRESENCE__CHANNEL", "/workspace/presence");
    assert!(config.presence.channel().is_some());
    for (channel, word) in [
        ("/presence", "publish = []"),
        ("/workspace/*", "published to"),
        ("/service/presence", "published to"),
        ("presence", "channel"),
    ] {
        let said = complaint("", &[("HALLEY_PRESENCE__CHANNEL", channel)]);
        expect_all(&said, &["presence.channel", word]);
    }
    let said = complaint(
        "",
        &[
            ("HALLEY_PRESENCE__CHANNEL", "/workspace/presence"),
            ("HALLEY_PRESENCE__DELAY", "2h"),
        ],
    );
    expect_all(&said, &["presence.delay", "1h"]);
}
