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
        schema: None,
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

fn plain() -> Plan {
    Plan::new(Mode::Event, PartitionRule::Random)
}

/// All plans by their names, with what each does to an event: rules that match, values that are hashed, cut, masked
/// and dropped, addresses cut.
fn plans() -> [(&'static str, Plan, [u64; 6]); 5] {
    let cut = Action::Truncate(8);
    [
        ("plain", plain(), [0; 6]),
        ("rules", routed(plain()), [1, 0, 0, 0, 0, 0]),
        ("privacy", private(plain(), cut), [0, 0, 1, 1, 1, 1]),
        ("all", private(routed(plain()), cut), [1, 0, 1, 1, 1, 1]),
        (
            "all, one hashed",
            private(routed(plain()), Action::Hash),
            [1, 1, 0, 1, 1, 1],
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
fn check(plan: &Plan, body: &[u8], events: u64, expected: [u64; 6]) {
    let mut out = Prepared::default();
    run(plan, &request(), body, &mut out);
    let matched = out.rule_tallies().first().map_or(0, |tally| tally.events);
    let tally = out.privacy;
    let [rules, hashed, cut, masked, dropped, addresses] = expected;
    assert_eq!(out.records.len() as u64, events);
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
