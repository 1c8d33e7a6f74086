//! The generator against a server of which everything is known.

use crate::responder::{Action, BODY_READ_MAX, Responder, ok, status};
use sluice_loadtest::event_id::EventId;
use sluice_loadtest::ledger::{Ack, read_acks};
use sluice_loadtest::run::{
    BodyMode, BodyOptions, CONNECTIONS_MAX, ConnectOptions, Load, OkStatuses, Options, Report,
    RunError, Second, THREADS_MAX, Target, run,
};
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static NO_STOP: AtomicBool = AtomicBool::new(false);

fn options(url: &str, requests: u64) -> Options {
    Options {
        target: Target::parse(url).unwrap(),
        load: Load::Closed,
        connections: 4,
        threads: 1,
        duration: None,
        requests: Some(requests),
        timeout: Duration::from_secs(30),
        connect: ConnectOptions::default(),
        body: BodyOptions {
            mode: BodyMode::Event,
            batch: 1,
            event_bytes: 1024,
            ..BodyOptions::default()
        },
        ok: OkStatuses::default(),
        acks: None,
        hdr_log: None,
        watch: vec![],
        run: 0xabcd,
    }
}

fn go(options: &Options) -> Report {
    run(options, &NO_STOP, |_| {}).unwrap()
}

fn acks(path: &Path) -> Vec<Ack> {
    let mut acks = Vec::new();
    assert!(!read_acks(path, |ack| acks.push(ack)).unwrap());
    acks
}

/// Runs with a file of answers, and checks that it agrees with the report.
fn with_acks(mut options: Options) -> (Report, Vec<Ack>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    options.acks = Some(file.path().to_owned());
    let report = go(&options);
    let acks = acks(file.path());
    assert_eq!(acks.len() as u64, report.sent, "one line per request sent");
    let unanswered = acks.iter().filter(|ack| ack.status.is_none()).count() as u64;
    assert_eq!(unanswered, report.unanswered.values().sum::<u64>());
    assert_eq!(report.sent, report.answered + unanswered);
    for (status, count) in &report.statuses {
        let found = acks
            .iter()
            .filter(|ack| ack.status == Some(*status))
            .count() as u64;
        assert_eq!(found, *count, "status {status}");
    }
    let firsts: HashSet<u64> = acks.iter().map(|ack| ack.first).collect();
    assert_eq!(firsts.len(), acks.len(), "no request twice");
    (report, acks)
}

fn ids_of(acks: &[Ack]) -> HashSet<EventId> {
    let ids = acks.iter().flat_map(|ack| {
        (0..u64::from(ack.count)).map(|at| EventId {
            run: ack.run,
            seq: ack.first + at,
        })
    });
    ids.collect()
}

#[test]
fn every_event_is_sent_once_and_answered_for() {
    for (mode, batch, connections, threads) in [
        (BodyMode::Event, 1, 4, 1),
        (BodyMode::Event, 20, 3, 2),
        (BodyMode::Envelope, 7, 1, 4),
    ] {
        let server = Responder::start(|_| ok(""));
        let mut options = options(&server.url(), 101);
        options.connections = connections;
        options.threads = threads;
        options.body.mode = mode;
        options.body.batch = batch;
        let (report, acks) = with_acks(options);
        assert_eq!((report.sent, report.answered), (101, 101));
        assert!(report.all_ok());
        assert!(!report.interrupted);
        assert_eq!(report.events_ok, 101 * u64::from(batch));
        assert_eq!(report.latency_from_start.count, 101);
        assert_eq!(report.connects, connections as u64, "connections are kept");
        let received = server.received();
        let distinct: HashSet<EventId> = received.iter().copied().collect();
        assert_eq!(distinct.len(), received.len(), "no event twice");
        assert_eq!(distinct, ids_of(&acks));
        assert!(received.iter().all(|id| id.run == 0xabcd));
    }
}

#[test]
fn requests_are_what_the_mode_says() {
    for (mode, line) in [
        (BodyMode::Event, "POST /v1/events HTTP/1.1"),
        (BodyMode::Envelope, "POST /collect?appId=shop&"),
    ] {
        let server = Responder::start(move |request| {
            let right = request.head.starts_with(line)
                && request.head.contains("Content-Type: application/json\r\n")
                && serde_json::from_slice::<serde_json::Value>(&request.body).is_ok();
            status(if right { 200 } else { 400 })
        });
        let mut options = options(&server.url(), 10);
        options.body.mode = mode;
        assert!(go(&options).all_ok(), "{mode:?}");
    }
}

#[test]
fn answers_are_counted_by_status() {
    let server = Responder::start(|request| {
        status(match request.number % 10 {
            0..=2 => 503,
            3 => 413,
            _ => 200,
        })
    });
    let (report, _) = with_acks(options(&server.url(), 100));
    let statuses: Vec<(u16, u64)> = report.statuses.clone().into_iter().collect();
    assert_eq!(statuses, [(200, 60), (413, 10), (503, 30)]);
    assert_eq!(report.events_ok, 60);
    assert!(!report.all_ok());
}

#[test]
fn only_statuses_in_ok_are_a_success() {
    let server = Responder::start(|request| status([200, 202, 204, 201][request.number % 4]));
    let mut options = options(&server.url(), 40);
    options.ok = "200,202,204".parse().unwrap();
    let (report, _) = with_acks(options.clone());
    assert_eq!((report.ok, report.events_ok), (30, 30));
    assert!((report.error_share() - 0.25).abs() < 1e-9);
    assert!(!report.all_ok());
    let series = |of: fn(&Second) -> u64| report.series.iter().map(of).sum::<u64>();
    assert_eq!((series(|s| s.ok), series(|s| s.other)), (30, 10));
    assert!(
        report
            .to_string()
            .contains("events answered 200, 202 or 204")
    );

    options.ok = "200,201,202,204".parse().unwrap();
    let report = go(&options);
    assert!(report.all_ok(), "{report}");
}

#[test]
fn events_refused_in_an_answer_of_200_are_written_down() {
    let server =
        Responder::start(|_| ok(r#"{"accepted":3,"rejected":[{"index":1,"code":"not_json"}]}"#));
    let mut options = options(&server.url(), 10);
    options.body.batch = 4;
    let (report, acks) = with_acks(options);
    assert_eq!((report.events_ok, report.events_refused), (30, 10));
    assert!(acks.iter().all(|ack| ack.refused == [1]));
    assert!(!report.all_ok());
}

#[test]
fn unanswered_requests_are_counted_by_failure_without_retry() {
    for (label, fault) in [
        ("reset", 0),
        ("closed", 1),
        ("closed", 2),
        ("bad_answer", 3),
        ("answer_too_large", 4),
    ] {
        let server = Responder::start(move |request| {
            if request.number % 5 != 2 {
                return status(200);
            }
            match fault {
                0 => Action::Reset,
                1 => Action::SendAndClose(vec![]),
                2 => {
                    Action::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_vec())
                }
                3 => Action::Send(b"<html>it works</html>\r\n\r\n".to_vec()),
                _ => Action::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_vec()),
            }
        });
        let (report, _) = with_acks(options(&server.url(), 50));
        let unanswered: Vec<(String, u64)> = report.unanswered.clone().into_iter().collect();
        assert_eq!(unanswered, [(label.to_owned(), 10)]);
        assert_eq!((report.sent, report.answered), (50, 40));
        assert_eq!(report.latency_from_start.count, 50, "{label}");
        assert!(report.connects > 4, "lost connections are opened again");
        let received = server.received();
        let distinct: HashSet<EventId> = received.iter().copied().collect();
        assert_eq!((received.len(), distinct.len()), (50, 50));
    }
}

#[test]
fn a_request_without_an_answer_in_time_is_given_up() {
    let server = Responder::start(|request| match request.number {
        3 => Action::Silence,
        _ => status(200),
    });
    let mut options = options(&server.url(), 10);
    options.connections = 1;
    options.timeout = Duration::from_millis(500);
    let (report, acks) = with_acks(options);
    // On a machine that stalls, more than the silent one may be late.
    assert!(report.unanswered["timeout"] >= 1);
    assert_eq!(report.sent, 10);
    assert!(
        acks.iter()
            .any(|ack| ack.first == 3 && ack.status.is_none())
    );
}

#[test]
fn a_close_after_the_response_is_no_failure() {
    let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let server = Responder::start(|_| Action::SendAndClose(answer.to_vec()));
    let (report, _) = with_acks(options(&server.url(), 20));
    assert!(report.all_ok());
    assert_eq!(report.closed_by_server, 20);
    assert!(report.connects >= 20);
}

#[test]
fn an_early_response_ends_the_connection() {
    // Far more than socket buffers hold, so that most of it is unwritten when the answer comes.
    let server = Responder::start(|request| match request.body.is_empty() {
        true => Action::SendAndStop(b"HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n".to_vec()),
        false => status(200),
    });
    let mut options = options(&server.url(), 6);
    options.connections = 1;
    options.body.event_bytes = 2 * BODY_READ_MAX;
    let (report, _) = with_acks(options);
    assert_eq!(report.statuses.get(&413), Some(&6));
    assert!(report.connects >= 6);
}

#[test]
fn answers_in_chunks_and_after_100_continue_are_understood() {
    let server = Responder::start(|request| {
        Action::Send(match request.number % 2 {
            0 => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                .to_vec(),
            _ => b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        })
    });
    let (report, _) = with_acks(options(&server.url(), 40));
    assert!(report.all_ok());
    assert_eq!(report.connects, 4);
}

#[test]
fn an_open_loop_starts_rate_times_duration_requests() {
    let server = Responder::start(|_| status(200));
    let mut options = options(&server.url(), 1);
    options.load = Load::Open { per_second: 500.0 };
    options.requests = None;
    options.duration = Some(Duration::from_millis(400));
    options.threads = 2;
    let (report, _) = with_acks(options);
    assert_eq!(report.sent + report.unsent, 200);
    assert!(report.sent > 0);
    assert_eq!(report.schedule_slip.unwrap().count, report.sent);
    assert_eq!(report.latency_from_intended_start.unwrap().count, 200);
    assert_eq!(report.latency_from_start.count, report.sent);
}

/// A run at a constant rate for a second.
fn one_second(url: &str, per_second: f64, connections: usize) -> Options {
    let mut options = options(url, 1);
    options.load = Load::Open { per_second };
    options.requests = None;
    options.duration = Some(Duration::from_secs(1));
    options.connections = connections;
    options
}

#[test]
fn unsent_requests_are_failures_and_in_percentiles() {
    let server = Responder::start(|_| {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        Action::SendAfter(Duration::from_millis(700), answer.to_vec())
    });
    let report = go(&one_second(&server.url(), 100.0, 1));
    assert_eq!(report.statuses.get(&200), Some(&report.answered));
    assert!(report.unsent >= 98, "{report}");
    assert_eq!(
        (report.due(), report.never_answered()),
        (100, report.unsent)
    );
    assert!(!report.all_ok());
    let share = report.unsent as f64 / 100.0;
    assert!((report.error_share() - share).abs() < 1e-9);
    let intended = report.latency_from_intended_start.unwrap();
    assert_eq!(intended.count, 100);
    // The run ends with the second answer, after 1.4 s; half of the requests were due before 0.5 s.
    assert!(intended.p50_us >= 800_000.0, "{intended:?}");
    let text = report.to_string();
    assert!(text.contains("due and never sent"), "{text}");
    assert!(text.contains(" of 100 due, 9"), "{text}");
}

#[test]
fn a_freeze_at_the_end_is_in_percentiles() {
    let server = Responder::start(|request| match request.number {
        0..50 => status(200),
        _ => Action::Silence,
    });
    let mut options = one_second(&server.url(), 100.0, 4);
    options.timeout = Duration::from_secs(1);
    let report = go(&options);
    assert_eq!(report.due(), 100);
    assert!(report.never_answered() >= 50, "{report}");
    let intended = report.latency_from_intended_start.unwrap();
    assert_eq!(intended.count, 100);
    // The last request of the frozen server is given up a second after it was sent at the earliest,
    // half a second into the run; by then the others have waited for half a second.
    assert!(intended.p90_us >= 500_000.0, "{intended:?}");
    assert!(report.latency_from_start.max_us >= 1_000_000.0, "{report}");
}

#[test]
fn one_percent_hanging_requests_is_in_p99_9() {
    let server = Responder::start(|request| match request.number % 100 {
        50 => Action::Silence,
        _ => status(200),
    });
    let mut options = one_second(&server.url(), 200.0, 4);
    options.timeout = Duration::from_millis(700);
    let report = go(&options);
    assert!(report.unanswered["timeout"] >= 2, "{report}");
    let intended = report.latency_from_intended_start.unwrap();
    assert!(intended.p99_9_us >= 700_000.0, "{intended:?}");
    assert!(report.latency_from_start.p99_9_us >= 700_000.0, "{report}");
    let series = report.series.iter().map(|second| second.max_us);
    assert!(series.fold(0.0, f64::max) >= 700_000.0);
}

#[test]
fn a_stall_shows_in_latency_from_the_intended_start() {
    let server = Responder::start(|request| match request.number {
        20 => Action::SendAfter(
            Duration::from_millis(400),
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ),
        _ => status(200),
    });
    let mut options = options(&server.url(), 100);
    options.load = Load::Open { per_second: 200.0 };
    options.connections = 1;
    let report = go(&options);
    assert_eq!(report.answered, 100);
    // 80 requests are due in the 400 ms after the stall begins, 5 ms apart: 40 of the 100 wait
    // for at least 200 ms. A slow machine only makes it more.
    let intended = report.latency_from_intended_start.unwrap();
    assert!(intended.p90_us >= 200_000.0, "{intended:?}");
    assert!(intended.max_us >= 399_000.0, "{intended:?}");
    assert!(report.latency_from_start.max_us >= 399_000.0);
}

#[test]
fn the_stop_flag_ends_a_run_with_a_report() {
    let stop = AtomicBool::new(false);
    let server = Responder::start(|request| match request.number {
        30 => Action::Silence,
        _ => status(200),
    });
    let mut options = options(&server.url(), 1);
    options.requests = None;
    options.duration = Some(Duration::from_secs(3_600));
    let mut told = 0;
    let report = run(&options, &stop, |progress| {
        told += 1;
        assert!(progress.sent >= progress.answered);
        stop.store(true, Ordering::Relaxed);
    })
    .unwrap();
    assert!(told > 0);
    assert!(report.interrupted);
    assert!(report.answered > 0);
    assert_eq!(report.unanswered["interrupted"], 1);
    assert_eq!(report.sent, report.answered + 1);
}

#[test]
fn a_dead_target_ends_a_run_without_duration() {
    let server = Responder::start(|_| status(200));
    let stop = AtomicBool::new(false);
    let mut options = options(&server.url(), 100_000_000);
    options.timeout = Duration::from_millis(200);
    let mut server = Some(server);
    let report = run(&options, &stop, |_| drop(server.take())).unwrap();
    assert!(report.interrupted);
    assert!(report.connect_failures["connect_refused"] > 0);
    assert!(report.answered > 0 && report.sent < 100_000_000);
    assert_eq!(report.due(), 100_000_000);
    assert!(!report.all_ok());
}

#[test]
fn an_unreachable_target_is_an_error_with_its_address() {
    let refused = options("http://127.0.0.1:1", 1);
    let error = run(&refused, &NO_STOP, |_| {}).unwrap_err();
    assert!(matches!(error, RunError::Unreachable { .. }));
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn options_out_of_range_are_refused_with_the_range() {
    let server = Responder::start(|_| status(200));
    let valid = options(&server.url(), 1);
    let error = |change: &dyn Fn(&mut Options)| {
        let mut options = valid.clone();
        change(&mut options);
        run(&options, &NO_STOP, |_| {}).unwrap_err().to_string()
    };
    assert_eq!(
        error(&|options| options.connections = CONNECTIONS_MAX + 1),
        "connections must be between 1 and 100000, not 100001"
    );
    assert_eq!(
        error(&|options| options.threads = THREADS_MAX + 1),
        "threads must be between 1 and 256, not 257"
    );
    assert!(error(&|options| options.connections = 0).contains("not 0"));
    assert!(error(&|options| options.threads = 0).contains("not 0"));
    assert!(error(&|options| options.requests = Some(0)).contains("requests must be"));
    assert!(error(&|options| options.timeout = Duration::ZERO).contains("timeout"));
    for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let rate = error(&move |options| options.load = Load::Open { per_second });
        assert!(rate.contains("rate must be"), "{rate}");
    }
    assert!(error(&|options| options.requests = None).contains("needs a duration"));
    assert!(error(&|options| options.body.batch = 0).contains("batch must be"));
}
