//! What an event costs on its way through a whole plan: rules, a key, privacy, all of them together.
//!
//! Every plan is tried once and its counts are compared before it is timed. With `--rounds N PLAN INPUT` it is run
//! that often and not timed, for a tool that counts instructions: the difference of two such runs is exact.

#![allow(missing_docs, reason = "criterion's macros make items without docs")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot do its work has to stop"
)]

mod inputs;

use criterion::{Criterion, Throughput, criterion_group};
use inputs::{batch, event, request};
use sluice_core::ack::OutputId;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::privacy::{Action, AddressRule, HashKey, Privacy, Rules as PrivacyRules};
use sluice_core::request::RequestContext;
use sluice_core::route::condition::{Condition, Literal, Test};
use sluice_core::route::rules::{OutputDefaults, RuleSettings, Rules, Source};
use sluice_core::schema::shape::{Choices, Count, Limit, Node, Types};
use sluice_core::schema::{CheckResult, OnViolation, Outcome, Schema, SchemaId, Schemas};
use std::hint::black_box;
use std::sync::Arc;

/// A rule on two fields, of which only one is the event's own, and the user's id as its key.
fn routed(plan: Plan) -> Plan {
    let field = |path: &str| Source::Field(path.parse().unwrap());
    let is_page_view = Test::one_of([Literal::Text("_page_view".to_owned())]);
    let rule = RuleSettings {
        when: Some(Condition::All(vec![
            Condition::Is(field("event_type"), is_page_view),
            Condition::Is(field("attributes._session_number"), Test::Present(true)),
        ])),
        outputs: vec![(OutputId(0), None)],
        key: Some("field:unique_id".parse().unwrap()),
        key_salt: Vec::new(),
        topic: None,
        sample: None,
        schema: Some(SchemaId(0)),
        priority: sluice_core::priority::Priority::default(),
    };
    let output = OutputDefaults {
        keyed: false,
        by_topic: false,
    };
    let rules = Rules::new(vec![rule], None, false, vec![output; 2]).unwrap();
    Plan {
        rules: Some(Arc::new(rules)),
        ..plan
    }
}

/// Three fields redacted, and the address cut to its network.
fn private(plan: Plan, first: Action) -> Plan {
    let fields = [
        ("unique_id", first),
        ("device_id", Action::Mask),
        ("attributes._page_title", Action::Drop),
    ];
    let fields = fields.map(|(path, action)| (path.parse().unwrap(), action));
    let rules = PrivacyRules {
        fields: fields.to_vec(),
        keys: vec![HashKey::new("k1", &[7; 32]).unwrap()],
        addresses: AddressRule::Truncate,
        ..PrivacyRules::default()
    };
    Plan {
        privacy: Some(Arc::new(Privacy::new(&rules).unwrap())),
        ..plan
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

/// The same with a schema that every event keeps to.
fn checked(plan: Plan, shape: Node) -> Plan {
    let schema = Schema::new("clicks", OnViolation::Tag);
    schema.set(Arc::new(shape));
    let schemas = Schemas {
        list: vec![Arc::new(schema)],
        unmatched: Some(SchemaId(0)),
    };
    Plan {
        schemas: Some(Arc::new(schemas)),
        ..plan
    }
}

/// Two fields that are required, with their types and lengths.
fn demands() -> Node {
    let mut shape = Node::default();
    for name in ["event_type", "event_id"] {
        shape.require(name).unwrap();
        let text = shape.property(name).unwrap();
        text.types = Types::STRING;
        text.chars = Count { min: 1, max: 64 };
    }
    shape
}

fn plain() -> Plan {
    Plan::new(Mode::Event, PartitionRule::Random)
}

/// All plans by their names, with what each does to an event: rules that match, values that are hashed, cut, masked
/// and dropped, addresses cut, schemas that are kept to.
fn plans() -> [(&'static str, Plan, [u64; 7]); 8] {
    let cut = Action::Truncate(8);
    [
        ("plain", plain(), [0; 7]),
        ("rules", routed(plain()), [1, 0, 0, 0, 0, 0, 0]),
        ("privacy", private(plain(), cut), [0, 0, 1, 1, 1, 1, 0]),
        (
            "schema of two fields",
            checked(plain(), demands()),
            [0, 0, 0, 0, 0, 0, 1],
        ),
        (
            "schema of 25 keywords",
            checked(plain(), shape()),
            [0, 0, 0, 0, 0, 0, 1],
        ),
        (
            "rules, privacy",
            private(routed(plain()), cut),
            [1, 0, 1, 1, 1, 1, 0],
        ),
        (
            "rules, privacy, schema of two fields",
            private(checked(routed(plain()), demands()), cut),
            [1, 0, 1, 1, 1, 1, 1],
        ),
        (
            "rules, privacy, one hashed",
            private(routed(plain()), Action::Hash),
            [1, 1, 0, 1, 1, 1, 0],
        ),
    ]
}

fn inputs_by_name() -> [(&'static str, Vec<u8>, u64); 2] {
    [
        ("1 KiB event", event(1_024), 1),
        ("16 KiB array of 20", batch(), 20),
    ]
}

fn run(plan: &Plan, request: &RequestContext<'_>, body: &[u8], out: &mut Prepared) {
    plan.run(black_box(request), black_box(body), 1 << 20, out)
        .unwrap();
}

/// Runs once, and compares what was done with what should be.
fn check(plan: &Plan, body: &[u8], events: u64, expected: [u64; 7]) {
    let mut out = Prepared::default();
    run(plan, &request(), body, &mut out);
    let matched = out.rule_tallies().first().map_or(0, |tally| tally.events);
    let tally = out.privacy;
    let [rules, hashed, cut, masked, dropped, addresses, kept] = expected;
    assert_eq!(out.records.len() as u64, events);
    let is_kept = |outcome: &&Outcome| outcome.result == CheckResult::Kept;
    let found = out.schema_outcomes().iter().filter(is_kept).count();
    assert_eq!(found as u64, kept * events);
    assert_eq!(
        [matched, tally.hashed, tally.truncated, tally.masked],
        [rules, hashed, cut, masked].map(|each| each * events)
    );
    // The client sends none: it is the server's, one a request.
    assert_eq!(
        [tally.dropped, tally.addresses],
        [dropped * events, addresses]
    );
    let has_key = |record: &sluice_core::prepared::PreparedRecord| {
        let routing = record.routing.as_ref();
        routing.is_some_and(|routing| routing.key_bytes() > 0)
    };
    assert_eq!(out.records.iter().all(has_key), rules == 1);
}

fn plan(c: &mut Criterion) {
    let request = request();
    for (input, body, events) in inputs_by_name() {
        let mut group = c.benchmark_group(format!("plan, {input}"));
        group.throughput(Throughput::Elements(events));
        for (name, plan, expected) in plans() {
            check(&plan, &body, events, expected);
            let mut out = Prepared::default();
            group.bench_function(name, |b| b.iter(|| run(&plan, &request, &body, &mut out)));
        }
        group.finish();
    }
}

fn rounds(rounds: &str, plan: &str, input: &str) {
    let (_, plan, _) = plans().into_iter().find(|known| known.0 == plan).unwrap();
    let mut inputs = inputs_by_name().into_iter();
    let (_, body, _) = inputs.find(|known| known.0 == input).unwrap();
    let (request, mut out) = (request(), Prepared::default());
    for _ in 0..rounds.parse::<u64>().unwrap() {
        run(&plan, &request, &body, &mut out);
    }
}

criterion_group!(benches, plan);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [flag, count, plan, input] if flag == "--rounds" => rounds(count, plan, input),
        _ => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}
