//! Contracts: the walk over an event's bytes against obvious code over its values, and what becomes of bad events.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_core::ack::OutputId;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::schema::paths::{Demand, DemandError, shape};
use sluice_core::schema::shape::{
    Choices, Count, Limit, NAME_BYTES_MAX, Node, Others, ShapeError, Types,
};
use sluice_core::schema::{Check, OnViolation, Schema, SchemaId, Schemas};
use std::sync::Arc;
use support::request;

fn plan(check: Option<Arc<dyn Check>>, on_violation: OnViolation) -> Plan {
    let schema = Schema::new("clicks", on_violation);
    if let Some(check) = check {
        schema.set(check);
    }
    Plan {
        schemas: Some(Arc::new(Schemas {
            list: vec![Arc::new(schema)],
            unmatched: Some(SchemaId(0)),
        })),
        ..Plan::new(Mode::Event, PartitionRule::Random)
    }
}

fn run(plan: &Plan, body: &str) -> Prepared {
    let mut out = Prepared::default();
    plan.run(&request(), body.as_bytes(), usize::MAX, &mut out)
        .unwrap();
    out
}

fn demand(path: &str, demand: Demand) -> (sluice_core::route::path::FieldPath, Demand) {
    (path.parse().unwrap(), demand)
}

fn is_number(name: &str) -> Arc<dyn Check> {
    let demands = [demand(name, Demand::Types(Types::NUMBER))];
    Arc::new(shape(&demands).unwrap())
}

/// The events that were stored, without the fields of every event.
fn stored(out: &Prepared) -> Vec<Value> {
    let event = |payload: &[u8]| {
        let mut event: Value = serde_json::from_slice(payload).unwrap();
        let members = event.as_object_mut().unwrap();
        members.retain(|name, _| !["ingest_time", "rid", "ip"].contains(&name.as_str()));
        event
    };
    out.records
        .iter()
        .map(|record| event(&record.payload))
        .collect()
}

#[test]
fn a_tagged_event_is_stored_with_its_violation() {
    let plan = plan(Some(is_number("a.n")), OnViolation::Tag);
    let out = run(&plan, r#"[{"a":{"n":1}},{"a":{"n":"x"},"b":2}]"#);
    let error = json!({
        "schema": "clicks", "rule": "type", "path": "/a/n", "reason": "expected number",
    });
    let expected = [
        json!({"a": {"n": 1}}),
        json!({"a": {"n": "x"}, "b": 2, "schema_error": error}),
    ];
    assert_eq!(stored(&out), expected);
    assert!(out.rejected.is_empty());
}

#[test]
fn a_client_cannot_forge_a_schema_error() {
    let plan = plan(Some(is_number("n")), OnViolation::Tag);
    for (sent, kept) in [
        (r#"{"n":1,"schema_error":{"rule":"x"}}"#, json!({"n": 1})),
        (
            r#"{"schema\u005ferror":1,"n":2,"schema_error":3}"#,
            json!({"n": 2}),
        ),
        (r#"{"schema_error":1}"#, json!({})),
    ] {
        assert_eq!(stored(&run(&plan, sent)), [kept]);
    }
    let out = run(&plan, r#"{"n":"x","schema_error":1}"#);
    assert_eq!(stored(&out)[0]["schema_error"]["rule"], "type");
    assert_eq!(
        out.records[0]
            .payload
            .iter()
            .filter(|b| **b == b'{')
            .count(),
        2
    );
}

#[test]
fn a_rejected_event_is_named_by_index_path_and_reason() {
    let plan = plan(Some(is_number("n")), OnViolation::Reject);
    let out = run(&plan, r#"[{"n":1},{"n":[]}]"#);
    assert_eq!((out.records.len(), out.rejected.len()), (1, 1));
    let (index, reject) = &out.rejected[0];
    assert_eq!((*index, reject.label()), (1, "schema_violated"));
    assert_eq!(reject.path(), Some("/n"));
    let expected = "schema `clicks`: `/n` breaks `type`: expected number";
    assert_eq!(reject.to_string(), expected);
}

#[test]
fn a_dead_letter_stands_in_for_an_event_that_was_taken() {
    use sluice_core::letter::Letters;
    let mut plan = plan(Some(is_number("n")), OnViolation::DeadLetter);
    let body = r#"[{"n":1},{"n":"x","m":"a\"b"}]"#;
    // The configuration does not allow it: whoever sent the event is told.
    assert_eq!(run(&plan, body).rejected.len(), 1);
    plan.letters = Some(Arc::new(Letters {
        output: OutputId(3),
        refused: Vec::new(),
        routes: Vec::new(),
    }));
    let out = run(&plan, body);
    assert_eq!((out.records.len(), out.rejected.len()), (1, 0));
    assert_eq!(out.taken_letters().collect::<Vec<_>>(), [1]);
    let letter: Value = serde_json::from_slice(&out.letters[0].record.payload).unwrap();
    let expected = json!([
        "schema",
        "type",
        "clicks",
        "`/n` breaks `type`: expected number"
    ]);
    let found = ["reason", "code", "schema", "message"].map(|key| letter[key].clone());
    assert_eq!(json!(found), expected);
    let event: Value = serde_json::from_str(letter["event"].as_str().unwrap()).unwrap();
    assert_eq!((&event["n"], &event["m"]), (&json!("x"), &json!("a\"b")));
    assert!(event["ingest_time"].is_number());
    // A letter that does not fit is the client's to know.
    let mut small = Prepared::default();
    plan.run(&request(), body.as_bytes(), 200, &mut small)
        .unwrap();
    assert_eq!(small.rejected[0].1.label(), "record_too_large");
}

#[test]
fn letters_about_tiny_events_are_bounded_by_the_request() {
    use sluice_core::letter::Letters;
    let mut plan = plan(Some(is_number("n")), OnViolation::DeadLetter);
    plan.letters = Some(Arc::new(Letters {
        output: OutputId(3),
        refused: Vec::new(),
        routes: Vec::new(),
    }));
    let body = format!("[{}]", vec![r#"{"n":""}"#; 500].join(","));
    let out = run(&plan, &body);
    assert_eq!(out.taken_letters().count() + out.rejected.len(), 500);
    assert!(out.taken_letters().count() >= 64 * 1_024 / 1_600);
    assert_eq!(out.rejected[0].1.label(), "records_too_large");
}

#[test]
fn a_schema_without_a_check_refuses_nothing_and_counts() {
    use sluice_core::schema::CheckResult;
    let plan = plan(None, OnViolation::Reject);
    let out = run(&plan, r#"{"n":"x"}"#);
    assert_eq!(out.records.len(), 1);
    assert_eq!(out.schema_outcomes()[0].result, CheckResult::Unchecked);
}

#[test]
fn a_new_check_holds_from_the_next_request_on() {
    let plan = plan(Some(is_number("n")), OnViolation::Reject);
    let mut out = Prepared::default();
    let mut rejected = || {
        let body = br#"{"n":"x"}"#;
        plan.run(&request(), body.as_slice(), usize::MAX, &mut out)
            .unwrap();
        out.rejected.len()
    };
    assert_eq!(rejected(), 1);
    plan.schemas.as_ref().unwrap().list[0].set(is_number("other"));
    assert_eq!(rejected(), 0);
}

#[test]
fn paths_reach_into_arrays_of_objects() {
    let demands = [
        demand("items.price", Demand::Required),
        demand("items.price", Demand::Types(Types::NUMBER)),
        demand("id", Demand::Chars(Count { min: 2, max: 3 })),
    ];
    let shape = shape(&demands).unwrap();
    let broken = |event: &str| {
        shape
            .check(event.as_bytes())
            .err()
            .map(|it| (it.path, it.reason))
    };
    for good in [
        r#"{"items":{"price":1}}"#,
        r#"{"items":[{"price":1},{"price":2}],"id":"éé"}"#,
        r#"{"items":[],"id":7}"#,
    ] {
        assert_eq!(broken(good), None, "{good}");
    }
    for (bad, path, reason) in [
        ("{}", "", "`items` is missing"),
        (r#"{"items":1}"#, "/items", "expected array or object"),
        (
            r#"{"items":[{"price":1},{}]}"#,
            "/items/1",
            "`price` is missing",
        ),
        (r#"{"items":[1]}"#, "/items/0", "expected object"),
        (
            r#"{"items":[{"price":""}]}"#,
            "/items/0/price",
            "expected number",
        ),
        (
            r#"{"items":[],"id":"é"}"#,
            "/id",
            "1 characters, at least 2 are needed",
        ),
        (
            r#"{"items":[],"id":"\u00e9bcd"}"#,
            "/id",
            "4 characters, at most 3 are allowed",
        ),
    ] {
        assert_eq!(
            broken(bad),
            Some((path.to_owned(), reason.to_owned())),
            "{bad}"
        );
    }
}

#[test]
fn demands_that_contradict_each_other_are_refused() {
    let text = || Demand::Types(Types::STRING);
    let refused = |demands: &[_]| shape(demands).unwrap_err();
    let path = || "a".parse().unwrap();
    let no_type = [demand("a", text()), demand("a.b", Demand::Required)];
    assert_eq!(
        refused(&no_type),
        DemandError::NoType("a.b".parse().unwrap())
    );
    let twice = || demand("a", Demand::Chars(Count { min: 1, max: 2 }));
    assert_eq!(refused(&[twice(), twice()]), DemandError::Twice(path()));
}

#[test]
fn an_object_has_up_to_64_required_members() {
    let mut node = Node::default();
    for at in 0..64 {
        let name = format!("m{at}");
        node.property(&name).unwrap();
        node.require(&name).unwrap();
    }
    let members: Vec<String> = (0..64).map(|at| format!("\"m{at}\":{at}")).collect();
    assert!(
        node.check(format!("{{{}}}", members.join(",")).as_bytes())
            .is_ok()
    );
    for at in 0..64 {
        let mut some = members.clone();
        some.remove(at);
        let error = node
            .check(format!("{{{}}}", some.join(",")).as_bytes())
            .unwrap_err();
        assert_eq!(error.reason, format!("`m{at}` is missing"));
    }
    node.property("over").unwrap();
    assert_eq!(
        node.require("over"),
        Err(ShapeError::Required { limit: 64 })
    );
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    assert!(matches!(
        node.property(&long),
        Err(ShapeError::Name {
            limit: 256,
            actual: 257
        })
    ));
}

/// The same by reading the values.
fn naive(node: &Rules, value: &Value) -> bool {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.as_f64().unwrap().fract() == 0.0 => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_typed = node.types.is_empty()
        || node.types.contains(&kind)
        || (kind == "integer" && node.types.contains(&"number"));
    let is_sized = match value {
        Value::String(text) => (1..=3).contains(&text.chars().count()),
        Value::Array(list) => list.len() <= 2,
        Value::Number(number) => number.as_f64().unwrap() < 10.0,
        _ => true,
    };
    // 2.0 is 2 (JSON Schema core, 4.2.2).
    let is_equal =
        |one: &Value| one == value || (one.is_number() && one.as_f64() == value.as_f64());
    let is_listed = node.one_of.is_empty() || node.one_of.iter().any(is_equal);
    let is_inside = match value {
        Value::Object(members) => {
            node.required.iter().all(|name| members.contains_key(*name))
                && members.iter().all(|(name, value)| {
                    let rule = node.properties.iter().find(|(known, _)| known == name);
                    rule.map_or(!node.is_closed, |(_, rule)| naive(rule, value))
                })
        }
        Value::Array(list) => {
            let each = node.element.as_ref();
            each.is_none_or(|each| list.iter().all(|value| naive(each, value)))
        }
        _ => true,
    };
    is_typed && (!node.is_sized || is_sized) && is_listed && is_inside
}

#[derive(Clone, Debug)]
struct Rules {
    types: Vec<&'static str>,
    is_sized: bool,
    one_of: Vec<Value>,
    required: Vec<&'static str>,
    properties: Vec<(&'static str, Rules)>,
    is_closed: bool,
    element: Option<Box<Rules>>,
}

impl Rules {
    fn node(&self) -> Node {
        let mut node = Node::default();
        if !self.types.is_empty() {
            let types = self.types.iter().map(|name| Types::named(name).unwrap());
            node.types = types.fold(Types::NONE, |all, one| all | one);
        }
        if self.is_sized {
            node.chars = Count { min: 1, max: 3 };
            node.elements = Count { min: 0, max: 2 };
            let (value, is_exclusive) = (10.0, true);
            node.most = Some(Limit {
                value,
                is_exclusive,
            });
        }
        if !self.one_of.is_empty() {
            let mut choices = Choices::default();
            for value in &self.one_of {
                match value {
                    Value::String(text) => choices.text(text),
                    Value::Number(number) => choices.number(number.as_f64().unwrap()),
                    Value::Bool(value) => choices.boolean(*value),
                    _ => choices.null(),
                }
            }
            node.one_of = Some(choices);
        }
        for (name, rules) in &self.properties {
            *node.property(name).unwrap() = rules.node();
        }
        for name in &self.required {
            let member = node.property(name).unwrap();
            if self.is_closed && !self.properties.iter().any(|(known, _)| known == name) {
                member.types = Types::NONE;
            }
            node.require(name).unwrap();
        }
        if self.is_closed {
            node.others = Others::Refused;
        }
        node.element = self.element.as_ref().map(|rules| Box::new(rules.node()));
        node
    }
}

const NAMES: [&str; 4] = ["a", "b", "é\"", "name"];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-3..15_i64).prop_map(Value::from),
        Just(json!(1.5)),
        Just(json!(2.0)),
        "[aé\"\\\\]{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let members =
            prop::collection::vec((prop::sample::select(&NAMES[..]), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| {
                let members = members.into_iter();
                Value::Object(
                    members
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let types = [
        "null", "boolean", "integer", "number", "string", "array", "object",
    ];
    let types = prop::collection::vec(prop::sample::select(types.to_vec()), 0..4);
    let listed = vec![
        json!(null),
        json!(true),
        json!(2),
        json!("a"),
        json!("é\""),
        json!(1.5),
    ];
    let listed = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(prop::sample::select(listed), 1..4),
    ];
    let leaf = (types, any::<bool>(), listed).prop_map(|(types, is_sized, one_of)| Rules {
        types,
        is_sized,
        one_of,
        required: Vec::new(),
        properties: Vec::new(),
        is_closed: false,
        element: None,
    });
    leaf.prop_recursive(3, 12, 3, |inner| {
        let properties =
            prop::collection::btree_map(prop::sample::select(&NAMES[..]), inner.clone(), 0..3);
        let required = prop::sample::subsequence(NAMES.to_vec(), 0..2);
        let element = prop::option::of(inner.prop_map(Box::new));
        (properties, required, any::<bool>(), element).prop_map(
            |(properties, required, is_closed, element)| Rules {
                types: Vec::new(),
                is_sized: false,
                one_of: Vec::new(),
                required,
                properties: properties.into_iter().collect(),
                is_closed,
                element,
            },
        )
    })
}

/// All characters of strings as escapes, and space wherever it may be.
fn spread(value: &Value) -> String {
    let quoted = |text: &str| {
        let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!(" \"{}\"\n", units.collect::<String>())
    };
    match value {
        Value::String(text) => quoted(text),
        Value::Array(list) => {
            let list: Vec<String> = list.iter().map(spread).collect();
            format!("[ {} ]", list.join(" ,"))
        }
        Value::Object(members) => {
            let members = members.iter();
            let members: Vec<String> = members
                .map(|(name, value)| format!("{}:{}", quoted(name), spread(value)))
                .collect();
            format!("{{\t{}}} ", members.join(","))
        }
        other => format!(" {other} "),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_walk_agrees_with_rules_applied_to_values(rules in rules(), value in value()) {
        let node = rules.node();
        let expected = naive(&rules, &value);
        prop_assert_eq!(node.check(value.to_string().as_bytes()).is_ok(), expected);
        let spread = spread(&value);
        prop_assert_eq!(node.check(spread.trim_ascii().as_bytes()).is_ok(), expected, "{}", spread);
    }

    #[test]
    fn no_bytes_make_a_check_panic_or_last(rules in rules(), text in r#"[{}\[\]":,\\ab1 ]{0,60}"#) {
        let _ = rules.node().check(text.as_bytes());
    }
}
