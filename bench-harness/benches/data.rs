//! What the data path costs per event, beside serde_json and simd-json doing the nearest thing they can.
//!
//! Inputs are made here, so a figure needs nothing but this file: one event of exactly 1 KiB as the
//! web SDK sends it, and an array of 20 that comes to 16 KiB. Every benchmark checks its answer
//! once before it is timed.

#![allow(missing_docs, reason = "criterion's macros make items without docs")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot do its work has to stop"
)]

mod inputs;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use inputs::{batch, event, request};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sluice_core::json::escape::Escaped;
use sluice_core::json::scan::{self, Found, Kind, Wanted};
use sluice_core::json::split::{self, SplitLimits};
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use std::borrow::Cow;
use std::hint::black_box;

fn scan_event(c: &mut Criterion) {
    let event = event(1_024);
    let mut group = c.benchmark_group("scan 1 KiB event");
    group.throughput(Throughput::Bytes(event.len() as u64));

    let mut wanted = Wanted::default();
    for name in ["ingest_time", "rid", "ip", "ua", "unique_id"] {
        wanted.add(name.as_bytes()).unwrap();
    }
    let mut found = Found::default();
    let value = scan::value(&event, 0, 64, &wanted, &mut found).unwrap();
    assert_eq!((value.kind, value.end), (Kind::Object, 1_024));
    assert_eq!(found.get(4).unwrap().of(&event).len(), 38);
    let mut events = Vec::new();
    let limits = SplitLimits {
        depth_max: 64,
        events_max: 1_000,
    };
    split::split(&event, limits, &wanted, &mut events).unwrap();
    assert_eq!(events.len(), 1);
    group.bench_function("sluice, fields and UTF-8", |b| {
        b.iter(|| {
            events.clear();
            split::split(black_box(&event), limits, &wanted, &mut events)
        });
    });
    assert_eq!(scan::check(&event), Ok(()));
    group.bench_function("sluice, validity and UTF-8", |b| {
        b.iter(|| scan::check(black_box(&event)));
    });

    serde_json::from_slice::<IgnoredAny>(&event).unwrap();
    group.bench_function("serde_json, validity", |b| {
        b.iter(|| serde_json::from_slice::<IgnoredAny>(black_box(&event)).is_ok());
    });

    let mut buffers = simd_json::Buffers::default();
    let mut copy = event.clone();
    assert!(simd_json::to_tape_with_buffers(&mut copy, &mut buffers).is_ok());
    group.bench_function("simd-json, tape", |b| {
        b.iter_batched_ref(
            || event.clone(),
            |copy| simd_json::to_tape_with_buffers(copy, &mut buffers).is_ok(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn escape(c: &mut Criterion) {
    for (name, text) in [
        ("escape 1 KiB JSON", event(1_024)),
        (
            "escape 1 KiB base64",
            b"QWxhZGRpbjpvcGVuIHNlc2FtZQ/+0189".repeat(32),
        ),
    ] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(text.len() as u64));
        let text = String::from_utf8(text).unwrap();
        let expected = serde_json::to_string(&text).unwrap();
        let mut out = Vec::with_capacity(4_096);

        Escaped::measure(text.as_bytes()).write_into(&mut out);
        assert_eq!(out, expected.as_bytes()[1..expected.len() - 1]);
        group.bench_function("sluice, measured and written", |b| {
            b.iter(|| {
                out.clear();
                Escaped::measure(black_box(text.as_bytes())).write_into(&mut out);
                out.len()
            });
        });

        group.bench_function("serde_json", |b| {
            b.iter(|| {
                out.clear();
                serde_json::to_writer(&mut out, black_box(&text)).unwrap();
                out.len()
            });
        });
        group.finish();
    }
}

/// The envelope as one would write it with serde.
#[derive(Serialize)]
#[allow(non_snake_case, reason = "the record's keys")]
struct Envelope<'a> {
    appId: Option<&'a str>,
    client_timestamp: &'a str,
    compression: Option<&'a str>,
    data: Cow<'a, str>,
    date: &'a str,
    fakeIp: Option<&'a str>,
    ingest_time: u64,
    ip: Cow<'a, str>,
    method: &'a str,
    path: &'a str,
    platform: Option<&'a str>,
    rid: &'a str,
    server_ingest_time: u64,
    source_type: &'a str,
    timestamp: &'a str,
    ua: Cow<'a, str>,
    uri: &'a str,
}

fn envelope(c: &mut Criterion) {
    let body = event(1_024);
    let request = request();
    let plan = Plan::new(Mode::Envelope, PartitionRule::Random);
    let mut out = Prepared::default();
    let mut group = c.benchmark_group("envelope of 1 KiB");
    group.throughput(Throughput::Elements(1));

    plan.run(&request, &body, 1 << 20, &mut out).unwrap();
    assert_eq!((out.received, out.records.len()), (1, 1));
    let record = out.records[0].payload.clone();
    group.bench_function("sluice", |b| {
        b.iter(|| plan.run(black_box(&request), black_box(&body), 1 << 20, &mut out));
    });

    // Query, date and id ready-made: only the writing is compared.
    let with_serde = |body: &[u8]| {
        let envelope = Envelope {
            appId: Some("shop"),
            client_timestamp: "1719469182900",
            compression: None,
            data: String::from_utf8_lossy(body),
            date: "2024-06-27T06:19:45+00:00",
            fakeIp: None,
            ingest_time: 1_719_469_185_000,
            ip: String::from_utf8_lossy(request.forwarded_for.unwrap()),
            method: request.method,
            path: request.path,
            platform: Some("Web"),
            rid: "00112233445566778899aabbccddeeff",
            server_ingest_time: 1_719_469_185_000,
            source_type: "http_server",
            timestamp: "2024-06-27T06:19:45.547102438Z",
            ua: String::from_utf8_lossy(request.user_agent.unwrap()),
            uri: request.uri,
        };
        serde_json::to_vec(&envelope).unwrap()
    };
    assert_eq!(with_serde(&body), record);
    group.bench_function("serde_json, writing only", |b| {
        b.iter(|| with_serde(black_box(&body)));
    });
    group.finish();
}

/// The fields that a batch's events are read for.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    unique_id: Option<&'a RawValue>,
    #[serde(borrow)]
    ip: Option<&'a RawValue>,
    #[serde(borrow)]
    ua: Option<&'a RawValue>,
}

fn split_batch(c: &mut Criterion) {
    let body = batch();
    let request = request();
    let mut out = Prepared::default();
    let mut group = c.benchmark_group("split 16 KiB array of 20");
    group.throughput(Throughput::Bytes(body.len() as u64));

    let mut wanted = Wanted::default();
    for name in ["ip", "ua", "unique_id"] {
        wanted.add(name.as_bytes()).unwrap();
    }
    let limits = SplitLimits {
        depth_max: 64,
        events_max: 1_000,
    };
    let mut events = Vec::new();
    split::split(&body, limits, &wanted, &mut events).unwrap();
    assert_eq!(events.iter().filter(|event| event.is_ok()).count(), 20);
    group.bench_function("sluice, spans of 3 fields", |b| {
        b.iter(|| {
            events.clear();
            split::split(black_box(&body), limits, &wanted, &mut events)
        });
    });

    let plan = Plan::new(Mode::Event, PartitionRule::Field("unique_id".into()));
    plan.run(&request, &body, 1 << 20, &mut out).unwrap();
    assert_eq!((out.received, out.records.len()), (20, 20));
    assert_eq!(out.records[19].key.as_ref().unwrap().len(), 36);
    group.bench_function("sluice, records with keys", |b| {
        b.iter(|| plan.run(black_box(&request), black_box(&body), 1 << 20, &mut out));
    });

    let with_serde = |body: &[u8]| {
        let events: Vec<&RawValue> = serde_json::from_slice(body).unwrap();
        let fields = events
            .iter()
            .map(|event| serde_json::from_str::<Fields<'_>>(event.get()).unwrap());
        let found = fields.filter(|fields| {
            fields.unique_id.is_some() && fields.ip.is_none() && fields.ua.is_none()
        });
        found.count()
    };
    assert_eq!(with_serde(&body), 20);
    group.bench_function("serde_json, raw values and 3 fields", |b| {
        b.iter(|| with_serde(black_box(&body)));
    });

    let mut buffers = simd_json::Buffers::default();
    let mut copy = body.clone();
    assert!(simd_json::to_tape_with_buffers(&mut copy, &mut buffers).is_ok());
    group.bench_function("simd-json, tape", |b| {
        b.iter_batched_ref(
            || body.clone(),
            |copy| simd_json::to_tape_with_buffers(copy, &mut buffers).is_ok(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, scan_event, escape, envelope, split_batch);
criterion_main!(benches);
