//! Reports of runs that were never made: series, histograms and processes by formula. Read from
//! JSON as any other, so that a report may get new members.

use base64_simd::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde_json::json;
use sluice_loadtest::run::{Latency, ProcessSample, REPORT_FORMAT, Report, Second};
use std::collections::BTreeMap;

/// What the formula is told.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) seconds: u32,
    pub(crate) rate: u64,
    /// Latencies are multiplied by this.
    pub(crate) slow: f64,
    /// In these seconds the target answers 503, then nothing at all.
    pub(crate) trouble: bool,
    pub(crate) seed: u64,
}

pub(crate) const SHAPE: Shape = Shape {
    seconds: 30,
    rate: 10_000,
    slow: 1.0,
    trouble: false,
    seed: 1,
};

fn encoded(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .unwrap();
    STANDARD.encode_to_string(bytes)
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency {
        count: histogram.len(),
        mean_us: exact(histogram.mean() / 1e3),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p99_9_us: at(0.999),
        p99_99_us: at(0.9999),
        max_us: histogram.max() as f64 / 1e3,
    }
}

/// Thousandths, which JSON carries exactly.
fn exact(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A run of this shape.
pub(crate) fn run(shape: Shape) -> Report {
    let mut random = fastrand::Rng::with_seed(shape.seed);
    let new = || Histogram::<u64>::new_with_bounds(100, 3_600_000_000_000, 3).unwrap();
    let (mut intended, mut actual) = (new(), new());
    let mut series = Vec::new();
    let mut samples = Vec::new();
    let (mut ok, mut failed, mut unanswered) = (0, 0, 0);
    for n in 1..=shape.seconds {
        let wave = (f64::from(n) * 0.7).sin() * 0.02 + random.f64() * 0.02;
        let stalled = shape.trouble && n == shape.seconds / 2 + 2;
        let refusing = shape.trouble && n.abs_diff(shape.seconds / 2) < 2;
        let mut second = Second {
            at: f64::from(n),
            intended: Some(shape.rate),
            sent: if stalled { 64 } else { shape.rate },
            in_flight: if stalled { 64 } else { 3 + random.u64(..9) },
            slip_p99_us: Some(exact(40.0 + random.f64() * 60.0)),
            ..Second::default()
        };
        if stalled {
            second.unanswered = 64;
        } else {
            second.server_errors = if refusing { shape.rate / 3 } else { 0 };
            second.ok = (shape.rate as f64 * (1.0 - wave.abs())) as u64 - second.server_errors;
            second.events_ok = second.ok;
            let base = 400.0 * shape.slow * (1.0 + wave * 4.0);
            second.p50_us = exact(base);
            second.p99_us = exact(base * (6.0 + random.f64() * 4.0));
            second.p90_us = exact(base * 3.0);
            second.p99_from_start_us = Some(exact(base * 5.0));
            second.p99_9_us = exact(base * (20.0 + random.f64() * 30.0));
            second.max_us = exact(base * (60.0 + random.f64() * 200.0));
            for k in 0..second.ok.min(2_000) {
                let u = (k as f64 + 0.5) / second.ok.min(2_000) as f64;
                let us = base * 0.7 * (1.0 - u).powf(-0.62);
                intended.record((us * 1_400.0) as u64).unwrap();
                actual
                    .record((us.min(base * 30.0) * 1_000.0) as u64)
                    .unwrap();
            }
        }
        ok += second.ok;
        failed += second.server_errors;
        unanswered += second.unanswered;
        samples.push(ProcessSample {
            at: f64::from(n),
            cpu_cores: exact(second.ok as f64 * 11e-6 * (1.0 + random.f64() * 0.05)),
            rss_bytes: (40 << 20) + u64::from(n) * 300_000,
        });
        series.push(second);
    }
    let seconds = f64::from(shape.seconds);
    let mut statuses = BTreeMap::from([(200, ok)]);
    if failed > 0 {
        statuses.insert(503, failed);
    }
    let unanswered_by = match unanswered {
        0 => BTreeMap::new(),
        n => BTreeMap::from([("timeout", n)]),
    };
    let parts = [
        json!({
            "format": REPORT_FORMAT,
            "version": "0.1.0",
            "command": ["sluice-loadtest", "run", "--rate", shape.rate.to_string()],
            "started_unix_ms": 1_700_000_000_000u64,
            "run": "00000abc",
            "target": "http://127.0.0.1:8088/v1/events",
            "seconds": seconds,
            "interrupted": false,
        }),
        json!({
            "machine": {
                "cpu": "Example CPU at 2.0 GHz",
                "cores": 8,
                "memory_bytes": 16u64 << 30,
                "system": "Linux 6.18",
            },
            "load": {
                "rate": shape.rate as f64,
                "schedule": shape.rate.to_string(),
                "connections": 64,
                "threads": 1,
                "mode": "event",
                "batch": 1,
                "event_bytes": 1_024,
            },
            "generator": {
                "cpu_us_per_request": 5.9,
                "busy_share_max": 0.4,
                "cpu_wait_seconds": 0.1,
                "is_bottleneck": false,
                "is_starved": false,
            },
        }),
        json!({
            "sent": ok + failed + unanswered,
            "answered": ok + failed,
            "ok": ok,
            "preflights": 0,
            "unsent": 0,
            "statuses": statuses,
            "unanswered": unanswered_by,
            "connect_failures": {},
            "connects": 64,
            "closed_by_server": 0,
            "answered_per_second": exact((ok + failed) as f64 / seconds),
            "events_ok": ok,
            "events_ok_per_second": exact(ok as f64 / seconds),
            "events_refused": 0,
            "bytes_out": (ok + failed) * 1_200,
            "bytes_in": (ok + failed) * 90,
        }),
        json!({
            "latency_from_intended_start": latency(&intended),
            "latency_from_start": latency(&actual),
            "schedule_slip": Latency::default(),
            "series": series,
            "histogram_from_intended_start": encoded(&intended),
            "histogram_from_start": encoded(&actual),
            "watched": [{ "pid": 4_711, "name": "sluice", "samples": samples }],
        }),
    ];
    let mut report = serde_json::Map::new();
    for part in parts {
        report.extend(part.as_object().unwrap().clone());
    }
    serde_json::from_value(report.into()).unwrap()
}
