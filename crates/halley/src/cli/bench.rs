//! `halley bench`: parses arguments; the work is done by the crate of that name.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, io};

use bench::settings::{Address, ComeBack, Cut, Publisher, Route, Sources, Users};
use bench::{BenchError, Manner, Report, Settings, SettingsError, scenario};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, ValueEnum};

use super::exit;
use super::serve::complain;

/// Test any Bayeux server (Halley, CometD, Faye) under load, and account for every event.
///
/// Sessions are opened, events are published, and each delivery is checked: lost, duplicated, out of order, foreign (somebody
/// else's) or corrupt events end the run with 1 and are named. The loop is open: events are due at their rate whatever the
/// server does, and latency counts from the moment at which an event was due, so a server that stalls does not look better for
/// it. One thread of this generator can load about one core of a server; keep it on other processors than the server (taskset).
#[derive(Debug, ClapArgs)]
#[command(after_long_help = EXAMPLES, after_help = "Use --help for examples against Halley, CometD and Faye.")]
pub(super) struct Args {
    /// What to test
    #[arg(value_parser = scenarios())]
    scenario: &'static scenario::Kind,

    /// Where clients go; ws:// or http://, both transports use it. May be given more than once, for nodes of one cluster: sessions
    /// go to each in turn
    #[arg(
        long,
        value_name = "URL",
        default_value = "ws://127.0.0.1:8080/cometd",
        help_heading = "Server"
    )]
    url: Vec<Address>,
    /// A process of the server on this machine, whose CPU and memory are reported (with those that it has started); may be
    /// given more than once
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pid: Vec<u32>,
    /// A process that the server works with, such as its database, whose CPU is reported apart; may be given more than once
    #[arg(long, value_name = "PID", help_heading = "Server")]
    beside: Vec<u32>,
    /// How long the server may take for each answer [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = span, help_heading = "Server")]
    patience: Option<Duration>,

    /// Sessions [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Sessions")]
    sessions: Option<u32>,
    /// Agents of a contact centre; their supervisors (one for ten), tabs and calls follow from that [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Sessions")]
    agents: Option<u32>,
    /// Sessions of each user, on average [default: 1.3]
    #[arg(long, value_name = "N", help_heading = "Sessions")]
    tabs: Option<f64>,
    /// The share of sessions that poll; the others have a WebSocket [default: 0, of a contact centre 0.2]
    #[arg(long, value_name = "SHARE", help_heading = "Sessions")]
    long_polling: Option<f64>,
    /// The share of sessions with the acknowledge extension [default: 0]
    #[arg(long, value_name = "SHARE", help_heading = "Sessions")]
    ack: Option<f64>,
    /// Sessions that are being opened at once [default: 128]
    #[arg(long, value_name = "N", help_heading = "Sessions")]
    parallel: Option<u32>,
    /// Open so many sessions a second instead, whether or not those before are done
    #[arg(long, value_name = "N", help_heading = "Sessions")]
    connect_rate: Option<f64>,
    /// How often `connect` opens and closes all sessions [default: 5]
    #[arg(long, value_name = "N", help_heading = "Sessions")]
    cycles: Option<u32>,

    /// What a user is called; {number} is its number, from 0 [default: bench-{number}]
    #[arg(long, value_name = "TEXT", help_heading = "Credentials")]
    user_template: Option<String>,
    /// What it shows as its bearer token; {number} and {user} are filled in
    #[arg(long, value_name = "TEXT", help_heading = "Credentials")]
    token_template: Option<String>,
    /// Users and tokens from a file instead: one a line, as name,token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user_template", "token_template"], help_heading = "Credentials")]
    users_file: Option<PathBuf>,
    /// A header of every request, such as "X-User: {user}"; {number}, {user} and {token} are filled in; may be given more than once
    #[arg(long, value_name = "HEADER", help_heading = "Credentials")]
    header: Vec<String>,
    /// What `ext` of handshakes has, such as {"token":"{token}"}
    #[arg(long, value_name = "JSON", help_heading = "Credentials")]
    handshake_ext: Option<String>,
    /// Print what the configuration of Halley must have to know the users of this run, and end
    #[arg(long, help_heading = "Credentials")]
    print_users: bool,

    /// Events a second [default: fan-out 10, unicast 500, slow-clients 50, a contact centre's from its size]
    #[arg(long, value_name = "N", help_heading = "Load")]
    rate: Option<f64>,
    /// A closed loop instead: so many events under way at once. For how much a server can do; latency means little then
    #[arg(long, value_name = "N", conflicts_with = "rate", help_heading = "Load")]
    in_flight: Option<u32>,
    /// Bytes of each event's data [default: 990, of a contact centre 700 to 8192]
    #[arg(long, value_name = "BYTES", help_heading = "Load")]
    payload: Option<usize>,
    /// How long is measured [default: 30s, of a contact centre 60s, idle 10s]
    #[arg(long, value_name = "TIME", value_parser = span, help_heading = "Load")]
    duration: Option<Duration>,
    /// How long is published before that [default: 5s, of a contact centre 10s]
    #[arg(long, value_name = "TIME", value_parser = span, help_heading = "Load")]
    warm_up: Option<Duration>,
    /// How long nothing may come after the last publish until what is missing counts as lost [default: 10s, of a storm 30s]
    #[arg(long, value_name = "TIME", value_parser = span, help_heading = "Load")]
    drain: Option<Duration>,
    /// Calls that an agent handles in an hour; each makes 14.7 events [default: 16]
    #[arg(long, value_name = "N", help_heading = "Load")]
    calls_per_hour: Option<f64>,
    /// How many times that [default: 1]
    #[arg(long, value_name = "N", help_heading = "Load")]
    burst: Option<f64>,
    /// How often a service announcement goes to everyone; 0s for never [default: 60s, in a storm 20s]
    #[arg(long, value_name = "TIME", value_parser = span, help_heading = "Load")]
    announce_every: Option<Duration>,

    /// How events are published
    #[arg(
        long,
        value_name = "WAY",
        value_enum,
        default_value = "halley",
        help_heading = "Publishing"
    )]
    publish: PublishBy,
    /// Where [default: http://127.0.0.1:9090/api/v1/events; for bayeux what --url says]. May be given more than once: connections
    /// go to each in turn
    #[arg(long, value_name = "URL", help_heading = "Publishing")]
    publish_url: Vec<Address>,
    /// Connections that publish, each with one request under way [default: 16]
    #[arg(long, value_name = "N", help_heading = "Publishing")]
    publishers: Option<u32>,
    /// Events that are due at once share a request, at most so many [default: 32, unicast 1]
    #[arg(long, value_name = "N", help_heading = "Publishing")]
    batch: Option<usize>,
    /// Give events ids, and publish again what was not answered (Halley stores an id once)
    #[arg(long, help_heading = "Publishing")]
    ids: bool,
    /// How an event finds its one user [default: user; for bayeux channel]
    #[arg(long, value_name = "WAY", value_enum, help_heading = "Publishing")]
    route: Option<RouteBy>,
    /// What channels begin with [default: /v2/me; for bayeux /bench/me]
    #[arg(long, value_name = "CHANNEL", help_heading = "Publishing")]
    prefix: Option<String>,

    /// How the connections of `reconnect-storm` are lost
    #[arg(
        long,
        value_name = "WAY",
        value_enum,
        help_heading = "Storms and slow clients"
    )]
    cut: Option<CutBy>,
    /// Lose them by a shell command instead, which restarts or kills the server. Use --ids
    #[arg(
        long,
        value_name = "COMMAND",
        conflicts_with = "cut",
        help_heading = "Storms and slow clients"
    )]
    cut_command: Option<String>,
    /// Sessions that keep their connection [default: 100]
    #[arg(long, value_name = "N", help_heading = "Storms and slow clients")]
    spared: Option<u32>,
    /// When clients try again: cometd (1, 3, 6, 10, ... s after the break, all at once), at-once (and every 5 s), or a time
    /// within which each chooses its moment [default: cometd]
    #[arg(long, value_name = "WHEN", value_parser = come_back, help_heading = "Storms and slow clients")]
    come_back: Option<ComeBack>,
    /// The share of sessions that stop reading in `slow-clients` [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Storms and slow clients")]
    slow: Option<f64>,
    /// For how long they do [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = span, help_heading = "Storms and slow clients")]
    slow_for: Option<Duration>,

    /// An address that connections come from, or a range such as 10.0.0.2-10.0.0.9; may be given more than once. One has ports
    /// for about 25,000 connections; on loopback as many as are needed are used
    #[arg(long, value_name = "ADDRESS", help_heading = "Generator")]
    source: Vec<Sources>,
    /// Threads [default: 1]
    #[arg(long, value_name = "N", help_heading = "Generator")]
    threads: Option<usize>,
    /// What chance begins with: the same for the same run [default: 1]
    #[arg(long, value_name = "N", help_heading = "Generator")]
    seed: Option<u64>,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    json: Option<PathBuf>,
    /// Write the report as a page that needs nothing but itself
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    html: Option<PathBuf>,
    /// Show nothing while it runs
    #[arg(long, short, help_heading = "Report")]
    quiet: bool,
}

const EXAMPLES: &str = "\
Halley, in two terminals (users with tokens, since events are addressed to users):
  halley bench contact-centre --agents 2000 --token-template 'secret-{number}' --print-users > users.toml
  halley serve --config users.toml

  halley bench contact-centre --agents 2000 --token-template 'secret-{number}' --pid $(pgrep -x halley) --html report.html
  halley bench reconnect-storm --agents 2000 --token-template 'secret-{number}' --pid $(pgrep -x halley)

Halley as it starts without a configuration (nobody has a name, so events are addressed by channel):
  halley bench fan-out --sessions 1000 --rate 10
  halley bench unicast --sessions 10000 --rate 2000 --route channel --publishers 64
  halley bench idle --sessions 10000 --pid $(pgrep -x halley)
  halley bench connect --sessions 2000 --long-polling 0.5 --pid $(pgrep -x halley)

CometD (Java) and others whose clients may publish:
  halley bench fan-out --url ws://127.0.0.1:8080/cometd --publish bayeux --sessions 1000 --ack 1
  halley bench contact-centre --url ws://127.0.0.1:8080/cometd --publish bayeux --agents 500 --pid $(pgrep -f jetty)

Faye, mounted at /bayeux:
  halley bench fan-out --url ws://127.0.0.1:8000/bayeux --publish bayeux --publishers 1 --rate 5
  halley bench idle --url http://127.0.0.1:8000/bayeux --publish bayeux --long-polling 1 --sessions 2000

A server with a door of its own that takes [{\"channel\":...,\"data\":...}]:
  halley bench unicast --url ws://127.0.0.1:8103/cometd --publish-url http://127.0.0.1:8103/publish --route channel

Exit status: 0 when every event is accounted for; 1 when not, or when the generator failed; 2 for arguments that cannot be;
69 when the server does not let everyone in.";

/// `--publish`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PublishBy {
    /// POST of one event or an array of them, as /api/v1/events takes it
    Halley,
    /// Sessions that publish on channels
    Bayeux,
}

/// `--route`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RouteBy {
    /// By its user; all users subscribe to the same channels
    User,
    /// By a channel that nobody else subscribes to
    Channel,
}

/// `--cut`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CutBy {
    /// The server is told at once (RST)
    Reset,
    /// The server is told in order (FIN)
    Close,
    /// The server is not told: the old connection stays, and nobody reads it
    Silent,
}

pub(super) fn run(args: Args, command: &[String]) -> ExitCode {
    let (json, html, quiet) = (args.json.clone(), args.html.clone(), args.quiet);
    let print_users = args.print_users;
    let result = settings(args).and_then(|settings| {
        if print_users {
            let users = settings.users.to_toml(settings.scenario.users(&settings))?;
            io::stdout().write_all(users.as_bytes())?;
            return Ok(None);
        }
        let manner = Manner {
            command: without_credentials(command),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            quiet,
        };
        bench::run(settings, &manner).map(Some)
    });
    match result {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(report)) => show(&report, json, html),
        Err(error) => complain(code(&error), &error),
    }
}

fn code(error: &BenchError) -> u8 {
    match error {
        BenchError::Settings(_) => exit::USAGE,
        BenchError::Setup { .. } | BenchError::Publishers { .. } => exit::UNAVAILABLE,
        BenchError::Io(_) => exit::FAILED,
    }
}

fn show(report: &Report, json: Option<PathBuf>, html: Option<PathBuf>) -> ExitCode {
    // The files first: a reader of stdout may have gone.
    let files = [
        (json, Report::json as fn(&Report) -> String),
        (html, Report::html),
    ];
    for (path, text) in files {
        if let Some(path) = path
            && let Err(error) = fs::write(&path, text(report))
        {
            return complain(exit::FAILED, &format!("{}: {error}", path.display()));
        }
    }
    let _ = write!(io::stdout(), "{}", report.table());
    if report.verdict.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILED)
    }
}

/// What was asked for, over the defaults of the scenario.
fn settings(args: Args) -> Result<Settings, BenchError> {
    let mut urls = args.url.into_iter();
    let first = (urls.next()).ok_or_else(|| SettingsError("--url says where clients go".to_owned()))?;
    let mut asked = Asked {
        settings: Settings::new(args.scenario, first),
        wrong: None,
    };
    asked.settings.more_urls = urls.collect();
    asked.settings.publish.by = match args.publish {
        PublishBy::Halley => Publisher::Halley,
        PublishBy::Bayeux => Publisher::Bayeux,
    };
    asked.special("sessions", args.sessions, |to, value| to.sessions = value);
    asked.special("agents", args.agents, |to, value| to.agents = value);
    asked.special("tabs", args.tabs, |to, value| to.tabs = value);
    asked.common(args.long_polling, |to, value| to.long_polling = value);
    asked.common(args.ack, |to, value| to.ack = value);
    asked.common(args.parallel, |to, value| to.opening.parallel = value);
    asked.common(args.patience, |to, value| to.opening.patience = value);
    asked.special("connect-rate", args.connect_rate, |to, value| {
        to.opening.rate = Some(value)
    });
    asked.special("cycles", args.cycles, |to, value| to.opening.cycles = value);
    asked.special("rate", args.rate, |to, value| to.rate = Some(value));
    asked.special("in-flight", args.in_flight, |to, value| {
        to.in_flight = Some(value)
    });
    asked.special("payload", args.payload, |to, value| to.payload = Some(value));
    asked.common(args.duration, |to, value| to.duration = value);
    asked.common(args.warm_up, |to, value| to.warm_up = value);
    asked.common(args.drain, |to, value| to.drain = value);
    asked.special("calls-per-hour", args.calls_per_hour, |to, value| {
        to.calls_per_hour = value
    });
    asked.special("burst", args.burst, |to, value| to.burst = value);
    asked.special("announce-every", args.announce_every, |to, value| {
        to.announce_every = value
    });
    let mut urls = args.publish_url.into_iter();
    asked.settings.publish.url = urls.next();
    asked.settings.publish.more_urls = urls.collect();
    asked.common(args.publishers, |to, value| to.publish.connections = value);
    asked.common(args.batch, |to, value| to.publish.batch = value);
    asked.common(args.route.map(route), |to, value| to.route = Some(value));
    asked.common(args.prefix, |to, value| to.prefix = Some(value));
    asked.special("cut", args.cut.map(cut), |to, value| to.storm.cut = value);
    asked.special("cut-command", args.cut_command, |to, value| {
        to.storm.cut = Cut::By(value)
    });
    asked.special("spared", args.spared, |to, value| to.storm.spared = value);
    asked.special("come-back", args.come_back, |to, value| {
        to.storm.come_back = value
    });
    asked.special("slow", args.slow, |to, value| to.slow.share = value);
    asked.special("slow-for", args.slow_for, |to, value| to.slow.pause = value);
    asked.common(args.threads, |to, value| to.threads = value);
    asked.common(args.seed, |to, value| to.seed = value);
    let Asked { mut settings, wrong } = asked;
    if let Some(wrong) = wrong {
        return Err(SettingsError(wrong).into());
    }
    settings.publish.ids = args.ids;
    settings.pids = args.pid;
    settings.beside = args.beside;
    settings.sources = args.source.into_iter().flat_map(|sources| sources.0).collect();
    settings.users = users(
        args.users_file,
        args.user_template.as_deref(),
        args.token_template.as_deref(),
    )?;
    for header in &args.header {
        settings.users.add_header(header)?;
    }
    if let Some(ext) = &args.handshake_ext {
        settings.users.set_handshake_ext(ext)?;
    }
    Ok(settings)
}

fn users(file: Option<PathBuf>, name: Option<&str>, token: Option<&str>) -> Result<Users, BenchError> {
    let Some(path) = file else {
        return Ok(Users::from_templates(name.unwrap_or("bench-{number}"), token));
    };
    let text =
        fs::read_to_string(&path).map_err(|error| SettingsError(format!("{}: {error}", path.display())))?;
    Ok(Users::from_file(&text)?)
}

/// What was asked for, so far.
struct Asked {
    settings: Settings,
    /// The first thing that the scenario does not have.
    wrong: Option<String>,
}

impl Asked {
    /// Something that every scenario has.
    fn common<T>(&mut self, value: Option<T>, change: impl FnOnce(&mut Settings, T)) {
        if let Some(value) = value {
            change(&mut self.settings, value);
        }
    }

    /// Something that only some have.
    fn special<T>(&mut self, name: &str, value: Option<T>, change: impl FnOnce(&mut Settings, T)) {
        let scenario = self.settings.scenario;
        if value.is_some() && !scenario.options.contains(&name) {
            let options = scenario.options.iter().map(|option| format!("--{option}"));
            let options = options.collect::<Vec<_>>().join(", ");
            let wrong = format!(
                "{} has no --{name}; it has {options}, and what all scenarios have",
                scenario.name
            );
            self.wrong.get_or_insert(wrong);
        }
        self.common(value, change);
    }
}

fn route(by: RouteBy) -> Route {
    match by {
        RouteBy::User => Route::User,
        RouteBy::Channel => Route::Channel,
    }
}

fn cut(by: CutBy) -> Cut {
    match by {
        CutBy::Reset => Cut::Reset,
        CutBy::Close => Cut::Close,
        CutBy::Silent => Cut::Silent,
    }
}

fn scenarios() -> impl TypedValueParser<Value = &'static scenario::Kind> {
    let values = scenario::ALL
        .iter()
        .map(|kind| PossibleValue::new(kind.name).help(kind.about));
    PossibleValuesParser::new(values)
        .map(|name| scenario::named(&name).expect("clap lets none through that is not there"))
}

/// `30s`, `1m`, `500ms`.
fn span(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "this is no length of time such as 500ms, 30s or 2m".to_owned())?;
    Duration::try_from(span).map_err(|_| "a length of time is not negative".to_owned())
}

fn come_back(text: &str) -> Result<ComeBack, String> {
    match text {
        "cometd" => Ok(ComeBack::Cometd),
        "at-once" => Ok(ComeBack::AtOnce),
        time => {
            let time = span(time)
                .map_err(|_| "it is cometd, at-once, or a length of time such as 10s".to_owned())?;
            let seconds = time.as_secs().clamp(1, 3_600);
            Ok(ComeBack::Within(u32::try_from(seconds).unwrap_or(3_600)))
        }
    }
}

/// The command line as one can repeat it, but for what is secret: reports are passed around.
fn without_credentials(command: &[String]) -> String {
    const SECRET: [&str; 3] = ["--token-template", "--header", "--handshake-ext"];
    let mut hides = false;
    let words = command.iter().enumerate().map(|(place, word)| {
        if place == 0 {
            return "halley".to_owned();
        }
        if std::mem::take(&mut hides) {
            return "'…'".to_owned();
        }
        if SECRET.contains(&word.as_str()) {
            hides = true;
        }
        match word.split_once('=') {
            Some((name, _)) if SECRET.contains(&name) => format!("{name}='…'"),
            Some(_) | None => quoted(word),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=./:,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn asked(line: &str) -> Result<Settings, BenchError> {
        let line = Line::try_parse_from(format!("bench {line}").split(' '))
            .unwrap_or_else(|error| panic!("{error}"));
        settings(line.args)
    }

    #[test]
    fn what_is_not_asked_for_is_what_the_scenario_has() {
        let settings = asked("contact-centre --token-template t{n} --agents 50").unwrap();
        assert_eq!(
            (settings.agents, settings.long_polling, settings.publish.batch),
            (50, 0.2, 32)
        );
        assert_eq!(settings.duration, Duration::from_secs(60));
    }

    #[test]
    fn an_option_of_another_scenario_is_refused() {
        let error = asked("fan-out --agents 5").unwrap_err().to_string();
        assert!(
            error.contains("fan-out has no --agents") && error.contains("--sessions"),
            "{error}"
        );
    }

    #[test]
    fn the_help_shows_what_stands_in_templates() {
        use clap::CommandFactory as _;
        // clap makes the end of a line of {n}.
        let help = Line::command().render_long_help().to_string();
        assert!(help.contains("[default: bench-{number}]"), "{help}");
        assert!(help.contains("{number} and {user} are filled in"), "{help}");
    }

    #[test]
    fn every_option_of_every_scenario_is_there() {
        use clap::CommandFactory as _;
        let command = Line::command();
        for kind in scenario::ALL {
            for option in kind.options {
                let found = command
                    .get_arguments()
                    .any(|argument| argument.get_long() == Some(*option));
                assert!(found, "{}: --{option}", kind.name);
            }
        }
    }

    #[test]
    fn times_and_ways_to_come_back_are_read() {
        assert_eq!(span("1m30s"), Ok(Duration::from_secs(90)));
        assert!(span("soon").is_err() && span("-1s").is_err());
        assert_eq!(come_back("at-once"), Ok(ComeBack::AtOnce));
        assert_eq!(come_back("10s"), Ok(ComeBack::Within(10)));
        assert!(come_back("never").is_err());
    }

    #[test]
    fn the_command_line_is_kept_without_credentials() {
        let words = [
            "/usr/bin/halley",
            "bench",
            "unicast",
            "--token-template",
            "secret-{n}",
            "--header=X: secret",
            "--prefix",
            "/a b",
        ];
        let kept = without_credentials(&words.map(ToOwned::to_owned));
        assert_eq!(
            kept,
            "halley bench unicast --token-template '…' --header='…' --prefix '/a b'"
        );
    }
}
