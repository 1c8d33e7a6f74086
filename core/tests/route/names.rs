//! Rules whose outputs list names: the template chooses between the outputs that have them.

use super::{PLAIN, by_topic, outputs, plan, rule, run, set};
use sluice_core::ack::OutputId;
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::route::key::KeyRule;
use sluice_core::route::rules::{OutputDefaults, RuleSettings, Rules};
use sluice_core::route::{DeliveryClass, OutputSet};
use std::collections::BTreeSet;

/// Output 0 has topics, 1 lists names of its own and of 2 and 3, and 4 is plain.
fn named(list: Vec<RuleSettings>, all_matches: bool) -> Plan {
    let topics = OutputDefaults {
        by_topic: true,
        ..PLAIN
    };
    let defaults = vec![topics, PLAIN, PLAIN, PLAIN, PLAIN];
    let rules = Rules::new(list, None, all_matches, defaults).unwrap();
    let names = [("clicks-other", 1), ("clicks-a", 2), ("clicks-b/", 3)];
    let names = names.map(|(name, id)| (name.to_owned(), OutputId(id)));
    plan(
        Mode::Event,
        rules.with_names(vec![(OutputId(1), names.into())]),
    )
}

fn sent(out: &Prepared) -> Vec<OutputSet> {
    out.records.iter().map(outputs).collect()
}

#[test]
fn a_listed_name_takes_the_place_of_its_output() {
    let mut by_name = by_topic(&[], 1);
    by_name.key = Some("field:user".parse::<KeyRule>().unwrap());
    by_name.outputs[0].1 = Some(DeliveryClass::BestEffort);
    let out = run(
        &named(vec![by_name], false),
        r#"[{"event":{"type":"\u0061"},"user":"u"},{"event":{"type":"b/"}},{"event":{"type":"other"}},
            {"event":{"type":"c"}},{"event":{}},{"event":{"type":"../a"}},{"event":{"type":""}}]"#,
    );
    let at = |id: u16| set(&[id]);
    assert_eq!(
        sent(&out),
        [at(2), at(3), at(1), at(1), at(1), at(1), at(1)]
    );
    let route = out.records[0].routing.as_ref().unwrap();
    let route = route.route(OutputId(2)).unwrap();
    assert_eq!(route.key.as_deref(), Some(&b"u"[..]));
    assert_eq!(
        (&route.topic, route.class),
        (&None, Some(DeliveryClass::BestEffort))
    );
    let tally = out.rule_tallies()[0];
    assert_eq!((tally.events, tally.without_topic), (7, 4));
}

#[test]
fn invented_names_keep_no_listed_name_out() {
    let mut both = by_topic(&[], 1);
    both.outputs.insert(0, (OutputId(0), None));
    let invented = (0..10_000).map(|n| format!("{{\"event\":{{\"type\":\"x{n}\"}}}}\n"));
    let events = invented.chain(["{\"event\":{\"type\":\"a\"}}".to_owned()]);
    let events: String = events.collect();
    let plan = Plan {
        events_max: 20_000,
        ..named(vec![both], false)
    };
    let out = run(&plan, &events);
    let places: BTreeSet<String> = sent(&out).iter().map(|set| format!("{set:?}")).collect();
    assert_eq!(places.len(), 2);
    assert_eq!(outputs(out.records.last().unwrap()), set(&[0, 2]));
    // The only place for a topic is taken by the first event, whose name output 1 does not list.
    assert_eq!(out.rule_tallies()[0].without_topic, 10_001);
}

#[test]
fn of_several_rules_the_first_chooses_the_name() {
    let list = || vec![by_topic(&[], 9), rule(None, &[1, 4])];
    let body = r#"[{"event":{"type":"a"}},{"event":{"type":"c"}}]"#;
    let out = run(&named(list(), true), body);
    assert_eq!(sent(&out), [set(&[2, 4]), set(&[1, 4])]);
    let swapped = list().into_iter().rev().collect();
    let out = run(&named(swapped, true), body);
    assert_eq!(sent(&out), [set(&[1, 4]), set(&[1, 4])]);
    // Without a template, the rule means the output itself.
    let plan = Plan {
        partition: PartitionRule::Random,
        ..named(vec![rule(None, &[1])], false)
    };
    assert_eq!(sent(&run(&plan, body)), [set(&[1]), set(&[1])]);
}
