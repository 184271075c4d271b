//! A broker in this process, and runs against it.

use std::time::Duration;

use bench::settings::Users;
use bench::{BenchError, Manner, Report, Settings, scenario};
use halley::app::App;
use halley::config::Config;

/// A small, short run of a scenario.
pub(crate) fn settings(scenario: &str, url: &str) -> Settings {
    let kind = scenario::named(scenario).expect("there is such a scenario");
    let mut settings = Settings::new(kind, url.parse().expect("an address"));
    (settings.sessions, settings.agents) = (20, 20);
    settings.duration = Duration::from_secs(1);
    settings.warm_up = Duration::from_millis(200);
    settings.drain = Duration::from_secs(5);
    settings.publish.connections = 4;
    settings.opening.cycles = 2;
    settings
}

/// Runs it quietly.
pub(crate) fn run(settings: Settings) -> Result<Report, BenchError> {
    let manner = Manner {
        command: "halley bench".to_owned(),
        version: "0".to_owned(),
        quiet: true,
    };
    bench::run(settings, &manner)
}

/// Runs a scenario against a broker with a log in memory, with users whom it knows.
pub(crate) fn run_with_users(scenario: &str, change: impl FnOnce(&mut Settings)) -> Report {
    let users = Users::from_templates("agent-{n}", Some("token-{n}"));
    // What `--print-users` prints.
    let config = users.to_toml(100).expect("they have tokens");
    let config = Config::parse(&config, "users").expect("a configuration");
    against(config, scenario, |settings| {
        settings.users = users;
        change(settings);
    })
}

/// The same with a broker that asks nobody who they are.
pub(crate) fn run_without_users(scenario: &str, change: impl FnOnce(&mut Settings)) -> Report {
    against(Config::default(), scenario, change)
}

fn against(mut config: Config, scenario: &str, change: impl FnOnce(&mut Settings)) -> Report {
    config.public.listen = ([127, 0, 0, 1], 0).into();
    config.internal.listen = ([127, 0, 0, 1], 0).into();
    config.log.url = "memory:".to_owned();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let app = runtime.block_on(App::start(config)).expect("a broker");
    let mut settings = settings(scenario, &format!("ws://{}/cometd", app.public_addr()));
    let events = format!("http://{}/api/v1/events", app.internal_addr());
    settings.publish.url = Some(events.parse().expect("an address"));
    change(&mut settings);
    if settings.publish.by == bench::settings::Publisher::Bayeux {
        settings.publish.url = None;
    }
    let report = run(settings).unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(app.shut_down());
    report
}
