//! The generator is itself checked: its percentiles against delays that the server has measured, and
//! what a stalled server looks like from the intended start, from the real one, and in a closed loop.

use crate::responder::{Action, Responder, status};
use sluice_loadtest::run::{
    BodyMode, BodyOptions, ConnectOptions, Load, OkStatuses, Options, Report, Target, run,
};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

fn options(url: &str, load: Load) -> Options {
    Options {
        target: Target::parse(url).unwrap(),
        load,
        connections: 64,
        threads: 1,
        duration: None,
        requests: None,
        timeout: Duration::from_secs(30),
        body: BodyOptions {
            mode: BodyMode::Event,
            batch: 1,
            event_bytes: 400,
            ..BodyOptions::default()
        },
        connect: ConnectOptions::default(),
        ok: OkStatuses::default(),
        acks: None,
        hdr_log: None,
        watch: vec![],
        run: 7,
    }
}

fn go(options: &Options) -> Report {
    run(options, &AtomicBool::new(false), |_| {}).unwrap()
}

/// The smallest value that this share of the sorted values does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Requests of one measurement: percentiles fall into the middle of the delays' classes.
const REQUESTS: u64 = 800;

/// 80 % at 40 ms, 18 % at 100 ms, 2 % at 400 ms.
fn delay(number: usize) -> Duration {
    Duration::from_millis(match number % 50 {
        49 => 400,
        40..=48 => 100,
        _ => 40,
    })
}

/// The share by which the generator's percentiles differ from those that the server measured, at most.
fn deviation() -> f64 {
    let measured = Arc::new(Mutex::new(Vec::new()));
    let delays = Arc::clone(&measured);
    let server = Responder::start(move |request| {
        let begin = Instant::now();
        thread::sleep(delay(request.number));
        let waited = begin.elapsed().as_secs_f64() * 1e6;
        delays.lock().unwrap().push(waited);
        status(200)
    });
    let mut options = options(&server.url(), Load::Open { per_second: 400.0 });
    options.requests = Some(REQUESTS);
    let report = go(&options);
    assert_eq!(report.answered, REQUESTS);
    let mut delays = measured.lock().unwrap().clone();
    delays.sort_by(f64::total_cmp);
    let mut largest: f64 = 0.0;
    for latency in [
        report.latency_from_start,
        report.latency_from_intended_start.unwrap(),
    ] {
        for (share, seen) in [
            (0.5, latency.p50_us),
            (0.9, latency.p90_us),
            (0.99, latency.p99_us),
            (0.999, latency.p99_9_us),
        ] {
            let true_delay = quantile(&delays, share);
            assert!(
                seen >= true_delay * 0.999,
                "an answer cannot come before its delay is over: {seen} us at {share}, {true_delay} us"
            );
            // Starts are paced to 50 us, and the log has 0.1 % of its own.
            largest = largest.max((seen - true_delay - 50.0) / true_delay);
        }
    }
    largest
}

#[test]
fn percentiles_are_those_that_the_server_measured_within_two_percent() {
    // A machine that is busy with other things delays the way there and back, which is no fault of
    // the generator's; a generator that measures wrongly does so each time.
    let mut deviations = Vec::new();
    for _ in 0..10 {
        deviations.push(deviation());
        if deviations.last().is_some_and(|last| *last < 0.02) {
            return;
        }
    }
    panic!("deviations of {deviations:?}");
}

/// A server that answers at once, but from its 300th request on stands still for a second.
fn stalling() -> Responder {
    let until: Mutex<Option<Instant>> = Mutex::new(None);
    Responder::start(move |request| {
        let wait = {
            let mut until = until.lock().unwrap();
            if request.number >= 300 {
                until.get_or_insert_with(|| Instant::now() + Duration::from_secs(1));
            }
            until.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(Instant::now())
            })
        };
        Action::SendAfter(
            wait,
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        )
    })
}

#[test]
fn a_stall_shows_only_from_the_intended_start() {
    const HALF_A_SECOND_US: f64 = 500_000.0;
    // 300 requests are due in the second for which the server stands still, and four connections
    // wait in it: far more than one in a hundred was kept waiting, far less was on its way.
    let server = stalling();
    let mut options_of = options(&server.url(), Load::Open { per_second: 300.0 });
    options_of.connections = 4;
    options_of.requests = Some(900);
    let open = go(&options_of);
    assert_eq!(open.answered, 900);
    let intended = open.latency_from_intended_start.unwrap();
    assert!(intended.p99_us > 900_000.0, "{intended:?}");
    let start = open.latency_from_start;
    assert!(start.p99_us < HALF_A_SECOND_US, "{start:?}");
    assert!(start.max_us > 990_000.0, "{start:?}");

    let server = stalling();
    let mut options_of = options(&server.url(), Load::Closed);
    options_of.connections = 4;
    options_of.requests = Some(900);
    let closed = go(&options_of);
    assert!(closed.latency_from_start.p99_us < HALF_A_SECOND_US);
    assert!(closed.latency_from_start.max_us > 990_000.0);
    assert_eq!(closed.latency_from_intended_start, None);
    assert_eq!(closed.histogram_from_intended_start, None);
    assert!(closed.series.iter().all(|second| second.intended.is_none()));
}

#[test]
fn a_slow_server_is_not_taken_for_a_slow_generator() {
    let server = Responder::start(|_| {
        thread::sleep(Duration::from_millis(400));
        status(200)
    });
    let mut options = options(&server.url(), Load::Open { per_second: 100.0 });
    options.connections = 2;
    options.duration = Some(Duration::from_secs(2));
    let report = go(&options);
    assert!(report.unsent > 150, "{report}");
    // All waiting was for the server: hardly any of it counts as the generator's.
    assert!(report.schedule_slip.unwrap().p99_us < 200_000.0, "{report}");
    assert!(report.latency_from_intended_start.unwrap().max_us > 700_000.0);
    assert!(report.generator.busy_share_max < 0.9, "{report}");
    // A machine that is busy with other things may be to blame besides, and is then named.
    if !report.generator.is_bottleneck && !report.generator.is_starved {
        let text = report.to_string();
        assert!(text.contains("the target answered too slowly"), "{text}");
    }
}
