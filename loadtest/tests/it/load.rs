//! Loads that change over time, and what a report tells about each second.

use crate::responder::{Responder, status};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use sluice_loadtest::run::{
    BodyMode, BodyOptions, ConnectOptions, Load, OkStatuses, Options, Report, Target, Trace,
    WATCHED_MAX, run,
};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn options(url: &str, load: Load, seconds: Option<f64>) -> Options {
    Options {
        target: Target::parse(url).unwrap(),
        load,
        connections: 16,
        threads: 2,
        duration: seconds.map(Duration::from_secs_f64),
        requests: None,
        timeout: Duration::from_secs(30),
        body: BodyOptions {
            mode: BodyMode::Event,
            batch: 2,
            event_bytes: 400,
            ..BodyOptions::default()
        },
        connect: ConnectOptions::default(),
        ok: OkStatuses::default(),
        acks: None,
        hdr_log: None,
        watch: vec![],
        run: 9,
    }
}

fn go(options: &Options) -> Report {
    run(options, &AtomicBool::new(false), |_| {}).unwrap()
}

fn decode(text: &str) -> Histogram<u64> {
    let bytes = base64_simd::STANDARD.decode_to_vec(text).unwrap();
    Deserializer::new().deserialize(&mut &bytes[..]).unwrap()
}

/// What must hold for the series of any run that was not interrupted.
fn check_series(report: &Report) {
    let sum = |count: fn(&sluice_loadtest::run::Second) -> u64| -> u64 {
        report.series.iter().map(count).sum()
    };
    assert_eq!(sum(|second| second.sent), report.sent);
    assert_eq!(
        sum(|s| s.ok + s.other + s.client_errors + s.server_errors),
        report.answered
    );
    assert_eq!(sum(|second| second.events_ok), report.events_ok);
    let unanswered: u64 = report.unanswered.values().sum();
    assert_eq!(sum(|second| second.unanswered), unanswered);
    if report.load.rate.is_some() {
        let intended = sum(|second| second.intended.unwrap());
        assert_eq!(intended, report.sent + report.unsent);
    }
    let (last, whole) = report.series.split_last().unwrap();
    for (index, second) in (1..).zip(whole) {
        assert_eq!(second.at, f64::from(index), "{second:?}");
    }
    assert_eq!(last.in_flight, 0, "{last:?}");
    for second in &report.series {
        let rising = [
            second.p50_us,
            second.p90_us,
            second.p99_us,
            second.p99_9_us,
            second.p99_99_us,
        ];
        assert!(rising.is_sorted(), "{second:?}");
        // The histogram rounds up to 0.1 %; nobody starts before they are meant to.
        let from_start = second.p50_from_start_us.unwrap_or(0.0);
        assert!(from_start <= second.p50_us * 1.001, "{second:?}");
        let open = report.load.rate.is_some() && second.ok > 0;
        assert_eq!(second.max_from_start_us.is_some_and(|us| us > 0.0), open);
    }
}

#[test]
fn every_load_shape_follows_its_rate_each_second() {
    let trace = Trace::parse("0 50\n0.5 150\n1 0\n1.5 100\n2 0").unwrap();
    for (load, seconds, per_second) in [
        (Load::Open { per_second: 100.0 }, Some(2.0), [100, 100]),
        (
            Load::Ramp {
                from: 0.0,
                to: 200.0,
            },
            Some(2.0),
            [50, 150],
        ),
        (
            Load::Step {
                from: 40.0,
                to: 160.0,
                steps: 2,
            },
            Some(2.0),
            [40, 160],
        ),
        (
            Load::Burst {
                base: 20.0,
                factor: 10.0,
                at: 1.25,
                seconds: 0.5,
            },
            Some(2.0),
            [20, 110],
        ),
        (Load::Trace(trace), None, [100, 50]),
    ] {
        let server = Responder::start(|_| status(200));
        let report = go(&options(&server.url(), load, seconds));
        check_series(&report);
        for (second, expected) in report.series.iter().zip(per_second) {
            assert_eq!(second.intended, Some(expected), "{}", report.load.schedule);
        }
        let mean = report.load.rate.unwrap();
        let expected = (per_second[0] + per_second[1]) as f64 / 2.0;
        assert!((mean - expected).abs() < 0.5, "{mean}");
        assert!(!report.interrupted);
    }
}

#[test]
fn series_histograms_and_log_agree() {
    for load in [Load::Open { per_second: 150.0 }, Load::Closed] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let server = Responder::start(|request| {
            status(match request.number % 10 {
                0 => 503,
                1 => 413,
                2 => 204,
                _ => 200,
            })
        });
        let mut options = options(&server.url(), load.clone(), Some(1.3));
        options.hdr_log = Some(file.path().to_owned());
        options.watch = vec![std::process::id()];
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let report = go(&options);
        check_series(&report);
        for second in &report.series[..1] {
            let (ok, errors) = (second.ok, second.client_errors + second.server_errors);
            assert!(ok > second.other && second.other > 0 && errors > 0);
            assert!(second.max_us > 0.0 && second.p50_us <= second.max_us * 1.001);
        }

        let open = load != Load::Closed;
        let from_start = decode(&report.histogram_from_start);
        assert_eq!(from_start.len(), report.answered);
        let intended = report.histogram_from_intended_start.as_deref().map(decode);
        assert_eq!(intended.is_some(), open);
        let overall = intended.as_ref().unwrap_or(&from_start);
        let p99 = overall.value_at_quantile(0.99) as f64 / 1e3;
        let latency = report.latency_from_intended_start;
        assert_eq!(p99, latency.unwrap_or(report.latency_from_start).p99_us);

        let (mut untagged, mut tagged) = (from_start.clone(), from_start.clone());
        untagged.reset();
        tagged.reset();
        let text = std::fs::read(file.path()).unwrap();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let histogram = decode(interval.encoded_histogram());
                match interval.tag() {
                    None => untagged.add(histogram).unwrap(),
                    Some(_) => tagged.add(histogram).unwrap(),
                }
            }
        }
        assert_eq!(&untagged, overall);
        assert_eq!(tagged.len(), if open { report.answered } else { 0 });

        assert!(report.started_unix_ms >= before.as_millis() as u64);
        assert!(!report.machine.cpu.is_empty());
        assert_eq!(report.watched[0].pid, std::process::id());
        assert!(!report.watched[0].samples.is_empty());
        let json = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(read.series.len(), report.series.len());
    }
}

#[test]
fn more_processes_than_the_limit_are_refused() {
    let server = Responder::start(|_| status(200));
    let mut options = options(&server.url(), Load::Closed, Some(1.0));
    options.watch = vec![std::process::id(); WATCHED_MAX + 1];
    let error = run(&options, &AtomicBool::new(false), |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "watched processes must be between 0 and 64, not 65"
    );
}

#[test]
fn an_unwritable_histogram_log_ends_the_run() {
    let server = Responder::start(|_| status(200));
    for path in ["/nonexistent/run.hlog", "/dev/full"] {
        let mut options = options(&server.url(), Load::Closed, Some(60.0));
        options.hdr_log = Some(path.into());
        let error = run(&options, &AtomicBool::new(false), |_| {}).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("histograms: {path}: ")), "{text}");
    }
}
