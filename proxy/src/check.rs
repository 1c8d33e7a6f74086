//! `sluice check`: tries ports, directories and destinations before traffic does.

use crate::config::Config;
use crate::listeners::{ListenAddress, ListenerSettings};
use crate::net;
use crate::net::tls::{Tls, TlsSettings};
use crate::runtime::clock;
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};
use sluice_sinks::output::{AckMode, Output};
use sluice_sinks::runtime;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of a check.
#[derive(Debug)]
pub struct Report {
    /// Warnings, then one line per output, good or bad, in configuration order.
    pub lines: String,
    /// Whether everything that was tried can be used.
    pub usable: bool,
}

/// How a platform stops a process by default.
struct Platform {
    name: &'static str,
    /// Until it sends no new connections, after the health endpoint answers 503 or the process was asked to stop.
    notices_s: u64,
    /// Until it kills.
    kills_s: u64,
    setting: &'static str,
}

/// Seconds that none of them notices later, or kills earlier, than.
const PLATFORMS: [Platform; 5] = [
    Platform {
        name: "docker stop",
        notices_s: 0,
        kills_s: 10,
        setting: "--stop-timeout, stop_grace_period",
    },
    Platform {
        name: "Amazon ECS",
        notices_s: 0,
        kills_s: 30,
        setting: "stopTimeout",
    },
    Platform {
        name: "Kubernetes",
        notices_s: 5,
        kills_s: 30,
        setting: "terminationGracePeriodSeconds",
    },
    Platform {
        name: "systemd",
        notices_s: 0,
        kills_s: 90,
        setting: "TimeoutStopSec",
    },
    Platform {
        name: "a balancer that asks every 5 s and believes the third answer",
        notices_s: 15,
        kills_s: u64::MAX,
        setting: "",
    },
];

/// Tries ports, directories, the configuration's tests and, unless `offline`, every destination, without writing an event.
///
/// # Errors
/// When there is no runtime to be had.
pub fn try_out(config: &Config, offline: bool) -> io::Result<Report> {
    let runtime = runtime::current_thread()?;
    let mut report = Report {
        lines: String::new(),
        usable: true,
    };
    report.ports(config);
    for listener in &config.listeners {
        if let Some(tls) = &listener.tls {
            report.certificates(listener, tls);
        }
    }
    report.suppressed(config);
    report.warnings(config);
    report.tests(config);
    for output in &config.outputs {
        let is_tried = output.sink.is_local() || !offline;
        let found = match is_tried {
            true => runtime
                .block_on(output.sink.try_out(clock::wall))
                .map_err(|error| error.to_string()),
            false => Ok("not tried (--offline)".to_owned()),
        };
        let directory = output.sink.directory().filter(|_| !is_tried);
        let staging = directory.map(|directory| directory.path);
        let spool = output.spool.as_ref().and_then(|spool| spool.dir.as_deref());
        let wrong = staging.into_iter().chain(spool).map(writable);
        let found = found.and_then(|found| match wrong.filter_map(Result::err).next() {
            Some(error) => Err(error),
            None => Ok(found),
        });
        let word = match found {
            Ok(found) => format!("ok: {found}"),
            Err(error) => {
                report.usable = false;
                format!("FAILED: {error}")
            }
        };
        let place = output.listed.as_ref();
        let place = place.map(|listed| format!(", {} {}", listed.term, listed.name));
        report.line(format_args!(
            "output {} ({}{}) {word}",
            output.name,
            output.type_name,
            place.unwrap_or_default()
        ));
    }
    for group in &config.groups {
        let (of, spread) = (group.settings.of.join(", "), group.settings.spread);
        report.line(format_args!("group {} of {of}, by {spread}", group.name));
    }
    Ok(report)
}

impl Report {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.lines, "{line}");
    }

    /// Whether the ports are free. Sluice shares ports with other processes of its user, so that an upgrade can
    /// overlap. Two proxies on one port by mistake would split the traffic, so this binds without sharing first.
    fn ports(&mut self, config: &Config) {
        let listeners = config.listeners.iter();
        let listeners = listeners.map(|one| (one.address_key(), one.address.clone()));
        let admin = config.admin.address.map(ListenAddress::Tcp);
        let admin = admin.map(|address| ("admin.address".to_owned(), address));
        for (key, address) in listeners.chain(admin) {
            let free = match &address {
                ListenAddress::Tcp(address) => port(*address),
                ListenAddress::Unix(path) => writable(path.parent().unwrap_or(path)).map(|()| true),
            };
            match free {
                Ok(true) => {}
                Ok(false) => self.line(format_args!(
                    "warning: {key} {address} is in use by a process that shares it: \
                     right for an upgrade, wrong for two proxies"
                )),
                Err(error) => {
                    self.usable = false;
                    self.line(format_args!("{key} {address} FAILED: {error}"));
                }
            }
        }
    }

    /// Whether the listener's files make TLS.
    fn certificates(&mut self, listener: &ListenerSettings, tls: &TlsSettings) {
        let name = &listener.name;
        let loaded = match Tls::load(name, tls, listener.protocols(), clock::wall) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.usable = false;
                self.line(format_args!("listener {name} TLS FAILED: {error}"));
                return;
            }
        };
        for certificate in loaded.certificates() {
            let days = certificate.seconds_left(clock::wall()) / (24 * 3_600);
            let names = match &*certificate.names.join(", ") {
                "" => "no DNS name".to_owned(),
                names => names.to_owned(),
            };
            self.line(format_args!(
                "listener {name} TLS ok: {} for {names}, expires in {days} days",
                certificate.file.display()
            ));
            if certificate.expires_soon(clock::wall()) {
                self.line(format_args!(
                    "warning: {} expires in {days} days",
                    certificate.file.display()
                ));
            }
        }
    }

    /// Runs the tests of the configuration.
    fn tests(&mut self, config: &Config) {
        for test in &config.tests {
            let name = &test.settings.name;
            let failures = match test.failures(config) {
                Ok(failures) => failures,
                Err(error) => vec![error.to_string()],
            };
            if failures.is_empty() {
                self.line(format_args!("test {name} ok"));
            } else {
                self.usable = false;
                self.line(format_args!("test {name} FAILED: {}", failures.join("; ")));
            }
        }
    }

    /// Whether the list of suppressed ids can be used.
    fn suppressed(&mut self, config: &Config) {
        match config.privacy.load_suppressed() {
            Ok(None) => {}
            Ok(Some(file)) => {
                let entries = file.entries();
                self.line(format_args!("privacy.suppress_file ok: {entries} ids"));
            }
            Err(error) => {
                self.usable = false;
                self.line(format_args!("privacy.suppress_file FAILED: {error}"));
            }
        }
    }

    fn warnings(&mut self, config: &Config) {
        let outputs = &config.outputs;
        if outputs
            .iter()
            .all(|output| output.timing.ack == AckMode::Enqueued)
        {
            self.line(format_args!(
                "warning: every output is `enqueued`: 200 means that events are in memory, \
                 and those are lost when the process is killed"
            ));
        }
        if outputs.iter().all(|output| !output.sink.keeps_records()) {
            self.line(format_args!(
                "warning: every output is `null`: events are answered 200 and thrown away"
            ));
        }
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let connections = config.limits.connections_max;
        if connections as u64 > hard / 2 {
            self.line(format_args!(
                "warning: listen.connections_max is {connections}, cut to {}: half of the {hard} \
                 open files that the process may have (ulimit -Hn)",
                hard / 2
            ));
        }
        for output in outputs {
            self.room(output);
        }
        self.platforms(config.drain.grace, config.drain.deadline);
    }

    /// Whether the disks have the space that staging and spool may use.
    fn room(&mut self, output: &Output) {
        let staging = output.sink.directory();
        let staging = staging.and_then(|of| Some(("staging", of.path, of.bytes_max?)));
        let spool = output.spool.as_ref();
        let spool = spool.and_then(|of| Some(("the spool", of.dir.as_deref()?, of.bytes_max)));
        for (what, path, bytes_max) in staging.into_iter().chain(spool) {
            let Ok(disk) = statvfs(existing(path)) else {
                continue;
            };
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < bytes_max {
                self.line(format_args!(
                    "warning: output {}: {what} may take {bytes_max} bytes, {} has {free} left",
                    output.name,
                    path.display()
                ));
            }
        }
    }

    fn platforms(&mut self, grace: Duration, deadline: Duration) {
        for platform in &PLATFORMS {
            let Platform { name, setting, .. } = platform;
            if deadline.as_secs() > platform.kills_s {
                self.line(format_args!(
                    "note: {name} kills after {} s by default, drain.deadline_ms is {}: \
                     give it more ({setting}) or drain faster",
                    platform.kills_s,
                    deadline.as_millis()
                ));
            }
            if grace.as_secs() < platform.notices_s {
                self.line(format_args!(
                    "note: {name} needs up to {} s to send nobody here, drain.grace_ms is {}",
                    platform.notices_s,
                    grace.as_millis()
                ));
            }
        }
    }
}

/// Whether the port is unused; `false` if its user shares it.
fn port(address: SocketAddr) -> Result<bool, String> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(true),
        Err(_) => match net::bind(address, 1) {
            Ok(_) => Ok(false),
            Err(error) => Err(error.source.to_string()),
        },
    }
}

/// Whether files can be created in a directory, or in what exists above it.
fn writable(dir: &Path) -> Result<(), String> {
    let dir = existing(dir);
    let probe: PathBuf = dir.join(format!(".probe-{:016x}", fastrand::u64(..)));
    let shown = dir.display();
    File::create_new(&probe)
        .and_then(|file| {
            drop(file);
            fs::remove_file(&probe)
        })
        .map_err(|error| format!("directory {shown}: cannot write to it: {error}"))
}

/// The directory, or the nearest one above it that exists.
fn existing(dir: &Path) -> &Path {
    dir.ancestors()
        .find(|part| part.is_dir())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::host_info::HostInfo;

    /// The first number in a cell of the page's table.
    fn seconds(cell: &str) -> Option<u64> {
        cell.split_whitespace().find_map(|part| part.parse().ok())
    }

    #[test]
    fn platforms_are_those_of_the_page_on_running() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/running.md");
        let page = fs::read_to_string(page).unwrap();
        let table = page
            .lines()
            .skip_while(|line| !line.contains("kills after"));
        let rows = table.skip(2).take_while(|line| line.starts_with('|'));
        let rows: Vec<(String, u64, u64)> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                let kills = seconds(cells[3]).unwrap_or(u64::MAX);
                let notices = seconds(cells[2]).unwrap_or(0);
                (cells[1].replace('`', ""), notices, kills)
            })
            .collect();
        let checked = PLATFORMS.map(|one| (one.name.to_owned(), one.notices_s, one.kills_s));
        assert_eq!(rows, checked);
    }

    #[test]
    fn default_grace_outlasts_balancers_and_default_deadline_orchestrators() {
        let config = Config::load(None, [], &Flags::default(), HostInfo::detect()).unwrap();
        let slowest = PLATFORMS.iter().map(|one| one.notices_s).max();
        assert_eq!(config.drain.grace.as_secs(), slowest.unwrap());
        let without_docker = PLATFORMS.iter().filter(|one| one.name != "docker stop");
        let first_kill = without_docker.map(|one| one.kills_s).min().unwrap();
        assert!(config.drain.deadline.as_secs() < first_kill);
    }
}
