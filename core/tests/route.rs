//! Where rules send events: against a naive reading of the same rules by serde_json.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "route/names.rs"]
mod names;

use proptest::prelude::*;
use serde_json::Value as Json;
use sluice_core::ack::OutputId;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::{Prepared, PreparedRecord};
use sluice_core::priority::Priority;
use sluice_core::reject::Reject;
use sluice_core::request::{Door, RequestContext, RequestId};
use sluice_core::route::condition::{Comparison, Condition, Literal, Number, Test};
use sluice_core::route::rules::{
    FIELDS_MAX, OutputDefaults, QUERIES_MAX, RULES_MAX, RuleSettings, RuleTally, Rules, Source,
    TopicSettings,
};
use sluice_core::route::sample::Sample;
use sluice_core::route::{DeliveryClass, OutputSet};
use sluice_core::time::Wall;
use sluice_core::topic::Topics;
use std::net::IpAddr;
use std::sync::Arc;

const KEYED: OutputDefaults = OutputDefaults {
    keyed: true,
    by_topic: false,
};
const PLAIN: OutputDefaults = OutputDefaults {
    keyed: false,
    by_topic: false,
};

fn request() -> RequestContext<'static> {
    RequestContext {
        privacy: Default::default(),
        method: "POST",
        uri: "/v1/events?appId=shop&n=12",
        path: "/v1/events",
        query: Some("appId=sh%6fp&n=12"),
        user_agent: Some(b"curl/8"),
        forwarded_for: None,
        peer: IpAddr::from([192, 0, 2, 7]),
        id: RequestId(42),
        received_at: Wall::default(),
        door: Door {
            endpoint: "events",
            listener: "internal",
            host: Some(b"Events.Example:8088"),
        },
    }
}

fn rule(when: Option<Condition<Source>>, outputs: &[u16]) -> RuleSettings {
    RuleSettings {
        when,
        outputs: outputs.iter().map(|id| (OutputId(*id), None)).collect(),
        key: None,
        key_salt: Vec::new(),
        topic: None,
        sample: None,
        schema: None,
        priority: Priority::Mid,
    }
}

fn is(path: &str, test: Test) -> Option<Condition<Source>> {
    Some(Condition::Is(Source::Field(path.parse().unwrap()), test))
}

fn equals(text: &str) -> Test {
    Test::one_of([Literal::Text(text.to_owned())])
}

fn rules(list: Vec<RuleSettings>) -> Rules {
    Rules::new(list, Some(vec![OutputId(1)]), false, vec![KEYED, PLAIN]).unwrap()
}

fn plan(mode: Mode, rules: Rules) -> Plan {
    Plan {
        rules: Some(Arc::new(rules)),
        ..Plan::new(mode, PartitionRule::Field("user".to_owned()))
    }
}

fn run(plan: &Plan, body: &str) -> Prepared {
    let mut out = Prepared::default();
    plan.run(&request(), body.as_bytes(), 1 << 20, &mut out)
        .unwrap();
    out
}

fn outputs(record: &PreparedRecord) -> OutputSet {
    record.routing.as_ref().unwrap().outputs
}

fn set(ids: &[u16]) -> OutputSet {
    let with = |set: OutputSet, id: &u16| set.with(OutputId(*id));
    ids.iter().fold(OutputSet::NONE, with)
}

/// The key of the only record at an output.
fn key(out: &Prepared, output: u16) -> Option<String> {
    let routing = out.records[0].routing.as_ref().unwrap();
    let key = match routing.route(OutputId(output)) {
        Some(route) => &route.key,
        None => &out.records[0].key,
    };
    let key = key.as_ref()?;
    Some(String::from_utf8(key.to_vec()).unwrap())
}

#[test]
fn the_first_rule_that_matches_decides() {
    let plan = plan(
        Mode::Event,
        rules(vec![
            rule(is("type", equals("buy")), &[0]),
            rule(is("type", Test::Prefix(b"b".to_vec())), &[0, 1]),
        ]),
    );
    let out = run(
        &plan,
        r#"[{"type":"b\u0075y"},{"type":"bid"},{"type":"view"},{}]"#,
    );
    let found: Vec<_> = out.records.iter().map(outputs).collect();
    assert_eq!(found, [set(&[0]), set(&[0, 1]), set(&[1]), set(&[1])]);
    let events: Vec<_> = out
        .rule_tallies()
        .iter()
        .map(|tally| tally.events)
        .collect();
    assert_eq!(events, [1, 1, 2]);
}

#[test]
fn where_all_rules_count_the_first_decides_at_each_output() {
    let mut first = rule(None, &[0]);
    first.key = Some("field:a".parse().unwrap());
    let mut second = rule(None, &[0, 1]);
    second.key = Some("field:b".parse().unwrap());
    let mut third = rule(None, &[]);
    third.outputs = vec![(OutputId(0), Some(DeliveryClass::BestEffort))];
    let list = vec![first, second, third];
    let rules = Rules::new(list, None, true, vec![KEYED, PLAIN]).unwrap();
    let body = r#"{"a":"x","b":7,"user":"own"}"#;
    let out = run(&plan(Mode::Event, rules), body);
    assert_eq!(outputs(&out.records[0]), set(&[0, 1]));
    assert_eq!(key(&out, 0).as_deref(), Some("x"));
    assert_eq!(key(&out, 1).as_deref(), Some("7"));
    let routing = out.records[0].routing.as_ref().unwrap();
    assert_eq!(routing.route(OutputId(0)).unwrap().class, None);
}

#[test]
fn requests_are_matched_by_door_query_and_host() {
    for (source, matching) in [
        (Source::Endpoint, "events"),
        (Source::Listener, "internal"),
        (Source::Host, "events.example"),
        (Source::Query("appId".to_owned()), "shop"),
        (Source::Query("n".to_owned()), "12"),
    ] {
        for (text, expected) in [(matching, [0]), ("other", [1])] {
            let when = Some(Condition::Is(source.clone(), equals(text)));
            for mode in [Mode::Event, Mode::Envelope] {
                let out = run(&plan(mode, rules(vec![rule(when.clone(), &[0])])), "{}");
                assert_eq!(
                    outputs(&out.records[0]),
                    set(&expected),
                    "{source:?} {text}"
                );
            }
        }
    }
    let above = Test::Compare(Comparison::Above, Number::read(b"11.5").unwrap());
    let when = Some(Condition::Is(Source::Query("n".to_owned()), above));
    let out = run(&plan(Mode::Event, rules(vec![rule(when, &[0])])), "{}");
    assert_eq!(outputs(&out.records[0]), set(&[0]));
}

#[test]
fn envelopes_are_matched_by_their_keys() {
    for (key, value) in [
        ("appId", "shop"),
        ("path", "/v1/events"),
        ("method", "POST"),
        ("ip", "192.0.2.7"),
        ("ua", "curl/8"),
    ] {
        let matching = vec![rule(is(key, equals(value)), &[0])];
        let out = run(&plan(Mode::Envelope, rules(matching)), "opaque");
        assert_eq!(outputs(&out.records[0]), set(&[0]), "{key}");
    }
    for absent in ["platform", "data", "appId.x"] {
        let matching = vec![rule(is(absent, Test::Present(true)), &[0])];
        let out = run(&plan(Mode::Envelope, rules(matching)), "opaque");
        assert_eq!(outputs(&out.records[0]), set(&[1]), "{absent}");
    }
}

#[test]
fn a_key_is_the_first_present_field_and_missing_is_random() {
    let with = |key: &str, body: &str| {
        let mut rule = rule(None, &[0, 1]);
        rule.key = Some(key.parse().unwrap());
        rule.key_salt = b"Jefe".to_vec();
        let out = run(&plan(Mode::Event, rules(vec![rule])), body);
        let at = (self::key(&out, 0), self::key(&out, 1));
        assert_eq!(at.0, at.1);
        at.0
    };
    let body = r#"{"user":"own","a":{"b":"\u0078"},"n":17,"e":"","o":{},"secret":"what do ya want for nothing?"}"#;
    assert_eq!(with("field:a.b", body).as_deref(), Some("x"));
    assert_eq!(with("field:no,e,o,n", body).as_deref(), Some("17"));
    assert_eq!(with("field:no", body), None);
    assert_eq!(with("random", body), None);
    assert_eq!(
        with("timestamp", body).as_deref(),
        Some("1970-01-01T00:00:00Z")
    );
    assert_eq!(
        with("hmac:no,secret", body).as_deref(),
        Some("5bdcc146bf60754e6a042426089575c7")
    );
    assert_eq!(with("hmac:no", body), None);
}

#[test]
fn an_output_without_a_key_of_the_rule_keeps_its_own() {
    let mut named = rule(None, &[]);
    named.outputs = vec![
        (OutputId(0), Some(DeliveryClass::BestEffort)),
        (OutputId(1), Some(DeliveryClass::Required)),
    ];
    let out = run(&plan(Mode::Event, rules(vec![named])), r#"{"user":"own"}"#);
    // The first takes the event's key by default, the second does not.
    assert_eq!((key(&out, 0).as_deref(), key(&out, 1)), (Some("own"), None));
    let routing = out.records[0].routing.as_ref().unwrap();
    let class = |id| routing.route(OutputId(id)).unwrap().class;
    assert_eq!(class(0), Some(DeliveryClass::BestEffort));
    assert_eq!(class(1), Some(DeliveryClass::Required));
}

#[test]
fn a_key_counts_for_the_size_of_its_record() {
    let mut keyed = rule(None, &[0]);
    keyed.key = Some("field:k".parse().unwrap());
    let body = format!("{{\"k\":\"{}\"}}", "x".repeat(100));
    for mode in [Mode::Event, Mode::Envelope] {
        let mut keyed = keyed.clone();
        if mode == Mode::Envelope {
            keyed.key = Some("field:uri".parse().unwrap());
        }
        let plan = plan(mode, rules(vec![keyed]));
        let len = run(&plan, &body).records[0].payload.len();
        let key = if mode == Mode::Event {
            100
        } else {
            "/v1/events?appId=shop&n=12".len()
        };
        let mut out = Prepared::default();
        let (limit, actual) = (len + key - 1, len + key);
        let refused = plan.run(&request(), body.as_bytes(), limit, &mut out);
        let refused = refused
            .err()
            .or(out.rejected.pop().map(|(_, reject)| reject));
        assert_eq!(refused, Some(Reject::RecordTooLarge { limit, actual }));
        plan.run(&request(), body.as_bytes(), actual, &mut out)
            .unwrap();
        assert_eq!(out.records.len(), 1);
    }
}

fn by_topic(allowed: &[&str], names_max: usize) -> RuleSettings {
    let template = "clicks-{type}".parse().unwrap();
    let mut named = rule(None, &[1]);
    named.topic = Some(TopicSettings {
        topics: Arc::new(Topics::new(template, names_max)),
        fields: vec!["event.type".parse().unwrap()],
        allowed: allowed.iter().map(|name| (*name).to_owned()).collect(),
    });
    named
}

fn topics(rule: RuleSettings, body: &str) -> (Vec<Option<String>>, RuleTally) {
    let out = run(&plan(Mode::Event, rules(vec![rule])), body);
    let topic = |record: &PreparedRecord| {
        let routing = record.routing.as_ref().unwrap();
        let topic = routing.route(OutputId(1)).unwrap().topic.as_ref()?;
        Some(topic.as_str().to_owned())
    };
    (
        out.records.iter().map(topic).collect(),
        out.rule_tallies()[0],
    )
}

#[test]
fn names_over_the_bound_or_not_allowed_use_the_default() {
    let body = r#"[{"event":{"type":"a"}},{"event":{"type":"b"}},{"event":{"type":"c d"}},{"event":{}},{"event":{"type":"a"}}]"#;
    let name = |text: &str| Some(format!("clicks-{text}"));
    let (found, tally) = topics(by_topic(&[], 1), body);
    assert_eq!(found, [name("a"), None, None, None, name("a")]);
    assert_eq!((tally.events, tally.without_topic), (5, 3));
    // A name that is not allowed takes no place.
    let (found, tally) = topics(by_topic(&["clicks-b"], 1), body);
    assert_eq!(found, [None, name("b"), None, None, None]);
    assert_eq!((tally.events, tally.without_topic), (5, 4));
}

fn sampled(keep_per_mille: u32) -> Plan {
    let mut sampled = rule(None, &[0]);
    sampled.sample = Some((Sample { keep_per_mille }, "user".parse().unwrap()));
    plan(Mode::Event, rules(vec![sampled]))
}

#[test]
fn a_sample_keeps_all_events_of_a_user_or_none() {
    let plan = sampled(500);
    let users: Vec<String> = (0..100).map(|user| format!("u-{user}")).collect();
    let body: String = (0..3)
        .flat_map(|n| {
            users
                .iter()
                .map(move |user| format!("{{\"user\":\"{user}\",\"n\":{n}}}\n"))
        })
        .collect();
    let out = run(&plan, &body);
    assert_eq!(out.records.len(), 300);
    let tally = out.rule_tallies()[0];
    let (kept, left): (Vec<_>, Vec<_>) = out
        .records
        .iter()
        .partition(|record| outputs(record) == set(&[0]));
    assert_eq!((tally.events, tally.sampled_away), (300, left.len() as u64));
    assert!(
        left.iter()
            .all(|record| record.payload.is_empty() && outputs(record) == set(&[]))
    );
    assert!((60..240).contains(&kept.len()), "{}", kept.len());
    let mut of_users = std::collections::BTreeMap::new();
    for record in kept {
        let event: Json = serde_json::from_slice(&record.payload).unwrap();
        assert_eq!(event["sample_rate"], 0.5);
        *of_users.entry(event["user"].to_string()).or_insert(0) += 1;
    }
    assert!(of_users.values().all(|events| *events == 3));
}

#[test]
fn a_client_cannot_choose_its_sample_rate() {
    let plan = sampled(1_000);
    let out = run(
        &plan,
        r#"{"sample_rate":9,"user":"u","\u0073ample_rate":[8],"ip":"own"}"#,
    );
    let record = &out.records[0];
    let text = std::str::from_utf8(&record.payload).unwrap();
    assert!(
        text.starts_with(r#"{"user":"u","sample_rate":1,"ingest_time":"#),
        "{text}"
    );
    assert_eq!(key(&out, 0).as_deref(), Some("u"));
    // Without the field there is nothing to go by: it is kept, as it is.
    let out = run(&plan, r#"{"sample_rate":9}"#);
    let text = std::str::from_utf8(&out.records[0].payload).unwrap();
    assert!(
        text.starts_with(r#"{"sample_rate":9,"ingest_time""#),
        "{text}"
    );
    assert_eq!(
        (outputs(&out.records[0]), out.rule_tallies()[0].sampled_away),
        (set(&[0]), 0)
    );
}

#[test]
fn an_event_that_goes_nowhere_is_received_and_counted() {
    let plan = plan(
        Mode::Event,
        rules(vec![rule(is("bot", Test::Present(true)), &[])]),
    );
    let out = run(&plan, r#"[{"bot":true},{"user":"u"},{"bot":1}]"#);
    assert_eq!(
        (
            out.received,
            out.records.len(),
            out.rule_tallies()[0].events
        ),
        (3, 3, 2)
    );
    let lengths: Vec<_> = out
        .records
        .iter()
        .map(|record| !record.payload.is_empty())
        .collect();
    assert_eq!(lengths, [false, true, false]);
    let out = run(&plan, "{\"bot\":1}");
    assert_eq!((out.records.len(), out.records[0].payload.len()), (1, 0));
}

#[test]
fn an_event_that_no_rule_matches_goes_everywhere_by_default() {
    let bots = rule(is("bot", Test::Present(true)), &[0]);
    let rules = Rules::new(vec![bots], None, false, vec![KEYED, PLAIN]).unwrap();
    let out = run(&plan(Mode::Event, rules), r#"[{"user":"u"},{"bot":1}]"#);
    assert_eq!(out.records[0].routing, None);
    assert_eq!(outputs(&out.records[1]), set(&[0]));
    assert_eq!(out.rule_tallies()[1].events, 1);
}

#[test]
fn rules_beyond_their_bounds_are_refused_with_the_limit() {
    let new = |list: Vec<RuleSettings>| {
        let rules = Rules::new(list, None, false, vec![]);
        rules.map(|_| ()).map_err(|error| error.to_string())
    };
    let many = |count: usize| (0..count).map(|_| rule(None, &[0])).collect();
    assert_eq!(new(many(RULES_MAX)), Ok(()));
    assert_eq!(
        new(many(RULES_MAX + 1)),
        Err("there are 65 rules, at most 64 are allowed".to_owned())
    );
    let reading = |count: usize, source: &dyn Fn(usize) -> Source| {
        let tests = (0..count).map(|at| Condition::Is(source(at), Test::Present(true)));
        vec![rule(Some(Condition::Any(tests.collect())), &[0])]
    };
    let field = |at: usize| Source::Field(format!("a.f{at}").parse().unwrap());
    assert_eq!(new(reading(FIELDS_MAX, &field)), Ok(()));
    assert_eq!(
        new(reading(FIELDS_MAX + 1, &field)),
        Err("the rules read more than 64 different fields: `a.f64` is one too many".to_owned())
    );
    let query = |at: usize| Source::Query(format!("q{at}"));
    assert_eq!(new(reading(QUERIES_MAX, &query)), Ok(()));
    assert_eq!(
        new(reading(QUERIES_MAX + 1, &query)),
        Err(
            "the rules read more than 16 different query parameters: `q16` is one too many"
                .to_owned()
        )
    );
}

/// What a test means, said with serde_json.
fn naive(condition: &Condition<Source>, event: &Json) -> bool {
    match condition {
        Condition::All(list) => list.iter().all(|one| naive(one, event)),
        Condition::Any(list) => list.iter().any(|one| naive(one, event)),
        Condition::Not(one) => !naive(one, event),
        Condition::Is(Source::Field(path), test) => {
            let mut value = Some(event);
            for name in path.names() {
                value = value.and_then(|value| value.as_object()?.get(name));
            }
            let value = value.filter(|value| !value.is_null());
            match test {
                Test::Present(wanted) => value.is_some() == *wanted,
                Test::Prefix(prefix) => value
                    .and_then(Json::as_str)
                    .is_some_and(|text| text.as_bytes().starts_with(prefix)),
                Test::OneOf { texts, others } => {
                    let is_text = value
                        .and_then(Json::as_str)
                        .is_some_and(|text| texts.contains(text.as_bytes()));
                    let number = value.and_then(Json::as_f64);
                    is_text
                        || others.iter().any(|other| match other {
                            Literal::Switch(switch) => value == Some(&Json::Bool(*switch)),
                            Literal::Number(wanted) => number.is_some_and(|number| {
                                Number::read(number.to_string().as_bytes()) == Some(*wanted)
                            }),
                            Literal::Text(_) => false,
                        })
                }
                Test::Compare(comparison, Number::Whole(than)) => {
                    let Some(number) = value.and_then(Json::as_f64) else {
                        return false;
                    };
                    let than = *than as f64;
                    match comparison {
                        Comparison::Above => number > than,
                        Comparison::AtLeast => number >= than,
                        Comparison::Below => number < than,
                        Comparison::AtMost => number <= than,
                    }
                }
                Test::Compare(_, Number::Float(_)) => panic!("none is generated"),
            }
        }
        Condition::Is(source, _) => panic!("none is generated: {source:?}"),
    }
}

const NAMES: [&str; 4] = ["a", "b", "é", "c.d"];

fn path() -> impl Strategy<Value = Source> {
    let name = prop::sample::select(NAMES.to_vec());
    prop::collection::vec(name, 1..4).prop_map(|names| {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        Source::Field(names.join(".").parse().unwrap())
    })
}

fn test() -> impl Strategy<Value = Test> {
    let literal = prop_oneof![
        prop::sample::select(vec!["x", "xy", "\"\n"])
            .prop_map(|text| Literal::Text(text.to_owned())),
        (-2..3_i64).prop_map(|number| Literal::Number(Number::Whole(number))),
        any::<bool>().prop_map(Literal::Switch),
    ];
    let comparison = prop::sample::select(vec![
        Comparison::Above,
        Comparison::AtLeast,
        Comparison::Below,
        Comparison::AtMost,
    ]);
    prop_oneof![
        any::<bool>().prop_map(Test::Present),
        prop::collection::vec(literal, 0..3).prop_map(Test::one_of),
        prop::sample::select(vec!["", "x", "\""]).prop_map(|text| Test::Prefix(text.into())),
        (comparison, -2..3_i64)
            .prop_map(|(comparison, than)| Test::Compare(comparison, Number::Whole(than))),
    ]
}

fn condition() -> impl Strategy<Value = Condition<Source>> {
    let leaf = (path(), test()).prop_map(|(source, test)| Condition::Is(source, test));
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Condition::All),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Condition::Any),
            inner.prop_map(|one| Condition::Not(Box::new(one))),
        ]
    })
}

/// The text of an event, with escapes and spaces where JSON allows them.
fn event() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "\"x\"",
            "\"\\u0078y\"",
            "\"\\\"\\n\"",
            "\"\"",
            "1",
            "-2",
            "1.0",
            "2e0",
            "true",
            "false",
            "null",
            "[{\"a\":\"x\"}]",
        ])
        .prop_map(str::to_owned),
    ];
    let name = prop::sample::select(vec![
        "\"a\"",
        "\"\\u0061\"",
        "\"b\"",
        "\"é\"",
        "\"\\u00e9\"",
        "\"c.d\"",
        "\"z\"",
    ]);
    let object = move |value: BoxedStrategy<String>| {
        prop::collection::vec((name.clone(), value), 0..6).prop_map(|members| {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name} : {value}"))
                .collect();
            format!("{{{}}}", members.join(" ,\n"))
        })
    };
    let top = object.clone();
    let value = leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![inner.clone(), object.clone()(inner.boxed())]
    });
    top(value.boxed())
}

proptest! {
    #[test]
    fn rules_decide_as_serde_json_reads_the_event(
        conditions in prop::collection::vec(condition(), 1..4),
        events in prop::collection::vec(event(), 1..4),
        topic_fields in 0..4_usize,
    ) {
        let list = conditions.iter().map(|when| rule(Some(when.clone()), &[0])).collect();
        let plan = Plan {
            // Leaves the scan with fewer slots, so that rules have to find fields by themselves.
            topics: (topic_fields > 0).then(|| {
                let template: String = (0..topic_fields).map(|at| format!("{{t{at}}}")).collect();
                Arc::new(Topics::new(format!("t{template}").parse().unwrap(), 1))
            }),
            ..plan(Mode::Event, rules(list))
        };
        let out = run(&plan, &format!("[{}]", events.join(",")));
        let mut tallies = vec![0; conditions.len() + 1];
        for (text, record) in events.iter().zip(&out.records) {
            let event: Json = serde_json::from_str(text).unwrap();
            let first = conditions.iter().position(|when| naive(when, &event));
            tallies[first.unwrap_or(conditions.len())] += 1;
            prop_assert_eq!(outputs(record), set(&[u16::from(first.is_none())]), "{}", text);
        }
        let found: Vec<u64> = out.rule_tallies().iter().map(|tally| tally.events).collect();
        prop_assert_eq!(found, tallies);
    }
}
