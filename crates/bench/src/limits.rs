//! What the machine allows: file descriptors and ports. Too few of either is said before anything begins.

use std::net::{IpAddr, Ipv4Addr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::{Settings, SettingsError};

/// Descriptors that are needed besides connections.
const OTHER_FILES: u64 = 64;

/// Ports that Linux hands out unless it is told otherwise.
const USUAL_PORTS: u64 = 28_232;

/// Raises the limit of open files to what `connections` need.
pub(crate) fn allow_files(connections: u64) -> Result<(), SettingsError> {
    let needed = connections + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    if limit.maximum.is_none_or(|maximum| maximum >= needed) && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    let maximum = limit.maximum.unwrap_or_default();
    Err(SettingsError(format!(
        "{connections} connections need {needed} file descriptors, and this process may have {maximum}. Raise the limit \
         (`ulimit -Hn {needed}` as root, LimitNOFILE={needed} in a systemd unit, --ulimit nofile={needed} for docker), or \
         run with fewer sessions. The server needs as many"
    )))
}

/// The addresses that connections come from: those that were given, or as many of 127.0.0.x as are needed on loopback.
pub(crate) fn sources(settings: &Settings, connections: u64) -> Result<Vec<IpAddr>, SettingsError> {
    choose_sources(settings, connections, ports_of_an_address())
}

fn choose_sources(settings: &Settings, connections: u64, ports: u64) -> Result<Vec<IpAddr>, SettingsError> {
    // Not all of them: others on this machine need ports, too.
    let ports = ports * 9 / 10;
    let needed = connections.div_ceil(ports.max(1));
    let given = settings.sources.len() as u64;
    let target = settings.url.socket.ip();
    if given > 0 {
        if given < needed {
            return Err(too_few(connections, ports, needed));
        }
        return Ok(settings.sources.clone());
    }
    if needed <= 1 {
        return Ok(Vec::new());
    }
    match target {
        IpAddr::V4(target) if target.is_loopback() && needed < 1_000 => {
            let first = u32::from(Ipv4Addr::new(127, 0, 0, 2));
            let count = u32::try_from(needed).unwrap_or(u32::MAX);
            Ok((first..first + count)
                .map(|address| Ipv4Addr::from(address).into())
                .collect())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => Err(too_few(connections, ports, needed)),
    }
}

fn too_few(connections: u64, ports: u64, needed: u64) -> SettingsError {
    SettingsError(format!(
        "{connections} connections need {needed} source addresses, since each has about {ports} ports: give them with \
         --source (10.0.0.2-10.0.0.9), or widen net.ipv4.ip_local_port_range"
    ))
}

fn ports_of_an_address() -> u64 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range
        .split_whitespace()
        .filter_map(|bound| bound.parse::<u64>().ok());
    match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) if last > first => last - first + 1,
        _ => USUAL_PORTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::named;

    fn settings(url: &str, sources: &[&str]) -> Settings {
        let mut settings = Settings::new(named("idle").unwrap(), url.parse().unwrap());
        settings.sources = sources.iter().map(|source| source.parse().unwrap()).collect();
        settings
    }

    #[test]
    fn more_files_than_can_be_are_refused_with_what_to_do() {
        let error = allow_files(1 << 40).unwrap_err().0;
        assert!(
            error.contains("ulimit") && error.contains("LimitNOFILE"),
            "{error}"
        );
    }

    #[test]
    fn loopback_gets_as_many_addresses_as_it_needs() {
        let settings = settings("ws://127.0.0.1:1/", &[]);
        assert_eq!(choose_sources(&settings, 25_000, 28_000).unwrap().len(), 0);
        let sources = choose_sources(&settings, 60_000, 28_000).unwrap();
        assert_eq!(sources.len(), 3);
        assert_eq!(sources[0].to_string(), "127.0.0.2");
    }

    #[test]
    fn elsewhere_addresses_must_be_given_and_be_enough() {
        let far = "ws://192.0.2.1:1/";
        let error = choose_sources(&settings(far, &[]), 60_000, 28_000).unwrap_err().0;
        assert!(error.contains("--source"), "{error}");
        assert!(choose_sources(&settings(far, &["192.0.2.7"]), 60_000, 28_000).is_err());
        assert!(choose_sources(&settings(far, &["192.0.2.7"]), 10_000, 28_000).is_ok());
    }
}
