//! Envelope records, byte for byte, as the readers of the replaced service know them.

#![allow(
    clippy::unwrap_used,
    reason = "in tests a panic is the report, helpers included"
)]

mod support;

use proptest::prelude::*;
use serde_json::Value;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::reject::Reject;
use sluice_core::request::{RequestContext, RequestId};
use sluice_core::time::Wall;
use std::collections::BTreeMap;

const ID: RequestId = RequestId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

fn request(uri: &str) -> RequestContext<'_> {
    let (path, query) = match uri.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (uri, None),
    };
    RequestContext {
        uri,
        path,
        query,
        id: ID,
        ..support::request()
    }
}

fn plan(partition: PartitionRule) -> Plan {
    Plan::new(Mode::Envelope, partition)
}

fn run(request: &RequestContext<'_>, body: &[u8]) -> String {
    let mut out = Prepared::default();
    plan(PartitionRule::Random)
        .run(request, body, 1 << 20, &mut out)
        .unwrap();
    assert_eq!((out.received, out.records.len()), (1, 1));
    assert_eq!(out.records[0].key, None);
    assert_eq!(out.records[0].index, 0);
    String::from_utf8(out.records[0].payload.to_vec()).unwrap()
}

fn check_golden(record: &str, golden: &str) {
    assert_eq!(record, golden.trim_end_matches('\n'));
    // The readers' own check: sorted keys and compact separators give the same bytes again.
    let fields: BTreeMap<String, Value> = serde_json::from_str(record).unwrap();
    assert_eq!(fields.len(), 17);
    assert_eq!(serde_json::to_string(&fields).unwrap(), record);
}

#[test]
fn a_web_sdk_request_makes_the_golden_record() {
    let mut request = request(
        "/collect?platform=Web&appId=shop&event_bundle_sequence_id=7&upload_timestamp=1719469182900&hashCode=5c1b2f3a",
    );
    request.user_agent = Some(b"Mozilla/5.0 (X11; Linux x86_64) \"quoted\"");
    request.forwarded_for = Some(b"203.0.113.9, 10.0.0.1");
    let body = r#"[{"event_id":"a-1","event_type":"_page_view","attributes":{"title":"Käse \"frisch\""}}]"#;
    check_golden(
        &run(&request, body.as_bytes()),
        include_str!("golden/web.json"),
    );
}

#[test]
fn a_mobile_sdk_request_makes_the_golden_record() {
    let mut request =
        request("/collect?platform=Android&appId=app+1&compression=gzip&fakeIp=198.51.100.4");
    request.id = RequestId(42);
    request.received_at = Wall {
        secs: 1_709_251_199,
        nanos: 0,
    };
    check_golden(
        &run(&request, b"H4sIAAAAAAAAA4uOBQApu0wNAgAAAA=="),
        include_str!("golden/mobile.json"),
    );
}

#[test]
fn a_bare_request_makes_the_golden_null_record() {
    let mut request = request("/collect");
    request.method = "GET";
    request.peer = "::1".parse().unwrap();
    request.id = RequestId(u128::MAX);
    request.received_at = Wall {
        secs: 0,
        nanos: 1_000_000,
    };
    check_golden(&run(&request, b""), include_str!("golden/bare.json"));
}

#[test]
fn a_hostile_request_makes_the_golden_escaped_record() {
    let mut request = request(
        "/collect/\\x?appId=a&appId=b%ff&compression=&fakeIp&platform=%zz&upload_timestamp=soon",
    );
    request.method = "P\"UT";
    request.user_agent = Some(b"\xff\x01");
    request.forwarded_for = Some(b"\xc3\"");
    request.received_at.nanos = 500_000_000;
    let body = b"\x00\x1f\x08\x0c\n\r\t\"\\/\x7f\xff\xf0\x9f\xe2\x80\xa8";
    check_golden(&run(&request, body), include_str!("golden/hostile.json"));
}

#[test]
fn an_allowed_fake_ip_makes_its_golden_record() {
    let mut development = plan(PartitionRule::Random);
    development.fake_ip = true;
    let run = |request: &RequestContext<'_>| {
        let mut out = Prepared::default();
        development
            .run(request, b"[{}]", 1 << 20, &mut out)
            .unwrap();
        String::from_utf8(out.records[0].payload.to_vec()).unwrap()
    };
    let mut with = request("/collect?appId=shop&fakeIp=198.51.100.4&platform=Web");
    with.forwarded_for = Some(b"203.0.113.9");
    let golden = include_str!("golden/fake_ip.json");
    assert_eq!(run(&with), golden.trim_end_matches('\n'));
    // Without one, or with an empty one, a record is what it is otherwise.
    for uri in ["/collect?appId=shop", "/collect?fakeIp=", "/collect?fakeIp"] {
        let mut without = request(uri);
        without.forwarded_for = Some(b"203.0.113.9");
        assert_eq!(run(&without), self::run(&without, b"[{}]"), "{uri}");
    }
}

#[test]
fn an_upload_timestamp_beyond_long_is_null() {
    for bad in [
        "",
        "soon",
        "1.5",
        "1e3",
        "+1",
        "%2B1",
        "-",
        " 1",
        "9223372036854775808",
        "%D9%A1",
    ] {
        let uri = format!("/collect?upload_timestamp={bad}");
        let record = run(&request(&uri), b"");
        assert!(
            record.contains(r#","upload_timestamp":null,"#),
            "{bad}: {record}"
        );
        assert!(!record.contains("client_timestamp"), "{bad}: {record}");
    }
    for good in ["0", "-5", "0012", "9223372036854775807"] {
        let uri = format!("/collect?upload_timestamp={good}");
        let record = run(&request(&uri), b"");
        assert!(
            record.contains(&format!(r#","client_timestamp":"{good}","#)),
            "{record}"
        );
        assert!(!record.contains(r#""upload_timestamp":"#), "{record}");
    }
}

#[test]
fn an_envelope_over_the_limit_is_refused_with_its_size() {
    let request = request("/collect?appId=a");
    let body = "\"\u{1}x".repeat(100);
    let len = run(&request, body.as_bytes()).len();
    let mut out = Prepared::default();
    let plan = plan(PartitionRule::Random);
    assert_eq!(plan.run(&request, body.as_bytes(), len, &mut out), Ok(()));
    assert_eq!(
        plan.run(&request, body.as_bytes(), len - 1, &mut out),
        Err(Reject::RecordTooLarge {
            limit: len - 1,
            actual: len
        })
    );
    assert_eq!(
        (out.received, out.records.len(), out.rejected.len()),
        (0, 0, 0)
    );
}

#[test]
fn the_key_counts_towards_the_record_limit() {
    let request = request("/collect?appId=a");
    let len = run(&request, b"x").len();
    let mut out = Prepared::default();
    let plan = plan(PartitionRule::Field("appId".into()));
    assert_eq!(plan.run(&request, b"x", len + 1, &mut out), Ok(()));
    let (limit, actual) = (len, len + 1);
    assert_eq!(
        plan.run(&request, b"x", limit, &mut out),
        Err(Reject::RecordTooLarge { limit, actual })
    );
}

#[test]
fn the_partition_key_is_the_timestamp_or_a_query_parameter() {
    let long = format!("/collect?appId={}", "%C3%A9".repeat(300));
    let key = |rule: PartitionRule, uri: &str| {
        let mut out = Prepared::default();
        plan(rule)
            .run(&request(uri), b"", 1 << 20, &mut out)
            .unwrap();
        let key = out.records[0].key.clone();
        key.map(|key| String::from_utf8(key.to_vec()).unwrap())
    };
    let field = || PartitionRule::Field("appId".into());
    assert_eq!(
        key(PartitionRule::Timestamp, "/collect").as_deref(),
        Some("2024-06-27T06:19:45.547102438Z")
    );
    assert_eq!(
        key(field(), "/collect?appId=sh%6Fp").as_deref(),
        Some("shop")
    );
    assert_eq!(
        key(field(), "/collect?appId=%ff").as_deref(),
        Some("\u{fffd}")
    );
    assert_eq!(key(field(), &long), Some("é".repeat(256)));
    assert_eq!(key(field(), "/collect?appId="), None);
    assert_eq!(key(field(), "/collect?app=1"), None);
    assert_eq!(key(PartitionRule::Random, "/collect?appId=a"), None);
}

proptest! {
    #[test]
    fn any_request_makes_17_sorted_fields(
        body in prop::collection::vec(any::<u8>(), 0..600),
        query in prop::option::of("[ -~]{0,80}"),
        agent in prop::option::of(prop::collection::vec(1..=255_u8, 0..80)),
        forwarded in prop::option::of(prop::collection::vec(1..=255_u8, 0..80)),
    ) {
        let uri = match &query {
            Some(query) => format!("/collect?{query}"),
            None => "/collect".into(),
        };
        let mut request = request(&uri);
        request.user_agent = agent.as_deref();
        request.forwarded_for = forwarded.as_deref();
        let record = run(&request, &body);
        let fields: BTreeMap<String, Value> = serde_json::from_str(&record).unwrap();
        prop_assert_eq!(fields.len(), 17);
        prop_assert_eq!(&serde_json::to_string(&fields).unwrap(), &record);
        prop_assert_eq!(&fields["data"], &Value::from(String::from_utf8_lossy(&body)));
        prop_assert_eq!(&fields["uri"], &Value::from(uri.as_str()));
        let agent = agent.filter(|agent| !agent.is_empty());
        prop_assert_eq!(&fields["ua"], &Value::from(agent.map(|agent| String::from_utf8_lossy(&agent).into_owned())));
    }
}
