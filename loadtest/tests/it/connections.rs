//! Connections of every kind, against servers that say what came on which of them.

use crate::responder::{Action, Request, Responder, ok, status};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use sluice_loadtest::ledger::{Ack, read_acks};
use sluice_loadtest::run::{
    AddressFamily, BodyOptions, ConnectError, ConnectOptions, Load, OkStatuses, Options, Report,
    RunError, Target, run,
};
use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::NamedTempFile;

fn options(url: &str, requests: u64, connect: ConnectOptions) -> Options {
    Options {
        target: Target::parse(url).unwrap(),
        load: Load::Closed,
        connections: 2,
        connect,
        threads: 1,
        duration: None,
        requests: Some(requests),
        timeout: Duration::from_secs(30),
        body: BodyOptions::default(),
        ok: OkStatuses::default(),
        acks: None,
        hdr_log: None,
        watch: vec![],
        run: 0xabcd,
    }
}

fn try_run(options: &Options) -> Result<Report, RunError> {
    run(options, &AtomicBool::new(false), |_| {})
}

fn go(options: &Options) -> Report {
    try_run(options).unwrap()
}

fn closing(n: u64) -> ConnectOptions {
    ConnectOptions {
        requests_per_connection: Some(n),
        ..ConnectOptions::default()
    }
}

fn is_last(request: &Request) -> bool {
    request.head.contains("\r\nConnection: close\r\n")
}

/// Closes when it is told to, as a good server does.
fn polite(request: &Request) -> Action {
    if is_last(request) {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return Action::SendAndClose(answer.to_vec());
    }
    ok("")
}

#[test]
fn the_last_request_of_a_connection_says_close() {
    for (n, closes) in [(1, true), (3, true), (1, false), (3, false)] {
        let seen = Arc::new(Mutex::new(HashMap::<usize, Vec<bool>>::new()));
        let log = Arc::clone(&seen);
        let server = Responder::start(move |request| {
            let mut seen = log.lock().unwrap();
            let last = is_last(request);
            seen.entry(request.connection).or_default().push(last);
            if closes { polite(request) } else { ok("") }
        });
        let mut options = options(&server.url(), 30, closing(n));
        options.connections = 1;
        let report = go(&options);
        assert!(report.all_ok());
        assert_eq!(report.closed_by_server, 0, "it was told to");
        assert_eq!(server.received().len(), 30);
        let seen = seen.lock().unwrap();
        let mut expected = vec![false; n as usize - 1];
        expected.push(true);
        let whole = seen.values().filter(|lasts| **lasts == expected).count() as u64;
        assert_eq!(whole, 30 / n, "{seen:?}");
    }
}

#[test]
fn a_last_answer_may_end_with_its_connection() {
    let answer = "HTTP/1.1 200 OK\r\n\r\nno length";
    let server = Responder::start(move |_| Action::SendAndClose(answer.into()));
    let report = go(&options(&server.url(), 6, closing(1)));
    assert!(report.all_ok(), "{report}");
    assert_eq!(report.closed_by_server, 0, "it was told to");
    assert!(report.connects >= 6);
}

const LATE: Duration = Duration::from_millis(60);

/// Requests per second at which a connection that is opened in advance has waited for [`LATE`]
/// before its request comes.
const SELDOM: Load = Load::Open { per_second: 10.0 };

/// A server that is late with each connection, and a run of a connection per request against it.
fn late(tls: Option<&Certified>, load: Load) -> Report {
    let config = tls.map(|certified| Arc::clone(&certified.config));
    let server = Responder::start_late("127.0.0.1:0", config, LATE, polite);
    let connect = ConnectOptions {
        requests_per_connection: Some(1),
        ca: tls.map(|certified| certified.pem.path().to_owned()),
        ..ConnectOptions::default()
    };
    let mut options = options(&server.url(), 10, connect);
    options.load = load;
    let report = go(&options);
    assert!(report.all_ok(), "{report}");
    assert_eq!(report.connects, 10, "none is opened that no request needs");
    report
}

#[test]
fn a_connection_per_request_has_its_opening_in_every_latency() {
    let late_us = LATE.as_secs_f64() * 1e6;
    let certified = certified("127.0.0.1", &TLS13);
    for tls in [None, Some(&certified)] {
        for load in [SELDOM, Load::Closed] {
            let report = late(tls, load);
            let intended = report.latency_from_intended_start;
            let latencies = [Some(report.latency_from_start), intended];
            for latency in latencies.into_iter().flatten() {
                assert_eq!(latency.count, 10);
                // None is faster than the server is late; the histogram keeps three digits.
                assert!(latency.p50_us >= late_us * 0.999, "{latency:?}");
            }
            assert_eq!(report.tcp_connect.count, 10);
            match tls {
                None => assert_eq!(report.tls_handshake, None),
                Some(_) => {
                    let handshake = report.tls_handshake.unwrap();
                    assert_eq!(handshake.count, 10);
                    assert!(handshake.p50_us >= late_us * 0.999, "{handshake:?}");
                    // The kernel connects without the server.
                    assert!(report.tcp_connect.p50_us < handshake.p50_us);
                }
            }
        }
    }
}

#[test]
fn reopening_a_connection_counts_in_the_next_latency() {
    let certified = certified("127.0.0.1", &TLS13);
    let config = Some(Arc::clone(&certified.config));
    let server = Responder::start_late("127.0.0.1:0", config, LATE, |_| {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        Action::SendAndClose(answer.to_vec())
    });
    let mut options = options(&server.url(), 10, trusting(&certified.pem));
    options.connections = 1;
    let report = go(&options);
    assert!(report.all_ok(), "{report}");
    let latency = report.latency_from_start;
    assert!(
        latency.p50_us >= LATE.as_secs_f64() * 999_000.0,
        "{latency:?}"
    );
}

#[test]
fn a_request_whose_connection_is_refused_is_unanswered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // The first connection only tries whether there is anybody.
    let one = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let mut options = options(&url, 5, closing(1));
    options.timeout = Duration::from_millis(300);
    let acks = NamedTempFile::new().unwrap();
    options.acks = Some(acks.path().to_owned());
    let report = go(&options);
    one.join().unwrap();
    assert_eq!((report.answered, report.due()), (0, 5));
    assert!(report.unanswered["connect_refused"] > 0, "{report}");
    assert_eq!(report.sent, report.unanswered.values().sum::<u64>());
    assert_eq!(report.latency_from_start.count, report.sent);
    assert!(!report.all_ok());
    let mut unanswered = 0;
    read_acks(acks.path(), |ack| {
        assert_eq!(ack.status, None);
        unanswered += 1;
    })
    .unwrap();
    assert_eq!(unanswered, report.sent);
}

#[test]
fn without_a_number_connections_are_kept() {
    let server = Responder::start(polite);
    let report = go(&options(&server.url(), 30, ConnectOptions::default()));
    assert!(report.all_ok());
    assert_eq!(report.connects, 2);
}

fn pipelining(depth: usize) -> ConnectOptions {
    ConnectOptions {
        pipeline: depth,
        ..ConnectOptions::default()
    }
}

fn plain(status: u16) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn pipelined_responses_are_matched_in_order() {
    // Says nothing before the fourth request of each four, then answers all at once.
    let server = Responder::start(|request| match request.number % 4 {
        3 => Action::Send([200, 503, 200, 413].map(plain).concat().into_bytes()),
        _ => Action::Silence,
    });
    let mut options = options(&server.url(), 40, pipelining(4));
    options.connections = 1;
    let acks = NamedTempFile::new().unwrap();
    options.acks = Some(acks.path().to_owned());
    let report = go(&options);
    assert_eq!((report.answered, report.connects), (40, 1));
    assert_eq!(report.unanswered.len(), 0);
    let mut statuses = Vec::new();
    read_acks(acks.path(), |ack| {
        statuses.push((ack.first, ack.status.unwrap()))
    })
    .unwrap();
    let received = server.received();
    for (at, (first, status)) in statuses.into_iter().enumerate() {
        assert_eq!(first, received[at].seq);
        assert_eq!(status, [200, 503, 200, 413][at % 4], "request {at}");
    }
}

#[test]
fn pipelined_answers_may_come_in_any_pieces() {
    let answers = [200, 503, 200, 413].map(plain).concat().into_bytes();
    for cut in 1..answers.len() {
        let (head, tail) = answers.split_at(cut);
        let (head, tail) = (head.to_vec(), tail.to_vec());
        // The first part comes while two requests are still to come.
        let server = Responder::start(move |request| match request.number % 4 {
            1 if cut < 80 => Action::Send(head.clone()),
            3 if cut < 80 => Action::Send(tail.clone()),
            3 => Action::SendAfter(Duration::ZERO, [head.clone(), tail.clone()].concat()),
            _ => Action::Silence,
        });
        let mut options = options(&server.url(), 4, pipelining(4));
        options.connections = 1;
        let report = go(&options);
        assert_eq!(report.answered, 4, "cut at {cut}");
        let statuses: Vec<(u16, u64)> = report.statuses.into_iter().collect();
        assert_eq!(statuses, [(200, 2), (413, 1), (503, 1)], "cut at {cut}");
    }
}

#[test]
fn requests_behind_a_close_are_unanswered_and_never_counted_twice() {
    let server = Responder::start(|request| match request.number % 4 {
        3 => Action::SendAndClose([200, 200].map(plain).concat().into_bytes()),
        _ => Action::Silence,
    });
    let mut options = options(&server.url(), 40, pipelining(4));
    options.connections = 1;
    let acks = NamedTempFile::new().unwrap();
    options.acks = Some(acks.path().to_owned());
    let report = go(&options);
    let (mut answered, mut firsts) = (0, HashSet::new());
    let add = |ack: Ack| {
        answered += u64::from(ack.status.is_some());
        assert!(firsts.insert(ack.first), "a request twice");
    };
    read_acks(acks.path(), add).unwrap();
    assert_eq!((report.sent, firsts.len()), (40, 40));
    assert_eq!(report.answered, answered);
    assert!((1..=20).contains(&answered), "{answered}");
    // Reset where the server had not read everything when it closed.
    let unanswered: u64 = ["closed", "reset"]
        .iter()
        .filter_map(|how| report.unanswered.get(*how))
        .sum();
    assert_eq!(answered + unanswered, 40, "{report}");
}

#[test]
fn a_pipeline_ends_with_the_last_request_of_its_connection() {
    let server = Responder::start(polite);
    let connect = ConnectOptions {
        pipeline: 8,
        ..closing(5)
    };
    let report = go(&options(&server.url(), 50, connect));
    assert!(report.all_ok(), "{report}");
    assert_eq!(report.closed_by_server, 0);
    assert_eq!(server.received().len(), 50);
}

#[test]
fn numbers_out_of_range_are_refused() {
    for connect in [pipelining(0), pipelining(1_025), closing(0)] {
        let error = try_run(&options("http://127.0.0.1:1", 1, connect)).unwrap_err();
        assert!(matches!(error, RunError::Range { .. }), "{error}");
        assert!(error.is_bad_argument());
    }
}

/// A certificate for a name, and a server that has it.
struct Certified {
    pem: NamedTempFile,
    config: Arc<ServerConfig>,
}

fn certified(name: &str, version: &'static rustls::SupportedProtocolVersion) -> Certified {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let pem = NamedTempFile::new().unwrap();
    std::fs::write(pem.path(), cert.pem()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    Certified {
        pem,
        config: Arc::new(config),
    }
}

fn trusting(pem: &NamedTempFile) -> ConnectOptions {
    ConnectOptions {
        ca: Some(pem.path().to_owned()),
        ..ConnectOptions::default()
    }
}

#[test]
fn requests_go_through_tls_of_both_versions() {
    for version in [&TLS12, &TLS13] {
        let certified = certified("127.0.0.1", version);
        let config = Some(Arc::clone(&certified.config));
        let server = Responder::start_on("127.0.0.1:0", config, polite);
        for connect in [
            trusting(&certified.pem),
            ConnectOptions {
                insecure: true,
                ..ConnectOptions::default()
            },
            ConnectOptions {
                requests_per_connection: Some(2),
                ..trusting(&certified.pem)
            },
            ConnectOptions {
                pipeline: 4,
                ..trusting(&certified.pem)
            },
        ] {
            let report = go(&options(&server.url(), 40, connect.clone()));
            assert!(report.all_ok(), "{connect:?}: {report}");
            assert_eq!(report.target, server.url());
        }
        assert_eq!(server.received().len(), 160);
    }
}

#[test]
fn large_bodies_and_answers_pass_through_tls_whole() {
    let certified = certified("127.0.0.1", &TLS13);
    let config = Some(Arc::clone(&certified.config));
    let large = "x".repeat(700_000);
    let server = Responder::start_on("127.0.0.1:0", config, move |_| ok(&large));
    let mut options = options(&server.url(), 10, trusting(&certified.pem));
    options.body.event_bytes = 3 << 20;
    let report = go(&options);
    assert!(report.all_ok(), "{report}");
    assert_eq!(server.received().len(), 10);
    assert!(report.bytes_in > 7_000_000);
}

#[test]
fn a_certificate_that_is_not_trusted_is_one_clear_error() {
    let other = certified("127.0.0.1", &TLS13);
    let wrong_name = certified("shop.example", &TLS13);
    let server = Responder::start_on("127.0.0.1:0", Some(Arc::clone(&wrong_name.config)), polite);
    for (connect, part) in [
        (ConnectOptions::default(), "UnknownIssuer"),
        (trusting(&other.pem), "certificate"),
        (trusting(&wrong_name.pem), "not valid for name"),
    ] {
        let error = try_run(&options(&server.url(), 1, connect)).unwrap_err();
        assert!(!error.is_bad_argument());
        let text = error.to_string();
        assert!(text.contains("cannot connect to 127.0.0.1:"), "{text}");
        assert!(text.contains(part), "{part}: {text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn tls_against_a_server_without_it_is_one_clear_error() {
    let server = Responder::start(|_| status(200));
    let url = server.url().replace("http:", "https:");
    let mut options = options(&url, 1, ConnectOptions::default());
    options.timeout = Duration::from_millis(300);
    let error = try_run(&options).unwrap_err();
    assert!(matches!(error, RunError::Unreachable { .. }), "{error}");
}

#[test]
fn options_for_tls_need_tls_and_a_file_with_certificates() {
    let not_pem = NamedTempFile::new().unwrap();
    std::fs::write(not_pem.path(), "no certificate").unwrap();
    let refused = |url: &str, connect| match try_run(&options(url, 1, connect)) {
        Err(RunError::Connect(error)) => error,
        other => panic!("{other:?}"),
    };
    let insecure = ConnectOptions {
        insecure: true,
        ..ConnectOptions::default()
    };
    let error = refused("http://127.0.0.1:1", insecure.clone());
    assert!(matches!(error, ConnectError::NoTls { .. }), "{error}");
    let error = refused("https://127.0.0.1:1", trusting(&not_pem));
    assert!(error.to_string().contains("no certificate"), "{error}");
    let missing = ConnectOptions {
        ca: Some(PathBuf::from("/nonexistent/ca.pem")),
        ..ConnectOptions::default()
    };
    let error = refused("https://127.0.0.1:1", missing.clone());
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    let both = ConnectOptions {
        insecure: true,
        ..missing
    };
    let error = refused("https://127.0.0.1:1", both);
    assert_eq!(error, ConnectError::CaAndInsecure);
}

#[test]
fn addresses_are_of_the_family_asked_for() {
    let family = |family| ConnectOptions {
        family,
        ..ConnectOptions::default()
    };
    let works = |server: &Responder, right, wrong, missing: &str| {
        for family in [right, AddressFamily::Any].map(family) {
            assert!(go(&options(&server.url(), 10, family)).all_ok());
        }
        let error = try_run(&options(&server.url(), 1, family(wrong))).unwrap_err();
        assert!(error.to_string().contains(missing), "{error}");
    };
    let four = Responder::start(polite);
    works(
        &four,
        AddressFamily::V4,
        AddressFamily::V6,
        "no IPv6 address",
    );
    // A name that may have both.
    let url = four.url().replace("127.0.0.1", "localhost");
    assert!(go(&options(&url, 10, family(AddressFamily::V4))).all_ok());
    // Containers are often without.
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let six = Responder::start_on("[::1]:0", None, polite);
    works(
        &six,
        AddressFamily::V6,
        AddressFamily::V4,
        "no IPv4 address",
    );
}
