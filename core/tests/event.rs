//! Event records: which bodies hold which events, and what is added to each.

#![allow(
    clippy::unwrap_used,
    reason = "in tests a panic is the report, helpers included"
)]

mod support;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Map, Value};
use sluice_core::inflate::{AcceptedCodings, Codings};
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::reject::Reject;
use sluice_core::request::RequestContext;
use sluice_core::sent::SentBody;
use std::io::Write;

const ADDED: &str = r#""ingest_time":1719469185547,"rid":"0000000000000000000000000000002a","ip":"192.0.2.7","ua":"curl/8""#;

fn request() -> RequestContext<'static> {
    RequestContext {
        user_agent: Some(b"curl/8"),
        ..support::request()
    }
}

fn plan() -> Plan {
    Plan::new(Mode::Event, PartitionRule::Random)
}

fn run(body: &[u8]) -> Result<Prepared, Reject> {
    let mut out = Prepared::default();
    plan().run(&request(), body, 1 << 20, &mut out)?;
    Ok(out)
}

fn records(out: &Prepared) -> Vec<&str> {
    let texts = out.records.iter().map(|record| &record.payload[..]);
    texts
        .map(|text| std::str::from_utf8(text).unwrap())
        .collect()
}

fn indices(out: &Prepared) -> Vec<u32> {
    out.records.iter().map(|record| record.index).collect()
}

fn not_json(at: usize, what: &'static str) -> Reject {
    Reject::NotJson { at, what }
}

/// What `event` (without its closing brace) becomes.
fn with_added(event: &str) -> String {
    format!("{event},{ADDED}}}")
}

#[test]
fn one_object_is_one_event_and_keeps_its_bytes() {
    let out = run(br#" {"a" : 1.0e0,"b":"\u00e9\ud83d"}  "#).unwrap();
    assert_eq!(
        records(&out),
        [with_added(r#"{"a" : 1.0e0,"b":"\u00e9\ud83d""#)]
    );
    assert_eq!((out.received, indices(&out)), (1, vec![0]));
}

#[test]
fn an_array_is_its_elements() {
    let out = run(br#"[{"a":1}, {} ,{"b":[{}]}]"#).unwrap();
    assert_eq!(
        records(&out),
        [
            with_added(r#"{"a":1"#),
            format!("{{{ADDED}}}"),
            with_added(r#"{"b":[{}]"#)
        ]
    );
    assert_eq!((out.received, indices(&out)), (3, vec![0, 1, 2]));
}

#[test]
fn objects_on_lines_are_events_and_blank_lines_are_not() {
    let expected = [with_added(r#"{"a":1"#), with_added(r#"{"b":2"#)];
    for body in [
        "{\"a\":1}\n{\"b\":2}",
        "{\"a\":1}\n{\"b\":2}\n",
        "{\"a\":1}\r\n{\"b\":2}\r\n",
        "\n \r\n{\"a\":1}\n\n\t\n {\"b\":2} \n\n",
    ] {
        let out = run(body.as_bytes()).unwrap();
        assert_eq!(records(&out), expected, "{body:?}");
        assert_eq!((out.received, indices(&out)), (2, vec![0, 1]), "{body:?}");
    }
}

#[test]
fn a_broken_line_is_rejected_alone_with_index_and_offset() {
    let out = run(b"{\"a\":1}\n{\"b\":}\n\n[1]\n{\"c\":3} x\n{\"d\":\"\xff\"}\n{\"e\":5}").unwrap();
    assert_eq!(
        records(&out),
        [with_added(r#"{"a":1"#), with_added(r#"{"e":5"#)]
    );
    assert_eq!(indices(&out), [0, 5]);
    assert_eq!(
        out.rejected,
        [
            (1, not_json(13, "expected a value")),
            (2, Reject::NotAnObject { at: 16 }),
            (3, not_json(28, "expected nothing more")),
            (4, Reject::NotUtf8 { at: 36 }),
        ]
    );
    assert_eq!(out.received, 6);
}

#[test]
fn a_broken_first_line_does_not_take_the_others_along() {
    for first in [
        "{\"a\":",
        "oops",
        "{\"a\":1}{\"a\":2}",
        "{\"a\":1",
        "\u{feff}{}",
    ] {
        let out = run(format!("{first}\n{{\"b\":2}}\n{{\"c\":3}}").as_bytes()).unwrap();
        assert_eq!(indices(&out), [1, 2], "{first:?}");
        assert_eq!(out.rejected.len(), 1, "{first:?}");
        assert_eq!(out.rejected[0].1.label(), "not_json", "{first:?}");
    }
    let out = run(b"\xff\n{\"b\":2}\n").unwrap();
    assert_eq!(out.rejected, [(0, Reject::NotUtf8 { at: 0 })]);
    assert_eq!(indices(&out), [1]);
}

#[test]
fn one_broken_object_over_several_lines_is_refused_whole() {
    let refused = run(b"{\n  \"a\": 1,\n  \"b\": {\n  }\n").unwrap_err();
    assert_eq!(refused, not_json(25, "expected `,` or `}`"));
    let refused = run(b"{\n  \"a\": 1\n}\n{\"b\":2}\n").unwrap_err();
    assert_eq!(refused, not_json(13, "expected nothing more"));
}

#[test]
fn a_broken_array_is_refused_whole_with_the_offset() {
    assert_eq!(
        run(br#"[{"a":1},{"b":}]"#).unwrap_err(),
        not_json(14, "expected a value")
    );
    assert_eq!(
        run(br#"[{"a":1},]"#).unwrap_err(),
        not_json(9, "expected a value")
    );
    assert_eq!(
        run(br#"[{"a":1} {}]"#).unwrap_err(),
        not_json(9, "expected `,` or `]`")
    );
    assert_eq!(
        run(br#"[{"a":1}"#).unwrap_err(),
        not_json(8, "expected `,` or `]`")
    );
    assert_eq!(
        run(br#"[{"a":1}]]"#).unwrap_err(),
        not_json(9, "expected nothing more")
    );
    assert_eq!(
        run(b"[{\"a\":1},{\"b\":\"\xc0\"}]").unwrap_err(),
        Reject::NotUtf8 { at: 15 }
    );
}

#[test]
fn a_body_without_events_is_refused() {
    for body in ["", " ", "\r\n\r\n", "[]", " [ ] "] {
        assert_eq!(
            run(body.as_bytes()).unwrap_err(),
            Reject::NoEvents,
            "{body:?}"
        );
    }
    assert_eq!(
        run(b"[] x").unwrap_err(),
        not_json(3, "expected nothing more")
    );
}

#[test]
fn a_body_of_one_non_object_is_refused() {
    for body in [" 12", " \"a\"", " null", " true\n"] {
        assert_eq!(
            run(body.as_bytes()).unwrap_err(),
            Reject::NotAnObject { at: 1 },
            "{body:?}"
        );
    }
}

#[test]
fn an_element_that_is_no_object_is_rejected_alone() {
    let out = run(br#"[1,{"a":1},[{}],"x",null]"#).unwrap();
    assert_eq!(indices(&out), [1]);
    let at = |at| Reject::NotAnObject { at };
    assert_eq!(
        out.rejected,
        [(0, at(1)), (2, at(11)), (3, at(16)), (4, at(20))]
    );
}

fn nested(levels: usize) -> String {
    let inner = levels - 1;
    format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
}

#[test]
fn depth_64_passes_and_what_is_deeper_is_rejected_alone() {
    for deep in [65, 128, 129, 2_000, 100_000] {
        let out = run(format!("[{},{},{{}}]", nested(64), nested(deep)).as_bytes()).unwrap();
        assert_eq!(indices(&out), [0, 2], "depth {deep}");
        // The array's bracket, the first element, a comma, `{"a":` and 63 brackets come before.
        let at = 1 + nested(64).len() + 1 + 5 + 63;
        assert_eq!(
            out.rejected,
            [(1, Reject::TooDeep { limit: 64, at })],
            "depth {deep}"
        );
    }
}

#[test]
fn brackets_that_do_not_match_are_found_at_any_depth() {
    for depth in [1, 63, 64, 65, 127, 128, 129, 1_000] {
        for level in [0, depth / 2, depth - 1] {
            let mut closing = vec!["]"; depth];
            closing[level] = "}";
            let body = format!("{{\"a\":{}{}}}", "[".repeat(depth), closing.concat());
            let at = 5 + depth + level;
            let what = if level == 0 {
                "expected a value"
            } else {
                "expected `,` or `]`"
            };
            assert_eq!(
                run(body.as_bytes()).unwrap_err(),
                not_json(at, what),
                "{depth} {level}"
            );
        }
    }
}

#[test]
fn no_user_agent_adds_no_ua() {
    let mut request = request();
    request.user_agent = None;
    request.forwarded_for = Some(b"203.0.113.9, \xff\"");
    let mut out = Prepared::default();
    plan().run(&request, b"{}", 1 << 20, &mut out).unwrap();
    assert_eq!(
        records(&out),
        [concat!(
            r#"{"ingest_time":1719469185547,"rid":"0000000000000000000000000000002a","#,
            "\"ip\":\"203.0.113.9, \u{fffd}\\\"\"}"
        )]
    );
}

#[test]
fn line_breaks_between_tokens_become_spaces() {
    for line_break in ["\n", "\r"] {
        let out = run(format!("{{\"a\":{line_break}1}}").as_bytes()).unwrap();
        assert_eq!(records(&out), [with_added(r#"{"a": 1"#)]);
    }
    let out = run(b"[{\r\n \"a\"\n:\r1,\"b\":\"\\n\\r\"\n},\n{\"c\":3}]").unwrap();
    assert_eq!(
        records(&out),
        [
            with_added("{   \"a\" : 1,\"b\":\"\\n\\r\" "),
            with_added(r#"{"c":3"#)
        ]
    );
}

#[test]
fn records_are_rejected_only_over_the_limit() {
    let body = br#"[{"a":1},{"a":"1234567890"},{"a":2}]"#;
    let limit = with_added(r#"{"a":1"#).len();
    let mut out = Prepared::default();
    plan().run(&request(), body, limit, &mut out).unwrap();
    assert_eq!(indices(&out), [0, 2]);
    let actual = with_added(r#"{"a":"1234567890""#).len();
    assert_eq!(
        out.rejected,
        [(1, Reject::RecordTooLarge { limit, actual })]
    );

    plan().run(&request(), body, limit - 1, &mut out).unwrap();
    assert_eq!((out.records.len(), out.rejected.len()), (0, 3));
}

#[test]
fn the_key_counts_towards_the_record_limit() {
    let mut plan = plan();
    plan.partition = PartitionRule::Field("u".into());
    let limit = with_added(r#"{"u":"12""#).len() + 2;
    let mut out = Prepared::default();
    let body = br#"[{"u":"12"},{"u":"123"},{"u":"\u0031\u0032"}]"#;
    plan.run(&request(), body, limit, &mut out).unwrap();
    assert_eq!(indices(&out), [0]);
    let sizes: Vec<_> = out
        .rejected
        .iter()
        .map(|(_, reject)| reject.actual())
        .collect();
    assert_eq!(sizes, [Some(limit + 2), Some(limit + 10)]);
}

#[test]
fn a_thousand_events_pass_and_one_more_is_refused() {
    let array = |events: usize| format!("[{}]", vec!["{\"a\":1}"; events].join(","));
    let lines = |events: usize| "{\"a\":1}\n".repeat(events);
    for body in [array(1_000), lines(1_000)] {
        assert_eq!(run(body.as_bytes()).unwrap().records.len(), 1_000);
    }
    let refused = Reject::TooManyEvents {
        limit: 1_000,
        actual: 1_001,
    };
    for events in [1_001, 10_000] {
        assert_eq!(run(array(events).as_bytes()).unwrap_err(), refused);
        assert_eq!(run(lines(events).as_bytes()).unwrap_err(), refused);
    }
}

/// What a plan makes of a gzip body that came with a head of 200 bytes.
fn run_packed(plan: &Plan, body: &[u8], codings: &str) -> Result<Prepared, Reject> {
    let mut list = Codings::default();
    list.read(codings.as_bytes()).unwrap();
    let body = SentBody {
        codings: &list,
        sent_bytes: body.len() + 200,
        ..SentBody::from(body)
    };
    let mut out = Prepared::default();
    plan.run(&request(), body, 1 << 20, &mut out)?;
    Ok(out)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn events_of_a_compressed_body_are_limited_by_its_bytes_sent() {
    let array = |events: usize| format!("[{}]", vec!["{\"a\":1}"; events].join(","));
    let body = gzip(array(200).as_bytes());
    let limit = (body.len() + 200) / 4;
    let refused = Reject::TooManyEvents {
        limit,
        actual: limit + 1,
    };
    for codings in ["", "gzip"] {
        assert_eq!(run_packed(&plan(), &body, codings).unwrap_err(), refused);
        let fits = gzip(array(50).as_bytes());
        let prepared = run_packed(&plan(), &fits, codings).unwrap();
        assert_eq!(prepared.records.len(), 50);
    }
}

#[test]
fn records_have_at_most_a_hundred_times_the_bytes_sent() {
    // Each of 100 events gets a copy of the user agent.
    let agent = "a".repeat(1_000);
    let request = RequestContext {
        user_agent: Some(agent.as_bytes()),
        ..request()
    };
    let body = format!("[{}]", vec!["{}"; 100].join(","));
    let mut out = Prepared::default();
    let records = |sent_bytes: usize, out: &mut Prepared| {
        let body = SentBody {
            sent_bytes,
            ..SentBody::from(&body)
        };
        plan().run(&request, body, 1 << 20, out)
    };
    records(1_400, &mut out).unwrap();
    let total: usize = out.records.iter().map(|record| record.payload.len()).sum();
    assert!(total > 100_000 && total < 140_000);
    let Err(Reject::RecordsTooLarge {
        limit,
        actual,
        sent,
    }) = records(1_000, &mut out)
    else {
        panic!("not refused");
    };
    assert_eq!((limit, sent), (100_000, 1_000));
    assert!(actual > limit);
    assert!(out.records.is_empty());
}

#[test]
fn gzip_that_events_are_wrapped_in_counts_as_a_coding() {
    let once = gzip(b"[{}]");
    let twice = gzip(&once);
    let refused = Reject::TooManyCodings {
        limit: 1,
        actual: 2,
    };
    assert_eq!(run_packed(&plan(), &once, "gzip").unwrap().received, 1);
    assert_eq!(run_packed(&plan(), &twice, "gzip").unwrap_err(), refused);
    let two = Plan {
        codings_max: 2,
        ..plan()
    };
    assert_eq!(run_packed(&two, &twice, "gzip").unwrap().received, 1);
    // Where gzip is not accepted, it is not opened either.
    let none = Plan {
        codings: AcceptedCodings::NONE,
        ..plan()
    };
    assert!(matches!(
        run_packed(&none, &once, "").unwrap_err(),
        Reject::NotUtf8 { .. } | Reject::NotJson { .. }
    ));
}

#[test]
fn the_partition_key_is_a_field_of_the_event() {
    let mut plan = plan();
    plan.partition = PartitionRule::Field("user_id".into());
    let body = br#"[{"user_id":"u-1"},{"user_id":17},{"user_id":"a\"\u00e9"},{"user_id":""},
        {"user_id":true},{},{"x":{"user_id":"in"}},{"us\u0065r_id":"esc"},{"user_id":"1","user_id":"2"}]"#;
    let mut out = Prepared::default();
    plan.run(&request(), body, 1 << 20, &mut out).unwrap();
    let keys: Vec<_> = out
        .records
        .iter()
        .map(|record| record.key.as_deref())
        .collect();
    let some = |key: &'static str| Some(key.as_bytes());
    assert_eq!(
        keys,
        [
            some("u-1"),
            some("17"),
            some("a\"é"),
            None,
            None,
            None,
            None,
            some("esc"),
            some("2")
        ]
    );
}

#[test]
fn the_partition_key_may_be_the_timestamp() {
    let mut plan = plan();
    plan.partition = PartitionRule::Timestamp;
    let mut out = Prepared::default();
    plan.run(&request(), b"[{},{}]", 1 << 20, &mut out).unwrap();
    for record in &out.records {
        assert_eq!(
            record.key.as_deref(),
            Some(&b"2024-06-27T06:19:45.547102438Z"[..])
        );
    }
}

#[test]
fn a_used_prepared_gives_what_a_fresh_one_gives() {
    let bodies: [&[u8]; 5] = [
        br#"[{"a":1},2]"#,
        b"oops",
        b"{\"b\":1}\n{",
        b"[]",
        br#"{"ua":1}"#,
    ];
    let mut used = Prepared::default();
    for body in bodies {
        let mut fresh = Prepared::default();
        let expected = plan().run(&request(), body, 1 << 20, &mut fresh);
        assert_eq!(plan().run(&request(), body, 1 << 20, &mut used), expected);
        assert_eq!(used.received, fresh.received);
        assert_eq!(used.records, fresh.records);
        assert_eq!(used.rejected, fresh.rejected);
    }
}

/// JSON values of some depth, objects among them with the server's names.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Eighths are exact: the oracle may read other fractions back one unit off.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any_key(), inner, 0..6)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        prop::sample::select(vec!["rid", "ip", "ua", "ingest_time", "user_id"])
            .prop_map(String::from),
    ]
}

proptest! {
    #[test]
    fn every_event_gets_all_server_fields(
        events in prop::collection::vec(any_json(), 1..12),
        form in 0..3,
    ) {
        let texts: Vec<String> = events.iter().map(Value::to_string).collect();
        let body = match form {
            0 => format!("[{}]", texts.join(",")),
            1 => serde_json::to_string_pretty(&events).unwrap(),
            // The empty objects around tell the form even if the events are no objects.
            _ => format!("{{}}\n{}\r\n{{}}", texts.join("\n")),
        };
        let shift = if form == 2 { 1 } else { 0 };
        let out = run(body.as_bytes()).unwrap();
        prop_assert_eq!(out.received as usize, events.len() + 2 * shift);
        prop_assert_eq!(out.received as usize, out.records.len() + out.rejected.len());
        for record in &out.records {
            prop_assert!(!record.payload.contains(&b'\n') && !record.payload.contains(&b'\r'));
            let read: Map<String, Value> = serde_json::from_slice(&record.payload).unwrap();
            let Some(sent) = (record.index as usize).checked_sub(shift).and_then(|at| events.get(at)) else {
                prop_assert_eq!(read.len(), 4);
                continue;
            };
            let mut expected = sent.as_object().unwrap().clone();
            expected.extend(serde_json::from_str::<Map<String, Value>>(&format!("{{{ADDED}}}")).unwrap());
            prop_assert_eq!(read, expected);
        }
        for (index, reject) in &out.rejected {
            prop_assert_eq!(reject.label(), "not_an_object");
            prop_assert!(!events[*index as usize - shift].is_object());
        }
    }

    #[test]
    fn any_bytes_are_accounted_for_without_panic(
        body in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\ \n\r\tu0123eE+-.truefalsn".to_vec())],
            0..200,
        )
    ) {
        let mut out = Prepared::default();
        if plan().run(&request(), &body, 1 << 20, &mut out).is_ok() {
            prop_assert_eq!(out.received as usize, out.records.len() + out.rejected.len());
            prop_assert!(out.received > 0);
        } else {
            prop_assert_eq!((out.received, out.records.len(), out.rejected.len()), (0, 0, 0));
        }
    }
}
