//! Which topic a record names: by the fields of an event, by the query of an envelope.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::{Prepared, PreparedRecord};
use sluice_core::request::{RequestContext, RequestId};
use sluice_core::time::Wall;
use sluice_core::topic::{NAME_BYTES_MAX, Topics, is_name};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

fn name_of(record: &PreparedRecord) -> Option<&'static str> {
    let topic = record.topic.as_ref()?;
    Some(topic.as_str().to_owned().leak())
}

/// The topics of the records that a plan with this template makes of a body and a query.
fn topics(
    mode: Mode,
    template: &str,
    query: Option<&str>,
    body: &str,
) -> Vec<Option<&'static str>> {
    let plan = Plan {
        topics: Some(Arc::new(Topics::new(template.parse().unwrap(), 10))),
        ..Plan::new(mode, PartitionRule::Field("user".to_owned()))
    };
    let mut out = Prepared::default();
    run(&plan, query, body, &mut out);
    out.records.iter().map(name_of).collect()
}

fn run(plan: &Plan, query: Option<&str>, body: &str, out: &mut Prepared) {
    let request = RequestContext {
        uri: "/collect",
        path: "/collect",
        query,
        user_agent: Some(b"test"),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        id: RequestId(1),
        received_at: Wall::default(),
        ..support::request()
    };
    plan.run(&request, body.as_bytes(), 1 << 20, out).unwrap();
}

#[test]
fn each_event_selects_its_topic_by_its_fields() {
    let body = r#"[{"type":"view","user":"u"},{"type":"buy\u002d2"},{"user":"u"},{"type":7},
        {"type":""},{"type":"a b"},{"type":null},{"type":{"type":"view"}},{"type":"first","type":"last"}]"#;
    assert_eq!(
        topics(Mode::Event, "t-{type}", None, body),
        [
            Some("t-view"),
            Some("t-buy-2"),
            None,
            Some("t-7"),
            None,
            None,
            None,
            None,
            Some("t-last"),
        ]
    );
}

#[test]
fn the_maximum_of_template_fields_is_found() {
    let body = r#"{"a":"1","b":"2","c":"3","user":"u","ip":"10.0.0.1"}"#;
    let found = topics(Mode::Event, "t.{a}.{b}.{c}", None, body);
    assert_eq!(found, [Some("t.1.2.3")]);
    // A field of the server's is nobody's: what the client sent under that name goes before.
    assert_eq!(topics(Mode::Event, "t-{ip}", None, body), [None]);
    assert_eq!(topics(Mode::Event, "t-{rid}", None, body), [None]);
}

#[test]
fn an_envelope_selects_its_topic_by_query_parameters() {
    let body = r#"{"appId":"body"}"#;
    let envelope = |query| topics(Mode::Envelope, "clicks-{appId}", query, body);
    for (query, expected) in [
        ("appId=shop&platform=Web", Some("clicks-shop")),
        ("appId=sh%6Fp", Some("clicks-shop")),
        ("appId=a&appId=b", Some("clicks-b")),
        ("appId=", None),
        ("appid=shop", None),
        ("appId=sh%20op", None),
        ("appId=..%2Fetc", None),
        ("appId=%ff", None),
    ] {
        assert_eq!(envelope(Some(query)), [expected], "{query}");
    }
    assert_eq!(envelope(None), [None]);
}

#[test]
fn a_topic_changes_neither_key_nor_payload() {
    let body = r#"[{"type":"view","user":"u-1"},{"user":"u-2"}]"#;
    for mode in [Mode::Event, Mode::Envelope] {
        let plain = Plan::new(mode, PartitionRule::Field("user".to_owned()));
        let with = Plan {
            topics: Some(Arc::new(Topics::new("t-{type}".parse().unwrap(), 10))),
            ..plain.clone()
        };
        let (mut first, mut second) = (Prepared::default(), Prepared::default());
        run(&plain, Some("user=u-3"), body, &mut first);
        run(&with, Some("user=u-3"), body, &mut second);
        for (first, second) in first.records.iter().zip(&second.records) {
            assert_eq!(first.topic, None);
            assert_eq!((&first.key, &first.payload), (&second.key, &second.payload));
        }
    }
}

#[test]
fn both_modes_share_one_bound() {
    let shared = Arc::new(Topics::new("t-{a}".parse().unwrap(), 2));
    let plan = |mode| Plan {
        topics: Some(Arc::clone(&shared)),
        ..Plan::new(mode, PartitionRule::Random)
    };
    let mut out = Prepared::default();
    let mut topics = |mode, query, body| {
        run(&plan(mode), Some(query), body, &mut out);
        out.records.iter().map(name_of).collect::<Vec<_>>()
    };
    assert_eq!(topics(Mode::Event, "", r#"{"a":"1"}"#), [Some("t-1")]);
    assert_eq!(topics(Mode::Envelope, "a=2", "x"), [Some("t-2")]);
    assert_eq!(topics(Mode::Envelope, "a=3", "x"), [None]);
    assert_eq!(
        topics(Mode::Event, "", r#"[{"a":"4"},{"a":"2"}]"#),
        [None, Some("t-2")]
    );
}

/// A value as its JSON string, every character escaped or none.
fn quoted(value: &str, escape: bool) -> String {
    if !escape {
        return serde_json::to_string(value).unwrap();
    }
    let units = value.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
    format!("\"{}\"", units.collect::<String>())
}

proptest! {
    #[test]
    fn client_topics_stay_behind_the_prefix(
        value in prop_oneof![".{0,20}", "[a-zA-Z0-9._-]{0,300}", "[a-z]{1,3}[/ \\x00{}]?"],
        escape in prop::bool::ANY,
    ) {
        let body = format!("{{\"a\":{}}}", quoted(&value, escape));
        let found = topics(Mode::Event, "t.{a}", None, &body);
        let legal = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let fits = (1..=NAME_BYTES_MAX - 2).contains(&value.len());
        let expected = (legal && fits).then(|| format!("t.{value}"));
        prop_assert!(expected.as_deref().is_none_or(is_name));
        prop_assert_eq!(found, [expected.as_deref()]);
    }
}
