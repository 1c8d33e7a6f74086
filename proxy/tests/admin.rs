//! The operator's port over a real socket, and its metrics page against a strict reading of the format.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::panic)]

use sluice_core::ack::OutputId;
use sluice_core::cause::Cause;
use sluice_core::lanes::{LaneId, Lanes};
use sluice_core::stats::{
    BillingStats, EndpointLabel, SpoolStats, StagingStats, WorkerStats, WriterStats,
};
use sluice_core::time::{Mono, Wall};
use sluice_proxy::admin::health::Readiness;
use sluice_proxy::admin::metrics::{
    FAMILIES, Format, Kind, LimitGauges, OutputSource, Sources, render,
};
use sluice_proxy::admin::{Admin, CONNECTIONS_MAX, HEAD_BYTES_MAX, HostPolicy};
use sluice_proxy::config::{Config, Flags};
use sluice_proxy::host_info::HostInfo;
use sluice_proxy::net::tls::{Protocols, Tls, TlsSettings};
use sluice_proxy::privacy::SuppressFile;
use sluice_proxy::runtime::drain::Drain;
use sluice_proxy::schemas::SchemaSet;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

type Labels = BTreeMap<String, String>;

/// A parsed page: samples by name and labels, types by family.
#[derive(Debug, Default)]
struct Parsed {
    samples: BTreeMap<(String, Labels), f64>,
    kinds: BTreeMap<String, String>,
}

impl Parsed {
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        *self
            .samples
            .get(&(name.to_owned(), labels))
            .unwrap_or_else(|| panic!("no {name}"))
    }

    fn total(&self, name: &str) -> f64 {
        let named = self.samples.iter().filter(|((of, _), _)| of == name);
        named.map(|(_, value)| value).sum()
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Labels between braces, and what follows the closing one.
fn labels(mut text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    loop {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(is_name(name), "{name}");
        let mut value = String::new();
        let mut chars = rest.chars();
        loop {
            match chars.next().unwrap() {
                '"' => break,
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("escape {c}"),
                }),
                c => value.push(c),
            }
        }
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name}");
        text = chars.as_str();
        match text.strip_prefix(',') {
            Some(more) => text = more,
            None => return (labels, text.strip_prefix('}').unwrap()),
        }
    }
}

/// Reads a page as the format's specification has it, and panics at the first departure.
fn parse(page: &str) -> Parsed {
    assert!(page.ends_with('\n'), "the last line must end");
    let mut parsed = Parsed::default();
    let mut family = String::new();
    let mut helped = BTreeSet::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(helped.insert(name.to_owned()), "{name} comes twice");
            assert!(!text.is_empty() && !text.contains('\\'), "{line}");
            family = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let ours = name.starts_with("sluice_") || name.starts_with("process_");
            assert!(ours && is_name(name), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            let known = parsed.kinds.insert(name.to_owned(), kind.to_owned());
            assert!(known.is_none(), "{name} comes twice");
        } else {
            let end = line.find(['{', ' ']).unwrap();
            let name = &line[..end];
            let (labels, rest) = match line[end..].strip_prefix('{') {
                Some(inside) => labels(inside),
                None => (Labels::new(), &line[end..]),
            };
            let value: f64 = rest.strip_prefix(' ').unwrap().parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let suffix = name.strip_prefix(&family).unwrap();
            let histogram = parsed.kinds[&family] == "histogram";
            let suffixes: &[&str] = if histogram {
                &["_bucket", "_sum", "_count"]
            } else {
                &[""]
            };
            assert!(suffixes.contains(&suffix), "{line} in {family}");
            assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line}");
            let known = parsed.samples.insert((name.to_owned(), labels), value);
            assert!(known.is_none(), "{line} comes twice");
        }
    }
    buckets_grow_to_the_count(&parsed);
    parsed
}

fn buckets_grow_to_the_count(parsed: &Parsed) {
    let mut series: BTreeMap<(String, Labels), Vec<(f64, f64)>> = BTreeMap::new();
    for ((name, labels), value) in &parsed.samples {
        if let Some(family) = name.strip_suffix("_bucket") {
            let mut labels = labels.clone();
            let le = labels.remove("le").unwrap();
            let le = if le == "+Inf" {
                f64::INFINITY
            } else {
                le.parse().unwrap()
            };
            let of = series.entry((family.to_owned(), labels)).or_default();
            of.push((le, *value));
        }
    }
    for ((family, labels), mut buckets) in series {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{family}");
        let (last, all) = *buckets.last().unwrap();
        assert!(last.is_infinite(), "{family}");
        assert_eq!(
            parsed.samples[&(format!("{family}_count"), labels)],
            all,
            "{family}"
        );
    }
}

#[test]
fn billing_metrics_exist_only_for_incremental_billing() {
    let page = parse(&render(&sources(), Format::Text));
    let main = [("output", "main")];
    for (name, expected) in [
        ("sluice_output_confirmed_bytes_total", 11.0),
        ("sluice_output_billed_bytes_total", 110.0),
    ] {
        assert_eq!(page.value(name, &main), expected);
        assert_eq!(page.total(name), expected, "no other output has any");
    }
}

/// Two workers and two outputs, one of them with two writers, none of them at zero.
fn wall() -> Wall {
    Wall {
        secs: 1_060,
        nanos: 0,
    }
}

fn tls() -> Tls {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        directory.path().join("a.crt"),
        directory.path().join("a.key"),
    );
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let settings = TlsSettings {
        certificate_files: vec![certificate.display().to_string()],
        key_files: vec![key.display().to_string()],
        ..TlsSettings::default()
    };
    Tls::load(
        "listen",
        &settings,
        Protocols::Http1,
        sluice_proxy::runtime::clock::wall,
    )
    .unwrap()
}

fn empty_suppress_list() -> SuppressFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    SuppressFile::load(file.path(), Vec::new()).unwrap()
}

/// A schema of a registry, before there is a copy of it.
fn schemas() -> SchemaSet {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sluice.toml");
    let text = "paths.collect = 'off'\nrouting.schema = 'orders'\n[schemas.orders]\nregistry = 'confluent'\n\
                url = 'http://127.0.0.1:1'\nsubject = 's'\ncache_dir = 'none'\n";
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file), [], &Flags::default(), HostInfo::detect()).unwrap();
    SchemaSet::load(&config.schemas, &config.routing).unwrap()
}

fn sources() -> Sources {
    sources_of(&Arc::default())
}

fn sources_of(drain: &Arc<Drain>) -> Sources {
    let workers: Vec<_> = [1_u64, 10]
        .into_iter()
        .map(|n| {
            let stats = WorkerStats::new(2, 2).with_schemas(1);
            stats.schemas[0].events.add(42 * n);
            stats.schemas[0].violations[1].add(43 * n);
            stats.connections_accepted.add(n);
            stats.connections_capped.add(2 * n);
            stats.connections_capped_by_address.add(30 * n);
            stats.connections_evicted.add(35 * n);
            stats.forwarded_for_untrusted.add(31 * n);
            stats.forwarded_for_invalid.add(32 * n);
            stats.proxy_headers_refused.add(18 * n);
            stats.tls_full.add(36 * n);
            stats.tls_resumed.add(37 * n);
            stats.tls_failed.add(38 * n);
            stats.accept_errors.add(3 * n);
            stats.connections_open.set(4 * n);
            for status in [100, 200, 200, 418, 503, 599, 600, 99] {
                let took = Some(Duration::from_millis(3_800));
                stats.answered(EndpointLabel::Collect, status, took);
            }
            stats.answered(EndpointLabel::Health, 503, None);
            stats.bytes_received.add(33 * n);
            stats.bytes_sent.add(34 * n);
            stats.broken_off.add(5 * n);
            stats.events_received.add(6 * n);
            stats.events_accepted.add(7 * n);
            stats.events_rejected.add(8 * n);
            stats.events_without_topic.add(29 * n);
            stats.budget_bytes.set(9 * n);
            stats.shed_budget.add(10 * n);
            stats.shed_queue.add(11 * n);
            stats.deadline_passed.add(12 * n);
            stats.ack_latency_micros.observe(250);
            stats.ack_latency_micros.observe(99_000_000);
            stats.driver.set(if n == 1 { 1 } else { 3 });
            for (at, rule) in (1..).zip(&stats.rules) {
                rule.events.add(39 * n * at);
                rule.sampled_away.add(40 * n * at);
                rule.without_topic.add(41 * n * at);
            }
            for (at, output) in (1..).zip(&stats.outputs) {
                output.accepted.add(13 * n * at);
                output.delivered.add(14 * n * at);
                output.delivered_late.add(15 * n * at);
                output.pending.set(16 * n * at);
                output.pending_bytes.set(17 * n * at);
                for (cause, refused) in (1..).zip(&output.refused) {
                    refused.add(cause * n * at);
                }
            }
            Arc::new(stats)
        })
        .collect();
    let writer = |n: u64, last_delivery: u64| {
        let stats = WriterStats::default();
        stats.calls.add(n);
        stats.calls_in_flight.set(2 * n);
        stats.held.set(3 * n);
        stats.batch_records.observe(500);
        stats.batch_bytes.observe(5_000_000);
        stats.call_micros.observe(1_500);
        for (cause, retries) in (1..).zip(&stats.retries) {
            retries.add(cause * n);
        }
        stats.last_delivery_micros.set(last_delivery);
        let mut lanes: Lanes<()> = Lanes::default();
        lanes.throttled(LaneId(4), Mono(0));
        stats.show_lanes(lanes.paced().collect(), 2 * n);
        // Of the two writers of one output the first fares well.
        stats.circuit.set(if n == 1 { 0 } else { 2 });
        stats.circuit_opened.add(n);
        Arc::new(stats)
    };
    let bill = |n: u64| {
        let stats = BillingStats::default();
        stats.confirmed_bytes.add(n);
        stats.billed_bytes.add(10 * n);
        Arc::new(stats)
    };
    let stage = StagingStats::default();
    stage.staged_bytes.set(7);
    stage.staged_bytes_max.set(8);
    stage.segments_waiting.set(9);
    stage.oldest_unix_secs.set(1_000);
    stage.objects.add(10);
    stage.object_bytes.add(11);
    stage.attempted(Some(Cause::Throttled));
    let spool = SpoolStats::default();
    spool.spooled_records.add(12);
    spool.waiting_bytes.set(13);
    spool.failing.set(1);
    Sources {
        workers,
        rules: vec!["orders".to_owned(), "unmatched".to_owned()],
        tls: vec![("listen".to_owned(), Arc::new(tls()))],
        outputs: vec![
            OutputSource {
                name: "main".to_owned(),
                queue_bytes_max: 1_000,
                writers: vec![writer(1, 4_000_000), writer(10, 7_500_000)],
                bills: vec![bill(1), bill(10)],
                stage: Some(Arc::new(stage)),
                spool: Some(Arc::new(spool)),
            },
            OutputSource {
                name: "we\"ird\\\n".to_owned(),
                queue_bytes_max: 2_000,
                writers: vec![writer(100, 0)],
                bills: Vec::new(),
                stage: None,
                spool: None,
            },
        ],
        limits: LimitGauges {
            in_flight_bytes_max: 77,
            connections_max: 78,
            connections_per_address_max: 79,
            body_bytes_max: 80,
            ack_deadline: Duration::from_millis(3_900),
        },
        suppressed: Some(Arc::new(empty_suppress_list())),
        schemas: Arc::new(schemas()),
        readiness: Arc::new(Readiness::new(Arc::clone(drain), ["main".to_owned()])),
        started: Wall {
            secs: 1_000,
            nanos: 0,
        },
        now: Box::new(|| Mono(10_000_000)),
        wall,
    }
}

#[test]
fn every_metric_is_the_sum_of_its_blocks() {
    let page = parse(&render(&sources(), Format::Text));
    for (name, expected) in [
        ("sluice_connections_accepted_total", 11.0),
        ("sluice_proxy_headers_refused_total", 198.0),
        ("sluice_accept_errors_total", 33.0),
        ("sluice_connections_open", 44.0),
        ("sluice_requests_broken_off_total", 55.0),
        ("sluice_events_received_total", 66.0),
        ("sluice_events_accepted_total", 77.0),
        ("sluice_events_rejected_total", 88.0),
        ("sluice_events_without_topic_total", 319.0),
        ("sluice_in_flight_bytes", 99.0),
        ("sluice_in_flight_limit_bytes", 77.0),
        ("sluice_ack_deadline_passed_total", 132.0),
        ("sluice_ack_latency_seconds_count", 4.0),
        ("sluice_ack_latency_seconds_sum", 198.0005),
    ] {
        assert_eq!(page.value(name, &[]), expected, "{name}");
    }
    for (name, total) in [
        ("sluice_connections_capped_total", 22.0 + 330.0),
        ("sluice_forwarded_for_ignored_total", 341.0 + 352.0),
    ] {
        assert_eq!(page.total(name), total, "{name}");
    }
    let reason = |reason| page.value("sluice_shed_total", &[("reason", reason)]);
    assert_eq!((reason("budget"), reason("queue")), (110.0, 121.0));

    let main = [("output", "main")];
    let weird = [("output", "we\"ird\\\n")];
    for (name, first, second) in [
        ("sluice_output_accepted_records_total", 143.0, 286.0),
        ("sluice_output_delivered_records_total", 154.0, 308.0),
        ("sluice_output_delivered_late_records_total", 165.0, 330.0),
        ("sluice_output_pending_records", 176.0, 352.0),
        ("sluice_output_pending_bytes", 187.0, 374.0),
        ("sluice_output_calls_total", 11.0, 100.0),
        ("sluice_output_calls_in_flight", 22.0, 200.0),
        ("sluice_output_held_records", 33.0, 300.0),
        ("sluice_output_circuit_state", 0.0, 2.0),
        ("sluice_output_circuit_opened_total", 11.0, 100.0),
        ("sluice_output_batch_records_sum", 1_000.0, 500.0),
        ("sluice_output_batch_bytes_count", 2.0, 1.0),
        ("sluice_output_call_seconds_sum", 0.003, 0.0015),
    ] {
        assert_eq!(page.value(name, &main), first, "{name}");
        assert_eq!(page.value(name, &weird), second, "{name}");
    }
    for (at, cause) in (1_u32..).zip(Cause::ALL) {
        let of = |name: &str| page.value(name, &[("output", "main"), ("cause", cause.label())]);
        let expected = f64::from(11 * at);
        assert_eq!(of("sluice_output_refused_records_total"), expected);
        assert_eq!(of("sluice_output_retries_total"), expected);
    }
}

#[test]
fn staging_metrics_exist_only_with_staging() {
    let text = render(&sources(), Format::Text);
    let page = parse(&text);
    for (name, expected) in [
        ("sluice_output_staged_bytes", 7.0),
        ("sluice_output_staged_limit_bytes", 8.0),
        ("sluice_output_segments_waiting", 9.0),
        ("sluice_output_objects_total", 10.0),
        ("sluice_output_object_bytes_total", 11.0),
        ("sluice_output_oldest_segment_age_seconds", 60.0),
    ] {
        assert_eq!(page.value(name, &[("output", "main")]), expected, "{name}");
        let samples = text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(samples, 1, "{name}");
    }
    let failures = |cause| {
        let labels = [("output", "main"), ("cause", cause)];
        page.value("sluice_output_upload_failures_total", &labels)
    };
    assert_eq!((failures("throttled"), failures("unknown")), (1.0, 0.0));
}

#[test]
fn an_observation_is_in_every_bucket_from_its_own_up() {
    let page = parse(&render(&sources(), Format::Text));
    let below = |le| page.value("sluice_ack_latency_seconds_bucket", &[("le", le)]);
    assert_eq!(below("0.00025"), 2.0);
    assert_eq!(below("10"), 2.0);
    assert_eq!(below("+Inf"), 4.0);
    let calls = |le| {
        let labels = [("output", "main"), ("le", le)];
        page.value("sluice_output_call_seconds_bucket", &labels)
    };
    assert_eq!((calls("0.001"), calls("0.002")), (0.0, 2.0));
}

#[test]
fn common_statuses_have_series_from_the_start() {
    let idle = Sources {
        tls: Vec::new(),
        workers: vec![Arc::new(WorkerStats::new(0, 0))],
        outputs: Vec::new(),
        rules: Vec::new(),
        limits: LimitGauges::default(),
        suppressed: None,
        schemas: Arc::default(),
        readiness: Arc::new(Readiness::new(Arc::default(), [])),
        started: wall(),
        now: Box::new(|| Mono(0)),
        wall,
    };
    let page = parse(&render(&idle, Format::Text));
    for status in ["200", "400", "413", "503"] {
        for endpoint in ["collect", "events"] {
            let labels = [("endpoint", endpoint), ("status", status)];
            assert_eq!(page.value("sluice_responses_total", &labels), 0.0);
        }
    }
    let page = parse(&render(&sources(), Format::Text));
    for (status, expected) in [("100", 2.0), ("200", 4.0), ("418", 2.0), ("599", 2.0)] {
        let labels = [("endpoint", "collect"), ("status", status)];
        let count = page.value("sluice_responses_total", &labels);
        assert_eq!(count, expected, "{status}");
    }
    assert_eq!(page.total("sluice_responses_total"), 14.0);
}

#[test]
fn health_checks_are_not_counted_with_responses_to_events() {
    let page = parse(&render(&sources(), Format::Text));
    let count = |endpoint| {
        let labels = [("endpoint", endpoint), ("status", "503")];
        page.value("sluice_responses_total", &labels)
    };
    assert_eq!((count("collect"), count("health")), (2.0, 2.0));
    let seconds = |le| {
        let labels = [("endpoint", "collect"), ("le", le)];
        page.value("sluice_request_seconds_bucket", &labels)
    };
    assert_eq!((seconds("3"), seconds("3.9")), (0.0, 16.0));
}

#[test]
fn limits_readiness_and_the_process_are_on_the_page() {
    let drain = Arc::default();
    let sources = sources_of(&drain);
    let page = parse(&render(&sources, Format::Text));
    for (name, expected) in [
        ("sluice_connections_limit", 78.0),
        ("sluice_connections_per_address_limit", 79.0),
        ("sluice_body_limit_bytes", 80.0),
        ("sluice_ack_deadline_seconds", 3.9),
        ("sluice_received_bytes_total", 363.0),
        ("sluice_sent_bytes_total", 374.0),
        ("process_start_time_seconds", 1_000.0),
        ("sluice_ready", 0.0),
    ] {
        assert_eq!(page.value(name, &[]), expected, "{name}");
    }
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    ] {
        assert!(page.value(name, &[]) > 0.0, "{name}");
    }
    assert!(page.kinds.contains_key("process_cpu_seconds_total"));
    drain.start();
    let page = parse(&render(&sources, Format::Text));
    assert_eq!(page.value("sluice_ready", &[]), 1.0);
}

#[test]
fn every_sample_is_declared_with_its_type_and_labels() {
    let page = parse(&render(&sources(), Format::Text));
    let declared: BTreeMap<_, _> = FAMILIES.iter().map(|one| (one.name, one)).collect();
    assert_eq!(declared.len(), FAMILIES.len(), "a name is declared twice");
    for (name, kind) in &page.kinds {
        assert_eq!(declared[name.as_str()].kind.label(), kind, "{name}");
    }
    for family in FAMILIES {
        assert!(page.kinds.contains_key(family.name), "{}", family.name);
    }
    for (name, labels) in page.samples.keys() {
        let family = declared.get(name.as_str()).copied().unwrap_or_else(|| {
            let (base, _) = name.rsplit_once('_').unwrap();
            assert_eq!(declared[base].kind, Kind::Histogram, "{name}");
            declared[base]
        });
        let found: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
        let mut expected: BTreeSet<&str> = family.labels.iter().copied().collect();
        if name.ends_with("_bucket") {
            expected.insert("le");
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn openmetrics_differs_in_counter_names_bounds_and_its_end() {
    let page = render(&sources(), Format::OpenMetrics);
    assert!(page.ends_with("\n# EOF\n"));
    assert!(
        page.contains("# TYPE sluice_events_accepted counter\nsluice_events_accepted_total 77\n")
    );
    assert!(page.contains("sluice_ack_latency_seconds_bucket{le=\"1.0\"} 2\n"));
    assert!(page.contains("sluice_ack_latency_seconds_bucket{le=\"0.00025\"} 2\n"));
    // Whatever else differs would be a second page to keep right.
    let same = |line: &&str| !line.starts_with('#') && !line.contains("le=\"");
    let text = render(&sources(), Format::Text);
    let stable = |line: &&str| !line.starts_with("process_");
    let text: Vec<_> = text.lines().filter(same).filter(stable).collect();
    let open: Vec<_> = page.lines().filter(same).filter(stable).collect();
    assert_eq!(open, text);
}

#[test]
fn workers_are_counted_by_driver() {
    let mut sources = sources();
    let odd = WorkerStats::new(0, 0);
    odd.driver.set(99);
    sources.workers.push(Arc::new(odd));
    let page = parse(&render(&sources, Format::Text));
    for (driver, workers) in [
        ("io_uring", 1.0),
        ("io_uring_plain", 0.0),
        ("epoll", 1.0),
        ("unknown", 1.0),
    ] {
        let value = page.value("sluice_driver_workers", &[("driver", driver)]);
        assert_eq!(value, workers, "{driver}");
    }
}

#[test]
fn time_since_delivery_comes_from_the_latest_writer() {
    let page = parse(&render(&sources(), Format::Text));
    let name = "sluice_output_since_delivery_seconds";
    assert_eq!(page.value(name, &[("output", "main")]), 2.5);
    assert_eq!(page.total(name), 2.5);
}

fn start() -> (Admin, Arc<Readiness>, Arc<Drain>) {
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let drain = Arc::default();
    let sources = sources_of(&drain);
    let readiness = Arc::clone(&sources.readiness);
    let admin = Admin::start(address, HostPolicy::default(), sources).unwrap();
    (admin, readiness, drain)
}

/// Sends bytes and reads until the other side closes.
fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // The other side may close before all of an oversized request is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes(),
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[test]
fn the_port_serves_the_page_and_both_probes() {
    let (admin, readiness, drain) = start();
    let at = admin.address();

    let (status, page) = get(at, "/metrics");
    assert_eq!(status, 200);
    assert_eq!(parse(&page).value("sluice_connections_open", &[]), 44.0);

    let open = exchange(
        at,
        b"GET /metrics HTTP/1.1\r\nhost: a\r\naccept: application/openmetrics-text\r\n\r\n",
    );
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(open.ends_with("# EOF\n"));

    assert_eq!(get(at, "/live").0, 200);
    assert_eq!(get(at, "/ready").0, 503);
    drain.start();
    readiness.set_trouble(OutputId(0), Some(Cause::Denied));
    assert_eq!(
        get(at, "/ready"),
        (
            200,
            r#"{"ready":true,"reasons":[],"troubled":{"main":"denied"},"circuits":{}}"#.to_owned()
        )
    );
    drain.refuse();
    let (status, body) = get(at, "/ready");
    assert_eq!(status, 503);
    assert!(body.contains("draining"), "{body}");
    assert_eq!(get(at, "/live").0, 200);
    admin.stop();
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn other_paths_and_methods_are_refused() {
    let (admin, ..) = start();
    assert_eq!(get(admin.address(), "/").0, 404);
    assert_eq!(get(admin.address(), "/metrics/x").0, 404);
    let refused = exchange(
        admin.address(),
        b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    );
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    let head = exchange(admin.address(), b"HEAD /live HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"));
    admin.stop();
}

#[test]
fn one_request_per_connection_and_a_bounded_head() {
    let (admin, ..) = start();
    let request = "GET /live HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = exchange(admin.address(), request.repeat(2).as_bytes());
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");

    let head = |len: usize| {
        let fixed = "GET /live HTTP/1.1\r\nhost: a\r\nx: \r\n\r\n".len();
        let value = "x".repeat(len - fixed);
        let text = format!("GET /live HTTP/1.1\r\nhost: a\r\nx: {value}\r\n\r\n");
        assert_eq!(text.len(), len);
        exchange(admin.address(), text.as_bytes())
    };
    assert!(head(HEAD_BYTES_MAX / 2).starts_with("HTTP/1.1 200 "));
    let over = head(HEAD_BYTES_MAX * 2);
    assert!(!over.starts_with("HTTP/1.1 200 "), "{over}");
    admin.stop();
}

#[test]
fn an_address_in_use_is_an_error_at_start() {
    // Somebody who does not share it; another proxy of the same user would.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Admin::start(address, HostPolicy::default(), sources()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

/// Sends no request but the first byte of one.
fn half_head(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"G").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

#[test]
fn half_open_connections_give_way_to_the_liveness_probe() {
    let (admin, ..) = start();
    let mut half: Vec<TcpStream> = (0..2 * CONNECTIONS_MAX)
        .map(|_| half_head(admin.address()))
        .collect();
    assert_eq!(get(admin.address(), "/live").0, 200);
    // The youngest is still open, which shows that the probe did not wait for the deadline of heads.
    let youngest = half.last_mut().unwrap();
    youngest.set_nonblocking(true).unwrap();
    let error = youngest.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    // The oldest was closed, by the end of the stream or by a reset.
    assert!(matches!(half[0].read(&mut [0]), Ok(0) | Err(_)));
    admin.stop();
}

#[test]
fn a_half_head_is_closed_at_its_deadline() {
    let (admin, ..) = start();
    let mut half = half_head(admin.address());
    // An error would be the time-out of this read.
    half.read_to_end(&mut Vec::new()).unwrap();
    admin.stop();
}

#[test]
fn a_public_host_name_sees_nothing_but_liveness() {
    let (admin, ..) = start();
    let ask = |path: &str, hosts: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{hosts}\r\n");
        exchange(admin.address(), request.as_bytes())[9..12].to_owned()
    };
    for path in ["/metrics", "/ready"] {
        assert_eq!(ask(path, "host: rebound.example\r\n"), "421");
        assert_eq!(ask(path, ""), "400");
        assert_eq!(ask(path, "host: a\r\nhost: b\r\n"), "400");
    }
    assert_eq!(ask("/metrics", "host: 127.0.0.1:9090\r\n"), "200");
    assert_eq!(ask("/live", "host: rebound.example\r\n"), "200");
    admin.stop();
}
