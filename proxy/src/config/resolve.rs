//! From what was written to what holds: defaults, bounds, contradictions. Pure; knows no file, no
//! variable and no line. A default gives way to what was written; only what was written can contradict.

use super::bounds;
use super::check::{Check, Number, setting};
use super::error::{ConfigError, Problem};
use super::keywords::{Driver, List, LogFormat, LogLevel, ProxyProtocol, Scheduling, SinkType};
use super::raw::{
    OFF, Raw, RawAck, RawAdmin, RawAdmit, RawClientAddress, RawCors, RawDrain, RawLimits,
    RawListen, RawOutput, RawPaths,
};
use super::{
    APP_IDS_MAX, Ack, Admin, Admit, ClientAddress, Config, Cors, Drain, Flags, HOSTS_MAX, HostInfo,
    Limits, Listen, Log, NETWORKS_MAX, ORIGINS_MAX, OUTPUTS_MAX, Output, Paths, Process,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The output that is there when none is configured: a file output.
const DEFAULT_OUTPUT: &str = "files";

/// How long the SDKs in the field wait for an answer to a batch, from its first byte.
const CLIENT_PATIENCE_MS: u64 = 15_000;

/// Defaults of the two deadlines that have to fit into it.
const BODY_DEADLINE_MS: u64 = 11_000;
const ACK_DEADLINE_MS: u64 = 4_000;
const _: () = assert!(BODY_DEADLINE_MS + ACK_DEADLINE_MS <= CLIENT_PATIENCE_MS);

/// The least default of `in_flight_bytes_max`, bytes.
const IN_FLIGHT_BYTES_LEAST: u64 = 64 << 20;

/// So many of the largest bodies must fit into `in_flight_bytes_max`: a body of control characters
/// grows sixfold when it is escaped into a record, and is held beside it meanwhile.
const BODIES_IN_FLIGHT_MIN: u64 = 8;

/// Lays the command line over what file and environment said.
pub(super) fn apply_flags(raw: &mut Raw, flags: &Flags) -> Result<(), ConfigError> {
    let listen = &mut raw.listen;
    listen.address = flags.listen.or(listen.address);
    listen.driver = flags.driver.or(listen.driver);
    listen.workers = flags.workers.or(listen.workers);

    let Some(dir) = &flags.data_dir else {
        return Ok(());
    };
    if raw.outputs.is_empty() {
        raw.outputs.insert(
            DEFAULT_OUTPUT.to_owned(),
            RawOutput {
                r#type: Some(SinkType::File),
                ..RawOutput::default()
            },
        );
    }
    let mut files = raw
        .outputs
        .values_mut()
        .filter(|output| output.r#type == Some(SinkType::File));
    match (files.next(), files.count()) {
        (Some(file), 0) => {
            file.dir = Some(dir.clone());
            Ok(())
        }
        (first, rest) => Err(ConfigError::Invalid(vec![Problem::Contradiction {
            left: setting("--data-dir", format!("{:?}", dir)),
            must: "given together with exactly one of",
            right: setting(
                "outputs of type file",
                (usize::from(first.is_some()) + rest).to_string(),
            ),
            why: "it would not be clear whose directory it is",
        }])),
    }
}

/// Everything present, or everything that is wrong.
pub(super) fn resolve(raw: Raw, machine: HostInfo) -> Result<Config, ConfigError> {
    let mut check = Check::default();
    let listen = check.listen(&raw.listen, machine);
    let (limits, record_bytes, body_deadline) = check.limits(&raw.limits, &raw.ack, machine);
    let paths = check.paths(raw.paths);
    let cors = check.cors(&raw.cors);
    let client_address = check.client_address(&raw.client_address);
    let admit = check.admit(raw.admit);
    let (ack, ack_deadline) = check.ack(&raw.ack, &raw.limits);
    check.patience(&body_deadline, &ack_deadline);
    let drain = check.drain(&raw.drain, &ack_deadline);
    let admin = check.admin(raw.admin, listen.address);
    let log = Log {
        format: raw.log.format.unwrap_or(LogFormat::Text),
        level: raw.log.level.unwrap_or(LogLevel::Info),
    };
    let process = Process {
        scheduling: raw.process.scheduling.unwrap_or(Scheduling::Batch),
    };
    let mut written = raw.outputs;
    if written.is_empty() {
        let file = RawOutput {
            r#type: Some(SinkType::File),
            ..RawOutput::default()
        };
        written.insert(DEFAULT_OUTPUT.to_owned(), file);
    }
    if written.len() > OUTPUTS_MAX {
        check.problems.push(Problem::OutOfRange {
            key: "outputs".to_owned(),
            value: written.len() as u64,
            unit: "outputs",
            min: 1,
            max: OUTPUTS_MAX as u64,
        });
    }
    let workers = listen.workers;
    let outputs: Vec<Output> = written
        .into_iter()
        .filter_map(|(name, output)| {
            check.output(name, output, &ack_deadline, &record_bytes, workers as u64)
        })
        .collect();
    check.directories(&outputs);
    check.partition_keys(&outputs);
    check.topics(&outputs);
    check.shares(&outputs, workers, &record_bytes);
    if !check.problems.is_empty() {
        return Err(ConfigError::Invalid(check.problems));
    }
    Ok(Config {
        listen,
        limits,
        paths,
        cors,
        client_address,
        admit,
        ack,
        drain,
        admin,
        log,
        process,
        outputs,
        notes: Vec::new(),
    })
}

impl Check {
    fn listen(&mut self, raw: &RawListen, machine: HostInfo) -> Listen {
        let workers = self.number(&bounds::WORKERS, "", raw.workers, 0);
        let connections = self.number(&bounds::CONNECTIONS, "", raw.connections_max, 65_536);
        let per_address = self.number(
            &bounds::CONNECTIONS_PER_ADDRESS,
            "",
            raw.connections_per_address_max,
            connections.value.min(512),
        );
        self.at_most(
            &per_address,
            &connections,
            "it could never be reached (0 switches it off)",
        );
        Listen {
            address: raw.address.unwrap_or(loopback(8088)),
            workers: match workers.size() {
                0 => machine.cores.max(1),
                workers => workers,
            },
            driver: raw.driver.unwrap_or(Driver::Auto),
            connections_max: connections.size(),
            connections_per_address_max: Some(per_address.size()).filter(|most| *most > 0),
            pin: raw.pin.unwrap_or(true),
            proxy_protocol: raw.proxy_protocol.unwrap_or(ProxyProtocol::Off),
        }
    }

    /// Also the bytes of the largest record that ordinary text can make, and the body deadline.
    fn limits(
        &mut self,
        raw: &RawLimits,
        ack: &RawAck,
        machine: HostInfo,
    ) -> (Limits, Number, Number) {
        let head = self.number(&bounds::HEAD_BYTES, "", raw.head_bytes_max, 32_768);
        let headers = self.number(&bounds::HEADERS, "", raw.headers_max, 100);
        let target = self.number(
            &bounds::TARGET_BYTES,
            "",
            raw.target_bytes_max,
            (head.value / 2).min(8_192),
        );
        self.below(&target, &head, "the target is a part of the head");
        let head_deadline = self.number(&bounds::HEAD_DEADLINE, "", raw.head_deadline_ms, 10_000);
        let body = self.number(&bounds::BODY_BYTES, "", raw.body_bytes_max, 1_048_576);
        let inflated = self.number(
            &bounds::INFLATED_BYTES,
            "",
            raw.inflated_bytes_max,
            body.value,
        );
        let ack_deadline = ack.deadline_ms.unwrap_or(ACK_DEADLINE_MS);
        let body_deadline = self.number(
            &bounds::BODY_DEADLINE,
            "",
            raw.body_deadline_ms,
            CLIENT_PATIENCE_MS
                .saturating_sub(ack_deadline)
                .clamp(1, BODY_DEADLINE_MS),
        );
        let body_rate = self.number(&bounds::BODY_RATE, "", raw.body_rate_min_bytes, 500);
        let life = self.number(
            &bounds::CONNECTION_LIFE,
            "",
            raw.connection_life_ms,
            3_600_000,
        );
        let idle = self.number(&bounds::IDLE, "", raw.idle_ms, life.value.min(60_000));
        self.at_most(&idle, &life, "it could never be reached");
        let requests = self.number(
            &bounds::REQUESTS_PER_CONNECTION,
            "",
            raw.requests_per_connection_max,
            10_000,
        );
        let events = self.number(&bounds::EVENTS, "", raw.events_max, 1_000);
        let depth = self.number(&bounds::JSON_DEPTH, "", raw.json_depth_max, 64);

        let largest = if inflated.value > body.value {
            &inflated
        } else {
            &body
        };
        let bodies = largest.times(BODIES_IN_FLIGHT_MIN);
        let in_flight = self.number(
            &bounds::IN_FLIGHT_BYTES,
            "",
            raw.in_flight_bytes_max,
            (machine.memory_bytes / 4)
                .max(IN_FLIGHT_BYTES_LEAST)
                .max(bodies.value)
                .min(machine.memory_bytes),
        );
        self.at_least(
            &in_flight,
            &bodies,
            "a body and the records it becomes are held at the same time",
        );
        let memory = Number {
            key: "the memory limit".to_owned(),
            unit: "bytes",
            value: machine.memory_bytes,
        };
        self.at_most(
            &in_flight,
            &memory,
            "the process would be killed before it sheds load",
        );

        let limits = Limits {
            head_bytes_max: head.size(),
            headers_max: headers.size(),
            target_bytes_max: target.size(),
            head_deadline: head_deadline.ms(),
            body_bytes_max: body.size(),
            inflated_bytes_max: inflated.size(),
            body_deadline: body_deadline.ms(),
            body_rate_min_bytes: body_rate.size(),
            idle: idle.ms(),
            requests_per_connection_max: requests.value,
            connection_life: life.ms(),
            events_max: events.size(),
            json_depth_max: depth.size(),
            in_flight_bytes_max: in_flight.size(),
        };
        (limits, largest.plus(&head), body_deadline)
    }

    fn paths(&mut self, raw: RawPaths) -> Paths {
        let unless_off = |written: Option<String>, default: &str| {
            let path = written.unwrap_or_else(|| default.to_owned());
            (path != OFF).then_some(path)
        };
        let paths = Paths {
            collect: raw.collect.unwrap_or_else(|| "/collect".to_owned()),
            events: unless_off(raw.events, "/v1/events"),
            pixel: unless_off(raw.pixel, "/i"),
            ping: raw.ping.unwrap_or_else(|| "/ping".to_owned()),
            health: raw.health.unwrap_or_else(|| "/health".to_owned()),
        };
        let all: Vec<(&str, &String)> = [
            ("paths.collect", Some(&paths.collect)),
            ("paths.events", paths.events.as_ref()),
            ("paths.pixel", paths.pixel.as_ref()),
            ("paths.ping", Some(&paths.ping)),
            ("paths.health", Some(&paths.health)),
        ]
        .into_iter()
        .filter_map(|(key, path)| Some((key, path?)))
        .collect();
        for (at, (key, path)) in all.iter().enumerate() {
            if !is_path(path) {
                self.malformed(
                    *key,
                    path,
                    "`/` and up to 255 letters, digits or any of $&@%-_.~/",
                );
            }
            for (other_key, other) in &all[..at] {
                if path == other {
                    self.problems.push(Problem::Contradiction {
                        left: setting(*key, path.as_str()),
                        must: "other than",
                        right: setting(*other_key, other.as_str()),
                        why: "a request can only go to one of them",
                    });
                }
            }
        }
        paths
    }

    fn cors(&mut self, raw: &RawCors) -> Cors {
        let written = raw.origins.clone().unwrap_or_default().0;
        self.few("cors.origins", written.len(), "origins", ORIGINS_MAX);
        Cors {
            origins: self.each("cors.origins", &written),
            max_age: self
                .number(&bounds::CORS_MAX_AGE, "", raw.max_age_s, 7_200)
                .seconds(),
        }
    }

    fn client_address(&mut self, raw: &RawClientAddress) -> ClientAddress {
        let written = match &raw.trusted {
            Some(List(written)) => written.clone(),
            None => vec!["private".to_owned()],
        };
        self.few(
            "client_address.trusted",
            written.len(),
            "networks",
            NETWORKS_MAX,
        );
        ClientAddress {
            trusted: self.each("client_address.trusted", &written),
            hops: self.number(&bounds::HOPS, "", raw.hops, 0).size(),
            fake_ip: raw.fake_ip.unwrap_or(false),
        }
    }

    fn admit(&mut self, raw: RawAdmit) -> Admit {
        let admit = Admit {
            app_ids: raw.app_ids.unwrap_or_default().0,
            hosts: raw.hosts.unwrap_or_default().0,
        };
        self.few(
            "admit.app_ids",
            admit.app_ids.len(),
            "applications",
            APP_IDS_MAX,
        );
        self.hosts("admit.hosts", &admit.hosts);
        admit
    }

    fn hosts(&mut self, key: &str, hosts: &[String]) {
        self.few(key, hosts.len(), "hosts", HOSTS_MAX);
        for host in hosts {
            // The bytes that a Host header can hold in front of its port.
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
            if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
                self.malformed(key, host, "a host name or address without port");
            }
        }
    }

    fn ack(&mut self, raw: &RawAck, limits: &RawLimits) -> (Ack, Number) {
        let body_deadline = limits.body_deadline_ms.unwrap_or(0);
        let deadline = self.number(
            &bounds::ACK_DEADLINE,
            "",
            raw.deadline_ms,
            CLIENT_PATIENCE_MS
                .saturating_sub(body_deadline)
                .clamp(1, ACK_DEADLINE_MS),
        );
        let most_given = raw.retry_after_max_s.unwrap_or(u64::MAX);
        let least = self.number(
            &bounds::RETRY_AFTER_MIN,
            "",
            raw.retry_after_min_s,
            most_given.min(1),
        );
        let most = self.number(
            &bounds::RETRY_AFTER_MAX,
            "",
            raw.retry_after_max_s,
            least.value.max(5),
        );
        self.at_most(&least, &most, "answers draw a number between the two");
        let ack = Ack {
            deadline: deadline.ms(),
            retry_after_min_s: least.value,
            retry_after_max_s: most.value,
        };
        (ack, deadline)
    }

    /// An answer that comes after the client has given up makes it send events that are stored.
    fn patience(&mut self, body_deadline: &Number, ack_deadline: &Number) {
        let patience = Number {
            key: "the time that SDKs wait for an answer".to_owned(),
            unit: "ms",
            value: CLIENT_PATIENCE_MS,
        };
        self.at_most(
            &body_deadline.plus(ack_deadline),
            &patience,
            "the answer would come after the client gave up, and sent its events again",
        );
    }

    fn drain(&mut self, raw: &RawDrain, ack_deadline: &Number) -> Drain {
        let grace = self.number(&bounds::DRAIN_GRACE, "", raw.grace_ms, 15_000);
        let needed = grace.plus(ack_deadline);
        let deadline = self.number(
            &bounds::DRAIN_DEADLINE,
            "",
            raw.deadline_ms,
            needed.value.max(25_000),
        );
        self.at_least(
            &deadline,
            &needed,
            "the last request of the grace still waits for its answer",
        );
        Drain {
            grace: grace.ms(),
            deadline: deadline.ms(),
        }
    }

    fn admin(&mut self, raw: RawAdmin, listen: SocketAddr) -> Admin {
        let hosts = raw.hosts.unwrap_or_default().0;
        self.hosts("admin.hosts", &hosts);
        let address = raw
            .address
            .map_or(Some(loopback(9090)), |written| written.0);
        if let Some(address) = address
            && address.port() == listen.port()
            && address.port() != 0
            && (address.ip() == listen.ip()
                || address.ip().is_unspecified()
                || listen.ip().is_unspecified())
        {
            self.problems.push(Problem::Contradiction {
                left: setting("admin.address", address.to_string()),
                must: "other than",
                right: setting("listen.address", listen.to_string()),
                why: "probes and clients do not share a port",
            });
        }
        Admin { address, hosts }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn is_path(path: &str) -> bool {
    path.len() <= 256
        && path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"$&@%-_.~/".contains(&byte))
}
