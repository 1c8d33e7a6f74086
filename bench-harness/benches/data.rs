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
use sluice_core::ack::OutputId;
use sluice_core::json::escape::Escaped;
use sluice_core::json::scan::{self, Found, Kind, Wanted};
use sluice_core::json::split::{self, SplitLimits};
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::priority::Priority;
use sluice_core::privacy::{Action, AddressRule, HashKey, Privacy, Rules as PrivacyRules};
use sluice_core::route::condition::{Condition, Literal, Test};
use sluice_core::route::rules::{OutputDefaults, RuleSettings, Rules, Source};
use sluice_core::schema::shape::{Choices, Count, Limit, Node, Types};
use sluice_core::schema::{CheckResult, OnViolation, Outcome, Schema, SchemaId, Schemas};
use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

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

/// Two rules of two fields each, the second of which matches, with a key from a nested field.
fn by_rules() -> Plan {
    let field = |path: &str| Source::Field(path.parse().unwrap());
    let is = |path: &str, text: &str| {
        let test = Test::one_of([Literal::Text(text.to_owned())]);
        Condition::Is(field(path), test)
    };
    let rule = |event_type: &str| RuleSettings {
        when: Some(Condition::All(vec![
            is("event_type", event_type),
            Condition::Is(field("attributes._session_number"), Test::Present(true)),
        ])),
        outputs: vec![(OutputId(0), None)],
        key: Some("field:user.id,unique_id".parse().unwrap()),
        key_salt: Vec::new(),
        topic: None,
        sample: None,
        schema: None,
        priority: Priority::default(),
    };
    let output = OutputDefaults {
        keyed: false,
        by_topic: false,
    };
    let rules = vec![rule("_purchase"), rule("_page_view")];
    let rules = Rules::new(rules, None, false, vec![output; 2]).unwrap();
    Plan {
        rules: Some(Arc::new(rules)),
        ..Plan::new(Mode::Event, PartitionRule::Random)
    }
}

fn route(c: &mut Criterion) {
    let request = request();
    let mut out = Prepared::default();
    for (name, body, events) in [
        ("event of 1 KiB to a record", event(1_024), 1),
        ("16 KiB array of 20 to records", batch(), 20),
    ] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(events as u64));
        let plain = Plan::new(Mode::Event, PartitionRule::Random);
        plain.run(&request, &body, 1 << 20, &mut out).unwrap();
        assert_eq!(out.records.len(), events);
        group.bench_function("without rules", |b| {
            b.iter(|| plain.run(black_box(&request), black_box(&body), 1 << 20, &mut out));
        });
        let plan = by_rules();
        plan.run(&request, &body, 1 << 20, &mut out).unwrap();
        assert_eq!(out.rule_tallies()[1].events, events as u64);
        let routing = out.records[0].routing.as_ref().unwrap();
        assert_eq!(routing.key_bytes(), 36);
        group.bench_function("two rules of two fields, and a key", |b| {
            b.iter(|| plan.run(black_box(&request), black_box(&body), 1 << 20, &mut out));
        });
        group.finish();
    }
}

/// A schema of 25 keywords, as a JSON Schema of those would have it.
fn shape() -> Node {
    let mut shape = Node::default();
    shape.types = Types::OBJECT;
    for name in ["event_id", "event_type", "unique_id", "timestamp"] {
        shape.property(name).unwrap();
        shape.require(name).unwrap();
    }
    for (name, min, max) in [
        ("event_id", 36, 36),
        ("event_type", 1, 64),
        ("unique_id", 36, 36),
        ("locale", 2, 16),
    ] {
        let text = shape.property(name).unwrap();
        text.types = Types::STRING;
        text.chars = Count { min, max };
    }
    shape.property("timestamp").unwrap().types = Types::INTEGER;
    shape.property("screen_width").unwrap().types = Types::NUMBER;
    let platform = shape.property("platform").unwrap();
    let mut choices = Choices::default();
    for text in ["Web", "iOS", "Android"] {
        choices.text(text);
    }
    platform.one_of = Some(choices);
    let attributes = shape.property("attributes").unwrap();
    attributes.types = Types::OBJECT;
    attributes.property("_session_number").unwrap().types = Types::INTEGER;
    attributes.require("_session_number").unwrap();
    attributes.property("_page_title").unwrap().types = Types::STRING;
    attributes.property("_session_duration").unwrap().least = Some(Limit {
        value: 0.0,
        is_exclusive: false,
    });
    shape
}

fn schemas(c: &mut Criterion) {
    let request = request();
    let mut out = Prepared::default();
    let schema = Schema::new("clicks", OnViolation::Tag);
    schema.set(Arc::new(shape()));
    let plain = Plan::new(Mode::Event, PartitionRule::Random);
    let checking = Plan {
        schemas: Some(Arc::new(Schemas {
            list: vec![Arc::new(schema)],
            unmatched: Some(SchemaId(0)),
        })),
        ..plain.clone()
    };
    for (name, body, events) in [
        ("schemas, 1 KiB event", event(1_024), 1),
        ("schemas, 16 KiB array of 20", batch(), 20),
    ] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(events as u64));
        for (name, plan, checked) in [
            ("without a schema", &plain, 0),
            ("a schema of 25 keywords", &checking, events),
        ] {
            plan.run(&request, &body, 1 << 20, &mut out).unwrap();
            let kept = |outcome: &&Outcome| outcome.result == CheckResult::Kept;
            assert_eq!(out.schema_outcomes().iter().filter(kept).count(), checked);
            group.bench_function(name, |b| {
                b.iter(|| plan.run(black_box(&request), black_box(&body), 1 << 20, &mut out));
            });
        }
        group.finish();
    }
}

/// Three fields and the address treated, beside the same without.
fn privacy(c: &mut Criterion) {
    let request = request();
    let rules = PrivacyRules {
        fields: [
            ("unique_id", Action::Hash),
            ("device_id", Action::Mask),
            ("attributes._page_title", Action::Drop),
        ]
        .map(|(path, action)| (path.parse().unwrap(), action))
        .to_vec(),
        keys: vec![HashKey::new("k1", &[7; 32]).unwrap()],
        addresses: AddressRule::Truncate,
        ..PrivacyRules::default()
    };
    let key = PartitionRule::Field("unique_id".into());
    let plain = Plan::new(Mode::Event, key);
    let treating = Plan {
        privacy: Some(Arc::new(Privacy::new(&rules).unwrap())),
        ..plain.clone()
    };
    let mut out = Prepared::default();
    for (name, body, events) in [
        ("1 KiB event", event(1_024), 1),
        ("16 KiB array of 20", batch(), 20),
    ] {
        let mut group = c.benchmark_group(format!("privacy, {name}"));
        group.throughput(Throughput::Elements(events));
        for (name, plan, treated) in [
            ("without rules", &plain, 0),
            ("three fields and the address", &treating, events),
        ] {
            plan.run(&request, &body, 1 << 20, &mut out).unwrap();
            assert_eq!(out.records.len() as u64, events);
            let tally = out.privacy;
            assert_eq!([tally.hashed, tally.masked, tally.dropped], [treated; 3]);
            group.bench_function(name, |b| {
                b.iter(|| plan.run(black_box(&request), black_box(&body), 1 << 20, &mut out));
            });
        }
        group.finish();
    }
}

criterion_group!(
    benches,
    scan_event,
    escape,
    envelope,
    split_batch,
    route,
    schemas,
    privacy
);
criterion_main!(benches);
